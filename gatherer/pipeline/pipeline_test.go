package pipeline

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"github.com/flogtool/flogtool/classify"
	"github.com/flogtool/flogtool/event"
	"github.com/flogtool/flogtool/gatherer/archive"
	"github.com/flogtool/flogtool/internal/durable"
	"github.com/flogtool/flogtool/internal/durable/durabletest"
	"github.com/flogtool/flogtool/internal/testwait"
)

const tub = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

func id(i int) archive.ID { return archive.ID{Tub: tub, Name: fmt.Sprintf("incident-%04d", i)} }

// store stores the incident i with n events.
func store(t *testing.T, a *archive.Archive, i, n int) archive.Stored {
	t.Helper()
	trigger := event.Dict{
		{Key: "incarnation", Value: []any{"02b4", nil}}, {Key: "level", Value: int64(30)},
		{Key: "message", Value: "broke"}, {Key: "num", Value: int64(i)}, {Key: "time", Value: 1700000000.5},
	}
	header := event.Dict{{Key: "trigger", Value: trigger}, {Key: "type", Value: "incident"}}
	s, err := a.Store(id(i), header, slices.Repeat([]event.Dict{trigger}, n), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// away is the error of a target that cannot be reached.
type away struct{}

func (away) Error() string     { return "nobody there" }
func (away) Unavailable() bool { return true }

// server is a Target that keeps what is published.
type server struct {
	fail func(name string) error // of a subject or object; may be nil

	mu        sync.Mutex
	published map[string]string // payload by subject
	objects   map[string][]byte
	order     []string // subjects
	calls     int
}

func newServer() *server {
	return &server{published: map[string]string{}, objects: map[string][]byte{}}
}

func (s *server) call(name string) error {
	s.mu.Lock()
	s.calls++
	fail := s.fail
	s.mu.Unlock()
	if fail != nil {
		return fail(name)
	}
	return nil
}

func (s *server) Publish(_ context.Context, subject string, payload []byte) (earlier []byte, err error) {
	if err := s.call(subject); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if earlier, ok := s.published[subject]; ok {
		return []byte(earlier), nil
	}
	s.published[subject] = string(payload)
	s.order = append(s.order, subject)
	return nil, nil
}

func (s *server) PutObject(_ context.Context, name string, size int64, file io.ReadSeeker) (bool, error) {
	if err := s.call(name); err != nil {
		return false, err
	}
	data, err := io.ReadAll(file)
	if err == nil && int64(len(data)) != size {
		err = fmt.Errorf("%d bytes of %d", len(data), size)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.objects[name] = data
	return true, err
}

// failAt lets the target fail for what contains part.
func (s *server) failAt(part string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fail = func(name string) error {
		if strings.Contains(name, part) {
			return err
		}
		return nil
	}
}

func (s *server) subjects() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.order)
}

func subject(category string, i int) string {
	return fmt.Sprintf("flog.incident.%s.02b4.incident-%04d", category, i)
}

// fixture is a pipeline under test.
type fixture struct {
	*Pipeline
	dir     *durable.Dir
	archive *archive.Archive
	server  *server
	log     *testwait.Log
}

// open opens the archive of dir, with a pipeline of these rules, by their names.
func open(t *testing.T, dir *durable.Dir, rules map[string]string) *fixture {
	t.Helper()
	a, err := archive.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return newFixture(t, dir, a, newServer(), rules)
}

func newFixture(t *testing.T, dir *durable.Dir, a *archive.Archive, target *server, rules map[string]string) *fixture {
	t.Helper()
	files := fstest.MapFS{}
	for name, rule := range rules {
		files["classify_"+name+".expr"] = &fstest.MapFile{Data: []byte(rule)}
	}
	loaded, err := classify.LoadFS(files, "rules")
	if err != nil {
		t.Fatal(err)
	}
	h := &fixture{dir: dir, archive: a, server: target, log: testwait.NewLog(t)}
	h.Pipeline = New(Config{Archive: a, Rules: loaded, Target: h.server, Log: slog.New(h.log)})
	return h
}

// newDir returns an empty directory of a gatherer.
func newDir(t *testing.T) *durable.Dir {
	t.Helper()
	dir := durabletest.New().Dir()
	if err := archive.Create(dir); err != nil {
		t.Fatal(err)
	}
	return dir
}

// start runs the pipeline until stop is called, at the latest at the test's end.
func (h *fixture) start(t *testing.T) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { defer close(ended); h.Run(ctx) }()
	stop = func() { cancel(); <-ended }
	t.Cleanup(stop)
	return stop
}

