package gatherer

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/flogtool/flogtool/event"
	"github.com/flogtool/flogtool/incident"
	"github.com/flogtool/flogtool/internal/durable/durabletest"
)

const (
	tubA = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	tubB = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
)

func incidentDict(num int64) (header event.Dict, events []event.Dict) {
	trigger := event.Dict{
		{Key: "incarnation", Value: []any{"02b4d3658aa9c406", nil}}, {Key: "level", Value: int64(30)},
		{Key: "message", Value: "broke"}, {Key: "num", Value: num}, {Key: "time", Value: 1700000000.5},
	}
	return event.Dict{{Key: "trigger", Value: trigger}, {Key: "type", Value: "incident"}}, []event.Dict{trigger}
}

// listAll returns all lines of all files of classified/, as "CATEGORY line".
func listAll(t *testing.T, dir string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, classifiedDir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for l := range strings.Lines(string(text)) {
			lines = append(lines, filepath.Base(f)+" "+strings.TrimSuffix(l, "\n"))
		}
	}
	return lines
}

// TestListingCutShort kills the gatherer, so to speak, at each point of listing
// an incident in three categories: afterwards it stands in each of them once.
func TestListingCutShort(t *testing.T) {
	s := stored{incidentID{tubA, "incident-2026-11-22--15-54-53Z-qbh2rhi"}, ".flog.zst"}
	categories := []string{"a", "b", "c"}
	want := []string{"a " + s.path(), "b " + s.path(), "c " + s.path()}
	pending := s.path() + " a b c\n"
	for _, tt := range []struct {
		name  string
		files map[string]string
	}{
		{"before it began", nil},
		{"after the intent", map[string]string{pendingFile: pending}},
		{"after an intent with names that are not categories", map[string]string{pendingFile: s.path() + " a all ../b b B c\n"}},
		{"after one", map[string]string{pendingFile: pending, "classified/a": s.path() + "\n"}},
		{"within the second", map[string]string{
			pendingFile: pending, "classified/a": s.path() + "\n", "classified/b": "incidents/aaaa",
		}},
		{"after the last", map[string]string{
			pendingFile: pending, "classified/a": s.path() + "\n", "classified/b": s.path() + "\n", "classified/c": s.path() + "\n",
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := openTestDir(t)
			if err := dir.Mkdir(classifiedDir); err != nil {
				t.Fatal(err)
			}
			for name, text := range tt.files {
				if err := dir.WriteFile(name, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			l, err := openListing(dir)
			if err != nil {
				t.Fatal(err)
			}
			listed, err := l.read()
			if err != nil {
				t.Fatal(err)
			}
			// What the gatherer does at start with an incident nothing names.
			if len(listed[s.incidentID]) == 0 {
				if err := l.add(s, categories); err != nil {
					t.Fatal(err)
				}
			}
			got := slices.DeleteFunc(listAll(t, dir.Name()), func(l string) bool { return strings.HasSuffix(l, " incidents/aaaa") })
			if !slices.Equal(got, want) {
				t.Errorf("classified/ has %q, want %q", got, want)
			}
			if _, err := dir.Lstat(pendingFile); err == nil {
				t.Errorf("%s is still there", pendingFile)
			}
		})
	}
}

// TestListingPowerCut stops the machine at each operation of listing an incident in
// three categories, and again forgets, tears or keeps what was not synced. After
// the next start the incident stands in each category once.
func TestListingPowerCut(t *testing.T) {
	s := stored{incidentID{tubA, "incident-2026-11-22--15-54-53Z-qbh2rhi"}, ".flog.zst"}
	categories := []string{"a", "b", "c"}
	list := func(disk *durabletest.Disk) error {
		l, err := openListing(disk.Dir())
		if err != nil {
			return err
		}
		listed, err := l.read()
		if err != nil || len(listed[s.incidentID]) > 0 {
			return err
		}
		return l.add(s, categories)
	}
	disk := durabletest.New()
	if err := list(disk); err != nil {
		t.Fatal(err)
	}
	operations := disk.Operations()
	for k := 1; k <= operations; k++ {
		for _, outcome := range durabletest.Outcomes {
			disk := durabletest.New()
			disk.CrashAt(k)
			list(disk)
			disk.Restart(outcome)
			if err := list(disk); err != nil {
				t.Fatalf("stopped at operation %d, %+v: %v", k, outcome, err)
			}
			for _, category := range categories {
				n := 0
				err := disk.Dir().EachLine(classifiedDir+"/"+category, func(line string) {
					if line == s.path() {
						n++
					}
				})
				if n != 1 || err != nil {
					t.Errorf("stopped at operation %d, %+v: listed %d times as %s, %v", k, outcome, n, category, err)
				}
			}
		}
	}
	if operations < 20 {
		t.Errorf("%d operations: this test passed over most of the work", operations)
	}
}

// TestListingFails: adding that failed half way is repeated without doubling.
func TestListingFails(t *testing.T) {
	dir := openTestDir(t)
	l, err := openListing(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := dir.Mkdir("classified/b"); err != nil { // in the way
		t.Fatal(err)
	}
	s := stored{incidentID{tubA, "incident-x"}, ".flog.zst"}
	if err := l.add(s, []string{"a", "b", "c"}); err == nil {
		t.Fatal("add wrote into a directory")
	}
	if err := dir.Remove("classified/b"); err != nil {
		t.Fatal(err)
	}
	if err := l.add(s, []string{"a", "b", "c"}); err != nil {
		t.Fatal(err)
	}
	want := []string{"a " + s.path(), "b " + s.path(), "c " + s.path()}
	if got := listAll(t, dir.Name()); !slices.Equal(got, want) {
		t.Errorf("classified/ has %q, want %q", got, want)
	}
}

func TestArchive(t *testing.T) {
	dir := openTestDir(t)
	a, err := openArchive(dir)
	if err != nil {
		t.Fatal(err)
	}
	header, events := incidentDict(5)
	first, err := a.store(incidentID{tubA, "incident-1"}, header, events, time.Unix(1700000001, 0))
	if err != nil {
		t.Fatal(err)
	}
	if news, err := a.setAlso(tubB, first); !news || err != nil {
		t.Fatalf("setAlso = %v, %v", news, err)
	}
	if news, err := a.setAlso(tubB, first); news || err != nil {
		t.Fatalf("setAlso again = %v, %v", news, err)
	}
	for _, mark := range []string{"incident-2", "incident-1"} {
		if err := a.setLatest(tubA, mark); err != nil {
			t.Fatal(err)
		}
	}
	// What may lie about: an original's files, strays, a store cut short.
	for file, text := range map[string]string{
		"incidents/stray": "x",
		"incidents/" + tubB + "/incident-9.flog.bz2":     "x",
		"incidents/" + tubB + "/incident-8.flog":         "x",
		"incidents/" + tubB + "/notes.txt":               "x",
		"incidents/" + tubB + "/incident-7.flog.zst.tmp": "x",
		"incidents/" + tubA + "/incident-1.flog.bz2":     "x",
	} {
		if err := dir.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}

	for _, again := range []bool{false, true} { // the files are the truth
		if again {
			if a, err = openArchive(dir); err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, s := range a.all() {
				got = append(got, s.path())
			}
			want := []string{
				"incidents/" + tubA + "/incident-1.flog.zst",
				"incidents/" + tubB + "/incident-8.flog",
				"incidents/" + tubB + "/incident-9.flog.bz2",
			}
			if !slices.Equal(got, want) {
				t.Errorf("all = %q, want %q", got, want)
			}
		}
		if got := a.latest(tubA); got != "incident-2" {
			t.Errorf("latest = %q, want the greatest ever set", got)
		}
		if got := a.alsoTubs(first.incidentID); !slices.Equal(got, []string{tubB}) {
			t.Errorf("alsoTubs = %q, want %q", got, tubB)
		}
		if got := a.elsewhere(tubB, "incident-1"); len(got) != 1 || got[0] != first {
			t.Errorf("elsewhere = %v, want %v", got, first)
		}
	}
	f, err := dir.Open(first.path())
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	got, n, err := readIncident(f, first.path())
	if err != nil || n != 1 || string(event.AppendJSON(nil, got)) != string(event.AppendJSON(nil, header)) {
		t.Errorf("readIncident = %v, %d, %v", got, n, err)
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
		id, ending, ok := parsePath(rel)
		if ok != want {
			t.Errorf("parsePath(%q) = %v, want %v", rel, ok, want)
		}
		if ok && (stored{id, ending}).path() != rel {
			t.Errorf("parsePath(%q) is %q again", rel, (stored{id, ending}).path())
		}
	}
}

// TestResume compares the mark with a plain model: the greatest settled name
// that is smaller than all open and all lost ones.
func TestResume(t *testing.T) {
	seed := rand.Uint64()
	rng := rand.New(rand.NewPCG(seed, 0))
	for range 200 {
		r := newResume("incident-0")
		open, lost, settled := map[string]bool{}, map[string]bool{}, map[string]bool{"incident-0": true}
		mark := "incident-0"
		for range 100 {
			name := "incident-" + string(rune('1'+rng.IntN(60)))
			switch {
			case rng.IntN(100) == 0:
				r.lose(name)
				lost[name] = true
			case rng.IntN(2) == 0:
				r.announce(name)
				open[name] = true
			case open[name]:
				r.settle(name)
				delete(open, name)
				settled[name] = true
			}
			for s := range settled {
				below := true
				for o := range open {
					below = below && s < o
				}
				for l := range lost {
					below = below && s < l
				}
				// A mark never goes back: what is announced below it was
				// there when it was set.
				if below && s > mark {
					mark = s
				}
			}
			if r.mark != mark {
				t.Fatalf("seed %d: mark = %q, want %q; open %v, settled %v", seed, r.mark, mark, open, settled)
			}
		}
	}
}

func TestSubjects(t *testing.T) {
	for _, tt := range []struct {
		level    event.Level
		facility string
		want     string
	}{
		{event.Weird, "orders.db", "flog.event." + tubA + ".WEIRD.orders.db"},
		{31, "", "flog.event." + tubA + ".31.-"},
		{-5, "a b.*.>", "flog.event." + tubA + ".-5.a%20b.%2A.%3E"},
		{event.Bad, "..", "flog.event." + tubA + ".BAD.-.-.-"},
		{event.Bad, "né", "flog.event." + tubA + ".BAD.n%C3%A9"},
	} {
		if got := incident.EventSubject(tubA, tt.level, tt.facility); got != tt.want {
			t.Errorf("EventSubject(%v, %q) = %q, want %q", tt.level, tt.facility, got, tt.want)
		}
	}
	target := incident.CategorySubject("disk.full")
	subject := incident.IncidentSubject("disk.full", "02b4", "incident-1")
	if target != "flog.incident.disk%2Efull" || subject != "flog.incident.disk%2Efull.02b4.incident-1" {
		t.Errorf("the subjects are %q, %q", target, subject)
	}
}
