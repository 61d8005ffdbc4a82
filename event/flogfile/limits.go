package flogfile

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"math"
)

// Limits bound what a [Reader] spends on a file that somebody else made. A zero field has
// its default; a negative one is no bound. Beyond Bytes or Lines the Reader reads
// nothing, and its [DamageError] wraps [ErrLimit]. A line that is too long or has too many
// values counts as damaged, and the others are read.
type Limits struct {
	Bytes     int64 // of the file, decompressed; default 256 MiB
	Lines     int   // default 1,000,000
	LineBytes int   // of one line; default 16 MiB
	Values    int   // of one line: texts, numbers, lists and so on; default 250,000; a whole number of 100,000 digits counts 10,000
	Window    int64 // bytes that a compressed file may refer back to; default 8 MiB
}

// ErrLimit is wrapped by the error of a file that exceeds its [Limits].
var ErrLimit = errors.New("flogfile: the file exceeds its limits")

// withDefaults returns l with each zero field set, and each negative one unbounded.
func (l Limits) withDefaults() Limits {
	return Limits{
		Bytes:     unbounded(cmp.Or(l.Bytes, 256<<20), math.MaxInt64),
		Lines:     unbounded(cmp.Or(l.Lines, 1_000_000), math.MaxInt),
		LineBytes: unbounded(cmp.Or(l.LineBytes, 16<<20), maxLine),
		Values:    unbounded(cmp.Or(l.Values, 250_000), maxValues),
		Window:    unbounded(cmp.Or(l.Window, 8<<20), maxWindow),
	}
}

func unbounded[T int | int64](n, most T) T {
	if n < 0 {
		return most
	}
	return min(n, most)
}

// What a line of any file may cost: a Reader holds a line in memory.
const (
	maxLine   = 64 << 20 // bytes; the Reader skips a longer line
	maxValues = 4 << 20
	maxWindow = 128 << 20 // as the zstd command accepts with --long=27
)

// ownLimits are those of a file that its reader trusts.
var ownLimits = Limits{Bytes: -1, Lines: -1, LineBytes: -1, Values: -1, Window: -1}.withDefaults()

// limitError ends a file that exceeds a limit.
type limitError struct{ limit string } // such as "256 MiB"

func (e *limitError) Error() string { return "the file has more than " + e.limit }

func (e *limitError) Unwrap() error { return ErrLimit }

// mib returns a number of bytes as text.
func mib(n int64) string {
	if n%(1<<20) != 0 {
		return fmt.Sprintf("%d bytes", n)
	}
	return fmt.Sprintf("%d MiB", n>>20)
}

// limitedReader returns a limitError instead of more bytes than it may read.
type limitedReader struct {
	r     io.Reader
	left  int64
	limit int64
}

func (r *limitedReader) Read(p []byte) (int, error) {
	if r.left <= 0 {
		// The end of the file may be just here.
		if n, err := r.r.Read(make([]byte, 1)); n == 0 {
			return 0, err
		}
		return 0, &limitError{mib(r.limit)}
	}
	n, err := r.r.Read(p[:min(int64(len(p)), r.left)])
	r.left -= int64(n)
	return n, err
}
