package server

import (
	"container/list"
	"crypto/tls"
	"errors"
	"log"
	"net"
	"net/http"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// keeper is a door's listener. It gives out connections whose TLS handshake
// is done, and holds clients to the door's bounds before they cost anything:
// a client that is too much is cut off at once, with a TCP reset, and has to
// come again later; those that are inside do not wait for it.
type keeper struct {
	net.Listener
	tls    *tls.Config // nil is plain TCP
	limits Limits
	exempt networks
	rates  *rates[netip.Prefix]
	doorBooks
	ready   chan net.Conn
	ended   chan struct{}
	once    sync.Once
	failure error // valid after ended

	// turns are of the handshakes that have work for a processor. Those that
	// wait for their client have none: a slow network is no load, and a
	// client that stalls must not take a place from others.
	turns *turns

	mu    sync.Mutex
	open  map[*guest]struct{}
	homes map[netip.Prefix]int // open connections of each address
	// resting are the connections on which no request is being worked on,
	// the longest first: when the door is full they make room. There are busy
	// ones among them, which are taken out when they are come upon.
	resting *list.List
}

// doorBooks is where a door's happenings are noted.
type doorBooks struct {
	shed     func(reason string)
	panicked func(any)
	errors   *log.Logger
}

func newKeeper(l net.Listener, config *tls.Config, limits Limits, exempt networks, rates *rates[netip.Prefix], books doorBooks, requests func() int) *keeper {
	processors := runtime.GOMAXPROCS(0)
	if limits.MaxHandshakes == 0 {
		limits.MaxHandshakes = workEach * min(processors, runtime.NumCPU())
	}
	return &keeper{
		Listener: l, tls: config, limits: limits, exempt: exempt, doorBooks: books,
		rates: rates, ready: make(chan net.Conn), ended: make(chan struct{}),
		turns: newTurns(processors, limits.MaxHandshakes, requests),
		open:  map[*guest]struct{}{}, homes: map[netip.Prefix]int{}, resting: list.New(),
	}
}

// workEach is the standard for max_handshakes for each processor. One does
// several hundred enrolments a second with their handshakes, so the last of
// them waits a tenth of a second. Fewer would cut off clients that come in a
// small crowd; more would make everybody wait longer, and get no more done.
const workEach = 40

// Why a connection is cut off.
const (
	shedConnections = "connections"
	shedHandshakes  = "handshakes"
	shedAddress     = "address-connections"
	shedRate        = "connection-rate"
	shedIdle        = "idle"
)

// Accept gives the next connection that is ready for requests.
func (k *keeper) Accept() (net.Conn, error) {
	select {
	case c := <-k.ready:
		return c, nil
	case <-k.ended:
		return nil, k.failure
	}
}

// Close accepts nothing more and ends the handshakes that are under way.
func (k *keeper) Close() error {
	err := k.Listener.Close()
	k.end(net.ErrClosed)
	return err
}

func (k *keeper) end(why error) {
	k.once.Do(func() {
		k.failure = why
		close(k.ended)
		k.mu.Lock()
		defer k.mu.Unlock()
		for g := range k.open {
			if g.greeting {
				_ = g.Conn.Close()
			}
		}
	})
}

// shortOfFiles is how long accepting pauses when the process or the machine
// has no file or memory left for one more.
const shortOfFiles = 50 * time.Millisecond

// receive accepts until the listener ends.
func (k *keeper) receive() {
	for {
		c, err := k.Listener.Accept()
		switch {
		case err == nil:
			if g, why := k.admit(c); why == "" {
				go k.greet(g)
			} else {
				k.refuse(c, why)
			}
		case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE), errors.Is(err, syscall.ENOBUFS), errors.Is(err, syscall.ENOMEM):
			k.errors.Printf("no connection can be accepted for the moment: %v; lower max_connections or raise the limit of open files", err)
			k.makeRoom()
			select {
			case <-time.After(shortOfFiles):
			case <-k.ended:
			}
		default:
			k.end(err)
			return
		}
	}
}

