package flogtool_test

import (
	"os"
	"regexp"
	"testing"
)

// TestChain keeps the way of an event in docs/design.md true: every function that it names
// stands in the file that it names, and a newcomer has at most 25 to read.
func TestChain(t *testing.T) {
	doc, err := os.ReadFile("docs/design.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := regexp.MustCompile("(?m)^\\| \\d+ \\| `([^`]+\\.go)` \\| `(?:\\(\\*(\\w+)\\)\\.)?(\\w+)` \\|").FindAllStringSubmatch(string(doc), -1)
	if len(rows) < 10 || len(rows) > 25 {
		t.Fatalf("the way of an event has %d functions, want 10 to 25", len(rows))
	}
	for _, row := range rows {
		file, receiver, name := row[1], row[2], row[3]
		source, err := os.ReadFile(file)
		if err != nil {
			t.Error(err)
			continue
		}
		form := `(?m)^func ` + name + `\(`
		if receiver != "" {
			form = `(?m)^func \(\w+ \*?` + receiver + `\) ` + name + `\(`
		}
		if !regexp.MustCompile(form).Match(source) {
			t.Errorf("%s has no function %s of %q", file, name, receiver)
		}
	}
}
