package flogfile

import (
	"bytes"
	"encoding/binary"
	"io"
	"math"
	"slices"

	"github.com/flogtool/flogtool/event"
)

// The index of a .flog.zst file is its last frame, which decompressors skip:
//
//	5f 2a 4d 18   skippable frame
//	n             4 bytes, little endian: bytes that follow
//	facilities    count, then length and text of each
//	frames        count, then for each:
//	                stored bytes, lines' bytes, lines   uvarint each
//	                first and last time                 8 bytes each, a float
//	                levels                              1 byte, a bit for each band of event.Levels
//	                flags                               1 byte
//	                facilities                          count, then the place of each in the table above
//	n             4 bytes, little endian: bytes from facilities to frames
//	"flogidx1"
//
// A file is read from the start if it has no index, if something follows the index, or
// if the index does not fit the size of the file.
const (
	indexMagic    = "flogidx1"
	skippable     = "\x5f\x2a\x4d\x18"
	indexTail     = 4 + len(indexMagic)
	maxFacilities = 64       // of one frame; a frame with more has flagAny
	maxPlaces     = 1 << 16  // facilities of all frames; later ones make flagAny
	maxIndex      = 64 << 20 // bytes; a file of 250 GB has as much
)

const (
	flagKeep = 1 << iota // the frame has lines that are always wanted: headers, trailers, others
	flagAny              // times, levels or facilities of the frame are not complete
)

// frameInfo is the index's entry of a frame.
type frameInfo struct {
	stored, size int64 // bytes in the file, and bytes of its lines
	lines        int
	first, last  float64 // earliest and latest time of an event; first > last without any
	levels       uint8
	flags        uint8
	facilities   []uint32 // indices in index.facilities
}

type index struct {
	facilities []string
	frames     []frameInfo
}

// indexBuilder collects the index of a file that is being written.
type indexBuilder struct {
	index
	places map[string]uint32
	line   Line
}

// add adds a frame with these lines, stored in that many bytes.
func (b *indexBuilder) add(lines []byte, stored int) {
	f := frameInfo{stored: int64(stored), size: int64(len(lines)), lines: bytes.Count(lines, []byte{'\n'}), first: math.Inf(1), last: math.Inf(-1)}
	block := Block{Data: lines}
	var damage DamageError
	block.Lines(&b.line, &damage, func(l *Line) bool {
		if l.Kind != KindEvent {
			f.flags |= flagKeep
			return true
		}
		t, ok := l.Seconds()
		if !ok || math.IsNaN(t) {
			f.flags |= flagAny
			return true
		}
		f.first, f.last = min(f.first, t), max(f.last, t)
		f.levels |= 1 << l.Level().Band()
		b.facility(&f, l)
		return true
	})
	if damage.Line != 0 {
		f.flags |= flagKeep
	}
	b.frames = append(b.frames, f)
}

func (b *indexBuilder) facility(f *frameInfo, l *Line) {
	if f.flags&flagAny != 0 {
		return
	}
	name := l.Facility()
	place, ok := b.places[name]
	if !ok {
		if b.places == nil {
			b.places = make(map[string]uint32)
		}
		if len(b.places) == maxPlaces || len(name) > 1<<10 {
			f.flags |= flagAny // a hostile file, to fill the index
			return
		}
		place = uint32(len(b.facilities))
		b.places[name] = place
		b.facilities = append(b.facilities, name)
	}
	if !slices.Contains(f.facilities, place) {
		if len(f.facilities) == maxFacilities {
			f.flags |= flagAny
			return
		}
		f.facilities = append(f.facilities, place)
	}
}

// appendFrame appends the index as a skippable frame.
func (b *indexBuilder) appendFrame(dst []byte) []byte {
	var body []byte
	body = binary.AppendUvarint(body, uint64(len(b.facilities)))
	for _, name := range b.facilities {
		body = binary.AppendUvarint(body, uint64(len(name)))
		body = append(body, name...)
	}
	body = binary.AppendUvarint(body, uint64(len(b.frames)))
	for i := range b.frames {
		f := &b.frames[i]
		body = binary.AppendUvarint(body, uint64(f.stored))
		body = binary.AppendUvarint(body, uint64(f.size))
		body = binary.AppendUvarint(body, uint64(f.lines))
		body = binary.LittleEndian.AppendUint64(body, math.Float64bits(f.first))
		body = binary.LittleEndian.AppendUint64(body, math.Float64bits(f.last))
		body = append(body, f.levels, f.flags)
		body = binary.AppendUvarint(body, uint64(len(f.facilities)))
		for _, place := range f.facilities {
			body = binary.AppendUvarint(body, uint64(place))
		}
	}
	dst = append(dst, skippable...)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(body)+indexTail))
	dst = append(dst, body...)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(body)))
	return append(dst, indexMagic...)
}

