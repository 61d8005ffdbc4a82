package ring

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/flogtool/flogtool/event"
	"github.com/flogtool/flogtool/internal/durable"
)

// File is the file that the rings live in, so that they outlive the process (not
// the machine: nothing is synced). There is one for each incarnation.
//
//	rings-INCARNATION
//	0       magic, version, byte order, state, length and checksum of meta, version of records
//	64      meta: JSON, what the next process must know of this one
//	16 KiB  the memory of [Rings]
//
// The process holds a lock on the file as long as it runs.
type File struct {
	path string
	file *os.File
	data []byte // the whole file, mapped

	mu sync.Mutex // held by SetMeta
}

const (
	fileMagic   = "flogring"
	fileVersion = 1
	fileOrder   = 0x01020304 // as little-endian bytes 04 03 02 01
	fileHeader  = BlockSize
	metaOffset  = 64
	maxMeta     = fileHeader - metaOffset
)

// FilePrefix begins the name of a rings file; the incarnation follows.
const FilePrefix = "rings-"

// The states of a file.
const (
	stateOpen      = 1 // its process runs, or ended without closing its log
	stateClosed    = 2
	stateRecovered = 3 // an incident has been made of it
)

// Meta says whose rings a file holds. Its JSON form is part of the file.
type Meta struct {
	Name        string            `json:"name"`
	Incarnation string            `json:"incarnation"`
	PID         int               `json:"pid"`
	Started     time.Time         `json:"started"`
	Versions    map[string]string `json:"versions"`
	Blocks      int               `json:"blocks"` // of the rings' memory
}

// CreateFile makes the file in dir, which must exist, and maps it. The name is new:
// that of meta.Incarnation.
func CreateFile(dir string, meta Meta) (*File, error) {
	path := filepath.Join(dir, FilePrefix+meta.Incarnation)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	b := &File{path: path, file: f}
	if err := b.init(meta); err != nil {
		f.Close()
		os.Remove(path)
		return nil, err
	}
	return b, nil
}

func (f *File) init(meta Meta) (err error) {
	if err := durable.LockOpen(f.file); err != nil {
		return err
	}
	if f.data, err = mapFile(f.file, fileHeader+meta.Blocks*BlockSize); err != nil {
		return err
	}
	copy(f.data, fileMagic)
	binary.LittleEndian.PutUint32(f.data[8:], fileVersion)
	binary.LittleEndian.PutUint32(f.data[12:], fileOrder)
	binary.LittleEndian.PutUint32(f.data[28:], event.RecordVersion)
	f.SetMeta(meta)
	f.setState(stateOpen)
	return nil
}

// Path returns the file's path.
func (f *File) Path() string { return f.path }

// Memory returns the memory for the rings.
func (f *File) Memory() []byte { return f.data[fileHeader:] }

// SetMeta replaces what the file says of its process. Where that is too long for the
// header, the versions are left out.
func (f *File) SetMeta(meta Meta) {
	f.mu.Lock()
	defer f.mu.Unlock()
	text, err := json.Marshal(meta)
	if err != nil || len(text) > maxMeta {
		meta.Versions = nil // thousands of them: the rest matters more
		text, _ = json.Marshal(meta)
		text = text[:min(len(text), maxMeta)]
	}
	copy(f.data[metaOffset:], text)
	binary.LittleEndian.PutUint32(f.data[20:], uint32(len(text)))
	binary.LittleEndian.PutUint32(f.data[24:], crc32.Checksum(text, castagnoli))
}

func (f *File) setState(state uint32) { binary.LittleEndian.PutUint32(f.data[16:], state) }

// Close marks the file as that of a log that was closed. The memory stays mapped:
// goroutines may still log. A nil File is in memory only, and Close does nothing.
func (f *File) Close() error {
	if f == nil {
		return nil
	}
	f.setState(stateClosed)
	return f.file.Close()
}

// DeadFile is the rings file of another run, whose process has ended. It is locked
// while it is open.
type DeadFile struct {
	path  string
	file  durable.File
	state uint32
	meta  Meta
	mem   []byte
}

// ErrAlive is the error of [OpenDeadFile] for a file whose process is running.
var ErrAlive = errors.New("its process is running")

// OpenDeadFile opens and checks a file. A version that this program does not know is
// an error: the file is kept and not interpreted.
func OpenDeadFile(path string) (*DeadFile, error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	d := &DeadFile{path: path, file: f}
	if err := d.read(); err != nil {
		f.Close()
		return nil, err
	}
	return d, nil
}

// Path returns the file's path.
func (d *DeadFile) Path() string { return d.path }

// Meta returns what the file says of its process.
func (d *DeadFile) Meta() Meta { return d.meta }

// Unfinished reports whether the process ended without closing its log, and no
// incident has been made of it.
func (d *DeadFile) Unfinished() bool { return d.state == stateOpen }

// Entries returns the whole events in the file, in the order of their numbers, and
// counts those that are torn. The records are valid as long as d.
func (d *DeadFile) Entries() (events []Entry, torn int) { return readEntries(d.mem) }

