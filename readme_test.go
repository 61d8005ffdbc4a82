package flogtool_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/flogtool/flogtool/event/filter"
)

// TestREADME keeps what the README shows equal to what is compiled and there.
func TestREADME(t *testing.T) {
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	readme := string(text)

	source, err := os.ReadFile("examples/quickstart/main.go")
	if err != nil {
		t.Fatal(err)
	}
	_, program, _ := strings.Cut(string(source), "\npackage main")
	if !strings.Contains(readme, "```go\npackage main"+program+"```") {
		t.Error("the example in README.md is not examples/quickstart/main.go")
	}

	// The rule in it is one.
	rule := regexp.MustCompile("(?s)```\n(// The pool.*?)```").FindStringSubmatch(readme)
	if rule == nil {
		t.Error("README.md shows no rule")
	} else if _, err := filter.CompileRule(rule[1]); err != nil {
		t.Errorf("the rule in README.md: %v", err)
	}

	// Its first screen has the two commands that a reader tries first.
	first := strings.Join(strings.SplitN(readme, "\n", 41)[:40], "\n")
	for _, command := range []string{"go run ./cmd/flogtool demo", "make test"} {
		if !strings.Contains(first, "\n"+command+"\n") {
			t.Errorf("the first 40 lines of README.md do not show the command %q", command)
		}
	}

	for _, file := range []string{"README.md", "CONTRIBUTING.md"} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`\]\(([^)#:]+)\)`).FindAllStringSubmatch(string(text), -1) {
			if _, err := os.Stat(filepath.FromSlash(m[1])); err != nil {
				t.Errorf("%s links to %s: %v", file, m[1], err)
			}
		}
	}
}
