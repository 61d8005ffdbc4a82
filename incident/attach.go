package incident

import (
	"fmt"
	"io"
	"os"
	"runtime/pprof"
	"runtime/trace"
	"strings"
	"time"

	"github.com/flogtool/flogtool/internal/durable"
)

// Attachment is something kept beside an incident's flog file, taken when its
// recording begins.
type Attachment struct {
	Name  string                // of the part, and of the file after the incident's name; see ValidAttachment
	Write func(io.Writer) error // an error leaves the attachment out and is reported
}

// Goroutines attaches the stacks of all goroutines, as text.
func Goroutines() Attachment {
	return Attachment{"goroutines.txt", func(w io.Writer) error { return pprof.Lookup("goroutine").WriteTo(w, 2) }}
}

// Heap attaches a heap profile, for `go tool pprof`.
func Heap() Attachment {
	return Attachment{"heap.pprof", func(w io.Writer) error { return pprof.Lookup("heap").WriteTo(w, 0) }}
}

// ExecutionTrace attaches the last seconds of Go's execution trace, for `go tool
// trace`: at least as much as atLeast says, and at most 16 MiB. A process has one such
// recorder; if the application uses it already, that is the error. stop ends the
// recording.
func ExecutionTrace(atLeast time.Duration) (a Attachment, stop func(), err error) {
	r := trace.NewFlightRecorder(trace.FlightRecorderConfig{MinAge: atLeast, MaxBytes: 16 << 20})
	if err := r.Start(); err != nil {
		return Attachment{}, nil, fmt.Errorf("incident: %w", err)
	}
	return Attachment{"trace", func(w io.Writer) error {
		_, err := r.WriteTo(w)
		return err
	}}, r.Stop, nil
}

// ValidAttachment reports whether name can be that of an attachment: letters, digits,
// dots, dashes and underscores, at most 64 bytes, and not the ending of a flog file or
// of a temporary file.
func ValidAttachment(name string) bool {
	if name == "" || len(name) > 64 || name == FlogPart || strings.HasPrefix(name, ".") || strings.HasPrefix(name, "flog.") ||
		durable.IsTemporary(name) {
		return false
	}
	for i := range len(name) {
		c := name[i]
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '.' || c == '-' || c == '_') {
			return false
		}
	}
	return true
}

// attach writes the attachments of an incident and returns what went wrong.
func (s *Store) attach(name string, list []Attachment) (failed []error) {
	for _, a := range list {
		if !ValidAttachment(a.Name) {
			failed = append(failed, fmt.Errorf("incident: attachment %q: not a name", a.Name))
			continue
		}
		if s.dir == nil {
			continue // memory is for events
		}
		if err := s.dir.Replace(name+"."+a.Name, 0o600, a.Write); err != nil {
			failed = append(failed, fmt.Errorf("incident: %w", err))
		}
	}
	return failed
}

// attachments returns the names of the attachments of an incident.
func (s *Store) attachments(name string) []string {
	if s.dir == nil {
		return nil
	}
	entries, err := s.dir.ReadDir(".")
	if err != nil {
		return nil
	}
	var names []string
	for _, e := range entries {
		if a, ok := strings.CutPrefix(e.Name(), name+"."); ok && e.Type().IsRegular() && ValidAttachment(a) {
			names = append(names, a)
		}
	}
	return names
}

func (s *Store) openAttachment(name, part string) (durable.File, error) {
	if s.dir == nil || !ValidAttachment(part) {
		return nil, os.ErrNotExist
	}
	return s.dir.Open(name + "." + part)
}
