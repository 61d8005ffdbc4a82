package durable_test

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/flogtool/flogtool/internal/durable"
	"github.com/flogtool/flogtool/internal/durable/durabletest"
)

// everywhere calls act once for each of its operations with that one failing, and
// once for each operation and outcome with the machine stopping at it. check gets
// what act returned, and the directory as it is afterwards: with the disk still
// running after a failure, and again after each outcome of a later power cut.
func everywhere(t *testing.T, before, act func(d *durable.Dir) error, check func(t *testing.T, d *durable.Dir, restarted bool, err error)) {
	t.Helper()
	prepared := func() *durabletest.Disk {
		disk := durabletest.New()
		if err := before(disk.Dir()); err != nil {
			t.Fatal(err)
		}
		disk.FailAt(0)
		return disk
	}
	disk := prepared()
	if err := act(disk.Dir()); err != nil {
		t.Fatalf("without any failure: %v", err)
	}
	operations := disk.Operations()
	if operations == 0 {
		t.Fatal("no operations: this test would pass and test nothing")
	}
	for k := 1; k <= operations+1; k++ {
		for i, outcome := range durabletest.Outcomes {
			t.Run(fmt.Sprintf("fail at %d, then stop with %+v", k, outcome), func(t *testing.T) {
				disk := prepared()
				disk.FailAt(k)
				err := act(disk.Dir())
				disk.FailAt(0)
				if i == 0 {
					check(t, disk.Dir(), false, err)
				}
				disk.Restart(outcome)
				check(t, disk.Dir(), true, err)
			})
			t.Run(fmt.Sprintf("stop at %d with %+v", k, outcome), func(t *testing.T) {
				disk := prepared()
				disk.CrashAt(k)
				err := act(disk.Dir())
				if err == nil && k < operations {
					t.Error("no error from a machine that has stopped")
				}
				disk.Restart(outcome)
				check(t, disk.Dir(), true, err)
			})
		}
	}
}

// names returns the entries of d.
func names(t *testing.T, d *durable.Dir) []string {
	t.Helper()
	entries, err := d.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	slices.Sort(names)
	return names
}

// noTemporary: after an error no temporary file is left, and what a stopped
// machine leaves is known to be temporary.
func noTemporary(t *testing.T, d *durable.Dir, restarted bool, want ...string) {
	t.Helper()
	for _, name := range names(t, d) {
		if durable.IsTemporary(name) && !restarted {
			t.Errorf("%s is left", name)
		}
		if !durable.IsTemporary(name) && !slices.Contains(want, name) {
			t.Errorf("there is a file %s", name)
		}
	}
}

func read(t *testing.T, d *durable.Dir, name string) string {
	t.Helper()
	data, err := d.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return "none"
	}
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestReplaceEverywhere(t *testing.T) {
	const old, fresh = "the old content", "the new content, which is longer than the old one"
	acts := map[string]func(d *durable.Dir) error{
		"WriteFile": func(d *durable.Dir) error { return d.WriteFile("file", []byte(fresh), 0o600) },
		"Replace": func(d *durable.Dir) error {
			return d.Replace("file", 0o600, func(w io.Writer) error {
				_, err := io.WriteString(w, fresh)
				return err
			})
		},
		"NewFile": func(d *durable.Dir) error {
			p, err := d.NewFile("file", 0o600)
			if err != nil {
				return err
			}
			defer p.Cleanup()
			for _, part := range []string{fresh[:10], fresh[10:]} {
				if _, err := io.WriteString(p, part); err != nil {
					return err
				}
			}
			if err := p.Chmod(0o640); err != nil {
				return err
			}
			return p.Commit()
		},
	}
	befores := map[string]func(d *durable.Dir) error{
		"none": func(*durable.Dir) error { return nil },
		old:    func(d *durable.Dir) error { return d.WriteFile("file", []byte(old), 0o600) },
	}
	for name, act := range acts {
		for had, before := range befores {
			t.Run(name+" of "+had, func(t *testing.T) {
				everywhere(t, before, act, func(t *testing.T, d *durable.Dir, restarted bool, err error) {
					got := read(t, d, "file")
					if got != fresh && (err == nil || got != had) {
						t.Errorf("after %v the file has %q", err, got)
					}
					noTemporary(t, d, restarted, "file")
				})
			})
		}
	}
}

