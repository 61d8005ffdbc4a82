package filter

import (
	"regexp/syntax"
	"testing"
)

// What is bounded is an estimate. It is never too low, and not much too high.
func TestPatternSize(t *testing.T) {
	for _, pattern := range []string{
		``, `a`, `abc`, `^a.*b$`, `a|b|cd|e`, `(a?){10}`, `((a{3}){4}){5}`, `(ab*c+?){2,}`, `[a-z]{3,7}`, `\pL+`, `(?i)\pL`, `\bfoo\b|bar`,
		`(?s)Traceback.*KeyError`, `a{0}`, `a{0,3}`, `(a?){1000}`, `(\pL?){480}`, `()|()|()`, `(?:)*`, `[^a]`, `disk (full|quota)`, `x{1000}`,
	} {
		re, err := syntax.Parse(pattern, syntax.Perl)
		if err != nil {
			t.Fatal(err)
		}
		prog, err := syntax.Compile(re.Simplify())
		if err != nil {
			t.Fatal(err)
		}
		runes := 0
		for _, inst := range prog.Inst {
			if inst.Op == syntax.InstRune && len(inst.Rune) > 2 {
				runes += len(inst.Rune)
			}
		}
		real := len(prog.Inst) + runes/runesEach
		if size, err := patternSize(pattern); err != nil || size < real || size > 2*real+10 {
			t.Errorf("patternSize(%s) = %d, %v, and it compiles to %d instructions and %d runes", pattern, size, err, len(prog.Inst), runes)
		}
	}
}
