package rpc_test

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/flogtool/flogtool/rpc"
)

// raw is a peer that negotiates with blocks made by the test.
type raw struct {
	t    testing.TB
	net  net.Conn
	in   io.Reader
	cert tls.Certificate
	id   rpc.TubID
}

// keyFile makes an identity whose TubID is greater or less than another.
func keyFile(t testing.TB, beside rpc.TubID, greater bool) (file string, id rpc.TubID) {
	t.Helper()
	for {
		file := filepath.Join(t.TempDir(), "tub.pem")
		tub, err := rpc.NewTub(rpc.Config{KeyFile: file})
		if err != nil {
			t.Fatal(err)
		}
		tub.Close()
		if (tub.ID() > beside) == greater {
			return file, tub.ID()
		}
	}
}

// rawKey is keyFile for a raw peer.
func rawKey(t testing.TB, beside rpc.TubID, greater bool) (tls.Certificate, rpc.TubID) {
	t.Helper()
	file, id := keyFile(t, beside, greater)
	cert, err := tls.LoadX509KeyPair(file, file)
	if err != nil {
		t.Fatal(err)
	}
	return cert, id
}

// dialRaw opens a connection to f's first hint and goes as far as TLS.
func dialRaw(t testing.TB, f rpc.FURL, cert tls.Certificate, id rpc.TubID) *raw {
	t.Helper()
	nc := dialPlain(t, f)
	r := &raw{t: t, net: nc, in: nc, cert: cert, id: id}
	r.send("GET /id/" + string(f.Tub) + " HTTP/1.1\r\n\r\n")
	if block := r.block(); !strings.HasPrefix(block, "HTTP/1.1 101 ") {
		t.Fatalf("response %q", block)
	}
	cfg := &tls.Config{InsecureSkipVerify: true}
	if cert.Certificate != nil {
		cfg.Certificates = []tls.Certificate{cert}
	}
	tc := tls.Client(nc, cfg)
	r.net, r.in = tc, tc
	return r
}

func dialPlain(t testing.TB, f rpc.FURL) net.Conn {
	t.Helper()
	nc, err := net.Dial("tcp", strings.TrimPrefix(f.Hints[0], "tcp:"))
	if err != nil {
		t.Fatal(err)
	}
	nc.SetDeadline(time.Now().Add(60 * time.Second))
	t.Cleanup(func() { nc.Close() })
	return nc
}

func (r *raw) send(s string) {
	r.t.Helper()
	if _, err := io.WriteString(r.net, s); err != nil {
		r.t.Fatalf("write: %v", err)
	}
}

// block reads up to an empty line, byte by byte so that nothing else is consumed.
func (r *raw) block() string {
	r.t.Helper()
	var b []byte
	one := make([]byte, 1)
	for !bytes.HasSuffix(b, []byte("\r\n\r\n")) {
		if _, err := io.ReadFull(r.in, one); err != nil {
			r.t.Fatalf("read: %v after %q", err, b)
		}
		b = append(b, one[0])
	}
	return string(b)
}

// hello sends our hello and returns the peer's.
func (r *raw) hello(incarnation, last string) string {
	r.t.Helper()
	s := "banana-negotiation-range: 3 3\r\ninitial-vocab-table-range: 0 1\r\n"
	if last != "" {
		s += "last-connection: " + last + "\r\n"
	}
	if incarnation != "" {
		s += "my-incarnation: " + incarnation + "\r\n"
	}
	r.send(s + "my-tub-id: " + string(r.id) + "\r\n\r\n")
	return r.block()
}

// rest reads until the end of the connection.
func (r *raw) rest() string {
	b, _ := io.ReadAll(r.in)
	return string(b)
}

