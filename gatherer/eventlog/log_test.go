package eventlog

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/flogtool/flogtool/event/flogfile"
	"github.com/flogtool/flogtool/internal/durable"
	"github.com/flogtool/flogtool/internal/durable/durabletest"
	"github.com/flogtool/flogtool/internal/testwait"
)

var quiet = slog.New(slog.DiscardHandler)

func openTestDir(t *testing.T) *durable.Dir {
	t.Helper()
	dir, err := durable.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dir.Close() })
	return dir
}

func openTestLog(t *testing.T, dir *durable.Dir, compress string, now time.Time) *Log {
	t.Helper()
	l, err := Open(dir, Config{Compress: compress, SyncInterval: time.Second, Log: quiet}, now)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.close() })
	return l
}

func line(i int) []byte {
	return flogfile.AppendEvent(nil, "tub", time.Unix(1700000000, 0), fmt.Appendf(nil, `{"num": %d}`, i))
}

// nums returns the numbers of the events in all log files of dir, file by file
// in the order of their names.
func nums(t *testing.T, dir *durable.Dir) (all []int, files []string) {
	t.Helper()
	entries, err := os.ReadDir(dir.Name())
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), "from-") {
			continue
		}
		files = append(files, e.Name())
		r, err := flogfile.Open(filepath.Join(dir.Name(), e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		for {
			l, err := r.Next()
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatalf("%s: %v", e.Name(), err)
			}
			if l.Kind&flogfile.KindEvent != 0 {
				n, _ := l.Num()
				all = append(all, int(n))
			}
		}
		r.Close()
	}
	return all, files
}

var logNameForm = regexp.MustCompile(`^from-\d{4}-\d\d-\d\d--\d\d-\d\d-\d\dZ---to-(\d{4}-\d\d-\d\d--\d\d-\d\d-\d\dZ|present)\.flog$`)

