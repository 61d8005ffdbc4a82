// Command flappclient uses one service of a flappserver by its FURL: it stores files or
// runs a command.
//
// Exit codes: 0 done; the exit code of the command; 127 a signal ended the command; 3 the
// connection was lost while the command ran; 255 another failure; 2 wrong usage.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	"github.com/flogtool/flogtool/cmd/internal/cli"
	"github.com/flogtool/flogtool/rpc"
	"github.com/flogtool/flogtool/rpc/appserver"
	"github.com/flogtool/flogtool/tail/progress"
)

func main() { cli.Main(run) }

const (
	codeUsage  = 2
	codeLost   = 3
	codeSignal = 127
	codeFailed = 255
)

// run executes one command line and returns its exit code.
func run(ctx context.Context, args []string, in io.Reader, out, errw io.Writer) int {
	return cli.Program{Root: newRootCommand(), Code: code}.Run(ctx, args, in, out, errw)
}

// code returns the exit code for an error.
func code(cmd *cobra.Command, err error) int {
	switch {
	case cli.IsUsage(err):
		return codeUsage
	case errors.Is(err, rpc.ErrDeadReference) && cmd.Name() == "run-command":
		return codeLost
	}
	return codeFailed
}

func newRootCommand() *cobra.Command {
	c := &client{}
	root := &cobra.Command{
		Use:   "flappclient (--furl FURL | --furlfile FILE) COMMAND",
		Short: "Use a service of a flappserver",
		Args:  cobra.ArbitraryArgs,
		RunE: func(_ *cobra.Command, args []string) error {
			if _, err := c.address(); err != nil {
				return err
			}
			if len(args) > 0 {
				return cli.Usagef("Unknown command: %s", args[0])
			}
			return cli.Usagef("must specify a command")
		},
	}
	flags := root.PersistentFlags()
	flags.StringVar(&c.furl, "furl", "", "the `FURL` of the service; other users of this machine can see it here")
	flags.StringVarP(&c.furlfile, "furlfile", "f", "", "a `FILE` with the FURL of the service; lines with # are comments")
	flags.DurationVar(&c.giveUp, "give-up", 3*time.Minute, "fail after this time without an answer from the server")
	root.CompletionOptions.HiddenDefaultCmd = true
	root.AddCommand(newUploadCommand(c), newRunCommand(c))
	return root
}

// A client connects to a service.
type client struct {
	furl, furlfile string
	giveUp         time.Duration
}

// address returns the service's FURL.
func (c *client) address() (rpc.FURL, error) {
	switch {
	case c.furl != "":
		return rpc.ParseFURL(c.furl)
	case c.furlfile != "":
		return rpc.ReadFURLFile(appserver.ExpandHome(c.furlfile))
	}
	return rpc.FURL{}, cli.Usagef("must provide --furl or --furlfile")
}

// with calls use with the service.
func (c *client) with(ctx context.Context, use func(service *rpc.Remote) error) error {
	furl, err := c.address()
	if err != nil {
		return err
	}
	if c.giveUp <= 0 {
		return cli.Usagef("--give-up=%v is not a positive duration", c.giveUp)
	}
	return appserver.Use(ctx, furl, c.giveUp, use)
}

func newUploadCommand(c *client) *cobra.Command {
	var name, directory string
	var quiet bool
	cmd := &cobra.Command{
		Use:     "upload-file FILES...",
		Short:   "Store files in the service's directory",
		Example: "  flappclient -f upload.furl upload-file report.pdf",
		RunE: func(cmd *cobra.Command, files []string) error {
			if name != "" && len(files) != 1 {
				return cli.Usagef("--target-filename needs exactly one file")
			}
			return c.with(cmd.Context(), func(service *rpc.Remote) error {
				for _, file := range files {
					base := filepath.Base(file)
					target := base
					if name != "" {
						target = name
					}
					if directory != "" {
						target = strings.Trim(directory, "/") + "/" + target
					}
					bar := cmd.ErrOrStderr()
					if quiet {
						bar = nil
					}
					if err := upload(cmd.Context(), service, appserver.ExpandHome(file), target, bar); err != nil {
						return fmt.Errorf("%s: %w", base, err)
					}
					if quiet {
						continue
					}
					if _, err := fmt.Fprintf(cmd.OutOrStdout(), "%s: uploaded\n", base); err != nil {
						return err
					}
				}
				return nil
			})
		},
	}
	cmd.Flags().StringVar(&name, "target-filename", "", "store the one file under this `NAME`")
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "print nothing and show no progress")
	cmd.Flags().StringVar(&directory, "target-subdirectory", "", "store in this `DIR` of the service's directory, if the service allows subdirectories")
	return cmd
}

// upload sends one file. If bar is a terminal it shows the progress there.
func upload(ctx context.Context, service *rpc.Remote, file, target string, bar io.Writer) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	var sent atomic.Int64
	defer progress.Start(bar, func() (int64, int64) { return sent.Load(), info.Size() }).Stop()
	return appserver.Upload(ctx, service, target, f, sent.Store)
}

func newRunCommand(c *client) *cobra.Command {
	return &cobra.Command{
		Use:     "run-command",
		Short:   "Run the service's command",
		Example: "  flappclient -f backup.furl run-command < dump",
		Long: "run-command runs the command of the service and prints its output as it arrives.\n" +
			"Standard input is read if the service takes it. The exit code is that of the\n" +
			"command, or 127 if a signal ended it.",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return cli.Usagef("run-command takes no arguments")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.with(cmd.Context(), func(service *rpc.Remote) error {
				exit, err := appserver.Execute(cmd.Context(), service, cmd.InOrStdin(), cmd.OutOrStdout(), cmd.ErrOrStderr())
				switch {
				case err != nil:
					return err
				case exit.Signal != 0:
					return cli.ExitCode(codeSignal)
				case exit.Code != 0:
					return cli.ExitCode(exit.Code)
				}
				return nil
			})
		},
	}
}
