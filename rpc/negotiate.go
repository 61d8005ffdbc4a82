package rpc

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/flogtool/flogtool/rpc/banana"
)

// A NegotiationError reports why two Tubs could not establish a connection.
type NegotiationError struct {
	Text   string
	Remote bool  // Text comes from the peer
	Err    error // ErrWrongTub, or nil
}

// Error returns the text, quoted if it comes from the peer.
func (e *NegotiationError) Error() string {
	if e.Remote {
		return fmt.Sprintf("rpc: the peer refused: %q", e.Text)
	}
	return "rpc: negotiation: " + e.Text
}

// Unwrap returns e.Err.
func (e *NegotiationError) Unwrap() error { return e.Err }

func refusal(format string, a ...any) error {
	return &NegotiationError{Text: fmt.Sprintf(format, a...)}
}

const (
	maxBlock = 4096 // bytes of a negotiation block; foolscap-wire.md section 2

	textDuplicate = "Duplicate connection"
	textInternal  = "internal server error, see logs"
	tableHash     = "bb33" // of vocabulary table 1; foolscap-wire.md section 2.6
)

// isDuplicate reports whether the peer refused because it already has a connection
// with this Tub.
func isDuplicate(err error) bool {
	e, ok := errors.AsType[*NegotiationError](err)
	return ok && e.Remote && e.Text == textDuplicate
}

// blocks reads negotiation blocks: lines ended by CRLF, followed by an empty line.
type blocks struct {
	r    io.Reader
	rest []byte // read and not yet used
}

