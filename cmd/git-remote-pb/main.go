// Command git-remote-pb lets git clone, fetch and push by FURL. git runs it for addresses
// that begin with pb:// or pb::, and talks to it on standard input and output, as
// gitremote-helpers(7) describes.
//
// Exit codes: 0 done; the exit code of git on the server; 128 another failure.
// docs/git.md is the manual.
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

const codeFailed = 128 // as in git's own programs

// run executes one command line and returns its exit code.
func run(ctx context.Context, args []string, in io.Reader, out, errw io.Writer) int {
	p := cli.Program{Root: newCommand(), Package: "rpc", Code: func(*cobra.Command, error) int { return codeFailed }}
	return p.Run(ctx, args, in, out, errw)
}

func newCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "git-remote-pb REMOTE ADDRESS",
		Short: "Let git clone, fetch and push by FURL",
		Long: "git runs git-remote-pb for addresses of these two forms, if it is on PATH. ADDRESS\n" +
			"is what follows pb::, or a whole pb:// address.\n\n" +
			"  pb::FILE\n" +
			"      FILE holds the FURL of a git-repo service; lines with # are comments\n" +
			"  pb://TUBID@HINTS/SWISSNUM\n" +
			"      the FURL itself, which git shows to other users of this machine and writes\n" +
			"      into its configuration and into the messages of merges",
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

// address returns the FURL in the address of a remote, or in the file that it names.
func address(text string) (rpc.FURL, error) {
	if strings.HasPrefix(text, "pb://") {
		return rpc.ParseFURL(text)
	}
	return rpc.ReadFURLFile(appserver.ExpandHome(text))
}

// A helper executes git's commands: it lists its capabilities, and connects git with a
// program on the server.
type helper struct {
	furl rpc.FURL
	in   *bufio.Reader
	out  io.Writer
	errw io.Writer
}

// serve executes git's commands until an empty line, the end of the input, or the end of
// the program on the server.
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
		case connect: // git then reports that this is not supported
			_, err = io.WriteString(h.out, "fallback\n")
		default:
			return fmt.Errorf("unknown command %.100q", command)
		}
		if err != nil {
			return err
		}
	}
}

// command reads a line. It returns "" at the end of the input.
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

// connect connects git with a program on the server until the program ends.
func (h *helper) connect(ctx context.Context, program appserver.GitProgram) error {
	protocol := protocolVersion(ctx)
	if program == appserver.GitReceivePack && protocol == 2 {
		protocol = 0 // receive-pack has no version 2; git asks for 0 too
	}
	var exit appserver.Exit
	err := appserver.Use(ctx, h.furl, 0, func(service *rpc.Remote) (err error) {
		// The rest of the input is for the program.
		exit, err = appserver.ConnectGit(ctx, service, program, protocol, h.in, &connectedWriter{w: h.out}, h.errw)
		return err
	})
	switch {
	case err != nil:
		return h.explain(err)
	case exit.Signal != 0:
		return fmt.Errorf("signal %[2]d ended %[1]s on the server", program, exit.Signal)
	case exit.Code != 0:
		return cli.ExitCode(exit.Code) // the program has printed why
	}
	return nil
}

// A connectedWriter writes a program's output, preceded by the empty line that tells git
// that the connection exists. If the program cannot be run there is no output, and git sees
// this helper end without the line.
type connectedWriter struct {
	w    io.Writer
	said bool // the line was written
}

func (g *connectedWriter) Write(p []byte) (int, error) {
	if !g.said {
		g.said = true
		if _, err := io.WriteString(g.w, "\n"); err != nil {
			return 0, err
		}
	}
	return g.w.Write(p)
}

// explain returns an error that tells the user what an error of the server means.
func (h *helper) explain(err error) error {
	var why string
	switch {
	case errors.Is(err, rpc.RemoteType("builtins.PermissionError")):
		why = "this FURL is read-only: it lets you clone and fetch, not push"
	case errors.Is(err, rpc.RemoteType("builtins.KeyError")):
		why = "the server does not know this FURL: its service was removed, or has a new FURL"
	case errors.Is(err, rpc.RemoteType("builtins.AttributeError")):
		why = "this FURL does not belong to a git repository"
	case errors.Is(err, context.DeadlineExceeded):
		why = "the server does not answer"
	default:
		return err
	}
	return fmt.Errorf("%s: %s", h.furl.Masked(), why)
}

// protocolVersion returns the version of git's protocol to ask for: that in git's
// configuration, or git's default.
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