// lines returns how often each line is in a file.
func lines(t *testing.T, dir *durable.Dir, name string) map[string]int {
	t.Helper()
	n := map[string]int{}
	if err := dir.EachLine(name, func(line string) { n[line]++ }); err != nil {
		t.Fatal(err)
	}
	return n
}

// TestPipeline: an incident is classified, listed and published; when it grows,
// what that adds is too. One that is stored twice, or found twice, is done once.
func TestPipeline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t, newDir(t), map[string]string{"long": `len(events) > 1 ? ["long", "b.c"] : nil`})
		defer h.start(t)()
		first, second := store(t, h.archive, 1, 1), store(t, h.archive, 2, 2)
		for range 3 {
			h.Stored(first)
			h.Stored(second)
		}
		synctest.Wait()
		h.Stored(first)
		synctest.Wait()
		want := []string{subject("unknown", 1), subject("b%2Ec", 2), subject("long", 2)}
		if got := h.server.subjects(); !slices.Equal(got, want) {
			t.Errorf("published are %q, want %q", got, want)
		}
		first = store(t, h.archive, 1, 3)
		h.Stored(first)
		synctest.Wait()
		want = append(want, subject("b%2Ec", 1), subject("long", 1))
		if got := h.server.subjects(); !slices.Equal(got, want) {
			t.Errorf("published are %q, want %q", got, want)
		}
		for category, incidents := range map[string][]archive.Stored{
			"unknown": {first}, "long": {first, second}, "b.c": {first, second},
		} {
			want := map[string]int{}
			for _, s := range incidents {
				want[s.Path()] = 1
			}
			if got := lines(t, h.dir, "classified/"+category); !maps.Equal(got, want) {
				t.Errorf("%s lists %v, want %v", category, got, want)
			}
		}
		var sum struct {
			Categories []string
			Events     int
			Object     string
			SHA256     string
		}
		if err := json.Unmarshal([]byte(h.server.published[subject("long", 1)]), &sum); err != nil {
			t.Fatal(err)
		}
		file, err := h.dir.ReadFile(first.Path())
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(sum.Categories, []string{"b.c", "long", "unknown"}) || sum.Events != 3 ||
			!bytes.Equal(h.server.objects[sum.Object], file) || sum.SHA256 != fmt.Sprintf("%x", sha256.Sum256(file)) {
			t.Errorf("the summary is %+v", sum)
		}
		if n := h.log.Count("incident classified"); n != 3 {
			t.Errorf("%d classifications are logged, want 3", n)
		}
	})
}

