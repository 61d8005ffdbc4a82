package flogfile

import (
	"bufio"
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/flogtool/flogtool/event"
)

const blockSize = 256 << 10 // bytes read at once; the blocks of two workers fit the cache

// Reader reads one flog file, line by line ([Reader.Next]) or in blocks of lines
// ([Reader.NextBlock], [Map]). It holds one block in memory, or the longest line if
// that is longer. It serves one goroutine at a time.
type Reader struct {
	// AnyJSON makes the Reader return lines that hold JSON but not an object, too. Their
	// Kind is 0. Set it before the first line is read.
	AnyJSON bool

	name   string
	limits Limits
	src    *input
	frames *frameReader // in place of src, for a file with an index
	block  Block        // whose lines Next returns
	line   Line
	carry  []byte // the incomplete line at the end of the last block
	number int    // of the first line of the next block
	offset int64  // of that line
	err    error  // of the source

	// Map reads on a goroutine of its own, while its caller adds damage.
	skipped DamageError // lines that reading skipped
	damage  DamageError // what the caller added; at the end skipped is added
	ended   bool
}

// Block is a part of a file that consists of whole lines.
type Block struct {
	Data   []byte
	Number int   // of its first line; the magic line is 1
	Offset int64 // bytes before it in the (decompressed) file

	any    bool   // as Reader.AnyJSON
	values int    // as Limits.Values; 0 as for a file that its reader trusts
	frame  *frame // if not nil, decompressing it gives Data
}

// DamageError says which part of a file could not be read. The Reader returns it after
// all that could be.
type DamageError struct {
	Name       string // of the file
	Line       int    // the first damaged line; 0 if there is no damage
	Offset     int64  // bytes before that line in the (decompressed) file
	Msg        string // what is wrong with that line
	Lines      int    // how many lines could not be used
	Bytes      int64  // the size of these lines
	Incomplete int    // how many lines were used though something in them is wrong
	Truncated  string // what is known about the rest, if the file ends too early, its compression is damaged or it exceeds its limits; else ""

	cause error // ErrLimit or nil
}

// Unwrap returns [ErrLimit] if the file was not read to its end since it exceeds its
// [Limits], else nil.
func (e *DamageError) Unwrap() error { return e.cause }

// Error returns one line about the first damage and the extent of all of it.
func (e *DamageError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: line %d, byte %d: %s", e.Name, e.Line, e.Offset, e.Msg)
	switch {
	case e.Lines == 1:
		fmt.Fprintf(&b, "; 1 line (%d bytes) is missing", e.Bytes)
	case e.Lines > 1:
		fmt.Fprintf(&b, "; %d lines (%d bytes) are missing", e.Lines, e.Bytes)
	}
	switch {
	case e.Incomplete == 1:
		b.WriteString("; 1 line is incomplete")
	case e.Incomplete > 1:
		fmt.Fprintf(&b, "; %d lines are incomplete", e.Incomplete)
	}
	if e.Truncated != "" {
		fmt.Fprintf(&b, "; %s", e.Truncated)
	}
	return b.String()
}

// AddLost adds a line that cannot be used; msg says why.
func (e *DamageError) AddLost(l *Line, msg string) {
	e.add(l.Number, l.Offset, int64(len(l.Raw))+1, msg)
}

// AddIncomplete adds a line that can be used though something in it is wrong, which
// msg says.
func (e *DamageError) AddIncomplete(l *Line, msg string) {
	e.first(l.Number, l.Offset, msg)
	e.Incomplete++
}

func (e *DamageError) add(line int, offset, size int64, msg string) {
	e.first(line, offset, msg)
	e.Lines++
	e.Bytes += size
}

func (e *DamageError) first(line int, offset int64, msg string) {
	if line != 0 && (e.Line == 0 || line < e.Line) {
		e.Line, e.Offset, e.Msg = line, offset, msg
	}
}

// Merge adds d, the damage of another part of the same file.
func (e *DamageError) Merge(d *DamageError) {
	e.first(d.Line, d.Offset, d.Msg)
	e.Lines += d.Lines
	e.Bytes += d.Bytes
	e.Incomplete += d.Incomplete
}

// FormatError says that a file is not a flog file.
type FormatError struct {
	Name   string // of the file
	Format Format // what it seems to be
}

// Format is the format of a file that is not a flog file.
type Format int

