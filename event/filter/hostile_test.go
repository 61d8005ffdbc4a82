package filter_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/flogtool/flogtool/event"
	"github.com/flogtool/flogtool/event/filter"
	"github.com/flogtool/flogtool/internal/costtest"
)

// repeated returns an expression of up to 16 KiB, which is part so many times. part may
// have a verb for a number that differs each time.
func repeated(times int, part, join, end string) string {
	var b strings.Builder
	for i := 0; i < times && b.Len()+len(part)+len(join)+len(end)+8 < 16<<10; i++ {
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
		{"a large pattern again and again", repeated(460, `umid matches "(a?){1000}"`, " || ", ` ? "x" : nil`), "compile to 10006 instructions and more, the limit is 10000"},
		{"different large patterns", repeated(460, `umid matches "(%da?){900}"`, " || ", ` ? "x" : nil`), "compile to"},
		{"one large pattern", `umid matches "((a?){30}){30}((b?){30}){30}((c?){30}){30}" ? "x" : nil`, "compile to"},
		{"a large class again and again", repeated(460, `umid matches "(\\pL?){480}"`, " || ", ` ? "x" : nil`), "compile to"},
		{"many classes", `umid matches "` + strings.Repeat(`\\pL`, 4000) + `" ? "x" : nil`, "classes"},
		{"many classes in one", `umid matches "(?i)[` + strings.Repeat(`\\pL`, 4000) + `]" ? "x" : nil`, "classes"},
		{"as many classes as fit, in many patterns", repeated(460, `umid matches "(?i)[`+strings.Repeat(`\\PL`, 100)+`]"`, " || ", ` ? "x" : nil`), "200 classes and more, the limit is 100"},
		{"nested repetitions", `umid matches "((((a{10}){10}){10}){10}){10}" ? "x" : nil`, "invalid repeat count"},
		{"as many small patterns as fit", repeated(460, `umid matches "^a%d|b"`, " || ", ` ? "x" : nil`), ""},
		{"brackets", strings.Repeat("(", 8000) + "1" + strings.Repeat(")", 8000), "brackets"},
		{"lists in lists", strings.Repeat("[", 8000) + "1" + strings.Repeat("]", 8000), "brackets"},
		{"as many brackets as are allowed", strings.Repeat("(", 2000) + "nil" + strings.Repeat(")", 2000), ""},
		{"calls in calls", strings.Repeat("len(", 1900) + "message" + strings.Repeat(")", 1900), ""},
		{"not after not", strings.Repeat("not ", 4000) + "true", "parts"},
		{"conditions in conditions", strings.Repeat("level>1?1:", 1600) + "nil", "parts"},
		{"a long list of texts", `umid in [` + repeated(460, `"%d"`, ", ", `] ? "x" : nil`), ""},
		{"texts that are joined when compiling", repeated(460, `"aaaaaaaaaaaaaaaaaaaaaaa"`, " + ", ``), ""},
		{"comparisons that contradict each other", repeated(460, `umid == "%d"`, " && ", ` ? "x" : nil`), ""},
		{"comparisons that exclude each other", repeated(460, `!(umid == "%d" || level != %[1]d)`, " || ", ` ? "x" : nil`), ""},
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

// hostileEvent is as large as an event in a ring can be, and all that a filter can make
// of it takes long.
func hostileEvent() *event.Event {
	numbers := make([]any, 30_000)
	for i := range numbers {
		numbers[i] = int64(i)
	}
	nested := make([]any, 5000)
	for i := range nested {
		nested[i] = event.Dict{{Key: "k", Value: []any{int64(i)}}}
	}
	return &event.Event{Fields: []event.Field{
		{Key: "num", Value: int64(1)}, {Key: "level", Value: int64(30)},
		{Key: "text", Value: strings.Repeat("ab", 30_000)}, {Key: "chars", Value: strings.Repeat("éà", 15_000)},
		{Key: "numbers", Value: numbers}, {Key: "more", Value: append(numbers[:len(numbers)-1:len(numbers)-1], int64(-1))},
		{Key: "nested", Value: nested}, {Key: "nested2", Value: append(nested[:len(nested)-1:len(nested)-1], int64(-1))},
		{Key: "format", Value: strings.Repeat("%(text)s", 1000)}, {Key: "message", Value: "m"},
	}}
}

// hostileFilters take far more than a second for one event, if nothing ends them.
var hostileFilters = map[string]string{
	"loops in loops":               `count(attrs.numbers, count(attrs.numbers, # > 0) > 40000) > 0`,
	"loops after loops":            repeated(150, `any(attrs.numbers, # == -%d - 1)`, " || ", ""),
	"members of lists":             `any(attrs.numbers, -1 - # in attrs.numbers)`,
	"lists that are compared":      `any(attrs.numbers, attrs.numbers == attrs.more)`,
	"nested lists":                 `any(attrs.numbers, attrs.nested == attrs.nested2)`,
	"nested lists, without a loop": repeated(240, `attrs.nested == attrs.nested2`, " || ", ""),
	"lists as text":                `any(attrs.numbers, string(attrs.nested) == "")`,
	"sums":                         `any(attrs.numbers, sum(attrs.numbers) == -1)`,
	"the greatest":                 `any(attrs.numbers, max(attrs.numbers) == -1)`,
	"a text that is searched":      `any(attrs.numbers, attrs.text contains "` + strings.Repeat("ab", 50) + `c")`,
	"searched without a loop":      repeated(320, `attrs.text contains "`+strings.Repeat("ab", 5)+`c%d"`, " || ", ""),
	"the last place of a text":     `any(attrs.numbers, lastIndexOf(attrs.text, "` + strings.Repeat("ab", 50) + `c") > 0)`,
	"trimming":                     `any(attrs.numbers, trim(attrs.text, "ab") == "x")`,
	"trimming with many":           `trim(attrs.chars, attrs.chars) == "x"`,
	"the same text in a loop":      `any(attrs.numbers, fmt(event) == "")`,
	"a large pattern":              `attrs.text matches "(a?b?){900}c"`,
	"a large pattern in a loop":    `any(attrs.numbers, attrs.text matches "([ab]?){1000}c")`,
	"a small pattern in a loop":    `any(attrs.numbers, attrs.text matches "(a|b)*c")`,
	"patterns without a loop":      repeated(320, `attrs.text matches "(a|b)*%d"`, " || ", ""),
	"a pattern with a prefix":      `any(attrs.numbers, attrs.text matches "ab(a|b)*c")`,
}

// A filter ends within 10 ms of its context, whatever it does: when its subscriber has
// left nothing is done for it.
func TestHostileFilterStops(t *testing.T) {
	e := hostileEvent()
	for name, source := range hostileFilters {
		t.Run(name, func(t *testing.T) {
			f, err := filter.Compile(source)
			if err != nil {
				t.Fatal(err)
			}
			gone := errors.New("the subscriber has left")
			var late []time.Duration
			for range 9 { // other processes may delay some
				ctx, cancel := context.WithCancelCause(t.Context())
				var left time.Time
				time.AfterFunc(30*time.Millisecond, func() { left = time.Now(); cancel(gone) })
				for err = nil; !errors.Is(err, gone) && ctx.Err() == nil; {
					_, err = f.MatchContext(ctx, e, filter.Origin{})
				}
				late = append(late, time.Since(left))
				if _, err := f.MatchContext(ctx, e, filter.Origin{}); !errors.Is(err, gone) {
					t.Errorf("after the end of its context: %v", err)
				}
			}
			slices.Sort(late)
			t.Logf("%v to %v", late[len(late)/2], late[len(late)-1])
			if limit := 10 * time.Millisecond * costtest.Slowness; late[len(late)/2] > limit {
				t.Errorf("ends %v after its context, more than %v", late[len(late)/2], limit)
			}
		})
	}
}
