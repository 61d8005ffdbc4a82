package flogfile_test

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/flogtool/flogtool/event/flogfile"
	"github.com/flogtool/flogtool/event/flogfile/bzip2"
	"github.com/flogtool/flogtool/internal/costtest"
)

// bomb is a file that holds far more than it stores.
type bomb struct {
	name   string
	data   []byte
	limits flogfile.Limits
	want   string // in the error
}

// bombs holds files of up to 2 MB that hold 20 GiB.
func bombs(t *testing.T) []bomb {
	const total = 20 << 30
	header := []byte(flogfile.Magic + `{"header": {"type": "incident", "trigger": {"num": 0}}}` + "\n")
	event := []byte(`{"d": {"num": 0, "level": 20, "message": "x"}}` + "\n")
	var found []bomb
	slow := flogfile.Limits{Bytes: 64 << 20} // reading all that the default allows takes a second
	add := func(content, suffix string, compress func([]byte) []byte, unit []byte, limits flogfile.Limits, want string) {
		head, body := compress(header), compress(unit)
		times := min(total/len(unit), max(1, 2_000_000/len(body)))
		found = append(found, bomb{content + ", " + suffix, append(head, bytes.Repeat(body, times)...), limits, want})
	}
	zeros, events := make([]byte, 1<<20), bytes.Repeat(event, 1<<20/len(event))
	add("zero bytes", "zst", asZstd, zeros, flogfile.Limits{}, "more than 256 MiB")
	add("zero bytes", "gz", asGzip, zeros, flogfile.Limits{}, "more than 256 MiB")
	add("zero bytes", "bz2", asBzip2, zeros, slow, "more than 64 MiB")
	add("empty lines", "zst", asZstd, bytes.Repeat([]byte("\n"), 1<<20), flogfile.Limits{}, "more than 1000000 lines")
	add("events", "zst", asZstd, events, flogfile.Limits{}, "more than 1000000 lines")
	add("events", "gz", asGzip, events, flogfile.Limits{Lines: 100_000}, "more than 100000 lines")
	add("lists without an end", "zst", asZstd, bytes.Repeat([]byte("[],"), 1<<18), flogfile.Limits{}, "more than 256 MiB")
	add("long lines", "zst", asZstd, append(bytes.Repeat([]byte("[],"), 5<<20), '\n'), slow, "more than 64 MiB")
	// A block of zstd that repeats one byte has four bytes for 128 KiB.
	blocks := append(asZstd(header), "\x28\xb5\x2f\xfd\x00\x58"...) // a window of 2 MiB
	blocks = append(blocks, bytes.Repeat([]byte{0x02, 0x00, 0x10, 'x'}, total>>17)...)
	return append(found, bomb{"one frame, zst", blocks, flogfile.Limits{}, "more than 256 MiB"})
}

func asZstd(data []byte) []byte {
	w, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
	if err != nil {
		panic(err)
	}
	return w.EncodeAll(data, nil)
}

func asGzip(data []byte) []byte {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	w.Write(data)
	w.Close()
	return b.Bytes()
}

func asBzip2(data []byte) []byte {
	var b bytes.Buffer
	w, err := bzip2.NewWriter(&b)
	if err != nil {
		panic(err)
	}
	w.Write(data)
	w.Close()
	return b.Bytes()
}

// suffix returns the suffix of a file with this content.
func suffix(data []byte) string {
	switch {
	case bytes.HasPrefix(data, []byte("BZh")):
		return ".flog.bz2"
	case bytes.HasPrefix(data, []byte("\x1f\x8b")):
		return ".flog.gz"
	case bytes.HasPrefix(data, []byte("\x28\xb5\x2f\xfd")):
		return ".flog.zst"
	}
	return ".flog"
}

