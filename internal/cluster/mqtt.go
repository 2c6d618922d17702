// Package cluster holds what several servers share beside the database: so far
// the connection to an MQTT broker. Losing it loses speed, never data.
package cluster

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
)

// Message is what is published.
type Message struct {
	Topic   string
	Payload []byte
}

// MQTTOptions say which broker, and as whom.
type MQTTOptions struct {
	// URL is mqtts://HOST:PORT, or mqtt://HOST:PORT without TLS.
	URL string
	// ClientID is this server's name at the broker. It must be its own, and
	// the same after a restart: the broker keeps for it what was not answered.
	ClientID string
	// TLS is for mqtts; it holds the roots and this server's certificate.
	TLS            *tls.Config
	User, Password string
	// Filter is what is served. The servers of a Group share the messages.
	Group, Filter string
	// Serve answers a message; nil is no answer. It is called for many
	// messages at a time, at most Places. A message is acknowledged when its
	// answer has arrived at the broker, and not if Serve returns an error: the
	// broker sends it again when the connection is made anew.
	Serve  func(ctx context.Context, m Message) (*Message, error)
	Places int
	// Dropped counts messages with QoS 0 that came when all places were taken.
	Dropped func()
	// Panicked is told of a panic in Serve; the message counts as answered.
	Panicked func(any)
	Log      *slog.Logger
}

// MQTT is a connection to a broker. It is made anew whenever it is lost.
type MQTT struct {
	options MQTTOptions
	client  paho.Client
	places  chan struct{}
	inside  sync.WaitGroup
	work    context.Context
	cut     context.CancelFunc

	mu       sync.Mutex
	stopping bool
	lost     atomic.Pointer[error] // why there is no connection; nil if there is
}

var errNotYet = errors.New("it was not connected yet")

// Schemes are those of a broker's URL.
var Schemes = []string{"mqtt", "mqtts"}

// CheckURL reports an URL that no broker can have.
func CheckURL(text string) error {
	u, err := url.Parse(text)
	if err != nil || !slices.Contains(Schemes, u.Scheme) || u.Hostname() == "" || u.Port() == "" || u.Path != "" || u.User != nil {
		return fmt.Errorf("%q is no address of a broker: want mqtts://HOST:PORT, or mqtt://HOST:PORT without TLS", text)
	}
	return nil
}

// Connect begins to connect, and returns at once: a broker that is away is no
// reason not to start.
func Connect(o MQTTOptions) *MQTT {
	c := &MQTT{options: o, places: make(chan struct{}, o.Places)}
	c.work, c.cut = context.WithCancel(context.Background())
	c.lost.Store(new(errNotYet))
	p := paho.NewClientOptions().AddBroker(o.URL).SetClientID(o.ClientID).SetTLSConfig(o.TLS).
		SetUsername(o.User).SetPassword(o.Password).
		SetCleanSession(false).SetOrderMatters(false).SetAutoAckDisabled(true).
		SetConnectRetry(true).SetConnectRetryInterval(time.Second).SetAutoReconnect(true).SetMaxReconnectInterval(5 * time.Second).
		SetKeepAlive(30 * time.Second).SetWriteTimeout(10 * time.Second)
	p.SetOnConnectHandler(func(paho.Client) { c.subscribe() })
	p.SetConnectionLostHandler(func(_ paho.Client, err error) {
		c.lost.Store(&err)
		o.Log.Warn("the connection to the MQTT broker was lost; it is made anew", "broker", o.URL, "error", err)
	})
	c.client = paho.NewClient(p)
	c.client.AddRoute(c.filter(), c.receive)
	c.client.Connect()
	return c
}

func (c *MQTT) filter() string { return "$share/" + c.options.Group + "/" + c.options.Filter }

// subscribe is called after each connect.
func (c *MQTT) subscribe() {
	token := c.client.Subscribe(c.filter(), 1, nil)
	token.Wait()
	if err := token.Error(); err != nil {
		err = fmt.Errorf("subscribe to %s: %w", c.filter(), err)
		c.lost.Store(&err)
		c.options.Log.Error("the MQTT broker lets this server read no requests", "broker", c.options.URL, "error", err)
		return
	}
	c.lost.Store(nil)
	c.options.Log.Info("connected to the MQTT broker", "broker", c.options.URL, "filter", c.filter())
}

// Check says why there is no connection.
func (c *MQTT) Check(context.Context) error {
	if err := c.lost.Load(); err != nil {
		return fmt.Errorf("no connection to the MQTT broker %s: %w", c.options.URL, *err)
	}
	return nil
}

// receive runs in a goroutine of its own for each message (SetOrderMatters).
func (c *MQTT) receive(_ paho.Client, m paho.Message) {
	if !c.begin() {
		return // not acknowledged: it comes again
	}
	defer c.inside.Done()
	select {
	case c.places <- struct{}{}:
	default:
		if m.Qos() == 0 { // nothing holds its sender back
			c.options.Dropped()
			return
		}
		c.places <- struct{}{}
	}
	defer func() { <-c.places }()
	if err := c.serve(m); err != nil {
		c.options.Log.Warn("a message over MQTT was not answered; it comes again", "error", err)
		return
	}
	m.Ack()
}

func (c *MQTT) serve(m paho.Message) (err error) {
	defer func() {
		if p := recover(); p != nil {
			c.options.Panicked(p)
		}
	}()
	answer, err := c.options.Serve(c.work, Message{m.Topic(), m.Payload()})
	if err != nil || answer == nil {
		return err
	}
	return c.Publish(c.work, *answer)
}

// Publish sends a message and returns when the broker has it (QoS 1). Over a
// connection that is lost meanwhile it is sent again when there is one.
func (c *MQTT) Publish(ctx context.Context, m Message) error {
	token := c.client.Publish(m.Topic, 1, false, m.Payload)
	select {
	case <-token.Done():
		return token.Error()
	case <-ctx.Done():
		return fmt.Errorf("publish over MQTT: %w", ctx.Err())
	}
}

func (c *MQTT) begin() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stopping {
		return false
	}
	c.inside.Add(1)
	return true
}

// leave is how long the broker may take to hear that this server goes.
const leave = time.Second

// Stop leaves the group, so that the others get all messages, answers those
// that came until ctx ends, and disconnects.
func (c *MQTT) Stop(ctx context.Context) error {
	if c.client.IsConnectionOpen() {
		c.client.Unsubscribe(c.filter()).WaitTimeout(leave)
	}
	c.mu.Lock()
	c.stopping = true
	c.mu.Unlock()
	done := make(chan struct{})
	go func() {
		c.inside.Wait()
		close(done)
	}()
	var err error
	select {
	case <-done:
	case <-ctx.Done():
		err = fmt.Errorf("MQTT broker: messages were cut off: %w", ctx.Err())
	}
	c.cut()
	c.client.Disconnect(uint(leave / time.Millisecond))
	return err
}
