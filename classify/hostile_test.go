package classify_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/flogtool/flogtool/classify"
	"github.com/flogtool/flogtool/event/flogfile"
	"github.com/flogtool/flogtool/internal/costtest"
)

// hostileFile writes a compressed incident and returns its path. trigger is JSON.
func hostileFile(t testing.TB, trigger string, lines ...string) string {
	t.Helper()
	plain := flogfile.Magic + `{"header": {"type": "incident", "trigger": ` + trigger + "}}\n" + strings.Join(append(lines, ""), "\n")
	var b bytes.Buffer
	w, err := zstd.NewWriter(&b)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte(plain)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), "incident-2026-01-01--00-00-00Z-abcdefg.flog.zst")
	if err := os.WriteFile(name, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// ruleSet returns rules with these expressions.
func ruleSet(t testing.TB, expressions ...string) *classify.Rules {
	t.Helper()
	dir := t.TempDir()
	for i, e := range expressions {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("classify_%d.expr", i)), []byte(e), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	rules, err := classify.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range rules.Errors() {
		t.Fatal(e)
	}
	return rules
}

// classifyFile opens an incident and classifies it, as a gatherer does.
func classifyFile(t testing.TB, rules *classify.Rules, name string) classify.Result {
	t.Helper()
	inc, err := classify.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer inc.Close()
	return rules.Classify(&inc.Incident)
}

// A small file repeats a directive that asks for 64 KiB each time. A gatherer whose
// rules use the message of such a trigger must not spend what the file asks for.
func TestWideFormat(t *testing.T) {
	name := hostileFile(t, `{"num": 1, "level": 40, "incarnation": ["x", null], "format": "`+strings.Repeat("%(num)65535d", 20_000)+`"}`)
	info, err := os.Stat(name)
	if err != nil || info.Size() > 1000 {
		t.Fatalf("the file has %d bytes, %v", info.Size(), err)
	}
	rules := ruleSet(t, `message contains "1" ? "found" : nil`)
	var result classify.Result
	costtest.Measure(func() { result = classifyFile(t, rules, name) }).Check(t, time.Second, 32<<20)
	if len(result.Errors) > 0 || !slices.Equal(result.Categories, []string{"found"}) {
		t.Errorf("classified as %q, %v", result.Categories, result.Errors)
	}
}

// The events of an incident make more text together than each of them may.
func TestManyWideEvents(t *testing.T) {
	event := `{"d": {"num": 1, "level": 20, "format": "` + strings.Repeat("%(num)65535d", 20) + `"}}`
	name := hostileFile(t, `{"num": 1, "level": 40, "incarnation": ["x", null]}`, slices.Repeat([]string{event}, 10_000)...)
	for _, source := range []string{
		`any(events, .message contains "2") ? "found" : nil`, `any(events, fmt(#) contains "2") ? "found" : nil`,
	} {
		rules := ruleSet(t, source)
		costtest.Measure(func() { classifyFile(t, rules, name) }).Check(t, 2*time.Second, 96<<20)
	}
}

// The events hold more values than text.
func TestManyValues(t *testing.T) {
	event := `{"d": {"num": 1, "level": 20, "a": [` + strings.Repeat("[], ", 200_000) + `0], "b": "` + strings.Repeat("x", 100_000) + `"}}`
	name := hostileFile(t, `{"num": 1, "level": 40, "incarnation": ["x", null], "a": [`+strings.Repeat("{}, ", 200_000)+`0]}`, slices.Repeat([]string{event}, 200)...)
	for _, source := range []string{
		`any(events, "a" in .attrs && len(.attrs) == 0) ? "found" : nil`, `string(attrs) contains "nothing" ? "found" : nil`,
		`any(events, len(.attrs.a) == 1) ? "found" : nil`, `string(header) contains "nothing" ? "found" : nil`,
	} {
		rules := ruleSet(t, source)
		var result classify.Result
		costtest.Measure(func() { result = classifyFile(t, rules, name) }).Check(t, 5*time.Second, 96<<20)
		if len(result.Errors) > 0 {
			t.Errorf("%s: %.300v", source, result.Errors[0])
		}
	}
}
