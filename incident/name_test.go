package incident_test

import (
	"regexp"
	"testing"
	"time"

	"github.com/flogtool/flogtool/incident"
)

var nameForm = regexp.MustCompile(`^incident-\d{4}-\d\d-\d\d--\d\d-\d\d-\d\dZ-[a-z2-7]{6}[aiqy]$`)

func TestNextNameAscends(t *testing.T) {
	start := time.Date(2026, 11, 22, 15, 54, 53, 0, time.UTC)
	clocks := map[string]func(i int) time.Time{
		"one second":          func(int) time.Time { return start },
		"a clock that runs":   func(i int) time.Time { return start.Add(time.Duration(i) * time.Second) },
		"an hour back midway": func(i int) time.Time { return start.Add(time.Duration(i/500) * -time.Hour) },
	}
	for name, clock := range clocks {
		t.Run(name, func(t *testing.T) {
			last := ""
			for i := range 1000 {
				next := incident.NextName(last, clock(i))
				if next <= last || !nameForm.MatchString(next) || !incident.ValidName(next) {
					t.Fatalf("name %d is %q after %q", i, next, last)
				}
				last = next
			}
		})
	}
}

func TestNextNameWhenASecondIsFull(t *testing.T) {
	last := "incident-2026-11-22--23-59-59Z-zzzzzzy"
	next := incident.NextName(last, time.Date(2026, 11, 22, 23, 0, 0, 0, time.UTC))
	if next <= last || incident.NameTime(next) != time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC) {
		t.Errorf("NextName(%q) = %q, want a name of the next second", last, next)
	}
}

func TestValidName(t *testing.T) {
	for name, want := range map[string]bool{
		"incident-2026-11-22--15-54-53Z-qbh2rhi":          true,
		"incident-from-elsewhere":                         true,
		"incident-2026-11-22--15-54-53Z-qbh2rhi.flog":     false,
		"incident-2026-11-22--15-54-53Z-qbh2rhi.flog.bz2": false,
		"incident-../../etc/passwd":                       false,
		"incident-\x00":                                   false,
		"incident-\n":                                     false,
		"latest":                                          false,
		"":                                                false,
		"incident-" + string(make([]byte, 5000)):          false,
	} {
		if got := incident.ValidName(name); got != want {
			t.Errorf("ValidName(%.60q) = %v, want %v", name, got, want)
		}
	}
}
