// Command git-remote-pb lets git clone, fetch and push by FURL. git runs it, as
// gitremote-helpers(7) says, for addresses that begin with pb:// or pb::, and
// speaks to it on standard input and output.
//
// Exit codes: 0 done; that of git on the server; 128 anything else failed.
package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/flogtool/flogtool/cmd/internal/cli"
	"github.com/flogtool/flogtool/rpc"
	"github.com/flogtool/flogtool/rpc/appserver"
)

func main() { cli.Main(run) }

const codeFailed = 128 // as git's own programs

// run executes one command line and returns its exit code.
func run(ctx context.Context, args []string, in io.Reader, out, errw io.Writer) int {
	p := cli.Program{Root: newCommand(), Package: "rpc", Code: func(*cobra.Command, error) int { return codeFailed }}
	return p.Run(ctx, args, in, out, errw)
}

func newCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "git-remote-pb REMOTE ADDRESS",
		Short: "Let git clone, fetch and push by FURL",
		Long: "git runs git-remote-pb by itself for addresses of these two forms; it must only be\n" +
			"on PATH. ADDRESS is what stands behind pb::, or a whole pb:// address.\n\n" +
			"  pb::FILE\n" +
			"      FILE holds the FURL of a git-repo service; # begins a comment\n" +
			"  pb://TUBID@HINTS/SWISSNUM\n" +
			"      the FURL itself, which git shows to other users of this machine, writes\n" +
			"      into its configuration, and into the messages of merges",
		Example: "  git clone pb::$HOME/project.furl project\n" +
			"  git remote add origin pb::/etc/project.furl",
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			furl, err := address(args[1])
			if err != nil {
				return err
			}
			h := &helper{furl: furl, in: bufio.NewReader(cmd.InOrStdin()), out: cmd.OutOrStdout(), errw: cmd.ErrOrStderr()}
			return h.serve(cmd.Context())
		},
	}
}

// address returns the FURL that git's address for a remote gives or names.
func address(text string) (rpc.FURL, error) {
	if strings.HasPrefix(text, "pb://") {
		return rpc.ParseFURL(text)
	}
	return rpc.ReadFURLFile(appserver.ExpandHome(text))
}

// A helper does what git asks of it: it lists what it can do, and connects git
// with one program on the server.
type helper struct {
	furl rpc.FURL
	in   *bufio.Reader
	out  io.Writer
	errw io.Writer
}

// serve answers git's commands up to an empty line, the end of its input, or the
// end of the program it was connected with.
func (h *helper) serve(ctx context.Context) error {
	for {
		command, err := h.command()
		if err != nil {
			return err
		}
		program, connect := strings.CutPrefix(command, "connect ")
		switch {
		case command == "":
			return nil
		case command == "capabilities":
			_, err = io.WriteString(h.out, "connect\n\n")
		case connect && isProgram(program):
			return h.connect(ctx, appserver.GitProgram(program))
		case connect: // git says what it cannot do then
			_, err = io.WriteString(h.out, "fallback\n")
		default:
			return fmt.Errorf("%.100q is no command that this helper knows", command)
		}
		if err != nil {
			return err
		}
	}
}

// command reads a line; at the end of the input it is empty.
func (h *helper) command() (string, error) {
	line, err := h.in.ReadSlice('\n')
	switch {
	case err == io.EOF && len(line) == 0:
		return "", nil
	case err == io.EOF:
		return "", errors.New("standard input ends within a command")
	case err == bufio.ErrBufferFull:
		return "", fmt.Errorf("a command on standard input is longer than %d bytes", h.in.Size())
	case err != nil:
		return "", err
	}
	return string(line[:len(line)-1]), nil
}

func isProgram(name string) bool {
	return name == string(appserver.GitUploadPack) || name == string(appserver.GitReceivePack)
}

// connect connects git with a program on the server until that ends.
func (h *helper) connect(ctx context.Context, program appserver.GitProgram) error {
	protocol := protocolVersion(ctx)
	if program == appserver.GitReceivePack && protocol == 2 {
		protocol = 0 // there is no version 2 of it, and git itself asks for 0 then
	}
	var exit appserver.Exit
	err := appserver.Use(ctx, h.furl, 0, func(service *rpc.Remote) (err error) {
		// The rest of what git says is for the program.
		exit, err = appserver.ConnectGit(ctx, service, program, protocol, h.in, &greeting{w: h.out}, h.errw)
		return err
	})
	switch {
	case err != nil:
		return h.explain(err)
	case exit.Signal != 0:
		return fmt.Errorf("%s on the server was ended by signal %d", program, exit.Signal)
	case exit.Code != 0:
		return cli.ExitCode(exit.Code) // it has said why on standard error
	}
	return nil
}

// A greeting writes what a program says, and before it the empty line by which
// git knows that it is connected. A program that cannot be had says nothing, and
// git sees this helper end without one.
type greeting struct {
	w    io.Writer
	said bool
}

func (g *greeting) Write(p []byte) (int, error) {
	if !g.said {
		g.said = true
		if _, err := io.WriteString(g.w, "\n"); err != nil {
			return 0, err
		}
	}
	return g.w.Write(p)
}

// explain says in the user's words what the server means, or its silence.
func (h *helper) explain(err error) error {
	var why string
	switch {
	case errors.Is(err, rpc.RemoteType("builtins.PermissionError")):
		why = "this FURL is read-only: it lets you clone and fetch, not push"
	case errors.Is(err, rpc.RemoteType("builtins.KeyError")):
		why = "the server does not know this FURL: its service was removed, or has a new FURL"
	case errors.Is(err, rpc.RemoteType("builtins.AttributeError")):
		why = "this FURL is not that of a git repository"
	case errors.Is(err, context.DeadlineExceeded):
		why = "the server does not answer"
	default:
		return err
	}
	return fmt.Errorf("%s: %s", h.furl.Masked(), why)
}

// protocolVersion returns the version of git's protocol to ask for: that of git's
// configuration, or else git's own default.
func protocolVersion(ctx context.Context) int {
	out, err := exec.CommandContext(ctx, "git", "config", "--type=int", "--get", "protocol.version").Output()
	if err != nil {
		return 2
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(out)))
	if err != nil || n < 0 || n > 2 {
		return 2
	}
	return n
}
