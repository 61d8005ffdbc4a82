package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/flogtool/flogtool/event"
	"github.com/flogtool/flogtool/event/flogfile"
	"github.com/flogtool/flogtool/event/pytext"
)

// goldenCase is one run of the original over the corpus.
type goldenCase struct {
	ID     string   `json:"id"`
	Argv   []string `json:"argv"`
	TZ     string   `json:"tz"`
	RC     int      `json:"rc"`
	Stdout string   `json:"stdout"`
	Stderr string   `json:"stderr"`
	Crash  string   `json:"crash"`
	Result string   `json:"result"`
	IsBz2  bool     `json:"result_is_bz2"`
	CopyOf string   `json:"copy_of"`
	Left   []string `json:"left"`
}

// inCorpus changes the working directory to the corpus, and returns the cases whose id begins
// with one of the prefixes.
func inCorpus(t *testing.T, prefixes ...string) []goldenCase {
	t.Helper()
	t.Chdir(filepath.Join("..", "..", "testdata", "corpus"))
	data, err := os.ReadFile("golden/index.json")
	if err != nil {
		t.Fatal(err)
	}
	var index struct{ Cases []goldenCase }
	if err := json.Unmarshal(data, &index); err != nil {
		t.Fatal(err)
	}
	var cases []goldenCase
	for _, c := range index.Cases {
		if slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(c.ID, p) }) {
			cases = append(cases, c)
		}
	}
	if len(cases) == 0 {
		t.Fatalf("no case begins with %q", prefixes)
	}
	return cases
}

// runCase runs our flogtool in the time zone tz.
func runCase(t *testing.T, tz string, argv []string) (stdout, stderr string, code int) {
	t.Helper()
	t.Setenv("TZ", tz)
	var out, errw bytes.Buffer
	code = run(t.Context(), argv, strings.NewReader(""), &out, &errw)
	return out.String(), errw.String(), code
}

// asPython returns the output of dump -v with the Python source form, which the original
// prints, in place of the JSON of headers and events.
func asPython(t *testing.T, output, file string) string {
	t.Helper()
	r, err := flogfile.Open(file)
	if err != nil {
		return output
	}
	defer r.Close()
	var b strings.Builder
	replace := func(json, repr string) {
		if before, after, ok := strings.Cut(output, json); ok {
			b.WriteString(before + repr)
			output = after
		}
	}
	for {
		l, err := r.Next()
		if err != nil {
			return b.String() + output
		}
		if raw, ok := l.RawWrapper("header"); ok {
			whole, err := event.ParseJSON(l.Raw)
			if err != nil {
				t.Fatal(err)
			}
			replace(`{"header": `+string(flogfile.AppendCanonical(nil, raw))+"}", string(pytext.AppendRepr(nil, whole)))
		}
		if l.IsObject() {
			replace(": "+string(l.AppendEventJSON(nil)), ": "+string(pytext.AppendRepr(nil, l.Dict())))
		}
	}
}

var update = flag.Bool("update", false, "rewrite our golden files and manual pages")

// compareGolden compares text with a golden file in testdata.
func compareGolden(t *testing.T, name, text string) {
	t.Helper()
	path := filepath.Join(testdata, name)
	if *update {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(text, "\n")); diff != "" {
		t.Errorf("%s (-want +got; -update rewrites it):\n%s", name, diff)
	}
}

// testdata is the absolute path of the golden files.
var testdata = func() string {
	dir, err := filepath.Abs("testdata")
	if err != nil {
		panic(err)
	}
	return dir
}()

var modes = regexp.MustCompile(`^[^ ]*#[^ ]* (rx\(.*?\) emit\(.*?\)|[^ ]*): `)

// Our dump prints what the original's prints for each file of the corpus. The lines that are
// meant to differ are in dump-differs.golden. Where the original fails, our output begins
// with what it has printed.
func TestDumpGolden(t *testing.T) {
	differs := make(map[string]bool)
	for _, c := range inCorpus(t, "dump/", "dump-tz/") {
		t.Run(c.ID, func(t *testing.T) {
			data, err := os.ReadFile(c.Stdout)
			if err != nil {
				t.Fatal(err)
			}
			file := c.Argv[len(c.Argv)-1]
			got, stderr, code := runCase(t, c.TZ, c.Argv)
			if slices.Contains(c.Argv, "-v") {
				got = asPython(t, got, file)
			}
			gots, wants := strings.SplitAfter(got, "\n"), strings.SplitAfter(string(data), "\n")
			if c.RC == 0 {
				if code != 0 {
					t.Errorf("exit code %d, want 0; stderr %s", code, stderr)
				}
				if len(gots) != len(wants) {
					t.Errorf("%d lines, want %d", len(gots), len(wants))
				}
			} else {
				// The original prints an event that it cannot format, and then fails.
				wants = slices.DeleteFunc(wants, func(s string) bool { return s == "" || strings.HasPrefix(s, "unformattable event ") })
				if len(gots) < len(wants) {
					t.Errorf("%d lines, want at least %d", len(gots), len(wants))
				}
				if c.Crash == "" && strings.HasPrefix(c.Stderr, "Error: ") && (code != 1 || firstLine(stderr) != firstLine(c.Stderr)) {
					t.Errorf("exit code %d, stderr %q, want %d, %q", code, stderr, c.RC, c.Stderr)
				}
			}
			for i := range min(len(gots), len(wants)) {
				g, w := gots[i], wants[i]
				if g == w {
					continue
				}
				// Only the text may differ.
				gp, wp := modes.FindString(g), modes.FindString(w)
				if gp != wp || gp == "" {
					t.Errorf("line %d\n got %.300q\nwant %.300q", i+1, g, w)
					continue
				}
				g, w = g[len(gp):], w[len(wp):]
				for g != "" && w != "" && g[len(g)-1] == w[len(w)-1] && !strings.HasSuffix(w, "failed]") {
					g, w = g[:len(g)-1], w[:len(w)-1]
				}
				differs[fmt.Sprintf("%s\n  original: %s\n  ours:     %s\n", file, w, g)] = true
			}
		})
	}
	compareGolden(t, "dump-differs.golden", strings.Join(slices.Sorted(maps.Keys(differs)), ""))
}

func firstLine(s string) string {
	s, _, _ = strings.Cut(s, "\n")
	return s
}

// The whole output of dump for each damaged file.
func TestDumpDamagedGolden(t *testing.T) {
	var b strings.Builder
	for _, c := range inCorpus(t, "dump/damaged/", "dump/flogs/13-surrogate.flog") {
		if len(c.Argv) > 2 || c.RC == 0 {
			continue
		}
		stdout, stderr, code := runCase(t, c.TZ, c.Argv)
		if lines := strings.SplitAfter(stdout, "\n"); len(lines) > 60 {
			stdout = fmt.Sprintf("%s… %d more lines\n", strings.Join(lines[:20], ""), len(lines)-20)
		}
		fmt.Fprintf(&b, "== flogtool %s: exit code %d\n%s-- stderr\n%s\n", strings.Join(c.Argv, " "), code, stdout, stderr)
	}
	compareGolden(t, "dump-damaged.golden", b.String())
}
