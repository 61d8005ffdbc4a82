// Command flappserver runs small services, each with a FURL of its own: storing files in
// one directory, running one command, serving one git repository.
//
// Exit codes: 0 done; 1 failed; 2 wrong usage, or nothing to stop. docs/appserver.md is
// the manual.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/flogtool/flogtool/cmd/internal/cli"
	"github.com/flogtool/flogtool/cmd/internal/shortopt"
	"github.com/flogtool/flogtool/rpc/appserver"
)

func main() { cli.Main(run) }

// run executes one command line and returns its exit code.
func run(ctx context.Context, args []string, in io.Reader, out, errw io.Writer) int {
	return cli.Program{Root: newRootCommand(), Package: "appserver"}.Run(ctx, args, in, out, errw)
}

func newRootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "flappserver",
		Short: "Run small services, each with a FURL of its own",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return cli.Usagef("unknown command %q", args[0])
			}
			return nil
		},
		RunE: func(*cobra.Command, []string) error { return cli.Usagef("must specify a command") },
	}
	root.CompletionOptions.HiddenDefaultCmd = true
	root.AddCommand(newCreateCommand(), newAddCommand(), newListCommand(), newRemoveCommand(), newRotateCommand(),
		newStartCommand(), newStopCommand(), newRestartCommand())
	return root
}

// exactly returns the check for a command that takes exactly the named arguments.
func exactly(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) != len(names) {
			return cli.Usagef("it takes %s, not %d arguments", strings.Join(names, " and "), len(args))
		}
		return nil
	}
}

func newCreateCommand() *cobra.Command {
	var opts appserver.Options
	var umask string
	var quiet bool
	current := syscall.Umask(0)
	syscall.Umask(current) // the umask can only be read by setting it
	cmd := &cobra.Command{
		Use:         "create [options] BASEDIR",
		Short:       "Make a server's directory",
		Annotations: map[string]string{shortopt.Original: "port location umask quiet"},
		Example:     "  flappserver create --location tcp:example.org:3116 fs",
		Args:        exactly("BASEDIR"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if opts.Location == "" {
				return cli.Usagef("--location= is mandatory")
			}
			opts.Umask = fs.FileMode(current)
			if umask != "" {
				n, err := strconv.ParseUint(umask, 8, 9)
				if err != nil {
					return cli.Usagef("--umask=%q is not an octal number up to 777", umask)
				}
				opts.Umask = fs.FileMode(n)
			}
			dir := args[0]
			_, id, err := appserver.Create(dir, opts)
			if errors.Is(err, fs.ErrExist) {
				return fmt.Errorf("refusing to touch pre-existing directory %s", dir)
			}
			if err != nil {
				return err
			}
			if quiet {
				return nil
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "Foolscap Application Server created in %s\nTubID %s, listening on port %s\n"+
				"Now launch the daemon with 'flappserver start %s'\n", dir, id, opts.Port, dir)
			return err
		},
	}
	flags := cmd.Flags()
	flags.StringVarP(&opts.Port, "port", "p", "tcp:3116", "where to listen: tcp:PORT or tcp:PORT:interface=ADDR")
	flags.StringVarP(&opts.Location, "location", "l", "", "where clients find the server, required: tcp:example.org:3116")
	flags.StringVar(&umask, "umask", "", fmt.Sprintf("`OCTAL` umask for the files that services make; default: the current one (%04o)", current))
	flags.BoolVarP(&quiet, "quiet", "q", false, "print nothing")
	return cmd
}