// TestCommitNewEverywhere: a file that is there is never replaced.
func TestCommitNewEverywhere(t *testing.T) {
	act := func(d *durable.Dir) error {
		p, err := d.NewFile("key", 0o600)
		if err != nil {
			return err
		}
		defer p.Cleanup()
		if _, err := io.WriteString(p, "a new key"); err != nil {
			return err
		}
		return p.CommitNew()
	}
	everywhere(t, func(*durable.Dir) error { return nil }, act, func(t *testing.T, d *durable.Dir, restarted bool, err error) {
		if got := read(t, d, "key"); got != "a new key" && (err == nil || got != "none") {
			t.Errorf("after %v the file has %q", err, got)
		}
		noTemporary(t, d, restarted, "key")
	})
	had := func(d *durable.Dir) error { return d.WriteFile("key", []byte("another's"), 0o600) }
	refused := func(d *durable.Dir) error {
		if err := act(d); !errors.Is(err, fs.ErrExist) {
			return err
		}
		return nil
	}
	everywhere(t, had, refused, func(t *testing.T, d *durable.Dir, restarted bool, _ error) {
		if got := read(t, d, "key"); got != "another's" {
			t.Errorf("the file has %q", got)
		}
	})
}

// TestAppendLinesEverywhere adds lines one after the other, going on after a
// failure as the callers do.
func TestAppendLinesEverywhere(t *testing.T) {
	tried := []string{"first", "second", "third is a longer line", "fourth"}
	befores := map[string]func(d *durable.Dir) error{
		"none": func(*durable.Dir) error { return nil },
		"torn": func(d *durable.Dir) error { return d.WriteFile("lines", []byte("zeroth\nhalf of a li"), 0o600) },
	}
	for had, before := range befores {
		t.Run(had, func(t *testing.T) {
			var acknowledged []string // by the act that was called last
			act := func(d *durable.Dir) (err error) {
				acknowledged = nil
				for _, line := range tried {
					if e := d.AppendLines("lines", line); e != nil {
						err = errors.Join(err, e)
						continue
					}
					acknowledged = append(acknowledged, line)
				}
				return err
			}
			everywhere(t, before, act, func(t *testing.T, d *durable.Dir, restarted bool, _ error) {
				// The next process adds one more, to whatever is there.
				if err := d.AppendLines("lines", "last"); err != nil {
					t.Fatal(err)
				}
				var got []string
				if err := d.EachLine("lines", func(line string) { got = append(got, line) }); err != nil {
					t.Fatal(err)
				}
				left := got
				for _, line := range append(slices.Clone(acknowledged), "last") {
					i := slices.Index(left, line)
					if i < 0 {
						t.Fatalf("acknowledged: %q; the file has %q", acknowledged, got)
					}
					left = left[i+1:]
				}
				for _, line := range got {
					whole := func(s string) bool { return s == line || restarted && strings.HasPrefix(s, line) }
					if !slices.ContainsFunc(append([]string{"zeroth", "half of a li", "last"}, tried...), whole) {
						t.Errorf("the file has the line %q, which nobody wrote", line)
					}
				}
				if had == "torn" && !slices.Contains(got, "zeroth") {
					t.Errorf("the file has %q, without the line that was there", got)
				}
			})
		})
	}
}

