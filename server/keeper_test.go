package server

import (
	"bufio"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

type neighbour = netip.Prefix

func neighbourhoodOf(t *testing.T, text string) neighbour {
	t.Helper()
	return neighbourhood(netip.MustParseAddr(text))
}

// visitor is a connection to a door from an address of this machine.
type visitor struct {
	*tls.Conn
	in *bufio.Reader
}

// visit connects; its error is that of the handshake.
func visit(t *testing.T, s *Server, c *Config, door, from string) (*visitor, error) {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	raw, err := d.DialContext(t.Context(), "tcp", s.Addrs()[door])
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { raw.Close() })
	raw.SetDeadline(time.Now().Add(time.Minute)) // only a server that hangs meets it
	conn := tls.Client(raw, as(t, c, "").Transport.(*http.Transport).TLSClientConfig)
	return &visitor{conn, bufio.NewReader(conn)}, conn.Handshake()
}

// asks sends a request and reads the answer.
func (v *visitor) asks() error {
	if _, err := io.WriteString(v, "GET /.well-known/est/cacerts HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
		return err
	}
	resp, err := http.ReadResponse(v.in, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != 200 {
		return errors.New(resp.Status)
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}

// enters is a visit that must succeed, request included.
func enters(t *testing.T, s *Server, c *Config, from string) *visitor {
	t.Helper()
	v, err := visit(t, s, c, "est", from)
	if err == nil {
		err = v.asks()
	}
	if err != nil {
		t.Fatalf("from %s: %v", from, err)
	}
	return v
}

func TestConnectionsOfOneAddress(t *testing.T) {
	s, c := served(t, func(c *Config) { c.Exempt, c.EST.MaxPerAddress = []string{"127.0.0.3"}, 3 }, nil)
	var inside []*visitor
	for range 3 {
		inside = append(inside, enters(t, s, c, "127.0.0.1"))
	}
	if _, err := visit(t, s, c, "est", "127.0.0.1"); err == nil {
		t.Error("a fourth connection was let in")
	}
	if n := s.wasShed("est", shedAddress); n != 1 {
		t.Errorf("%v counted", n)
	}
	enters(t, s, c, "127.0.0.2")
	for range 5 {
		enters(t, s, c, "127.0.0.3")
	}
	for _, v := range inside {
		if err := v.asks(); err != nil {
			t.Errorf("one that is inside: %v", err)
		}
	}
	inside[0].Close()
	for { // the server has yet to notice
		if v, err := visit(t, s, c, "est", "127.0.0.1"); err == nil && v.asks() == nil {
			break
		}
		if t.Context().Err() != nil {
			t.Fatal("the place of a closed connection was not given to another")
		}
	}
}

func TestNewConnectionsOfOneAddress(t *testing.T) {
	c := initialized(t, Plan{})
	c.Exempt = nil
	s := made(t, c)
	limiter, pass := frozen[neighbour](1)
	s.doors[0].rates = limiter
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	for range leastBurst {
		enters(t, s, c, "127.0.0.1").Close()
	}
	if _, err := visit(t, s, c, "est", "127.0.0.1"); err == nil {
		t.Error("one too many was let in")
	}
	if n := s.wasShed("est", shedRate); n != 1 {
		t.Errorf("%v counted", n)
	}
	enters(t, s, c, "127.0.0.2")
	pass(time.Second)
	enters(t, s, c, "127.0.0.1")
}

// When the door is full, who has had nothing to say for longest makes room.
func TestIdleMakesRoom(t *testing.T) {
	s, c := served(t, func(c *Config) { c.EST.MaxConnections = 2 }, nil)
	first, second := enters(t, s, c, "127.0.0.1"), enters(t, s, c, "127.0.0.1")
	s.settles(t, "est", 2, 2)
	if err := first.asks(); err != nil { // now the second has rested longer
		t.Fatal(err)
	}
	s.settles(t, "est", 2, 2)
	enters(t, s, c, "127.0.0.1")
	if err := second.asks(); err == nil {
		t.Error("the one that rested longest is still inside")
	}
	if err := first.asks(); err != nil {
		t.Errorf("another was cut off: %v", err)
	}
	if n := s.wasShed("est", shedIdle); n != 1 {
		t.Errorf("%v counted", n)
	}
}

// settles waits until so many connections are open and so many of them rest.
func (s *Server) settles(t *testing.T, door string, open, resting int) {
	t.Helper()
	for _, d := range s.doors {
		for d.name == door {
			d.keeper.mu.Lock()
			o, r := len(d.keeper.open), 0
			for g := range d.keeper.open {
				if !g.busy.Load() {
					r++
				}
			}
			d.keeper.mu.Unlock()
			if o == open && r == resting {
				return
			}
			if t.Context().Err() != nil {
				t.Fatalf("%d open, %d resting; want %d, %d", o, r, open, resting)
			}
			runtime.Gosched()
		}
	}
}

// twoInside has two requests worked on, until leave is called, which demands
// that both are answered.
func (g *gated) twoInside(t *testing.T, s *Server, c *Config) (leave func()) {
	t.Helper()
	var inside []*visitor
	for range 2 {
		v, err := visit(t, s, c, "est", "127.0.0.1")
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(v, "GET /wait HTTP/1.1\r\nHost: localhost\r\n\r\n")
		<-g.begun
		inside = append(inside, v)
	}
	return func() {
		t.Helper()
		close(g.proceed)
		for _, v := range inside {
			if resp, err := http.ReadResponse(v.in, nil); err != nil || resp.StatusCode != 200 {
				t.Errorf("one that is worked on: %v", err)
			}
		}
	}
}

// Those whose requests are worked on do not make room.
func TestBusyConnectionsStay(t *testing.T) {
	g := newGated()
	s, c := served(t, func(c *Config) { c.EST.MaxConnections = 2 }, map[string]func(http.Handler) http.Handler{"est": g.wrap})
	leave := g.twoInside(t, s, c)
	if _, err := visit(t, s, c, "est", "127.0.0.1"); err == nil {
		t.Error("a third connection was let in")
	}
	if n := s.wasShed("est", shedConnections); n != 1 {
		t.Errorf("%v counted", n)
	}
	leave()
}

// blocked makes a door's handshakes wait in the middle of their work.
func blocked(s *Server) (proceed chan struct{}) {
	proceed = make(chan struct{})
	s.doors[0].tls.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		<-proceed
		return nil, nil
	}
	return proceed
}

func TestHandshakesAreBounded(t *testing.T) {
	c := initialized(t, Plan{})
	c.EST.MaxHandshakes = 2
	s := made(t, c)
	proceed := blocked(s)
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	// One that has connected but not spoken yet when the others begin.
	late, err := net.Dial("tcp", s.Addrs()["est"])
	if err != nil {
		t.Fatal(err)
	}
	defer late.Close()
	s.settles(t, "est", 1, 1)
	inside := make(chan error, 2)
	for range 2 {
		go func() {
			v, err := visit(t, s, c, "est", "127.0.0.1")
			if err == nil {
				err = v.asks()
			}
			inside <- err
		}()
	}
	for s.doors[0].keeper.turns.count() != 2 {
		runtime.Gosched()
	}
	if _, err := visit(t, s, c, "est", "127.0.0.1"); err == nil {
		t.Error("a third handshake was let in")
	}
	if err := tls.Client(late, as(t, c, "").Transport.(*http.Transport).TLSClientConfig).Handshake(); err == nil {
		t.Error("the late one was let in")
	}
	if n := s.wasShed("est", shedHandshakes); n != 2 {
		t.Errorf("%v counted", n)
	}
	close(proceed)
	for range 2 {
		if err := <-inside; err != nil {
			t.Errorf("one that is inside: %v", err)
		}
	}
	enters(t, s, c, "127.0.0.1")
}

// count tells how many handshakes have a turn or wait for one.
func (t *turns) count() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.taken
}