// MarkRecovered notes durably that an incident has been made of the file.
func (d *DeadFile) MarkRecovered() error { return d.mark(stateRecovered) }

// Close ends the use of the file.
func (d *DeadFile) Close() error { return d.file.Close() }

func (d *DeadFile) read() error {
	if err := durable.LockOpen(d.file); err != nil {
		if errors.Is(err, durable.ErrInUse) {
			return ErrAlive
		}
		return err
	}
	info, err := d.file.Stat()
	if err != nil {
		return err
	}
	if info.Size() < fileHeader || info.Size() > 64<<30 {
		return fmt.Errorf("not a rings file: it has %d bytes", info.Size())
	}
	head := make([]byte, fileHeader)
	if _, err := d.file.ReadAt(head, 0); err != nil {
		return err
	}
	version, order := binary.LittleEndian.Uint32(head[8:]), binary.LittleEndian.Uint32(head[12:])
	records := binary.LittleEndian.Uint32(head[28:])
	switch {
	case string(head[:len(fileMagic)]) != fileMagic:
		return errors.New("not a rings file: it begins with other bytes")
	case version != fileVersion || records != event.RecordVersion || order != fileOrder:
		return fmt.Errorf("rings file of version %d with records of version %d: this program reads %d and %d",
			version, records, fileVersion, event.RecordVersion)
	}
	n := binary.LittleEndian.Uint32(head[20:])
	if n > maxMeta || crc32.Checksum(head[metaOffset:metaOffset+n], castagnoli) != binary.LittleEndian.Uint32(head[24:]) {
		return errors.New("rings file with a damaged header")
	}
	if err := json.Unmarshal(head[metaOffset:metaOffset+n], &d.meta); err != nil {
		return fmt.Errorf("rings file with a damaged header: %w", err)
	}
	d.state = binary.LittleEndian.Uint32(head[16:])
	d.mem = make([]byte, (info.Size()-fileHeader)/BlockSize*BlockSize)
	_, err = d.file.ReadAt(d.mem, fileHeader)
	return err
}

// mark sets the state in the file, durably.
func (d *DeadFile) mark(state uint32) error {
	var b [4]byte
	binary.LittleEndian.PutUint32(b[:], state)
	_, err := d.file.WriteAt(b[:], 16)
	return errors.Join(err, d.file.Sync())
}

// Entry is one event.
type Entry struct {
	Num    event.Num
	Record event.Record
}

// readEntries finds the whole events in the memory of rings that nobody writes any
// more: see [DeadFile.Entries].
func readEntries(mem []byte) (events []Entry, torn int) {
	type key struct {
		serial uint64
		part   uint16
	}
	parts := map[key][]byte{}
	for at := 0; at+BlockSize <= len(mem); at += BlockSize {
		head := mem[at : at+blockHeader]
		if binary.LittleEndian.Uint32(head) == 0 {
			continue // free
		}
		parts[key{binary.LittleEndian.Uint64(head[8:]), binary.LittleEndian.Uint16(head[4:])}] = mem[at : at+BlockSize]
	}
	for k, block := range parts {
		if k.part != 0 {
			continue
		}
		n := binary.LittleEndian.Uint16(block[6:])
		area := block[blockHeader:]
		if n > 1 && n <= maxBlocks {
			area = slices.Clone(area)
			for i := uint16(1); i < n; i++ {
				if next := parts[key{k.serial, i}]; next != nil {
					area = append(area, next[blockHeader:]...)
				}
			}
		}
		for len(area) >= recordHeader {
			size := int(binary.LittleEndian.Uint32(area))
			if size == 0 {
				break // the end
			}
			if size > len(area)-recordHeader {
				torn++
				break
			}
			payload := area[recordHeader : recordHeader+size : recordHeader+size]
			num := binary.LittleEndian.Uint64(area[8:])
			if checksum(crc32.Checksum(payload, castagnoli), num, k.serial) != binary.LittleEndian.Uint32(area[4:]) {
				torn++
				break
			}
			events = append(events, Entry{event.Num(num), payload})
			area = area[recordHeader+size:]
			if n > 1 {
				break
			}
		}
	}
	slices.SortFunc(events, func(a, b Entry) int {
		if a.Num < b.Num {
			return -1
		}
		return 1
	})
	return events, torn
}

// Files returns the paths of the rings files in dir, oldest first by their last
// change.
func Files(dir string) []string {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	type file struct {
		path string
		at   time.Time
	}
	var all []file
	for _, e := range entries {
		if info, err := e.Info(); err == nil && e.Type().IsRegular() && strings.HasPrefix(e.Name(), FilePrefix) {
			all = append(all, file{filepath.Join(dir, e.Name()), info.ModTime()})
		}
	}
	slices.SortFunc(all, func(a, b file) int { return a.at.Compare(b.at) })
	paths := make([]string, len(all))
	for i, f := range all {
		paths[i] = f.path
	}
	return paths
}
