// Package webhook delivers events: signed, in order, at least once, and to
// nowhere that the server's operator does not want (docs/decisions/events.md).
package webhook

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/touchmark/touchmark/internal/events"
)

// Observer is told what becomes of deliveries.
type Observer interface {
	// Delivered tells of a message that was taken.
	Delivered(webhook string, events int)
	// Failed tells of one that was not.
	Failed(webhook string)
	// Paused tells of a webhook that the dispatcher gave up.
	Paused(webhook string)
	// Lags tells of all webhooks that this server delivers to how many of
	// the log's leaves they are behind.
	Lags(map[string]int64)
}

// Dispatcher delivers to all webhooks that this server holds, to each in a
// goroutine of its own.
type Dispatcher struct {
	Feed     *events.Feed
	Store    events.WebhookStore
	Secrets  Secrets
	Targets  Targets
	Observer Observer
	Log      *slog.Logger
	Now      func() time.Time
	// Contain runs a step and keeps a panic in it from being more than the
	// end of that step.
	Contain func(step func())

	once   sync.Once
	holder string
	poked  chan struct{}
	ended  chan *delivering
	retry  time.Duration // the first pause after a failure; 0 means firstRetry
}

// HoldFor is how long a server keeps webhooks without a sign of life, and
// what [Dispatcher.Run] should be given at least three ticks in.
const HoldFor = 6 * time.Second

func (d *Dispatcher) init() {
	d.once.Do(func() {
		d.holder = rand.Text()
		d.poked = make(chan struct{}, 1)
		d.ended = make(chan *delivering)
		if d.retry == 0 {
			d.retry = firstRetry
		}
	})
}

// Poke has the dispatcher look at once whether webhooks changed.
func (d *Dispatcher) Poke() {
	d.init()
	select {
	case d.poked <- struct{}{}:
	default:
	}
}

// Run delivers until ctx ends, and lets go of the webhooks then.
func (d *Dispatcher) Run(ctx context.Context, ticks <-chan time.Time) {
	d.init()
	running := map[int64]*delivering{}
	defer d.finish(ctx, running)
	good := d.Now()
	for {
		if held, err := d.Store.HoldWebhooks(ctx, d.holder, HoldFor); err == nil {
			good = d.Now()
			d.settle(ctx, running, held)
		} else if ctx.Err() == nil {
			d.Log.LogAttrs(ctx, slog.LevelError, "webhooks could not be looked up; it is tried again", slog.Any("error", err))
			if d.Now().Sub(good) >= HoldFor { // another server may have them
				d.settle(ctx, running, nil)
			}
		}
		d.observe(ctx, running)
		select {
		case <-ctx.Done():
			return
		case <-ticks:
		case <-d.poked:
		case w := <-d.ended:
			if running[w.hook.ID] == w {
				delete(running, w.hook.ID)
			}
		}
	}
}

// settle begins and ends deliveries so that they are those of the webhooks
// held.
func (d *Dispatcher) settle(ctx context.Context, running map[int64]*delivering, held []*events.Webhook) {
	keep := map[int64]*events.Webhook{}
	for _, hook := range held {
		keep[hook.ID] = hook
	}
	for id, w := range running {
		if hook := keep[id]; hook == nil || hook.Revision != w.hook.Revision {
			w.cancel() // and it comes through d.ended
		}
	}
	for id, hook := range keep {
		if running[id] == nil {
			running[id] = d.begin(ctx, hook)
		}
	}
}

func (d *Dispatcher) begin(ctx context.Context, hook *events.Webhook) *delivering {
	ctx, cancel := context.WithCancel(ctx)
	w := &delivering{Dispatcher: d, hook: hook, state: hook.Delivery, saved: hook.Delivery.Cursor, cancel: cancel}
	w.leaf.Store(hook.Delivery.Cursor.Leaf)
	go func() {
		defer func() { d.ended <- w }()
		defer cancel()
		whole := false
		d.Contain(func() { w.run(ctx); whole = true })
		if !whole { // a defect, which may come again
			pause(ctx, storeRetry)
		}
	}()
	return w
}

// finish ends the deliveries under way and waits for that.
func (d *Dispatcher) finish(ctx context.Context, running map[int64]*delivering) {
	for _, w := range running {
		w.cancel()
	}
	for len(running) > 0 {
		delete(running, (<-d.ended).hook.ID)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closingTime)
	defer cancel()
	if err := d.Store.DropWebhooks(ctx, d.holder); err != nil {
		d.Log.LogAttrs(ctx, slog.LevelWarn, "webhooks stay with this server for a while", slog.Any("error", err))
	}
}

// closingTime bounds what is still written when ctx has ended.
const closingTime = 3 * time.Second

func (d *Dispatcher) observe(ctx context.Context, running map[int64]*delivering) {
	lags := map[string]int64{}
	if len(running) > 0 {
		size, err := d.Feed.LogSize(ctx)
		if err != nil {
			return
		}
		for _, w := range running {
			lags[w.hook.Name] = max(0, size-w.leaf.Load())
		}
	}
	d.Observer.Lags(lags)
}

// CheckTarget reports what is wrong with a target; see [Targets.Check].
func (d *Dispatcher) CheckTarget(ctx context.Context, t events.Target) error {
	return d.Targets.Check(ctx, t)
}

// Secret is the signing secret of a seed, as its receiver is given it.
func (d *Dispatcher) Secret(seed []byte) string { return d.Secrets.Text(seed) }

// Ping sends a message without events, and tells how long the answer took.
func (d *Dispatcher) Ping(ctx context.Context, hook *events.Webhook) (took time.Duration, err error) {
	c, err := newCourier(hook, d.Targets, d.Secrets, d.Now)
	if err != nil {
		return 0, err
	}
	defer c.close()
	body, _ := pack(hook.Name, []events.Event{})
	began := time.Now() // a measurement; the injected clock has no say in it
	err = c.bring(ctx, "ping_"+rand.Text(), body)
	return time.Since(began), err
}

// delivering is the delivery to one webhook.
type delivering struct {
	*Dispatcher
	hook   *events.Webhook
	state  events.Delivery
	saved  events.Position
	leaf   atomic.Int64 // of the cursor, for observe
	cancel context.CancelFunc
}

// errPaused ends a delivery for good.
var errPaused = errors.New("the webhook is paused")
