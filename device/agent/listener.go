package agent

import (
	"bytes"
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/touchmark/touchmark/device"
)

// listener hears the server's notices over MQTT, with the official credential
// of the moment. Without a client it hears only what it is told.
type listener struct {
	client  *device.MQTTClient
	notices chan device.Notice
	// listening is told when it begins to hear notices, and when it ends.
	listening func(bool)

	mu     sync.Mutex
	by     *device.Credential
	cancel context.CancelFunc
}

// use listens with a credential from now on.
func (l *listener) use(by *device.Credential) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.client == nil || l.by != nil && bytes.Equal(l.by.Leaf().Raw, by.Leaf().Raw) {
		return
	}
	if l.cancel != nil {
		l.cancel()
	}
	ctx, cancel := context.WithCancel(context.Background())
	l.by, l.cancel = by, cancel
	client := *l.client // whose roots may change meanwhile
	go l.listen(ctx, &client, by)
}

func (l *listener) stop() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cancel != nil {
		l.cancel()
	}
	l.by, l.cancel = nil, nil
}

// kept is how many notices wait for the agent.
const kept = 8

// Bounds of the pause before a listener comes back.
const (
	soonest = 5 * time.Second
	latest  = 10 * time.Minute
)

func (l *listener) listen(ctx context.Context, client *device.MQTTClient, by *device.Credential) {
	pause := soonest
	for ctx.Err() == nil {
		began := time.Now()
		_ = client.Listen(ctx, by, func() { l.listening(true) }, l.hear)
		l.listening(false)
		if time.Since(began) > latest {
			pause = soonest
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause/2 + rand.N(pause)):
		}
		pause = min(2*pause, latest)
	}
}

// hear keeps a notice until the agent has time for it. A flood is cut short:
// the agent asks the server when to renew anyway.
func (l *listener) hear(n device.Notice) {
	select {
	case l.notices <- n:
	default:
	}
}