// next returns the next block without its empty line.
func (b *blocks) next() ([]byte, error) {
	buf := b.rest
	seen := 0
	for {
		if i := bytes.Index(buf[seen:], []byte("\r\n\r\n")); i >= 0 {
			i += seen
			b.rest = buf[i+4:]
			if i+4 > maxBlock {
				return nil, refusal("Header too long")
			}
			return buf[:i], nil
		}
		if len(buf) > maxBlock {
			return nil, refusal("Header too long")
		}
		seen = max(0, len(buf)-3)
		chunk := make([]byte, 1024)
		n, err := b.r.Read(chunk)
		buf = append(buf, chunk[:n]...)
		if n == 0 && err != nil {
			if err == io.EOF && len(buf) > 0 {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
	}
}

// headers are the lines of a hello, decision or error block.
type headers map[string]string

func parseHeaders(block []byte) (headers, error) {
	h := headers{}
	for line := range strings.SplitSeq(string(block), "\r\n") {
		key, value, ok := strings.Cut(line, ":")
		if !ok {
			return nil, refusal("a line without a colon")
		}
		h[strings.ToLower(key)] = strings.TrimLeft(value, " \t")
	}
	return h, nil
}

// numbers returns the two numbers in the value of key.
func (h headers) numbers(key string) (lo, hi int, ok bool) {
	a, b, found := strings.Cut(h[key], " ")
	lo, err := strconv.Atoi(a)
	hi, err2 := strconv.Atoi(strings.TrimSpace(b))
	return lo, hi, found && err == nil && err2 == nil
}

// hello is the checked content of a hello block.
type hello struct {
	tub         TubID
	incarnation string // "" if absent
	last        string // the value of last-connection; "" if absent
	table       int    // the highest vocabulary table of the peer
	features    string
}

// parseHello parses a hello block and checks it against the TubID that the peer has
// proved.
func parseHello(block []byte, proved TubID) (hello, error) {
	h, err := parseHeaders(block)
	if err != nil {
		return hello{}, err
	}
	if text, ok := h["error"]; ok {
		return hello{}, &NegotiationError{Text: text, Remote: true}
	}
	if _, ok := h["banana-negotiation-range"]; !ok {
		return hello{}, refusal("No valid banana-negotiation sequence seen")
	}
	switch lo, hi, ok := h.numbers("banana-negotiation-range"); {
	case !ok:
		return hello{}, refusal("No valid banana-negotiation sequence seen")
	case lo > 3:
		return hello{}, refusal("I can't handle banana version %d", lo)
	case hi < 3:
		return hello{}, refusal("You can't handle banana version 3")
	}
	if TubID(h["my-tub-id"]) != proved {
		return hello{}, &NegotiationError{Text: "the peer's TubID is not that of its certificate", Err: ErrWrongTub}
	}
	p := hello{tub: proved, incarnation: h["my-incarnation"], last: h["last-connection"], features: h["flog"]}
	if lo, hi, ok := h.numbers("initial-vocab-table-range"); ok && lo <= 1 && hi >= 1 {
		p.table = 1
	}
	return p, nil
}

// decision is the content of the master's decision block.
type decision struct {
	current string // the value of current-connection; "" if absent
	table   int
}

func parseDecision(block []byte) (decision, error) {
	h, err := parseHeaders(block)
	if err != nil {
		return decision{}, err
	}
	if text, ok := h["error"]; ok {
		return decision{}, &NegotiationError{Text: text, Remote: true}
	}
	if v := strings.TrimSpace(h["banana-decision-version"]); v != "3" {
		return decision{}, refusal("decision for banana version %.20q", v)
	}
	d := decision{current: h["current-connection"]}
	if v, ok := h["initial-vocab-table-index"]; ok {
		index, hash, _ := strings.Cut(v, " ")
		switch {
		case index == "0":
		case index == "1" && hash == tableHash:
			d.table = 1
		case index == "1":
			return decision{}, refusal("Our hash for vocab-table-index 1 (%s) does not match your hash (%.20s)", tableHash, hash)
		default:
			return decision{}, refusal("I can't handle vocab-table-index %.20q", index)
		}
	}
	return d, nil
}

// block makes a block of lines.
func block(lines ...string) []byte {
	return []byte(strings.Join(lines, "\r\n") + "\r\n\r\n")
}

// request returns the first block of the initiator.
func request(target TubID, host string) []byte {
	return block("GET /id/"+string(target)+" HTTP/1.1", "Host: "+host, "Upgrade: TLS/1.0", "Connection: Upgrade")
}

// parseRequest returns the TubID for which an initiator asks.
func parseRequest(block []byte) (TubID, error) {
	line, _, _ := strings.Cut(string(block), "\r\n")
	f := strings.Fields(line)
	if len(f) != 3 || f[0] != "GET" || !strings.HasPrefix(line, "GET ") || !strings.HasPrefix(f[1], "/id/") {
		return "", refusal("%s", textInternal)
	}
	return TubID(strings.TrimPrefix(f[1], "/id/")), nil
}

var switching = block("HTTP/1.1 101 Switching Protocols", "Upgrade: TLS/1.0, PB/1.0", "Connection: Upgrade")

// parseResponse checks a listener's answer to the request.
func parseResponse(block []byte) error {
	line, rest, _ := strings.Cut(string(block), "\r\n")
	f := strings.Fields(line)
	if len(f) >= 2 && f[1] == "101" && strings.Contains(rest, "Upgrade: TLS/1.0") {
		return nil
	}
	_, text, found := strings.Cut(line, "Internal Server Error: ")
	if !found {
		text = line
	}
	return &NegotiationError{Text: text[:min(len(text), 200)], Remote: true}
}

// helloBlock returns this Tub's hello. last is the value of last-connection, "" on the
// listening side.
func (t *Tub) helloBlock(last string) []byte {
	lines := []string{"banana-negotiation-range: 3 3"}
	if t.cfg.Features != "" {
		lines = append(lines, "flog: "+t.cfg.Features)
	}
	lines = append(lines, "initial-vocab-table-range: 0 1")
	if last != "" {
		lines = append(lines, "last-connection: "+last)
	}
	lines = append(lines, "my-incarnation: "+t.incarnation, "my-tub-id: "+string(t.id))
	return block(lines...)
}

func decisionBlock(incarnation string, seq uint64, table int) []byte {
	index := "0 da39"
	if table == 1 {
		index = "1 " + tableHash
	}
	return block("banana-decision-version: 3",
		"current-connection: "+incarnation+" "+strconv.FormatUint(seq, 10),
		"initial-vocab-table-index: "+index)
}

// errorBlock returns the block that tells the peer why there is no connection. Like the
// original, it gives details only of errors in the negotiation itself.
func errorBlock(err error) []byte {
	text := textInternal
	if e, ok := errors.AsType[*NegotiationError](err); ok && !e.Remote && e.Err == nil {
		text = strings.NewReplacer("\r", " ", "\n", " ").Replace(e.Text)
	}
	return block("banana-decision-version: 1", "error: "+text)
}

// errorToken is errorBlock for a slave that has accepted the hello: the master already
// expects banana tokens.
func errorToken(err error) []byte { return banana.AppendError(nil, err.Error()) }

func (t *Tub) tlsConfig() *tls.Config {
	return &tls.Config{
		Certificates:           []tls.Certificate{t.cert},
		ClientAuth:             tls.RequireAnyClientCert,
		InsecureSkipVerify:     true, // the TubID is compared instead: foolscap-wire.md section 2.3
		MinVersion:             tls.VersionTLS12,
		SessionTicketsDisabled: true,
		// Small first records would split a small message into several writes.
		DynamicRecordSizingDisabled: true,
	}
}

// provedID returns the TubID of the certificate for which the peer has proved that it
// has the key.
func provedID(tc *tls.Conn) (TubID, error) {
	certs := tc.ConnectionState().PeerCertificates
	if len(certs) == 0 {
		return "", &NegotiationError{Text: "the peer has no certificate", Err: ErrWrongTub}
	}
	return tubIDOf(certs[0].Raw), nil
}

// initiate negotiates on a connection that this Tub opened to target. last is the value
// of last-connection. It owns raw, also when it fails. ctx is that of the attempt.
func (t *Tub) initiate(ctx context.Context, raw net.Conn, host string, target TubID, last string) (*conn, error) {
	stop := context.AfterFunc(ctx, func() { raw.Close() })
	defer stop()
	c, err := t.initiateOn(raw, host, target, last, stop)
	if err != nil {
		raw.Close()
		if ctx.Err() != nil && !errors.Is(err, ErrDeadReference) {
			err = context.Cause(ctx)
		}
		return nil, err
	}
	return c, nil
}

func (t *Tub) initiateOn(raw net.Conn, host string, target TubID, last string, stop func() bool) (*conn, error) {
	if _, err := raw.Write(request(target, host)); err != nil {
		return nil, err
	}
	b := &blocks{r: raw}
	response, err := b.next()
	if err == nil {
		err = parseResponse(response)
	}
	if err != nil {
		return nil, err
	}
	under := &corked{Conn: raw, pre: b.rest}
	tc := tls.Client(under, t.tlsConfig())
	if err := tc.Handshake(); err != nil {
		return nil, fmt.Errorf("rpc: TLS: %w", err)
	}
	proved, err := provedID(tc)
	if err == nil && proved != target {
		err = &NegotiationError{Text: fmt.Sprintf("Tub %s answered, want %s", proved, target), Err: ErrWrongTub}
	}
	if err != nil {
		tc.Write(errorBlock(err)) // it need not arrive
		return nil, err
	}
	return t.agree(tc, under, proved, last, stop, nil)
}

// accept negotiates on an inbound connection. It owns raw, also when it fails.
func (t *Tub) accept(raw net.Conn) error {
	steps := &steps{raw, time.Now().Add(t.cfg.NegotiationTimeout)}
	err := t.acceptOn(raw, steps)
	if err != nil {
		hangUp(raw)
	}
	return err
}

// steps gives each step of a negotiation on the listening side its time.
type steps struct {
	raw net.Conn
	end time.Time // of all steps
}

// next begins a step. The initiating side has none.
func (s *steps) next() {
	if s == nil {
		return
	}
	until := time.Now().Add(strangerTime)
	if s.end.Before(until) {
		until = s.end
	}
	s.raw.SetDeadline(until)
}

func (t *Tub) acceptOn(raw net.Conn, steps *steps) error {
	steps.next()
	b := &blocks{r: raw}
	req, err := b.next()
	if err != nil {
		if _, ok := errors.AsType[*NegotiationError](err); ok {
			refuse(raw, textInternal)
		}
		return err
	}
	target, err := parseRequest(req)
	if err == nil && target == "" {
		err = refusal("secure Tubs require encryption")
	}
	if err == nil && target != t.id {
		err = refusal("unknown TubID %s", target[:min(len(target), 100)])
	}
	if err != nil {
		refuse(raw, err.(*NegotiationError).Text)
		return err
	}
	if _, err := raw.Write(switching); err != nil {
		return err
	}
	steps.next()
	under := &corked{Conn: raw, pre: b.rest}
	tc := tls.Server(under, t.tlsConfig())
	if err := tc.Handshake(); err != nil {
		return fmt.Errorf("rpc: TLS: %w", err)
	}
	proved, err := provedID(tc)
	if err != nil {
		return err
	}
	_, err = t.agree(tc, under, proved, "", func() bool { return true }, steps)
	return err
}

// refuse answers a plaintext request that cannot be served.
func refuse(raw net.Conn, text string) {
	raw.Write(block("HTTP/1.1 500 Internal Server Error: " + text))
}

// agree exchanges hellos and the decision, and starts the connection. last is the value
// of last-connection, "" on the listening side. stop ends the possibility to cancel the
// negotiation; it returns false if the negotiation was cancelled before.
func (t *Tub) agree(tc *tls.Conn, under *corked, proved TubID, last string, stop func() bool, steps *steps) (*conn, error) {
	inbound := last == ""
	steps.next()
	if _, err := tc.Write(t.helloBlock(last)); err != nil {
		return nil, err
	}
	b := &blocks{r: tc}
	c, first, err := t.agreeOn(tc, b, proved, inbound, stop, steps)
	if err != nil {
		if e, ok := errors.AsType[*NegotiationError](err); ok && !e.Remote {
			tc.Write(first)
			hangUp(tc)
		}
		return nil, err
	}
	if first != nil {
		// The decision must be a TLS record of its own; calls made in the meantime are
		// queued. foolscap-wire.md section 2.
		tc.SetDeadline(time.Now().Add(writeStall))
		if _, err := tc.Write(first); err != nil {
			c.shutdown(err)
			return nil, err
		}
	}
	tc.SetDeadline(time.Time{})
	if c.isDead() { // the deadline of shutdown was just overwritten
		tc.Close()
	}
	c.pre, c.under = b.rest, under
	c.start()
	return c, nil
}

// agreeOn returns a connection that the Tub has installed as its connection with the
// peer, and the decision to send if this Tub is the master; or an error and what to
// send to the peer. An installed connection can no longer be cancelled by the caller
// that first asked for it.
func (t *Tub) agreeOn(tc *tls.Conn, b *blocks, proved TubID, inbound bool, stop func() bool, steps *steps) (*conn, []byte, error) {
	text, err := b.next()
	if err != nil {
		if _, ok := errors.AsType[*NegotiationError](err); ok {
			return nil, errorBlock(err), err
		}
		return nil, nil, err
	}
	h, err := parseHello(text, proved)
	if err != nil {
		return nil, errorBlock(err), err
	}
	if h.tub == t.id {
		err := refusal("a Tub does not connect to itself")
		return nil, errorBlock(err), err
	}
	if t.id > h.tub {
		if !stop() {
			return nil, nil, context.Canceled
		}
		c, err := t.decide(tc, h, inbound)
		if err != nil {
			return nil, errorBlock(err), err
		}
		return c, decisionBlock(t.incarnation, c.seq, c.table), nil
	}
	steps.next()
	if text, err = b.next(); err != nil {
		return nil, nil, err
	}
	d, err := parseDecision(text)
	if err != nil {
		return nil, errorToken(err), err
	}
	if !stop() {
		return nil, nil, context.Canceled
	}
	c, err := t.adopt(tc, h, d, inbound)
	return c, nil, err
}

// hangUp closes a connection so that the peer can still read what was just written. For
// up to a second it reads what the peer has sent, because closing with unread data
// could destroy data on its way to the peer.
func hangUp(nc net.Conn) {
	if half, ok := nc.(interface{ CloseWrite() error }); ok {
		nc.SetDeadline(time.Now().Add(time.Second))
		half.CloseWrite()
		io.CopyN(io.Discard, nc, 1<<20)
	}
	nc.Close()
}
