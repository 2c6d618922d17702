package store

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/internal/audit"
	"github.com/touchmark/touchmark/internal/events"
	"github.com/touchmark/touchmark/vetting"
)

// webhookRow is a row of webhooks, which the log accounts for.
type webhookRow struct {
	ID                        int64
	Name, State, Reason, Body string
	Seed, Former              []byte
	FormerUntil               int64
	Created, Updated          int64
	Revision                  int64
}

// webhookDeleted is the state of a row that is kept for the log only.
const webhookDeleted = "deleted"

const webhookColumns = `wh.id, wh.name, wh.state, wh.reason, wh.body, wh.seed, wh.former, wh.former_until, wh.created, wh.updated, wh.revision`

func (w *webhookRow) dest() []any {
	return []any{&w.ID, &w.Name, &w.State, &w.Reason, &w.Body, &w.Seed, &w.Former, &w.FormerUntil, &w.Created, &w.Updated, &w.Revision}
}

func (w *webhookRow) object() audit.Object {
	return audit.Object{Kind: audit.KindWebhook, ID: w.ID, Digest: audit.DigestOf(w)}
}

// webhookBody is what only delivery looks at, as JSON.
type webhookBody struct {
	events.Target
	events.Filter
}

func (w *webhookRow) webhook() (*events.Webhook, error) {
	var b webhookBody
	if err := json.Unmarshal([]byte(w.Body), &b); err != nil {
		return nil, fmt.Errorf("webhook %s in the database: %w", w.Name, err)
	}
	return &events.Webhook{
		ID: w.ID, Name: w.Name, Target: b.Target, Filter: b.Filter, State: events.WebhookState(w.State), Reason: w.Reason,
		Created: fromMicros(w.Created), Updated: fromMicros(w.Updated), Revision: w.Revision,
		Seed: w.Seed, Former: w.Former, FormerUntil: fromMicros(w.FormerUntil),
	}, nil
}

const deliveryColumns = `wd.leaf, wd.place, wd.delivered, wd.failures, wd.failing_from, wd.error, wd.next`

// readDelivery scans a row of webhookColumns, deliveryColumns and the rest.
func readDelivery(r row, rest ...any) (*events.Webhook, error) {
	var w webhookRow
	var d events.Delivery
	var delivered, from, next int64
	dest := append(w.dest(), &d.Cursor.Leaf, &d.Cursor.Place, &delivered, &d.Failures, &from, &d.Error, &next)
	if err := r.Scan(append(dest, rest...)...); err != nil {
		return nil, err
	}
	out, err := w.webhook()
	if err != nil {
		return nil, err
	}
	d.Delivered, d.FailingFrom, d.Next = fromMicros(delivered), fromMicros(from), fromMicros(next)
	out.Delivery = d
	return out, nil
}

func (s *Store) webhooks(ctx context.Context, where string, args ...any) (list []*events.Webhook, err error) {
	size, err := s.LogSize(ctx)
	if err != nil {
		return nil, err
	}
	err = s.db.query(ctx, `SELECT `+webhookColumns+`, `+deliveryColumns+` FROM webhooks wh JOIN webhook_deliveries wd ON wd.webhook_id = wh.id
		WHERE wh.state <> 'deleted' AND `+where, args, func(r row) error {
		w, err := readDelivery(r)
		if err == nil {
			w.Delivery.Lag = max(0, size-w.Delivery.Cursor.Leaf)
			list = append(list, w)
		}
		return err
	})
	return list, err
}

// Webhooks lists webhooks by ID.
func (s *Store) Webhooks(ctx context.Context, p vetting.Page) ([]*events.Webhook, error) {
	return s.webhooks(ctx, `wh.id > $1 ORDER BY wh.id LIMIT $2`, p.After, limit(p))
}

// Webhook returns a webhook by name, or a NotFound error.
func (s *Store) Webhook(ctx context.Context, name string) (*events.Webhook, error) {
	list, err := s.webhooks(ctx, `wh.name = $1`, name)
	return theOne(list, err, "webhook", name)
}

