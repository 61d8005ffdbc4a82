//go:build linux

package main

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/flogtool/flogtool/cmd/internal/clitest"
)

// shells has the commands that turn on completion for flogtool in each shell, and the file
// that the shell needs for it.
var shells = []struct {
	name  string
	args  []string
	needs string
	setup string
}{
	{"bash", []string{"--noprofile", "--norc", "-i"}, "/usr/share/bash-completion/bash_completion",
		". /usr/share/bash-completion/bash_completion; . <(flogtool completion bash)"},
	{"zsh", []string{"-f", "-i"}, "", "autoload -Uz compinit; compinit -D -u; . <(flogtool completion zsh)"},
}

// noRaceSleep keeps a flogtool with the race detector from sleeping a second before it
// exits, since a shell runs it at every tab.
const noRaceSleep = "GORACE=atexit_sleep_ms=0"

// The generated scripts work in the shells: at a tab the shell completes what is typed.
func TestCompletionInShells(t *testing.T) {
	for _, shell := range shells {
		t.Run(shell.name, func(t *testing.T) {
			path, err := exec.LookPath(shell.name)
			if err != nil {
				t.Skipf("%s is not installed", shell.name)
			}
			if _, err := os.Stat(shell.needs); shell.needs != "" && err != nil {
				t.Skipf("bash-completion is not installed: %v", err)
			}
			dir := t.TempDir()
			incident := completionFiles(t, dir)
			keys, tty, until := clitest.Keyboard(t)
			cmd := exec.Command(path, shell.args...)
			cmd.Dir = dir
			cmd.Env = append(os.Environ(), "TERM=dumb", "PS1=$ ", "HOME="+dir, "INPUTRC=/dev/null", noRaceSleep)
			cmd.Stdin, cmd.Stdout, cmd.Stderr = tty, tty, tty
			cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				cmd.Process.Kill()
				cmd.Wait()
			})
			fmt.Fprintf(keys, "%s; echo ready-$((40+2))\n", shell.setup)
			until("ready-42")
			for i, test := range []struct{ typed, want string }{
				{"flogtool du", "flogtool dump "},
				{"flogtool dump --faci", "--facility"},
				{"flogtool dump log.flog --facility ne", "--facility net.http"},
				{"flogtool dump log.flog --facility=ne", "--facility=net.http"},
				{"flogtool dump --level WEI", "--level WEIRD"},
				{"flogtool dump incident-2", incident},
				{"flogtool dump lo", "dump log.flog"},
			} {
				io.WriteString(keys, test.typed+"\t")
				until(test.want)
				fmt.Fprintf(keys, "\x15echo next-$((100+%d))\n", i)
				until(fmt.Sprintf("next-%d", 100+i))
			}
		})
	}
}

// Fish has a command that prints its completions.
func TestCompletionInFish(t *testing.T) {
	path, err := exec.LookPath("fish")
	if err != nil {
		t.Skip("fish is not installed")
	}
	dir := t.TempDir()
	incident := completionFiles(t, dir)
	for typed, want := range map[string]string{
		"flogtool du":                             "dump",
		"flogtool dump --faci":                    "--facility",
		"flogtool dump log.flog --facility ne":    "net.http",
		"flogtool dump log.flog --facility=ne":    "--facility=net.http",
		"flogtool dump --level WEI":               "WEIRD",
		"flogtool dump incident-2":                incident,
		"flogtool tail --timestamps long":         "long-local",
		"flogtool filter log.flog --facility net": "net.http",
	} {
		cmd := exec.Command(path, "--no-config", "-c", "flogtool completion fish | source; complete -C $argv[1]", typed)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "HOME="+dir, "TERM=dumb", noRaceSleep)
		out, err := cmd.Output()
		candidate, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\t")
		if err != nil || candidate != want {
			t.Errorf("%q is completed as %q (%v), want %q", typed, out, err, want)
		}
	}
}

// completionFiles makes a log with the facility net.http, and an incident. It returns the
// name of the incident.
func completionFiles(t *testing.T, dir string) (incident string) {
	t.Helper()
	incident = "incident-2023-11-15--01-00-01Z-uxwklei"
	if err := os.MkdirAll(filepath.Join(dir, "incidents", "tub"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"log.flog", "incidents/tub/" + incident + ".flog"} {
		const log = "# foolscap flogfile v1\n" +
			`{"from": "local", "rx_time": 1.0, "d": {"num": 0, "facility": "net.http", "level": 20, "message": "x", "time": 1.0}}` + "\n"
		if err := os.WriteFile(filepath.Join(dir, name), []byte(log), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return incident
}