// Requests that are worked on keep newcomers out before their handshake. Who
// has done one already gets in.
func TestRequestsKeepHandshakesOut(t *testing.T) {
	g := newGated()
	s, c := served(t, func(c *Config) { c.EST.MaxHandshakes = 2 }, map[string]func(http.Handler) http.Handler{"est": g.wrap})
	established := enters(t, s, c, "127.0.0.1")
	leave := g.twoInside(t, s, c)
	if _, err := visit(t, s, c, "est", "127.0.0.1"); err == nil {
		t.Error("a newcomer was let in")
	}
	if n := s.wasShed("est", shedHandshakes); n != 1 {
		t.Errorf("%v counted", n)
	}
	if err := established.asks(); err != nil {
		t.Errorf("one that is inside: %v", err)
	}
	leave()
	for len(s.doors[0].bounds.places) != 0 {
		runtime.Gosched()
	}
	enters(t, s, c, "127.0.0.1")
}

// stalled counts those who have begun to speak, once none of them is being
// worked on.
func (k *keeper) stalled() (n int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for g := range k.open {
		if g.begun.Load() {
			n++
		}
	}
	if k.turns.count() != 0 {
		return -1
	}
	return n
}

// Clients that stop in the middle of a handshake hold up nobody.
func TestStalledHandshakesTakeNoPlace(t *testing.T) {
	s, c := served(t, func(c *Config) { c.EST.MaxHandshakes = 2 }, nil)
	for n := range 40 {
		conn, err := net.Dial("tcp", s.Addrs()["est"])
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if n%2 == 0 { // the beginning of a ClientHello
			conn.Write([]byte{22, 3, 1, 2, 0, 1, 0})
		}
		s.settles(t, "est", n+1, n+1)
		for s.doors[0].keeper.stalled() != n/2+1 {
			runtime.Gosched()
		}
	}
	for range 5 {
		enters(t, s, c, "127.0.0.1").Close()
	}
	if n := s.wasShed("est", shedHandshakes); n != 0 {
		t.Errorf("%v were turned away", n)
	}
}