// stored stores data as a file and returns its path.
func stored(t testing.TB, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "x"+suffix(data))
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// readLimited reads a whole file as one that a peer gave, decodes every event and
// header, and returns their number and the error that ended the file.
func readLimited(path string, limits flogfile.Limits) (events int, err error) {
	r, err := flogfile.OpenLimited(path, limits)
	if err != nil {
		return 0, err
	}
	defer r.Close()
	for {
		l, err := r.Next()
		if err != nil {
			return events, err
		}
		l.Header()
		if _, err := l.Event(); err == nil {
			events++
		}
	}
}

// A file of a peer that holds 20 GiB in 2 MB is read up to a limit, in little memory.
func TestDecompressionBomb(t *testing.T) {
	for _, b := range bombs(t) {
		t.Run(b.name, func(t *testing.T) {
			path := stored(t, b.data)
			var err error
			costtest.Measure(func() { _, err = readLimited(path, b.limits) }).Check(t, 5*time.Second, 128<<20)
			if !errors.Is(err, flogfile.ErrLimit) || !strings.Contains(fmt.Sprint(err), b.want) {
				t.Errorf("%d bytes end with %v, want %q", len(b.data), err, b.want)
			}
		})
	}
}

// A reader of a peer's file spends on each line what the limits allow.
func TestHostileLines(t *testing.T) {
	repeat := func(s string, n int) string { return strings.Repeat(s, n) }
	good := `{"d": {"num": 1, "message": "good"}}` + "\n"
	const bytes16 = 16 << 20
	for _, c := range []struct {
		name, line string
		events     int
		msg        string
	}{
		{"longer than any", `{"d": {"message": "` + repeat("x", 5*bytes16) + `"}}`, 2, "line longer than 16 MiB"},
		{"as long as allowed", `{"d": {"message": "` + repeat("x", bytes16-100) + `"}}`, 3, ""},
		{"a list of lists", `{"d": {"a": [` + repeat("[], ", bytes16/4-20) + `0]}}`, 2, "more than 250000 values"},
		{"a list of numbers", `{"d": {"a": [` + repeat("0,", bytes16/2-20) + `0]}}`, 2, "more than 250000 values"},
		{"empty keys", `{"d": {` + repeat(`"":0,`, bytes16/5-20) + `"":0}}`, 2, "more than 250000 values"},
		{"empty keys of the wrapper", `{` + repeat(`"":0,`, bytes16/5-20) + `"d":{}}`, 2, "more than 250000 values"},
		{"a header of lists", `{"header": [` + repeat("{},", bytes16/3-20) + `0]}`, 2, "more than 250000 values"},
		{"as many values as allowed", `{"d": {"a": [` + repeat("[], ", 249_990) + `0]}}`, 3, ""},
		{"a list", `[` + repeat("[], ", bytes16/4-20) + `0]`, 2, "not a JSON object"},
		{"lists that do not end", `{"d": ` + repeat("[", bytes16-100), 2, "not a JSON object"},
		{"a long number", `{"d": {"num": ` + repeat("9", bytes16-100) + `}}`, 2, "not a JSON object"},
		{"huge whole numbers", `{"d": {"a": [` + repeat(repeat("9", 100_000)+", ", 30) + `0]}}`, 2, "more than 250000 values"},
		{"escapes", `{"d": {"message": "` + repeat(`\ud83d\ude00`, bytes16/12-20) + `"}}`, 3, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := stored(t, asZstd([]byte(flogfile.Magic+good+c.line+"\n"+good)))
			var events int
			var err error
			costtest.Measure(func() { events, err = readLimited(path, flogfile.Limits{}) }).Check(t, 2*time.Second, 128<<20)
			if events != c.events {
				t.Errorf("%d events, want %d", events, c.events)
			}
			if c.msg == "" && err != io.EOF || c.msg != "" && !strings.Contains(fmt.Sprint(err), "line 3, byte 60: "+c.msg) {
				t.Errorf("the error is %v, want %q", err, c.msg)
			}
		})
	}
}

