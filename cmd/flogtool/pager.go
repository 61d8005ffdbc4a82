package main

import (
	"io"
	"os"
	"os/exec"
	"strings"
)

// pager returns a writer for output that may be longer than the screen: the input of a
// pager if out is a terminal, else out. It takes the pager from FLOG_PAGER or PAGER, as git
// does; the default is less. The caller calls finish, which waits for the pager.
func pager(out io.Writer) (w io.Writer, finish func() error) {
	none := func() error { return nil }
	if !isTerminal(out) {
		return out, none
	}
	command := "less"
	for _, name := range []string{"FLOG_PAGER", "PAGER"} {
		if value, ok := os.LookupEnv(name); ok {
			command = value
			break
		}
	}
	if strings.TrimSpace(command) == "" || command == "cat" {
		return out, none
	}
	cmd := exec.Command("sh", "-c", command)
	cmd.Stdout, cmd.Stderr = out, os.Stderr
	cmd.Env = os.Environ()
	if os.Getenv("LESS") == "" {
		cmd.Env = append(cmd.Env, "LESS=FRX") // quit if the output fits the screen, show colours, keep the screen
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		return out, none
	}
	if err := cmd.Start(); err != nil {
		return out, none
	}
	return in, func() error {
		in.Close()
		return cmd.Wait()
	}
}
