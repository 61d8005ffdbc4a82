package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/flogtool/flogtool/event/flogfile/bzip2"
	"github.com/flogtool/flogtool/tail"
)

func newTailCommand() *cobra.Command {
	f := tail.Follow{Bzip2: bzip2.NewWriter}
	var times string
	cmd := &cobra.Command{
		Use:   "tail [flags] TARGET...",
		Short: "Follow the events of live processes",
		Long: "Tail attaches to live processes and shows their events as they happen. TARGET is\n" +
			"a FURL, a file that holds one, or a directory with a logport.furl. A connection\n" +
			"that is lost is made again.",
		Example: "  flogtool tail /var/lib/orders/flog\n" +
			"  flogtool tail --catch-up --save-to=orders.flog.zst logport.furl\n" +
			"  flogtool tail -t utc orders/logport.furl billing/logport.furl",
		Args:        cobra.MinimumNArgs(1),
		Annotations: map[string]string{originalOptions: "verbose catch-up save-to timestamps help version"},
		RunE: func(cmd *cobra.Command, args []string) error {
			mode, err := tail.ParseTimeMode(times)
			if err != nil {
				return usageError{err}
			}
			f.Style.Times, f.Style.Zone = mode, localZone()
			for _, arg := range args {
				target, err := tail.ParseTarget(arg)
				if err != nil {
					return err
				}
				f.Targets = append(f.Targets, target)
			}
			f.Out, f.Notes = cmd.OutOrStdout(), cmd.ErrOrStderr()
			if _, err := fmt.Fprintln(f.Out, "starting.."); err != nil {
				return err
			}
			return f.Run(cmd.Context())
		},
	}
	flags := cmd.Flags()
	flags.BoolVarP(&f.Style.Verbose, "verbose", "v", false, "show whole events, as JSON")
	flags.BoolVarP(&f.CatchUp, "catch-up", "c", false, "show buffered events first")
	flags.StringVarP(&f.SaveTo, "save-to", "s", "", "write the events to this flog file too; .zst, .bz2 and .gz compress")
	flags.StringVarP(&times, "timestamps", "t", "short-local", "how to show times: short-local, long-local, utc, epoch, relative")
	return cmd
}
