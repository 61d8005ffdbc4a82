package rules_test

import (
	"strings"
	"testing"

	"github.com/flogtool/flogtool/classify"
	"github.com/flogtool/flogtool/rules"
)

// Every shipped rule compiles without a warning, has cases that match and cases
// that do not, and gives in each what it must.
func TestShippedRules(t *testing.T) {
	r, err := classify.LoadFS(rules.Files, "rules")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range append(r.Errors(), r.Warnings()...) {
		t.Error(e)
	}
	results, err := r.Test()
	if err != nil {
		t.Fatal(err)
	}
	positive, negative := map[string]int{}, map[string]int{}
	for _, c := range results {
		if !c.OK() {
			t.Errorf("%s:%d %s: got %q, want %q, %v", c.File, c.Line, c.Name, c.Got, c.Want, c.Err)
		}
		if len(c.Want) > 0 {
			positive[c.Rule]++
		} else {
			negative[c.Rule]++
		}
	}
	if r.Len() < 30 {
		t.Errorf("only %d rules", r.Len())
	}
	entries, err := rules.Files.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		name := entry.Name()
		if !strings.HasSuffix(name, ".expr") {
			continue
		}
		if file := "rules/" + name; positive[file] == 0 || negative[file] == 0 {
			t.Errorf("%s: %d cases that match, %d that do not", name, positive[file], negative[file])
		}
		source, err := rules.Files.ReadFile(name)
		if err != nil || !strings.HasPrefix(string(source), "// ") {
			t.Errorf("%s: no comment that says what to do, %v", name, err)
		}
	}
}
