package filter_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/flogtool/flogtool/event"
	"github.com/flogtool/flogtool/event/filter"
)

// warnings returns the warnings of a rule whose condition is given, one a line.
func warnings(t *testing.T, condition string) string {
	t.Helper()
	r, err := filter.CompileRule(condition + ` ? "x" : nil`)
	if err != nil {
		t.Fatalf("CompileRule(%s): %v", condition, err)
	}
	var lines []string
	for _, w := range r.Warnings() {
		lines = append(lines, fmt.Sprintf("%d:%d: %s", w.Line, w.Column, w.Msg))
	}
	return strings.Join(lines, "\n")
}

func TestContradictions(t *testing.T) {
	for condition, want := range map[string]string{
		`level > 40 && level < 10`:                        `1:21: level cannot be both > 40 and < 10: this is never true`,
		`level > 40 and level < 10`:                       `1:22: level cannot be both > 40 and < 10: this is never true`,
		`level >= BAD && level <= WEIRD`:                  `1:23: level cannot be both >= BAD and <= WEIRD: this is never true`,
		`40 < level && 10 > level`:                        `1:18: level cannot be both > 40 and < 10: this is never true`,
		`level == 10 && level == 20`:                      `1:22: level cannot be both 10 and 20: this is never true`,
		`level == 10 && level != 10`:                      `1:22: level cannot be both 10 and != 10: this is never true`,
		`level > 10 && level > 30 && level < 20`:          `1:35: level cannot be both > 30 and < 20: this is never true`,
		`level >= 10 && level <= 10 && level != 10`:       `1:37: level cannot be >= 10 and <= 10 and != 10 at once: this is never true`,
		`level > 10 && level < 11`:                        `1:21: level is a whole number and cannot be both > 10 and < 11: this is never true`,
		`level == 10.5`:                                   `1:7: level is a whole number and cannot be 10.5: this is never true`,
		`level in [10, 20] && level > 20`:                 `1:28: level cannot be both in [10, 20] and > 20: this is never true`,
		`level in [10, 20] && level not in [20, 10, 5]`:   `1:32: level cannot be both in [10, 20] and not in [20, 10, 5]: this is never true`,
		`time > 20.5 && time < 20`:                        `1:21: time cannot be both > 20.5 and < 20: this is never true`,
		`time > 5 && time < 5.0`:                          `1:18: time cannot be both > 5 and < 5: this is never true`,
		`num < -5 && num > -3`:                            `1:17: num cannot be both < -5 and > -3: this is never true`,
		`attrs.ms > 5 && attrs.ms < 3`:                    `1:26: attrs.ms cannot be both > 5 and < 3: this is never true`,
		`attrs.ms == "x" && attrs.ms > 3`:                 `1:29: attrs.ms cannot be both "x" and > 3: this is never true`,
		`attrs.ms == nil && attrs.ms > 3`:                 `1:29: attrs.ms cannot be both nil and > 3: this is never true`,
		`(attrs.ms ?? 0) > 3 && (attrs.ms ?? 0) < 2`:      `1:40: attrs.ms ?? 0 cannot be both > 3 and < 2: this is never true`,
		`len(message) > 5 && len(message) < 2`:            `1:34: len(message) cannot be both > 5 and < 2: this is never true`,
		`num % 2 == 0 && num % 2 == 1`:                    `1:25: num % 2 cannot be both 0 and 1: this is never true`,
		`facility == "a" && level > 3 && facility == "b"`: `1:42: facility cannot be both "a" and "b": this is never true`,
		`facility == "a" && facility != "a"`:              `1:29: facility cannot be both "a" and != "a": this is never true`,
		`facility == "a" && facility in ["b", "c"]`:       `1:29: facility cannot be both "a" and in ["b", "c"]: this is never true`,
		`"a" == facility && facility == "b"`:              `1:29: facility cannot be both "a" and "b": this is never true`,

		// Negated.
		`!(level > 10) && level > 20`:                   `1:24: level cannot be both <= 10 and > 20: this is never true`,
		`level > 20 && not (level >= 15)`:               `1:26: level cannot be both > 20 and < 15: this is never true`,
		`!(level < 10 || level > 20) && level == 5`:     `1:38: level cannot be both >= 10 and 5: this is never true`,
		`!(level > 40 && level < 10)`:                   `1:23: level cannot be both > 40 and < 10: this is never true`,
		`level > 20 && !(level > 10 || facility == "")`: `1:23: level cannot be both > 20 and <= 10: this is never true`,
		`!(facility == "a") && facility == "a"`:         `1:32: facility cannot be both != "a" and "a": this is never true`,

		// Nested: the other alternatives can hold.
		`facility == "a" || level > 40 && level < 10`:                                      `1:40: level cannot be both > 40 and < 10: this is never true`,
		`level < 10 && (level > 40 || facility == "a")`:                                    `1:22: level cannot be both < 10 and > 40: this is never true`,
		`(level > 40 || facility == "a") && level < 10`:                                    `1:8: level cannot be both < 10 and > 40: this is never true`,
		`(level > 40 || level == 35) && level < 10`:                                        "1:8: level cannot be both < 10 and > 40: this is never true\n1:22: level cannot be both < 10 and 35: this is never true",
		`(level > 40 || level == 35) && num > 3 ? level < 10 : false`:                      `1:48: level cannot be both (> 40 or 35) and < 10: this is never true`,
		`num > 3 && (level > 40 || level == 35 || level in [50, 60]) ? level < 10 : false`: `1:69: level cannot be both (> 40 or 35 or in [50, 60]) and < 10: this is never true`,
		`any(events, .level > 40 && .level < 10)`:                                          `1:35: .level cannot be both > 40 and < 10: this is never true`,
		`count(events, .level > 40 && .level < 10) > 3`:                                    `1:37: .level cannot be both > 40 and < 10: this is never true`,
		`level < 10 && any(events, .num > 3 && level > 40)`:                                `1:45: level cannot be both < 10 and > 40: this is never true`,
		`len(filter(events, .level > 40 && .level < 10)) > 3`:                              `1:42: .level cannot be both > 40 and < 10: this is never true`,
		`level > 40 ? level < 10 : level > 5`:                                              `1:20: level cannot be both > 40 and < 10: this is never true`,
		`level > 40 ? level < 50 : level > 45`:                                             `1:33: level cannot be both <= 40 and > 45: this is never true`,
		`trigger.level > 40 && trigger.level < 10`:                                         `1:37: trigger.level cannot be both > 40 and < 10: this is never true`,
	} {
		if got := warnings(t, condition); got != want {
			t.Errorf("%s: warned of\n%s\nwant\n%s", condition, got, want)
		}
	}
	var got strings.Builder
	r, err := filter.CompileRule("level > 40 ? \"a\"\n: level > 50 ? \"b\" : nil")
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range r.Warnings() {
		got.WriteString(w.Error() + "\n")
	}
	if want := "2:9: level cannot be both <= 40 and > 50: this is never true\n  : level > 50 ? \"b\" : nil\n          ^\n"; got.String() != want {
		t.Errorf("a branch that is never reached: warned of\n%swant\n%s", got.String(), want)
	}
}