// A file may state what its reader allocates: how far it refers back, how large its
// frames are, how many facilities there are. Statements that no writer makes are not
// believed, in any file.
func TestHostileStatements(t *testing.T) {
	line := []byte(`{"d": {"num": 1, "message": "good"}}` + "\n")
	plain := append([]byte(flogfile.Magic), line...)
	raw := func(descriptor string, block []byte) []byte { // a frame of zstd with one raw block
		size := len(block)<<3 | 1
		return append(append([]byte("\x28\xb5\x2f\xfd"+descriptor), byte(size), byte(size>>8), byte(size>>16)), block...)
	}
	frame := asZstd(plain)
	type entry struct{ stored, size, lines uint64 }
	indexed := func(facilities int, frames ...entry) []byte {
		var body []byte
		body = binary.AppendUvarint(body, uint64(facilities))
		body = append(body, make([]byte, facilities)...)
		body = binary.AppendUvarint(body, uint64(len(frames)))
		for _, f := range frames {
			body = binary.AppendUvarint(binary.AppendUvarint(binary.AppendUvarint(body, f.stored), f.size), f.lines)
			body = binary.LittleEndian.AppendUint64(body, math.Float64bits(0))
			body = binary.LittleEndian.AppendUint64(body, math.Float64bits(1e10))
			body = append(body, 255, 0, 0)
		}
		out := binary.LittleEndian.AppendUint32([]byte("\x5f\x2a\x4d\x18"), uint32(len(body)+12))
		out = binary.LittleEndian.AppendUint32(append(out, body...), uint32(len(body)))
		return append(out, "flogidx1"...)
	}
	join := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	big := asZstd(bytes.Repeat(line, 16<<20/len(line)))
	skipped := binary.LittleEndian.AppendUint32([]byte("\x50\x2a\x4d\x18"), 60<<20)
	skipped = append(skipped, make([]byte, 60<<20)...)
	many := make([]entry, 2000)
	for i := range many {
		many[i] = entry{0, 64 << 20, 1}
	}
	many[0] = entry{uint64(len(frame)), uint64(len(plain)), 2}
	for _, c := range []struct {
		name    string
		data    []byte
		limited int // events read of a peer's file, -1 for any number
		own     int // events read of a file of one's own, -1 for any number
	}{
		{"an honest window", raw("\x00\x58", plain), 1, 1},
		{"a window of 128 MiB", raw("\x00\x88", plain), 0, 1},
		{"a window of 3 TiB", raw("\x00\xff", plain), 0, 0},
		{"a frame of 2^63 bytes", raw("\xe0\xff\xff\xff\xff\xff\xff\xff\x7f", plain), 0, 0},
		{"an honest index", join(frame, indexed(0, entry{uint64(len(frame)), uint64(len(plain)), 2})), 1, 1},
		{"frames of 64 MiB in nothing", join(frame, indexed(0, many...)), 1, 1},
		{"a frame in 60 MiB", join(frame, skipped, indexed(0, entry{uint64(len(frame) + len(skipped)), uint64(len(plain)), 2})), 1, 1},
		{"a frame larger than said", join(frame, big, indexed(0, entry{uint64(len(frame)), uint64(len(plain)), 2}, entry{uint64(len(big)), 100, 1})), -1, -1},
		{"a frame with more lines than said", join(frame, asZstd(bytes.Repeat([]byte("\n"), 1<<18)), indexed(0, entry{uint64(len(frame)), uint64(len(plain)), 2}, entry{uint64(len(asZstd(bytes.Repeat([]byte("\n"), 1<<18)))), 1 << 18, 1})), 1, 1},
		{"30 million facilities", join(frame, indexed(30<<20, entry{uint64(len(frame)), uint64(len(plain)), 2})), 1, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := stored(t, c.data)
			var events int
			costtest.Measure(func() { events, _ = readLimited(path, flogfile.Limits{}) }).Check(t, 3*time.Second, 64<<20)
			if events != c.limited && c.limited >= 0 {
				t.Errorf("%d events of a peer's file, want %d", events, c.limited)
			}
			costtest.Measure(func() {
				r, err := flogfile.OpenSelected(path, flogfile.Selection{Since: 1})
				if err != nil {
					events = 0
					return
				}
				defer r.Close()
				for events = 0; ; events++ {
					if _, err := r.Next(); err != nil {
						return
					}
				}
			}).Check(t, 3*time.Second, 192<<20)
			if events != c.own && c.own >= 0 {
				t.Errorf("%d events of a file of one's own, want %d", events, c.own)
			}
		})
	}
}

