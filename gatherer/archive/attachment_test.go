package archive

import (
	"io"
	"path"
	"slices"
	"testing"
	"time"
)

// TestAttachmentIsNotAnIncident: an attachment with the name of an incident's file is
// not taken for an incident at the next start; nor is one that an earlier version
// stored beside the incident, and that one stays. Leftovers of a kill are removed.
func TestAttachmentIsNotAnIncident(t *testing.T) {
	dir := openTestDir(t)
	a := open(t, dir)
	header, events := incidentDict(1)
	id := ID{tubA, "incident-1"}
	for _, name := range []string{"b.flog.zst", "b.flog", "x.flog.bz2"} {
		err := a.StoreAttachment(id, name, func(w io.Writer) error {
			_, err := io.WriteString(w, "content of "+name)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	s, err := a.Store(id, header, events, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	at := "incidents/" + tubA + "/"
	left := []string{
		"latest.ABCDEFGH.tmp", "also.ABCDEFGH.tmp", "incident-1.flog.zst.ABCDEFGH.tmp", "incident-1.parts/b.flog.ABCDEFGH.tmp",
		"../../classifying.ABCDEFGH.tmp", "../../classified/unknown.ABCDEFGH.tmp",
	}
	for i := range left {
		left[i] = path.Join(at, left[i])
	}
	place(t, dir, map[string]string{at + "incident-1.old.flog.zst": "old attachment", at + "incident-1.heap.pprof": "heap"})
	for _, name := range left {
		if err := dir.WriteFile(name, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	a = open(t, dir)
	if got, want := paths(a.Next(ID{}, 100, every)), []string{s.Path()}; !slices.Equal(got, want) || a.Len() != 1 {
		t.Errorf("the incidents are %q, want %q", got, want)
	}
	for name, want := range map[string]string{
		"incident-1.parts/b.flog.zst": "content of b.flog.zst",
		"incident-1.old.flog.zst":     "old attachment",
		"incident-1.heap.pprof":       "heap",
	} {
		if text, err := dir.ReadFile(at + name); err != nil || string(text) != want {
			t.Errorf("%s is %q (%v), want %q", name, text, err, want)
		}
	}
	for _, name := range left {
		if _, err := dir.Lstat(name); err == nil {
			t.Errorf("%s is still there", name)
		}
	}
}
