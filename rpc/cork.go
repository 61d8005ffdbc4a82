package rpc

import (
	"net"
	"sync"
)

// corked is the connection below TLS. TLS writes each record by itself; between
// cork and uncork records are put together, so that a large message takes a
// quarter of the system calls and wakes the peer a quarter as often. It costs a
// copy of each record. BenchmarkBytes paid for it.
type corked struct {
	net.Conn
	pre []byte // read with the negotiation; the reader's

	mu  sync.Mutex // the reader's goroutine may write too: alerts
	on  bool
	buf *[]byte // while it is on
}

// corkSize is how much is put together: four records of TLS with their headers.
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

// flush writes what was put together. mu is held.
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

// CloseWrite closes the sending side, where the connection can.
func (c *corked) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}