// CreateWebhook keeps a new webhook; the name must be free (Exists), the
// site it names must exist (NotFound), and there may not be more than
// events.MaxWebhooks (Conflict). It begins after Delivery.Cursor; nil stands
// for the end of the log.
func (s *Store) CreateWebhook(ctx context.Context, a access.Act, made *events.Webhook, after *events.Position) (*events.Webhook, error) {
	_, err := s.act(ctx, a, func(w *writing) (int64, error) {
		if err := w.roomForWebhook(made); err != nil {
			return 0, err
		}
		cursor := events.Position{Leaf: w.start}
		if after != nil {
			cursor = *after
		}
		if (events.Position{Leaf: w.start}).Before(cursor) {
			return 0, vetting.Errorf(vetting.Invalid, "there is no event %s: the log ends before %d-0", cursor, w.start)
		}
		row := &webhookRow{ID: w.ids(1), Name: made.Name, State: string(events.WebhookActive), Body: mustJSON(webhookBody{made.Target, made.Filter}),
			Seed: made.Seed, Created: micros(w.now), Updated: micros(w.now), Revision: 1}
		w.exec(`INSERT INTO webhooks (id, name, state, reason, body, seed, former, former_until, created, updated, revision) VALUES ($1, $2, $3, '', $4, $5, NULL, 0, $6, $7, 1)`,
			row.ID, row.Name, row.State, row.Body, row.Seed, row.Created, row.Updated)
		w.exec(`INSERT INTO webhook_deliveries (webhook_id, leaf, place, delivered, failures, failing_from, error, next, holder, held_until) VALUES ($1, $2, $3, 0, 0, 0, '', 0, '', 0)`,
			row.ID, cursor.Leaf, cursor.Place)
		w.leaf("webhook.create", operatorOf(a), row.Name, row.object())
		return row.ID, nil
	})
	if err != nil {
		return nil, err
	}
	return s.Webhook(ctx, made.Name)
}

func (w *writing) roomForWebhook(made *events.Webhook) error {
	if used, err := w.taken(`SELECT 1 FROM webhooks WHERE name = $1 AND state <> 'deleted'`, made.Name); err != nil || used {
		return orExists(err, "webhook", made.Name)
	}
	if err := w.knowsSite(made.Site); err != nil {
		return err
	}
	n := 0
	w.fetch(`SELECT COUNT(*) FROM webhooks WHERE state <> 'deleted'`, nil, func(r row) error { return r.Scan(&n) })
	if err := w.flush(); err != nil {
		return err
	}
	if n >= events.MaxWebhooks {
		return vetting.Errorf(vetting.Conflict, "there are %d webhooks, and no more are taken: delete one that is not needed", n)
	}
	return nil
}

// changeWebhook carries out an operator's act on a webhook. change tells the
// act, or "" if there is nothing to do.
func (s *Store) changeWebhook(ctx context.Context, a access.Act, name string, change func(*writing, *webhookRow) (string, error)) error {
	_, err := s.act(ctx, a, func(w *writing) (int64, error) {
		var hook webhookRow
		w.fetch(`SELECT `+webhookColumns+` FROM webhooks wh WHERE wh.name = $1 AND wh.state <> 'deleted'`, []any{name}, func(r row) error {
			return r.Scan(hook.dest()...)
		})
		if err := w.flush(); err != nil {
			return 0, err
		}
		if hook.ID == 0 {
			return 0, notFound("webhook", name)
		}
		act, err := change(w, &hook)
		if err != nil {
			return 0, err
		}
		if act != "" {
			w.saveWebhook(&hook)
			w.leaf(act, operatorOf(a), name, hook.object())
		}
		return hook.ID, nil
	})
	return err
}

func (w *writing) saveWebhook(hook *webhookRow) {
	hook.Revision++
	hook.Updated = micros(w.now)
	w.exec(`UPDATE webhooks SET state = $2, reason = $3, body = $4, seed = $5, former = $6, former_until = $7, updated = $8, revision = $9 WHERE id = $1`,
		hook.ID, hook.State, hook.Reason, hook.Body, bytesOrNull(hook.Seed, hook.Seed == nil), bytesOrNull(hook.Former, hook.Former == nil), hook.FormerUntil, hook.Updated, hook.Revision)
}