// TestMkdirEverywhere: what is written durably in a directory that Mkdir has
// made is still there, also if Mkdir failed first.
func TestMkdirEverywhere(t *testing.T) {
	done := false
	act := func(d *durable.Dir) error {
		done = false
		err := d.Mkdir("dir")
		if err != nil {
			err = errors.Join(err, d.Mkdir("dir"))
		}
		if e := d.WriteFile("dir/file", []byte("content"), 0o600); e != nil {
			return errors.Join(err, e)
		}
		done = true
		return err
	}
	everywhere(t, func(*durable.Dir) error { return nil }, act, func(t *testing.T, d *durable.Dir, _ bool, _ error) {
		if got := read(t, d, "dir/file"); got != "content" && (done || got != "none") {
			t.Errorf("the file has %q; written: %v", got, done)
		}
	})
}

// TestRenameEverywhere: a file that was synced is always there under one of its
// names, and under the new one when the directory has been synced.
func TestRenameEverywhere(t *testing.T) {
	before := func(d *durable.Dir) error { return d.WriteFile("present", []byte("content"), 0o600) }
	act := func(d *durable.Dir) error {
		if err := d.Rename("present", "complete"); err != nil {
			return err
		}
		return d.SyncDir(".")
	}
	everywhere(t, before, act, func(t *testing.T, d *durable.Dir, _ bool, err error) {
		old, fresh := read(t, d, "present"), read(t, d, "complete")
		if old+fresh != "contentnone" && old+fresh != "nonecontent" || err == nil && fresh != "content" {
			t.Errorf("after %v the old name has %q and the new one %q", err, old, fresh)
		}
	})
}

