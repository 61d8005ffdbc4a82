package logport

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/flogtool/flogtool/event"
	"github.com/flogtool/flogtool/internal/durable"
)

// blackBox is the file that the rings live in, so that they outlive the process
// (not the machine: nothing is synced). One file for each incarnation.
//
//	rings-INCARNATION
//	0       magic, version, byte order, state, length and checksum of meta, version of records
//	64      meta: JSON, what the next process must know of this one
//	16 KiB  the memory of rings, see there
//
// The process holds a lock on the file as long as it runs.
type blackBox struct {
	path string
	file *os.File
	data []byte // the whole file, mapped

	mu sync.Mutex // held by setMeta
}

const (
	boxMagic   = "flogring"
	boxVersion = 1
	boxOrder   = 0x01020304 // as little-endian bytes 04 03 02 01
	boxHeader  = blockSize
	metaOffset = 64
	maxMeta    = boxHeader - metaOffset

	boxPrefix = "rings-"
	keptBoxes = 4 // a restart in a loop must not wipe the evidence of the run before
)

// The states of a file.
const (
	boxOpen      = 1 // its process runs, or ended without closing its log
	boxClosed    = 2
	boxRecovered = 3 // an incident has been made of it
)

// boxMeta says whose rings a file holds.
type boxMeta struct {
	Name        string            `json:"name"`
	Incarnation string            `json:"incarnation"`
	PID         int               `json:"pid"`
	Started     time.Time         `json:"started"`
	Versions    map[string]string `json:"versions"`
	Blocks      int               `json:"blocks"`
}

// newBlackBox makes the file in dir and maps it.
func newBlackBox(dir string, meta boxMeta) (*blackBox, error) {
	path := filepath.Join(dir, boxPrefix+meta.Incarnation)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	b := &blackBox{path: path, file: f}
	if err := b.init(meta); err != nil {
		f.Close()
		os.Remove(path)
		return nil, err
	}
	return b, nil
}

func (b *blackBox) init(meta boxMeta) (err error) {
	if err := durable.LockOpen(b.file); err != nil {
		return err
	}
	if b.data, err = mapFile(b.file, boxHeader+meta.Blocks*blockSize); err != nil {
		return err
	}
	copy(b.data, boxMagic)
	binary.LittleEndian.PutUint32(b.data[8:], boxVersion)
	binary.LittleEndian.PutUint32(b.data[12:], boxOrder)
	binary.LittleEndian.PutUint32(b.data[28:], event.RecordVersion)
	b.setMeta(meta)
	b.setState(boxOpen)
	return nil
}

func (b *blackBox) rings() []byte { return b.data[boxHeader:] }

// setMeta may be called again, when a version is added.
func (b *blackBox) setMeta(meta boxMeta) {
	b.mu.Lock()
	defer b.mu.Unlock()
	text, err := json.Marshal(meta)
	if err != nil || len(text) > maxMeta {
		meta.Versions = nil // thousands of them: the rest matters more
		text, _ = json.Marshal(meta)
		text = text[:min(len(text), maxMeta)]
	}
	copy(b.data[metaOffset:], text)
	binary.LittleEndian.PutUint32(b.data[20:], uint32(len(text)))
	binary.LittleEndian.PutUint32(b.data[24:], crc32.Checksum(text, castagnoli))
}

func (b *blackBox) setState(state uint32) { binary.LittleEndian.PutUint32(b.data[16:], state) }

// close marks the file as that of a log that was closed. The memory stays
// mapped: goroutines may still log.
func (b *blackBox) close() error {
	if b == nil {
		return nil
	}
	b.setState(boxClosed)
	return b.file.Close()
}

// deadBox is the file of another run, opened for reading.
type deadBox struct {
	path  string
	file  durable.File
	state uint32
	meta  boxMeta
	mem   []byte
}

// errAlive is the error of openDeadBox for a file whose process runs.
var errAlive = errors.New("its process is running")

// openDeadBox opens and checks a file. A version that is not ours is an error:
// what it means is not guessed at.
func openDeadBox(path string) (*deadBox, error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	d := &deadBox{path: path, file: f}
	if err := d.read(); err != nil {
		f.Close()
		return nil, err
	}
	return d, nil
}

