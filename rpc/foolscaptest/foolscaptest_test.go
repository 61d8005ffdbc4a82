package foolscaptest_test

import (
	"testing"

	"github.com/flogtool/flogtool/rpc/foolscaptest"
)

func TestStart(t *testing.T) {
	p := foolscaptest.Start(t, `
import sys, foolscap
print("version", foolscap.__version__)
print("said", sys.stdin.readline().strip())
print("bye", file=sys.stderr)
print(sys.argv[1])
sys.exit(3)
`, "last")
	if m := p.Expect(t, `version (.*)`); m[1] == "" {
		t.Errorf("Expect = %q, want the version in its group", m)
	}
	p.Say(t, "hello")
	if line := p.Line(t); line != "said hello" {
		t.Errorf("Line = %q, want %q", line, "said hello")
	}
	if code := p.Wait(t); code != 3 {
		t.Errorf("Wait = %d, want 3", code)
	}
	if rest := p.Rest(t); len(rest) != 1 || rest[0] != "last" {
		t.Errorf("Rest = %q, want the last line", rest)
	}
	if got := p.Stderr(); got != "bye\n" {
		t.Errorf("Stderr = %q, want bye", got)
	}
}
