package server

import (
	"context"
	"time"

	"github.com/touchmark/touchmark/enroll/mqtt"
	"github.com/touchmark/touchmark/internal/broker"
	"github.com/touchmark/touchmark/internal/cluster"
	"github.com/touchmark/touchmark/internal/events"
	"github.com/touchmark/touchmark/vetting"
)

// noticeOf says which events devices are told of, and how.
var noticeOf = map[events.Type]string{
	"device.renew":       mqtt.RenewNow,
	"device.revoke":      mqtt.Revoked,
	"certificate.revoke": mqtt.Revoked,
	"transfer.accept":    mqtt.OwnerChanged,
	"transfer.hand-out":  mqtt.OwnerChanged,
	"transfer.reverse":   mqtt.OwnerChanged,
}

// notices tells devices that are connected what became of them. Each server
// tells those at its own broker; at a shared one a notice may come from each
// server. What happens while no server runs is not told: a device asks when to
// renew, too.
type notices struct {
	server *Server
	local  *broker.Broker // nil if there is none
	filter events.Filter
	after  events.Position
}

// noticesAtOnce bounds how many events are read at a time.
const noticesAtOnce = 200

// noticesEvery is how soon a failure is tried again.
const noticesEvery = time.Second

func newNotices(s *Server, local *broker.Broker) *notices {
	n := &notices{server: s, local: local}
	for t := range noticeOf {
		n.filter.Types = append(n.filter.Types, string(t))
	}
	return n
}

// run follows the events from now on until ctx ends. It returns after a
// failure, to be called again with the next tick.
func (n *notices) run(ctx context.Context, ticks <-chan time.Time) {
	for {
		if err := n.follow(ctx); ctx.Err() == nil {
			n.server.env.Log.WarnContext(ctx, "devices are not told what became of them for the moment; it is tried again", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-ticks:
		}
	}
}

// start is the log's end: what happened before is not told.
func (n *notices) start(ctx context.Context) error {
	size, err := n.server.feed.LogSize(ctx)
	n.after = events.Position{Leaf: size}
	return err
}

func (n *notices) follow(ctx context.Context) error {
	for {
		page, err := n.server.feed.Events(ctx, n.after, n.filter, noticesAtOnce)
		if err != nil {
			return err
		}
		for i := range page.Events {
			if err := n.tell(ctx, &page.Events[i]); err != nil {
				return err
			}
			n.after = page.Events[i].ID
		}
		n.after = page.Next
		if page.More() {
			continue
		}
		if err := n.server.feed.Wait(ctx, page.Head); err != nil {
			return err
		}
	}
}

// tell notifies the holder of the device's last certificate.
func (n *notices) tell(ctx context.Context, e *events.Event) error {
	if e.Device == nil || e.Device.Certificate == "" {
		return nil
	}
	c, err := n.server.store.Certificate(ctx, e.Device.Certificate)
	if vetting.ProblemOf(err) == vetting.NotFound {
		return nil
	}
	if err != nil {
		return err
	}
	shared := n.server.broker != nil
	if !shared && !n.local.Reads(mqtt.Branch(c.Key).Notice()) {
		return nil
	}
	m, err := n.server.handler.Notify(c.Key, mqtt.Notice{Event: e.ID.String(), Time: e.Time, Notice: noticeOf[e.Type], Serial: e.Device.Serial, Certificate: c.Serial})
	if err != nil {
		return err
	}
	if n.local != nil {
		if err := n.local.Publish(m.Topic, m.Payload); err != nil {
			return err
		}
	}
	if shared {
		return n.server.broker.Publish(ctx, cluster.Message{Topic: m.Topic, Payload: m.Payload})
	}
	return nil
}
