package tail_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/flogtool/flogtool/event/flogfile"
	"github.com/flogtool/flogtool/tail"
)

// entry is an event of a file that is merged.
type entry struct {
	at   float64 // seconds
	text string
}

// mergeFile writes a file of a gatherer: a header, and the events as they arrived.
func mergeFile(t *testing.T, dir, name string, entries []entry) string {
	t.Helper()
	b := []byte(flogfile.Magic + `{"header": {"type": "gatherer", "threshold": 0, "start": 1}}` + "\n")
	for i, e := range entries {
		d := fmt.Appendf(nil, `{"num": %d, "level": 20, "message": %q, "time": %.3f, "incarnation": ["x", null]}`, i, e.text, e.at)
		b = flogfile.AppendEvent(b, name, time.Unix(int64(i), 0), d)
	}
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// merge returns the texts of the files' events in the order in which Dump shows them.
func merge(t *testing.T, files ...string) ([]string, error) {
	t.Helper()
	tmpl, err := tail.ParseTemplate("{{.Text}}")
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	d := tail.Dump{Files: files, Out: &out, Notes: t.Output(), Style: tail.Style{Form: tail.FormTemplate, Template: tmpl, Zone: time.UTC}}
	err = d.Run(t.Context())
	return strings.Fields(out.String()), err
}

func TestMergeArrivalOrder(t *testing.T) {
	for _, c := range []struct {
		name string
		a, b []entry
		want string
	}{
		{
			"events that arrived late",
			[]entry{{10, "a10"}, {14, "a14"}, {10.4, "a10.4"}, {15, "a15"}, {20, "a20"}},
			[]entry{{12, "b12"}, {8.4, "b8.4"}, {13, "b13"}, {12.5, "b12.5"}},
			"b8.4 a10 a10.4 b12 b12.5 b13 a14 a15 a20",
		},
		{
			"equal times: the order of the names, then of the file",
			[]entry{{10, "a1"}, {11, "a3"}, {10, "a2"}, {11, "a4"}},
			[]entry{{10, "b1"}, {11, "b3"}, {10, "b2"}, {11, "b4"}},
			"a1 a2 b1 b2 a3 a4 b3 b4",
		},
		{
			"a clock that was wrong for one event",
			[]entry{{10, "a10"}, {9e9, "a9e9"}, {13, "a13"}, {12, "a12"}},
			[]entry{{11, "b11"}, {14, "b14"}, {0, "b0"}, {15, "b15"}},
			"b0 a10 b11 a12 a13 b14 b15 a9e9",
		},
		{"a file without events", nil, []entry{{2, "b2"}, {1, "b1"}}, "b1 b2"},
	} {
		dir := t.TempDir()
		got, err := merge(t, mergeFile(t, dir, "a.flog", c.a), mergeFile(t, dir, "b.flog", c.b))
		if err != nil || strings.Join(got, " ") != c.want {
			t.Errorf("%s: %v, %v, want %s", c.name, got, err, c.want)
		}
	}
}

// From files that are longer than a window each event is shown once. Those that arrive within
// the time of the window are in order, and one that is older is shown at once.
func TestMergeWindow(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	const events, late = 40_000, 29.0
	dir := t.TempDir()
	var files, want []string
	for f := range 2 {
		type arrival struct{ at, rx float64 }
		arrivals := make([]arrival, events)
		for i := range arrivals {
			at := 1e6 + float64(i)/100
			arrivals[i] = arrival{at, at + rnd.Float64()*late}
		}
		slices.SortFunc(arrivals, func(a, b arrival) int {
			if a.rx < b.rx {
				return -1
			}
			return 1
		})
		entries := make([]entry, events)
		for i, a := range arrivals {
			entries[i] = entry{a.at, fmt.Sprintf("%.3f/%d", a.at, f)}
		}
		old := fmt.Sprintf("old/%d", f)
		entries = slices.Insert(entries, events/2, entry{5, old})
		files = append(files, mergeFile(t, dir, fmt.Sprintf("%d.flog", f), entries))
		for _, e := range entries {
			want = append(want, e.text)
		}
	}
	got, err := merge(t, files...)
	if err != nil {
		t.Fatal(err)
	}
	for f := range 2 {
		i := slices.Index(got, fmt.Sprintf("old/%d", f))
		if i < events/2 || i > 3*events/2 {
			t.Errorf("the old event comes as number %d of %d", i, len(got))
			continue
		}
		got = slices.Delete(got, i, i+1)
	}
	if !slices.IsSorted(got) {
		t.Error("the events are not in order")
	}
	want = slices.DeleteFunc(want, func(s string) bool { return strings.HasPrefix(s, "old") })
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("%d events are not the %d of the files", len(got), len(want))
	}
}

