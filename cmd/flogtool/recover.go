package main

import (
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/flogtool/flogtool/cmd/internal/cli"
	"github.com/flogtool/flogtool/logport"
)

func newRecoverCommand() *cobra.Command {
	var ringDir string
	cmd := &cobra.Command{
		Use:   "recover [flags] DIR",
		Short: "Make incidents of the events that killed processes left",
		Long: "DIR is the directory that a program records in (logport.Config.Dir). For each process\n" +
			"that ended without closing its log, because it was killed or had a fatal error,\n" +
			"recover makes an incident of the events in its rings. The program does the same at\n" +
			"its next start; recover is for when there is none. Recover does not touch the files of\n" +
			"a running process.",
		Example: "  flogtool recover /var/lib/orders/flog\n" +
			"  flogtool recover --ring-dir /run/orders /var/lib/orders/flog",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			all, err := logport.RecoverDir(args[0], ringDir)
			out, failed := cmd.OutOrStdout(), false
			for _, r := range all {
				if r.Err != nil {
					failed = true
					fmt.Fprintf(cmd.ErrOrStderr(), "%s: %s: %v\n", cmd.CommandPath(), r.File, r.Err)
					continue
				}
				fmt.Fprintf(out, "%s: %d events of process %d", filepath.Join(r.Slot, "incidents", r.Incident+".flog.zst"), r.Events, r.PID)
				if r.Torn > 0 {
					fmt.Fprintf(out, ", %s omitted", plural(r.Torn, "incomplete event", "incomplete events"))
				}
				fmt.Fprintln(out)
			}
			if err != nil {
				return err
			}
			if failed {
				return cli.ExitCode(1)
			}
			if len(all) == 0 {
				fmt.Fprintln(out, "nothing to recover")
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&ringDir, "ring-dir", "", "the directory of the rings, if the program sets logport.Config.RingDir")
	return cmd
}
