package tail_test

import (
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/flogtool/flogtool/event/flogfile/bzip2"
	"github.com/flogtool/flogtool/rpc/foolscaptest"
	"github.com/flogtool/flogtool/tail"
)

// The original's dump shows the same for the output of Filter as for its input.
func TestFilterReadByOriginal(t *testing.T) {
	original := foolscaptest.Tool(t, "flogtool")
	const corpus = "../testdata/corpus/"
	dump := func(path string) string {
		out, err := exec.Command(original, "dump", "-v", "-r", path).Output()
		if err != nil {
			t.Fatalf("the original's dump of %s: %v", path, err)
		}
		return string(out)
	}
	for _, name := range []string{"flogs/04-formats.flog", "flogs/06-types.flog", "flogs/05-unicode.flog.bz2", "incidents/incident-2026-11-22--16-21-06Z-4z7glby.flog.bz2"} {
		want := dump(corpus + name)
		for _, suffix := range []string{".flog", ".flog.bz2"} {
			to := filepath.Join(t.TempDir(), "new"+suffix)
			f := tail.Filter{Files: []string{corpus + name}, To: to, Bzip2: bzip2.NewWriter}
			if err := f.Run(t.Context()); err != nil {
				t.Fatal(err)
			}
			if got := dump(to); got != want {
				t.Errorf("the dump of %s differs after filtering to %s", name, suffix)
			}
		}
	}
}
