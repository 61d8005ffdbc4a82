package flogfile_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/flogtool/flogtool/event"
	"github.com/flogtool/flogtool/event/flogfile"
	"github.com/flogtool/flogtool/event/flogfile/bzip2"
)

// sampleLines are a header and n events, a second apart, of four levels and
// three facilities.
func sampleLines(n int) (lines [][]byte) {
	lines = append(lines, flogfile.AppendHeader(nil, event.Dict{{Key: "type", Value: "gatherer"}}))
	for i := range n {
		d := fmt.Appendf(nil, `{"num": %d, "level": %d, "time": %d.5, "facility": "%s", "message": "event %d of them"}`,
			i, 10+10*(i/1000%4), 1700000000+i, []string{"net", "net.http", "disk"}[i/5000%3], i)
		lines = append(lines, flogfile.AppendEvent(nil, "local", time.Unix(1700000000+int64(i), 0), d))
	}
	return lines
}

func writeFile(t *testing.T, name string, lines [][]byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	w, err := flogfile.Create(path, bzip2.NewWriter)
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range lines {
		if _, err := w.Write(line); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

func readLines(t *testing.T, path string, want flogfile.Selection) (lines []string, numbers []int, err error) {
	t.Helper()
	r, err := flogfile.OpenSelected(path, want)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for {
		l, err := r.Next()
		if err != nil {
			return lines, numbers, err
		}
		lines = append(lines, string(l.Raw)+"\n")
		numbers = append(numbers, l.Number)
	}
}

func TestWriteRead(t *testing.T) {
	lines := sampleLines(20_000)
	for _, name := range []string{"a.flog", "a.flog.zst", "a.flog.bz2", "a.flog.gz"} {
		path := writeFile(t, name, lines)
		got, numbers, err := readLines(t, path, flogfile.Selection{})
		if err != io.EOF || strings.Join(got, "") != string(bytes.Join(lines, nil)) {
			t.Errorf("%s: %d lines, %v, want %d", name, len(got), err, len(lines))
			continue
		}
		for i, n := range numbers {
			if n != i+2 {
				t.Errorf("%s: line %d has number %d", name, i+2, n)
				break
			}
		}
	}
	if _, err := flogfile.Create(filepath.Join(t.TempDir(), "x.flog.bz2"), nil); !errors.Is(err, flogfile.ErrNoBzip2) {
		t.Errorf("Create of .bz2 without a compressor: %v", err)
	}
}

func TestWriterEmpty(t *testing.T) {
	for _, name := range []string{"a.flog", "a.flog.zst", "a.flog.bz2", "a.flog.gz"} {
		if got, _, err := readLines(t, writeFile(t, name, nil), flogfile.Selection{}); err != io.EOF || len(got) != 0 {
			t.Errorf("%s: %d lines, %v", name, len(got), err)
		}
	}
}

// A line longer than a frame is in a frame of its own.
func TestWriterLongLine(t *testing.T) {
	long := []byte(`{"d": {"time": 1700000005, "message": "` + strings.Repeat("x", 1<<20) + `"}}` + "\n")
	lines := append(sampleLines(10), long, long)
	lines = append(lines, sampleLines(10)[1:]...)
	got, _, err := readLines(t, writeFile(t, "a.flog.zst", lines), flogfile.Selection{})
	if err != io.EOF || strings.Join(got, "") != string(bytes.Join(lines, nil)) {
		t.Errorf("%d lines, %v", len(got), err)
	}
}

// What is wanted is all there, with its line numbers, and little else is read.
func TestWant(t *testing.T) {
	lines := sampleLines(60_000)
	path := writeFile(t, "a.flog.zst", lines)
	for _, c := range []struct {
		want  flogfile.Selection
		match func(l *flogfile.Line) bool
		part  int // at most one in so many lines is read
	}{
		{flogfile.Selection{Since: 1700030000, Until: 1700030010}, func(l *flogfile.Line) bool {
			s, _ := l.Seconds()
			return s >= 1700030000 && s <= 1700030010
		}, 8},
		{flogfile.Selection{Since: 1700059000}, func(l *flogfile.Line) bool { s, _ := l.Seconds(); return s >= 1700059000 }, 8},
		{flogfile.Selection{Facility: "disk"}, func(l *flogfile.Line) bool { return l.Facility() == "disk" }, 2},
		{flogfile.Selection{Facility: "net"}, func(l *flogfile.Line) bool { return strings.HasPrefix(l.Facility(), "net") }, 1},
		{flogfile.Selection{Level: event.Bad}, func(l *flogfile.Line) bool { return l.Level() >= event.Bad }, 1},
		{flogfile.Selection{Since: 1800000000}, func(*flogfile.Line) bool { return false }, 8},
	} {
		wanted := make(map[int]string)
		r, err := flogfile.NewReader(strings.NewReader(flogfile.Magic+string(bytes.Join(lines, nil))), "all")
		if err != nil {
			t.Fatal(err)
		}
		for {
			l, err := r.Next()
			if err != nil {
				break
			}
			if l.Kind == flogfile.KindHeader || c.match(l) {
				wanted[l.Number] = string(l.Raw) + "\n"
			}
		}
		got, numbers, err := readLines(t, path, c.want)
		if err != io.EOF {
			t.Errorf("%+v: %v", c.want, err)
		}
		if len(got) > len(lines)/c.part {
			t.Errorf("%+v: %d of %d lines were read", c.want, len(got), len(lines))
		}
		for i, n := range numbers {
			if line, ok := wanted[n]; ok {
				if line != got[i] {
					t.Errorf("%+v: line %d is %s", c.want, n, got[i])
				}
				delete(wanted, n)
			}
		}
		if len(wanted) > 0 {
			t.Errorf("%+v: %d wanted lines are missing", c.want, len(wanted))
		}
	}
}

// Without its index, or with one that does not fit, a file is read whole; a
// damaged frame costs its own lines only.
func TestIndexDamaged(t *testing.T) {
	lines := sampleLines(20_000)
	path := writeFile(t, "a.flog.zst", lines)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	want := flogfile.Selection{Since: 1800000000}
	at := bytes.LastIndex(whole, []byte("\x5f\x2a\x4d\x18"))
	write := func(data []byte) string {
		path := filepath.Join(t.TempDir(), "b.flog.zst")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	appended := append(bytes.Clone(whole), whole[:at]...)
	wrong := bytes.Clone(whole)
	for i := at + 8; i < len(wrong)-12; i++ {
		wrong[i] ^= 0x55
	}
	for name, data := range map[string][]byte{"no index": whole[:at], "an index that is cut": whole[:len(whole)-5], "a wrong index": wrong} {
		if got, _, err := readLines(t, write(data), want); len(got) != len(lines) || err != io.EOF && name != "an index that is cut" {
			t.Errorf("%s: %d lines, %v, want %d", name, len(got), err, len(lines))
		}
	}
	if got, _, err := readLines(t, write(appended), want); len(got) != 2*len(lines) {
		t.Errorf("frames after the index: %d lines, %v, want %d", len(got), err, 2*len(lines))
	}
	torn := bytes.Clone(whole)
	torn[at/2] ^= 0xff
	got, _, err := readLines(t, write(torn), flogfile.Selection{})
	damage, ok := errors.AsType[*flogfile.DamageError](err)
	if !ok || damage.Lines == 0 || damage.Lines+len(got) != len(lines) {
		t.Errorf("a damaged frame: %d lines, %v", len(got), err)
	}
	cut, _, err := readLines(t, write(whole[:at/2]), flogfile.Selection{})
	if _, ok := errors.AsType[*flogfile.DamageError](err); !ok || len(cut) < 1000 {
		t.Errorf("a file that is cut: %d lines, %v", len(cut), err)
	}
}

// What is flushed can be read by others, of a file that is still written too.
func TestFlush(t *testing.T) {
	for _, name := range []string{"a.flog", "a.flog.zst", "a.flog.gz"} {
		path := filepath.Join(t.TempDir(), name)
		w, err := flogfile.Create(path, nil)
		if err != nil {
			t.Fatal(err)
		}
		lines := sampleLines(5)
		for _, line := range lines {
			if _, err := w.Write(line); err != nil {
				t.Fatal(err)
			}
			if err := w.Flush(); err != nil {
				t.Fatal(err)
			}
		}
		if got, _, _ := readLines(t, path, flogfile.Selection{}); len(got) != len(lines) {
			t.Errorf("%s: %d lines of a file that is not closed, want %d", name, len(got), len(lines))
		}
		w.Close()
	}
}

func FuzzIndex(f *testing.F) {
	var b bytes.Buffer
	w, err := flogfile.NewWriter(&b, "a.zst", nil)
	if err != nil {
		f.Fatal(err)
	}
	for _, line := range sampleLines(100) {
		w.Write(line)
	}
	w.Close()
	f.Add(b.Bytes())
	at := bytes.LastIndex(b.Bytes(), []byte("\x5f\x2a\x4d\x18"))
	f.Add(b.Bytes()[at:])
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, data []byte) {
		path := filepath.Join(dir, "fuzz.flog.zst")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		r, err := flogfile.OpenSelected(path, flogfile.Selection{Since: 1})
		if err != nil {
			return
		}
		defer r.Close()
		for {
			if _, err := r.Next(); err != nil {
				return
			}
		}
	})
}

func TestCopyPlain(t *testing.T) {
	lines := func(n int) string { return strings.Repeat(`{"d": {"message": "m"}}`+"\n", n) }
	long := `{"d": {"message": "` + strings.Repeat("x", 300<<10) + `"}}` + "\n"
	for _, c := range []struct{ name, plain, want string }{
		{"no lines", flogfile.Magic, flogfile.Magic},
		{"many lines", flogfile.Magic + lines(10_000), flogfile.Magic + lines(10_000)},
		{"a long line", flogfile.Magic + long + lines(1), flogfile.Magic + long + lines(1)},
		{"a last line without its end", flogfile.Magic + strings.TrimSuffix(lines(3), "\n"), flogfile.Magic + lines(3)},
		{"another file", "#!/bin/sh\n", ""},
		{"an empty file", "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			var out bytes.Buffer
			w, err := flogfile.NewWriter(&out, "x.flog", nil)
			if err != nil {
				t.Fatal(err)
			}
			if err := w.CopyPlain(t.Context(), iotest.HalfReader(strings.NewReader(c.plain))); (err != nil) != (c.want == "") {
				t.Fatalf("the error is %v", err)
			} else if err != nil {
				return
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			if out.String() != c.want {
				t.Errorf("%d bytes are copied to %d, want %d", len(c.plain), out.Len(), len(c.want))
			}
		})
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	w, err := flogfile.NewWriter(io.Discard, "x.flog", nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.CopyPlain(ended, strings.NewReader(flogfile.Magic+lines(3))); !errors.Is(err, context.Canceled) {
		t.Errorf("an ended context gives %v", err)
	}
}