// Limits of zero are defaults, limits below zero are no bounds, and a file that keeps to
// its limits ends as any other.
func TestLimits(t *testing.T) {
	line := `{"d": {"num": 1}}` + "\n"
	plain := flogfile.Magic + strings.Repeat(line, 1000)
	for _, c := range []struct {
		name   string
		limits flogfile.Limits
		events int
		want   string
	}{
		{"the defaults", flogfile.Limits{}, 1000, ""},
		{"no bounds", flogfile.Limits{Bytes: -1, Lines: -1, LineBytes: -1, Values: -1, Window: -1}, 1000, ""},
		{"exactly as large", flogfile.Limits{Bytes: int64(len(plain)), Lines: 1000}, 1000, ""},
		{"a byte less", flogfile.Limits{Bytes: int64(len(plain)) - 1}, 999, "line 1001, byte 18005: the rest is not read; the file has more than 18022 bytes"},
		{"one MiB less", flogfile.Limits{Bytes: 1 << 20}, 1000, ""},
		{"a line less", flogfile.Limits{Lines: 999}, 999, "line 1001, byte 18005: the rest is not read; the file has more than 999 lines"},
		{"no line", flogfile.Limits{Lines: 1}, 1, "line 3, byte 41: the rest is not read; the file has more than 1 lines"},
		{"few values", flogfile.Limits{Values: 2}, 0, "more than 2 values; 1000 lines (18000 bytes) are missing"},
		{"enough values", flogfile.Limits{Values: 3}, 1000, ""},
	} {
		for _, data := range [][]byte{[]byte(plain), asZstd([]byte(plain)), asGzip([]byte(plain)), asBzip2([]byte(plain))} {
			events, err := readLimited(stored(t, data), c.limits)
			if events != c.events || c.want == "" && err != io.EOF || !strings.Contains(fmt.Sprint(err), c.want) {
				t.Errorf("%s, %s: %d events, %v, want %d, %q", c.name, suffix(data), events, err, c.events, c.want)
			}
			if limited := strings.Contains(c.want, "not read"); errors.Is(err, flogfile.ErrLimit) != limited {
				t.Errorf("%s, %s: %v, an ErrLimit is %v", c.name, suffix(data), err, limited)
			}
		}
	}
}

// What a Reader returns of a file within limits is the beginning of what it returns
// without them, and all of it unless the error says otherwise.
func FuzzLimits(f *testing.F) {
	line := `{"d": {"num": 1}}` + "\n"
	f.Add([]byte(line+"\n"+line+"x\n[1]\n"+line), uint16(60), uint16(3))
	f.Add([]byte(line+line), uint16(1000), uint16(1000))
	f.Add(asZstd([]byte(flogfile.Magic+line+line+line)), uint16(50), uint16(100))
	read := func(t *testing.T, r *flogfile.Reader, err error) (lines []string, end error) {
		if err != nil {
			return nil, err
		}
		defer r.Close()
		for {
			l, err := r.Next()
			if err != nil {
				return lines, err
			}
			lines = append(lines, string(l.Raw))
		}
	}
	f.Fuzz(func(t *testing.T, data []byte, size, count uint16) {
		for _, src := range [][]byte{data, append([]byte(flogfile.Magic), data...)} {
			name := "x" + suffix(src)
			r, err := flogfile.NewReader(bytes.NewReader(src), name)
			all, _ := read(t, r, err)
			r, err = flogfile.NewLimitedReader(bytes.NewReader(src), name, flogfile.Limits{Bytes: int64(size) + 1, Lines: int(count) + 1, Values: -1, LineBytes: -1, Window: -1})
			some, err := read(t, r, err)
			total := 0
			for i, l := range some {
				if total += len(l); i >= len(all) || all[i] != l {
					t.Fatalf("line %d is %q, not one of %d without limits", i, l, len(all))
				}
			}
			if total > int(size)+1 || len(some) > int(count)+2 {
				t.Errorf("%d lines of %d bytes, limits are %d and %d", len(some), total, count, size)
			}
			if len(some) < len(all) && !errors.Is(err, flogfile.ErrLimit) {
				t.Errorf("%d lines of %d, %v", len(some), len(all), err)
			}
		}
	})
}

