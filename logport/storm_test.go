package logport_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/flogtool/flogtool/event"
	"github.com/flogtool/flogtool/event/flogfile"
	"github.com/flogtool/flogtool/incident"
	"github.com/flogtool/flogtool/logport"
)

// headers returns the headers of the incidents in a Dir, oldest first.
func headers(t *testing.T, dir string) []event.Dict {
	t.Helper()
	files, _ := filepath.Glob(filepath.Join(dir, "*", "incidents", "*.flog.zst"))
	var all []event.Dict
	for _, file := range files {
		r, err := flogfile.Open(file)
		if err != nil {
			t.Fatal(err)
		}
		line, err := r.Next()
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, line.Header())
		r.Close()
	}
	return all
}

// suppressedIn returns the count of the header's entry, 0 without one.
func suppressedIn(header event.Dict) uint64 {
	v, _ := header.Get("suppressed")
	d, _ := v.(event.Dict)
	n, _ := d.Get("count")
	count, _ := n.(int64)
	return uint64(count)
}

// TestStormOfOneKind: 1,000 triggers of one statement over ten minutes make an
// incident a minute; those in a trailing window are in it, and the rest is
// counted to the last one.
func TestStormOfOneKind(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		lp, err := logport.Open(logport.Config{Dir: dir, Listen: "off"})
		if err != nil {
			t.Fatal(err)
		}
		for range 1000 {
			lp.Log(context.Background(), slog.LevelWarn, "the same again", logport.Facility("app"))
			time.Sleep(600 * time.Millisecond)
		}
		time.Sleep(time.Minute)
		s := lp.Stats()
		// A window of 5 s holds the trigger and 8 more, every 600 ms.
		if s.Triggers != 1000 || s.Incidents != 10 || s.Suppressed != 1000-10*9 {
			t.Errorf("1,000 triggers in ten minutes: %d incidents, %d suppressed of %d", s.Incidents, s.Suppressed, s.Triggers)
		}
		time.Sleep(time.Minute)
		lp.Log(context.Background(), slog.LevelWarn, "something else")
		lp.Close()
	})
	all := headers(t, dir)
	if len(all) != 11 {
		t.Fatalf("%d incidents, want 11", len(all))
	}
	told := uint64(0)
	for _, h := range all {
		told += suppressedIn(h)
	}
	if told != 1000-10*9 {
		t.Errorf("the headers tell of %d suppressed triggers, want %d", told, 1000-10*9)
	}
	if v, _ := all[1].Get("suppressed"); !strings.Contains(string(event.AppendJSON(nil, v)), `"message": "the same again", "facility": "app"`) {
		t.Errorf("the header does not name the kind: %s", event.AppendJSON(nil, v))
	}
}

// TestStormOfManyKinds: six a minute in all, in a burst.
func TestStormOfManyKinds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lp, err := logport.Open(logport.Config{Listen: "off", TrailingDelay: -1})
		if err != nil {
			t.Fatal(err)
		}
		defer lp.Close()
		log := func(n int) {
			for i := range n {
				lp.Log(context.Background(), slog.LevelWarn, fmt.Sprint("kind ", i, " at ", time.Now()))
				synctest.Wait()
			}
		}
		log(100)
		if s := lp.Stats(); s.Incidents != 6 || s.Suppressed != 94 {
			t.Errorf("a burst of 100 kinds made %d incidents, %d suppressed", s.Incidents, s.Suppressed)
		}
		for range 10 {
			time.Sleep(10 * time.Second)
			log(5)
		}
		if s := lp.Stats(); s.Incidents != 16 || s.Incidents+s.Suppressed != 150 {
			t.Errorf("100 s later: %d incidents, %d suppressed, want 16 and 134", s.Incidents, s.Suppressed)
		}
		time.Sleep(time.Minute)
		for range 3 { // a person's declarations are not of one kind
			lp.DeclareIncident(context.Background(), "that was weird")
			synctest.Wait()
		}
		if s := lp.Stats(); s.Incidents != 19 {
			t.Errorf("three declarations made %d incidents", s.Incidents-16)
		}
	})
}

func TestNoLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lp, err := logport.Open(logport.Config{Listen: "off", TrailingDelay: -1, IncidentEvery: -1, IncidentsPerMinute: -1})
		if err != nil {
			t.Fatal(err)
		}
		defer lp.Close()
		for range 50 {
			lp.Log(context.Background(), slog.LevelWarn, "the same")
			synctest.Wait()
		}
		if s := lp.Stats(); s.Incidents != 50 || s.Suppressed != 0 {
			t.Errorf("50 triggers without limits made %d incidents, %d suppressed", s.Incidents, s.Suppressed)
		}
	})
}

func TestTriggerExpression(t *testing.T) {
	lp := open(t, logport.Config{Listen: "off", TrailingDelay: -1, Trigger: `level > UNUSUAL && facility startsWith "lifesupport"`})
	ctx := context.Background()
	lp.Log(ctx, slog.LevelError, "not of the facility", logport.Facility("app"))
	lp.Log(ctx, slog.LevelInfo, "not of the level", logport.Facility("lifesupport"))
	lp.Log(ctx, slog.Level(2), "pump", logport.Facility("lifesupport.pump"))
	lp.Flush(ctx)
	if s := lp.Stats(); s.Triggers != 1 || s.Incidents != 1 {
		t.Errorf("%d triggers, %d incidents, want 1 and 1", s.Triggers, s.Incidents)
	}
	if _, err := logport.Open(logport.Config{Trigger: "level >"}); err == nil || !strings.Contains(err.Error(), "Config.Trigger") {
		t.Errorf("a bad expression gives %v", err)
	}
}

type panicking struct{}

func (panicking) IsTrigger(*event.Event) bool { panic("qualifier") }

