package filter_test

import (
	"strings"
	"testing"

	"github.com/flogtool/flogtool/event/filter"
)

// Expressions that the meter counts: loops and patterns.
func BenchmarkMetered(b *testing.B) {
	for name, source := range map[string]string{
		"loop":    `any(events, .message contains "disk") ? "x" : nil`,
		"compare": `count(events, .attrs.ms == trigger.attrs.ms) > 5 ? "x" : nil`,
		"match":   `any(events, .message matches "^event [a-z]+$") ? "x" : nil`,
		"text":    `message matches "disk (full|quota)" || message matches "(?i)no space left" ? "x" : nil`,
		"long":    `failure matches "KeyError: .*" || failure matches "(?s)x.py.*nothing" ? "x" : nil`,
	} {
		b.Run(name, func(b *testing.B) {
			rule, err := filter.CompileRule(source)
			if err != nil {
				b.Fatal(err)
			}
			in := incidentInput(b)
			in.Trigger.Set("failure", "[Failure: KeyError]\n"+strings.Repeat(" File x.py, line 3, in some function of a program\n", 100))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := rule.Run(in); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// A filter with a share that is large enough costs what it costs without.
func BenchmarkShared(b *testing.B) {
	f, err := filter.NewShare(1000).Compile(b.Context(), `level >= WEIRD && facility startsWith "net."`)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	e := parse(b, sample)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := f.Match(b.Context(), e, filter.Origin{}); err != nil {
			b.Fatal(err)
		}
	}
}
