package flogfile

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/klauspost/compress/zstd"
)

// frameSize is how many bytes of lines one zstd frame holds: enough for the best
// ratio, few enough that a reader of ten seconds reads little else.
const frameSize = 256 << 10

// Bzip2 makes a bzip2 compressor; package event/flogfile/bzip2 has one.
type Bzip2 func(w io.Writer) (io.WriteCloser, error)

// ErrNoBzip2 is why a .bz2 file cannot be written.
var ErrNoBzip2 = errors.New("flogfile: this program cannot write .bz2 files")

// Writer writes a flog file, compressed as its name says: .zst, .bz2, .gz, else
// not. It serves one goroutine. The magic line is written by the first call of
// any method.
type Writer struct {
	w     io.Writer
	file  *os.File // if Create opened it
	lines lineWriter
	begun bool
	err   error
}

// lineWriter is where a Writer's lines go.
type lineWriter interface {
	io.Writer     // whole lines
	flush() error // what was written can be read
	close() error // ends the data
}

// Create creates or truncates the file at path, with mode 0600 if it is new. The
// compressor for .bz2 may be nil; the error then is [ErrNoBzip2] for such a
// name.
func Create(path string, compressor Bzip2) (*Writer, error) {
	if strings.HasSuffix(path, ".bz2") && compressor == nil {
		return nil, ErrNoBzip2
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	w, err := NewWriter(f, path, compressor)
	if err != nil {
		f.Close()
		return nil, err
	}
	w.file = f
	return w, nil
}

// NewWriter returns a Writer into w, compressed as name says. The caller closes
// w after the Writer.
func NewWriter(w io.Writer, name string, compressor Bzip2) (*Writer, error) {
	lines, err := newLineWriter(w, name, compressor)
	if err != nil {
		return nil, err
	}
	return &Writer{w: w, lines: lines}, nil
}

func newLineWriter(w io.Writer, name string, compressor Bzip2) (lineWriter, error) {
	switch {
	case strings.HasSuffix(name, ".zst"):
		return newFrameWriter(w)
	case strings.HasSuffix(name, ".gz"):
		zw := gzip.NewWriter(w)
		return &streamWriter{bufio.NewWriterSize(zw, 64<<10), zw, zw.Flush}, nil
	case strings.HasSuffix(name, ".bz2"):
		if compressor == nil {
			return nil, ErrNoBzip2
		}
		zw, err := compressor(w)
		if err != nil {
			return nil, err
		}
		return &streamWriter{bufio.NewWriterSize(zw, 64<<10), zw, nil}, nil
	}
	return &streamWriter{bufio.NewWriterSize(w, 64<<10), nil, nil}, nil
}

// Write writes whole lines, each with its line's end.
func (w *Writer) Write(lines []byte) (int, error) {
	w.begin()
	if w.err != nil {
		return 0, w.err
	}
	if len(lines) > 0 && lines[len(lines)-1] != '\n' {
		return 0, fmt.Errorf("flogfile: write of a piece of a line")
	}
	n, err := w.lines.Write(lines)
	w.err = err
	return n, err
}

// CopyPlain writes all lines of a plain flog file, until ctx is done. A last line
// without its end is given one.
func (w *Writer) CopyPlain(ctx context.Context, plain io.Reader) error {
	magic := make([]byte, len(Magic))
	if _, err := io.ReadFull(plain, magic); err != nil || string(magic) != Magic {
		return errors.New("flogfile: no plain flog file")
	}
	var buf []byte
	for {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		buf = slices.Grow(buf, 64<<10)
		n, err := plain.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		if err == io.EOF && len(buf) > 0 && buf[len(buf)-1] != '\n' {
			buf = append(buf, '\n')
		}
		whole := bytes.LastIndexByte(buf, '\n') + 1
		if _, err := w.Write(buf[:whole]); err != nil {
			return err
		}
		buf = append(buf[:0], buf[whole:]...)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (w *Writer) begin() {
	if !w.begun {
		w.begun = true
		_, w.err = w.lines.Write([]byte(Magic))
	}
}

// Flush makes what was written readable for others, except in .bz2 files, whose
// format has no such thing before the end.
func (w *Writer) Flush() error {
	if w.begin(); w.err == nil {
		w.err = w.lines.flush()
	}
	return w.err
}

// Close ends the data, and closes the file that Create opened. It returns the
// first error there was.
func (w *Writer) Close() error {
	if w.begin(); w.err == nil {
		w.err = w.lines.close()
	}
	if w.file != nil {
		if err := w.file.Close(); w.err == nil {
			w.err = err
		}
		w.file = nil
	}
	if w.err == nil {
		w.err = errClosed
		return nil
	}
	if errors.Is(w.err, errClosed) {
		return nil
	}
	return w.err
}

var errClosed = errors.New("flogfile: Writer is closed")

// streamWriter writes one stream, compressed or not.
type streamWriter struct {
	*bufio.Writer
	zw     io.WriteCloser // the compressor, nil if there is none
	zflush func() error   // its, nil if it has none
}

func (s *streamWriter) flush() error {
	if err := s.Flush(); err != nil || s.zflush == nil {
		return err
	}
	return s.zflush()
}

func (s *streamWriter) close() error {
	if err := s.Flush(); err != nil || s.zw == nil {
		return err
	}
	return s.zw.Close()
}

// frameWriter writes independent zstd frames of whole lines, and at the end
// their index. A crash tears the last frame at most.
type frameWriter struct {
	w       io.Writer
	enc     *zstd.Encoder
	pending []byte // lines of the next frame
	packed  []byte
	index   indexBuilder
	headed  bool // the frame with the header is written
}

func newFrameWriter(w io.Writer) (*frameWriter, error) {
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1))
	if err != nil {
		return nil, err
	}
	return &frameWriter{w: w, enc: enc}, nil
}

func (f *frameWriter) Write(lines []byte) (int, error) {
	n := len(lines)
	if !f.headed && string(lines) != Magic {
		// The header has a frame of its own, so that who needs no more, as most
		// rules do, reads no more: BenchmarkClassify.
		f.headed = true
		if bytes.HasPrefix(lines, []byte(`{"header"`)) {
			cut := bytes.IndexByte(lines, '\n') + 1
			f.pending = append(f.pending, lines[:cut]...)
			lines = lines[cut:]
			if err := f.flush(); err != nil {
				return 0, err
			}
		}
	}
	for len(lines) > 0 {
		// Frames end where lines end.
		room := frameSize - len(f.pending)
		if len(lines) < room {
			f.pending = append(f.pending, lines...)
			break
		}
		cut := bytes.LastIndexByte(lines[:max(room, 0)], '\n') + 1
		if cut == 0 && len(f.pending) == 0 { // a line longer than a frame
			cut = bytes.IndexByte(lines, '\n') + 1
		}
		f.pending = append(f.pending, lines[:cut]...)
		lines = lines[cut:]
		if err := f.flush(); err != nil {
			return 0, err
		}
	}
	return n, nil
}

func (f *frameWriter) flush() error {
	if len(f.pending) == 0 {
		return nil
	}
	f.packed = f.enc.EncodeAll(f.pending, f.packed[:0])
	f.index.add(f.pending, len(f.packed))
	f.pending = f.pending[:0]
	_, err := f.w.Write(f.packed)
	return err
}

func (f *frameWriter) close() error {
	if err := f.flush(); err != nil {
		return err
	}
	_, err := f.w.Write(f.index.appendFrame(nil))
	return err
}
