// Command flogtool reads, follows, gathers and classifies flight recorder logs.
//
// Each command is in a file of its own, as a function newXCommand that returns
// its *cobra.Command; the list commands below names them all. A command takes
// its input and output from cmd.InOrStdin, OutOrStdout and ErrOrStderr, does its
// work in RunE, and returns an error as package cli says.
package main

import (
	"context"
	"io"

	"github.com/spf13/cobra"

	"github.com/flogtool/flogtool/cmd/internal/cli"
)

// commands are all commands, in the order in which help shows them.
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

// run executes one command line and returns its exit code: 0 done, 1 failed,
// 2 wrong usage.
func run(ctx context.Context, args []string, in io.Reader, out, errw io.Writer) int {
	return cli.Program{Root: newRootCommand()}.Run(ctx, args, in, out, errw)
}

func newRootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "flogtool",
		Short: "Read, follow, gather and classify flight recorder logs",
		Long: "flogtool reads what a flight recorder saved (dump, filter), attaches to a live\n" +
			"process (tail), collects incidents from a fleet (create-incident-gatherer, run)\n" +
			"and names them by rules (classify-incident, rules).",
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