// TestRotationsInOneSecond: the original overwrites a file of the same name.
func TestRotationsInOneSecond(t *testing.T) {
	dir := openTestDir(t)
	now := time.Date(2026, 11, 22, 16, 39, 24, 0, time.UTC)
	l := openTestLog(t, dir, None, now)
	for i := range 5 {
		if err := l.Write(line(i)); err != nil {
			t.Fatal(err)
		}
		if err := l.Rotate(now.Add(time.Duration(i) * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
	}
	// And a clock that went back an hour.
	if err := l.Write(line(5)); err != nil {
		t.Fatal(err)
	}
	if err := l.Rotate(now.Add(-time.Hour)); err != nil {
		t.Fatal(err)
	}
	got, files := nums(t, dir)
	if want := []int{0, 1, 2, 3, 4, 5}; !slices.Equal(got, want) {
		t.Errorf("events in %q are %v, want %v", files, got, want)
	}
	for i, f := range files {
		if !logNameForm.MatchString(f) {
			t.Errorf("file %q has another form of name", f)
		}
		if i == 0 {
			continue
		}
		_, end, _, _ := parseName(files[i-1])
		start, _, _, _ := parseName(f)
		if !start.Equal(end) {
			t.Errorf("%s does not begin where %s ends", f, files[i-1])
		}
	}
}

// TestRestartInOneSecond: the original appends to the file of the same name,
// whose second magic line no reader gets over; and a killed one leaves a
// present file for ever.
func TestRestartInOneSecond(t *testing.T) {
	dir := openTestDir(t)
	now := time.Now()
	for i := range 4 {
		l := openTestLog(t, dir, None, now)
		if err := l.Write(line(i)); err != nil {
			t.Fatal(err)
		}
		if i%2 == 0 {
			l.t.file.Close() // killed
			l.t.file = nil
		} else if err := l.close(); err != nil {
			t.Fatal(err)
		}
	}
	got, files := nums(t, dir)
	if want := []int{0, 1, 2, 3}; !slices.Equal(got, want) {
		t.Errorf("events in %q are %v, want %v", files, got, want)
	}
	current := 0
	for _, f := range files {
		if strings.Contains(f, present) {
			current++
		}
	}
	if current != 1 {
		t.Errorf("%d current files in %q, want the last one alone", current, files)
	}
}

func TestTornLineIsCut(t *testing.T) {
	dir := openTestDir(t)
	l := openTestLog(t, dir, None, time.Now())
	if err := l.Write(line(7)); err != nil {
		t.Fatal(err)
	}
	l.t.file.WriteAt([]byte(`{"from": "tub", "rx_`), l.t.size)
	l.t.file.Close()
	l.t.file = nil
	openTestLog(t, dir, None, time.Now())
	if got, files := nums(t, dir); !slices.Equal(got, []int{7}) {
		t.Errorf("events in %q are %v, want the whole line", files, got)
	}
}

// TestFailedWrite: what was not written whole is not there at all, and the file
// goes on.
func TestFailedWrite(t *testing.T) {
	dir := openTestDir(t)
	l := openTestLog(t, dir, None, time.Now())
	if err := l.Write(line(1)); err != nil {
		t.Fatal(err)
	}
	name := fileName(l.t.start, present)
	writable := l.t.file
	readonly, err := dir.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	l.t.file = readonly // its writes fail as those to a full disk do
	if err := l.Write(line(2)); err == nil {
		t.Fatal("a write that cannot succeed did")
	}
	readonly.Close()
	l.t.file = writable
	if err := l.Write(line(3)); err != nil {
		t.Fatal(err)
	}
	if got, _ := nums(t, dir); !slices.Equal(got, []int{1, 3}) {
		t.Errorf("events are %v, want 1 and 3", got)
	}
}

func TestCompression(t *testing.T) {
	for _, form := range []string{Zstd, Bzip2} {
		t.Run(form, func(t *testing.T) {
			dir := openTestDir(t)
			l := openTestLog(t, dir, form, time.Now())
			logged := testwait.NewLog(t)
			l.log = slog.New(logged)
			for i := range 1000 {
				if err := l.Write(line(i)); err != nil {
					t.Fatal(err)
				}
			}
			ctx, cancel := context.WithCancel(t.Context())
			kept := make(chan struct{})
			go func() { defer close(kept); l.Run(ctx) }()
			if err := l.Rotate(time.Now()); err != nil {
				t.Fatal(err)
			}
			logged.Wait(t, "log file compressed")
			cancel()
			<-kept
			got, files := nums(t, dir)
			if len(files) != 2 || !strings.HasSuffix(files[0], ".flog."+form) {
				t.Errorf("files are %q, want one compressed and the present one", files)
			}
			if len(got) != 1000 || got[999] != 999 {
				t.Errorf("%d events in the files, want 1000", len(got))
			}
		})
	}
}

// TestCompressionCutShort: a gatherer that was killed while it compressed
// leaves the plain file, a temporary one, and perhaps an old compressed one.
func TestCompressionCutShort(t *testing.T) {
	dir := openTestDir(t)
	name := "from-2026-11-22--16-18-44Z---to-2026-11-22--16-19-15Z.flog"
	plain := append([]byte(flogfile.Magic), line(1)...)
	for file, text := range map[string][]byte{
		name: plain, name + ".zst": []byte("half"), name + ".zst.ABCDEFGH.tmp": []byte("half"),
	} {
		if err := dir.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	l := openTestLog(t, dir, Zstd, time.Now())
	if err := l.compress(t.Context(), name); err != nil {
		t.Fatal(err)
	}
	got, files := nums(t, dir)
	if !slices.Equal(got, []int{1}) || len(files) != 2 {
		t.Errorf("files are %q with events %v", files, got)
	}
	if _, err := dir.Lstat(name); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the plain file is still there: %v", err)
	}
}

// TestPowerCut stops the machine at each operation of two runs that write, sync,
// rotate and compress, and again forgets, tears or keeps what was not synced. After
// a third run all files can be read, and each line that was synced is in them once;
// if the process was only killed, each line that was written.
func TestPowerCut(t *testing.T) {
	type acknowledged struct{ written, synced []int }
	now := time.Date(2026, 11, 22, 16, 39, 24, 0, time.UTC)
	run := func(dir *durable.Dir, ack *acknowledged) error {
		l, err := Open(dir, Config{Compress: Zstd, SyncInterval: time.Second, Log: quiet}, now)
		if err != nil {
			return err
		}
		write := func(l *Log) error {
			n := len(ack.written)
			err := l.Write(line(n))
			if err == nil {
				ack.written = append(ack.written, n)
			}
			return err
		}
		for i := range 2 {
			for range 2 {
				if err := write(l); err != nil {
					return err
				}
			}
			if i == 0 {
				if err := l.sync(); err != nil {
					return err
				}
				ack.synced = slices.Clone(ack.written)
			}
			if err := l.Rotate(now); err != nil {
				return err
			}
			ack.synced = slices.Clone(ack.written)
			l.compressAll(t.Context())
		}
		if err := write(l); err != nil {
			return err
		}
		return l.close()
	}
	disk := durabletest.New()
	var ack acknowledged
	for range 2 {
		if err := run(disk.Dir(), &ack); err != nil {
			t.Fatal(err)
		}
	}
	operations := disk.Operations()
	for k := 1; k <= operations; k++ {
		for _, outcome := range durabletest.Outcomes {
			disk := durabletest.New()
			disk.CrashAt(k)
			var ack acknowledged
			for range 2 {
				if run(disk.Dir(), &ack) != nil {
					break
				}
			}
			disk.Restart(outcome)
			want := ack.synced
			if outcome == durabletest.Outcomes[len(durabletest.Outcomes)-1] {
				want = ack.written
			}
			l, err := Open(disk.Dir(), Config{Compress: Zstd, SyncInterval: time.Second, Log: quiet}, now)
			if err != nil {
				t.Fatalf("stopped at operation %d, %+v: %v", k, outcome, err)
			}
			l.compressAll(t.Context())
			got, err := read(disk.Dir())
			if err != nil {
				t.Fatalf("stopped at operation %d, %+v: %v", k, outcome, err)
			}
			for _, n := range want {
				if got[n] != 1 {
					t.Fatalf("stopped at operation %d, %+v: %d is in the files %d times, want once", k, outcome, n, got[n])
				}
			}
			for n, times := range got {
				if times != 1 {
					t.Fatalf("stopped at operation %d, %+v: %d is in the files %d times", k, outcome, n, times)
				}
			}
		}
	}
	if operations < 100 {
		t.Errorf("%d operations: this test passed over most of the work", operations)
	}
}

// read returns how often each number is in the files of dir, all of which must be
// whole, except that the current one has no events yet.
func read(dir *durable.Dir) (nums map[int]int, err error) {
	entries, err := dir.ReadDir(".")
	if err != nil {
		return nil, err
	}
	nums = map[int]int{}
	for _, e := range entries {
		if _, _, _, ok := parseName(e.Name()); !ok {
			return nil, fmt.Errorf("file %q", e.Name())
		}
		f, err := dir.Open(e.Name())
		if err != nil {
			return nil, err
		}
		defer f.Close()
		r, err := flogfile.NewReader(f, e.Name())
		if err != nil {
			return nil, err
		}
		defer r.Close()
		for {
			l, err := r.Next()
			if err == io.EOF {
				break
			}
			if err != nil {
				return nil, fmt.Errorf("%s: %w", e.Name(), err)
			}
			if l.Kind&flogfile.KindEvent != 0 {
				n, _ := l.Num()
				nums[int(n)]++
			}
		}
	}
	return nums, nil
}

func TestWholeLines(t *testing.T) {
	for text, want := range map[string]int64{
		"": 0, "a": 0, "a\n": 2, "a\nb": 2, "a\nb\n": 4,
		"a\n" + strings.Repeat("x", 200_000): 2,
	} {
		name := filepath.Join(t.TempDir(), "f")
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := wholeLines(f, int64(len(text))); got != want || err != nil {
			t.Errorf("wholeLines(%.10q) = %d, %v, want %d", text, got, err, want)
		}
		f.Close()
	}
}
