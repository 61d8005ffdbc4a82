package logport_test

import (
	"bytes"
	"context"
	"io"
	"log"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/flogtool/flogtool/event/flogfile"
	"github.com/flogtool/flogtool/logport"
)

func textHandler(w io.Writer) slog.Handler {
	return slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.Level(-100), ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}})
}

func TestNext(t *testing.T) {
	var out bytes.Buffer
	lp := open(t, logport.Config{Listen: "off", Next: textHandler(&out)})
	l := slog.New(lp.Handler())
	l.Debug("below")
	l.Info("shown", "k", 1)
	l.Info("not shown", "facility", "foolscap.negotiation")
	l.With("facility", "flogtool.x").Info("nor this")
	l.With("a", 2).WithGroup("g").Info("grouped", "facility", "foolscap")
	lp.Log(context.Background(), slog.LevelWarn, "by Log", slog.String("s", "t"), logport.Facility("app"))
	lp.Log(context.Background(), slog.LevelWarn, "not by Log", logport.Facility("foolscap"))
	want := `level=INFO msg=shown k=1
level=INFO msg=grouped a=2 g.facility=foolscap
level=WARN msg="by Log" s=t facility=app
`
	if out.String() != want {
		t.Errorf("Next got\n%swant\n%s", out.String(), want)
	}
	if n := len(events(lp)); n < 4 {
		t.Errorf("the rings hold %d events", n)
	}
}

// TestNoLoop: slog's first default handler as Next, with our handler as slog's
// default, which package log then writes to: every event is recorded and shown
// once.
func TestNoLoop(t *testing.T) {
	var out bytes.Buffer
	oldWriter, oldFlags, oldDefault := log.Writer(), log.Flags(), slog.Default()
	t.Cleanup(func() { slog.SetDefault(oldDefault); log.SetOutput(oldWriter); log.SetFlags(oldFlags) })
	log.SetOutput(&out)
	log.SetFlags(0)
	lp := open(t, logport.Config{Listen: "off", Next: slog.Default().Handler()})
	slog.SetDefault(slog.New(lp.Handler()))

	done := make(chan struct{})
	go func() {
		defer close(done)
		slog.Info("by slog", "k", 1)
		log.Print("by log")
	}()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		t.Fatal("logging does not return")
	}
	if want := "INFO by slog k=1\nINFO by log\n"; out.String() != want {
		t.Errorf("Next got %q, want %q", out.String(), want)
	}
	if all := events(lp); len(all) != 2 || all[1].Text("message") != "by log" {
		t.Errorf("%d events are recorded, want 2", len(all))
	}
}

// leadsBack is a Next that ends up in the recorder again.
type leadsBack struct{ slog.Handler }

func TestNextThatLeadsBack(t *testing.T) {
	back := &leadsBack{}
	lp := open(t, logport.Config{Listen: "off", Next: back})
	back.Handler = lp.Handler()
	slog.New(lp.Handler()).Info("round")
	lp.Log(context.Background(), slog.LevelInfo, "and round")
	if n := len(events(lp)); n != 2 {
		t.Errorf("%d events are recorded, want 2", n)
	}
}

func TestStandardLog(t *testing.T) {
	lp := open(t, logport.Config{Listen: "off"})
	slog.NewLogLogger(lp.Handler(), slog.LevelDebug).Printf("from %s", "package log")
	all := events(lp)
	if len(all) != 1 || all[0].Text("message") != "from package log" || int(all[0].Level()) != 10 {
		t.Errorf("package log's line is recorded as %v", all)
	}
}

func TestFlogfile(t *testing.T) {
	for name, written := range map[string]string{"x.flog": "x.flog", "x.flog.zst": "x.flog.zst", "x.flog.bz2": "x.flog.zst"} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			t.Setenv("FLOGFILE", filepath.Join(dir, name))
			t.Setenv("FLOGLEVEL", "UNUSUAL")
			lp := open(t, logport.Config{Listen: "off"})
			if v, ok := os.LookupEnv("FLOGFILE"); ok {
				t.Errorf("FLOGFILE is %q for children", v)
			}
			for range 100 {
				lp.Log(context.Background(), slog.LevelDebug, "noise")
				lp.Log(context.Background(), slog.LevelWarn, "kept")
			}
			lp.Close()
			r, err := flogfile.Open(filepath.Join(dir, written))
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			kept, header := 0, ""
			for {
				line, err := r.Next()
				if err == io.EOF {
					break
				}
				if err != nil {
					t.Fatal(err)
				}
				if line.Kind == flogfile.KindHeader {
					header = string(line.Raw)
				}
				if e, err := line.Event(); err == nil && e != nil && e.Text("message") == "kept" {
					kept++
				} else if e != nil && e.Text("message") == "noise" {
					t.Fatal("an event below FLOGLEVEL is in the file")
				}
			}
			if kept != 100 || !strings.Contains(header, `"type": "log-file-observer"`) || !strings.Contains(header, `"threshold": 23`) {
				t.Errorf("the file has %d of 100 events and the header %s", kept, header)
			}
		})
	}
}

func TestFlogfileThatCannotBeWritten(t *testing.T) {
	t.Setenv("FLOGFILE", filepath.Join(t.TempDir(), "no", "such", "dir.flog"))
	t.Setenv("FLOGLEVEL", "loud")
	lp := open(t, logport.Config{Listen: "off"})
	var told []string
	for e := range lp.Buffered() {
		told = append(told, e.Text("message"))
	}
	all := strings.Join(told, "\n")
	if !strings.Contains(all, "FLOGFILE cannot be written") || !strings.Contains(all, "FLOGLEVEL is not a level") {
		t.Errorf("the first events are %q", told)
	}
}

func TestRecoverMakesAnIncident(t *testing.T) {
	dir := t.TempDir()
	lp := open(t, logport.Config{Dir: dir, Listen: "off"})
	func() {
		defer func() {
			if v := recover(); v != "boom" {
				t.Errorf("the panic went on with %v", v)
			}
		}()
		defer lp.Recover()
		panic("boom")
	}()
	files := incidentFiles(t, dir)
	if len(files) != 1 {
		t.Fatalf("%d incidents, want 1 when the panic goes on", len(files))
	}
	for _, list := range files {
		last := list[len(list)-1]
		line := string(last.AppendJSON(nil))
		if last.Text("message") != "panic: boom" || !strings.Contains(line, `"@": "Failure"`) || !strings.Contains(line, "TestRecoverMakesAnIncident") {
			t.Errorf("the trigger is %.300s", line)
		}
	}
	func() { defer lp.Recover() }()
	if n := lp.Stats().Incidents; n != 1 {
		t.Errorf("Recover without a panic made an incident: %d", n)
	}
}