// Lines that are slow for their length are read and decoded in bounded time.
func TestHostileSpeed(t *testing.T) {
	fill := func(line string) []byte {
		return append([]byte(flogfile.Magic), bytes.Repeat([]byte(line+"\n"), (16<<20)/(len(line)+1))...)
	}
	repeat := func(s string, n int) string { return strings.Repeat(s, n) }
	for name, line := range map[string]string{
		"integers of 100,000 digits":       `{"d": {"a": [` + repeat(repeat("9", 100_000)+", ", 20) + `0]}}`,
		"a fraction of many digits":        `{"rx_time": 0.` + repeat("3", 1<<20) + `, "d": {"time": 0.` + repeat("3", 1<<20) + `, "level": 1` + repeat("0", 90_000) + `}}`,
		"keys with escapes":                `{` + repeat(`"\u0061": 0, `, 100_000) + `"d": {` + repeat(`"\u0061": 0, `, 100_000) + `"num": 1}}`,
		"equal keys":                       `{"d": {` + repeat(`"a": 0, `, 100_000) + `"num": 1}}`,
		"lists as deep as allowed":         `{"d": {"a": [` + repeat(repeat("[", 900)+repeat("]", 900)+", ", 100) + `0]}}`,
		"lists that are too deep":          `{"d": {"a": [` + repeat(repeat("[", 999)+repeat("]", 999)+", ", 100) + `0]}}`,
		"surrogates":                       `{"d": {"message": "` + repeat(`\ud800`, 100_000) + `"}}`,
		"text that is not UTF-8":           `{"d": {"message": "` + repeat("\xff", 100_000) + `"}}`,
		"a string that does not end":       `{"d": {"message": "` + repeat(`\\`, 100_000) + `}}`,
		"an incarnation and a large level": `{"d": {"incarnation": [` + repeat("[], ", 50_000) + `0], "level": 1e308, "num": 1` + repeat("0", 10_000) + `}}`,
	} {
		t.Run(name, func(t *testing.T) {
			path := stored(t, asZstd(fill(line)))
			costtest.Measure(func() {
				r, err := flogfile.OpenLimited(path, flogfile.Limits{})
				if err != nil {
					t.Error(err)
					return
				}
				defer r.Close()
				var buf []byte
				for {
					l, err := r.Next()
					if err != nil {
						return
					}
					l.From()
					l.RxTime()
					l.Seconds()
					l.Level()
					l.Num()
					l.Incarnation()
					l.Facility()
					l.Event()
					buf = l.AppendText(buf[:0])
				}
			}).Check(t, 15*time.Second, 96<<20)
		})
	}
}

// A Line keeps texts that many lines have, not all texts that it has seen.
func TestHostileFormats(t *testing.T) {
	var lines [][]byte
	for i := range 100 {
		lines = append(lines, fmt.Appendf(nil, `{"from": "%s", "d": {"format": "%s%d"}}`, strings.Repeat("f", 1<<20+i*3), strings.Repeat("x", 1<<20+i*7), i))
	}
	data := append([]byte(flogfile.Magic), bytes.Join(lines, []byte("\n"))...)
	path := stored(t, asZstd(data))
	data, lines = nil, nil
	costtest.Measure(func() {
		r, err := flogfile.OpenLimited(path, flogfile.Limits{})
		if err != nil {
			t.Error(err)
			return
		}
		defer r.Close()
		for {
			l, err := r.Next()
			if err != nil {
				return
			}
			l.From()
			l.AppendText(nil)
		}
	}).Check(t, 10*time.Second, 48<<20)
}
