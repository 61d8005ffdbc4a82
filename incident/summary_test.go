package incident

import (
	"strings"
	"testing"
)

// TestSummaryIdentity: content and the TubID that stored it identify an incident; a
// name and an incarnation do not.
func TestSummaryIdentity(t *testing.T) {
	hash := strings.Repeat("0123456789abcdef", 4)
	s := Summary{Name: "incident-1", Incarnation: "02b4", Tubs: []string{"a", "b"}, Content: hash}
	for published, want := range map[string]bool{
		`{"content": "` + hash + `", "tubs": ["c"]}`:      true,
		`{"content": "other", "tubs": ["a"]}`:             true, // it has grown
		`{"content": "other", "tubs": ["c", "a"]}`:        false,
		`{"name": "incident-1", "incarnation": "02b4"}`:   false,
		`{"content": "", "tubs": []}`:                     false,
		`garbage`:                                         false,
		`{"content": "` + hash[:32] + `", "tubs": ["b"]}`: false,
	} {
		if got := s.Same([]byte(published)); got != want {
			t.Errorf("Same(%s) = %v, want %v", published, got, want)
		}
	}
	if got, want := s.Distinct("unknown"), "flog.incident.unknown.02b4.incident-1%23"+hash[:32]; got != want {
		t.Errorf("Distinct = %s, want %s", got, want)
	}
	if got, want := ObjectName("02b4", "incidents/a/incident-1.flog.zst", hash), "02b4/incident-1-"+hash[:32]+".flog.zst"; got != want {
		t.Errorf("ObjectName = %s, want %s", got, want)
	}
}
