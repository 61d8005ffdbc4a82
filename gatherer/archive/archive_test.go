package archive

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/flogtool/flogtool/event"
	"github.com/flogtool/flogtool/incident"
	"github.com/flogtool/flogtool/internal/durable"
	"github.com/flogtool/flogtool/internal/durable/durabletest"
)

const (
	tubA = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	tubB = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
)

// incidentDict returns an incident with n events, the trigger n times.
func incidentDict(n int) (header event.Dict, events []event.Dict) {
	trigger := event.Dict{
		{Key: "incarnation", Value: []any{"02b4d3658aa9c406", nil}}, {Key: "level", Value: int64(30)},
		{Key: "message", Value: "broke"}, {Key: "num", Value: int64(5)}, {Key: "time", Value: 1700000000.5},
	}
	header = event.Dict{{Key: "trigger", Value: trigger}, {Key: "type", Value: "incident"}}
	return header, slices.Repeat([]event.Dict{trigger}, n)
}

// place writes files, and makes their directories.
func place(t *testing.T, dir *durable.Dir, files map[string]string) {
	t.Helper()
	for name, text := range files {
		for at, c := range name {
			if c == '/' {
				if err := dir.Mkdir(name[:at]); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := dir.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// lines returns the lines of a text file.
func lines(t *testing.T, dir *durable.Dir, name string) (list []string) {
	t.Helper()
	if err := dir.EachLine(name, func(line string) { list = append(list, line) }); err != nil {
		t.Fatal(err)
	}
	return list
}

func open(t *testing.T, dir *durable.Dir) *Archive {
	t.Helper()
	a, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func paths(list []Stored) (paths []string) {
	for _, s := range list {
		paths = append(paths, s.Path())
	}
	return paths
}

func every(State) bool { return true }

func openTestDir(t *testing.T) *durable.Dir {
	t.Helper()
	dir, err := durable.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dir.Close() })
	return dir
}

func TestArchive(t *testing.T) {
	dir := openTestDir(t)
	a := open(t, dir)
	header, events := incidentDict(1)
	first, err := a.Store(ID{tubA, "incident-1"}, header, events, time.Unix(1700000001, 0))
	if err != nil {
		t.Fatal(err)
	}
	if added, err := a.AddAlso(tubB, first); !added || err != nil {
		t.Fatalf("AddAlso = %v, %v", added, err)
	}
	if added, err := a.AddAlso(tubB, first); added || err != nil {
		t.Fatalf("AddAlso again = %v, %v", added, err)
	}
	for _, mark := range []string{"incident-2", "incident-1"} {
		if err := a.SetLatest(tubA, mark); err != nil {
			t.Fatal(err)
		}
	}
	if added, err := a.Classify(first, []string{"b", "a"}, 0); !slices.Equal(added, []string{"b", "a"}) || err != nil {
		t.Fatalf("Classify = %q, %v", added, err)
	}
	if added, err := a.Classify(first, []string{"a", "b", "c"}, 0); !slices.Equal(added, []string{"c"}) || err != nil {
		t.Fatalf("Classify again = %q, %v", added, err)
	}
	if err := a.AddPublished(first, "target"); err != nil {
		t.Fatal(err)
	}
	// What may be there too: an original's files, strays, a store cut short.
	place(t, dir, map[string]string{
		"incidents/stray": "x",
		"incidents/" + tubB + "/incident-9.flog.bz2":     "x",
		"incidents/" + tubB + "/incident-8.flog":         "x",
		"incidents/" + tubB + "/notes.txt":               "x",
		"incidents/" + tubB + "/incident-7.flog.zst.tmp": "x",
		"incidents/" + tubB + "/incident-6.flog.grown":   "",
		"incidents/" + tubA + "/incident-1.flog.bz2":     "x",
		"incidents/" + tubA + "/incident-1.heap.pprof":   "x",
	})

	for _, again := range []bool{false, true} { // the files are the truth
		if again {
			a = open(t, dir)
			want := []string{
				"incidents/" + tubA + "/incident-1.flog.zst",
				"incidents/" + tubB + "/incident-8.flog",
				"incidents/" + tubB + "/incident-9.flog.bz2",
			}
			if got := paths(a.Next(ID{}, 100, every)); !slices.Equal(got, want) || a.Len() != 3 {
				t.Errorf("Next = %q, want %q; Len = %d", got, want, a.Len())
			}
		}
		if got := a.Latest(tubA); got != "incident-2" {
			t.Errorf("Latest = %q, want the greatest ever set", got)
		}
		if got := a.Also(first.ID); !slices.Equal(got, []string{tubB}) {
			t.Errorf("Also = %q, want %q", got, tubB)
		}
		if got := a.Elsewhere(tubB, "incident-1"); len(got) != 1 || got[0] != first {
			t.Errorf("Elsewhere = %v, want %v", got, first)
		}
		want := State{first, []string{"a", "b", "c"}, []string{"target"}, 0}
		if got, ok := a.State(first.ID); !ok || !reflect.DeepEqual(got, want) {
			t.Errorf("State = %v, %v; want %v", got, ok, want)
		}
	}
	if got, err := a.Trigger(first); err != nil || got != (Trigger{"02b4d3658aa9c406", 5}) || !got.Known() {
		t.Errorf("Trigger = %v, %v", got, err)
	}
	file, err := dir.ReadFile(first.Path())
	if err != nil {
		t.Fatal(err)
	}
	got, err := a.Summary(first)
	if err != nil {
		t.Fatal(err)
	}
	hash := sha256.Sum256(file)
	want := incident.NewSummary("incident-1", header, 1)
	want.Tubs, want.Categories = []string{tubA, tubB}, []string{"a", "b", "c"}
	want.File, want.Size, want.SHA256 = first.Path(), int64(len(file)), hex.EncodeToString(hash[:])
	want.Content = ContentOf(header, events)
	want.Object = "02b4d3658aa9c406/incident-1-" + want.SHA256[:32] + ".flog.zst"
	if c, err := a.Content(first); err != nil || c != want.Content {
		t.Errorf("Content = %q, %v; want %q", c, err, want.Content)
	}
	if g, w := string(got.AppendJSON(nil)), string(want.AppendJSON(nil)); g != w {
		t.Errorf("Summary = %s, want %s", g, w)
	}
	damaged, _ := ParsePath("incidents/" + tubB + "/incident-8.flog")
	if _, err := a.Summary(damaged); err == nil || !strings.Contains(err.Error(), "not a flogfile") {
		t.Errorf("Summary of a file of another kind: %v", err)
	}
}

// TestNext goes through the incidents piece by piece.
func TestNext(t *testing.T) {
	dir := openTestDir(t)
	files := map[string]string{}
	var want []string
	for _, tub := range []string{tubA, tubB} {
		for i := range 50 {
			s := Stored{ID{tub, fmt.Sprintf("incident-%02d", i)}, ".flog.zst"}
			files[s.Path()] = "x"
			if i%3 != 0 {
				want = append(want, s.Path())
				continue
			}
			files["classified/third"] += s.Path() + "\n"
		}
	}
	place(t, dir, files)
	a := open(t, dir)
	for _, limit := range []int{1, 7, 1000} {
		var got []string
		at := ID{}
		for {
			list := a.Next(at, limit, func(s State) bool { return len(s.Categories) == 0 })
			if len(list) == 0 {
				break
			}
			if len(list) > limit {
				t.Fatalf("Next returned %d incidents, the limit is %d", len(list), limit)
			}
			got = append(got, paths(list)...)
			at = list[len(list)-1].ID
		}
		if !slices.Equal(got, want) {
			t.Errorf("by %d: %q, want %q", limit, got, want)
		}
	}
}

// TestLedgers: an incident that is there before the ledgers comes from the
// original and counts as published; in a directory of ours nothing does.
func TestLedgers(t *testing.T) {
	s := Stored{ID{tubA, "incident-1"}, ".flog.bz2"}
	for _, tt := range []struct {
		name   string
		create bool
		want   []string
	}{
		{"of the original", false, []string{EveryTarget}},
		{"of ours", true, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := openTestDir(t)
			if tt.create {
				if err := Create(dir); err != nil {
					t.Fatal(err)
				}
			}
			place(t, dir, map[string]string{s.Path(): "x"})
			if err := Create(dir); err != nil { // for a directory with incidents
				t.Fatal(err)
			}
			for range 2 {
				state, _ := open(t, dir).State(s.ID)
				if !slices.Equal(state.Published, tt.want) {
					t.Errorf("published to %q, want %q", state.Published, tt.want)
				}
			}
			if told, published := lines(t, dir, toldFile), lines(t, dir, publishedFile); !slices.Equal(told, published) {
				t.Errorf("%s has %q, %s has %q", toldFile, told, publishedFile, published)
			}
		})
	}
}

// TestListingCutShort: a gatherer was killed at each point of listing an incident
// in three categories. Afterwards the incident is in each of them once.
func TestListingCutShort(t *testing.T) {
	s := Stored{ID{tubA, "incident-2026-11-22--15-54-53Z-qbh2rhi"}, ".flog.zst"}
	categories := []string{"a", "b", "c"}
	pending := s.Path() + " a b c\n"
	for _, tt := range []struct {
		name  string
		files map[string]string
	}{
		{"before it began", nil},
		{"after the intent", map[string]string{pendingFile: pending}},
		{"after an intent with names that are not categories", map[string]string{pendingFile: s.Path() + " a all ../b b B c\n"}},
		{"after one", map[string]string{pendingFile: pending, "classified/a": s.Path() + "\n"}},
		{"within the second", map[string]string{
			pendingFile: pending, "classified/a": s.Path() + "\n", "classified/b": "incidents/aaaa",
		}},
		{"after the last", map[string]string{
			pendingFile: pending, "classified/a": s.Path() + "\n", "classified/b": s.Path() + "\n", "classified/c": s.Path() + "\n",
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := openTestDir(t)
			place(t, dir, map[string]string{s.Path(): "x"})
			place(t, dir, tt.files)
			a := open(t, dir)
			// What the gatherer does at start with an incident that is not listed.
			if state, _ := a.State(s.ID); len(state.Categories) == 0 {
				if _, err := a.Classify(s, categories, 0); err != nil {
					t.Fatal(err)
				}
			}
			checkListed(t, dir, s, categories)
			if _, err := dir.Lstat(pendingFile); err == nil {
				t.Errorf("%s is still there", pendingFile)
			}
		})
	}
}

// checkListed fails the test unless s is in each of the categories once, and in
// no other.
func checkListed(t *testing.T, dir *durable.Dir, s Stored, categories []string) {
	t.Helper()
	files, err := dir.ReadDir(classifiedDir)
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if !slices.Contains(categories, file.Name()) {
			t.Errorf("classified/ has the file %q", file.Name())
		}
	}
	for _, category := range categories {
		n := 0
		for _, line := range lines(t, dir, classifiedDir+"/"+category) {
			if line == s.Path() {
				n++
			}
		}
		if n != 1 {
			t.Errorf("listed %d times as %s, want once", n, category)
		}
	}
}

// powerCuts runs work on a disk that stops at each operation of it, and again
// forgets, tears or keeps what was not synced; then it runs work once more, and
// check. prepare makes the disk's first content.
func powerCuts(t *testing.T, prepare func(*durable.Dir), work func(*durable.Dir) error, check func(*testing.T, *durable.Dir)) {
	t.Helper()
	newDisk := func() *durabletest.Disk {
		disk := durabletest.New()
		prepare(disk.Dir())
		return disk
	}
	disk := newDisk()
	disk.CrashAt(0)
	if err := work(disk.Dir()); err != nil {
		t.Fatal(err)
	}
	check(t, disk.Dir())
	operations := disk.Operations()
	for k := 1; k <= operations && !t.Failed(); k++ {
		for _, outcome := range durabletest.Outcomes {
			disk := newDisk()
			disk.CrashAt(k)
			work(disk.Dir())
			disk.Restart(outcome)
			if err := work(disk.Dir()); err != nil {
				t.Errorf("after it stopped: %v", err)
			}
			check(t, disk.Dir())
			if t.Failed() {
				t.Fatalf("stopped at operation %d of %d, %+v", k, operations, outcome)
			}
		}
	}
	if operations < 20 {
		t.Errorf("%d operations: this test passed over most of the work", operations)
	}
}

// TestListingPowerCut: the machine stops while an incident is listed in three
// categories. After the next start the incident is in each of them once.
func TestListingPowerCut(t *testing.T) {
	s := Stored{ID{tubA, "incident-2026-11-22--15-54-53Z-qbh2rhi"}, ".flog.zst"}
	categories := []string{"a", "b", "c"}
	list := func(dir *durable.Dir) error {
		a, err := Open(dir)
		if err != nil {
			return err
		}
		if state, _ := a.State(s.ID); len(state.Categories) > 0 {
			return nil
		}
		_, err = a.Classify(s, categories, 0)
		return err
	}
	prepare := func(dir *durable.Dir) { place(t, dir, map[string]string{s.Path(): "x"}) }
	powerCuts(t, prepare, list, func(t *testing.T, dir *durable.Dir) { checkListed(t, dir, s, categories) })
}

// TestStorePowerCut: the machine stops while an incident is stored, classified,
// published, replaced by a longer one, classified again and published again. The
// next start does what is missing: the long file is there, and its categories are
// listed and published once.
func TestStorePowerCut(t *testing.T) {
	id := ID{tubA, "incident-1"}
	work := func(dir *durable.Dir) error {
		a, err := Open(dir)
		if err != nil {
			return err
		}
		steps := func() error { // as package pipeline has them
			s, ok := a.State(id)
			if ok && (len(s.Categories) == 0 || s.Grown != 0) {
				sum, err := a.Summary(s.Stored)
				if err != nil {
					return err
				}
				if _, err := a.Classify(s.Stored, []string{"a", fmt.Sprintf("has-%d", sum.Events)}, s.Grown); err != nil {
					return err
				}
			}
			s, _ = a.State(id)
			for _, category := range s.Categories {
				if !slices.Contains(s.Published, category) {
					if err := a.AddPublished(s.Stored, category); err != nil {
						return err
					}
				}
			}
			return nil
		}
		if err := steps(); err != nil { // what an earlier run left
			return err
		}
		for n := 1; n <= 2; n++ {
			header, events := incidentDict(n)
			if s, ok := a.State(id); ok {
				if longer, err := a.Longer(s.Stored, header, n); err != nil || !longer {
					continue
				}
			}
			if _, err := a.Store(id, header, events, time.Unix(1700000001, 0)); err != nil {
				return err
			}
			if err := steps(); err != nil {
				return err
			}
		}
		return nil
	}
	powerCuts(t, func(dir *durable.Dir) {
		if err := Create(dir); err != nil {
			t.Fatal(err)
		}
	}, work, func(t *testing.T, dir *durable.Dir) {
		a := open(t, dir)
		s, _ := a.State(id)
		sum, err := a.Summary(s.Stored)
		if err != nil || sum.Events != 2 || s.Grown != 0 {
			t.Errorf("the summary is %+v, %v; grown is %d", sum, err, s.Grown)
		}
		categories := []string{"a", "has-1", "has-2"}
		if !slices.Contains(s.Categories, "has-1") { // it was replaced before it was classified
			categories = []string{"a", "has-2"}
		}
		checkListed(t, dir, s.Stored, categories)
		published := map[string]int{}
		for _, line := range lines(t, dir, publishedFile) {
			published[line]++
		}
		for _, category := range categories {
			if n := published[s.Path()+" "+category]; n != 1 {
				t.Errorf("published %d times as %s", n, category)
			}
		}
		files, err := dir.ReadDir(incidentsDir + "/" + tubA)
		if err != nil || len(files) != 1 {
			t.Errorf("%d files are beside the incident's (%v)", len(files)-1, err)
		}
	})
}

// TestGrownMeanwhile: an incident that is replaced while it is being classified
// still counts as grown.
func TestGrownMeanwhile(t *testing.T) {
	dir := openTestDir(t)
	a := open(t, dir)
	id := ID{tubA, "incident-1"}
	grown := func() int {
		s, _ := a.State(id)
		return s.Grown
	}
	var s Stored
	store := func(n int) {
		t.Helper()
		header, events := incidentDict(n)
		var err error
		if s, err = a.Store(id, header, events, time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	classify := func(category string, grown int) {
		t.Helper()
		if _, err := a.Classify(s, []string{category}, grown); err != nil {
			t.Fatal(err)
		}
	}
	store(1)
	before := grown()
	store(2)
	classify("a", before)
	second := grown()
	if before != 0 || second == 0 {
		t.Fatalf("grown is %d before the replacement and %d after it", before, second)
	}
	store(3)
	classify("b", second)
	if got := grown(); got == 0 || got == second {
		t.Errorf("grown is %d after a second replacement, and was %d", got, second)
	}
	if state, _ := open(t, dir).State(id); state.Grown == 0 {
		t.Error("the next start does not know that it has grown")
	}
	classify("c", grown())
	if state, _ := open(t, dir).State(id); state.Grown != 0 || grown() != 0 {
		t.Error("it still counts as grown")
	}
}

// TestListingFails: a file of classified/ cannot be written. That does not hold up
// incidents of other categories. When it can be written again, also after a
// restart, each incident is listed once.
func TestListingFails(t *testing.T) {
	for _, restart := range []bool{false, true} {
		dir := openTestDir(t)
		var incidents []Stored
		for i := range 5 {
			s := Stored{ID{tubA, fmt.Sprintf("incident-%d", i)}, ".flog.zst"}
			place(t, dir, map[string]string{s.Path(): "x"})
			incidents = append(incidents, s)
		}
		a := open(t, dir)
		if err := dir.Mkdir("classified/b"); err != nil { // in the way
			t.Fatal(err)
		}
		categories := [][]string{{"a", "b", "c"}, {"b"}, {"a", "b"}, {"c"}, {"a", "c"}}
		for range 2 {
			for i, s := range incidents {
				_, err := a.Classify(s, categories[i], 0)
				if wantErr := slices.Contains(categories[i], "b"); (err != nil) != wantErr {
					t.Errorf("Classify(%q) = %v", categories[i], err)
				}
			}
		}
		if err := dir.Remove("classified/b"); err != nil {
			t.Fatal(err)
		}
		if restart {
			a = open(t, dir)
			for _, i := range []int{0, 2} { // pending
				if state, _ := a.State(incidents[i].ID); !slices.Equal(state.Categories, categories[i]) {
					t.Errorf("categories are %q, want %q", state.Categories, categories[i])
				}
			}
		}
		listed := map[string]int{}
		for i, s := range incidents {
			if _, err := a.Classify(s, categories[i], 0); err != nil {
				t.Fatal(err)
			}
			for _, category := range categories[i] {
				listed[category+" "+s.Path()] = 1
			}
		}
		got := map[string]int{}
		for _, category := range []string{"a", "b", "c"} {
			for _, line := range lines(t, dir, "classified/"+category) {
				got[category+" "+line]++
			}
		}
		if !maps.Equal(got, listed) {
			t.Errorf("restarted %v: classified/ has %v, want %v", restart, got, listed)
		}
		if _, err := dir.Lstat(pendingFile); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is still there: %v", pendingFile, err)
		}
	}
}

func TestParsePath(t *testing.T) {
	for rel, want := range map[string]bool{
		"incidents/" + tubA + "/incident-1.flog.bz2":       true,
		"incidents/" + tubA + "/incident-1.flog":           true,
		"incidents/" + tubA + "/../incident-1.flog":        false,
		"incidents/../" + tubA + "/incident-1.flog":        false,
		"/incidents/" + tubA + "/incident-1.flog":          false,
		"incidents/" + tubA + "/latest":                    false,
		"incidents/ffff/incident-1.flog.zst":               false,
		"incidents/" + tubA + "/incident-1.flog.zst extra": false,
		"": false,
	} {
		s, ok := ParsePath(rel)
		if ok != want {
			t.Errorf("ParsePath(%q) = %v, want %v", rel, ok, want)
		}
		if ok && s.Path() != rel {
			t.Errorf("ParsePath(%q).Path() = %q", rel, s.Path())
		}
	}
}
