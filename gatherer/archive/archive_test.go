package archive

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/flogtool/flogtool/event"
	"github.com/flogtool/flogtool/internal/durable"
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

func openTestDir(t *testing.T) *durable.Dir {
	t.Helper()
	dir, err := durable.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dir.Close() })
	return dir
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
	s := Stored{ID{tubA, "incident-2026-11-22--15-54-53Z-qbh2rhi"}, ".flog.zst"}
	categories := []string{"a", "b", "c"}
	want := []string{"a " + s.Path(), "b " + s.Path(), "c " + s.Path()}
	pending := s.Path() + " a b c\n"
	for _, tt := range []struct {
		name  string
		files map[string]string
	}{
		{"before it began", nil},
		{"after the intent", map[string]string{pendingFile: pending}},
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
			if err := dir.Mkdir(classifiedDir); err != nil {
				t.Fatal(err)
			}
			for name, text := range tt.files {
				if err := dir.WriteFile(name, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			l, err := OpenListing(dir)
			if err != nil {
				t.Fatal(err)
			}
			listed, err := l.Read()
			if err != nil {
				t.Fatal(err)
			}
			// What the gatherer does at start with an incident nothing names.
			if len(listed[s.ID]) == 0 {
				if err := l.Add(s, categories); err != nil {
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
	s := Stored{ID{tubA, "incident-2026-11-22--15-54-53Z-qbh2rhi"}, ".flog.zst"}
	categories := []string{"a", "b", "c"}
	list := func(disk *durabletest.Disk) error {
		l, err := OpenListing(disk.Dir())
		if err != nil {
			return err
		}
		listed, err := l.Read()
		if err != nil || len(listed[s.ID]) > 0 {
			return err
		}
		return l.Add(s, categories)
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
					if line == s.Path() {
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
	l, err := OpenListing(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := dir.Mkdir("classified/b"); err != nil { // in the way
		t.Fatal(err)
	}
	s := Stored{ID{tubA, "incident-x"}, ".flog.zst"}
	if err := l.Add(s, []string{"a", "b", "c"}); err == nil {
		t.Fatal("add wrote into a directory")
	}
	if err := dir.Remove("classified/b"); err != nil {
		t.Fatal(err)
	}
	if err := l.Add(s, []string{"a", "b", "c"}); err != nil {
		t.Fatal(err)
	}
	want := []string{"a " + s.Path(), "b " + s.Path(), "c " + s.Path()}
	if got := listAll(t, dir.Name()); !slices.Equal(got, want) {
		t.Errorf("classified/ has %q, want %q", got, want)
	}
}

func TestArchive(t *testing.T) {
	dir := openTestDir(t)
	a, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	header, events := incidentDict(5)
	first, err := a.Store(ID{tubA, "incident-1"}, header, events, time.Unix(1700000001, 0))
	if err != nil {
		t.Fatal(err)
	}
	if news, err := a.SetAlso(tubB, first); !news || err != nil {
		t.Fatalf("SetAlso = %v, %v", news, err)
	}
	if news, err := a.SetAlso(tubB, first); news || err != nil {
		t.Fatalf("SetAlso again = %v, %v", news, err)
	}
	for _, mark := range []string{"incident-2", "incident-1"} {
		if err := a.SetLatest(tubA, mark); err != nil {
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
			if a, err = Open(dir); err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, s := range a.All() {
				got = append(got, s.Path())
			}
			want := []string{
				"incidents/" + tubA + "/incident-1.flog.zst",
				"incidents/" + tubB + "/incident-8.flog",
				"incidents/" + tubB + "/incident-9.flog.bz2",
			}
			if !slices.Equal(got, want) {
				t.Errorf("All = %q, want %q", got, want)
			}
		}
		if got := a.Latest(tubA); got != "incident-2" {
			t.Errorf("Latest = %q, want the greatest ever set", got)
		}
		if got := a.AlsoTubs(first.ID); !slices.Equal(got, []string{tubB}) {
			t.Errorf("AlsoTubs = %q, want %q", got, tubB)
		}
		if got := a.Elsewhere(tubB, "incident-1"); len(got) != 1 || got[0] != first {
			t.Errorf("Elsewhere = %v, want %v", got, first)
		}
	}
	f, err := dir.Open(first.Path())
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	got, n, err := readIncident(f, first.Path())
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
		id, ending, ok := ParsePath(rel)
		if ok != want {
			t.Errorf("ParsePath(%q) = %v, want %v", rel, ok, want)
		}
		if ok && (Stored{id, ending}).Path() != rel {
			t.Errorf("ParsePath(%q) is %q again", rel, (Stored{id, ending}).Path())
		}
	}
}
