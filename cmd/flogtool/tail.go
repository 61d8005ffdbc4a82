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
		Long: "Tail attaches to live processes and shows their events as they happen. TARGET is\n" +
			"a FURL, a file that holds one, or a directory with a logport.furl. A connection\n" +
			"that is lost is made again.\n\n" +
			"With --last, --around and --parents what each process has buffered is shown\n" +
			"first, but of that only what they choose; what happens then is shown as ever.",
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
				return cli.Usagef("--last, --around and --parents choose among the buffered events, which --catch-up=false leaves out")
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
				f.Status = f.Notes // the output is for programs
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
	flags.BoolVarP(&f.CatchUp, "catch-up", "c", false, "show buffered events first")
	flags.StringVarP(&f.SaveTo, "save-to", "s", "", "write the events to this flog file too; .zst, .bz2 and .gz compress")
	show.add(flags, false)
	sel.add(flags)
	completeSelect(cmd)
	completeShow(cmd)
	return cmd
}
