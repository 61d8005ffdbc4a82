package filter

import (
	"encoding/json"
	"regexp"
	"regexp/syntax"
	"strings"
)

// The patterns of matches are bounded before they are compiled. A pattern of ten bytes,
// such as (a?){1000}, compiles to megabytes, and an expression may have hundreds.
const (
	maxPatterns = 10_000 // instructions of all patterns of an expression together; a rule of ours has up to 300
	maxClasses  = 100    // classes such as \pL in all patterns: each is a table of kilobytes when it is parsed
	runesEach   = 10     // runes of a class that take as much memory as an instruction
)

// pattern is the compiled pattern of matches.
type pattern struct {
	re     *regexp.Regexp
	prefix string // every text that matches has it
	size   int    // instructions: what a match costs at most for each character
}

func newPattern(source string) (*pattern, error) {
	re, err := regexp.Compile(source)
	if err != nil {
		return nil, err
	}
	size, err := patternSize(source)
	if err != nil {
		return nil, err
	}
	prefix, _ := re.LiteralPrefix()
	return &pattern{re, prefix, size}, nil
}

// MarshalJSON returns the source. expr takes it for the text of a constant, and two
// expressions for the same if their texts are equal.
func (p *pattern) MarshalJSON() ([]byte, error) { return json.Marshal(p.re.String()) }

// patternSize returns how many instructions a pattern compiles to, or a little more. The
// error is that of a malformed pattern.
func patternSize(pattern string) (int, error) {
	re, err := syntax.Parse(pattern, syntax.Perl)
	if err != nil {
		return 0, err
	}
	return 3 + nodeSize(re), nil // the parser bounds the depth of re
}

// classes counts the named classes in a pattern.
func classes(pattern string) int {
	return strings.Count(pattern, `\p`) + strings.Count(pattern, `\P`)
}

func nodeSize(re *syntax.Regexp) int {
	size := 0
	for _, sub := range re.Sub {
		size += nodeSize(sub)
	}
	switch re.Op {
	case syntax.OpLiteral:
		return max(1, len(re.Rune))
	case syntax.OpCharClass:
		return 1 + len(re.Rune)/runesEach
	case syntax.OpCapture:
		return size + 2
	case syntax.OpStar, syntax.OpPlus, syntax.OpQuest:
		return size + 1
	case syntax.OpRepeat:
		times := re.Max
		if times < 0 {
			times = re.Min + 1
		}
		return min(max(1, times), 1<<10) * min(size+1, 1<<20)
	case syntax.OpAlternate:
		return size + len(re.Sub)
	}
	return size + 1
}