// The formats that a [Reader] recognizes without reading them.
const (
	FormatUnknown Format = iota // any other
	FormatPickle                // a log of Foolscap before 0.13; reading it could run code in it
	FormatFURL                  // a FURL
	FormatBzip2                 // bzip2 data in a file whose name does not end in .bz2
)

// Error says what the file is, and what to do about it if that is known.
func (e *FormatError) Error() string {
	switch e.Format {
	case FormatPickle:
		return fmt.Sprintf("%s: a pickle-based flogfile of foolscap 0.12.7 or earlier: reading it could run code in it", e.Name)
	case FormatFURL:
		return fmt.Sprintf("%s: a FURL file, not a flogfile: use 'flogtool tail %s'", e.Name, e.Name)
	case FormatBzip2:
		return fmt.Sprintf("%s: compressed by bzip2: rename it to %s.bz2", e.Name, e.Name)
	}
	return fmt.Sprintf("%s: not a flogfile: it does not begin with %q", e.Name, strings.TrimSuffix(Magic, "\n"))
}

// Open opens the flog file at path. The error is a *os.PathError, a [*FormatError], or a
// [*DamageError] if nothing can be read. The caller closes the Reader.
func Open(path string) (*Reader, error) { return OpenSelected(path, Selection{}) }

// OpenSelected is [Open] for a caller that wants certain events. Of a file with an index
// it skips the parts that do not hold any.
func OpenSelected(path string, want Selection) (*Reader, error) {
	return open(path, want, ownLimits)
}

// OpenLimited is [Open] for a file that somebody else made.
func OpenLimited(path string, limits Limits) (*Reader, error) {
	return open(path, Selection{}, limits.withDefaults())
}

func open(path string, want Selection, limits Limits) (*Reader, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	if st, err := f.Stat(); err == nil && st.IsDir() {
		f.Close()
		return nil, &os.PathError{Op: "read", Path: path, Err: errors.New("is a directory")}
	}
	if r := openFrames(f, path, want, limits); r != nil {
		return r, nil
	}
	r, err := newReader(f, path, limits)
	if err != nil {
		f.Close()
		return nil, err
	}
	r.src.file = f
	return r, nil
}

// NewReader returns a Reader of the flog file that src holds, plain or compressed. The
// name is for messages; bzip2 data is accepted only if it ends in .bz2 or .tmp, as in the
// original, or if src is a pipe. If src has a method Interactive() bool that returns
// true, lines are returned as they come. Close does not close src.
//
// The error is a [*FormatError], a [*DamageError] if nothing can be read, or that of
// reading src.
func NewReader(src io.Reader, name string) (*Reader, error) { return newReader(src, name, ownLimits) }

// NewLimitedReader is [NewReader] for a file that somebody else made.
func NewLimitedReader(src io.Reader, name string, limits Limits) (*Reader, error) {
	return newReader(src, name, limits.withDefaults())
}

func newReader(src io.Reader, name string, limits Limits) (*Reader, error) {
	s, err := openInput(src, name, limits)
	if err != nil {
		return nil, err
	}
	r := &Reader{name: name, limits: limits, src: s, number: 2, offset: int64(len(Magic)), damage: DamageError{Name: name}}
	head, err := s.peek(len(Magic))
	switch {
	case string(head) == Magic:
		s.discard(len(Magic))
		return r, nil
	case errors.Is(err, ErrLimit):
		s.Close()
		r.err = err
		return nil, r.end()
	case s.compressed != "" && s.broken():
		// A damaged block may decompress to any bytes.
		s.Close()
		r.damage.Line, r.damage.Msg, r.damage.Truncated = 1, "nothing can be read", s.describe(s.err)
		return nil, &r.damage
	case err != nil && err != io.EOF && len(head) == 0:
		s.Close()
		return nil, err
	}
	s.Close()
	return nil, &FormatError{Name: name, Format: formatOf(head, name)}
}

func formatOf(head []byte, name string) Format {
	switch {
	case bytes.HasPrefix(head, []byte("(dp0")):
		return FormatPickle
	case bytes.HasPrefix(head, []byte("pb:")):
		return FormatFURL
	case bytes.HasPrefix(head, []byte("BZh")):
		return FormatBzip2
	}
	return FormatUnknown
}

// Name returns the name given to Open or NewReader.
func (r *Reader) Name() string { return r.name }

