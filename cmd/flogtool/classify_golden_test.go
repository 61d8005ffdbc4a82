package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Over the corpus, with the Python classifiers written as rules, we print what the original
// prints. Our categories have no capitals and no colon.
func TestClassifyGolden(t *testing.T) {
	for _, c := range inCorpus(t, "classify/") {
		t.Run(c.ID, func(t *testing.T) {
			data, err := os.ReadFile(c.Stdout)
			if err != nil {
				t.Fatal(err)
			}
			want := strings.NewReplacer("exception:app.inc_failure.ProtocolError", "exception-app.inc_failure.protocolerror",
				"exception:builtins.ValueError", "exception-builtins.valueerror").Replace(string(data))
			want = strings.ReplaceAll(want, "cannot read %s: %s [formatting failed]\n", "cannot read spool/in.dat: permission denied\n")
			var argv []string
			for _, a := range c.Argv {
				a = strings.ReplaceAll(a, "classifiers/", filepath.Join(testdata, "rules-"))
				argv = append(argv, a)
			}
			got, stderr, code := runCase(t, c.TZ, argv)
			if got != want || code != c.RC || stderr != "" {
				t.Errorf("exit code %d, stderr %q\n got %s\nwant %s", code, stderr, got, want)
			}
		})
	}
}

// For a file at which the original fails, we report the file and continue with the next.
func TestClassifyBadFiles(t *testing.T) {
	for _, c := range inCorpus(t, "classify-bad/") {
		t.Run(c.ID, func(t *testing.T) {
			good := "incidents/incident-2023-11-15--01-00-01Z-uxwklei.flog.bz2"
			got, stderr, code := runCase(t, c.TZ, []string{"classify-incident", "-c", filepath.Join(testdata, "rules-a"), c.Argv[len(c.Argv)-1], good})
			if want := good + ": disk-full\n"; got != want || code != 1 {
				t.Errorf("exit code %d, stdout %q", code, got)
			}
			if !strings.HasPrefix(stderr, "flogtool classify-incident: ") || strings.Count(stderr, "\n") != 1 {
				t.Errorf("stderr %q", stderr)
			}
		})
	}
}