func (d *deadBox) read() error {
	if err := durable.LockOpen(d.file); err != nil {
		if errors.Is(err, durable.ErrInUse) {
			return errAlive
		}
		return err
	}
	info, err := d.file.Stat()
	if err != nil {
		return err
	}
	if info.Size() < boxHeader || info.Size() > 64<<30 {
		return fmt.Errorf("no rings file: it has %d bytes", info.Size())
	}
	head := make([]byte, boxHeader)
	if _, err := d.file.ReadAt(head, 0); err != nil {
		return err
	}
	version, order := binary.LittleEndian.Uint32(head[8:]), binary.LittleEndian.Uint32(head[12:])
	records := binary.LittleEndian.Uint32(head[28:])
	switch {
	case string(head[:len(boxMagic)]) != boxMagic:
		return errors.New("no rings file: it begins otherwise")
	case version != boxVersion || records != event.RecordVersion || order != boxOrder:
		return fmt.Errorf("rings file of version %d with records of version %d: this program reads %d and %d",
			version, records, boxVersion, event.RecordVersion)
	}
	n := binary.LittleEndian.Uint32(head[20:])
	if n > maxMeta || crc32.Checksum(head[metaOffset:metaOffset+n], castagnoli) != binary.LittleEndian.Uint32(head[24:]) {
		return errors.New("rings file with a damaged header")
	}
	if err := json.Unmarshal(head[metaOffset:metaOffset+n], &d.meta); err != nil {
		return fmt.Errorf("rings file with a damaged header: %w", err)
	}
	d.state = binary.LittleEndian.Uint32(head[16:])
	d.mem = make([]byte, (info.Size()-boxHeader)/blockSize*blockSize)
	_, err = d.file.ReadAt(d.mem, boxHeader)
	return err
}

// mark sets the state in the file, durably.
func (d *deadBox) mark(state uint32) error {
	var b [4]byte
	binary.LittleEndian.PutUint32(b[:], state)
	_, err := d.file.WriteAt(b[:], 16)
	return errors.Join(err, d.file.Sync())
}

func (d *deadBox) close() error { return d.file.Close() }

// deadEvent is one whole event found in the memory of rings.
type deadEvent struct {
	num event.Num
	rec event.Record
}

// readRings finds the whole events in the memory of rings that nobody writes any
// more, in the order of their numbers, and counts those that are torn.
func readRings(mem []byte) (events []deadEvent, torn int) {
	type key struct {
		serial uint64
		part   uint16
	}
	parts := map[key][]byte{}
	for at := 0; at+blockSize <= len(mem); at += blockSize {
		head := mem[at : at+blockHeader]
		if binary.LittleEndian.Uint32(head) == 0 {
			continue // free
		}
		parts[key{binary.LittleEndian.Uint64(head[8:]), binary.LittleEndian.Uint16(head[4:])}] = mem[at : at+blockSize]
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
			events = append(events, deadEvent{event.Num(num), payload})
			area = area[recordHeader+size:]
			if n > 1 {
				break
			}
		}
	}
	slices.SortFunc(events, func(a, b deadEvent) int {
		if a.num < b.num {
			return -1
		}
		return 1
	})
	return events, torn
}

// boxes returns the rings files in dir, oldest first by their last change.
func boxes(dir string) []string {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	type box struct {
		path string
		at   time.Time
	}
	var all []box
	for _, e := range entries {
		if info, err := e.Info(); err == nil && e.Type().IsRegular() && strings.HasPrefix(e.Name(), boxPrefix) {
			all = append(all, box{filepath.Join(dir, e.Name()), info.ModTime()})
		}
	}
	slices.SortFunc(all, func(a, b box) int { return a.at.Compare(b.at) })
	paths := make([]string, len(all))
	for i, b := range all {
		paths[i] = b.path
	}
	return paths
}

// openBlackBox makes the rings' memory: a mapped file in the slot, or plain
// memory and the reason.
func (lp *Logport) openBlackBox() []byte {
	size := lp.cfg.RingBytes / blockSize * blockSize
	if lp.slot == nil {
		return make([]byte, size)
	}
	box, err := newBlackBox(lp.slot.rings, lp.boxMeta())
	if err != nil {
		lp.early(unusual, "the rings are kept in memory: they do not survive the process",
			slog.String("dir", lp.slot.rings), slog.String("err", err.Error()))
		return make([]byte, size)
	}
	lp.box = box
	return box.rings()
}

func (lp *Logport) boxMeta() boxMeta {
	m := boxMeta{
		Name: lp.cfg.Name, Incarnation: lp.incarnation, PID: os.Getpid(), Started: lp.started,
		Blocks: lp.cfg.RingBytes / blockSize, Versions: map[string]string{},
	}
	for _, item := range lp.versions.all() {
		m.Versions[item.Key.(string)], _ = item.Value.(string)
	}
	return m
}
