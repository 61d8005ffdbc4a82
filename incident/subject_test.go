package incident

import (
	"testing"

	"github.com/flogtool/flogtool/event"
)

func TestSubjects(t *testing.T) {
	const tubA = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	for _, tt := range []struct {
		level    event.Level
		facility string
		want     string
	}{
		{event.Weird, "orders.db", "flog.event." + tubA + ".WEIRD.orders.db"},
		{31, "", "flog.event." + tubA + ".31.-"},
		{-5, "a b.*.>", "flog.event." + tubA + ".-5.a%20b.%2A.%3E"},
		{event.Bad, "..", "flog.event." + tubA + ".BAD.-.-.-"},
		{event.Bad, "né", "flog.event." + tubA + ".BAD.n%C3%A9"},
	} {
		if got := EventSubject(tubA, tt.level, tt.facility); got != tt.want {
			t.Errorf("EventSubject(%v, %q) = %q, want %q", tt.level, tt.facility, got, tt.want)
		}
	}
	target := CategorySubject("disk.full")
	subject := IncidentSubject("disk.full", "02b4", "incident-1")
	if target != "flog.incident.disk%2Efull" || subject != "flog.incident.disk%2Efull.02b4.incident-1" {
		t.Errorf("the subjects are %q, %q", target, subject)
	}
}
