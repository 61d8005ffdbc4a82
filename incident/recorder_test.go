package incident_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/flogtool/flogtool/event"
	"github.com/flogtool/flogtool/event/flogfile"
	"github.com/flogtool/flogtool/incident"
)

// source is a plain list of events that grows.
type source struct {
	mu      sync.Mutex
	records []event.Record
	next    int
	more    chan struct{}
}

func newSource(n int) *source {
	s := &source{more: make(chan struct{}, 1)}
	for range n {
		s.log(event.Noisy, "before")
	}
	return s
}

func (s *source) log(l event.Level, message string) event.Num {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.records = append(s.records, event.AppendRecord(nil, time.Now().UnixNano(), l, message))
	select {
	case s.more <- struct{}{}:
	default:
	}
	return event.Num(len(s.records) - 1)
}

func (s *source) Next(ctx context.Context) (event.Num, event.Record, error) {
	for {
		s.mu.Lock()
		if s.next < len(s.records) {
			s.next++
			defer s.mu.Unlock()
			return event.Num(s.next - 1), s.records[s.next-1], nil
		}
		s.mu.Unlock()
		select {
		case <-s.more:
		case <-ctx.Done():
			return event.NoNum, nil, ctx.Err()
		}
	}
}

func (s *source) Logged() event.Num {
	s.mu.Lock()
	defer s.mu.Unlock()
	return event.Num(len(s.records))
}

func (s *source) trigger(message string) incident.Trigger {
	num := s.log(event.Weird, message)
	return incident.Trigger{Num: num, Record: s.records[num], At: time.Now()}
}

var recorderConfig = incident.Config{
	Program: "test", Incarnation: "84e8b6d1ce3c35a4", PID: 42,
	Versions:      event.Dict{{Key: "app", Value: "1.0"}},
	TrailingDelay: 5 * time.Second, TrailingEvents: 100,
}

// folded returns the triggers behind the first one, as a Config.Folded.
func (s *source) folded(first event.Num) func(event.Num) []incident.Trigger {
	return func(until event.Num) (list []incident.Trigger) {
		s.mu.Lock()
		defer s.mu.Unlock()
		for num := first + 1; num < until; num++ {
			if s.records[num].Level() >= event.Weird {
				list = append(list, incident.Trigger{Num: num, Record: s.records[num]})
			}
		}
		return list
	}
}

func memoryStore(t *testing.T) *incident.Store {
	t.Helper()
	s, err := incident.OpenStore(incident.StoreConfig{})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// read returns an incident's events as "num level message", and its trailer.
func read(t *testing.T, s *incident.Store, name string) (header event.Dict, events []string, trailer event.Dict) {
	t.Helper()
	header, list, err := s.Read(name)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range list {
		e := event.FromDict(d.(event.Dict))
		n, _ := e.Num()
		events = append(events, fmt.Sprintf("%d %v %s", n, e.Level(), e.Text("message")))
	}
	v, _ := header.Get("trailer")
	trailer, _ = v.(event.Dict)
	return header, events, trailer
}

func value(d event.Dict, key string) any { v, _ := d.Get(key); return v }

func TestRecordEndsByTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, src := memoryStore(t), newSource(3)
		tr := src.trigger("boom")
		done := make(chan incident.Recording)
		cfg := recorderConfig
		cfg.Folded = src.folded(tr.Num)
		go func() {
			rec, err := s.Record(context.Background(), tr, src, cfg)
			if err != nil {
				t.Error(err)
			}
			done <- rec
		}()
		time.Sleep(4 * time.Second)
		src.log(event.Noisy, "after")
		src.log(event.Bad, "and again")
		synctest.Wait()
		time.Sleep(time.Second - time.Nanosecond)
		synctest.Wait()
		if len(s.Names("")) != 0 {
			t.Error("the incident is complete before its trailing window is over")
		}
		time.Sleep(time.Nanosecond)
		rec := <-done
		src.log(event.Noisy, "too late")

		if rec.Reason != incident.ByTime || rec.Folded != 1 || rec.Until != 6 {
			t.Errorf("recording ended as %+v", rec)
		}
		header, events, trailer := read(t, s, rec.Name)
		want := []string{"0 NOISY before", "1 NOISY before", "2 NOISY before", "3 WEIRD boom", "4 NOISY after", "5 BAD and again"}
		if strings.Join(events, "\n") != strings.Join(want, "\n") {
			t.Errorf("the incident holds\n%s", strings.Join(events, "\n"))
		}
		if value(header, "type") != "incident" || value(header, "pid") != int64(42) || value(header, "program") != "test" ||
			value(value(header, "trigger").(event.Dict), "num") != int64(3) || value(value(header, "versions").(event.Dict), "app") != "1.0" {
			t.Errorf("the header is %v", header)
		}
		folded, _ := value(trailer, "folded").([]any)
		if len(folded) != 1 || value(folded[0].(event.Dict), "num") != int64(5) || value(folded[0].(event.Dict), "message") != "and again" ||
			value(trailer, "reason") != "time" {
			t.Errorf("the trailer is %v", trailer)
		}
	})
}