// TestSetAside: an incident that cannot be done is set aside after a few tries, is
// reported once, is retried every hour, and holds up no other.
func TestSetAside(t *testing.T) {
	for _, tt := range []struct {
		name, step, reason string
		damage             func(t *testing.T, h *fixture, s archive.Stored) (mend func())
	}{
		{"file damaged before its classification", "classify", "not a flogfile", func(t *testing.T, h *fixture, s archive.Stored) func() {
			return damage(t, h, s)
		}},
		{"file damaged after its classification", "publish", "not a flogfile", func(t *testing.T, h *fixture, s archive.Stored) func() {
			if _, err := h.archive.Classify(s, []string{"unknown"}, 0); err != nil {
				t.Fatal(err)
			}
			return damage(t, h, s)
		}},
		{"file gone", "classify", "file does not exist", func(t *testing.T, h *fixture, s archive.Stored) func() {
			text, err := h.dir.ReadFile(s.Path())
			if err != nil {
				t.Fatal(err)
			}
			if err := h.dir.Remove(s.Path()); err != nil {
				t.Fatal(err)
			}
			return func() { h.dir.WriteFile(s.Path(), text, 0o600) }
		}},
		{"message refused", "publish", "too large", func(t *testing.T, h *fixture, s archive.Stored) func() {
			h.server.failAt(subject("unknown", 0), errors.New("too large"))
			return func() { h.server.failAt("", nil) }
		}},
		{"file refused", "publish", "bad name", func(t *testing.T, h *fixture, s archive.Stored) func() {
			h.server.failAt("02b4/"+s.Name, errors.New("bad name"))
			return func() { h.server.failAt("", nil) }
		}},
		{"always the same incident when the target seems away", "publish", "nobody there", func(t *testing.T, h *fixture, s archive.Stored) func() {
			h.server.failAt(subject("unknown", 0), away{})
			return func() { h.server.failAt("", nil) }
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := open(t, newDir(t), nil)
				bad := store(t, h.archive, 0, 1)
				mend := tt.damage(t, h, bad)
				defer h.start(t)()
				begin := time.Now()
				for i := 1; i < 20; i++ {
					h.Stored(store(t, h.archive, i, 1))
					time.Sleep(time.Second)
					if n := len(h.server.subjects()); n < i-2 {
						t.Errorf("%d incidents are published %v after the start, want %d", n, time.Since(begin), i)
					}
				}
				time.Sleep(10 * time.Minute)
				if n := len(h.server.subjects()); n != 19 {
					t.Errorf("%d incidents are published, want 19", n)
				}
				list := h.SetAside()
				if len(list) != 1 || list[0].Stored != bad || list[0].Step != tt.step || !strings.Contains(list[0].Reason, tt.reason) ||
					list[0].Tries != maxTries || list[0].Since.Before(begin) || list[0].Since.After(begin.Add(time.Minute)) {
					t.Errorf("set aside are %+v; want %s at step %s because of %q", list, bad.Name, tt.step, tt.reason)
				}
				time.Sleep(3 * 75 * time.Minute)
				if list := h.SetAside(); len(list) != 1 || list[0].Tries < maxTries+2 || list[0].Tries > maxTries+4 {
					t.Errorf("set aside are %+v, want one with a try an hour", list)
				}
				if n := h.log.Count("incident set aside", "step="+tt.step, bad.Name, tt.reason); n != 1 || h.log.Count("incident set aside") != 1 {
					t.Errorf("it was reported %d times, want once", n)
				}
				mend()
				time.Sleep(75 * time.Minute)
				if list := h.SetAside(); len(list) != 0 {
					t.Errorf("still set aside are %+v", list)
				}
				if n := len(h.server.subjects()); n != 20 {
					t.Errorf("%d incidents are published, want all", n)
				}
			})
		})
	}
}

// damage makes a file unreadable; mend mends it.
func damage(t *testing.T, h *fixture, s archive.Stored) (mend func()) {
	t.Helper()
	text, err := h.dir.ReadFile(s.Path())
	if err == nil {
		err = h.dir.WriteFile(s.Path(), []byte("garbage"), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	return func() { h.dir.WriteFile(s.Path(), text, 0o600) }
}

// TestSetAsideAtStart: a new start tries what was set aside at once.
func TestSetAsideAtStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := newDir(t)
		h := open(t, dir, nil)
		store(t, h.archive, 1, 1)
		h.server.failAt("", errors.New("refused"))
		stop := h.start(t)
		time.Sleep(time.Minute)
		if len(h.SetAside()) != 1 {
			t.Errorf("set aside are %+v, want one", h.SetAside())
		}
		stop()
		h = open(t, dir, nil)
		defer h.start(t)()
		synctest.Wait()
		if got, want := h.server.subjects(), []string{subject("unknown", 1)}; !slices.Equal(got, want) {
			t.Errorf("published are %q, want %q", got, want)
		}
	})
}

