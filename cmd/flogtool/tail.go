package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/flogtool/flogtool/cmd/internal/cli"
	"github.com/flogtool/flogtool/cmd/internal/shortopt"
	"github.com/flogtool/flogtool/event/flogfile/bzip2"
	"github.com/flogtool/flogtool/tail"
)

func newTailCommand() *cobra.Command {
	f := tail.Follow{Bzip2: bzip2.NewWriter}
	var sel selectFlags
	var show showFlags
	cmd := &cobra.Command{
		Use:   "tail [flags] TARGET...",
		Short: "Follow the events of live processes",
		Long: "Tail connects to live processes and shows their events as they happen. TARGET is a\n" +
			"FURL, a file that holds a FURL, or a directory with a file logport.furl. Tail connects\n" +
			"again when a connection is lost.\n\n" +
			"--last, --around and --parents choose among the events that each process has\n" +
			"buffered; these are shown first. They do not concern later events.",
		Example: "  flogtool tail /var/lib/orders/flog\n" +
			"  flogtool tail --catch-up --save-to=orders.flog.zst logport.furl\n" +
			"  flogtool tail --last 20 --level UNUSUAL /var/lib/orders/flog\n" +
			"  flogtool tail -t utc orders/logport.furl billing/logport.furl\n" +
			"  flogtool tail --only 'level >= UNUSUAL && facility startsWith \"net\"' --json logport.furl",
		Args:        cobra.MinimumNArgs(1),
		Annotations: map[string]string{shortopt.Original: "verbose catch-up save-to timestamps help version"},
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := show.style(&f.Style, cmd.OutOrStdout()); err != nil {
				return err
			}
			var err error
			if f.Select, err = sel.build(cmd.Flags()); err != nil {
				return err
			}
			if cmd.Flags().Changed("catch-up") && !f.CatchUp && (f.Select.Last > 0 || f.Select.Around != nil || f.Select.Parents != nil) {
				return cli.Usagef("--last, --around and --parents need the buffered events, and cannot be combined with --catch-up=false")
			}
			for _, arg := range args {
				target, err := tail.ParseTarget(arg)
				if err != nil {
					return err
				}
				f.Targets = append(f.Targets, target)
			}
			f.Out, f.Notes = cmd.OutOrStdout(), cmd.ErrOrStderr()
			if f.Style.Form != tail.FormText {
				f.Status = f.Notes // a program reads the output
			} else {
				f.Status = f.Out
			}
			if _, err := fmt.Fprintln(f.Status, "starting.."); err != nil {
				return err
			}
			return f.Run(cmd.Context())
		},
	}
	flags := cmd.Flags()
	flags.BoolVarP(&f.Style.Verbose, "verbose", "v", false, "show whole events, as JSON")
	flags.BoolVarP(&f.CatchUp, "catch-up", "c", false, "show the buffered events first")
	flags.StringVarP(&f.SaveTo, "save-to", "s", "", "also write the events to a flog `FILE`, compressed as its name says (.zst, .bz2, .gz)")
	show.add(flags, false)
	sel.add(flags)
	completeSelect(cmd)
	completeShow(cmd)
	return cmd
}