// Conditions that can hold give no warning.
func TestNoContradictions(t *testing.T) {
	for _, condition := range []string{
		`level > 10 && level < 40`, `level >= 10 && level <= 10`, `level > 10 && level < 12`, `level > 10.5 && level < 11.5`,
		`level == 10 || level == 20`, `level < 10 || level > 40`, `level != 10 && level != 20`, `level == 10.0`,
		`time > 10 && time < 11`, `time > 10 && time < 10.0001`, `time >= 10 && time <= 10.0`, `time == 10.5`,
		`attrs.ms > 10 && attrs.ms < 11`, `attrs.ms != 5 && attrs.ms != "x"`, `attrs.ms in [1, "x"] && attrs.ms == "x"`,
		`num in [1, 2, 3] && num not in [1, 2]`, `num > -5 && num < 0`, `-num > 3 && num > 3`,
		`level > 40 && num < 10`, `level > 40 && trigger.num < 10 && event.level < 10`,
		`attrs.a > 40 && attrs.b < 10`, `attrs.a.n > 40 && attrs.n < 10`, `attrs["a"] > 3 && attrs["b"] < 2`,
		`facility == "a" || facility == "b"`, `facility != "a" && facility != "b"`, `facility == "a" && facility in ["a", "b"]`,
		`facility == "a" && message == "b"`, `umid in ["a", "b"] && umid != "a"`, `facility startsWith "a" && facility == "b"`,
		`facility >= "a" && facility < "b"`,
		// NaN is neither.
		`!(time > 5) && !(time <= 5)`, `!(attrs.ms > 5) && !(attrs.ms <= 5)`, `time != 5 && !(time < 5) && !(time > 5)`,
		// Not a number, and so not equal.
		`attrs.ms != 5 && attrs.ms != nil`, `!(attrs.ms in [1, 2]) && attrs.ms in [1, 2, 3]`,
		// One comparison makes another redundant, and both can hold.
		`level > 10 || level > 20`, `level < 10 && !(level > 40)`, `level > 40 && level > 10`, `!(level > 40) && !(level > 50)`,
		`level > 40 ? level > 30 : level < 50`, `!(level < 10) || level > 40`, `level < 10 && (level > 40) == false`,
		`level < 10 && none(events, level > 40)`, `level < 10 && !any(events, level > 40)`, `level < 10 && all(events, level > 40)`,
		// Loops: each event has its own level.
		`any(events, .level > 40) && any(events, .level < 10)`, `all(events, .level > 40) && all(events, .level < 10)`,
		`any(events, .level > 40 && any(events, .level < 10))`, `level > 40 && any(events, .level < 10)`,
		`count(events, .level > 40) > 3 && count(events, .level > 40) < 10`,
		`any(events, let x = .level; x > 40) && any(events, let x = .level; x < 10)`,
		// Beyond 2^53 whole numbers and fractions do not compare exactly.
		`num > 9007199254740992 && num < 9007199254740994`, `num > 18014398509481985 && num <= 18014398509481984.0`,
		`num >= 9007199254740991 && num <= 9007199254740993`, `num > -9007199254740994 && num < -9007199254740992`,
		`level > 40 ? true : level < 10`, `level > num && level < num`, `level > attrs.a && level < attrs.a`,
		`(level > 40 ? 5 : 15) > 10 && (level > 40 ? 5 : 15) < 20`, `1 in [1, 2] && level > 3`,
	} {
		if got := warnings(t, condition); got != "" && !strings.Contains(got, "the condition is always") {
			t.Errorf("%s: warned of\n%s", condition, got)
		}
	}
}