// UpdateWebhook changes where a webhook's events go and which are wanted, if
// its revision is the one given (else Conflict); the site it names must exist
// (NotFound). Delivery goes on where it was, at once.
func (s *Store) UpdateWebhook(ctx context.Context, a access.Act, to *events.Webhook) (*events.Webhook, error) {
	err := s.changeWebhook(ctx, a, to.Name, func(w *writing, hook *webhookRow) (string, error) {
		if hook.Revision != to.Revision {
			return "", vetting.Errorf(vetting.Conflict, "webhook %s is at revision %d, your change is based on %d: read it again and repeat the change", to.Name, hook.Revision, to.Revision)
		}
		if err := w.knowsSite(to.Site); err != nil {
			return "", err
		}
		w.exec(tryAtOnce, hook.ID)
		hook.Body = mustJSON(webhookBody{to.Target, to.Filter})
		return "webhook.update", nil
	})
	if err != nil {
		return nil, err
	}
	return s.Webhook(ctx, to.Name)
}

// knowsSite reports as NotFound a site that does not exist; "" stands for none.
func (w *writing) knowsSite(name string) error {
	if name == "" {
		return nil
	}
	_, err := w.idOf("site", "sites", name)
	return err
}

const tryAtOnce = `UPDATE webhook_deliveries SET failures = 0, failing_from = 0, next = 0 WHERE webhook_id = $1`

// PauseWebhook keeps events from being delivered until ResumeWebhook. What
// is paused already stays as it is.
func (s *Store) PauseWebhook(ctx context.Context, a access.Act, name, reason string) (*events.Webhook, error) {
	err := s.changeWebhook(ctx, a, name, func(_ *writing, hook *webhookRow) (string, error) {
		if hook.State == string(events.WebhookPaused) {
			return "", nil
		}
		hook.State, hook.Reason = string(events.WebhookPaused), reason
		return "webhook.pause", nil
	})
	if err != nil {
		return nil, err
	}
	return s.Webhook(ctx, name)
}

// ResumeWebhook has everything delivered that came since, beginning at once.
// That also makes an active webhook try again at once.
func (s *Store) ResumeWebhook(ctx context.Context, a access.Act, name string) (*events.Webhook, error) {
	err := s.changeWebhook(ctx, a, name, func(w *writing, hook *webhookRow) (string, error) {
		w.exec(tryAtOnce, hook.ID)
		hook.State, hook.Reason = string(events.WebhookActive), ""
		return "webhook.resume", nil
	})
	if err != nil {
		return nil, err
	}
	return s.Webhook(ctx, name)
}

// RotateWebhook gives a webhook another seed. The one before counts for
// another period.
func (s *Store) RotateWebhook(ctx context.Context, a access.Act, name string, seed []byte, period time.Duration) (*events.Webhook, error) {
	err := s.changeWebhook(ctx, a, name, func(w *writing, hook *webhookRow) (string, error) {
		hook.Former, hook.FormerUntil, hook.Seed = hook.Seed, micros(w.now.Add(period)), seed
		return "webhook.rotate-secret", nil
	})
	if err != nil {
		return nil, err
	}
	return s.Webhook(ctx, name)
}

// DeleteWebhook ends a webhook for good, and destroys its address and seeds.
func (s *Store) DeleteWebhook(ctx context.Context, a access.Act, name string) error {
	return s.changeWebhook(ctx, a, name, func(w *writing, hook *webhookRow) (string, error) {
		hook.State, hook.Body, hook.Seed, hook.Former, hook.FormerUntil = webhookDeleted, "{}", nil, nil, 0
		w.exec(`DELETE FROM webhook_deliveries WHERE webhook_id = $1`, hook.ID)
		return "webhook.delete", nil
	})
}

