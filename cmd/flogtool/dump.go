package main

import (
	"io"

	"github.com/spf13/cobra"

	"github.com/flogtool/flogtool/event/flogfile"
	"github.com/flogtool/flogtool/tail"
)

func newDumpCommand() *cobra.Command {
	var style tail.Style
	var times string
	cmd := &cobra.Command{
		Use:   "dump [flags] FILE...",
		Short: "Show the events in flog files",
		Example: "  flogtool dump incident-2023-11-15--01-00-01Z-uxwklei.flog.bz2\n" +
			"  flogtool dump -r -t utc log.flog",
		Args:        cobra.MinimumNArgs(1),
		Annotations: map[string]string{originalOptions: "verbose just-numbers rx-time timestamps help version"},
		RunE: func(cmd *cobra.Command, args []string) error {
			mode, err := tail.ParseTimeMode(times)
			if err != nil {
				return usageError{err}
			}
			style.Times = mode
			return dump(cmd.OutOrStdout(), cmd.ErrOrStderr(), args[0], style)
		},
	}
	flags := cmd.Flags()
	flags.BoolVarP(&style.Verbose, "verbose", "v", false, "show whole events")
	flags.BoolVarP(&style.JustNumbers, "just-numbers", "n", false, "show only times and event numbers")
	flags.BoolVarP(&style.RxTime, "rx-time", "r", false, "show the time of receipt too")
	flags.StringVarP(&times, "timestamps", "t", "short-local", "how to show times: short-local, long-local, utc, epoch, relative")
	return cmd
}

func dump(out, errw io.Writer, name string, style tail.Style) error {
	style.Zone = localZone()
	r, err := flogfile.Open(name)
	if err != nil {
		return foreign(errw, "dump", err)
	}
	defer r.Close()
	return tail.Dump(r, style, out)
}
