package scope

import (
	"context"
	"slices"
	"time"

	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/internal/events"
	"github.com/touchmark/touchmark/vetting"
)

// Events reads events. A site's operators see those of their site, and of
// these the evidence that they may see elsewhere, too; an owner's those of the
// devices that are the owner's now.
func (v View) Events(ctx context.Context, after events.Position, f events.Filter, limit int) (events.Page, error) {
	visible := v.holder(&f.Site, &f.Owner)
	page, err := v.store.Events(ctx, after, f, limit)
	if err != nil {
		return page, err
	}
	if !visible {
		page.Events = nil // the rest only says how long the log is, as that does itself
	}
	page.Events = slices.Clone(page.Events)
	for i := range page.Events {
		v.confineEvent(&page.Events[i])
	}
	return page, nil
}

func (v View) confineEvent(e *events.Event) {
	e.Evidence = slices.Clone(e.Evidence)
	if v.op.Role.OfSite() {
		e.Evidence = slices.DeleteFunc(e.Evidence, func(s events.Sign) bool { return s.Site != v.op.Site })
	}
	if v.op.Role.OfOwner() {
		e.Registration = 0
		d := *e.Device // the filter lets no event without one through
		d.Order, d.Site = "", ""
		e.Device = &d
	}
	if v.op.May(access.ReadParticulars) {
		return
	}
	e.By, e.Note = "", "" // an operator's name and words
	for i := range e.Evidence {
		e.Evidence[i].Text = ""
	}
}

// Webhooks lists webhooks; a site's and an owner's operators know of none.
func (v View) Webhooks(ctx context.Context, p vetting.Page) ([]*events.Webhook, error) {
	if !v.op.Role.OfManufacturer() {
		return nil, nil
	}
	return v.store.Webhooks(ctx, p)
}

// Webhook finds a webhook.
func (v View) Webhook(ctx context.Context, name string) (*events.Webhook, error) {
	return v.webhook(name, func() (*events.Webhook, error) { return v.store.Webhook(ctx, name) })
}

// CreateWebhook adds a webhook.
func (v View) CreateWebhook(ctx context.Context, act access.Act, w *events.Webhook, after *events.Position) (*events.Webhook, error) {
	return ofManufacturer(v, unknownName("webhook", w.Name), func() (*events.Webhook, error) { return v.store.CreateWebhook(ctx, act, w, after) })
}

// UpdateWebhook changes where events go and which.
func (v View) UpdateWebhook(ctx context.Context, act access.Act, to *events.Webhook) (*events.Webhook, error) {
	return v.webhook(to.Name, func() (*events.Webhook, error) { return v.store.UpdateWebhook(ctx, act, to) })
}

// PauseWebhook keeps events from being delivered.
func (v View) PauseWebhook(ctx context.Context, act access.Act, name, reason string) (*events.Webhook, error) {
	return v.webhook(name, func() (*events.Webhook, error) { return v.store.PauseWebhook(ctx, act, name, reason) })
}

// ResumeWebhook has them delivered again.
func (v View) ResumeWebhook(ctx context.Context, act access.Act, name string) (*events.Webhook, error) {
	return v.webhook(name, func() (*events.Webhook, error) { return v.store.ResumeWebhook(ctx, act, name) })
}

// RotateWebhook gives a webhook another seed for its secret.
func (v View) RotateWebhook(ctx context.Context, act access.Act, name string, seed []byte, period time.Duration) (*events.Webhook, error) {
	return v.webhook(name, func() (*events.Webhook, error) { return v.store.RotateWebhook(ctx, act, name, seed, period) })
}

// DeleteWebhook ends a webhook and gives it as it was.
func (v View) DeleteWebhook(ctx context.Context, act access.Act, name string) (*events.Webhook, error) {
	return v.webhook(name, func() (*events.Webhook, error) {
		was, err := v.store.Webhook(ctx, name)
		if err != nil {
			return nil, err
		}
		return was, v.store.DeleteWebhook(ctx, act, name)
	})
}

// webhook finds the same error for a webhook that there is not, and for any
// where the operator may know of none.
func (v View) webhook(name string, do func() (*events.Webhook, error)) (*events.Webhook, error) {
	w, err := ofManufacturer(v, unknownName("webhook", name), do)
	if vetting.ProblemOf(err) == vetting.NotFound {
		return nil, unknownName("webhook", name)
	}
	return w, err
}