// TestRequest: the answers of a listener to the first block.
func TestRequest(t *testing.T) {
	server := newServer(t, rpc.Config{})
	f := register(t, server, newTarget(), "")
	for _, tt := range []struct{ name, in, want string }{
		{"unknown TubID", "GET /id/abc HTTP/1.1\r\n\r\n", "HTTP/1.1 500 Internal Server Error: unknown TubID abc\r\n\r\n"},
		{"no TubID", "GET /id/ HTTP/1.1\r\n\r\n", "HTTP/1.1 500 Internal Server Error: secure Tubs require encryption\r\n\r\n"},
		{"not a GET", "PUT /id/abc HTTP/1.1\r\n\r\n", "HTTP/1.1 500 Internal Server Error: internal server error, see logs\r\n\r\n"},
		{"another path", "GET / HTTP/1.1\r\n\r\n", "HTTP/1.1 500 Internal Server Error: internal server error, see logs\r\n\r\n"},
		{"no version", "GET /id/abc\r\n\r\n", "HTTP/1.1 500 Internal Server Error: internal server error, see logs\r\n\r\n"},
		{"too long", strings.Repeat("x", 5000), "HTTP/1.1 500 Internal Server Error: internal server error, see logs\r\n\r\n"},
		{"nothing more than needed", "GET /id/" + string(f.Tub) + " HTTP/1.1\r\n\r\n", "HTTP/1.1 101 Switching Protocols\r\nUpgrade: TLS/1.0, PB/1.0\r\nConnection: Upgrade\r\n\r\n"},
		{"garbage", "\x00\xff\r\n\r\n", "HTTP/1.1 500 Internal Server Error: internal server error, see logs\r\n\r\n"},
	} {
		nc := dialPlain(t, f)
		r := &raw{t: t, net: nc, in: nc}
		r.send(tt.in)
		if got := r.block(); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}

// TestHello: the checks of a listener, and its answers to the peer.
func TestHello(t *testing.T) {
	server := newServer(t, rpc.Config{})
	f := register(t, server, newTarget(), "")
	cert, id := rawKey(t, f.Tub, false)
	good := "banana-negotiation-range: 3 3\r\nmy-tub-id: " + string(id) + "\r\n\r\n"
	for _, tt := range []struct{ name, in, want string }{
		{"good", good, "banana-decision-version: 3\r\ncurrent-connection: [0-9a-f]{16} \\d+\r\ninitial-vocab-table-index: 0 da39"},
		{"unknown keys", "x-new: 1\r\n" + good, "Duplicate connection"}, // the first is still there
		{"no range", "my-tub-id: " + string(id) + "\r\n\r\n", "No valid banana-negotiation sequence seen"},
		{"only newer", strings.Replace(good, "3 3", "4 5", 1), "I can't handle banana version 4"},
		{"only older", strings.Replace(good, "3 3", "1 2", 1), "You can't handle banana version 3"},
		{"no colon", "what is this\r\n\r\n", "error: a line without a colon"},
		{"another's TubID", strings.Replace(good, string(id), string(f.Tub), 1), "internal server error, see logs"},
		{"no TubID", "banana-negotiation-range: 3 3\r\n\r\n", "internal server error, see logs"},
		{"too long", strings.Repeat("x: y\r\n", 1000), "Header too long"},
	} {
		r := dialRaw(t, f, cert, id)
		r.send(tt.in)
		if hello := r.block(); !strings.Contains(hello, "my-tub-id: "+string(f.Tub)) || strings.Contains(hello, "last-connection") {
			t.Errorf("%s: our hello %q", tt.name, hello)
		}
		if got := r.block(); !regexp.MustCompile(tt.want).MatchString(got) {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
	// Without a certificate there is no answer.
	r := dialRaw(t, f, tls.Certificate{}, id)
	if _, err := io.WriteString(r.net, good); err == nil {
		if _, err := io.ReadAll(r.in); err == nil {
			t.Error("a peer without a certificate got an answer")
		}
	}
}

// TestDuplicates: the rules by which a master keeps or replaces a connection.
func TestDuplicates(t *testing.T) {
	const inc, other = "0123456789abcdef", "fedcba9876543210"
	type hello struct{ incarnation, last string }
	for _, tt := range []struct {
		name   string
		second hello
		accept bool
	}{
		{"no incarnation", hello{"", "none 0"}, false},
		{"no last-connection", hello{inc, ""}, false},
		{"restarted", hello{other, "none 0"}, true},
		{"parallel", hello{inc, "none 0"}, false},
		{"of another master", hello{inc, other + " 1"}, true},
		{"knows of ours", hello{inc, "MASTER 1"}, true},
		{"older", hello{inc, "MASTER 0"}, false},
		{"never was", hello{inc, "MASTER 7"}, false},
		{"nonsense", hello{inc, "MASTER x"}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			server := newServer(t, rpc.Config{})
			f := register(t, server, newTarget(), "")
			cert, id := rawKey(t, f.Tub, false)
			first := dialRaw(t, f, cert, id)
			master := regexp.MustCompile(`my-incarnation: (\w+)`).FindStringSubmatch(first.hello(inc, "none 0"))[1]
			if d := first.block(); !strings.Contains(d, "current-connection: "+master+" 1\r\n") {
				t.Fatalf("first decision %q", d)
			}
			second := dialRaw(t, f, cert, id)
			second.hello(tt.second.incarnation, strings.Replace(tt.second.last, "MASTER", master, 1))
			got := second.block()
			if tt.accept {
				if !strings.Contains(got, "current-connection: "+master+" 2\r\n") {
					t.Errorf("answer %q, want a decision", got)
				}
				first.rest() // ends: it was closed
				return
			}
			if !strings.Contains(got, "error: Duplicate connection\r\n") {
				t.Errorf("answer %q, want a refusal", got)
			}
			second.rest()
			if n := len(server.Connected()); n != 1 {
				t.Errorf("%d connections, want the first", n)
			}
		})
	}
	t.Run("an old one may be replaced if so configured", func(t *testing.T) {
		server := newServer(t, rpc.Config{HandleOldDuplicates: time.Nanosecond})
		f := register(t, server, newTarget(), "")
		cert, id := rawKey(t, f.Tub, false)
		first := dialRaw(t, f, cert, id)
		first.hello("", "")
		first.block()
		second := dialRaw(t, f, cert, id)
		second.hello("", "")
		if got := second.block(); !strings.Contains(got, "banana-decision-version: 3") {
			t.Errorf("answer %q", got)
		}
	})
}

// TestReplaced: calls on a connection that a duplicate replaces fail with
// ErrDeadReference, and a later Connect uses the new one.
func TestReplaced(t *testing.T) {
	server := newServer(t, rpc.Config{})
	f := register(t, server, newTarget(), "")
	file := filepath.Join(t.TempDir(), "tub.pem")
	client := newTub(t, rpc.Config{KeyFile: file})
	r := connect(t, client, f)
	never := r.Start("never", rpc.Args{})
	// The same Tub in another process: another incarnation, so a restart.
	twin := newTub(t, rpc.Config{KeyFile: file})
	again := connect(t, twin, f)
	if err := never.Result(nil); !errors.Is(err, rpc.ErrDeadReference) {
		t.Errorf("a call in the replaced connection: %v", err)
	}
	<-r.Done()
	if err := r.Call(within(t), "echo", rpc.Pos(1), nil); !errors.Is(err, rpc.ErrDeadReference) {
		t.Errorf("a call after it: %v", err)
	}
	if err := r.Send("echo", rpc.Pos(1)); !errors.Is(err, rpc.ErrDeadReference) {
		t.Errorf("Send after it: %v", err)
	}
	if v := call(t, again, "echo", 2); v != int64(2) {
		t.Errorf("echo = %v", v)
	}
}

// TestTableZero: a peer without a vocabulary gets no VOCAB tokens.
func TestTableZero(t *testing.T) {
	server := newServer(t, rpc.Config{})
	f := register(t, server, newTarget(), "target")
	cert, id := rawKey(t, f.Tub, false)
	r := dialRaw(t, f, cert, id)
	r.send("banana-negotiation-range: 3 3\r\nmy-tub-id: " + string(id) + "\r\n\r\n")
	r.block()
	if d := r.block(); !strings.Contains(d, "initial-vocab-table-index: 0 ") {
		t.Errorf("decision %q", d)
	}
	r.send("\x00\x88\x04\x82call\x01\x81\x00\x81\x12\x82getReferenceByName" +
		"\x01\x88\x09\x82arguments\x00\x81\x04\x82name\x06\x82target\x01\x89\x00\x89")
	want := "\x00\x88\x06\x82answer\x01\x81\x01\x88\x0c\x82my-reference\x01\x81\x00\x82"
	got := make([]byte, len(want))
	if _, err := io.ReadFull(r.in, got); err != nil || string(got) != want {
		t.Errorf("answer %q, %v; want %q", got, err, want)
	}
}

// TestKeyFile: the key file of the original can be used, and a new one has mode 0600.
func TestKeyFile(t *testing.T) {
	sample := filepath.Join("testdata", "captures", "tub-sample.pem")
	tub := newTub(t, rpc.Config{KeyFile: sample})
	if tub.ID() != "bvawwz65bs7gqdqffo3yyaxo2ahweg3a" {
		t.Errorf("TubID %s", tub.ID())
	}
	file := filepath.Join(t.TempDir(), "tub.pem")
	made := newTub(t, rpc.Config{KeyFile: file})
	st, err := os.Stat(file)
	if err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("a new key file: %v, %v", st.Mode(), err)
	}
	again := newTub(t, rpc.Config{KeyFile: file})
	if again.ID() != made.ID() {
		t.Error("the TubID does not last")
	}
	if _, err := rpc.NewTub(rpc.Config{KeyFile: filepath.Join(t.TempDir(), "no", "dir.pem")}); err == nil {
		t.Error("a key file in no directory was made")
	}
	if err := os.WriteFile(file, []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := rpc.NewTub(rpc.Config{KeyFile: file}); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("a bad key file: %v", err)
	}
}
