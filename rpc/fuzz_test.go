package rpc

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// These targets are inside the package, because their input normally arrives over a
// negotiated connection only.

// capturedBytes returns, for each connection and direction of the transcripts,
// the blocks of its negotiation and the bytes after it.
func capturedBytes(t testing.TB) (blocks, streams [][]byte) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("testdata", "captures", "*.txt"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no transcripts: %v", err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		stream := map[string][]byte{}
		for line := range strings.Lines(string(text)) {
			side, digits, ok := strings.Cut(strings.TrimSpace(line), "> ")
			if !ok || side != "C" && side != "S" {
				if strings.HasPrefix(line, "# ==== connection") {
					stream = map[string][]byte{}
				}
				continue
			}
			b, err := hex.DecodeString(digits)
			if err != nil {
				t.Fatalf("%s: %v", file, err)
			}
			if bytes.HasSuffix(b, []byte("\r\n\r\n")) {
				blocks = append(blocks, b)
				continue
			}
			stream[side] = append(stream[side], b...)
			streams = append(streams, bytes.Clone(stream[side]))
		}
	}
	if len(blocks) == 0 || len(streams) == 0 {
		t.Fatal("no seeds: this target would pass and test nothing")
	}
	return blocks, streams
}

// FuzzNegotiation: every block is accepted or refused, and the answer to it is a valid
// block.
func FuzzNegotiation(f *testing.F) {
	seeds, _ := capturedBytes(f)
	for _, b := range seeds {
		f.Add(b)
	}
	proved := TubID("erwdcujit2qy4lfpzzo4xzovhvcwsurk")
	f.Fuzz(func(t *testing.T, in []byte) {
		b := &blocks{r: bytes.NewReader(in)}
		for {
			text, err := b.next()
			if err != nil {
				if len(errorBlock(err)) > maxBlock+200 {
					t.Errorf("an error block of %d bytes", len(errorBlock(err)))
				}
				return
			}
			if len(text) > maxBlock {
				t.Fatalf("a block of %d bytes", len(text))
			}
			_, err1 := parseRequest(text)
			err2 := parseResponse(text)
			h, err3 := parseHello(text, proved)
			_, err4 := parseDecision(text)
			if err3 == nil && h.tub != proved {
				t.Errorf("a hello of %q", h.tub)
			}
			for _, err := range []error{err1, err2, err3, err4} {
				if err == nil {
					continue
				}
				said := errorBlock(err)
				if i := bytes.Index(said, []byte("\r\n\r\n")); i != len(said)-4 {
					t.Errorf("the error %v makes more than one block: %q", err, said)
				}
				if len(errorToken(err)) > 1100 {
					t.Errorf("an ERROR token of %d bytes", len(errorToken(err)))
				}
			}
		}
	})
}

// FuzzFURL: parsing what a parsed FURL prints gives the same FURL.
func FuzzFURL(f *testing.F) {
	_, streams := capturedBytes(f)
	seeds := 0
	for _, s := range streams {
		if i := bytes.Index(s, []byte("pb://")); i >= 0 {
			f.Add(string(s[i:min(len(s), i+100)]))
			seeds++
		}
	}
	if seeds == 0 {
		f.Fatal("no seeds: this target would pass and test nothing")
	}
	f.Add("pb://erwdcujit2qy4lfpzzo4xzovhvcwsurk@tcp:h:1,h:2,i2p:x,tcp:[::1%eth0]:3/a/b")
	f.Fuzz(func(t *testing.T, in string) {
		a, err := ParseFURL(in)
		if err != nil {
			if !errors.Is(err, ErrBadFURL) {
				t.Errorf("error %v", err)
			}
			return
		}
		b, err := ParseFURL(a.String())
		if err != nil || !a.Same(b) || a.String() != b.String() {
			t.Errorf("%q became %q, %v", a, b, err)
		}
		if want := "pb://" + string(a.Tub) + "@…"; a.Masked() != want {
			t.Errorf("masked as %q, want %q", a.Masked(), want)
		}
		for _, h := range a.Hints {
			if kind, rest := splitHint(h); kind == "tcp" {
				parseTCP(rest)
			}
		}
	})
}

