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

// frameSize is the size of the lines of one zstd frame in bytes. Larger frames do not
// compress better, and smaller ones let a reader of ten seconds read little else.
const frameSize = 256 << 10

// Bzip2 makes a writer that compresses into w by bzip2, such as
// [github.com/flogtool/flogtool/event/flogfile/bzip2.NewWriter]. Programs that do not
// write .bz2 files need not link it.
type Bzip2 func(w io.Writer) (io.WriteCloser, error)

// ErrNoBzip2 is the error of writing a .bz2 file without a [Bzip2].
var ErrNoBzip2 = errors.New("flogfile: this program cannot write .bz2 files")

// Writer writes a flog file. The suffix of the file's name decides about compression:
// .zst, .bz2 or .gz; a file with any other name is plain. The first call of any method
// writes the magic line. A Writer serves one goroutine.
type Writer struct {
	w     io.Writer
	file  *os.File // if Create opened it
	lines lineWriter
	begun bool
	err   error
}

// lineWriter compresses the lines of a Writer.
type lineWriter interface {
	io.Writer     // of whole lines
	flush() error // makes what was written readable
	close() error // ends the data
}

// Create creates or truncates the file at path, with mode 0600 if it is new. The Writer
// owns the file and closes it. bzip2 may be nil; for a .bz2 file the error then is
// [ErrNoBzip2]. Any other error is that of opening the file.
func Create(path string, bzip2 Bzip2) (*Writer, error) {
	if strings.HasSuffix(path, ".bz2") && bzip2 == nil {
		return nil, ErrNoBzip2
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	w, err := NewWriter(f, path, bzip2)
	if err != nil {
		f.Close()
		return nil, err
	}
	w.file = f
	return w, nil
}

// NewWriter returns a Writer that writes a file of this name to w. The caller closes w
// after the Writer. bzip2 and the error are as for [Create].
func NewWriter(w io.Writer, name string, bzip2 Bzip2) (*Writer, error) {
	lines, err := newLineWriter(w, name, bzip2)
	if err != nil {
		return nil, err
	}
	return &Writer{w: w, lines: lines}, nil
}

func newLineWriter(w io.Writer, name string, bzip2 Bzip2) (lineWriter, error) {
	switch {
	case strings.HasSuffix(name, ".zst"):
		return newFrameWriter(w)
	case strings.HasSuffix(name, ".gz"):
		zw := gzip.NewWriter(w)
		return &streamWriter{bufio.NewWriterSize(zw, 64<<10), zw, zw.Flush}, nil
	case strings.HasSuffix(name, ".bz2"):
		if bzip2 == nil {
			return nil, ErrNoBzip2
		}
		zw, err := bzip2(w)
		if err != nil {
			return nil, err
		}
		return &streamWriter{bufio.NewWriterSize(zw, 64<<10), zw, nil}, nil
	}
	return &streamWriter{bufio.NewWriterSize(w, 64<<10), nil, nil}, nil
}

// Write writes whole lines, each with its line end, such as [AppendEvent] appends. It
// returns the error of an earlier write again.
func (w *Writer) Write(lines []byte) (int, error) {
	w.begin()
	if w.err != nil {
		return 0, w.err
	}
	if len(lines) > 0 && lines[len(lines)-1] != '\n' {
		return 0, fmt.Errorf("flogfile: write of an incomplete line")
	}
	n, err := w.lines.Write(lines)
	w.err = err
	return n, err
}

// CopyPlain writes all lines of plain, a flog file without compression. It ends an
// incomplete last line. The error is that of reading, of writing, or the cause of ctx
// if that is done.
func (w *Writer) CopyPlain(ctx context.Context, plain io.Reader) error {
	magic := make([]byte, len(Magic))
	if _, err := io.ReadFull(plain, magic); err != nil || string(magic) != Magic {
		return errors.New("flogfile: not a plain flog file")
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

// Flush makes what was written readable for others. It does nothing for .bz2 files,
// whose format does not allow it. It does not sync the file.
func (w *Writer) Flush() error {
	if w.begin(); w.err == nil {
		w.err = w.lines.flush()
	}
	return w.err
}

// Close ends the data and closes the file that [Create] opened. It returns the first
// error of any method. Further calls return nil.
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

// streamWriter writes one stream, compressed or plain.
type streamWriter struct {
	*bufio.Writer
	zw     io.WriteCloser // the compressor, nil for a plain file
	zflush func() error   // flushes zw, nil if it cannot
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

// frameWriter writes independent zstd frames of whole lines, and their index at the
// end. A crash damages the last frame at most.
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
		// The header has a frame of its own, so that a rule that needs only the
		// header reads only the header.
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