// admit holds a new connection to the bounds; why says which one it breaks.
func (k *keeper) admit(c net.Conn) (g *guest, why string) {
	if k.turns.full() {
		return nil, shedHandshakes
	}
	home := addressOf(c.RemoteAddr())
	counted := !k.exempt.hold(home)
	if counted {
		if _, ok := k.rates.take(home); !ok {
			return nil, shedRate
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if most := k.limits.MaxPerAddress; counted && most > 0 && k.homes[home] >= most {
		return nil, shedAddress
	}
	if len(k.open) >= k.limits.MaxConnections && !k.evict() {
		return nil, shedConnections
	}
	g = newGuest(k, c, home)
	g.rest = k.resting.PushBack(g)
	k.open[g] = struct{}{}
	k.homes[home]++
	return g, ""
}

// makeRoom cuts off the connection that has rested longest.
func (k *keeper) makeRoom() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.evict()
}

// evict is makeRoom with the lock held.
func (k *keeper) evict() bool {
	for e := k.resting.Front(); e != nil; e = k.resting.Front() {
		g := e.Value.(*guest)
		if g.busy.Load() {
			k.unrest(g)
			continue
		}
		k.forget(g)
		k.refuse(g.Conn, shedIdle)
		return true
	}
	return false
}

// refuse ends a connection without a farewell: nothing of it stays behind,
// neither here nor in the kernel.
func (k *keeper) refuse(c net.Conn, why string) {
	k.shed(why)
	if t, ok := c.(*net.TCPConn); ok {
		_ = t.SetLinger(0)
	}
	_ = c.Close()
}

// forget takes a connection out of the books. The lock is held.
func (k *keeper) forget(g *guest) {
	if _, ok := k.open[g]; !ok {
		return
	}
	delete(k.open, g)
	if k.homes[g.home]--; k.homes[g.home] == 0 {
		delete(k.homes, g.home)
	}
	k.unrest(g)
}

func (k *keeper) unrest(g *guest) {
	if g.rest != nil {
		k.resting.Remove(g.rest)
		g.rest = nil
	}
}

// greet does the handshake and hands the connection on. A panic in it is the
// end of this connection only, as it is in net/http.
func (k *keeper) greet(g *guest) {
	defer func() {
		if p := recover(); p != nil {
			k.panicked(p)
			_ = g.Close()
		}
	}()
	var c net.Conn = g
	if k.tls != nil {
		t := tls.Server(g, k.tls)
		if err := k.shake(g, t); err != nil {
			if errors.Is(err, errBusy) {
				return
			}
			k.errors.Printf("TLS handshake with %s: %v", g.RemoteAddr(), err)
			if plain := new(tls.RecordHeaderError); !errors.As(err, plain) || plain.Conn == nil {
				_ = g.Close()
				return
			}
			// net/http meets the same error and tells a client that
			// forgot the s of https.
		}
		c = t
	}
	k.mu.Lock()
	g.greeting = false
	k.mu.Unlock()
	select {
	case k.ready <- c:
	case <-k.ended:
		_ = g.Close()
	}
}

func (k *keeper) shake(g *guest, t *tls.Conn) error {
	if err := g.SetDeadline(time.Now().Add(time.Duration(k.limits.HeaderTimeout))); err != nil {
		return err
	}
	g.greets = true
	defer func() {
		g.greets = false
		if g.begun.Load() {
			k.turns.pause()
		}
	}()
	if err := t.Handshake(); err != nil {
		return err
	}
	return g.SetDeadline(time.Time{})
}

// state is http.Server.ConnState: it keeps the books of who rests.
func (k *keeper) state(c net.Conn, s http.ConnState) {
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	g, ok := c.(*guest)
	if !ok {
		return
	}
	if s == http.StateIdle || s == http.StateNew {
		k.settle(g)
	} else {
		g.busy.Store(true)
	}
}

// settle notes that a connection begins to rest.
func (k *keeper) settle(g *guest) {
	k.mu.Lock()
	defer k.mu.Unlock()
	g.busy.Store(false)
	if g.rest != nil {
		k.resting.MoveToBack(g.rest)
	} else if _, ok := k.open[g]; ok {
		g.rest = k.resting.PushBack(g)
	}
}

// count tells how many connections are open.
func (k *keeper) count() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.open)
}

// guest is one connection.
type guest struct {
	net.Conn
	keeper *keeper
	home   netip.Prefix
	busy   atomic.Bool // a request is being worked on

	// Kept under the keeper's lock.
	rest     *list.Element
	greeting bool

	greets bool        // of the goroutine that does the handshake
	begun  atomic.Bool // the client has begun to speak

	reads, writes deadline
}

func newGuest(k *keeper, c net.Conn, home netip.Prefix) *guest {
	return &guest{Conn: c, keeper: k, home: home, greeting: true, reads: deadline{set: c.SetReadDeadline}, writes: deadline{set: c.SetWriteDeadline}}
}

var errBusy = errors.New("too many handshakes at once")

// Read gives a handshake's turn back while it waits for its client. When the
// client's first bytes are there and others have enough to do, that is the
// last moment at which turning it away costs nothing.
func (g *guest) Read(b []byte) (int, error) {
	if !g.greets {
		return g.receive(b)
	}
	turns := g.keeper.turns
	if g.begun.Load() {
		turns.pause()
		n, err := g.receive(b)
		turns.resume()
		return n, err
	}
	n, err := g.receive(b)
	if err != nil {
		return n, err
	}
	if !turns.begin() {
		g.keeper.mu.Lock()
		g.keeper.forget(g)
		g.keeper.mu.Unlock()
		g.keeper.refuse(g.Conn, shedHandshakes)
		return 0, errBusy
	}
	g.begun.Store(true)
	return n, nil
}

func (g *guest) receive(b []byte) (n int, err error) {
	err = g.reads.during(func() (err error) {
		n, err = g.Conn.Read(b)
		return err
	})
	return n, err
}

func (g *guest) Write(b []byte) (sent int, err error) {
	err = g.writes.during(func() error {
		n, err := g.Conn.Write(b[sent:])
		sent += n
		return err
	})
	return sent, err
}

func (g *guest) SetReadDeadline(t time.Time) error  { return g.reads.want(t) }
func (g *guest) SetWriteDeadline(t time.Time) error { return g.writes.want(t) }

func (g *guest) SetDeadline(t time.Time) error {
	return errors.Join(g.reads.want(t), g.writes.want(t))
}

func (g *guest) Close() error {
	g.keeper.mu.Lock()
	g.keeper.forget(g)
	g.keeper.mu.Unlock()
	return g.Conn.Close()
}
