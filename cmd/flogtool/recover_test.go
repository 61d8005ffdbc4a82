package main

import (
	"context"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/flogtool/flogtool/logport"
)

// TestRecoverCommand kills a process that logs, makes an incident with the command, and dumps
// it.
func TestRecoverCommand(t *testing.T) {
	if dir := os.Getenv("FLOGTOOL_TEST_VICTIM"); dir != "" {
		lp, err := logport.Open(logport.Config{Dir: dir, Listen: "off"})
		if err != nil {
			panic(err)
		}
		lp.Log(context.Background(), slog.LevelInfo, "the last words")
		p, _ := os.FindProcess(os.Getpid())
		p.Kill()
		select {}
	}
	dir := t.TempDir()
	victim := exec.Command(os.Args[0], "-test.run=^TestRecoverCommand$")
	victim.Env = append(os.Environ(), "FLOGTOOL_TEST_VICTIM="+dir)
	if err := victim.Run(); err == nil {
		t.Fatal("the process was not killed")
	}
	code, out, errw := flogtoolRun("recover", dir)
	if code != 0 || !strings.Contains(out, "incidents/incident-") || !strings.Contains(out, " events of process ") || errw != "" {
		t.Fatalf("recover: exit code %d, output %q, errors %q", code, out, errw)
	}
	file, _, _ := strings.Cut(out, ": ")
	if filepath.Dir(file) != filepath.Join(dir, "0", "incidents") {
		t.Errorf("the incident is %q", file)
	}
	code, out, errw = flogtoolRun("dump", file)
	if code != 0 || !strings.Contains(out, "the last words\n") || !strings.Contains(out, "ended without closing its log [INCIDENT-TRIGGER]") {
		t.Errorf("dump: exit code %d, output %q, errors %q", code, out, errw)
	}
	if code, out, _ = flogtoolRun("recover", dir); code != 0 || out != "nothing to recover\n" {
		t.Errorf("a second recover: exit code %d, output %q", code, out)
	}
	if code, _, errw = flogtoolRun("recover", filepath.Join(dir, "nowhere")); code != 1 || !strings.Contains(errw, "no such file or directory") {
		t.Errorf("recover of no directory: exit code %d, errors %q", code, errw)
	}
	if code, _, _ = flogtoolRun("recover"); code != 2 {
		t.Errorf("recover without a directory: exit code %d, want 2", code)
	}
}
