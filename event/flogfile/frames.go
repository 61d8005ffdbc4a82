package flogfile

import (
	"fmt"
	"os"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/klauspost/compress/zstd"
)

// frameReader reads the wanted frames of a file with an index.
type frameReader struct {
	file   *os.File
	dec    *zstd.Decoder
	index  *index
	places []int // of the wanted frames
	at     int   // in places

	place  int   // of the frame that the following speak of
	start  int64 // where it is stored
	offset int64 // of its first line
	number int   // of its first line

	used  atomic.Int64 // bytes read
	total int64        // bytes stored in the wanted frames
}

// frame is a frame as it is stored.
type frame struct {
	dec    *zstd.Decoder
	packed []byte
	err    error // of reading it
	size   int
	lines  int
}

// frameDecoder decodes whole frames for everybody: it keeps nothing between
// them, and making one costs more than a small file.
var frameDecoder = sync.OnceValue(func() *zstd.Decoder {
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(runtime.GOMAXPROCS(0)), zstd.WithDecoderMaxMemory(4*maxLine))
	if err != nil {
		panic(err) // our options do not fit each other
	}
	return dec
})

// openFrames returns a Reader of the wanted frames of f, nil if f has no index.
func openFrames(f *os.File, name string, want Selection) *Reader {
	st, err := f.Stat()
	if err != nil || !st.Mode().IsRegular() {
		return nil
	}
	x := readIndex(f, st.Size())
	if x == nil || len(x.frames) == 0 {
		return nil
	}
	dec := frameDecoder()
	frames := &frameReader{file: f, dec: dec, index: x, places: x.selected(want), number: 1}
	// The first frame begins with the magic line; without it this is no flog file.
	var first Block
	head := make([]byte, x.frames[0].stored)
	if _, err := f.ReadAt(head, 0); err != nil {
		return nil
	}
	if first.Data, err = dec.DecodeAll(head, nil); err != nil || len(first.Data) < len(Magic) || string(first.Data[:len(Magic)]) != Magic {
		return nil
	}
	for _, place := range frames.places {
		frames.total += x.frames[place].stored
	}
	return &Reader{name: name, frames: frames, damage: DamageError{Name: name}}
}

// next sets b to the next wanted frame; false at the end.
func (r *frameReader) next(b *Block) bool {
	if r.at == len(r.places) {
		return false
	}
	place := r.places[r.at]
	r.at++
	for ; r.place < place; r.place++ {
		f := &r.index.frames[r.place]
		r.start += f.stored
		r.offset += f.size
		r.number += f.lines
	}
	f := &r.index.frames[place]
	if b.frame == nil {
		b.frame = &frame{}
	}
	if int64(cap(b.Data)) < f.size {
		b.Data = make([]byte, 0, f.size)
	}
	b.Data = b.Data[:0]
	b.Number, b.Offset = r.number, r.offset
	fr := b.frame
	fr.dec, fr.size, fr.lines = r.dec, int(f.size), f.lines
	if int64(cap(fr.packed)) < f.stored {
		fr.packed = make([]byte, f.stored)
	}
	fr.packed = fr.packed[:f.stored]
	_, fr.err = r.file.ReadAt(fr.packed, r.start)
	r.used.Add(f.stored)
	return true
}

func (r *frameReader) Close() error { return r.file.Close() }

// unpack makes b's lines of its frame. A damaged one is noted; the frames after
// it do not depend on it.
func (b *Block) unpack(damage *DamageError) {
	f := b.frame
	b.frame = nil
	err := f.err
	if err == nil {
		b.Data, err = f.dec.DecodeAll(f.packed, b.Data[:0])
	}
	if err == nil && len(b.Data) != f.size {
		err = fmt.Errorf("%d bytes where the index says %d", len(b.Data), f.size)
	}
	if err != nil {
		b.Data = b.Data[:0]
		damage.first(b.Number, b.Offset, fmt.Sprintf("damaged zstd frame (%v)", err))
		damage.Lines += f.lines
		damage.Bytes += int64(f.size)
		return
	}
	if b.Offset == 0 {
		b.Data = b.Data[len(Magic):]
		b.Number, b.Offset = 2, int64(len(Magic))
	}
}
