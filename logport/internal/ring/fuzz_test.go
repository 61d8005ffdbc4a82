package ring

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/flogtool/flogtool/event"
)

// FuzzDeadFile: whatever bytes a rings file has, it is refused or gives whole events, of
// bounded size, in the order of their numbers; nothing panics and nothing outside the
// file is read.
func FuzzDeadFile(f *testing.F) {
	dir := f.TempDir()
	file, err := CreateFile(dir, Meta{Name: "fuzz", Incarnation: "0011223344556677", Blocks: MinBytes / BlockSize})
	if err != nil {
		f.Skip("files are not mapped on this platform:", err)
	}
	rings := New(file.Memory(), true)
	facility := rings.Facility("a")
	for i := range 300 {
		rings.Append(facility, event.Levels[i%3], make([]byte, i))
	}
	rings.Append(facility, event.Noisy, make([]byte, 20_000))
	file.setState(stateOpen)
	data, err := os.ReadFile(file.Path())
	if err != nil || len(data) == 0 {
		f.Fatal("no seeds: this target would pass and test nothing", err)
	}
	file.Close()
	f.Add(data[:fileHeader+4*BlockSize], uint32(0), uint32(0))
	f.Add(data, uint32(fileHeader+4), uint32(0xffffffff))
	f.Add(data, uint32(fileHeader+blockHeader), uint32(0x7fffffff))
	f.Add(data[:fileHeader], uint32(24), uint32(1))
	f.Fuzz(func(t *testing.T, data []byte, at, xor uint32) {
		if int(at)+4 <= len(data) {
			data = append([]byte(nil), data...)
			for i := range 4 {
				data[int(at)+i] ^= byte(xor >> (8 * i))
			}
		}
		path := filepath.Join(t.TempDir(), FilePrefix+"0")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		dead, err := OpenDeadFile(path)
		if err != nil {
			return
		}
		defer dead.Close()
		entries, torn := dead.Entries()
		total := 0
		for i, e := range entries {
			total += len(e.Record)
			if i > 0 && e.Num < entries[i-1].Num {
				t.Fatalf("event %d after %d", e.Num, entries[i-1].Num)
			}
			e.Record.Event(e.Num, "x") // must not panic
		}
		if total > len(data) || torn > len(data)/BlockSize+1 {
			t.Fatalf("%d bytes of events and %d torn in %d bytes", total, torn, len(data))
		}
	})
}
