// Command flogtool reads, follows, gathers and classifies flight recorder logs.
//
// Each command has a function newXCommand that returns its *cobra.Command; commands lists
// these functions. The command's RunE reads and writes only cmd.InOrStdin, OutOrStdout and
// ErrOrStderr, and returns an error as package cli describes.
package main

import (
	"context"
	"io"

	"github.com/spf13/cobra"

	"github.com/flogtool/flogtool/cmd/internal/cli"
)

// commands makes all commands, in the order in which the help shows them.
var commands = []func() *cobra.Command{
	newTailCommand,
	newDumpCommand,
	newFilterCommand,
	newClassifyIncidentCommand,
	newRulesCommand,
	newCreateGathererCommand,
	newCreateIncidentGathererCommand,
	newRunCommand,
	newRecoverCommand,
	newLevelCommand,
	newFURLCommand,
	newDemoCommand,
	newVersionCommand,
}

func main() { cli.Main(run) }

// run executes one command line and returns its exit code: 0 for success, 1 for failure,
// 2 for wrong usage.
func run(ctx context.Context, args []string, in io.Reader, out, errw io.Writer) int {
	return cli.Program{Root: newRootCommand()}.Run(ctx, args, in, out, errw)
}

func newRootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "flogtool",
		Short: "Read, follow, gather and classify flight recorder logs",
		Long: "flogtool reads the files of a flight recorder (dump, filter), follows a live process\n" +
			"(tail), gathers events or incidents from a fleet (create-gatherer,\n" +
			"create-incident-gatherer, run), and classifies incidents by rules (classify-incident,\n" +
			"rules).",
		Version: versionLine(),
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return cli.Usagef("unknown command %q", args[0])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			cmd.SetOut(cmd.ErrOrStderr())
			_ = cmd.Help()
			return cli.Usagef("must specify a command")
		},
	}
	root.SetVersionTemplate("{{.Version}}\n")
	root.CompletionOptions.HiddenDefaultCmd = false
	for _, command := range commands {
		root.AddCommand(command())
	}
	return root
}