// readIndex returns the index of a file of size bytes, or nil if the file has none or
// it does not fit the file.
func readIndex(r io.ReaderAt, size int64) *index {
	var tail [indexTail]byte
	if size < int64(len(tail))+8 {
		return nil
	}
	if _, err := r.ReadAt(tail[:], size-int64(len(tail))); err != nil || string(tail[4:]) != indexMagic {
		return nil
	}
	n := int64(binary.LittleEndian.Uint32(tail[:]))
	start := size - int64(len(tail)) - n - 8
	if n > min(maxIndex, 1<<20+size/16) || start < 0 {
		return nil // a writer's index is a hundredth of the file
	}
	body := make([]byte, 8+n)
	if _, err := r.ReadAt(body, start); err != nil || string(body[:4]) != skippable ||
		int64(binary.LittleEndian.Uint32(body[4:])) != n+int64(len(tail)) {
		return nil
	}
	x := parseIndex(body[8:])
	if x == nil {
		return nil
	}
	var stored int64
	for i := range x.frames {
		stored += x.frames[i].stored
	}
	if stored != start {
		return nil // something precedes a frame or the index
	}
	return x
}

// indexReader reads the parts of an index. It sets bad if the index is too short.
type indexReader struct {
	data []byte
	bad  bool
}

func (r *indexReader) uvarint(limit uint64) uint64 {
	v, n := binary.Uvarint(r.data)
	if n <= 0 || v > limit {
		r.bad = true
		return 0
	}
	r.data = r.data[n:]
	return v
}

func (r *indexReader) take(n int) []byte {
	if n > len(r.data) {
		r.bad = true
		return make([]byte, n&0xffff)
	}
	b := r.data[:n]
	r.data = r.data[n:]
	return b
}

func parseIndex(data []byte) *index {
	r := &indexReader{data: data}
	x := &index{}
	for range r.uvarint(maxPlaces + 1) { // earlier versions wrote one more
		if x.facilities = append(x.facilities, string(r.take(int(r.uvarint(1<<10))))); r.bad {
			return nil
		}
	}
	count := r.uvarint(uint64(len(data)) / 20)
	x.frames = make([]frameInfo, 0, count)
	for range count {
		f := frameInfo{
			stored: int64(r.uvarint(2 * maxLine)), size: int64(r.uvarint(2 * maxLine)), lines: int(r.uvarint(1 << 40)),
			first: math.Float64frombits(binary.LittleEndian.Uint64(r.take(8))),
			last:  math.Float64frombits(binary.LittleEndian.Uint64(r.take(8))),
		}
		bits := r.take(2)
		f.levels, f.flags = bits[0], bits[1]
		for range r.uvarint(maxFacilities) {
			place := r.uvarint(uint64(len(x.facilities)))
			if place >= uint64(len(x.facilities)) {
				r.bad = true
			}
			f.facilities = append(f.facilities, uint32(place))
		}
		if r.bad {
			return nil
		}
		x.frames = append(x.frames, f)
	}
	if r.bad || len(r.data) > 0 {
		return nil
	}
	return x
}

// within reports whether the file's frames keep to the limits, and whether none needs
// more memory than the longest line.
func (x *index) within(limits Limits) bool {
	var size int64
	lines := 0
	for i := range x.frames {
		f := &x.frames[i]
		// What does not compress grows by a few bytes a block; a block of 128 KiB that
		// repeats one byte is stored in 4 bytes.
		if f.size > int64(max(limits.LineBytes, frameSize)) || f.stored > f.size+f.size/128+1024 || f.size > f.stored<<16 {
			return false
		}
		size += f.size
		lines += f.lines
	}
	return size <= limits.Bytes && lines <= limits.Lines
}

// Selection says which events of a file are wanted. It is a hint: a [Reader] may return
// other events too. It always returns headers and reports damage. The zero value
// selects all events.
type Selection struct {
	Since, Until float64     // seconds since 1970, both included; 0 is no bound
	Level        event.Level // this level and above; 0 is all
	Facility     string      // this facility and its dotted children; "" is all
}

// match reports whether frame f may hold wanted events. facilities says which of the
// index's facilities are wanted.
func (w *Selection) match(f *frameInfo, facilities []bool) bool {
	if f.flags != 0 {
		return true
	}
	if w.Since != 0 && f.last < w.Since || w.Until != 0 && f.first > w.Until {
		return false
	}
	if w.Level != 0 && f.levels>>w.Level.Band() == 0 {
		return false
	}
	if w.Facility == "" {
		return true
	}
	return slices.ContainsFunc(f.facilities, func(place uint32) bool { return facilities[place] })
}

// selected returns the indices of the frames that may hold wanted events.
func (x *index) selected(w Selection) []int {
	facilities := make([]bool, len(x.facilities))
	for i, name := range x.facilities {
		facilities[i] = event.Match(w.Facility, name)
	}
	var places []int
	for i := range x.frames {
		if w.match(&x.frames[i], facilities) {
			places = append(places, i)
		}
	}
	return places
}
