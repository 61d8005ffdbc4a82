// Command flogtool reads, follows, gathers and classifies flight recorder logs.
//
// Each command is in a file of its own, as a function newXCommand that returns
// its *cobra.Command; the list commands below names them all. A command takes
// its input and output from cmd.InOrStdin, OutOrStdout and ErrOrStderr, does its
// work in RunE, and returns:
//
//   - nil: exit code 0;
//   - an error: exit code 1, shown as "flogtool COMMAND: error";
//   - usagef(…): exit code 2, shown the same way with a hint at --help;
//   - exitCode(n): exit code n, the command having said what there is to say.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/flogtool/flogtool/cmd/internal/shortopt"
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

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends us at once
	// Without this the runtime would die of SIGPIPE; with it, a write says EPIPE
	// and we end with exit code 1 and no word, as the original does.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	os.Exit(run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// run executes one command line and returns its exit code: 0 done, 1 failed,
// 2 wrong usage.
func run(ctx context.Context, args []string, in io.Reader, out, errw io.Writer) int {
	root := newRootCommand()
	root.SetIn(in)
	root.SetOut(out)
	root.SetErr(errw)
	args, err := shortopt.Expand(root, args)
	if err != nil {
		return report(root, usageError{err}, errw)
	}
	root.SetArgs(args)
	cmd, err := root.ExecuteContextC(ctx)
	return report(cmd, err, errw)
}

// report says what err is and returns the exit code it stands for.
func report(cmd *cobra.Command, err error, errw io.Writer) int {
	if err == nil {
		return 0
	}
	if code, ok := errors.AsType[exitCode](err); ok {
		return int(code)
	}
	if errors.Is(err, syscall.EPIPE) {
		return 1 // the reader of our output has seen enough
	}
	fmt.Fprintf(errw, "%s: %v\n", cmd.CommandPath(), err)
	if _, ok := errors.AsType[usageError](err); ok {
		fmt.Fprintf(errw, "Run '%s --help' for usage.\n", cmd.CommandPath())
		return 2
	}
	return 1
}

// usageError is an error in how a command was called.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// usagef returns an error in how a command was called: exit code 2.
func usagef(format string, args ...any) error {
	return usageError{fmt.Errorf(format, args...)}
}

// exitCode ends a command with that code and without a message.
type exitCode int

func (c exitCode) Error() string { return fmt.Sprintf("exit code %d", int(c)) }

func newRootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "flogtool",
		Short: "Read, follow, gather and classify flight recorder logs",
		Long: "flogtool reads what a flight recorder saved (dump, filter), attaches to a live\n" +
			"process (tail), collects incidents from a fleet (create-incident-gatherer, run)\n" +
			"and names them by rules (classify-incident, rules).",
		SilenceUsage:  true,
		SilenceErrors: true,
		Version:       versionLine(),
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usagef("unknown command %q", args[0])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			cmd.SetOut(cmd.ErrOrStderr())
			_ = cmd.Help()
			return usagef("must specify a command")
		},
	}
	root.SetVersionTemplate("{{.Version}}\n")
	root.CompletionOptions.HiddenDefaultCmd = false
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	for _, command := range commands {
		cmd := command()
		usageFromArgs(cmd)
		root.AddCommand(cmd)
	}
	return root
}

// usageFromArgs makes errors about a command's number of arguments usage errors,
// and those of its subcommands.
func usageFromArgs(cmd *cobra.Command) {
	if check := cmd.Args; check != nil {
		cmd.Args = func(cmd *cobra.Command, args []string) error {
			if err := check(cmd, args); err != nil {
				return usageError{err}
			}
			return nil
		}
	}
	for _, sub := range cmd.Commands() {
		usageFromArgs(sub)
	}
}
