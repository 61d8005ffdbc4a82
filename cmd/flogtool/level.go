package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/flogtool/flogtool/cmd/internal/cli"
	"github.com/flogtool/flogtool/event"
	"github.com/flogtool/flogtool/logport"
	"github.com/flogtool/flogtool/logport/wire"
	"github.com/flogtool/flogtool/rpc"
)

func newLevelCommand() *cobra.Command {
	var hold time.Duration
	cmd := &cobra.Command{
		Use:   "level [flags] TARGET [FACILITY=LEVEL...]",
		Short: "Show or change the thresholds of a live process",
		Long: "A facility makes events at its threshold and above. Level shows the thresholds of a\n" +
			"live process, or changes them for a limited time, after which the process restores\n" +
			"them itself. TARGET is the directory that the process records in, one of its slots, a\n" +
			"file control.furl, or the FURL in it; the FURL of a logport does not permit this.\n" +
			"LEVEL is a name or a number. An empty FACILITY is the default for all facilities.",
		Example: "  flogtool level /var/lib/orders/flog\n" +
			"  flogtool level /var/lib/orders/flog db.pool=NOISY --for 10m\n" +
			"  flogtool level control.furl =UNUSUAL --for 1h",
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var changes []wire.Threshold
			for _, arg := range args[1:] {
				facility, level, ok := strings.Cut(arg, "=")
				l, known := event.ParseLevel(level)
				if !ok || !known {
					return cli.Usagef("%q is not of the form FACILITY=LEVEL, such as db.pool=NOISY", arg)
				}
				changes = append(changes, wire.Threshold{Facility: facility, Level: l})
			}
			if hold < time.Second || hold > wire.MaxThresholdFor {
				return cli.Usagef("--for must be from 1s to 24h")
			}
			furl, err := controlTarget(args[0])
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), 30*time.Second)
			defer cancel()
			return changeLevels(ctx, cmd, furl, changes, hold)
		},
	}
	cmd.Flags().DurationVar(&hold, "for", 10*time.Minute, "restore the thresholds after this time, 1s to 24h")
	return cmd
}

// controlTarget returns the FURL of the control object that TARGET names.
func controlTarget(target string) (rpc.FURL, error) {
	if strings.HasPrefix(target, "pb:") {
		return rpc.ParseFURL(target)
	}
	file := target
	if info, err := os.Stat(target); err != nil {
		return rpc.FURL{}, err
	} else if info.IsDir() {
		if file, err = logport.FURLFile(target, "control"); err != nil {
			return rpc.FURL{}, err
		}
	}
	return rpc.ReadFURLFile(file)
}

// changeLevels makes the changes for the time hold, and prints all thresholds.
func changeLevels(ctx context.Context, cmd *cobra.Command, furl rpc.FURL, changes []wire.Threshold, hold time.Duration) error {
	tub, err := rpc.NewTub(rpc.Config{Features: wire.Features})
	if err != nil {
		return err
	}
	defer tub.Close()
	control, err := tub.Connect(ctx, furl)
	if err != nil {
		return err
	}
	if !wire.IsControl(control) {
		return errors.New("this FURL is of a logport, which permits reading only: use the FURL in control.furl")
	}
	for _, c := range changes {
		if err := wire.SetThreshold(ctx, control, c, hold); err != nil {
			return err
		}
	}
	thresholds, err := wire.Thresholds(ctx, control)
	if err != nil {
		return err
	}
	out := cmd.OutOrStdout()
	for _, t := range thresholds {
		name := cmp.Or(t.Facility, "(all others)")
		note := ""
		if slices.ContainsFunc(changes, func(c wire.Threshold) bool { return c.Facility == t.Facility }) {
			note = "  for " + hold.String()
		}
		fmt.Fprintf(out, "%-24s %s%s\n", name, t.Level, note)
	}
	return nil
}

func newFURLCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "furl",
		Short:   "Print or replace the FURLs of a process",
		Example: "  flogtool furl show /var/lib/orders/flog logport\n  flogtool furl rotate /var/lib/orders/flog logport",
		Long: "A FURL is a permission: its holder can use the object that it refers to. Furl show\n" +
			"prints a FURL. Furl rotate withdraws it, and prints the new one.",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return cli.Usagef("unknown command %q: want show or rotate", args[0])
			}
			return cli.Usagef("must specify show or rotate")
		},
		RunE: func(*cobra.Command, []string) error { return nil },
	}
	sub := func(use, short, example string, f func(file string) (string, error)) *cobra.Command {
		return &cobra.Command{
			Use:     use + " DIR logport|control",
			Short:   short,
			Example: example,
			Args:    cobra.ExactArgs(2),
			RunE: func(cmd *cobra.Command, args []string) error {
				if args[1] != "logport" && args[1] != "control" {
					return cli.Usagef("%q is not logport or control", args[1])
				}
				file, err := logport.FURLFile(filepath.Clean(args[0]), args[1])
				if err != nil {
					return err
				}
				furl, err := f(file)
				if err != nil {
					return err
				}
				fmt.Fprintln(cmd.OutOrStdout(), furl)
				return nil
			},
		}
	}
	cmd.AddCommand(
		sub("show", "Print a FURL", "  flogtool furl show /var/lib/orders/flog logport", func(file string) (string, error) {
			furl, err := rpc.ReadFURLFile(file)
			return furl.String(), err
		}),
		sub("rotate", "Replace the secret part of a FURL, and end connections that use the old one",
			"  flogtool furl rotate /var/lib/orders/flog control", logport.RotateFURL))
	return cmd
}
