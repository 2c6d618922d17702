package api_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/internal/events"
	"github.com/touchmark/touchmark/vetting"
)

// happen adds an event, one a leaf.
func (m *memory) happen(e events.Event) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e.ID = events.Position{Leaf: int64(len(m.happened)), Place: 1}
	m.happened = append(m.happened, e)
}

func (m *memory) LogSize(context.Context) (int64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return int64(len(m.happened)), m.fail
}

func (m *memory) Events(_ context.Context, after events.Position, f events.Filter, limit int) (p events.Page, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	p.Head.Leaf = int64(len(m.happened))
	if p.Head.Before(after) {
		return p, vetting.Errorf(vetting.Conflict, "there is no event %s", after)
	}
	for _, e := range m.happened {
		if after.Before(e.ID) && f.Wants(&e) {
			p.Events = append(p.Events, e)
		}
		if p.Next = e.ID; len(p.Events) == limit {
			return p, m.fail
		}
	}
	p.Next = p.Head
	return p, m.fail
}

func (m *memory) Webhooks(_ context.Context, p vetting.Page) ([]*events.Webhook, error) {
	return pick(m, m.webhooks, p, false, func(w *events.Webhook) int64 { return w.ID }, func(*events.Webhook) bool { return true })
}

func (m *memory) Webhook(_ context.Context, name string) (*events.Webhook, error) {
	return find(m, m.webhooks, func(w *events.Webhook) bool { return w.Name == name })
}

func (m *memory) CreateWebhook(_ context.Context, a access.Act, w *events.Webhook, after *events.Position) (*events.Webhook, error) {
	return act(m, a, func() (*events.Webhook, error) {
		made := *w
		if made.ID, made.State = m.next(), events.WebhookActive; after != nil {
			made.Delivery.Cursor = *after
		}
		m.webhooks = append(m.webhooks, &made)
		return &made, nil
	})
}

func (m *memory) changeWebhook(a access.Act, name string, change func(*events.Webhook)) (*events.Webhook, error) {
	return act(m, a, func() (*events.Webhook, error) {
		for _, w := range m.webhooks {
			if w.Name == name {
				change(w)
				return w, nil
			}
		}
		return nil, vetting.Errorf(vetting.NotFound, "no webhook")
	})
}

func (m *memory) UpdateWebhook(_ context.Context, a access.Act, to *events.Webhook) (*events.Webhook, error) {
	return m.changeWebhook(a, to.Name, func(w *events.Webhook) { w.Target, w.Filter = to.Target, to.Filter })
}

func (m *memory) PauseWebhook(_ context.Context, a access.Act, name, reason string) (*events.Webhook, error) {
	return m.changeWebhook(a, name, func(w *events.Webhook) { w.State, w.Reason = events.WebhookPaused, reason })
}

func (m *memory) ResumeWebhook(_ context.Context, a access.Act, name string) (*events.Webhook, error) {
	return m.changeWebhook(a, name, func(w *events.Webhook) { w.State, w.Reason = events.WebhookActive, "" })
}

func (m *memory) RotateWebhook(_ context.Context, a access.Act, name string, seed []byte, period time.Duration) (*events.Webhook, error) {
	return m.changeWebhook(a, name, func(w *events.Webhook) { w.Former, w.Seed, w.FormerUntil = w.Seed, seed, today.Add(period) })
}

func (m *memory) DeleteWebhook(_ context.Context, a access.Act, name string) error {
	_, err := m.changeWebhook(a, name, func(w *events.Webhook) {
		m.webhooks = slices.DeleteFunc(slices.Clone(m.webhooks), func(o *events.Webhook) bool { return o == w })
	})
	return err
}

// deliverer is the delivery of events.
type deliverer struct {
	pokes int
	bad   error
}

func (d *deliverer) CheckTarget(_ context.Context, t events.Target) error { return d.bad }
func (d *deliverer) Secret(seed []byte) string                            { return fmt.Sprintf("whsec_of_%x", seed) }
func (d *deliverer) Poke()                                                { d.pokes++ }

func (d *deliverer) Ping(context.Context, *events.Webhook) (time.Duration, error) {
	return 7 * time.Millisecond, errors.New("the target answered 500")
}
