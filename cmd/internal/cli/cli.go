// Package cli is the common part of this project's programs: signals, exit codes, and the
// error line. A command's function returns
//
//   - nil: exit code 0;
//   - an error: printed as "PROGRAM COMMAND: what: why", exit code 1;
//   - [Usagef](…): exit code 2, printed the same way with a hint at --help;
//   - [ExitCode](n): exit code n, and nothing is printed.
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

// Main calls run with the command line and the standard streams, and exits with the code
// that it returns. The context ends at the first SIGINT or SIGTERM; a second one ends the
// process at once.
func Main(run func(ctx context.Context, args []string, in io.Reader, out, errw io.Writer) int) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	// Without this, writing to a closed pipe would kill the process. With it the write
	// fails with EPIPE, and the program ends without a message, as the original does.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	os.Exit(run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// A Program is a program with its commands.
type Program struct {
	Root    *cobra.Command
	Package string // prefix that is removed from errors; "" removes none

	// Code returns the exit code for an error other than an ExitCode. nil means the
	// codes of the package comment.
	Code func(cmd *cobra.Command, err error) int
}

// Run executes one command line, prints its error, and returns the exit code.
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

// Report prints the error err of cmd and returns its exit code.
func (p Program) Report(cmd *cobra.Command, err error, errw io.Writer) int {
	if err == nil {
		return 0
	}
	if code, ok := errors.AsType[ExitCode](err); ok {
		return int(code)
	}
	wrongUsage := IsUsage(err)
	if !errors.Is(err, syscall.EPIPE) { // otherwise the reader of the output has closed it
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

// argsAreUsage turns errors about the number of arguments into usage errors.
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

// usageError is a usage error.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// Usage turns err into a usage error: the command was called in a wrong way.
func Usage(err error) error { return usageError{err} }

// Usagef returns a usage error with the text of [fmt.Errorf].
func Usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// IsUsage reports whether err is a usage error.
func IsUsage(err error) bool {
	_, ok := errors.AsType[usageError](err)
	return ok
}

// ExitCode is an error that ends a program with this code and without a message.
type ExitCode int

// Error returns the code as text.
func (c ExitCode) Error() string { return fmt.Sprintf("exit code %d", int(c)) }
