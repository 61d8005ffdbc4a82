package main

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/flogtool/flogtool/event"
	"github.com/flogtool/flogtool/internal/testwait"
	"github.com/flogtool/flogtool/logport"
	"github.com/flogtool/flogtool/logport/wire"
	"github.com/flogtool/flogtool/rpc"
)

// flogtoolRun runs a command line and returns its exit code and output.
func flogtoolRun(args ...string) (code int, out, errw string) {
	var o, e bytes.Buffer
	code = run(context.Background(), args, strings.NewReader(""), &o, &e)
	return code, o.String(), e.String()
}

func TestLevelCommand(t *testing.T) {
	dir := t.TempDir()
	lp, err := logport.Open(logport.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer lp.Close()
	lp.SetThreshold("db", event.Operational)

	code, out, errw := flogtoolRun("level", dir)
	if code != 0 || out != "(all others)             NOISY\ndb                       OPERATIONAL\n" {
		t.Fatalf("level: exit code %d, output %q, errors %q", code, out, errw)
	}
	for _, target := range []string{dir, filepath.Join(dir, "0"), filepath.Join(dir, "0", "control.furl")} {
		code, out, errw = flogtoolRun("level", target, "db.pool=NOISY", "--for", "1h", "=UNUSUAL")
		want := "(all others)             UNUSUAL  for 1h0m0s\ndb                       OPERATIONAL\ndb.pool                  NOISY  for 1h0m0s\n"
		if code != 0 || out != want {
			t.Errorf("level %s: exit code %d, output %q, errors %q", target, code, out, errw)
		}
	}
	if lp.Log(context.Background(), slog.LevelInfo, "m") != event.NoNum || lp.Threshold("db.pool.conn") != event.Noisy {
		t.Error("the thresholds did not change")
	}
	// A FURL in a comment of a FURL file is ignored.
	controlFURL, err := lp.ControlFURL()
	if err != nil {
		t.Fatal(err)
	}
	old := filepath.Join(t.TempDir(), "old.furl")
	for text, want := range map[string]int{
		"# pb://" + strings.Repeat("a", 32) + "@tcp:127.0.0.1:1/old\n" + controlFURL + "\n": 0,
		"# " + controlFURL + "\n": 1,
	} {
		if err := os.WriteFile(old, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if code, _, errw := flogtoolRun("level", old); code != want {
			t.Errorf("level of a file with a comment: exit code %d, want %d, errors %q", code, want, errw)
		}
	}
	logportFURL, _ := lp.FURL()
	code, _, errw = flogtoolRun("level", logportFURL)
	if code != 1 || !strings.Contains(errw, "control.furl") || strings.Count(errw, "\n") != 1 || strings.Contains(errw, logportFURL) {
		t.Errorf("level with a logport's FURL: exit code %d, errors %q", code, errw)
	}
	for _, args := range [][]string{{"level"}, {"level", dir, "db"}, {"level", dir, "db=LOUD"}, {"level", dir, "db=NOISY", "--for", "1ms"}} {
		if code, _, errw := flogtoolRun(args...); code != 2 {
			t.Errorf("%q: exit code %d, want 2: %s", args, code, errw)
		}
	}
	if code, _, errw := flogtoolRun("level", t.TempDir()); code != 1 || !strings.Contains(errw, "no control.furl") {
		t.Errorf("level of an empty directory: exit code %d, errors %q", code, errw)
	}
}

func TestThresholdFallsBack(t *testing.T) {
	lp, err := logport.Open(logport.Config{Listen: "off"})
	if err != nil {
		t.Fatal(err)
	}
	defer lp.Close()
	lp.SetThresholdFor("db", event.Bad, 50*time.Millisecond)
	lp.SetThresholdFor("db", event.Weird, 100*time.Millisecond)
	if lp.Threshold("db") != event.Weird {
		t.Error("the threshold did not change")
	}
	testwait.Eventually(t, "the threshold to fall back", func() bool { return lp.Threshold("db") == event.Noisy })
	var messages []string
	for e := range lp.Buffered() {
		messages = append(messages, e.Text("message"))
	}
	if all := strings.Join(messages, ", "); !strings.HasSuffix(all, "a threshold was changed, a threshold was changed, a threshold has fallen back") {
		t.Errorf("the events are %s", all)
	}
}

func TestFURLCommand(t *testing.T) {
	dir := t.TempDir()
	lp, err := logport.Open(logport.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer lp.Close()
	old, _ := lp.FURL()
	code, out, errw := flogtoolRun("furl", "show", dir, "logport")
	if code != 0 || out != old+"\n" {
		t.Fatalf("furl show: exit code %d, output %q, errors %q", code, out, errw)
	}
	oldFURL, _ := rpc.ParseFURL(old)
	tub, err := rpc.NewTub(rpc.Config{Features: wire.Features})
	if err != nil {
		t.Fatal(err)
	}
	defer tub.Close()
	r, err := tub.Connect(t.Context(), oldFURL)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() {
		ended <- wire.Subscribe(t.Context(), r, wire.SubscribeOptions{}, func(*wire.Batch) error { return nil })
	}()

	code, out, errw = flogtoolRun("furl", "rotate", dir, "logport")
	fresh := strings.TrimSpace(out)
	if code != 0 || fresh == old || !strings.HasPrefix(fresh, old[:strings.LastIndex(old, "/")]) {
		t.Fatalf("furl rotate: exit code %d, output %q, errors %q", code, out, errw)
	}
	testwait.Eventually(t, "the process to use the new FURL", func() bool { furl, _ := lp.FURL(); return furl == fresh })
	testwait.Eventually(t, "the subscription by the old FURL to end", func() bool { return lp.Stats().Subscribers == 0 })
	if err := <-ended; !errors.Is(err, wire.ErrEnded) {
		t.Errorf("the subscription ended with %v", err)
	}
	if err := r.Call(t.Context(), "get_pid", rpc.Args{}, nil); err == nil || !strings.Contains(err.Error(), "withdrawn") {
		t.Errorf("a call through the old reference returns %v", err)
	}
	if _, err := tub.Connect(t.Context(), oldFURL); err == nil {
		t.Error("the old FURL still works")
	}
	freshFURL, _ := rpc.ParseFURL(fresh)
	r, err = tub.Connect(t.Context(), freshFURL)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Call(t.Context(), "get_pid", rpc.Args{}, nil); err != nil {
		t.Errorf("a call through the new FURL returns %v", err)
	}
	for _, args := range [][]string{{"furl"}, {"furl", "turn"}, {"furl", "show"}, {"furl", "show", dir, "key"}} {
		if code, _, errw := flogtoolRun(args...); code != 2 {
			t.Errorf("%q: exit code %d, want 2: %s", args, code, errw)
		}
	}
}
