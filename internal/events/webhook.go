package events

import (
	"context"
	"errors"
	"time"
)

// WebhookState is whether a webhook is delivered to.
type WebhookState string

const (
	WebhookActive WebhookState = "active"
	WebhookPaused WebhookState = "paused" // events wait in the log
)

// Webhook is an address that events are delivered to.
type Webhook struct {
	ID   int64  `json:"-"`
	Name string `json:"name" doc:"The name: letters, digits, '.', '_' and '-', beginning with a letter or digit"`
	Target
	Filter
	State WebhookState `json:"state" enum:"active,paused" doc:"Whether it is delivered to; while it is paused, events wait in the log"`
	// Reason is why it is paused, in words; "" while it is active.
	Reason   string    `json:"reason,omitempty" doc:"Why it is paused"`
	Created  time.Time `json:"created" doc:"When it was created"`
	Updated  time.Time `json:"updated" doc:"When it was changed last"`
	Delivery Delivery  `json:"delivery" doc:"How far delivery has come"`

	// Revision grows with every change but those of Delivery.
	Revision int64 `json:"revision" doc:"Grows with every change of the webhook; a change names the one it is based on"`
	// Seed is what the signing secret is derived from, Former the one before,
	// which counts until FormerUntil.
	Seed        []byte    `json:"-"`
	Former      []byte    `json:"-"`
	FormerUntil time.Time `json:"formerSecretUntil,omitzero" doc:"Until when deliveries are also signed with the secret before"`
}

// Target is where a webhook goes.
type Target struct {
	URL string `json:"url" doc:"Where events are sent by POST"`
	// CA is PEM; empty means the roots of the server's system.
	CA string `json:"ca,omitempty" doc:"The CA certificates that the target's certificate must chain to, as PEM; absent for the roots of the server's system"`
}

// Delivery is how far a webhook's deliveries have come.
type Delivery struct {
	// Cursor is the last event that needs no delivery any more.
	Cursor Position `json:"cursor" doc:"Everything up to this event was delivered, or is not wanted"`
	// Lag is how many of the log's leaves are after the cursor. Not all of
	// them need be wanted. It is not stored.
	Lag         int64     `json:"lag" doc:"How many of the log's leaves are after the cursor; not all of them need be wanted events"`
	Delivered   time.Time `json:"delivered,omitzero" doc:"When a delivery last succeeded; absent if never"`
	Failures    int64     `json:"failures" doc:"How many attempts failed since the last success"`
	FailingFrom time.Time `json:"failingFrom,omitzero" doc:"When the first of them was made"`
	Error       string    `json:"error,omitempty" doc:"Why the last of them failed"`
	Next        time.Time `json:"next,omitzero" doc:"When the next attempt is due; absent if at once"`
}

// MaxWebhooks bounds the webhooks of an installation: each is served by a
// goroutine of its own, so that none waits for another.
const MaxWebhooks = 64

// ErrNotHeld says that a webhook is no longer this server's to deliver.
var ErrNotHeld = errors.New("the webhook is another server's to deliver by now, or was changed")

// WebhookStore is what delivery needs of the database. All servers of a
// database see one state.
type WebhookStore interface {
	// HoldWebhooks takes for a holder, or keeps if it has them, all active
	// webhooks that no other holder has, until a time from now, and gives
	// those that the holder has then. Of several holders only one has a
	// webhook at a time, as far as their clocks agree.
	HoldWebhooks(ctx context.Context, holder string, period time.Duration) ([]*Webhook, error)
	// SaveDelivery keeps how far a webhook has come, durably, if the holder
	// still has it and it is of that revision; else it is ErrNotHeld and
	// nothing is kept. It may share a transaction with registrations.
	SaveDelivery(ctx context.Context, holder string, w *Webhook, d Delivery) error
	// PauseDelivery pauses a webhook in the server's name, under the same
	// conditions, with a leaf in the log.
	PauseDelivery(ctx context.Context, holder string, w *Webhook, d Delivery, reason string) error
	// DropWebhooks lets go of all webhooks that the holder has.
	DropWebhooks(ctx context.Context, holder string) error
}
