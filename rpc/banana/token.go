// Package banana converts between Foolscap's wire tokens and Go values.
//
// A token is a header of base-128 digits, least significant first, then a type
// byte with its high bit set, then for some types a body:
//
//	05 82 68 65 6c 6c 6f    STRING, header 5, body "hello"
//
// Some values are one token, the others are sequences that nest:
//
//	38 88 04 87 02 81 38 89    OPEN(56) VOCAB 4 (list) INT 2 CLOSE(56), the list [2]
//
// A [Reader] turns bytes into tokens, a [Decoder] turns tokens into values, and a
// [Message] turns values into bytes. Sequences that depend on a connection, such
// as references to remote objects, are read and written by functions that the
// caller provides. The types start no goroutines, and each value serves one
// goroutine at a time. Whatever is read is untrusted: [Limits] bound its cost.
//
// [Tuple] lists the Go types of values.
//
// Spec: foolscap-wire.md sections 3 and 4.
package banana

import (
	"fmt"
	"math/big"
)

// Type is a token's type byte.
type Type byte

// The type bytes of the protocol.
const (
	TokenList    Type = 0x80 // obsolete
	TokenInt     Type = 0x81
	TokenString  Type = 0x82
	TokenNeg     Type = 0x83
	TokenFloat   Type = 0x84
	TokenLongInt Type = 0x85
	TokenLongNeg Type = 0x86
	TokenVocab   Type = 0x87
	TokenOpen    Type = 0x88
	TokenClose   Type = 0x89
	TokenAbort   Type = 0x8a
	TokenError   Type = 0x8d
	TokenPing    Type = 0x8e
	TokenPong    Type = 0x8f
)

var typeNames = map[Type]string{
	TokenList: "LIST", TokenInt: "INT", TokenString: "STRING", TokenNeg: "NEG", TokenFloat: "FLOAT", TokenLongInt: "LONGINT", TokenLongNeg: "LONGNEG",
	TokenVocab: "VOCAB", TokenOpen: "OPEN", TokenClose: "CLOSE", TokenAbort: "ABORT", TokenError: "ERROR", TokenPing: "PING", TokenPong: "PONG",
}

// String returns the type's name in the protocol, "INT" for example, or the byte
// in hex.
func (t Type) String() string {
	if name, ok := typeNames[t]; ok {
		return name
	}
	return fmt.Sprintf("0x%02x", byte(t))
}

// A Token is one token as read.
type Token struct {
	Type Type
	Num  uint64   // the header: a number, a length, or a VOCAB index
	Big  *big.Int // the header if it does not fit Num; then Num is 0

	// Body is the body of a STRING, LONGINT, LONGNEG or ERROR, the word of a
	// VOCAB, or the 8 bytes of a FLOAT. It is valid until the next call of Next;
	// if Owned is set, it belongs to the caller.
	Body  []byte
	Owned bool
}

// IsString reports whether the token is a byte string: a STRING, or a VOCAB, which
// may replace a STRING in every place.
func (t *Token) IsString() bool { return t.Type == TokenString || t.Type == TokenVocab }

const (
	maxHeader  = 64       // digits; foolscap-wire.md section 3.1
	maxIndex   = 15       // bytes of a STRING that names a sequence; foolscap-wire.md section 3.3
	maxError   = 1000     // bytes in an ERROR token; foolscap-wire.md section 3.1
	maxInteger = 64 << 10 // bytes of a LONGINT; our choice: the original accepts 1024
)

// A SyntaxError reports bytes that are not the protocol. After one the stream
// cannot be read any further.
type SyntaxError struct {
	Offset int64 // bytes read before the offending token
	Reason string
	Err    error // ErrLimit, or nil
}

// Error returns the reason with the offset.
func (e *SyntaxError) Error() string {
	return fmt.Sprintf("banana: at byte %d: %s", e.Offset, e.Reason)
}

// Unwrap returns e.Err.
func (e *SyntaxError) Unwrap() error { return e.Err }

// A Violation reports well-formed data that may not be sent or accepted in its
// place. It costs one message; the connection stays usable.
type Violation struct {
	Where  string // "in argument observer of subscribe"; may be empty
	Reason string
	Err    error // ErrLimit, or nil
}

// Error returns the place, if there is one, and the reason.
func (v *Violation) Error() string {
	if v.Where == "" {
		return "violation: " + v.Reason
	}
	return "violation " + v.Where + ": " + v.Reason
}

// Unwrap returns v.Err.
func (v *Violation) Unwrap() error { return v.Err }

// RemoteType returns the name of the exception type under which a Violation is
// sent to the peer.
func (v *Violation) RemoteType() string { return "foolscap.tokens.Violation" }

func violationf(format string, a ...any) *Violation {
	return &Violation{Reason: fmt.Sprintf(format, a...)}
}

// A PeerError holds the text of an ERROR token: why the peer closes the
// connection.
type PeerError struct{ Text string }

// Error returns the text, quoted.
func (e *PeerError) Error() string { return fmt.Sprintf("the peer reported an error: %q", e.Text) }

// appendHeader appends n in base 128; 0 becomes one zero byte.
func appendHeader(dst []byte, n uint64) []byte {
	for n >= 0x80 {
		dst = append(dst, byte(n&0x7f))
		n >>= 7
	}
	return append(dst, byte(n))
}

// AppendToken appends a token without a body to dst.
func AppendToken(dst []byte, n uint64, t Type) []byte {
	return append(appendHeader(dst, n), byte(t))
}

// AppendPing appends a PING or PONG to dst. Its number 0 is written as an empty
// header.
func AppendPing(dst []byte, n uint64, t Type) []byte {
	if n != 0 {
		dst = appendHeader(dst, n)
	}
	return append(dst, byte(t))
}

// AppendError appends an ERROR token to dst and cuts its text to the 1000 bytes
// that the protocol allows.
func AppendError(dst []byte, text string) []byte {
	text = text[:min(len(text), maxError)]
	dst = appendHeader(dst, uint64(len(text)))
	dst = append(dst, byte(TokenError))
	return append(dst, text...)
}

// AppendInt appends an integer to dst as the original encodes it: INT and NEG for
// 32-bit numbers, LONGINT and LONGNEG for larger ones.
func AppendInt(dst []byte, n int64) []byte {
	switch {
	case n >= 0 && n < 1<<31:
		return AppendToken(dst, uint64(n), TokenInt)
	case n < 0 && n >= -1<<31:
		return AppendToken(dst, uint64(-n), TokenNeg)
	case n < 0:
		return appendMagnitude(dst, -uint64(n), TokenLongNeg)
	}
	return appendMagnitude(dst, uint64(n), TokenLongInt)
}

func appendMagnitude(dst []byte, n uint64, t Type) []byte {
	size := 8
	for size > 1 && n>>(8*(size-1)) == 0 {
		size--
	}
	dst = append(dst, byte(size), byte(t))
	for ; size > 0; size-- {
		dst = append(dst, byte(n>>(8*(size-1))))
	}
	return dst
}

// AppendString appends a STRING token to dst.
func AppendString(dst []byte, s string) []byte {
	dst = append(appendHeader(dst, uint64(len(s))), byte(TokenString))
	return append(dst, s...)
}