// HoldWebhooks implements events.WebhookStore. It writes nothing as long as
// there is nothing to take and what is held has half of its time left.
func (s *Store) HoldWebhooks(ctx context.Context, holder string, period time.Duration) ([]*events.Webhook, error) {
	mine, due, err := s.heldWebhooks(ctx, holder, period)
	if err != nil || !due {
		return mine, err
	}
	err = s.update(ctx, func(w *writing) error {
		now := w.store.now() // not the log's time, which stands still while nothing happens
		w.exec(`UPDATE webhook_deliveries SET holder = $1, held_until = $2
			WHERE (holder = $1 OR held_until < $3) AND webhook_id IN (SELECT id FROM webhooks WHERE state = 'active')`,
			holder, micros(now.Add(period)), micros(now))
		return nil
	})
	if err != nil {
		return nil, err
	}
	mine, _, err = s.heldWebhooks(ctx, holder, period)
	return mine, err
}

// heldWebhooks reads who holds the active webhooks, and whether that is due
// to be written anew.
func (s *Store) heldWebhooks(ctx context.Context, holder string, period time.Duration) (mine []*events.Webhook, due bool, err error) {
	now := micros(s.now())
	err = s.db.query(ctx, `SELECT `+webhookColumns+`, `+deliveryColumns+`, wd.holder, wd.held_until
		FROM webhooks wh JOIN webhook_deliveries wd ON wd.webhook_id = wh.id WHERE wh.state = 'active' ORDER BY wh.id`, nil, func(r row) error {
		var by string
		var until int64
		w, err := readDelivery(r, &by, &until)
		switch {
		case err != nil:
			return err
		case by == holder && until > now:
			mine = append(mine, w)
			due = due || until-now < period.Microseconds()/2
		default:
			due = due || by == holder || until < now
		}
		return nil
	})
	return mine, due, err
}

// DropWebhooks implements events.WebhookStore.
func (s *Store) DropWebhooks(ctx context.Context, holder string) error {
	return s.update(ctx, func(w *writing) error {
		w.exec(`UPDATE webhook_deliveries SET holder = '', held_until = 0 WHERE holder = $1`, holder)
		return nil
	})
}

// SaveDelivery implements events.WebhookStore.
func (s *Store) SaveDelivery(ctx context.Context, holder string, hook *events.Webhook, d events.Delivery) error {
	held := false
	return s.submit(&job{ctx: ctx,
		load: func(w *writing) { held = false; w.loadHeld(holder, hook, &held) },
		apply: func(w *writing) error {
			if !held {
				return events.ErrNotHeld
			}
			w.saveDelivery(hook.ID, d)
			return nil
		},
	})
}

// PauseDelivery implements events.WebhookStore.
func (s *Store) PauseDelivery(ctx context.Context, holder string, hook *events.Webhook, d events.Delivery, reason string) error {
	return s.update(ctx, func(w *writing) error {
		held := false
		var kept webhookRow
		w.loadHeld(holder, hook, &held)
		w.fetch(`SELECT `+webhookColumns+` FROM webhooks wh WHERE wh.id = $1`, []any{hook.ID}, func(r row) error { return r.Scan(kept.dest()...) })
		if err := w.flush(); err != nil {
			return err
		}
		if !held {
			return events.ErrNotHeld
		}
		w.saveDelivery(hook.ID, d)
		kept.State, kept.Reason = string(events.WebhookPaused), reason
		w.saveWebhook(&kept)
		w.leaf("webhook.pause", "server", kept.Name, kept.object())
		return nil
	})
}

// loadHeld asks whether the holder still has a webhook, of that revision.
func (w *writing) loadHeld(holder string, hook *events.Webhook, held *bool) {
	w.fetch(`SELECT 1 FROM webhook_deliveries wd JOIN webhooks wh ON wh.id = wd.webhook_id
		WHERE wd.webhook_id = $1 AND wd.holder = $2 AND wh.state = 'active' AND wh.revision = $3`,
		[]any{hook.ID, holder, hook.Revision}, func(row) error { *held = true; return nil })
}

func (w *writing) saveDelivery(id int64, d events.Delivery) {
	w.exec(`UPDATE webhook_deliveries SET leaf = $2, place = $3, delivered = $4, failures = $5, failing_from = $6, error = $7, next = $8 WHERE webhook_id = $1`,
		id, d.Cursor.Leaf, d.Cursor.Place, micros(d.Delivered), d.Failures, micros(d.FailingFrom), d.Error, micros(d.Next))
}
