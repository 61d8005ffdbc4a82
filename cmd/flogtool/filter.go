package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/flogtool/flogtool/cmd/internal/cli"
	"github.com/flogtool/flogtool/cmd/internal/shortopt"
	"github.com/flogtool/flogtool/event"
	"github.com/flogtool/flogtool/event/flogfile"
	"github.com/flogtool/flogtool/event/flogfile/bzip2"
	"github.com/flogtool/flogtool/event/pytext"
	"github.com/flogtool/flogtool/tail"
)

func newFilterCommand() *cobra.Command {
	f := tail.Filter{Bzip2: bzip2.NewWriter}
	var sel selectFlags
	var after, before, above, strip string
	var verbose bool
	cmd := &cobra.Command{
		Use:   "filter [flags] OLDFILE [NEWFILE]",
		Short: "Copy selected events of a flog file",
		Long: "Filter copies the selected events, and all headers, to a new flog file, compressed as\n" +
			"its name says (.zst, .bz2, .gz). Without NEWFILE, or if NEWFILE is OLDFILE, it\n" +
			"replaces OLDFILE. - is standard input or output.",
		Example: "  flogtool filter --above WEIRD all.flog weird.flog\n" +
			"  flogtool filter --strip-facility=foolscap all.flog.bz2\n" +
			"  flogtool filter --since -1h --only 'attrs.ms > 500' all.flog.zst slow.flog.zst\n" +
			"  flogtool filter --after=1700000000 --before=1700003600 all.flog hour.flog\n" +
			"  flogtool filter --grep refused all.flog - | flogtool dump -",
		Args:              cobra.RangeArgs(1, 2),
		Annotations:       map[string]string{shortopt.Original: "after before above from strip-facility verbose help version"},
		ValidArgsFunction: completeFiles,
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if f.Select, err = sel.build(cmd.Flags()); err != nil {
				return err
			}
			if len(args) == 2 && args[1] != args[0] || args[0] == "-" {
				f.To = "-"
				if len(args) == 2 {
					f.To = args[1]
				}
			}
			out := cmd.OutOrStdout()
			if f.To == "-" {
				out = cmd.ErrOrStderr()
			}
			messages := bufio.NewWriter(out)
			if f.To == "" {
				fmt.Fprintln(messages, "modifying event file in place")
			}
			if err := originalSelect(cmd, messages, f.Select, after, before, above, strip); err != nil {
				return err
			}
			f.In, f.Out = cmd.InOrStdin(), cmd.OutOrStdout()
			if f.Files, err = tail.Expand(args[:1]); err != nil {
				return err
			}
			if verbose {
				f.Seen = func(l *flogfile.Line) error { return showLine(messages, l) }
			}
			f.Progress = tail.NewProgress(cmd.ErrOrStderr(), f.Files)
			err = f.Run(cmd.Context())
			f.Progress.Stop()
			_, damaged := errors.AsType[*flogfile.DamageError](err)
			if kept, total := f.Counts(); err == nil || damaged && f.To != "" && total > 0 {
				fmt.Fprintf(messages, "copied %d of %d events into new file\n", kept, total)
			}
			if ferr := messages.Flush(); err == nil {
				err = ferr
			}
			return fileErrors(cmd, err)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&after, "after", "", "events later than `SECONDS` since 1970, a whole number")
	flags.StringVar(&before, "before", "", "events earlier than `SECONDS` since 1970, a whole number")
	flags.StringVar(&above, "above", "", "events at `LEVEL` or above, a name or a whole number")
	flags.StringVar(&strip, "strip-facility", "", "no events whose facility begins with `PREFIX`")
	flags.BoolVarP(&verbose, "verbose", "v", false, "print the number of each event that is read")
	sel.add(flags)
	completeSelect(cmd)
	if err := cmd.RegisterFlagCompletionFunc("above", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		var names []string
		for _, l := range event.Levels {
			names = append(names, l.String())
		}
		return names, cobra.ShellCompDirectiveNoFileComp
	}); err != nil {
		panic(err)
	}
	return cmd
}

// originalSelect adds the original's options to sel, and prints in its words what they do.
func originalSelect(cmd *cobra.Command, out io.Writer, sel *tail.Select, after, before, above, strip string) error {
	flags := cmd.Flags()
	seconds := func(option, value, words string) (*int64, error) {
		if !flags.Changed(option) {
			return nil, nil
		}
		n, err := strconv.ParseInt(value, 10, 64)
		if err != nil {
			return nil, cli.Usagef("--%s: %q is not a whole number of seconds since 1970; --since and --until take other times", option, value)
		}
		fmt.Fprintf(out, " --%s: removing events %s %s\n", option, words, time.Unix(n, 0).In(localZone()).Format(time.ANSIC))
		return &n, nil
	}
	var err error
	if sel.After, err = seconds("after", after, "before"); err != nil {
		return err
	}
	if sel.Before, err = seconds("before", before, "after"); err != nil {
		return err
	}
	if flags.Changed("above") {
		level, ok := event.ParseLevel(above)
		if !ok {
			return cli.Usagef("--above: %q is not a level: want %s, or a whole number", above, levelNames())
		}
		if level != 0 {
			fmt.Fprintf(out, " --above: removing events below level %d\n", int(level))
		}
		if sel.Level == nil || *sel.Level < level {
			sel.Level = &level
		}
	}
	if sel.From != "" {
		fmt.Fprintf(out, " --from: retaining events only from tubid prefix %s\n", sel.From)
	}
	if flags.Changed("strip-facility") {
		fmt.Fprintf(out, "--strip-facility: removing events for %s and children\n", strip)
		sel.NotFacility = &strip
	}
	return nil
}

// showLine prints the output of filter -v for a line.
func showLine(out io.Writer, l *flogfile.Line) error {
	if l.Kind&flogfile.KindHeader != 0 {
		if _, err := fmt.Fprintln(out, "HEADER"); err != nil {
			return err
		}
	}
	if l.Kind&flogfile.KindEvent == 0 {
		return nil
	}
	v, ok := l.Get("num")
	if !ok {
		_, err := fmt.Fprintln(out, "?")
		return err
	}
	_, err := fmt.Fprintf(out, "%s\n", pytext.AppendStr(nil, v))
	return err
}
