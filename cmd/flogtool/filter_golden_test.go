package main

import (
	"compress/bzip2"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// readMaybeBzip2 returns a file's content without compression.
func readMaybeBzip2(t *testing.T, name string) string {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var r io.Reader = f
	if strings.HasSuffix(name, ".bz2") {
		r = bzip2.NewReader(f)
	}
	data, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(name, err)
	}
	return string(data)
}

// Our filter prints the messages and writes the files of the original's. Where the original
// fails, ours succeeds or reports an error.
func TestFilterGolden(t *testing.T) {
	for _, c := range inCorpus(t, "filter/", "filter-damaged/", "filter-inplace/") {
		t.Run(c.ID, func(t *testing.T) {
			dir := t.TempDir()
			var copied string
			if c.CopyOf != "" {
				data, err := os.ReadFile(c.CopyOf)
				if err != nil {
					t.Fatal(err)
				}
				copied = filepath.Join(dir, filepath.Base(c.CopyOf))
				if err := os.WriteFile(copied, data, 0o640); err != nil {
					t.Fatal(err)
				}
			}
			var argv []string
			for _, a := range c.Argv {
				argv = append(argv, strings.NewReplacer("@NEW@", dir, "@COPY@", copied).Replace(a))
			}
			stdout, stderr, code := runCase(t, c.TZ, argv)
			if c.Crash != "" {
				if code != 0 && stderr == "" {
					t.Errorf("exit code %d and nothing on stderr", code)
				}
				if left, _ := filepath.Glob(filepath.Join(dir, ".*")); len(left) > 0 {
					t.Errorf("%q is left behind", left)
				}
				if copied != "" && code != 0 {
					before, _ := os.ReadFile(c.CopyOf)
					if after, _ := os.ReadFile(copied); string(after) != string(before) {
						t.Error("the file to be modified in place has changed")
					}
				}
				return
			}
			want, err := os.ReadFile(c.Stdout)
			if err != nil {
				t.Fatal(err)
			}
			if stdout != string(want) || code != c.RC || stderr != "" {
				t.Errorf("exit code %d, want %d; stderr %q; stdout\n%swant\n%s", code, c.RC, stderr, stdout, want)
			}
			if c.Result == "" {
				return
			}
			result := argv[len(argv)-1]
			if got := readMaybeBzip2(t, result); got != readMaybeBzip2(t, c.Result) {
				t.Errorf("the new file differs from %s", c.Result)
			}
			if copied != "" {
				if left, _ := os.ReadDir(dir); len(left) != 1 {
					t.Errorf("%d files in the directory", len(left))
				}
				if st, err := os.Stat(copied); err != nil || st.Mode().Perm() != 0o640 {
					t.Errorf("mode %v after modifying in place", st.Mode())
				}
			}
		})
	}
}

// The whole output of filter for the cases in which the original fails.
func TestFilterDamagedGolden(t *testing.T) {
	var b strings.Builder
	for _, c := range inCorpus(t, "filter/", "filter-damaged/") {
		if c.Crash == "" {
			continue
		}
		dir := t.TempDir()
		var argv []string
		for _, a := range c.Argv {
			argv = append(argv, strings.ReplaceAll(a, "@NEW@", dir))
		}
		stdout, stderr, code := runCase(t, c.TZ, argv)
		made := "no new file"
		if entries, err := os.ReadDir(dir); err == nil && len(entries) > 0 {
			made = fmt.Sprintf("new file of %d lines", strings.Count(readMaybeBzip2(t, filepath.Join(dir, entries[0].Name())), "\n"))
		}
		text := fmt.Sprintf("== flogtool %s: exit code %d, %s\n%s-- stderr\n%s\n", strings.Join(c.Argv, " "), code, made, stdout, stderr)
		b.WriteString(strings.ReplaceAll(text, dir, "@NEW@"))
	}
	compareGolden(t, "filter-damaged.golden", b.String())
}