func TestHalfOpenConnectionsEnd(t *testing.T) {
	s, _ := served(t, func(c *Config) { c.EST.HeaderTimeout = Duration(100 * time.Millisecond) }, nil)
	for what, sent := range map[string][]byte{"nothing": nil, "half a ClientHello": {22, 3, 1, 2, 0, 1, 0}} {
		conn, err := net.Dial("tcp", s.Addrs()["est"])
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conn.Write(sent)
		conn.SetReadDeadline(time.Now().Add(time.Minute)) // only a server that hangs meets it
		if _, err := io.Copy(io.Discard, conn); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("after %s: still open", what)
		}
	}
	s.settles(t, "est", 0, 0)
}

// A defect in the handshake ends one connection and not the process.
func TestPanicInTheHandshake(t *testing.T) {
	c := initialized(t, Plan{})
	s := made(t, c)
	good := s.doors[0].tls.GetCertificate
	first := true
	s.doors[0].tls.GetCertificate = func(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
		if first {
			first = false
			panic("a defect")
		}
		return good(h)
	}
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := visit(t, s, c, "est", "127.0.0.1"); err == nil {
		t.Error("the handshake went through")
	}
	enters(t, s, c, "127.0.0.1")
	if n := testutil.ToFloat64(s.metrics.panics); n != 1 {
		t.Errorf("%v panics counted", n)
	}
}

// Stopping does not wait for clients that stall.
func TestStopEndsHandshakes(t *testing.T) {
	s, c := served(t, func(c *Config) { c.EST.HeaderTimeout = Duration(time.Hour) }, nil)
	conn, err := net.Dial("tcp", s.Addrs()["est"])
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	s.settles(t, "est", 1, 1)
	if err := s.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	conn.SetReadDeadline(time.Now().Add(time.Minute))
	if _, err := io.Copy(io.Discard, conn); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("still open")
	}
	if _, err := visit(t, s, c, "est", "127.0.0.1"); err == nil {
		t.Error("a stopped door let somebody in")
	}
}
