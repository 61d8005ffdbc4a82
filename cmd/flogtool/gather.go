package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/flogtool/flogtool/cmd/internal/cli"
	"github.com/flogtool/flogtool/cmd/internal/shortopt"
	"github.com/flogtool/flogtool/gatherer"
)

func newCreateGathererCommand() *cobra.Command {
	cmd := newCreateCommand("Gatherer", gatherer.Options{})
	cmd.Use = "create-gatherer [options] DIR"
	cmd.Short = "Make a directory for a gatherer that keeps every event"
	cmd.Example = "  flogtool create-gatherer --location tcp:logs.example.org:3117 --rotate 86400 lg"
	return cmd
}

func newCreateIncidentGathererCommand() *cobra.Command {
	cmd := newCreateCommand("Incident Gatherer", gatherer.Options{Incidents: true})
	cmd.Use = "create-incident-gatherer [options] DIR"
	cmd.Short = "Make a directory for a gatherer that keeps and classifies incidents"
	cmd.Example = "  flogtool create-incident-gatherer --location tcp:logs.example.org:3118 ig"
	return cmd
}

// newCreateCommand makes the two create commands. kind is the original's name in the
// first line of output, which scripts read.
func newCreateCommand(kind string, opts gatherer.Options) *cobra.Command {
	var quiet bool
	cmd := &cobra.Command{
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			dir := args[0]
			if opts.Location == "" {
				return cli.Usagef("--location= is mandatory")
			}
			if err := gatherer.Create(dir, opts); err != nil {
				return withoutPackage(err)
			}
			if quiet {
				return nil
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s created in directory %s\nNow run 'flogtool run %s' to launch the daemon\n", kind, dir, dir)
			return err
		},
		Annotations: map[string]string{shortopt.Original: "location port quiet"},
	}
	port := "tcp:3117"
	if opts.Incidents {
		port = "tcp:3118"
	}
	flags := cmd.Flags()
	flags.StringVarP(&opts.Port, "port", "p", port, "where to listen: tcp:PORT, tcp:PORT:interface=ADDR, or PORT")
	flags.StringVarP(&opts.Location, "location", "l", "", "where processes connect, required: tcp:gather.example.org:3117")
	flags.BoolVarP(&quiet, "quiet", "q", false, "print nothing")
	if !opts.Incidents {
		flags.StringVarP(&opts.Rotate, "rotate", "r", "", "begin a new file every `SECONDS`; default: only on SIGHUP")
		flags.BoolVarP(&opts.Bzip, "bzip", "b", false, "compress complete files as .bz2, for the original's tools; default: .zst")
		cmd.Annotations[shortopt.Original] += " rotate bzip"
	}
	return cmd
}

func newRunCommand() *cobra.Command {
	var verbose bool
	cmd := &cobra.Command{
		Use:     "run [options] DIR",
		Short:   "Run the gatherer of a directory",
		Example: "  flogtool run /var/lib/gatherer",
		Long: "run gathers in the foreground, with the settings in DIR's gatherer.toml, or in\n" +
			"the gatherer.tac of an original gatherer. When processes can connect it prints\n\n" +
			"  Gatherer waiting at: FURL\n\n" +
			"SIGTERM and Ctrl-C stop it cleanly. SIGHUP begins a new log file and reads the\n" +
			"rules again. It logs to stderr.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			level := slog.LevelInfo
			if verbose {
				level = slog.LevelDebug
			}
			ctx := cmd.Context()
			g, err := gatherer.New(gatherer.Config{
				Dir: args[0],
				Log: slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), &slog.HandlerOptions{Level: level})),
				Waiting: func(furl string) {
					// The original prints this line, and scripts wait for it.
					fmt.Fprintf(cmd.OutOrStdout(), "Gatherer waiting at: %s\n", furl)
				},
			})
			if err != nil {
				return withoutPackage(err)
			}
			hangup := make(chan os.Signal, 1)
			signal.Notify(hangup, syscall.SIGHUP)
			defer signal.Stop(hangup)
			running := make(chan struct{})
			reloads := make(chan struct{})
			go func() { // ends with Run
				defer close(reloads)
				for {
					select {
					case <-running:
						return
					case <-hangup:
						g.Reload()
					}
				}
			}()
			err = g.Run(ctx)
			close(running)
			<-reloads
			return withoutPackage(err)
		},
	}
	cmd.Flags().BoolVarP(&verbose, "verbose", "v", false, "log more")
	return cmd
}

// withoutPackage returns err without the name of the package at its beginning: the
// command's name will stand there.
func withoutPackage(err error) error {
	if err == nil {
		return nil
	}
	text := err.Error()
	for _, name := range []string{"gatherer: ", "archive: ", "bus: ", "eventlog: ", "rpc: ", "incident: "} {
		text = strings.TrimPrefix(text, name)
	}
	return errors.New(text)
}
