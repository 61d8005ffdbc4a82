package gatherer

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/flogtool/flogtool/logport"
)

// partOf returns NAME.parts/PART for the file NAME.PART of a program.
func partOf(file, part string) string {
	return filepath.Join(strings.TrimSuffix(filepath.Base(file), part)+"parts", part)
}

// TestAttachmentsAreFetched: what one of our programs keeps beside an incident is
// here before the incident is.
func TestAttachmentsAreFetched(t *testing.T) {
	dir := create(t, Options{Incidents: true})
	g := start(t, dir)
	appDir := t.TempDir()
	lp, err := logport.Open(logport.Config{Dir: appDir, Gatherers: []string{g.furl}, TrailingDelay: -1,
		Attach: []logport.Attach{logport.AttachGoroutines, logport.AttachHeap}})
	if err != nil {
		t.Fatal(err)
	}
	defer lp.Close()
	lp.DeclareIncident(context.Background(), "look at this")
	if err := lp.Flush(context.Background()); err != nil {
		t.Fatal(err)
	}
	g.logged.Wait(t, "incident stored", lp.TubID())
	for _, ending := range []string{"goroutines.txt", "heap.pprof"} {
		theirs, err := filepath.Glob(filepath.Join(appDir, "0", "incidents", "*."+ending))
		if err != nil || len(theirs) != 1 {
			t.Fatalf("the program has %q, %v", theirs, err)
		}
		want, err := os.ReadFile(theirs[0])
		if err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(filepath.Join(dir, "incidents", lp.TubID(), partOf(theirs[0], ending)))
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s has %d bytes here, %v; want %d", ending, len(got), err, len(want))
		}
	}
	g.logged.Wait(t, "all incidents are here", lp.TubID()) // nothing is being written now
	if left, _ := filepath.Glob(filepath.Join(dir, "incidents", "*", "*", "*.tmp")); len(left) > 0 {
		t.Errorf("temporary files are left: %q", left)
	}
}
