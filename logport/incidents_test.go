package logport_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/flogtool/flogtool/event"
	"github.com/flogtool/flogtool/event/flogfile"
	"github.com/flogtool/flogtool/logport"
)

// incidentFiles returns the lines of the incidents in a Dir, by file.
func incidentFiles(t *testing.T, dir string) map[string][]*event.Event {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*", "incidents", "*.flog.zst"))
	if err != nil {
		t.Fatal(err)
	}
	all := map[string][]*event.Event{}
	for _, file := range files {
		r, err := flogfile.Open(file)
		if err != nil {
			t.Fatal(err)
		}
		for {
			line, err := r.Next()
			if err != nil {
				break
			}
			if line.Kind&flogfile.KindEvent != 0 {
				e, err := line.Event()
				if err != nil {
					t.Fatal(err)
				}
				all[file] = append(all[file], e)
			}
		}
		r.Close()
	}
	return all
}

func TestTwoTriggersInOneWindowAreOneIncident(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		lp, err := logport.Open(logport.Config{Dir: dir, Listen: "off"})
		if err != nil {
			t.Fatal(err)
		}
		l := slog.New(lp.Handler())
		for i := range 50 {
			l.Debug("noise", "i", i)
		}
		l.Warn("first trigger")
		time.Sleep(time.Second)
		l.Debug("between")
		l.Error("second trigger")
		time.Sleep(3 * time.Second)
		l.Debug("last of the window")
		time.Sleep(time.Hour)
		l.Debug("long after")
		if s := lp.Stats(); s.Triggers != 2 || s.Incidents != 1 {
			t.Errorf("%d triggers made %d incidents, want 2 and 1", s.Triggers, s.Incidents)
		}
		if err := lp.Close(); err != nil {
			t.Error(err)
		}
	})
	all := incidentFiles(t, dir)
	if len(all) != 1 {
		t.Fatalf("%d incident files, want 1", len(all))
	}
	for _, events := range all {
		var own []string
		for _, e := range events {
			if !strings.HasPrefix(e.Facility(), "flogtool") {
				own = append(own, e.Text("message"))
			}
		}
		if len(own) != 54 || own[49] != "noise" || strings.Join(own[50:], ", ") != "first trigger, between, second trigger, last of the window" {
			t.Errorf("the incident holds %q", own)
		}
	}
}

func TestTriggerAfterTheWindowIsItsOwnIncident(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		lp, err := logport.Open(logport.Config{Dir: dir, Listen: "off"})
		if err != nil {
			t.Fatal(err)
		}
		ctx := context.Background()
		lp.DeclareIncident(ctx, "one")
		for range 150 { // more than the trailing events of the first
			lp.Log(ctx, slog.LevelDebug, "noise")
		}
		lp.DeclareIncident(ctx, "two")
		if err := lp.Flush(ctx); err != nil {
			t.Error(err)
		}
		if s := lp.Stats(); s.Incidents != 2 {
			t.Errorf("%d incidents after Flush, want 2", s.Incidents)
		}
		lp.DeclareIncident(ctx, "three")
		lp.Close()
	})
	if all := incidentFiles(t, dir); len(all) != 3 {
		t.Errorf("%d incident files, want 3: the last one by Close", len(all))
	}
}

// TestHundredTriggersAtOnce: one incident, every trigger in it exactly once.
func TestHundredTriggersAtOnce(t *testing.T) {
	dir := t.TempDir()
	lp, err := logport.Open(logport.Config{Dir: dir, Listen: "off", TrailingDelay: 500 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := g; i < 100; i += 8 {
				lp.Log(context.Background(), slog.LevelWarn, fmt.Sprint("trigger ", i), logport.Facility(fmt.Sprint("f", g)))
			}
		})
	}
	wg.Wait()
	lp.Close()
	all := incidentFiles(t, dir)
	if len(all) != 1 {
		t.Fatalf("%d incidents, want 1", len(all))
	}
	for _, events := range all {
		seen, last := map[string]int{}, event.Num(0)
		for i, e := range events {
			n, _ := e.Num()
			if i > 0 && n <= last {
				t.Errorf("event %d stands behind event %d", n, last)
			}
			last = n
			if strings.HasPrefix(e.Text("message"), "trigger") {
				seen[e.Text("message")]++
			}
		}
		if len(seen) != 100 {
			t.Errorf("%d different triggers are in the incident, want 100", len(seen))
		}
		for m, n := range seen {
			if n != 1 {
				t.Errorf("%q is there %d times", m, n)
			}
		}
	}
}

// TestTriggerReturnsAtOnce: with 100,000 events in the rings the call that logs
// a trigger takes less than a millisecond, and none of them is lost to a flood
// that follows.
func TestTriggerReturnsAtOnce(t *testing.T) {
	dir := t.TempDir()
	lp, err := logport.Open(logport.Config{Dir: dir, Listen: "off", RingBytes: 64 << 20, TrailingDelay: 200 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	for i := range 100_000 {
		lp.Log(ctx, slog.LevelDebug, "before", slog.Int("i", i))
	}
	// The machine may stop any call for longer: the best of a few counts, which
	// no call that does the work itself could reach.
	best := time.Hour
	for range 5 {
		start := time.Now()
		lp.Log(ctx, slog.LevelWarn, "trigger")
		best = min(best, time.Since(start))
	}
	if best > time.Millisecond {
		t.Errorf("logging a trigger took %v", best)
	}
	for i := range 50_000 {
		lp.Log(ctx, slog.LevelDebug, "after", slog.Int("i", i))
	}
	lp.Close()
	if lost := lp.Stats().PinLost; lost != 0 {
		t.Errorf("%d pinned events were given up", lost)
	}
	before := 0
	for _, events := range incidentFiles(t, dir) {
		for _, e := range events {
			if e.Text("message") == "before" {
				before++
			}
		}
	}
	if before != 100_000 {
		t.Errorf("the incident holds %d of the 100,000 events before the trigger", before)
	}
}

func TestDirThatCannotBeUsed(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	lp := open(t, logport.Config{Dir: file, Listen: "off"})
	for e := range lp.Buffered() {
		if e.Facility() != "flogtool.logport" || !strings.Contains(e.Text("message"), "in memory") || !strings.Contains(e.Text("err"), "not a directory") {
			t.Errorf("the first event is %s", e.AppendJSON(nil))
		}
		break
	}
	lp.DeclareIncident(context.Background(), "kept in memory")
	if err := lp.Flush(context.Background()); err != nil || lp.Stats().Incidents != 1 {
		t.Errorf("no incident in memory: %v, %+v", err, lp.Stats())
	}
}

func TestSlots(t *testing.T) {
	dir := t.TempDir()
	var all []*logport.Logport
	for range 17 {
		all = append(all, open(t, logport.Config{Dir: dir, Listen: "off", RingBytes: 1 << 20}))
	}
	slots, _ := filepath.Glob(filepath.Join(dir, "[0-9]*"))
	if len(slots) != 16 {
		t.Errorf("17 logports use the slots %q, want 16 of them", slots)
	}
	for e := range all[16].Buffered() {
		if !strings.Contains(e.Text("err"), "in use by other processes") {
			t.Errorf("the first event of the one without a slot is %s", e.AppendJSON(nil))
		}
		break
	}
	all[3].Close()
	if lp := open(t, logport.Config{Dir: dir, Listen: "off", RingBytes: 1 << 20}); lp.Stats().Events != 0 {
		for e := range lp.Buffered() {
			t.Errorf("the slot that was given back is not taken: %s", e.AppendJSON(nil))
		}
	}
}
