// Package broker is the MQTT broker in the process, for MQTT 3.1.1 and 5. It
// carries messages between devices and one [Door], never from device to
// device: a client is known by the certificate that it showed in the TLS
// handshake, may publish and read what the door allows that key, and no
// session outlives its connection. It knows no enrolment.
package broker

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/listeners"
	"github.com/mochi-mqtt/server/v2/packets"
)

// Message is what is published.
type Message struct {
	Topic   string
	Payload []byte
	// Private messages go to the client alone that they answer, whoever else
	// reads their topic.
	Private bool
}

// Rights are what a client may do.
type Rights interface {
	MayPublish(topic string) bool
	// MayRead is asked for the filters that the client subscribes to and for
	// the topics of messages to it.
	MayRead(filter string) bool
}

// Client is who sent a message.
type Client struct {
	// Shown are the certificates of the TLS handshake, which has proved that
	// the client holds the key of the first, and nothing else.
	Shown  []*x509.Certificate
	Remote string // host:port
	Rights Rights
}

// Door is what clients come to.
type Door interface {
	// Enter tells what a client may do who holds the certificate's key, or why
	// it may not connect. It is called once for each connection.
	Enter(ctx context.Context, cert *x509.Certificate) (Rights, error)
	// Serve works on a message that a client was allowed to publish, and
	// returns what is to be published. Messages of one client come one after
	// the other; one is acknowledged (QoS 1) when Serve has returned and its
	// answers are on their way. After an error the client is cut off, so that
	// it sends the message again.
	Serve(ctx context.Context, from Client, m Message) ([]Message, error)
}

// Bounds protect the broker from clients that take too much.
type Bounds struct {
	// MaxPacket is the longest packet that is read, in bytes.
	MaxPacket uint32
	// MaxClients bounds the connected clients.
	MaxClients int64
	// FirstTimeout is how long a client may take to say CONNECT, and
	// WriteTimeout how long it may take to receive a message.
	FirstTimeout, WriteTimeout time.Duration
	// Silence is how long a client may say nothing, pings included; its keep
	// alive time is lowered to two thirds of it.
	Silence time.Duration
}

// Config is what a broker is made of.
type Config struct {
	Door   Door
	Bounds Bounds
	// State is told when a connection begins and ends to be worked for, like
	// http.Server.ConnState; nil is nobody.
	State func(net.Conn, http.ConnState)
	// Panicked is told of a panic that ended one connection.
	Panicked func(any)
	// Log takes what is worth knowing about single clients, at debug level.
	Log *slog.Logger
}

// Broker is one broker with one listener. It can be served once.
type Broker struct {
	config Config
	server *mochi.Server

	work     context.Context // of all messages being worked on
	cut      context.CancelFunc
	mu       sync.Mutex
	stopping bool
	inside   sync.WaitGroup // messages being worked on
	closing  sync.Once
	closed   chan struct{}
}

// perClient bounds what may wait for one client: messages to it and requests
// of it that are not acknowledged yet.
const perClient = 32

// New makes a broker.
func New(c Config) (*Broker, error) {
	b := &Broker{config: c, closed: make(chan struct{})}
	b.work, b.cut = context.WithCancel(context.Background())
	limits := mochi.NewDefaultServerCapabilities()
	limits.MaximumClients = c.Bounds.MaxClients
	limits.MaximumPacketSize = c.Bounds.MaxPacket
	limits.MaximumSessionExpiryInterval = 0
	limits.MaximumMessageExpiryInterval = 60
	limits.MaximumClientWritesPending = perClient
	limits.ReceiveMaximum, limits.MaximumInflight = perClient, perClient
	limits.TopicAliasMaximum = 0
	limits.MaximumQos = 1
	limits.RetainAvailable, limits.SharedSubAvailable = 0, 0
	limits.MinimumProtocolVersion = 4 // MQTT 3.1.1
	b.server = mochi.New(&mochi.Options{
		Capabilities: limits, InlineClient: true, Logger: slog.New(slog.DiscardHandler),
		SysTopicResendInterval: 3600,
	})
	return b, b.server.AddHook(&hook{broker: b}, nil)
}

// Serve takes connections from a listener until the broker is closed. They
// must be of TLS, with the handshake done, or have one below.
func (b *Broker) Serve(l net.Listener) error {
	in := &listener{Listener: l, broker: b, failed: make(chan error, 1)}
	if err := b.server.AddListener(in); err != nil {
		return err
	}
	if err := b.server.Serve(); err != nil {
		return err
	}
	select {
	case err := <-in.failed:
		if b.isStopping() {
			<-b.closed
			return http.ErrServerClosed
		}
		return err
	case <-b.closed:
		return http.ErrServerClosed
	}
}

// Publish sends a message to the clients that read its topic, at most once
// each. It does not wait for them.
func (b *Broker) Publish(topic string, payload []byte) error {
	return b.server.Publish(topic, payload, false, 0)
}