func TestQualifiers(t *testing.T) {
	ctx := context.Background()
	synctest.Test(t, func(t *testing.T) {
		q, err := incident.MoreThan(3, `message == "retry"`, 10*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		lp, err := logport.Open(logport.Config{Listen: "off", TrailingDelay: -1, Qualifier: q})
		if err != nil {
			t.Fatal(err)
		}
		defer lp.Close()
		var triggers []uint64
		for range 20 { // one every 4 s: never more than three in ten
			lp.Log(ctx, slog.LevelInfo, "retry")
			lp.Log(ctx, slog.LevelInfo, "other")
			time.Sleep(4 * time.Second)
		}
		time.Sleep(time.Minute)
		triggers = append(triggers, lp.Stats().Triggers)
		for range 9 { // the fourth and the eighth within a second
			lp.Log(ctx, slog.LevelInfo, "retry")
			time.Sleep(100 * time.Millisecond)
		}
		triggers = append(triggers, lp.Stats().Triggers)
		if fmt.Sprint(triggers) != "[0 2]" {
			t.Errorf("triggers after slow and fast retries: %v", triggers)
		}
	})
	lp := open(t, logport.Config{Listen: "off", Qualifier: panicking{}})
	if lp.Log(ctx, slog.LevelError, "m") == event.NoNum {
		t.Error("a panicking qualifier cost the event")
	}
	told := false
	for e := range lp.Buffered() {
		told = told || e.Text("message") == "the qualifier panicked"
	}
	if !told {
		t.Error("the panic is not told")
	}
}

func TestAttachments(t *testing.T) {
	dir := t.TempDir()
	lp := open(t, logport.Config{Dir: dir, Attach: []logport.Attach{logport.AttachGoroutines, logport.AttachHeap, logport.AttachTrace, "nonsense"}})
	lp.DeclareIncident(context.Background(), "look at this")
	lp.Flush(context.Background())
	name := func(ending string) string {
		files, _ := filepath.Glob(filepath.Join(dir, "0", "incidents", "*."+ending))
		if len(files) != 1 {
			t.Fatalf("%d files *.%s", len(files), ending)
		}
		return files[0]
	}
	if data, _ := os.ReadFile(name("goroutines.txt")); !bytes.Contains(data, []byte("TestAttachments")) {
		t.Error("the goroutines' stacks are not those")
	}
	// The standard tools open the others.
	if out, err := exec.Command("go", "tool", "pprof", "-top", name("heap.pprof")).CombinedOutput(); err != nil || !bytes.Contains(out, []byte("flat")) {
		t.Errorf("go tool pprof: %v\n%s", err, out)
	}
	if out, err := exec.Command("go", "tool", "trace", "-d=parsed", name("trace")).CombinedOutput(); err != nil || len(out) == 0 {
		t.Errorf("go tool trace: %v\n%.300s", err, out)
	}
	told := false
	for e := range lp.Buffered() {
		told = told || e.Text("name") == "nonsense"
	}
	if !told {
		t.Error("an unknown attachment is not told")
	}

	r := connect(t, lp)
	var parts []any
	incidentName := strings.TrimSuffix(filepath.Base(name("flog.zst")), ".flog.zst")
	if err := r.Call(t.Context(), "flog_parts", posArgs(incidentName), &parts); err != nil || len(parts) != 4 {
		t.Fatalf("parts %v, %v", parts, err)
	}
	var data []byte
	if err := r.Call(t.Context(), "flog_read", posArgs(incidentName, "goroutines.txt", 0, 1<<20), &data); err != nil || !bytes.Contains(data, []byte("TestAttachments")) {
		t.Errorf("the attachment is read as %.100q, %v", data, err)
	}
}

// TestDiskStaysBounded: the oldest incidents go, with what is attached to them.
func TestDiskStaysBounded(t *testing.T) {
	dir := t.TempDir()
	lp := open(t, logport.Config{Dir: dir, Listen: "off", TrailingDelay: -1, IncidentsPerMinute: -1, KeepIncidents: 5,
		Attach: []logport.Attach{logport.AttachGoroutines}})
	for i := range 12 {
		lp.DeclareIncident(context.Background(), fmt.Sprint("incident ", i))
		lp.Flush(context.Background())
	}
	all := headers(t, dir)
	attached, _ := filepath.Glob(filepath.Join(dir, "0", "incidents", "*.goroutines.txt"))
	if len(all) != 5 || len(attached) != 5 {
		t.Fatalf("%d incidents with %d attachments are kept, want 5", len(all), len(attached))
	}
	for i, h := range all {
		v, _ := h.Get("trigger")
		m, _ := v.(event.Dict).Get("message")
		if want := fmt.Sprint("incident ", 7+i); m != want {
			t.Errorf("kept incident %d is %q, want %q", i, m, want)
		}
	}
}

// TestClockThatGoesBack: names ascend although the directory's last incident is
// an hour in the future, and 50 in one second.
func TestClockThatGoesBack(t *testing.T) {
	dir := t.TempDir()
	future := "incident-" + time.Now().Add(time.Hour).UTC().Format("2006-01-02--15-04-05Z") + "-mmmmmma"
	if err := os.MkdirAll(filepath.Join(dir, "0", "incidents"), 0o700); err != nil {
		t.Fatal(err)
	}
	w, err := flogfile.Create(filepath.Join(dir, "0", "incidents", future+".flog.zst"), nil)
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(w, `{"header": {"type": "incident", "trigger": {"num": 1}}}`+"\n")
	w.Close()
	lp := open(t, logport.Config{Dir: dir, Listen: "off", TrailingDelay: -1, IncidentsPerMinute: -1})
	for i := range 50 {
		lp.DeclareIncident(context.Background(), fmt.Sprint("incident ", i))
		lp.Flush(context.Background())
	}
	all := headers(t, dir) // sorted by name
	if len(all) != 51 {
		t.Fatalf("%d incidents, want 51", len(all))
	}
	for i, h := range all[1:] {
		v, _ := h.Get("trigger")
		m, _ := v.(event.Dict).Get("message")
		if want := fmt.Sprint("incident ", i); m != want {
			t.Fatalf("the incident at place %d is %q, want %q", i+1, m, want)
		}
	}
}
