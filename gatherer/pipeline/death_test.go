package pipeline

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/flogtool/flogtool/gatherer/archive"
)

// dieAt makes the files say that a gatherer died at work on s.
func dieAt(t *testing.T, h *fixture, step string, s archive.Stored) {
	t.Helper()
	if err := h.dir.WriteFile("working/"+step, []byte(s.Path()+"   \n"), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestDeadlyIncident: an incident at which the process died is tried once more. After
// the second death it is set aside by name, also at later starts, and the others are
// done.
func TestDeadlyIncident(t *testing.T) {
	for _, step := range []string{"classify", "publish"} {
		t.Run(step, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				dir := newDir(t)
				h := open(t, dir, nil)
				bad := store(t, h.archive, 0, 1)
				store(t, h.archive, 1, 1)
				dieAt(t, h, step, bad)
				h = open(t, dir, nil) // and dies again at once
				dieAt(t, h, step, bad)
				want := []string{subject("unknown", 1)}
				for range 2 {
					h = open(t, dir, nil)
					stop := h.start(t)
					time.Sleep(3 * time.Hour)
					synctest.Wait()
					if got := h.server.subjects(); !slices.Equal(got, want) {
						t.Errorf("published are %q, want %q", got, want)
					}
					if list := h.SetAside(); len(list) != 1 || list[0].Stored != bad || list[0].Step != step {
						t.Errorf("set aside are %+v, want %s", list, bad.Name)
					}
					if n := h.log.Count("incident set aside", "step="+step, bad.Name, "died 2 times"); n != 1 {
						t.Errorf("it was reported %d times, want once", n)
					}
					stop()
					want = nil // the other one is done
				}
				if err := dir.Remove("working/" + step + ".deaths"); err != nil {
					t.Fatal(err)
				}
				h = open(t, dir, nil)
				defer h.start(t)()
				synctest.Wait()
				if got := h.server.subjects(); !slices.Equal(got, []string{subject("unknown", 0)}) {
					t.Errorf("published are %q, want the one that was set aside", got)
				}
			})
		})
	}
}

// TestDeathIsForgiven: an incident at which the process died once, and which is done
// then, has no death against it.
func TestDeathIsForgiven(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := newDir(t)
		h := open(t, dir, nil)
		s := store(t, h.archive, 0, 1)
		dieAt(t, h, "classify", s)
		h = open(t, dir, nil)
		defer h.start(t)()
		synctest.Wait()
		if got := h.server.subjects(); !slices.Equal(got, []string{subject("unknown", 0)}) {
			t.Errorf("published are %q, want it", got)
		}
		for _, name := range []string{"working/classify.deaths", "working/publish.deaths"} {
			if n := len(lines(t, dir, name)); n != 0 {
				t.Errorf("%s has %d lines, want none", name, n)
			}
		}
		if text, err := dir.ReadFile("working/classify"); err != nil || len(text) == 0 || slices.ContainsFunc(text, func(b byte) bool { return b != ' ' && b != '\n' }) {
			t.Errorf("working/classify is %q (%v), want no incident", text, err)
		}
	})
}
