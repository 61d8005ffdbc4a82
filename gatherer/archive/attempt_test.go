package archive

import (
	"errors"
	"strings"
	"testing"
)

// TestAttempts: what a step is at work on can be read by the next process, and two
// deaths in a row stop the work on that incident only.
func TestAttempts(t *testing.T) {
	dir := openTestDir(t)
	a := open(t, dir)
	s, other := Stored{ID{tubA, "incident-1"}, ".flog.zst"}, Stored{ID{tubA, "incident-2"}, ".flog.zst"}
	for deaths := range 2 {
		attempts, err := a.Attempts("classify")
		if err != nil {
			t.Fatal(err)
		}
		for _, done := range []Stored{other, s} {
			died := false
			func() {
				defer func() { died = recover() != nil }() // the process would be gone
				attempts.Guard(done, func() error {
					text, err := dir.ReadFile("working/classify")
					if err != nil || strings.TrimSpace(string(text)) != done.Path() {
						t.Errorf("after %d deaths working/classify is %q (%v), want %s", deaths, text, err, done.Path())
					}
					if done == s {
						panic("died")
					}
					return nil
				})
			}()
			if died != (done == s) {
				t.Errorf("%s: died %v", done.Name, died)
			}
		}
		attempts.Close()
	}
	attempts, err := a.Attempts("classify")
	if err != nil {
		t.Fatal(err)
	}
	defer attempts.Close()
	err = attempts.Guard(s, func() error { t.Error("worked on it"); return nil })
	if deadly, ok := errors.AsType[*DeadlyError](err); !ok || deadly.Deaths != 2 {
		t.Errorf("Guard = %v, want that it is deadly", err)
	}
	if err := attempts.Guard(other, func() error { return nil }); err != nil {
		t.Errorf("Guard of another incident = %v", err)
	}
}
