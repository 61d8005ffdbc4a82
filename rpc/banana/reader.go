package banana

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"math/big"
)

// ErrLimit is wrapped by every error that reports an exceeded limit.
var ErrLimit = errors.New("limit exceeded")

// Limits bound the cost of reading. A zero field means its default.
type Limits struct {
	Token   int64 // bytes of one string; default 128 MiB; a longer one is a Violation
	Message int64 // bytes of one top-level sequence; default 256 MiB; a longer one is a SyntaxError
	Values  int   // values in one top-level sequence; default 4 Mi; more is a Violation
	Depth   int   // nesting of sequences; default 1000; deeper is a Violation
}

func (l Limits) withDefaults() Limits {
	l.Token = cmp.Or(l.Token, 128<<20)
	l.Message = cmp.Or(l.Message, 256<<20)
	l.Values = cmp.Or(l.Values, 4<<20)
	l.Depth = cmp.Or(l.Depth, 1000)
	return l
}

const (
	readBuffer = 4 << 10   // bytes that an idle connection keeps
	bodyStart  = 256 << 10 // bytes allocated for a body before any of it has arrived
)

// A Reader splits a stream into tokens. It keeps track of open sequences, so that
// the rest of a message can be skipped. One goroutine may use it at a time.
type Reader struct {
	// OnPing is called with the number of each PING; the caller answers it. May be
	// nil.
	OnPing func(n uint64)

	// Alloc, if set, returns memory of n bytes for a body that does not fit the
	// Reader's buffer of 4 KiB. Memory for bodies above 256 KiB is always allocated
	// as they arrive.
	Alloc func(n int) []byte

	// Charge, if set, is called before memory of about n bytes is allocated for what
	// is being read; small amounts are added up first. It may block. Its error ends
	// the Reader.
	Charge func(n int64) error

	// MaxMessage, if set, returns how many bytes the top-level sequence that begins
	// now may have; at most Limits.Message.
	MaxMessage func() int64

	src   io.Reader
	lim   Limits
	vocab bool // table 1; else table 0
	buf   []byte
	r, w  int   // buf[r:w] is read from src and not yet consumed
	base  int64 // bytes consumed before buf[0]
	end   int64 // offset at which the current top-level sequence must have ended
	most  int64 // bytes of it
	soft  int64 // offset beyond which the rest of it is refused: see Allow
	due   int64 // bytes not charged yet

	opens uint64   // OPEN tokens read since the stream began
	open  []uint64 // numbers of the open sequences, innermost last
	deep  int      // sequences open beyond Depth, only while skipping
	skips bool     // what is read is dropped

	tok Token
	err error // sticky
}

// NewReader returns a Reader of src. table is the vocabulary table of the stream, 0
// or 1.
func NewReader(src io.Reader, table int, lim Limits) *Reader {
	return &Reader{src: src, vocab: table == 1, lim: lim.withDefaults(), buf: make([]byte, readBuffer), end: 1<<63 - 1, soft: 1<<63 - 1}
}

// Allow gives the current top-level sequence that many bytes more from here on. What
// goes beyond is a *Violation that wraps [ErrLimit]; Limits.Message still ends the
// Reader.
func (r *Reader) Allow(bytes int64) { r.soft = r.Offset() + min(bytes, 1<<62-r.Offset()) }

// chargeStep is how many bytes are charged at once.
const chargeStep = 16 << 10

// charge charges n bytes.
func (r *Reader) charge(n int) error {
	if r.Charge == nil {
		return nil
	}
	if r.due += int64(n); r.due < chargeStep {
		return nil
	}
	return r.ChargeDue()
}

// ChargeDue charges what was added up. The caller does so when a message is complete.
func (r *Reader) ChargeDue() error {
	due := r.due
	if r.due = 0; r.Charge == nil || due == 0 {
		return nil
	}
	if err := r.Charge(due); err != nil {
		return r.fail(err)
	}
	return nil
}

// Offset returns the number of bytes consumed so far.
func (r *Reader) Offset() int64 { return r.base + int64(r.r) }

// Buffered reports whether the Reader holds bytes that it has not consumed.
func (r *Reader) Buffered() bool { return r.r < r.w }

// Depth returns the number of open sequences.
func (r *Reader) Depth() int { return len(r.open) + r.deep }

