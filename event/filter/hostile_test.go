package filter_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/flogtool/flogtool/event"
	"github.com/flogtool/flogtool/event/filter"
	"github.com/flogtool/flogtool/internal/costtest"
)

// repeated returns an expression of 16 KiB and of as many parts as are allowed, which is
// part again and again. part may have a verb for a number that differs each time.
func repeated(part, join, end string) string {
	var b strings.Builder
	for i := 0; i < 460 && b.Len()+len(part)+len(join)+len(end)+8 < 16<<10; i++ {
		if i > 0 {
			b.WriteString(join)
		}
		if strings.Contains(part, "%d") {
			fmt.Fprintf(&b, part, i)
		} else {
			b.WriteString(part)
		}
	}
	return b.String() + end
}

// What an expression compiles to is bounded, and so are the time and the memory that
// compiling it takes, whatever its author writes.
func TestHostileSource(t *testing.T) {
	for _, c := range []struct{ name, source, want string }{
		{"a large pattern again and again", repeated(`umid matches "(a?){1000}"`, " || ", ` ? "x" : nil`), "compile to 10006 instructions and more, the limit is 10000"},
		{"different large patterns", repeated(`umid matches "(%da?){900}"`, " || ", ` ? "x" : nil`), "compile to"},
		{"one large pattern", `umid matches "((a?){30}){30}((b?){30}){30}((c?){30}){30}" ? "x" : nil`, "compile to"},
		{"a large class again and again", repeated(`umid matches "(\\pL?){480}"`, " || ", ` ? "x" : nil`), "compile to"},
		{"many classes", `umid matches "` + strings.Repeat(`\\pL`, 4000) + `" ? "x" : nil`, "classes"},
		{"many classes in one", `umid matches "(?i)[` + strings.Repeat(`\\pL`, 4000) + `]" ? "x" : nil`, "classes"},
		{"as many classes as fit, in many patterns", repeated(`umid matches "(?i)[`+strings.Repeat(`\\PL`, 100)+`]"`, " || ", ` ? "x" : nil`), "200 classes and more, the limit is 100"},
		{"nested repetitions", `umid matches "((((a{10}){10}){10}){10}){10}" ? "x" : nil`, "invalid repeat count"},
		{"as many small patterns as fit", repeated(`umid matches "^a%d|b"`, " || ", ` ? "x" : nil`), ""},
		{"brackets", strings.Repeat("(", 8000) + "1" + strings.Repeat(")", 8000), "brackets"},
		{"lists in lists", strings.Repeat("[", 8000) + "1" + strings.Repeat("]", 8000), "brackets"},
		{"as many brackets as are allowed", strings.Repeat("(", 2000) + "nil" + strings.Repeat(")", 2000), ""},
		{"calls in calls", strings.Repeat("len(", 1900) + "message" + strings.Repeat(")", 1900), ""},
		{"not after not", strings.Repeat("not ", 4000) + "true", "parts"},
		{"conditions in conditions", strings.Repeat("level>1?1:", 1600) + "nil", "parts"},
		{"a long list of texts", `umid in [` + repeated(`"%d"`, ", ", `] ? "x" : nil`), ""},
		{"texts that are joined when compiling", repeated(`"aaaaaaaaaaaaaaaaaaaaaaa"`, " + ", ``), ""},
		{"comparisons that contradict each other", repeated(`umid == "%d"`, " && ", ` ? "x" : nil`), ""},
		{"comparisons that exclude each other", repeated(`!(umid == "%d" || level != %[1]d)`, " || ", ` ? "x" : nil`), ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			var rule *filter.Rule
			var err error
			costtest.Measure(func() {
				if rule, err = filter.CompileRule(c.source); err == nil {
					rule.Warnings()
				}
			}).Check(t, 500*time.Millisecond, 32<<20)
			if c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("the error is %.300v, want %q", err, c.want)
			}
			if c.want == "" && err != nil && !strings.Contains(err.Error(), "cannot be a category") {
				t.Logf("%.200v", err)
			}
		})
	}
}

// What an event holds does not fill the log by way of an error that quotes it.
func TestHostileErrorText(t *testing.T) {
	e := &event.Event{Fields: []event.Field{{Key: "text", Value: strings.Repeat("é\n", 30_000)}, {Key: "list", Value: []any{}}}}
	for _, source := range []string{
		`int(attrs.text) > 0`, `float(attrs.text) > 0`, `attrs.list[attrs.text] == 1`, `attrs.text > 5`, `level in attrs.text`,
	} {
		f, err := filter.Compile(source)
		if err != nil {
			t.Fatal(err)
		}
		_, err = f.Match(e)
		fe, ok := errors.AsType[*filter.Error](err)
		if !ok || len(fe.Error()) > 1000 || strings.Contains(fe.Msg, "\n") {
			t.Errorf("%s: an error of %d bytes: %.200v", source, len(err.Error()), err)
		}
	}
	rule, err := filter.CompileRule(`len(before(attrs.text)) > 0 ? "x" : nil`)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := rule.Run(&filter.RuleInput{Trigger: e}); err == nil || len(err.Error()) > 1000 {
		t.Errorf("a duration: an error of %d bytes: %.200v", len(err.Error()), err)
	}
}
