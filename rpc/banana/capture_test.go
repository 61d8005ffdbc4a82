package banana_test

import (
	"bytes"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/flogtool/flogtool/rpc/banana"
)

// capturedMessages returns the banana messages of the transcripts, by file and
// direction of each connection, in their order.
func capturedMessages(t testing.TB) map[string][][]byte {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("..", "testdata", "captures", "*.txt"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no transcripts: %v", err)
	}
	streams := map[string][][]byte{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		connection := ""
		for line := range strings.Lines(string(text)) {
			if strings.HasPrefix(line, "# ==== connection") {
				connection = strings.Fields(line)[3]
			}
			side, digits, ok := strings.Cut(strings.TrimSpace(line), "> ")
			if !ok || side != "C" && side != "S" {
				continue
			}
			b, err := hex.DecodeString(digits)
			if err != nil {
				t.Fatalf("%s: %v", file, err)
			}
			if bytes.HasSuffix(b, []byte("\r\n\r\n")) {
				continue // of the negotiation
			}
			key := filepath.Base(file) + " " + connection + " " + side
			streams[key] = append(streams[key], b)
		}
	}
	return streams
}

// reference represents the broker's sequences in this test, by their tokens.
type reference struct {
	kind   banana.Kind
	tokens []banana.Token
}

// readBroker reads a whole call, answer or error: a few words, then values.
func readMessage(d *banana.Decoder) ([]any, error) {
	d.Extend = func(d *banana.Decoder, k banana.Kind) (any, error) {
		r := reference{kind: k}
		switch k {
		case banana.KindCall, banana.KindAnswer, banana.KindError, banana.KindArguments:
			items := []any{k}
			for {
				tok, err := d.Next()
				if err != nil {
					return nil, err
				}
				if tok.Type == banana.TokenClose {
					return items, nil
				}
				// Request ids are INT tokens of any size, so the token counts.
				if tok.Type == banana.TokenInt && len(items) == 1 {
					items = append(items, count(tok.Num))
					continue
				}
				v, err := d.ValueOf(tok)
				if err != nil {
					return nil, err
				}
				items = append(items, v)
			}
		}
		for {
			tok, err := d.Next()
			if err != nil {
				return nil, err
			}
			if tok.Type == banana.TokenClose {
				return &r, nil
			}
			copied := *tok
			copied.Body = bytes.Clone(tok.Body)
			r.tokens = append(r.tokens, copied)
		}
	}
	d.Begin()
	v, err := d.Value()
	if err != nil {
		return nil, err
	}
	return v.([]any), nil
}

type count uint64

// writeMessage is the inverse of readMessage.
func writeMessage(m *banana.Message, v any) (bool, error) {
	switch v := v.(type) {
	case count:
		m.Count(uint64(v))
		return true, nil
	case *reference:
		open := m.Open(v.kind)
		for _, tok := range v.tokens {
			switch tok.Type {
			case banana.TokenInt:
				m.Int(int64(tok.Num))
			case banana.TokenNeg:
				m.Int(-int64(tok.Num))
			default:
				m.Bytes(tok.Body)
			}
		}
		m.Close(open)
		return true, nil
	}
	return false, nil
}

func writeBroker(m *banana.Message, items []any) error {
	open := m.Open(items[0].(banana.Kind))
	for _, v := range items[1:] {
		if inner, ok := v.([]any); ok && len(inner) > 0 {
			if _, ok := inner[0].(banana.Kind); ok {
				if err := writeBroker(m, inner); err != nil {
					return err
				}
				continue
			}
		}
		if err := m.Value(v); err != nil {
			return err
		}
	}
	m.Close(open)
	return nil
}

// TestCaptures: the messages of the original are decoded, and encoded again to the same
// bytes. Messages that the original aborted, or made with its checks switched off, are left
// out.
func TestCaptures(t *testing.T) {
	total, same, refused := 0, 0, 0
	for key, messages := range capturedMessages(t) {
		d := banana.NewDecoder(banana.NewReader(bytes.NewReader(bytes.Join(messages, nil)), 1, banana.Limits{}))
		var opens uint64
		for _, want := range messages {
			if len(want) <= 2 && want[len(want)-1] >= byte(banana.TokenPing) {
				continue // PING or PONG: the Reader handles it
			}
			total++
			from := opens
			opens += opensIn(t, want)
			items, err := readMessage(d)
			if _, ok := err.(*banana.Violation); ok {
				refused++
				if err := d.Skip(0); err != nil {
					t.Fatalf("%s: Skip: %v", key, err)
				}
				continue
			}
			if err != nil {
				t.Fatalf("%s: %v in % x", key, err, want)
			}
			var m banana.Message
			m.Extend = writeMessage
			m.Reset(1)
			if err := writeBroker(&m, items); err != nil {
				t.Fatalf("%s: %v", key, err)
			}
			if got := m.AppendTo(nil, from, nil); !bytes.Equal(got, want) {
				t.Errorf("%s: encoded again\n% x\nwant\n% x", key, got, want)
				continue
			}
			same++
		}
	}
	t.Logf("%d messages, %d the same again, %d refused", total, same, refused)
	if total < 300 || refused > 12 {
		t.Errorf("%d messages, %d refused: the transcripts or the decoder have changed", total, refused)
	}
}

// opensIn counts OPEN tokens with a reader of its own.
func opensIn(t *testing.T, b []byte) (n uint64) {
	r := banana.NewReader(bytes.NewReader(b), 1, banana.Limits{})
	for r.Buffered() || n == 0 || r.Depth() > 0 {
		tok, err := r.Next()
		if err != nil {
			t.Fatalf("% x: %v", b, err)
		}
		if tok.Type == banana.TokenOpen {
			n++
		}
	}
	return n
}

// FuzzDecode: decoding any bytes ends with a value or an error; encoding and decoding a
// value gives the same value.
func FuzzDecode(f *testing.F) {
	seeds := 0
	for _, messages := range capturedMessages(f) {
		f.Add(bytes.Join(messages, nil))
		for _, m := range messages {
			f.Add(m)
			seeds++
		}
	}
	for _, v := range values {
		f.Add(unhex(f, v.hex))
	}
	if seeds == 0 {
		f.Fatal("no seeds: this target would pass and test nothing")
	}
	lim := banana.Limits{Token: 1 << 16, Message: 1 << 20, Values: 1 << 14, Depth: 100}
	f.Fuzz(func(t *testing.T, in []byte) {
		d := banana.NewDecoder(banana.NewReader(bytes.NewReader(in), 1, lim))
		for {
			d.Begin()
			v, err := d.Value()
			if err != nil {
				if d.Skip(0) != nil || err == nil {
					return
				}
				if _, ok := err.(*banana.Violation); !ok {
					return
				}
				continue
			}
			var m banana.Message
			m.Reset(1)
			if err := m.Value(v); err != nil {
				t.Fatalf("%#v was decoded and cannot be encoded: %v", v, err)
			}
			out := m.AppendTo(nil, 1, nil)
			again, err := decode(out, banana.Limits{})
			if err != nil {
				t.Fatalf("% x was encoded and cannot be decoded: %v", out, err)
			}
			var m2 banana.Message
			m2.Reset(1)
			if err := m2.Value(again); err != nil {
				t.Fatal(err)
			}
			if out2 := m2.AppendTo(nil, 1, nil); !bytes.Equal(out, out2) {
				t.Fatalf("% x became % x", out, out2)
			}
		}
	})
}