// TestDiskForgets: the simulated disk does lose what was not synced, or the tests
// above would pass and test nothing.
func TestDiskForgets(t *testing.T) {
	careless := func(d *durable.Dir) error { // writes, renames, and syncs nothing
		f, err := d.OpenFile("temp", os.O_WRONLY|os.O_CREATE, 0o600)
		if err != nil {
			return err
		}
		if _, err := io.WriteString(f, "new"); err != nil {
			return err
		}
		return errors.Join(f.Close(), d.Rename("temp", "file"))
	}
	seen := map[string]bool{}
	for _, outcome := range durabletest.Outcomes {
		disk := durabletest.New()
		if err := disk.Dir().WriteFile("file", []byte("old"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := careless(disk.Dir()); err != nil {
			t.Fatal(err)
		}
		disk.Restart(outcome)
		seen[read(t, disk.Dir(), "file")] = true
	}
	for _, want := range []string{"old", "", "n", "new"} {
		if !seen[want] {
			t.Errorf("the file is never %q after a careless replacement", want)
		}
	}
}

// TestOperatingSystem: the same on a real directory.
func TestOperatingSystem(t *testing.T) {
	base := t.TempDir()
	dir := filepath.Join(base, "a", "b")
	for range 2 {
		if err := durable.MkdirAll(dir); err != nil {
			t.Fatal(err)
		}
	}
	file := filepath.Join(dir, "file")
	if err := durable.WriteFile(file, []byte("one"), 0o600); err != nil {
		t.Fatal(err)
	}
	broken := errors.New("broken")
	err := durable.Replace(file, 0o600, func(w io.Writer) error {
		io.WriteString(w, "half")
		return broken
	})
	if !errors.Is(err, broken) || !strings.Contains(err.Error(), `"file"`) {
		t.Errorf("Replace = %v", err)
	}
	p, err := durable.NewFile(file, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.CommitNew(); !errors.Is(err, fs.ErrExist) {
		t.Errorf("CommitNew = %v, want ErrExist", err)
	}
	if _, err := p.Write([]byte("x")); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("Write after CommitNew = %v, want ErrClosed", err)
	}
	if err := durable.Mkdir(filepath.Join(base, "x", "y")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Mkdir without its parent = %v", err)
	}
	if err := durable.MkdirAll(file); err == nil {
		t.Error("MkdirAll of a file succeeded")
	}
	d, err := durable.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if err := d.AppendLines("lines", "one", "two"); err != nil {
		t.Fatal(err)
	}
	if got := read(t, d, "file"); got != "one" {
		t.Errorf("the file has %q", got)
	}
	if got := read(t, d, "lines"); got != "one\ntwo\n" {
		t.Errorf("the lines are %q", got)
	}
	if got, want := names(t, d), []string{"file", "lines"}; !slices.Equal(got, want) {
		t.Errorf("the directory has %q, want %q", got, want)
	}
	if runtime.GOOS != "windows" {
		st, err := os.Stat(file)
		if err != nil || st.Mode().Perm() != 0o600 {
			t.Errorf("mode %v, %v", st.Mode(), err)
		}
	}
}

func TestLines(t *testing.T) {
	d := durabletest.New().Dir()
	for _, bad := range []string{strings.Repeat("x", durable.MaxLine), "two\nlines"} {
		if err := d.AppendLines("lines", bad); err == nil {
			t.Errorf("AppendLines took a line of %d bytes", len(bad))
		}
	}
	longest := strings.Repeat("y", durable.MaxLine-1)
	text := strings.Repeat("x", 3*durable.MaxLine) + "\n" + "a\n" + longest + "\n" + strings.Repeat("z", durable.MaxLine) + "\nb"
	if err := d.WriteFile("lines", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	var got []string
	if err := d.EachLine("lines", func(line string) { got = append(got, line) }); err != nil {
		t.Fatal(err)
	}
	if want := []string{"a", longest, "b"}; !slices.Equal(got, want) {
		t.Errorf("lines of %d, want %d", len(got), len(want))
	}
	if err := d.EachLine("none", func(string) { t.Error("a line of a file that is not there") }); err != nil {
		t.Error(err)
	}
}

func TestLock(t *testing.T) {
	dir := t.TempDir()
	d, err := durable.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	for _, take := range []func() (*durable.Lock, error){d.Lock, func() (*durable.Lock, error) { return d.LockFile("lock") }} {
		first, err := take()
		if errors.Is(err, errors.ErrUnsupported) {
			t.Skip(err)
		}
		if err != nil {
			t.Fatal(err)
		}
		if _, err := take(); !errors.Is(err, durable.ErrInUse) || !strings.Contains(err.Error(), dir) {
			t.Errorf("the second lock: %v, want ErrInUse and the directory", err)
		}
		if err := first.Close(); err != nil {
			t.Fatal(err)
		}
		second, err := take()
		if err != nil {
			t.Fatal(err)
		}
		second.Close()
	}

	first, err := durable.LockDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var held atomic.Bool
	held.Store(true)
	started, waited := make(chan bool), make(chan error)
	go func() {
		close(started)
		second, err := durable.LockDirWait(dir)
		if held.Load() {
			t.Error("LockDirWait did not wait")
		}
		if err == nil {
			err = second.Close()
		}
		waited <- err
	}()
	<-started
	runtime.Gosched()
	held.Store(false)
	first.Close()
	if err := <-waited; err != nil {
		t.Error(err)
	}

	f, err := os.Create(filepath.Join(dir, "open"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := durable.LockOpen(f); err != nil {
		t.Fatal(err)
	}
	if _, err := d.LockFile("open"); !errors.Is(err, durable.ErrInUse) {
		t.Errorf("a file that is locked already: %v", err)
	}
}

// TestIsTemporary: what a killed process leaves is recognized.
func TestIsTemporary(t *testing.T) {
	d := durabletest.New().Dir()
	if _, err := d.NewFile("file", 0o600); err != nil {
		t.Fatal(err)
	}
	left := names(t, d)
	if len(left) != 1 || !durable.IsTemporary(left[0]) {
		t.Errorf("%q is not known to be temporary", left)
	}
	if durable.IsTemporary("file") {
		t.Error("file is taken for temporary")
	}
}