// TestTargetAway: while the target is away nothing is set aside, the target is tried
// now and then, and that is reported rarely. Afterwards all is published in order.
func TestTargetAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t, newDir(t), nil)
		h.server.failAt("", away{})
		defer h.start(t)()
		var want []string
		for i := range 5 {
			h.Stored(store(t, h.archive, i, 1))
			want = append(want, subject("unknown", i))
		}
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		if n := h.log.Count("incident classified"); n != 5 {
			t.Errorf("%d incidents are classified, want all", n)
		}
		if n := h.server.calls; n < 90 || n > 130 {
			t.Errorf("the target was tried %d times in two hours, want about one a minute", n)
		}
		if n := h.log.Count("publish incident; it is tried again", "nobody there"); n < 10 || n > 13 {
			t.Errorf("it was reported %d times in two hours, want every ten minutes", n)
		}
		h.server.failAt("", nil)
		time.Sleep(80 * time.Second)
		got := h.server.subjects()
		slices.Sort(got) // whichever was tried last comes first
		if !slices.Equal(got, want) {
			t.Errorf("published are %q, want all", got)
		}
		if n := h.log.Count("set aside"); n != 0 || len(h.SetAside()) != 0 {
			t.Errorf("%d incidents were set aside", n)
		}
	})
}

// TestDiskFull: while classified/ cannot be written, nothing is set aside.
func TestDiskFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t, newDir(t), nil)
		if err := h.dir.Mkdir("classified/unknown"); err != nil { // in the place of the file
			t.Fatal(err)
		}
		defer h.start(t)()
		for i := range 5 {
			h.Stored(store(t, h.archive, i, 1))
		}
		time.Sleep(10 * time.Minute)
		if n := h.log.Count("classify incident; it is tried again"); n != 1 || len(h.SetAside()) != 0 {
			t.Errorf("it was reported %d times, %d are set aside; want once and none", n, len(h.SetAside()))
		}
		if err := h.dir.Remove("classified/unknown"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(80 * time.Second)
		if n := len(h.server.subjects()); n != 5 {
			t.Errorf("%d incidents are published, want 5", n)
		}
	})
}

// TestPowerCut stops the machine at each operation of classifying and publishing
// three incidents, and again forgets, tears or keeps what was not synced. After the
// next start each incident is listed once in each category, and published.
func TestPowerCut(t *testing.T) {
	rules := map[string]string{"a": `["a", "b"]`}
	prepare := func(t *testing.T) *durabletest.Disk {
		disk := durabletest.New()
		if err := archive.Create(disk.Dir()); err != nil {
			t.Fatal(err)
		}
		a, err := archive.Open(disk.Dir())
		if err != nil {
			t.Fatal(err)
		}
		for i := range 3 {
			store(t, a, i, 1)
		}
		return disk
	}
	// run returns when all is done, or cannot be done any more.
	run := func(t *testing.T, disk *durabletest.Disk, target *server) {
		a, err := archive.Open(disk.Dir())
		if err != nil {
			return
		}
		stop := newFixture(t, disk.Dir(), a, target, rules).start(t)
		synctest.Wait()
		stop()
	}
	check := func(t *testing.T, dir *durable.Dir, target *server) {
		ledger := lines(t, dir, "published")
		for _, category := range []string{"a", "b"} {
			listed := lines(t, dir, "classified/"+category)
			for i := range 3 {
				s := archive.Stored{ID: id(i), Ending: ".flog.zst"}
				if n := listed[s.Path()]; n != 1 {
					t.Errorf("%s is listed %d times in %s", s.Name, n, category)
				}
				if n := ledger[s.Path()+" flog.incident."+category]; n != 1 {
					t.Errorf("%s is %d times in the ledger for %s", s.Name, n, category)
				}
				if _, ok := target.published[subject(category, i)]; !ok {
					t.Errorf("%s is not published in %s", s.Name, category)
				}
			}
		}
	}
	operations := 0
	synctest.Test(t, func(t *testing.T) {
		disk, target := prepare(t), newServer()
		disk.CrashAt(0)
		run(t, disk, target)
		operations = disk.Operations()
		check(t, disk.Dir(), target)
	})
	for k := 1; k <= operations; k++ {
		for _, outcome := range durabletest.Outcomes {
			synctest.Test(t, func(t *testing.T) {
				disk, target := prepare(t), newServer()
				disk.CrashAt(k)
				run(t, disk, target)
				disk.Restart(outcome)
				run(t, disk, target)
				check(t, disk.Dir(), target)
			})
			if t.Failed() {
				t.Fatalf("stopped at operation %d of %d, %+v", k, operations, outcome)
			}
		}
	}
	if operations < 100 {
		t.Errorf("%d operations: this test passed over most of the work", operations)
	}
}
