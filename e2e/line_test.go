package e2e

import (
	"io"
	"net"
	"sync"
	"testing"
)

// line is a TCP line to a server that can be cut within a chosen connection.
type line struct {
	listener net.Listener
	server   string

	mu      sync.Mutex
	at      cut
	count   int // connections since the cut was chosen
	reached chan struct{}
	open    []net.Conn
}

// cut is where a line goes dead: in the n-th connection from now, once the
// request is there or once the server answered it.
type cut struct {
	connection int
	when       int
}

const (
	asked    = 1 // the request does not reach the server
	answered = 2 // the answer does not reach the client
)

func newLine(t *testing.T, server string) *line {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &line{listener: listener, server: server}
	t.Cleanup(func() { _ = listener.Close(); l.mend() })
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			go l.carry(c)
		}
	}()
	return l
}

func (l *line) address() string { return l.listener.Addr().String() }

// cutAt chooses the cut, and tells when the line went dead there.
func (l *line) cutAt(c cut) <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.at, l.count, l.reached = c, 0, make(chan struct{})
	return l.reached
}

// mend ends what is open and lets everything through again.
func (l *line) mend() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.at = cut{}
	for _, c := range l.open {
		_ = c.Close()
	}
	l.open = nil
}

func (l *line) carry(client net.Conn) {
	server, err := net.Dial("tcp", l.server)
	if err != nil {
		_ = client.Close()
		return
	}
	l.mu.Lock()
	l.count++
	when := 0
	if l.count == l.at.connection {
		when = l.at.when
	}
	reached := l.reached
	l.open = append(l.open, client, server)
	l.mu.Unlock()
	if when == 0 {
		go func() { _, _ = io.Copy(server, client); _ = server.Close() }()
		_, _ = io.Copy(client, server)
		_ = client.Close()
		return
	}
	l.starve(client, server, when, reached)
}

// starve lets the TLS handshake through: the client's hello, and the server's
// flight after it. What the client says then holds its request.
func (l *line) starve(client, server net.Conn, when int, reached chan struct{}) {
	buffer := make([]byte, 64<<10)
	n, _ := client.Read(buffer)
	_, _ = server.Write(buffer[:n])
	spoke := make(chan struct{})
	go func() {
		n, err := client.Read(buffer) // the rest of the handshake, and the request
		close(spoke)
		for err == nil && when == answered {
			_, _ = server.Write(buffer[:n])
			n, err = client.Read(buffer)
		}
	}()
	flight := make([]byte, 64<<10)
	for dead := false; ; {
		n, err := server.Read(flight)
		select {
		case <-spoke:
			dead = true
		default:
		}
		if !dead {
			_, _ = client.Write(flight[:n])
		}
		if when == asked {
			<-spoke
			break
		}
		if err != nil { // the server said all and closed: it answered
			break
		}
	}
	close(reached)
}