func TestRecordEndsByCount(t *testing.T) {
	for _, n := range []int{99, 100, 101, 250} {
		synctest.Test(t, func(t *testing.T) {
			s, src := memoryStore(t), newSource(0)
			tr := src.trigger("boom")
			for range n {
				src.log(event.Noisy, "after")
			}
			start := time.Now()
			rec, err := s.Record(context.Background(), tr, src, recorderConfig)
			if err != nil {
				t.Fatal(err)
			}
			// With exactly 100 the time ends it, as in the original.
			wantReason, wantUntil, wantTook := incident.ByCount, event.Num(101), time.Duration(0)
			if n <= 100 {
				wantReason, wantUntil, wantTook = incident.ByTime, event.Num(1+n), 5*time.Second
			}
			if took := time.Since(start); rec.Reason != wantReason || rec.Until != wantUntil || took != wantTook {
				t.Errorf("with %d trailing events the recording ended as %+v after %v", n, rec, took)
			}
			if _, events, _ := read(t, s, rec.Name); len(events) != int(wantUntil) {
				t.Errorf("with %d trailing events the incident holds %d", n, len(events))
			}
		})
	}
}

func TestRecordWithoutTrailing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, src := memoryStore(t), newSource(2)
		tr := src.trigger("boom")
		src.log(event.Noisy, "after")
		cfg := recorderConfig
		cfg.TrailingDelay = 0
		rec, err := s.Record(context.Background(), tr, src, cfg)
		if err != nil || rec.Until != 3 {
			t.Fatalf("recording ended as %+v, %v", rec, err)
		}
		if _, events, _ := read(t, s, rec.Name); len(events) != 3 {
			t.Errorf("the incident holds %v", events)
		}
	})
}

func TestCloseCompletesTheRecording(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, src := memoryStore(t), newSource(1)
		tr := src.trigger("boom")
		src.log(event.Noisy, "after")
		ctx, cancel := context.WithCancel(context.Background())
		time.AfterFunc(time.Second, cancel)
		rec, err := s.Record(ctx, tr, src, recorderConfig)
		if err != nil || rec.Reason != incident.ByClose || rec.Until != 3 {
			t.Fatalf("recording ended as %+v, %v", rec, err)
		}
	})
}

func TestMemoryStoreKeepsTheLastEight(t *testing.T) {
	s := memoryStore(t)
	var names []string
	for range 10 {
		src := newSource(0)
		cfg := recorderConfig
		cfg.TrailingDelay = 0
		rec, err := s.Record(context.Background(), src.trigger("boom"), src, cfg)
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, rec.Name)
	}
	if got := s.Names(""); strings.Join(got, " ") != strings.Join(names[2:], " ") {
		t.Errorf("the store holds %q, want the last eight of %q", got, names)
	}
	if got := s.Names(names[7]); strings.Join(got, " ") != strings.Join(names[8:], " ") {
		t.Errorf("Names(%q) = %q", names[7], got)
	}
}