// script is a connection on which the peer sends prepared bytes and closes when it has
// received nothing more for a moment.
type script struct {
	in      []byte
	written chan struct{} // holds a token while something was written
	closed  chan struct{}
	once    sync.Once
}

func (s *script) Read(b []byte) (int, error) {
	if len(s.in) == 0 {
		// Answers have time to be written before the end, so that the whole path of a
		// call is exercised.
		select {
		case <-s.written:
		case <-s.closed:
		case <-time.After(time.Millisecond):
		}
		return 0, io.EOF
	}
	n := copy(b, s.in)
	s.in = s.in[n:]
	return n, nil
}

func (s *script) Write(b []byte) (int, error) {
	select {
	case <-s.closed:
		return 0, net.ErrClosed
	case s.written <- struct{}{}:
	default:
	}
	return len(b), nil
}

func (s *script) Close() error                       { s.once.Do(func() { close(s.closed) }); return nil }
func (s *script) LocalAddr() net.Addr                { return &net.TCPAddr{} }
func (s *script) RemoteAddr() net.Addr               { return &net.TCPAddr{} }
func (s *script) SetDeadline(time.Time) error        { return nil }
func (s *script) SetReadDeadline(t time.Time) error  { return nil }
func (s *script) SetWriteDeadline(t time.Time) error { return nil }

// FuzzBroker: whatever a peer sends after the negotiation, the connection ends with its
// bytes and leaves nothing behind.
func FuzzBroker(f *testing.F) {
	_, streams := capturedBytes(f)
	for _, s := range streams {
		f.Add(s, false)
	}
	f.Add(streams[0], true)
	tub, err := NewTub(Config{
		AcceptGifts: true,
		Dialers:     map[string]dialFunc{"tcp": nil}, // gifts must not make the fuzzer dial
		Limits:      Limits{Token: 1 << 16, Message: 1 << 20, Values: 1 << 14, Depth: 100, Pause: 1 << 16, Backlog: 1 << 20, Calls: 10},
	})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { tub.Close() })
	if err := tub.SetLocation("tcp:127.0.0.1:1"); err != nil {
		f.Fatal(err)
	}
	var kept []any
	var mu sync.Mutex
	target := &Methods{Map: map[string]func(*Call) (any, error){
		"echo": func(c *Call) (any, error) { return c.Args.Pos, nil },
		"hold": func(c *Call) (any, error) {
			mu.Lock()
			defer mu.Unlock()
			kept = append(kept[max(0, len(kept)-10):], c.Args.Pos, c.Args.Kw)
			return c.Args.Kw, nil
		},
		"call_back": func(c *Call) (any, error) {
			c.Go()
			for _, v := range c.Args.Pos {
				if r, ok := v.(*Remote); ok {
					return nil, r.Call(c.Context(), "x", Pos(c.Args.Pos...), nil)
				}
			}
			return nil, errors.New("nobody to call")
		},
		"panic": func(c *Call) (any, error) { panic("on purpose") },
	}}
	if _, err := tub.Register(target, "target"); err != nil {
		f.Fatal(err)
	}
	borrower := &Methods{Map: target.Map, Borrow: true}
	settled := runtime.NumGoroutine()
	f.Fuzz(func(t *testing.T, in []byte, tableZero bool) {
		table := 1
		if tableZero {
			table = 0
		}
		c := tub.newConn(&script{in: in, written: make(chan struct{}, 1), closed: make(chan struct{})}, "peer", table)
		c.features = "fuzz"
		tub.mu.Lock()
		tub.install(c)
		tub.mu.Unlock()
		// Two objects are at clid 1 and -1, as if they had been sent.
		c.mu.Lock()
		c.t.exports = map[int64]*export{1: {obj: target, clid: 1, count: 2}, -1: {obj: borrower, clid: -1, count: 1}}
		c.t.exported = map[Object]*export{target: c.t.exports[1], borrower: c.t.exports[-1]}
		c.t.lastExport = 1
		c.t.pending = map[uint64]*Pending{}
		for id := range uint64(4) {
			c.t.pending[id] = &Pending{c: c, id: id, method: "asked", done: make(chan struct{})}
		}
		pending := c.t.pending
		waiting := []*Pending{pending[0], pending[1], pending[2], pending[3]}
		c.mu.Unlock()
		c.start()
		for _, p := range waiting {
			select {
			case <-p.done:
			case <-time.After(time.Minute):
				t.Fatal("a call was never answered")
			}
		}
		for busy := true; busy; runtime.Gosched() { // methods end with the connection
			c.mu.Lock()
			busy = c.t.writing || c.t.delivers || c.t.running > 0
			c.mu.Unlock()
		}
		tub.mu.Lock()
		if len(tub.conns) != 0 || len(tub.all) != 0 || len(tub.names) != 1 {
			t.Errorf("left behind: %d connections, %d names", len(tub.all), len(tub.names))
		}
		tub.mu.Unlock()
		for range 1000 { // timers and cleanups end a moment later
			if runtime.NumGoroutine() <= settled+8+maxWaiting {
				return
			}
			time.Sleep(time.Millisecond)
		}
		t.Errorf("%d goroutines, at the start %d", runtime.NumGoroutine(), settled)
	})
}

