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
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
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
	args, err := expandPrefixes(root, args)
	cmd := root
	if err == nil {
		root.SetArgs(args)
		cmd, err = root.ExecuteContextC(ctx)
	}
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

// originalOptions is the annotation in which a command names the long options of
// the original's command of that name, joined by blanks.
const originalOptions = "original-options"

// expandPrefixes replaces shortened long options by the whole ones. A prefix
// that is unique among the original's options of the command keeps that meaning
// whatever we add; any other must be unique among all.
func expandPrefixes(root *cobra.Command, args []string) ([]string, error) {
	cmd := root
	out := make([]string, 0, len(args))
	for i := 0; i < len(args); i++ {
		arg := args[i]
		if arg == "--" {
			return append(out, args[i:]...), nil
		}
		if cmd.DisableFlagParsing {
			return append(out, args[i:]...), nil
		}
		switch {
		case strings.HasPrefix(arg, "--"):
			name, value, hasValue := strings.Cut(arg[2:], "=")
			flag, err := findFlag(cmd, name)
			if err != nil {
				return args, err
			}
			if flag == nil {
				break // cobra says what is wrong with it
			}
			arg = "--" + flag.Name
			if hasValue {
				arg += "=" + value
			} else if flag.NoOptDefVal == "" && i+1 < len(args) {
				i++ // its value, which may look like an option
				out = append(out, arg)
				arg = args[i]
			}
		case len(arg) > 1 && arg[0] == '-':
			if takesNext(cmd, arg[1:]) && i+1 < len(args) {
				i++
				out = append(out, arg)
				arg = args[i]
			}
		default:
			if sub, _, err := cmd.Find([]string{arg}); err == nil && sub != cmd && sub.Parent() == cmd {
				cmd = sub
			}
		}
		out = append(out, arg)
	}
	return out, nil
}

// takesNext reports whether the short options take their value from the next
// argument.
func takesNext(cmd *cobra.Command, short string) bool {
	for i := range len(short) {
		flag := cmd.Flags().ShorthandLookup(short[i : i+1])
		if flag == nil {
			return false
		}
		if flag.NoOptDefVal == "" {
			return i == len(short)-1
		}
	}
	return false
}

// findFlag returns the long option that name is or begins; nil if there is none.
func findFlag(cmd *cobra.Command, name string) (*pflag.Flag, error) {
	cmd.InitDefaultHelpFlag()
	if flag := cmd.Flag(name); flag != nil {
		return flag, nil
	}
	match := func(names []string) (found []string) {
		for _, n := range names {
			if strings.HasPrefix(n, name) {
				found = append(found, n)
			}
		}
		return found
	}
	found := match(strings.Fields(cmd.Annotations[originalOptions]))
	if len(found) == 0 {
		var all []string
		cmd.Flags().VisitAll(func(f *pflag.Flag) { all = append(all, f.Name) })
		cmd.InheritedFlags().VisitAll(func(f *pflag.Flag) { all = append(all, f.Name) })
		found = match(all)
	}
	switch len(found) {
	case 0:
		return nil, nil
	case 1:
		return cmd.Flag(found[0]), nil
	}
	return nil, fmt.Errorf("%s: %w", cmd.Name(), usagef("option --%s is short for --%s", name, strings.Join(found, " and --")))
}
