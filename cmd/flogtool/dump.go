package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/flogtool/flogtool/cmd/internal/cli"
	"github.com/flogtool/flogtool/cmd/internal/shortopt"
	"github.com/flogtool/flogtool/event/flogfile"
	"github.com/flogtool/flogtool/tail"
)

func newDumpCommand() *cobra.Command {
	var d tail.Dump
	var sel selectFlags
	var show showFlags
	cmd := &cobra.Command{
		Use:   "dump [flags] FILE...",
		Short: "Show the events in flog files",
		Long: "Dump shows the events of flog files, plain or compressed (.zst, .bz2, .gz). FILE is a\n" +
			"file, - for standard input, a directory, which stands for all flog files below it, or\n" +
			"the name of an incident in a gatherer's or application's directory. The events of\n" +
			"several files are merged by time.",
		Example: "  flogtool dump incident-2023-11-15--01-00-01Z-uxwklei.flog.bz2\n" +
			"  flogtool dump -r -t utc log.flog\n" +
			"  flogtool dump --level WEIRD --since -15m /var/lib/gatherer\n" +
			"  flogtool dump --only 'attrs.ms > 500' --table log.flog.zst\n" +
			"  flogtool dump --parents 4711 log.flog\n" +
			"  flogtool dump --json log.flog | jq .text\n" +
			"  zstdcat log.flog.zst | flogtool dump -",
		Args:              cobra.MinimumNArgs(1),
		Annotations:       map[string]string{shortopt.Original: "verbose just-numbers rx-time timestamps help version"},
		ValidArgsFunction: completeFiles,
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if err := show.style(&d.Style, cmd.OutOrStdout()); err != nil {
				return err
			}
			if d.Select, err = sel.build(cmd.Flags()); err != nil {
				return err
			}
			if d.Follow && (d.Style.Form > tail.FormTemplate || d.Select.Last > 0 || d.Select.Around != nil || d.Select.Parents != nil) {
				return cli.Usagef("--follow cannot be combined with --table, --tree, --summary, --last, --around and --parents, which need the end of the files")
			}
			if d.Files, err = tail.Expand(args); err != nil {
				return err
			}
			for _, arg := range args {
				if st, err := os.Stat(arg); err == nil && st.IsDir() && d.Follow {
					d.Watch = append(d.Watch, arg)
				}
			}
			d.In, d.Notes = cmd.InOrStdin(), cmd.ErrOrStderr()
			out, finish := cmd.OutOrStdout(), func() error { return nil }
			if !show.noPager && !d.Follow {
				out, finish = pager(out)
			}
			d.Out = out
			if isTerminal(cmd.ErrOrStderr()) && !isTerminal(cmd.OutOrStdout()) {
				d.Progress = tail.NewProgress(cmd.ErrOrStderr(), d.Files)
			}
			err = d.Run(cmd.Context())
			d.Progress.Stop()
			if ferr := finish(); err == nil {
				err = ferr
			}
			return fileErrors(cmd, err)
		},
	}
	flags := cmd.Flags()
	flags.BoolVarP(&d.Style.Verbose, "verbose", "v", false, "show whole events, as JSON")
	flags.BoolVarP(&d.Style.JustNumbers, "just-numbers", "n", false, "show only the times and numbers of events")
	flags.BoolVarP(&d.Style.RxTime, "rx-time", "r", false, "also show the time at which an event was received")
	flags.BoolVarP(&d.Follow, "follow", "f", false, "show what is added to the files, until Ctrl-C")
	show.add(flags, true)
	sel.add(flags)
	completeSelect(cmd)
	completeShow(cmd)
	return cmd
}

// fileErrors prints the errors of several files, one line each, and returns the error with
// which the command ends.
func fileErrors(cmd *cobra.Command, err error) error {
	if err == nil {
		return nil
	}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		var last error
		for _, e := range joined.Unwrap() {
			if e = fileErrors(cmd, e); e != nil {
				if _, printed := errors.AsType[cli.ExitCode](e); !printed {
					e = cli.ExitCode(cli.Program{}.Report(cmd, e, cmd.ErrOrStderr()))
				}
				last = e
			}
		}
		return last
	}
	if _, ok := errors.AsType[*flogfile.FormatError](err); ok {
		return foreign(cmd.ErrOrStderr(), cmd.Name(), err)
	}
	if errors.Is(err, cmd.Context().Err()) && cmd.Context().Err() != nil {
		fmt.Fprintln(cmd.ErrOrStderr(), "interrupted")
		return cli.ExitCode(1)
	}
	return err
}