// A long condition takes no long time, and its warnings are short.
func TestContradictionsLong(t *testing.T) {
	var deep, wide strings.Builder
	for i := range 60 {
		fmt.Fprintf(&deep, "level > %d && (level == %d || ", i, i+50)
		fmt.Fprintf(&wide, "level == %d || ", i)
	}
	deep.WriteString("level < 0" + strings.Repeat(")", 60))
	start := time.Now()
	for _, condition := range []string{deep.String(), "(" + wide.String() + "level == 70) ? level > 80 : false"} {
		got := warnings(t, condition)
		if n := len(got); n == 0 || n > 300 {
			t.Errorf("warned in %d bytes: %s", n, got)
		}
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("took %v", took)
	}
}

// Conjunctions of random comparisons give a warning if, and only if, no value
// meets them. Of other conditions, a comparison that is warned of can be replaced
// by its opposite, and the condition holds for the same values as before.
func TestRandomContradictions(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	var events []*event.Event
	for x := -5.0; x <= 5; x += 0.25 {
		events = append(events, &event.Event{Fields: []event.Field{{Key: "level", Value: int64(math.Floor(x))}, {Key: "time", Value: x}, {Key: "x", Value: x}}})
	}
	for _, odd := range []any{math.NaN(), "text", nil, int64(2)} {
		events = append(events, &event.Event{Fields: []event.Field{{Key: "level", Value: int64(rnd.IntN(7) - 3)}, {Key: "time", Value: odd}, {Key: "x", Value: odd}}})
	}
	// truth returns for which events the condition holds. It counts an error as
	// false, since the rule then gives no category.
	truth := func(condition string) string {
		r, err := filter.CompileRule("(" + condition + `) ? "x" : nil`)
		if err != nil {
			t.Fatalf("%s: %v", condition, err)
		}
		var b strings.Builder
		for _, e := range events {
			got, err := r.Run(&filter.RuleInput{Trigger: e})
			fmt.Fprint(&b, err == nil && len(got) == 1, " ")
		}
		return b.String()
	}
	comparison := func(name string) string {
		number := func() string {
			if rnd.IntN(3) == 0 {
				return fmt.Sprintf("%.1f", float64(rnd.IntN(13)-6)/2)
			}
			return fmt.Sprint(rnd.IntN(7) - 3)
		}
		if rnd.IntN(6) == 0 {
			return fmt.Sprintf("%s in [%s, %s]", name, number(), number())
		}
		return fmt.Sprintf("%s %s %s", name, []string{"<", "<=", ">", ">=", "==", "!="}[rnd.IntN(6)], number())
	}
	warned := 0
	for range 3000 {
		name := []string{"level", "time", "attrs.x"}[rnd.IntN(3)]
		parts := make([]string, 1+rnd.IntN(4))
		for i := range parts {
			if parts[i] = comparison(name); rnd.IntN(4) == 0 {
				parts[i] = "!(" + parts[i] + ")"
			}
		}
		condition := strings.Join(parts, " && ")
		got, never := warnings(t, condition), !strings.Contains(truth(condition), "true")
		if (got != "") != never {
			t.Fatalf("%s: never true: %v, warned of %q", condition, never, got)
		}
		if never {
			warned++
		}
	}
	if warned < 100 {
		t.Errorf("only %d contradictions", warned)
	}

	// A condition of several alternatives; each place of a comparison is $.
	type place struct {
		text string
		want bool // what matters of it
	}
	var places []place
	var shape func(depth int, want bool) string
	shape = func(depth int, want bool) string {
		if depth == 0 || rnd.IntN(4) == 0 {
			places = append(places, place{comparison("level"), want})
			return "$"
		}
		switch rnd.IntN(5) {
		case 0:
			return "!(" + shape(depth-1, !want) + ")"
		case 1, 2: // it is looked at as if it were not negated
			return "(" + shape(depth-1, true) + " && " + shape(depth-1, true) + ")"
		}
		return "(" + shape(depth-1, want) + " || " + shape(depth-1, want) + ")"
	}
	filled := func(shape string, texts []string) (condition string, columns []int) {
		for _, text := range texts {
			before, after, _ := strings.Cut(shape, "$")
			op := strings.IndexByte(text, ' ') + 1
			columns = append(columns, len(condition)+len(before)+op+1)
			condition += before + text
			shape = after
		}
		return condition + shape, columns
	}
	warned = 0
	for range 3000 {
		places = nil
		s := shape(4, true)
		texts := make([]string, len(places))
		for i, p := range places {
			texts[i] = p.text
		}
		condition, columns := filled(s, texts)
		got := warnings(t, condition)
		for i, column := range columns {
			if !strings.Contains("\n"+got, fmt.Sprintf("\n1:%d: level", column)) {
				continue
			}
			warned++
			without := append([]string(nil), texts...)
			if without[i] = "level != level"; !places[i].want {
				without[i] = "level == level"
			}
			if other, _ := filled(s, without); truth(other) != truth(condition) {
				t.Fatalf("%s: warned of\n%s\nthough %s differs", condition, got, other)
			}
		}
	}
	if warned < 100 {
		t.Errorf("only %d comparisons were warned of", warned)
	}
}
