package flogfile

import (
	"bufio"
	"compress/bzip2"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strings"
	"sync/atomic"

	"github.com/klauspost/compress/zstd"
)

// input is the content of a file without its compression.
type input struct {
	in          *bufio.Reader // of the stored bytes
	br          *bufio.Reader // of the decompressed bytes
	compressed  string        // the compression's name, "" if there is none
	interactive bool          // a pipe: lines are returned as they come
	stored      atomic.Int64  // stored bytes that were read
	size        int64         // stored bytes of the file, 0 if unknown
	err         error         // of broken
	zr          *zstd.Decoder
	file        *os.File
}

// counter counts what is read through it.
type counter struct {
	r io.Reader
	n *atomic.Int64
}

func (c counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n.Add(int64(n))
	return n, err
}

// openInput finds the compression of src from its first bytes. It does not decompress
// bzip2 data in a file whose name has another suffix, since the original refuses it. A
// pipe has no name.
func openInput(src io.Reader, name string, limits Limits) (*input, error) {
	s := &input{}
	if f, ok := src.(*os.File); ok {
		if st, err := f.Stat(); err == nil {
			s.size = st.Size()
			s.interactive = !st.Mode().IsRegular()
		}
	}
	if i, ok := src.(interface{ Interactive() bool }); ok {
		s.interactive = i.Interactive()
	}
	stored := bufio.NewReaderSize(counter{src, &s.stored}, 64<<10)
	s.in = stored
	bounded := func(r io.Reader) *bufio.Reader {
		if limits.Bytes < math.MaxInt64 {
			r = &limitedReader{r, limits.Bytes, limits.Bytes}
		}
		return bufio.NewReaderSize(r, 64<<10)
	}
	head, err := stored.Peek(4)
	if err != nil && err != io.EOF {
		return nil, err
	}
	magic := string(head)
	suffix := func(ext string) bool { return strings.HasSuffix(name, ext) }
	switch {
	case len(head) == 0 && (suffix(".bz2") || suffix(".zst") || suffix(".gz")):
		s.compressed = "compressed"
		s.br = bufio.NewReader(errReader{io.ErrUnexpectedEOF})
	case strings.HasPrefix(magic, "BZh") && (suffix(".bz2") || suffix(".tmp") || s.interactive || name == "-"):
		s.compressed = "bzip2"
		s.br = bounded(&bzip2Input{r: bzip2.NewReader(stored)})
	case isZstd(magic):
		s.compressed = "zstd"
		s.zr, err = zstd.NewReader(stored, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(uint64(limits.Window)))
		if err != nil {
			return nil, err
		}
		s.br = bounded(s.zr)
	case strings.HasPrefix(magic, "\x1f\x8b"):
		s.compressed = "gzip"
		zr, err := gzip.NewReader(stored)
		if err != nil {
			s.br = bufio.NewReader(errReader{err})
			break
		}
		s.br = bounded(zr)
	default:
		s.br = stored
		if limits.Bytes < math.MaxInt64 {
			s.br = bounded(stored)
		}
	}
	return s, nil
}

// isZstd reports whether magic begins a zstd frame, or a skippable one.
func isZstd(magic string) bool {
	return magic == "\x28\xb5\x2f\xfd" || len(magic) == 4 && magic[0]&0xf0 == 0x50 && magic[1:] == "\x2a\x4d\x18"
}

type errReader struct{ err error }

func (r errReader) Read([]byte) (int, error) { return 0, r.err }

// bzip2Input ignores what follows the last complete stream, as the original does.
type bzip2Input struct {
	r   io.Reader
	any bool
}

func (s *bzip2Input) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	s.any = s.any || n > 0
	if structural, ok := errors.AsType[bzip2.StructuralError](err); ok && s.any && strings.Contains(string(structural), "continuation") {
		err = io.EOF
	}
	return n, err
}

func (s *input) Read(p []byte) (int, error) { return s.br.Read(p) }

func (s *input) peek(n int) ([]byte, error) { return s.br.Peek(n) }

// broken reports whether the compressed data is damaged near its start.
func (s *input) broken() bool {
	_, err := io.CopyN(io.Discard, s.br, 1<<20)
	s.err = err
	return err != nil && err != io.EOF
}

func (s *input) discard(n int) { s.br.Discard(n) } // of what peek has read

// used returns how many of the stored bytes were decompressed.
func (s *input) used() int64 { return s.stored.Load() - int64(s.in.Buffered()) }

// describe says what is known about the rest of a file whose content ended with err.
func (s *input) describe(err error) string {
	what := err.Error()
	switch {
	case s.compressed == "":
		return what
	case errors.Is(err, io.ErrUnexpectedEOF) || s.in.Buffered() == 0 && s.used() == s.size && s.size > 0:
		what = fmt.Sprintf("the %s data ends too early", s.compressed)
	default:
		what = fmt.Sprintf("the %s data is damaged (%s)", s.compressed, strings.TrimPrefix(what, s.compressed+" data invalid: "))
	}
	if s.size > 0 {
		what += fmt.Sprintf(" within the first %d of %d stored bytes", s.used(), s.size)
	}
	return what + ": how much is missing cannot be known"
}

func (s *input) Close() error {
	if s.zr != nil {
		s.zr.Close()
	}
	if s.file != nil {
		return s.file.Close()
	}
	return nil
}