func newAddCommand() *cobra.Command {
	var comment string
	var quiet bool
	cmd := &cobra.Command{
		Use:         "add [options] BASEDIR SERVICE-TYPE ARGS...",
		Short:       "Add a service; a running server has it at once",
		Annotations: map[string]string{shortopt.First: "yes", shortopt.Original: "comment quiet"},
		Example: "  flappserver add fs upload-file --mode 0640 /srv/incoming\n" +
			"  flappserver add -c nightly fs run-command --accept-stdin /srv sh -c 'cat > dump'",
		Long: "add prints the FURL of a new service. Relative directories are relative to\n" +
			"BASEDIR. The types and their arguments:\n\n" +
			"  upload-file [options] DIR\n" +
			"      store files in DIR\n" +
			"      --mode MODE  of the files, octal if it begins with 0 (default: 0644)\n" +
			"      --allow-subdirectories  allow names with directories, which are created\n" +
			"      --max-size SIZE  refuse larger files; bytes, or 500M, 2G\n" +
			"      --quota SIZE  refuse files that would make all files in DIR larger than that\n" +
			"  run-command [options] DIR COMMAND...\n" +
			"      run COMMAND in DIR; the client cannot change the command\n" +
			"      --accept-stdin  pass on standard input (default: --no-stdin)\n" +
			"      --no-stdout, --no-stderr  do not send it (default: --send-stdout, --send-stderr)\n" +
			"      --log-stdin, --log-stdout, --no-log-stderr  choose what the server logs\n" +
			"      --lock  one run at a time; other requests wait\n" +
			"      --merge  like --lock, but all waiting requests share the next run: each client\n" +
			"          gets its output and exit code; not with --accept-stdin\n" +
			"      --timeout DURATION  end a run after this time, such as 30s\n" +
			"      --env NAME  pass on this variable of the server; PATH, HOME and LANG always are\n" +
			"  git-repo [--read-only] REPO\n" +
			"      let git clone, fetch and push REPO with git-remote-pb; --read-only: no push",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) < 2 {
				return cli.Usagef("it takes BASEDIR, SERVICE-TYPE and the arguments of the service")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			dir, err := appserver.OpenDir(args[0])
			if err != nil {
				return err
			}
			added, err := dir.Add(appserver.Builtin(), args[1], args[2:], comment)
			if err != nil || quiet {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "Service added in %s\nFURL is %s\n", filepath.Join(args[0], added.Relative), added.FURL)
			return err
		},
	}
	flags := cmd.Flags()
	flags.SetInterspersed(false) // the service parses what follows BASEDIR
	flags.StringVarP(&comment, "comment", "c", "", "`TEXT` for flappserver list")
	flags.BoolVarP(&quiet, "quiet", "q", false, "print nothing, not even the FURL")
	return cmd
}

func newListCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "list BASEDIR",
		Short:   "Show the services and their FURLs",
		Example: "  flappserver list fs",
		Args:    exactly("BASEDIR"),
		RunE: func(cmd *cobra.Command, args []string) error {
			dir, err := appserver.OpenDir(args[0])
			if err != nil {
				return err
			}
			entries, err := dir.Services()
			if err != nil {
				return err
			}
			var text strings.Builder
			for _, e := range entries {
				fmt.Fprintf(&text, "\n%s:\n %s\n", e.FURL.Name, strings.Join(append([]string{e.Type}, e.Args...), " "))
				if e.Comment != "" {
					fmt.Fprintf(&text, " # %s\n", e.Comment)
				}
				fmt.Fprintf(&text, " %s\n %s\n", e.FURL, filepath.Join(args[0], e.Relative))
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), text.String())
			return err
		},
	}
}

func newRemoveCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "remove BASEDIR SWISSNUM",
		Example: "  flappserver remove fs ylo26w67hsg4rbx6op7zl6k2nnxnmhpv",
		Short:   "Remove a service, also for connected clients",
		Args:    exactly("BASEDIR", "SWISSNUM"),
		RunE: func(_ *cobra.Command, args []string) error {
			dir, err := appserver.OpenDir(args[0])
			if err != nil {
				return err
			}
			return dir.Remove(args[1])
		},
	}
}

func newRotateCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "rotate BASEDIR SWISSNUM",
		Example: "  flappserver rotate fs ylo26w67hsg4rbx6op7zl6k2nnxnmhpv",
		Short:   "Give a service a new FURL and print it; the old one becomes invalid",
		Args:    exactly("BASEDIR", "SWISSNUM"),
		RunE: func(cmd *cobra.Command, args []string) error {
			dir, err := appserver.OpenDir(args[0])
			if err != nil {
				return err
			}
			rotated, err := dir.Rotate(args[1])
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "FURL is %s\n", rotated.FURL)
			return err
		},
	}
}