// Reads reports whether a client reads a topic.
func (b *Broker) Reads(topic string) bool {
	return len(b.server.Topics.Subscribers(topic).Subscriptions) > 0
}

// deliver does as Publish, and has written the message when it returns.
func (b *Broker) deliver(m Message) {
	for id := range b.server.Topics.Subscribers(m.Topic).Subscriptions {
		if cl, ok := b.server.Clients.Get(id); ok && mayRead(cl, m.Topic) {
			tell(cl, m)
		}
	}
}

// tell writes a message to a client. Sessions end with their connections, so
// that acknowledging it (QoS 1) would add nothing to what TCP does.
func tell(cl *mochi.Client, m Message) {
	// A client that is gone needs no answer.
	_ = cl.WritePacket(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Publish}, TopicName: m.Topic, Payload: m.Payload})
}

// Shutdown takes no more messages, lets those that are being worked on be
// answered until ctx ends, and then closes the connections. It returns ctx's
// error if messages were cut off.
func (b *Broker) Shutdown(ctx context.Context) error {
	b.mu.Lock()
	b.stopping = true
	b.mu.Unlock()
	done := make(chan struct{})
	go func() {
		b.inside.Wait()
		close(done)
	}()
	var err error
	select {
	case <-done:
	case <-ctx.Done():
		err = ctx.Err()
	}
	return errors.Join(err, b.Close())
}

// Close cuts everybody off.
func (b *Broker) Close() error {
	var err error
	b.closing.Do(func() {
		b.mu.Lock()
		b.stopping = true
		b.mu.Unlock()
		b.cut()
		b.hangUp()
		err = b.server.Close()
		close(b.closed)
	})
	return err
}

// hangUp ends all connections at once. Mochi takes leave of one after the
// other, and each may be slow.
func (b *Broker) hangUp() {
	for _, cl := range b.server.Clients.GetAll() {
		if c, ok := cl.Net.Conn.(*conn); ok {
			_ = c.Conn.(*tls.Conn).NetConn().Close()
		}
	}
}

func (b *Broker) isStopping() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.stopping
}

// begin notes a message that is worked on, unless the broker is stopping.
func (b *Broker) begin() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.stopping {
		return false
	}
	b.inside.Add(1)
	return true
}

// listener gives the broker's connections to mochi. Each has a goroutine,
// whose panic ends that connection only.
type listener struct {
	net.Listener
	broker *Broker
	failed chan error
}

func (l *listener) Init(*slog.Logger) error { return nil }
func (l *listener) ID() string              { return "devices" }
func (l *listener) Address() string         { return l.Addr().String() }
func (l *listener) Protocol() string        { return "tcp" }

// Serve implements listeners.Listener.
func (l *listener) Serve(establish listeners.EstablishFn) {
	for {
		c, err := l.Accept()
		if err != nil {
			l.failed <- err
			return
		}
		go l.welcome(c, establish)
	}
}

func (l *listener) welcome(raw net.Conn, establish listeners.EstablishFn) {
	c := &conn{Conn: raw, write: l.broker.config.Bounds.WriteTimeout}
	defer func() {
		if p := recover(); p != nil {
			l.broker.config.Panicked(p)
		}
		_ = c.Close()
		l.broker.state(c, http.StateClosed)
	}()
	if err := c.identify(); err != nil {
		l.broker.config.Log.Debug("an MQTT client was turned away", "remote", c.RemoteAddr(), "error", err)
		return
	}
	_ = c.SetReadDeadline(time.Now().Add(l.broker.config.Bounds.FirstTimeout))
	if err := establish(l.ID(), c); err != nil {
		l.broker.config.Log.Debug("an MQTT connection ended", "remote", c.RemoteAddr(), "error", err)
	}
}

// Close implements listeners.Listener.
func (l *listener) Close(closeClients listeners.CloseFn) {
	closeClients(l.ID())
	_ = l.Listener.Close()
}

// conn is one connection: it knows its certificates, and bounds each write by
// itself, because mochi sets one deadline for reading and writing.
type conn struct {
	net.Conn
	shown  []*x509.Certificate // at least one
	rights Rights
	write  time.Duration
}

var errNoCertificate = errors.New("no client certificate was shown in the TLS handshake")

func (c *conn) identify() error {
	t, ok := c.Conn.(*tls.Conn)
	if !ok {
		return errNoCertificate
	}
	if c.shown = t.ConnectionState().PeerCertificates; len(c.shown) == 0 {
		return errNoCertificate
	}
	return nil
}

func (c *conn) SetDeadline(t time.Time) error { return c.SetReadDeadline(t) }

func (c *conn) Write(p []byte) (int, error) {
	if err := c.SetWriteDeadline(time.Now().Add(c.write)); err != nil {
		return 0, err
	}
	n, err := c.Conn.Write(p)
	if err != nil {
		_ = c.Conn.Close() // TLS cannot go on after a write that failed
	}
	return n, err
}

func (b *Broker) state(c *conn, s http.ConnState) {
	if b.config.State != nil {
		b.config.State(c.Conn, s)
	}
}
