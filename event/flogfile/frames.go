package flogfile

import (
	"bytes"
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
	wanted []int // indices of the wanted frames
	at     int   // index in wanted of the next frame

	frame  int   // the index of a frame
	start  int64 // bytes before it in the file
	offset int64 // bytes before its first line in the decompressed file
	number int   // of its first line

	used  atomic.Int64 // bytes read
	total int64        // bytes stored in the wanted frames
}

// frame is a frame as it is stored.
type frame struct {
	dec    *zstd.Decoder
	packed []byte
	err    error // of reading it
	size   int   // bytes of its lines
	lines  int
}

// frameDecoder returns the decoder for all readers. It keeps no state between frames,
// and making one takes longer than reading a small file.
var frameDecoder = sync.OnceValue(func() *zstd.Decoder {
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(runtime.GOMAXPROCS(0)), zstd.WithDecodeAllCapLimit(true))
	if err != nil {
		panic(err) // the options contradict each other
	}
	return dec
})

// openFrames returns a Reader of the wanted frames of f, or nil if f has no index or the
// file has to be read as a stream to find where it exceeds its limits.
func openFrames(f *os.File, name string, want Selection, limits Limits) *Reader {
	st, err := f.Stat()
	if err != nil || !st.Mode().IsRegular() {
		return nil
	}
	x := readIndex(f, st.Size())
	if x == nil || len(x.frames) == 0 || !x.within(limits) {
		return nil
	}
	dec := frameDecoder()
	frames := &frameReader{file: f, dec: dec, index: x, wanted: x.selected(want), number: 1}
	// The first frame begins with the magic line; without it this is no flog file.
	var first Block
	head := make([]byte, x.frames[0].stored)
	if _, err := f.ReadAt(head, 0); err != nil {
		return nil
	}
	if first.Data, err = dec.DecodeAll(head, make([]byte, 0, x.frames[0].size)); err != nil || len(first.Data) < len(Magic) || string(first.Data[:len(Magic)]) != Magic {
		return nil
	}
	for _, i := range frames.wanted {
		frames.total += x.frames[i].stored
	}
	return &Reader{name: name, limits: limits, frames: frames, damage: DamageError{Name: name}}
}

// next sets b to the next wanted frame; false at the end.
func (r *frameReader) next(b *Block) bool {
	if r.at == len(r.wanted) {
		return false
	}
	i := r.wanted[r.at]
	r.at++
	for ; r.frame < i; r.frame++ {
		f := &r.index.frames[r.frame]
		r.start += f.stored
		r.offset += f.size
		r.number += f.lines
	}
	f := &r.index.frames[i]
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

// unpack decompresses b's frame into its lines. It notes a damaged frame in damage; the
// other frames do not depend on it.
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
	if lines := bytes.Count(b.Data, []byte{'\n'}); err == nil && lines != f.lines {
		err = fmt.Errorf("%d lines where the index says %d", lines, f.lines)
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
