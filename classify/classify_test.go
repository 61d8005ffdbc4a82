package classify_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/flogtool/flogtool/classify"
	"github.com/flogtool/flogtool/event"
	"github.com/flogtool/flogtool/event/filter"
)

// write writes a file of a directory; each version has a time of its own.
func write(t *testing.T, dir, name, text string) {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	version = version.Add(time.Second)
	if err := os.Chtimes(path, version, version); err != nil {
		t.Fatal(err)
	}
}

var version = time.Unix(1700000000, 0)

func trigger(t *testing.T, text string) *classify.Incident {
	t.Helper()
	e, err := event.ParseEvent([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return &classify.Incident{Name: "incident-x", Trigger: e}
}

func load(t *testing.T, dir string) *classify.Rules {
	t.Helper()
	r, err := classify.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// A rule that does not compile is reported with its place; the others run, and
// so does its last good version.
func TestLoadReload(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "classify_disk.expr", "// full\nmessage contains \"disk\" ? \"disk\" : nil\n")
	write(t, dir, "classify_bad.expr", "// what\nmesage contains \"x\" ? \"y\" : nil\n")
	write(t, dir, "other_disk.expr", `"never"`)
	write(t, dir, "classify_disk.cases.jsonl", "")
	r := load(t, dir)
	inc := trigger(t, `{"message": "disk full", "level": 30}`)
	categories := func() string { return strings.Join(r.Classify(inc).Categories, ",") }

	if r.Len() != 1 || len(r.Errors()) != 1 {
		t.Fatalf("%d rules, errors %v", r.Len(), r.Errors())
	}
	want := dir + "/classify_bad.expr:2:1: unknown name mesage\n  mesage contains \"x\" ? \"y\" : nil\n  ^"
	if got := r.Errors()[0]; got.Line != 2 || got.Column != 1 || got.Error() != want {
		t.Errorf("error\n%v\nwant\n%s", got, want)
	}
	if got := categories(); got != "disk" {
		t.Errorf("categories %q beside a rule that does not compile", got)
	}

	if changed, err := r.Reload(); changed || err != nil {
		t.Errorf("Reload of what did not change: %v, %v", changed, err)
	}
	write(t, dir, "classify_bad.expr", `level >= WEIRD ? ["weird", "disk"] : nil`)
	if changed, err := r.Reload(); !changed || err != nil || len(r.Errors()) != 0 {
		t.Errorf("Reload of a mended file: %v, %v, %v", changed, err, r.Errors())
	}
	if got := categories(); got != "disk,weird" {
		t.Errorf("categories %q after the file was mended", got)
	}
	write(t, dir, "classify_bad.expr", `level >= `)
	if _, err := r.Reload(); err != nil || len(r.Errors()) != 1 {
		t.Errorf("Reload of a broken file: %v, %v", err, r.Errors())
	}
	if got := categories(); got != "disk,weird" {
		t.Errorf("categories %q: the last good version must stay in force", got)
	}
	if err := os.Remove(filepath.Join(dir, "classify_bad.expr")); err != nil {
		t.Fatal(err)
	}
	if changed, err := r.Reload(); !changed || err != nil {
		t.Errorf("Reload after a file is gone: %v, %v", changed, err)
	}
	if got := categories(); got != "disk" {
		t.Errorf("categories %q after the file is gone", got)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Reload(); err == nil || categories() != "disk" {
		t.Errorf("Reload of a directory that is gone: %v, categories %q", err, categories())
	}
	if _, err := classify.Load(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Load of a directory that is missing: %v", err)
	}
}

func TestUnknown(t *testing.T) {
	r := load(t, t.TempDir())
	if got := r.Classify(trigger(t, `{}`)).Categories; !slices.Equal(got, []string{"unknown"}) {
		t.Errorf("categories %q without rules", got)
	}
}

// A rule that fails is reported with the incident, and does not hide what the
// others say; one that keeps running over is switched off until it changes.
func TestFailingRules(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "classify_good.expr", `"good"`)
	write(t, dir, "classify_missing.expr", `attrs.ms > 5 ? "slow" : nil`)
	write(t, dir, "classify_slow.expr", `any(events, any(events, .num < -5)) ? "x" : nil`)
	write(t, dir, "classify_path.expr", `"../" + message`)
	r := load(t, dir)
	inc := trigger(t, `{"message": "m"}`)
	events := make([]*event.Event, 5000)
	for i := range events {
		events[i] = &event.Event{}
	}
	inc.Events = func() ([]*event.Event, error) { return events, nil }
	for round := range 5 {
		result := r.Classify(inc)
		if !slices.Equal(result.Categories, []string{"good"}) {
			t.Errorf("categories %q", result.Categories)
		}
		var lines []string
		for _, e := range result.Errors {
			lines = append(lines, strings.TrimPrefix(e.Error(), dir+"/"))
			if e.Incident != "incident-x" {
				t.Errorf("error for incident %q", e.Incident)
			}
			if over := errors.Is(e, filter.ErrOverrun); over != strings.Contains(e.File, "slow") || e.Off != (over && round == 2) {
				t.Errorf("round %d: %v: overrun %v, off %v", round, e, over, e.Off)
			}
		}
		want := 3
		if round > 2 {
			want = 2 // the slow one is off
		}
		if len(lines) != want {
			t.Errorf("round %d: errors %q", round, lines)
		}
	}
	write(t, dir, "classify_slow.expr", `any(events, .num < 0) ? "negative" : nil`)
	if _, err := r.Reload(); err != nil {
		t.Fatal(err)
	}
	if got := r.Classify(inc).Categories; !slices.Equal(got, []string{"good", "negative"}) {
		t.Errorf("categories %q after the slow rule was mended", got)
	}
}

func TestCases(t *testing.T) {
	fsys := fstest.MapFS{
		"classify_disk.expr": {Data: []byte(`any(before("5s"), .message == "low") ? "disk" : nil`)},
		"classify_disk.cases.jsonl": {Data: []byte(`
// the disk was low before
{"name": "low", "trigger": {"num": 1, "time": 5}, "events": [{"num": 0, "time": 3, "message": "low"}], "want": ["disk"]}
{"trigger": {"num": 1, "time": 15}, "events": [{"num": 0, "time": 3, "message": "low"}], "want": []}
{"trigger": {"num": 1, "time": 15}, "want": ["disk"]}
{"trigger": {"num": 1, "time": 15}, "wnat": ["disk"]}
{"trigger": {}}
{`)},
		"classify_gone.cases.jsonl": {Data: []byte("")},
	}
	r, err := classify.LoadFS(fsys, "rules")
	if err != nil {
		t.Fatal(err)
	}
	results, err := r.Test()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, c := range results {
		got = append(got, fmt.Sprintf("%s:%d %v", c.File, c.Line, c.OK()))
	}
	want := []string{
		"rules/classify_disk.cases.jsonl:3 true", "rules/classify_disk.cases.jsonl:4 true", "rules/classify_disk.cases.jsonl:5 false",
		"rules/classify_disk.cases.jsonl:6 false", "rules/classify_disk.cases.jsonl:7 false", "rules/classify_disk.cases.jsonl:8 false",
		"rules/classify_gone.cases.jsonl:1 false",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestExplain(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "classify_disk.expr", `message contains "disk" && level > BAD ? "disk" : nil`)
	write(t, dir, "classify_other.expr", `"other"`)
	r := load(t, dir)
	got, err := r.Explain(trigger(t, `{"message": "disk full", "level": 30}`), "disk")
	if err != nil || len(got) != 1 || len(got[0].Categories) != 0 {
		t.Fatalf("%v, %v", got, err)
	}
	var values []string
	for _, c := range got[0].Clauses {
		values = append(values, c.Text+" = "+c.Value)
	}
	if !slices.Contains(values, "level > BAD = false") || !slices.Contains(values, `message contains "disk" = true`) {
		t.Errorf("clauses %q", values)
	}
	if _, err := r.Explain(trigger(t, `{}`), "nosuch"); err == nil {
		t.Error("a rule that is not there was explained")
	}
}

// A path means the file at that path, also if the directory has a rule of the
// same name.
func TestExplainPath(t *testing.T) {
	dir, elsewhere := t.TempDir(), t.TempDir()
	write(t, dir, "classify_disk.expr", `"of the directory"`)
	write(t, dir, "classify_bad.expr", `levle > 3`)
	write(t, elsewhere, "classify_disk.expr", `message contains "disk" ? "disk" : nil`)
	write(t, elsewhere, "rule.expr", `level > BAD ? "bad" : nil`)
	write(t, elsewhere, "broken.expr", `mesage == ""`)
	r := load(t, dir)
	inc := trigger(t, `{"message": "disk full", "level": 30}`)
	for name, category := range map[string]string{elsewhere + "/classify_disk.expr": "disk", elsewhere + "/rule.expr": ""} {
		got, err := r.Explain(inc, name)
		if err != nil || len(got) != 1 || got[0].File != name || got[0].Err != nil || strings.Join(got[0].Categories, ",") != category {
			t.Errorf("Explain(%s) = %v, %v, want the category %q", name, got, err, category)
		}
	}
	for name, want := range map[string]string{
		elsewhere + "/broken.expr": elsewhere + "/broken.expr:1:1: unknown name mesage",
		"bad":                      dir + "/classify_bad.expr:1:1: unknown name levle",
	} {
		_, err := r.Explain(inc, name)
		if e, ok := errors.AsType[*classify.RuleError](err); !ok || !strings.HasPrefix(e.Error(), want) {
			t.Errorf("Explain(%s): %v, want %q", name, err, want)
		}
	}
	t.Chdir(elsewhere)
	if got, err := r.Explain(inc, "rule.expr"); err != nil || len(got) != 1 || got[0].File != "rule.expr" {
		t.Errorf("Explain of a file in the working directory = %v, %v", got, err)
	}
	if got, err := r.Explain(inc, "classify_disk.expr", "./classify_disk.expr"); err != nil || len(got) != 2 ||
		got[0].File != dir+"/classify_disk.expr" || got[1].File != "./classify_disk.expr" {
		t.Errorf("Explain of a name and of a path = %v, %v", got, err)
	}
	if _, err := r.Explain(inc, dir+"/classify_nosuch.expr"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Explain of a path without a file: %v", err)
	}
}

func TestOpen(t *testing.T) {
	const corpus = "../testdata/corpus/"
	f, err := classify.Open(corpus + "incidents/incident-2023-11-15--06-33-20Z-ly3bxfq.flog.bz2")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if n, _ := f.Trigger.Num(); n != 1 {
		t.Errorf("trigger %d", n)
	}
	events, err := f.Events()
	if err != nil || len(events) != 102 {
		t.Errorf("%d events, %v", len(events), err)
	}
	for name, want := range map[string]string{
		"flogs/01-levels.flog":                  "not an incident: its header, of type \"log-file-observer\"",
		"damaged/odd-incident-no-trigger.flog":  "has no trigger",
		"damaged/odd-headerless.flog":           "its first line is not a header",
		"damaged/bad-furl.flog":                 "a FURL file",
		"damaged/bad-truncated-mid-header.flog": "cut off",
		"nosuch":                                "no such file",
	} {
		if _, err := classify.Open(corpus + name); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Open(%s) = %v, want %q", name, err, want)
		}
	}
}