type dialFunc = func(context.Context, string) (net.Conn, error)

// TestNegotiationBlocks: this package writes the blocks of the transcripts with the same
// bytes.
func TestNegotiationBlocks(t *testing.T) {
	blocks, _ := capturedBytes(t)
	kinds := map[string]int{}
	for _, want := range blocks {
		text := string(bytes.TrimSuffix(want, []byte("\r\n\r\n")))
		var kind string
		var got []byte
		switch {
		case strings.HasPrefix(text, "GET "):
			kind = "request"
			target, err := parseRequest([]byte(text))
			if err != nil {
				t.Fatal(err)
			}
			got = request(target, "127.0.0.1")
		case strings.HasPrefix(text, "HTTP/1.1 101"):
			kind, got = "response", switching
		case strings.HasPrefix(text, "HTTP/1.1 500"):
			kind = "refusal"
			e := parseResponse([]byte(text)).(*NegotiationError)
			got = block("HTTP/1.1 500 Internal Server Error: " + e.Text)
		case strings.HasPrefix(text, "banana-decision-version: 3"):
			kind = "decision"
			d, err := parseDecision([]byte(text))
			if err != nil {
				t.Fatal(err)
			}
			incarnation, number, _ := strings.Cut(d.current, " ")
			seq, err := strconv.ParseUint(number, 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			got = decisionBlock(incarnation, seq, d.table)
		case strings.HasPrefix(text, "banana-decision-version: 1"):
			kind, got = "error", errorBlock(errors.New("something internal"))
		default:
			kind = "hello"
			h, err := parseHeaders([]byte(text))
			if err != nil {
				t.Fatal(err)
			}
			p, err := parseHello([]byte(text), TubID(h["my-tub-id"]))
			if err != nil {
				t.Fatal(err)
			}
			tub := &Tub{identity: identity{id: p.tub}, incarnation: p.incarnation}
			got = tub.helloBlock(p.last)
		}
		kinds[kind]++
		if !bytes.Equal(got, want) {
			t.Errorf("a %s: we would say %q, the original said %q", kind, got, want)
		}
	}
	for _, kind := range []string{"request", "response", "refusal", "hello", "decision"} {
		if kinds[kind] == 0 {
			t.Errorf("no %s in the transcripts: this test tests nothing of it", kind)
		}
	}
}
