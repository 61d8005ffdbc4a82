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
		Short: "Make incidents of what dead processes left in their log directory",
		Long: "Recover looks into the directory that a program records in (logport.Config.Dir)\n" +
			"and makes an incident of the events of each run that ended without closing its\n" +
			"log: killed, out of memory, or by a fatal error. The program does the same when\n" +
			"it starts again; recover is for when it does not. What a running process uses is\n" +
			"left to it.",
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
					fmt.Fprintf(out, ", %d more were being written and are left out", r.Torn)
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
	cmd.Flags().StringVar(&ringDir, "ring-dir", "", "where the rings are, if the program has logport.Config.RingDir")
	return cmd
}