// The windows of all files hold at most 64 MiB. If 100 events of 1 MiB arrive with the latest
// first, the window does not reach the earliest, and none is lost.
func TestMergeBytes(t *testing.T) {
	const events = 100
	dir := t.TempDir()
	path := filepath.Join(dir, "a.flog.zst")
	w, err := flogfile.Create(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := range events {
		d := fmt.Appendf(nil, `{"num": %d, "level": 20, "message": "%d", "time": %d, "incarnation": ["x", null], "pad": "%s"}`,
			i, events-1-i, events-1-i, strings.Repeat("x", 1<<20))
		if _, err := w.Write(flogfile.AppendEvent(nil, "a", time.Unix(int64(i), 0), d)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	got, err := merge(t, path, mergeFile(t, dir, "b.flog", nil))
	if err != nil || len(got) != events || got[0] != "36" {
		t.Fatalf("%d events, %v, %v", len(got), got, err)
	}
	slices.Sort(got)
	if len(slices.Compact(got)) != events {
		t.Error("an event comes twice")
	}
}

// A file's header is shown before its events, also if the first one is not the earliest, and
// a line without a time after the event before it.
func TestMergeOtherLines(t *testing.T) {
	dir := t.TempDir()
	a := mergeFile(t, dir, "a.flog", []entry{{10, "a10"}, {5, "a5"}})
	appendTo(t, a, `{"d": {"num": 2, "message": "timeless"}}`+"\n"+`{"odd": 1}`+"\n")
	b := mergeFile(t, dir, "b.flog", []entry{{8, "b8"}})
	var out bytes.Buffer
	f := tail.Filter{Files: []string{a, b}, To: "-", Out: &out}
	if err := f.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	var got []string
	for line := range strings.Lines(out.String()) {
		for _, text := range []string{"header", "a10", "a5", "b8", "timeless", "odd"} {
			if strings.Contains(line, text) {
				got = append(got, text)
			}
		}
	}
	if want := "header a5 timeless odd header b8 a10"; strings.Join(got, " ") != want {
		t.Errorf("the lines are %v, want %s", got, want)
	}
	if kept, total := f.Counts(); kept != 7 || total != 7 {
		t.Errorf("%d of %d lines are copied, want 7 of 7", kept, total)
	}
}

// Damage of a line is reported although its file has been read to the end before the line is
// passed on.
func TestMergeDamage(t *testing.T) {
	dir := t.TempDir()
	a := mergeFile(t, dir, "a.flog", []entry{{10, "a10"}})
	appendTo(t, a, `{"from": "x", "d": 17}`+"\n")
	b := mergeFile(t, dir, "b.flog", []entry{{12, "b12"}})
	appendTo(t, b, `{"from": "x", "d": {"num`)
	got, err := merge(t, a, b)
	if want := "a10 b12"; strings.Join(got, " ") != want {
		t.Errorf("events %v, want %s", got, want)
	}
	if _, ok := errors.AsType[*flogfile.DamageError](err); !ok ||
		!strings.Contains(err.Error(), "a.flog: line 4, byte") || !strings.Contains(err.Error(), "b.flog: line 4, byte") {
		t.Errorf("the error is %v, want one about each file", err)
	}
}
