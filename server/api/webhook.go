package api

import (
	"context"
	"net/http"
	"time"

	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/internal/events"
	"github.com/touchmark/touchmark/internal/events/webhook"
	"github.com/touchmark/touchmark/vetting"
)

// Webhooks is the delivery of events. [webhook.Dispatcher] is one.
type Webhooks interface {
	// CheckTarget reports what is wrong with a target as a *vetting.Error.
	CheckTarget(context.Context, events.Target) error
	// Secret is the signing secret of a seed.
	Secret(seed []byte) string
	// Ping sends a message without events. The error is for its sender.
	Ping(context.Context, *events.Webhook) (time.Duration, error)
	// Poke has changes of webhooks noticed at once. It does not wait.
	Poke()
}

// WebhookTarget is where events go, and which.
type WebhookTarget struct {
	URL   string   `json:"url" minLength:"1" maxLength:"2000" doc:"Where events are sent by POST: https, and a public address unless the server's configuration allows more"`
	Types []string `json:"types,omitempty" maxItems:"32" doc:"The types of events that are wanted, or their beginnings such as device.*; absent for all"`
	Site  string   `json:"site,omitempty" maxLength:"63" doc:"The site whose events are wanted; absent for all"`
	CA    string   `json:"ca,omitempty" maxLength:"32768" doc:"The CA certificates that the target's certificate must chain to, as PEM; absent for the roots of the server's system"`
}

// WebhookInput is a webhook to be created.
type WebhookInput struct {
	Name string `json:"name" minLength:"1" maxLength:"63" doc:"The webhook's name"`
	WebhookTarget
	After string `json:"after,omitempty" maxLength:"40" doc:"The event after which delivery begins, 0-0 for all there ever were; absent for what happens from now on"`
}

// WebhookUpdate is what a webhook is to be.
type WebhookUpdate struct {
	WebhookTarget
	Revision int64 `json:"revision" minimum:"1" doc:"The revision that is replaced, as it was read; another one in the database is a conflict"`
}

// WebhookSecret is a webhook with its new secret.
type WebhookSecret struct {
	Webhook events.Webhook `json:"webhook" doc:"The webhook"`
	Secret  string         `json:"secret" doc:"The secret that deliveries are signed with (Standard Webhooks). It is not shown again"`
}

// PauseInput is why a webhook is paused.
type PauseInput struct {
	Reason string `json:"reason" minLength:"1" maxLength:"500" doc:"Why, for whoever finds it paused"`
}

// RotationInput is how a secret is changed.
type RotationInput struct {
	Overlap int64 `json:"overlap,omitempty" default:"86400" minimum:"0" maximum:"2592000" doc:"For how many seconds deliveries are also signed with the former secret"`
}

// WebhookTest is what became of a test.
type WebhookTest struct {
	Delivered    bool   `json:"delivered" doc:"Whether the target took it"`
	Milliseconds int64  `json:"milliseconds" doc:"How long that took"`
	Error        string `json:"error,omitempty" doc:"Why it did not"`
}

func (a *API) webhooks() {
	type list struct{ PageInput }
	register(a, access.ReadAudit, operation{
		id: "listWebhooks", method: http.MethodGet, path: "/webhooks", tag: tagEvents,
		summary: "List webhooks", errors: []int{400},
	}, func(ctx context.Context, c *call, in *list) (*listOutput[events.Webhook], error) {
		return listing(in.PageInput, "webhooks", func(w *events.Webhook) int64 { return w.ID },
			func(p vetting.Page) ([]*events.Webhook, error) { return c.View.Webhooks(ctx, p) })
	})
	register(a, access.ManageWebhooks, operation{
		id: "createWebhook", method: http.MethodPost, path: "/webhooks", tag: tagEvents,
		summary: "Create a webhook", status: http.StatusCreated, errors: []int{404},
		description: "The answer holds the secret that deliveries are signed with, once. What is delivered is described under webhooks in this document.",
	}, a.createWebhook)
	register(a, access.ReadAudit, operation{
		id: "getWebhook", method: http.MethodGet, path: "/webhooks/{name}", tag: tagEvents,
		summary: "Show a webhook and how far delivery has come",
	}, func(ctx context.Context, c *call, in *nameInput) (*bodyOutput[events.Webhook], error) {
		return answer(c.Webhook(ctx, in.Name))
	})
	register(a, access.ManageWebhooks, operation{
		id: "updateWebhook", method: http.MethodPut, path: "/webhooks/{name}", tag: tagEvents,
		summary: "Change where a webhook's events go, and which", errors: []int{404, 409},
		description: "What is left out is as if it were left out of a new webhook. Delivery goes on after the last event that was delivered, at once.",
	}, a.updateWebhook)
	register(a, access.ManageWebhooks, operation{
		id: "deleteWebhook", method: http.MethodDelete, path: "/webhooks/{name}", tag: tagEvents,
		summary: "Delete a webhook", description: "What was not delivered is not delivered any more. The answer is the webhook as it was.",
	}, func(ctx context.Context, c *call, in *nameInput) (*bodyOutput[events.Webhook], error) {
		return a.poked(c.DeleteWebhook(ctx, c.act, in.Name))
	})
	register(a, access.ManageWebhooks, operation{
		id: "testWebhook", method: http.MethodPost, path: "/webhooks/{name}/test", tag: tagEvents,
		summary: "Send a webhook a message without events", description: "Also while it is paused. It changes nothing about the webhook.",
	}, a.testWebhook)
	register(a, access.ManageWebhooks, operation{
		id: "pauseWebhook", method: http.MethodPost, path: "/webhooks/{name}/pause", tag: tagEvents,
		summary: "Pause a webhook", description: "Events wait in the log until it is resumed.",
	}, func(ctx context.Context, c *call, in *namedBody[PauseInput]) (*bodyOutput[events.Webhook], error) {
		return a.poked(c.PauseWebhook(ctx, c.act, in.Name, in.Body.Reason))
	})
	register(a, access.ManageWebhooks, operation{
		id: "resumeWebhook", method: http.MethodPost, path: "/webhooks/{name}/resume", tag: tagEvents,
		summary: "Resume a webhook", description: "Everything is delivered that came meanwhile, beginning at once; so an active webhook that waits for its next attempt does not wait any longer.",
	}, func(ctx context.Context, c *call, in *nameInput) (*bodyOutput[events.Webhook], error) {
		return a.poked(c.ResumeWebhook(ctx, c.act, in.Name))
	})
	register(a, access.ManageWebhooks, operation{
		id: "rotateWebhookSecret", method: http.MethodPost, path: "/webhooks/{name}/secret", tag: tagEvents,
		summary: "Change a webhook's secret", description: "The answer holds the new secret, once. For a time deliveries carry two signatures, one with each secret, so that the receiver can change over.",
	}, a.rotateSecret)
}