// Close closes the file that [Open] opened. Calls of [Reader.Next] then return the
// error that ended the file if its end was reached.
func (r *Reader) Close() error {
	if r.frames != nil {
		return r.frames.Close()
	}
	return r.src.Close()
}

// BytesRead returns how many stored bytes were read, for a progress bar. It may be
// called while another goroutine reads.
func (r *Reader) BytesRead() int64 {
	if r.frames != nil {
		return r.frames.used.Load()
	}
	return r.src.stored.Load()
}

// Size returns what BytesRead will return at the end, or 0 if that is unknown.
func (r *Reader) Size() int64 {
	if r.frames != nil {
		return r.frames.total
	}
	return r.src.size
}

// Next returns the next line that is a JSON object. The line is valid until the next
// call. At the end of the file the error is io.EOF, or a [*DamageError] if part of the
// file could not be read. Later calls return it again.
func (r *Reader) Next() (*Line, error) {
	for {
		line, err := r.block.next(&r.line, &r.damage)
		if err == nil {
			return line, nil
		}
		if err := r.NextBlock(&r.block); err != nil {
			return nil, err
		}
	}
}

// NextBlock reads the next block into b. It reuses the memory of b.Data. The errors are
// those of [Reader.Next].
func (r *Reader) NextBlock(b *Block) error {
	if !r.read(b) {
		return r.end()
	}
	return nil
}

// read is NextBlock without the error: it returns false at the end. It does not use
// r.damage.
func (r *Reader) read(b *Block) bool {
	b.any, b.values = r.AnyJSON, r.limits.Values
	if r.frames != nil {
		if !r.frames.next(b) {
			r.err = io.EOF
			return false
		}
		return true
	}
	if r.err != nil {
		return false
	}
	if cap(b.Data) < blockSize {
		b.Data = make([]byte, 0, blockSize)
	}
	buf := append(b.Data[:0], r.carry...)
	r.carry = r.carry[:0]
	for {
		had := len(buf)
		n, err := r.src.Read(buf[had:cap(buf)])
		buf = buf[:had+n]
		if err != nil {
			r.err = err
			if errors.Is(err, ErrLimit) {
				buf = buf[:bytes.LastIndexByte(buf, '\n')+1]
			}
			break
		}
		cut := bytes.LastIndexByte(buf[had:], '\n')
		if cut >= 0 && (len(buf) == cap(buf) || r.src.interactive) {
			cut += had + 1
			r.carry = append(r.carry, buf[cut:]...)
			buf = buf[:cut]
			break
		}
		if len(buf) < cap(buf) {
			continue
		}
		if last := bytes.LastIndexByte(buf, '\n'); last >= 0 {
			r.carry = append(r.carry, buf[last+1:]...)
			buf = buf[:last+1]
			break
		}
		if len(buf) >= r.limits.LineBytes {
			if err := r.skipLine(int64(len(buf))); err != nil {
				r.err = err
				buf = buf[:0]
				break
			}
			buf = buf[:0]
			continue
		}
		buf = append(buf, make([]byte, len(buf))...)[:len(buf)]
	}
	lines := bytes.Count(buf, []byte{'\n'})
	if read := r.number - 2; lines > r.limits.Lines-read {
		buf, lines = firstLines(buf, r.limits.Lines-read), r.limits.Lines-read
		r.err = &limitError{fmt.Sprintf("%d lines", r.limits.Lines)}
	}
	if r.err != nil && len(buf) == 0 {
		return false
	}
	*b = Block{Data: buf, Number: r.number, Offset: r.offset, any: r.AnyJSON, values: r.limits.Values}
	r.offset += int64(len(buf))
	r.number += lines
	return true
}

// firstLines returns the first n lines of data.
func firstLines(data []byte, n int) []byte {
	end := 0
	for range n {
		end += bytes.IndexByte(data[end:], '\n') + 1
	}
	return data[:end]
}

// skipLine skips the rest of a line of which had bytes were read.
func (r *Reader) skipLine(had int64) error {
	size := had
	defer func() {
		r.skipped.add(r.number, r.offset, size, "line longer than "+mib(int64(r.limits.LineBytes)))
		r.number++
		r.offset += size
	}()
	for {
		piece, err := r.src.br.ReadSlice('\n')
		size += int64(len(piece))
		if err != bufio.ErrBufferFull {
			return err
		}
	}
}

