// Package cli is what our programs have in common: signals, exit codes, and the
// one line that says what went wrong. A command returns
//
//   - nil: exit code 0;
//   - an error: shown as "PROGRAM COMMAND: what: why", exit code 1;
//   - [Usagef](…): exit code 2, shown the same way with a hint at --help;
//   - [ExitCode](n): exit code n, the command having said what there is to say.
package cli

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

	"github.com/flogtool/flogtool/cmd/internal/shortopt"
)

// Main ends the process with the code that run returns. Its context ends at the
// first SIGINT or SIGTERM; a second one ends the process at once.
func Main(run func(ctx context.Context, args []string, in io.Reader, out, errw io.Writer) int) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	// Without this the runtime would die of SIGPIPE; with it, a write says EPIPE
	// and we end without a word, as the original does.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	os.Exit(run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// A Program is the commands of one program.
type Program struct {
	Root    *cobra.Command
	Package string // whose name is left out of errors: the user asked the command

	// Code returns the exit code for an error other than an ExitCode; nil means
	// as the package says.
	Code func(cmd *cobra.Command, err error) int
}

// Run executes one command line and returns the exit code.
func (p Program) Run(ctx context.Context, args []string, in io.Reader, out, errw io.Writer) int {
	p.Root.SilenceUsage, p.Root.SilenceErrors = true, true
	p.Root.SetIn(in)
	p.Root.SetOut(out)
	p.Root.SetErr(errw)
	p.Root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return Usage(err) })
	argsAreUsage(p.Root)
	cmd := p.Root
	args, err := shortopt.Expand(p.Root, args)
	if err != nil {
		err = Usage(err)
	} else {
		p.Root.SetArgs(args)
		cmd, err = p.Root.ExecuteContextC(ctx)
	}
	return p.Report(cmd, err, errw)
}

// Report says what err, of cmd, is and returns the exit code it stands for.
func (p Program) Report(cmd *cobra.Command, err error, errw io.Writer) int {
	if err == nil {
		return 0
	}
	if code, ok := errors.AsType[ExitCode](err); ok {
		return int(code)
	}
	wrongUsage := IsUsage(err)
	if !errors.Is(err, syscall.EPIPE) { // else the reader of our output has seen enough
		text := err.Error()
		if p.Package != "" {
			text = strings.TrimPrefix(text, p.Package+": ")
		}
		fmt.Fprintf(errw, "%s: %s\n", cmd.CommandPath(), text)
		if wrongUsage {
			fmt.Fprintf(errw, "Run '%s --help' for usage.\n", cmd.CommandPath())
		}
	}
	switch {
	case p.Code != nil:
		return p.Code(cmd, err)
	case wrongUsage:
		return 2
	}
	return 1
}

// argsAreUsage makes errors about the number of arguments ones of usage.
func argsAreUsage(cmd *cobra.Command) {
	if check := cmd.Args; check != nil {
		cmd.Args = func(cmd *cobra.Command, args []string) error {
			if err := check(cmd, args); err != nil {
				return Usage(err)
			}
			return nil
		}
	}
	for _, sub := range cmd.Commands() {
		argsAreUsage(sub)
	}
}

// usageError is an error in how a command was called.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// Usage makes err one in how a command was called.
func Usage(err error) error { return usageError{err} }

// Usagef returns an error in how a command was called.
func Usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// IsUsage reports whether err is about how a command was called.
func IsUsage(err error) bool {
	_, ok := errors.AsType[usageError](err)
	return ok
}

// ExitCode is an error that ends a program with that code and without a word.
type ExitCode int

func (c ExitCode) Error() string { return fmt.Sprintf("exit code %d", int(c)) }