// poked passes a changed webhook on, and has the change take effect at once.
func (a *API) poked(w *events.Webhook, err error) (*bodyOutput[events.Webhook], error) {
	if err == nil {
		a.config.Webhooks.Poke()
	}
	return answer(w, err)
}

func (a *API) createWebhook(ctx context.Context, c *call, in *bodyOf[WebhookInput]) (*createdOutput[WebhookSecret], error) {
	b := in.Body
	if err := vetting.CheckName("webhook", b.Name); err != nil {
		return nil, invalid("body.name", "%v", err)
	}
	var after *events.Position
	if b.After != "" {
		p, err := events.ParsePosition(b.After)
		if err != nil {
			return nil, invalid("body.after", "%v", err)
		}
		after = &p
	}
	target, filter, err := a.checked(ctx, b.WebhookTarget)
	if err != nil {
		return nil, err
	}
	made, err := c.CreateWebhook(ctx, c.act, &events.Webhook{Name: b.Name, Target: target, Filter: filter, Seed: webhook.NewSeed()}, after)
	if err != nil {
		return nil, err
	}
	a.config.Webhooks.Poke()
	return created(&WebhookSecret{*made, a.config.Webhooks.Secret(made.Seed)}, nil, func(s *WebhookSecret) string { return "/webhooks/" + s.Webhook.Name })
}

// checked gives a webhook's target and filter, if they may be so.
func (a *API) checked(ctx context.Context, u WebhookTarget) (events.Target, events.Filter, error) {
	t, f := events.Target{URL: u.URL, CA: u.CA}, events.Filter{Types: u.Types, Site: u.Site}
	if err := f.Check(); err != nil {
		return t, f, invalid("body.types", "%v", err)
	}
	return t, f, a.config.Webhooks.CheckTarget(ctx, t)
}

func (a *API) updateWebhook(ctx context.Context, c *call, in *namedBody[WebhookUpdate]) (*bodyOutput[events.Webhook], error) {
	target, filter, err := a.checked(ctx, in.Body.WebhookTarget)
	if err != nil {
		return nil, err
	}
	return a.poked(c.UpdateWebhook(ctx, c.act, &events.Webhook{Name: in.Name, Target: target, Filter: filter, Revision: in.Body.Revision}))
}

func (a *API) rotateSecret(ctx context.Context, c *call, in *namedBody[RotationInput]) (*bodyOutput[WebhookSecret], error) {
	w, err := c.RotateWebhook(ctx, c.act, in.Name, webhook.NewSeed(), time.Duration(in.Body.Overlap)*time.Second)
	if err != nil {
		return nil, err
	}
	a.config.Webhooks.Poke()
	return &bodyOutput[WebhookSecret]{&WebhookSecret{*w, a.config.Webhooks.Secret(w.Seed)}}, nil
}

func (a *API) testWebhook(ctx context.Context, c *call, in *nameInput) (*bodyOutput[WebhookTest], error) {
	w, err := c.Webhook(ctx, in.Name)
	if err != nil {
		return nil, err
	}
	took, err := a.config.Webhooks.Ping(ctx, w)
	out := &WebhookTest{Delivered: err == nil, Milliseconds: took.Milliseconds()}
	if err != nil {
		out.Error = err.Error()
	}
	return &bodyOutput[WebhookTest]{out}, nil
}
