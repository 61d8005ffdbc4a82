package tail_test

import (
	"io"
	"log/slog"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/flogtool/flogtool/event"
	"github.com/flogtool/flogtool/event/filter"
	"github.com/flogtool/flogtool/internal/testwait"
	"github.com/flogtool/flogtool/logport"
	"github.com/flogtool/flogtool/rpc/foolscaptest"
	"github.com/flogtool/flogtool/tail"
)

// texts returns the texts of the lines that are events.
func texts(lines []string) (out []string) {
	for _, line := range lines {
		if _, text, ok := strings.Cut(line, "]#"); ok {
			_, text, _ = strings.Cut(text, " ")
			out = append(out, text)
		}
	}
	return out
}

// notes is a writer that sends each piece of text that is written.
type notes chan string

func (n notes) Write(text []byte) (int, error) {
	n <- string(text)
	return len(text), nil
}

// Last, Around and Parents choose among the events that our publisher has buffered, as they
// do in a file. Later events are shown if the other conditions hold.
func TestTailBacklogOurs(t *testing.T) {
	app := "app"
	only, err := filter.Compile(`facility == "app" || message == "one"`)
	if err != nil {
		t.Fatal(err)
	}
	// The messages of the events. The parent of six is one.
	const none = "none"
	names := []string{"one", "two", "three", "four", "five", "six", "seven"}
	for _, test := range []struct {
		name            string
		around, parents string
		sel             *tail.Select
		want            []string
	}{
		{"last", "", "", &tail.Select{Last: 2}, []string{"six", "seven"}},
		{"last of the selected", "", "", &tail.Select{Last: 3, Facility: &app}, []string{"four", "six", "seven"}},
		{"last of fewer", "", "", &tail.Select{Last: 10, Only: only, Facility: &app}, []string{"two", "three", "four", "six", "seven"}},
		{"around", "three", "", &tail.Select{Context: 1}, []string{"two", "three", "four"}},
		{"around among the selected", "six", "", &tail.Select{Context: 2, Facility: &app}, []string{"three", "four", "six", "seven"}},
		{"around none", none, "", &tail.Select{Context: 2}, nil},
		{"parents", "", "six", &tail.Select{}, []string{"one", "six"}},
		// The chain leads through one, for which the other condition does not hold.
		{"parents among the selected", "", "six", &tail.Select{Facility: &app}, []string{"six"}},
		{"last of parents", "", "six", &tail.Select{Last: 1}, []string{"six"}},
		{"parents of none", "", none, &tail.Select{}, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			lp, target := openLogport(t)
			log := slog.New(lp.Handler())
			nums := map[string]event.Num{none: 1 << 40}
			for _, name := range names {
				attrs := []slog.Attr{slog.String("facility", "app")}
				switch name {
				case "one", "five":
					attrs[0] = slog.String("facility", "other")
				case "six":
					attrs = append(attrs, logport.Parent(nums["one"]))
				}
				nums[name] = lp.Log(t.Context(), slog.LevelInfo, name, attrs...)
			}
			if test.around != "" {
				test.sel.Around = &tail.EventRef{Num: nums[test.around]}
			}
			if test.parents != "" {
				test.sel.Parents = &tail.EventRef{Num: nums[test.parents]}
			}
			notes := make(notes, 10)
			next, stop := startFollow(t, tail.Follow{Targets: []tail.Target{target}, Select: test.sel, Style: tail.Style{Zone: time.UTC}, Notes: notes})
			got := []string{}
			if test.want != nil {
				last := test.want[len(test.want)-1]
				got = texts(until(t, next, " "+last+"$"))
			} else if note := <-notes; !strings.Contains(note, "no event #"+strconv.FormatUint(1<<40, 10)) {
				t.Errorf("noted %q", note)
			}
			log.Info("elsewhere", "facility", "other")
			log.Info("live", "facility", "app")
			got = append(got, texts(until(t, next, " live$"))...)
			want := slices.Clone(test.want)
			if test.sel.Facility == nil {
				want = append(want, "elsewhere")
			}
			if want = append(want, "live"); !slices.Equal(got, want) {
				t.Errorf("shown %q, want %q", got, want)
			}
			if err := stop(); err != nil {
				t.Error(err)
			}
		})
	}
}

// The original's publisher does not say where its buffered events end, and the follower
// finds it out.
func TestTailBacklogOriginal(t *testing.T) {
	dir := t.TempDir()
	furl := filepath.Join(dir, "logport.furl")
	prog := foolscaptest.Start(t, app, furl, strconv.Itoa(testwait.FreePort(t)))
	prog.Expect(t, `^ready`)
	target := target(t, furl)
	// Show all buffered events, for their numbers and to see that there are many.
	io.WriteString(prog.Stdin, strings.Repeat("mark many\n", 150)+"mark first\nmark second\nmark third\n")
	next, stop := startFollow(t, tail.Follow{Targets: []tail.Target{target}, CatchUp: true, Style: tail.Style{Zone: time.UTC}})
	lines := until(t, next, " third$")
	stop()
	second := regexp.MustCompile(`#(\d+) `).FindStringSubmatch(lines[len(lines)-2])
	num, err := strconv.ParseUint(second[1], 10, 64)
	if err != nil || len(lines) < 100 {
		t.Fatalf("%d lines, %v", len(lines), err)
	}
	for i, test := range []struct {
		sel  *tail.Select
		want []string
	}{
		{&tail.Select{Last: 3}, []string{"first", "second", "third"}},
		{&tail.Select{Around: &tail.EventRef{Num: event.Num(num)}, Context: 2}, []string{"many", "first", "second", "third"}},
		{&tail.Select{Parents: &tail.EventRef{Num: event.Num(num)}}, []string{"second"}},
	} {
		// Connecting logs events as well, and the cases before have logged some.
		live := "live" + strconv.Itoa(i)
		test.sel.Grep = regexp.MustCompile("^(many|first|second|third|" + live + ")$")
		next, stop := startFollow(t, tail.Follow{Targets: []tail.Target{target}, Select: test.sel, Style: tail.Style{Zone: time.UTC}})
		got := texts(until(t, next, " "+test.want[len(test.want)-1]+"$"))
		io.WriteString(prog.Stdin, "mark "+live+"\n")
		got = append(got, texts(until(t, next, " "+live+"$"))...)
		if want := append(test.want, live); !slices.Equal(got, want) {
			t.Errorf("shown %q, want %q", got, want)
		}
		if err := stop(); err != nil {
			t.Error(err)
		}
	}
}
