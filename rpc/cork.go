package rpc

import (
	"net"
	"sync"
)

// corked is the connection below TLS. TLS writes each record separately; between cork
// and uncork the records are combined, so that a large message needs a quarter of the
// system calls and wakes the peer a quarter as often. It costs a copy of each record.
// BenchmarkBytes shows the gain.
type corked struct {
	net.Conn
	pre []byte // read during the negotiation; used by the reader

	mu  sync.Mutex // the reader may write too: alerts
	on  bool
	buf *[]byte // while on is set
}

// corkSize is the size of the buffer: four TLS records with their headers.
const corkSize = 4 * (16<<10 + 64)

var corkBuffers = sync.Pool{New: func() any { b := make([]byte, 0, corkSize); return &b }}

func (c *corked) Read(b []byte) (int, error) {
	if len(c.pre) > 0 {
		n := copy(b, c.pre)
		c.pre = c.pre[n:]
		return n, nil
	}
	return c.Conn.Read(b)
}

func (c *corked) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.on {
		return c.Conn.Write(b)
	}
	if len(*c.buf)+len(b) > corkSize {
		if err := c.flush(); err != nil {
			return 0, err
		}
	}
	*c.buf = append(*c.buf, b...)
	return len(b), nil
}

// flush writes the buffer. mu is held.
func (c *corked) flush() error {
	_, err := c.Conn.Write(*c.buf)
	*c.buf = (*c.buf)[:0]
	return err
}

func (c *corked) cork() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.on, c.buf = true, corkBuffers.Get().(*[]byte)
}

func (c *corked) uncork() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	err := c.flush()
	corkBuffers.Put(c.buf)
	c.on, c.buf = false, nil
	return err
}

// CloseWrite closes the sending side if the connection supports it.
func (c *corked) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}