func (r *Reader) fail(err error) error {
	r.err = err
	return err
}

func (r *Reader) syntax(at int64, format string, a ...any) error {
	return r.fail(&SyntaxError{Offset: at, Reason: fmt.Sprintf(format, a...)})
}

// fill reads more bytes after buf[r:w], which must be shorter than the buffer.
func (r *Reader) fill() error {
	if r.r > 0 {
		copy(r.buf, r.buf[r.r:r.w])
		r.base += int64(r.r)
		r.w -= r.r
		r.r = 0
	}
	for range 100 {
		n, err := r.src.Read(r.buf[r.w:])
		r.w += n
		if n > 0 {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return io.ErrNoProgress
}

// readFail records the error of a read. Inside a token or a sequence the end of
// the stream is unexpected.
func (r *Reader) readFail(err error, inside bool) error {
	if err == io.EOF && inside {
		err = io.ErrUnexpectedEOF
	}
	return r.fail(err)
}

// Next returns the next token other than PING, PONG and ERROR. Its Body is
// valid until the next call of Next.
//
// The end of the stream is io.EOF between top-level sequences and
// io.ErrUnexpectedEOF inside one. Bytes that are not banana are a *SyntaxError, an
// ERROR token is a *PeerError. After such an error, or one of the source, every
// later call returns the same error. A *Violation means that a token over a limit
// was read and dropped; Next may be called again.
func (r *Reader) Next() (*Token, error) {
	if r.err != nil {
		return nil, r.err
	}
	for {
		t := &r.tok
		t.Big, t.Body, t.Owned = nil, nil, false
		at := r.Offset()
		// The header: digits are below 0x80, the type byte is not.
		i := r.r
		var n uint64
		var c byte
		for shift := 0; ; i++ {
			if i == r.w {
				digits := i - r.r
				if err := r.fill(); err != nil {
					return nil, r.readFail(err, digits > 0 || len(r.open) > 0)
				}
				i = r.r + digits
			}
			c = r.buf[i]
			if c >= 0x80 {
				break
			}
			if i-r.r == maxHeader {
				return nil, r.syntax(at, "token prefix is limited to %d bytes", maxHeader)
			}
			if shift < 63 {
				n |= uint64(c) << shift
				shift += 7
			} else if c != 0 {
				// Seen again below, from the buffer: rare.
				t.Big = new(big.Int)
			}
		}
		header := r.buf[r.r:i]
		r.r = i + 1
		if t.Big != nil {
			for j := len(header) - 1; j >= 0; j-- {
				t.Big.Lsh(t.Big, 7).Or(t.Big, big.NewInt(int64(header[j])))
			}
			n = 0
		}
		t.Type, t.Num = Type(c), n

		switch t.Type {
		case TokenInt, TokenNeg:
			return t, r.checkEnd(at)
		case TokenString:
			return t, r.body(at, n, r.lim.Token)
		case TokenVocab:
			if t.Big != nil || n >= uint64(len(words)) || !r.vocab {
				return nil, r.syntax(at, "VOCAB %d is not in the table", n)
			}
			t.Body = wordBytes[n]
			return t, r.checkEnd(at)
		case TokenOpen:
			r.opens++
			if len(r.open) == 0 {
				r.most = r.lim.Message
				if r.MaxMessage != nil {
					r.most = min(r.most, r.MaxMessage())
				}
				r.end, r.soft = at+r.most, 1<<63-1
			}
			if len(r.open) >= r.lim.Depth {
				r.deep++
				return nil, r.depthViolation()
			}
			r.open = append(r.open, n)
			return t, r.checkEnd(at)
		case TokenClose:
			if r.deep > 0 {
				r.deep--
				return t, nil
			}
			if len(r.open) == 0 {
				return nil, r.syntax(at, "CLOSE without OPEN")
			}
			if last := r.open[len(r.open)-1]; last != n || t.Big != nil {
				return nil, r.syntax(at, "lost sync, got CLOSE(%d) but expecting %d", n, last)
			}
			r.open = r.open[:len(r.open)-1]
			return t, nil
		case TokenFloat:
			if err := r.body(at, 8, 8); err != nil {
				return nil, err
			}
			return t, nil
		case TokenLongInt, TokenLongNeg:
			return t, r.body(at, n, maxInteger)
		case TokenAbort:
			return t, r.checkEnd(at)
		case TokenError:
			if t.Big != nil || n > maxError {
				return nil, r.syntax(at, "ERROR of more than %d bytes", maxError)
			}
			r.skips = false // its text is wanted wherever it comes
			if err := r.body(at, n, maxError); err != nil {
				return nil, err
			}
			return nil, r.fail(&PeerError{Text: string(t.Body)})
		case TokenPing:
			if r.OnPing != nil {
				r.OnPing(n)
			}
		case TokenPong:
		default:
			return nil, r.syntax(at, "unknown token type %v", t.Type)
		}
	}
}

func (r *Reader) depthViolation() error {
	return &Violation{Reason: fmt.Sprintf("sequences nest deeper than %d", r.lim.Depth), Err: ErrLimit}
}

func (r *Reader) tooLong(at int64) error {
	return r.fail(&SyntaxError{Offset: at, Reason: fmt.Sprintf("message longer than %d bytes", r.most), Err: ErrLimit})
}

func (r *Reader) checkEnd(at int64) error {
	if at > r.end {
		return r.tooLong(at)
	}
	if at > r.soft && !r.skips {
		return r.refused()
	}
	return nil
}

func (r *Reader) refused() error {
	return &Violation{Reason: "the message is longer than is accepted here", Err: ErrLimit}
}

// body reads the n bytes of the current token's body, or drops them if n exceeds
// max.
func (r *Reader) body(at int64, n uint64, max int64) error {
	if r.tok.Big != nil || n > 1<<62 || r.Offset()+int64(n) > r.end && len(r.open) > 0 {
		return r.tooLong(at)
	}
	size := int(n)
	if len(r.open) == 0 && size > maxError {
		return r.syntax(at, "top-level must be OPEN")
	}
	if r.skips {
		return r.discard(size)
	}
	if r.Offset()+int64(n) > r.soft && len(r.open) > 0 {
		if err := r.discard(size); err != nil {
			return err
		}
		return r.refused()
	}
	if int64(n) > max {
		if err := r.discard(size); err != nil {
			return err
		}
		return &Violation{Reason: fmt.Sprintf("%v of %d bytes, the limit is %d", r.tok.Type, n, max), Err: ErrLimit}
	}
	if size <= len(r.buf) {
		for r.w-r.r < size {
			if err := r.fill(); err != nil {
				return r.readFail(err, true)
			}
		}
		r.tok.Body = r.buf[r.r : r.r+size : r.r+size]
		r.r += size
		return nil
	}
	// Large bodies are read directly into their own memory, which grows as they
	// arrive: a length alone costs nothing.
	if err := r.charge(min(size, bodyStart)); err != nil {
		return err
	}
	var b []byte
	if r.Alloc != nil && size <= bodyStart {
		b = r.Alloc(size)
	} else {
		b = make([]byte, min(size, bodyStart))
	}
	have := r.take(b)
	for {
		for have < len(b) {
			k, err := r.src.Read(b[have:])
			have += k
			r.base += int64(k)
			if err != nil && have < size {
				return r.readFail(err, true)
			}
		}
		if have == size {
			break
		}
		more := min(size, 2*len(b))
		if err := r.charge(more - len(b)); err != nil {
			return err
		}
		grown := make([]byte, more)
		copy(grown, b)
		b = grown
	}
	r.tok.Body, r.tok.Owned = b, true
	return nil
}

// take moves the buffered bytes to b, which is longer.
func (r *Reader) take(b []byte) int {
	n := copy(b, r.buf[r.r:r.w])
	r.r += n
	return n
}

func (r *Reader) discard(n int) error {
	for n > 0 {
		if r.r == r.w {
			if err := r.fill(); err != nil {
				return r.readFail(err, true)
			}
		}
		k := min(n, r.w-r.r)
		r.r += k
		n -= k
	}
	return nil
}

// Skip reads and drops tokens until only depth sequences are open. After a
// Violation, Skip(0) drops the rest of the message.
//
// Bodies are not read into memory.
func (r *Reader) Skip(depth int) error {
	r.skips = true
	defer func() { r.skips = false }()
	for r.Depth() > depth {
		if _, err := r.Next(); err != nil && r.err != nil {
			return err
		}
	}
	return nil
}