// end returns the error that ends the file.
func (r *Reader) end() error {
	if !r.ended {
		r.ended = true
		r.damage.Merge(&r.skipped)
	}
	if errors.Is(r.err, ErrLimit) {
		r.damage.first(r.number, r.offset, "the rest is not read")
		r.damage.Truncated, r.damage.cause = r.err.Error(), ErrLimit
	} else if r.err != io.EOF {
		if r.damage.Line == 0 {
			r.damage.Line, r.damage.Offset, r.damage.Msg = r.number, r.offset, "the file ends too early"
		}
		r.damage.Truncated = r.src.describe(r.err)
	}
	if r.damage.Line != 0 {
		return &r.damage
	}
	return io.EOF
}

// Damage returns the damage found so far. The caller may add to it, on the goroutine
// that reads; the error at the end of the file includes what it added.
func (r *Reader) Damage() *DamageError { return &r.damage }

// next removes the next line that is a JSON object from the block and returns it;
// io.EOF at the end. It adds other lines to damage.
func (b *Block) next(line *Line, damage *DamageError) (*Line, error) {
	if b.frame != nil {
		b.unpack(damage)
	}
	for len(b.Data) > 0 {
		raw := b.Data
		size := len(raw)
		if i := bytes.IndexByte(raw, '\n'); i >= 0 {
			raw, size = raw[:i], i+1
		}
		line.Raw, line.Number, line.Offset = raw, b.Number, b.Offset
		b.Data = b.Data[size:]
		b.Number++
		b.Offset += int64(size)
		values := cmp.Or(b.values, maxValues)
		line.left = values
		if line.parse() || b.any && line.left >= 0 && isJSON(raw, values) {
			return line, nil
		}
		msg := ""
		switch first := damage.Line == 0 || line.Number < damage.Line; {
		case !first: // it is not shown
		case line.left < 0:
			msg = fmt.Sprintf("more than %d values", values)
		default:
			msg = reason(raw)
		}
		damage.add(line.Number, line.Offset, int64(size), msg)
	}
	return nil, io.EOF
}

// Lines calls yield with each line of b that is a JSON object, until yield returns
// false. It adds other lines to damage. Each time it reuses line.
func (b Block) Lines(line *Line, damage *DamageError, yield func(*Line) bool) {
	for {
		l, err := b.next(line, damage)
		if err != nil || !yield(l) {
			return
		}
	}
}

// isJSON reports whether raw is a JSON value with at most this number of values in it.
func isJSON(raw []byte, values int) bool {
	s := scanner{data: raw, left: values}
	end := s.value(scanBlanks(raw, 0), 0)
	return end >= 0 && scanBlanks(raw, end) == len(raw)
}

const maxReason = 1 << 20 // bytes of a line that are decoded to say what is wrong with it

// reason says what is wrong with a line that is not a JSON object.
func reason(raw []byte) string {
	if len(raw) == 0 {
		return "an empty line"
	}
	if allZero(raw) {
		return "zero bytes, as after a power loss"
	}
	if len(raw) > maxReason {
		return "not a JSON object"
	}
	v, err := event.ParseJSON(raw)
	if err == nil {
		return fmt.Sprintf("%s, where an object is expected", jsonType(v))
	}
	se, ok := err.(*event.SyntaxError)
	if string(raw)+"\n" == Magic {
		return "a second magic line"
	}
	if ok && se.Msg == "string without an end" || se.Offset >= len(raw) {
		return fmt.Sprintf("cut off after %d bytes of the line", len(raw))
	}
	return fmt.Sprintf("%s (column %d)", se.Msg, se.Offset+1)
}

func allZero(raw []byte) bool {
	return len(bytes.Trim(raw, "\x00")) == 0
}

func jsonType(v any) string {
	switch v.(type) {
	case nil:
		return "null"
	case bool:
		return "a boolean"
	case string:
		return "a string"
	case []any:
		return "an array"
	case event.Dict:
		return "an object"
	}
	return "a number"
}

// Suffixes are the suffixes of the names of flog files.
var Suffixes = []string{".flog", ".flog.bz2", ".flog.zst", ".flog.gz"}

// IsName reports whether path has the suffix of a flog file.
func IsName(path string) bool {
	base := filepath.Base(path)
	for _, s := range Suffixes {
		if strings.HasSuffix(base, s) {
			return true
		}
	}
	return false
}
