package session_test

import (
	"bytes"
	"net"
	"sync"
)

// A queuedPipe is an end of a net.Pipe whose writes do not wait for the reader,
// as those to a socket do not. A pipe holds not one byte: client and server would
// wait for each other as soon as a pipeline has an answer before it is written.
type queuedPipe struct {
	net.Conn
	queue chan []byte
	done  chan struct{}
	close func() error
}

func queuePipe(conn net.Conn) net.Conn {
	c := &queuedPipe{Conn: conn, queue: make(chan []byte, 1<<12), done: make(chan struct{})}
	c.close = sync.OnceValue(func() error {
		close(c.done)
		return conn.Close()
	})
	go c.send()
	return c
}

func (c *queuedPipe) send() {
	for {
		select {
		case p := <-c.queue:
			if _, err := c.Conn.Write(p); err != nil {
				return
			}
		case <-c.done:
			return
		}
	}
}

func (c *queuedPipe) Write(p []byte) (int, error) {
	select {
	case c.queue <- bytes.Clone(p):
		return len(p), nil
	case <-c.done:
		return 0, net.ErrClosed
	}
}

func (c *queuedPipe) Close() error { return c.close() }