func dirStore(t *testing.T, cfg incident.StoreConfig) *incident.Store {
	t.Helper()
	s, err := incident.OpenStore(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func TestRecordedFileIsReadable(t *testing.T) {
	dir := t.TempDir()
	s := dirStore(t, incident.StoreConfig{Dir: dir})
	src := newSource(5)
	cfg := recorderConfig
	cfg.TrailingDelay = 0
	rec, err := s.Record(context.Background(), src.trigger("boom"), src, cfg)
	if err != nil {
		t.Fatal(err)
	}
	entries, _ := os.ReadDir(dir)
	if len(entries) != 1 || entries[0].Name() != rec.Name+".flog.zst" {
		t.Errorf("the directory holds %v, want the complete file alone", entries)
	}
	if info, _ := entries[0].Info(); info.Mode() != 0o600 {
		t.Errorf("the file's mode is %v", info.Mode())
	}
	r, err := flogfile.Open(filepath.Join(dir, entries[0].Name()))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	lines := 0
	for {
		line, err := r.Next()
		if err != nil {
			break
		}
		lines++
		if line.Kind == flogfile.KindEvent && line.From() != "local" {
			t.Errorf("an event is from %q", line.From())
		}
	}
	if lines != 1+6+1 {
		t.Errorf("the file has %d lines, want header, 6 events and trailer", lines)
	}
}

// TestOpenStoreCompletes: what a recorder that died left is finished, at
// whatever byte it died.
func TestOpenStoreCompletes(t *testing.T) {
	const name = "incident-2026-11-22--15-54-53Z-abcdefa"
	text := []byte(flogfile.Magic)
	text = flogfile.AppendHeader(text, event.Dict{{Key: "type", Value: "incident"},
		{Key: "trigger", Value: event.Dict{{Key: "num", Value: int64(1)}, {Key: "incarnation", Value: []any{"x", nil}}}}})
	header := len(text)
	for i := range 3 {
		text = flogfile.AppendEvent(text, "local", time.Unix(1, 0), fmt.Appendf(nil, `{"num": %d}`, i))
	}
	for cut := range len(text) + 1 {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, name+".flog"), text[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		s := dirStore(t, incident.StoreConfig{Dir: dir})
		names := s.Names("")
		if cut < header {
			if len(names) != 0 {
				t.Fatalf("cut at %d, before the header's end, there is an incident", cut)
			}
			continue
		}
		if len(names) != 1 || names[0] != name {
			t.Fatalf("cut at %d the store holds %q", cut, names)
		}
		_, events, trailer := read(t, s, name)
		whole := strings.Count(string(text[:cut]), "\n") - 2
		if len(events) != whole || value(trailer, "reason") != "recovered" {
			t.Fatalf("cut at %d the incident holds %d events and trailer %v, want %d", cut, len(events), trailer, whole)
		}
		if left, _ := filepath.Glob(filepath.Join(dir, "*.flog")); len(left) != 0 {
			t.Fatalf("cut at %d %q is left", cut, left)
		}
	}
}

func TestStoreSurvivesForeignFiles(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("incident-empty.flog.zst", "")
	write("incident-text.flog.zst", "hello\n")
	write("incident-bz.flog.bz2", "no bzip2")
	write("notes.txt", "hello\n")
	os.Mkdir(filepath.Join(dir, "incident-dir.flog.zst"), 0o700)
	odd := map[string]int{}
	s := dirStore(t, incident.StoreConfig{Dir: dir, Odd: func(file string, err error) { odd[file]++ }})
	src := newSource(1)
	cfg := recorderConfig
	cfg.TrailingDelay = 0
	rec, err := s.Record(context.Background(), src.trigger("boom"), src, cfg)
	if err != nil {
		t.Fatal(err)
	}
	good := 0
	for range 2 {
		for _, name := range s.Names("") {
			if _, err := s.Trigger(name); err == nil {
				good++
			}
		}
	}
	if good != 2 {
		t.Errorf("%d triggers could be read in two passes, want the one good incident's twice", good)
	}
	for _, file := range []string{"incident-empty.flog.zst", "incident-text.flog.zst", "incident-bz.flog.bz2"} {
		if odd[file] != 1 {
			t.Errorf("%s was named %d times, want once", file, odd[file])
		}
		if _, err := os.Stat(filepath.Join(dir, file)); err != nil {
			t.Errorf("%s was not left alone: %v", file, err)
		}
	}
	if _, err := s.Open("../notes"); !errors.Is(err, incident.ErrNoIncident) {
		t.Errorf("Open of a path gives %v", err)
	}
	if _, err := s.Open("incident-2001"); !errors.Is(err, incident.ErrNoIncident) {
		t.Errorf("Open of an unknown name gives %v", err)
	}
	_ = rec
}
