// Package cluster lets the servers of one Touchmark tell each other, through
// Redis, what saves them waiting and work. Truth is only in the database: whoever
// hears nothing looks there by himself soon, and whoever gets no answer makes
// it, so losing Redis loses speed and nothing else.
package cluster

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
)

// Options say which Redis, or server of its protocol, to use.
type Options struct {
	// URL is redis://[USER@]HOST[:PORT][/DB], or rediss:// for TLS.
	URL string
	// PasswordFile holds the password, alone; "" for none, or for one in URL.
	PasswordFile string
	// CA is a PEM file with the roots that a TLS server is checked by; "" for
	// the system's.
	CA string
	// Name is what tells this Touchmark from others that use the same Redis.
	Name string
	// Asking is how long a client may wait while Answers asks Redis; 0 is 50
	// ms. To sign takes less, so this is for a moment of trouble: then Redis
	// is not asked any more until it answers again.
	Asking time.Duration
}

// News says, and hears, that there is something new in the database.
type News struct {
	client  *redis.Client
	channel string
	self    string
	waiting chan struct{} // filled when there is something to say
}

// patience is how long Redis may take for anything: whoever waits longer
// learns it from the database sooner.
const patience = time.Second

// Open prepares the connection, which is made when it is needed. Its errors
// name no password.
func Open(o Options) (*News, error) {
	opts, err := o.parse()
	if err != nil {
		return nil, err
	}
	return &News{client: redis.NewClient(opts), channel: "touchmark:" + o.Name + ":statuses", self: rand.Text(), waiting: make(chan struct{}, 1)}, nil
}

func (o Options) parse() (*redis.Options, error) {
	opts, err := redis.ParseURL(o.URL)
	if err != nil { // which quotes the URL, password and all
		return nil, errors.New("the address of Redis is not understood: want redis://[USER@]HOST[:PORT][/DB], or rediss:// for TLS")
	}
	if o.PasswordFile != "" {
		text, err := os.ReadFile(o.PasswordFile)
		if err != nil {
			return nil, fmt.Errorf("the password of Redis: %w", err)
		}
		opts.Password = strings.TrimSpace(string(text))
	}
	opts.DialTimeout, opts.ReadTimeout, opts.WriteTimeout, opts.MaxRetries = patience, patience, patience, -1
	opts.DisableIdentity = true            // a command more that a user would have to be allowed
	redis.SetLogger(&logging.VoidLogger{}) // it would write past the server's log
	if o.CA == "" {
		return opts, nil
	}
	if opts.TLSConfig == nil {
		return nil, errors.New("roots are given for Redis, but its address does not say rediss://")
	}
	text, err := os.ReadFile(o.CA)
	if err != nil {
		return nil, fmt.Errorf("the roots of Redis: %w", err)
	}
	opts.TLSConfig.MinVersion, opts.TLSConfig.RootCAs = tls.VersionTLS12, x509.NewCertPool()
	if !opts.TLSConfig.RootCAs.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%s holds no certificate in PEM", o.CA)
	}
	return opts, nil
}

// Tell has the others told that there is something new. It does not wait, and
// what is said while nobody can hear it is lost.
func (n *News) Tell() {
	select {
	case n.waiting <- struct{}{}:
	default: // it will be said
	}
}

// Listen calls heard whenever another server says that there is something new,
// until ctx ends. Without a connection it makes one again and again.
func (n *News) Listen(ctx context.Context, heard func()) {
	sub := n.client.Subscribe(ctx, n.channel)
	defer sub.Close()
	messages := sub.Channel()
	for {
		select {
		case <-ctx.Done():
			return
		case m, open := <-messages:
			if !open {
				return
			}
			if m.Payload != n.self {
				heard()
			}
		}
	}
}

// Speak tells the others what Tell wants told, until ctx ends.
func (n *News) Speak(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-n.waiting:
			// An error means that nobody hears it, which Ping tells.
			_ = n.client.Publish(ctx, n.channel, n.self).Err()
		}
	}
}

// Ping reports whether Redis answers.
func (n *News) Ping(ctx context.Context) error {
	if err := n.client.Ping(ctx).Err(); err != nil {
		return fmt.Errorf("redis does not answer, so what other servers change is seen a little later: %w", err)
	}
	return nil
}

// Close closes the connections.
func (n *News) Close() error { return n.client.Close() }
