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
