package webhook

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/touchmark/touchmark/internal/events"
)

// How failures are met.
const (
	firstRetry = time.Second
	lastRetry  = 2 * time.Hour      // the longest pause; also of a target's own wish
	patience   = 3 * 24 * time.Hour // of failures, before a webhook is paused
	// storeRetry is the pause when the database is to blame.
	storeRetry = time.Second
	// idleSave is how long a cursor stays unsaved that went over nothing but
	// events that are not wanted.
	idleSave = 30 * time.Second
)

// run delivers until ctx ends, the webhook is another's, or it is paused.
func (w *delivering) run(ctx context.Context) {
	c, bad := newCourier(w.hook, w.Targets, w.Secrets, w.Now)
	if bad == nil {
		defer c.close()
	}
	for ctx.Err() == nil && pause(ctx, min(lastRetry, w.state.Next.Sub(w.Now()))) == nil {
		var err error
		if bad == nil {
			err = w.step(ctx, c)
		} else { // the configuration changed since it was created
			err = w.failed(ctx, bad)
		}
		switch {
		case errors.Is(err, events.ErrNotHeld), errors.Is(err, errPaused):
			return
		case err != nil && ctx.Err() == nil:
			w.Log.LogAttrs(ctx, slog.LevelError, "events could not be read for a webhook; it is tried again", slog.String("webhook", w.hook.Name), slog.Any("error", err))
			pause(ctx, storeRetry)
		}
	}
}

func pause(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// step delivers what there is to read at once, or waits for it.
func (w *delivering) step(ctx context.Context, c *courier) error {
	page, err := w.Feed.Events(ctx, w.state.Cursor, w.hook.Filter, readAhead)
	if err != nil {
		return err
	}
	for rest := page.Events; len(rest) > 0; {
		body, n := pack(w.hook.Name, rest[:min(maxEvents, len(rest))])
		first, last := rest[0].ID, rest[n-1].ID
		err := c.bring(ctx, fmt.Sprintf("evt_%s_%s", first, last), body)
		switch {
		case err != nil && ctx.Err() != nil:
			return nil // not the target's fault; it comes again
		case err != nil:
			return w.failed(ctx, err)
		}
		if rest = rest[n:]; len(rest) == 0 {
			last = page.Next
		}
		if err := w.took(ctx, n, last); err != nil {
			return err
		}
	}
	w.move(page.Next)
	if len(page.Events) > 0 || page.More() {
		return nil
	}
	return w.idle(ctx, page.Head)
}

// took notes that the target took n events and needs none any more up to a
// position.
func (w *delivering) took(ctx context.Context, n int, upTo events.Position) error {
	w.Observer.Delivered(w.hook.Name, n)
	if w.state.Failures > 0 {
		w.Log.LogAttrs(ctx, slog.LevelInfo, "a webhook takes deliveries again", slog.String("webhook", w.hook.Name), slog.Int64("failures", w.state.Failures))
	}
	w.state = events.Delivery{Cursor: w.state.Cursor, Delivered: w.Now()}
	w.move(upTo)
	return w.save(ctx)
}

func (w *delivering) move(to events.Position) {
	w.state.Cursor = to
	w.leaf.Store(to.Leaf)
}

// idle waits for events. What was passed over meanwhile is saved now and
// then, and not with every leaf.
func (w *delivering) idle(ctx context.Context, head events.Position) error {
	if w.state.Cursor == w.saved {
		_ = w.Feed.Wait(ctx, head) // it fails with ctx only
		return nil
	}
	until, cancel := context.WithTimeout(ctx, idleSave)
	defer cancel()
	if w.Feed.Wait(until, head) == nil || ctx.Err() != nil {
		return nil
	}
	return w.save(ctx)
}

// save keeps the state. A message that was taken is noted also when the
// server stops just then.
func (w *delivering) save(ctx context.Context) error {
	for {
		writing, cancel := context.WithTimeout(context.WithoutCancel(ctx), closingTime)
		err := w.Store.SaveDelivery(writing, w.holder, w.hook, w.state)
		cancel()
		if err == nil {
			w.saved = w.state.Cursor
			return nil
		}
		if errors.Is(err, events.ErrNotHeld) || ctx.Err() != nil {
			return err
		}
		w.Log.LogAttrs(ctx, slog.LevelWarn, "how far a webhook has come could not be saved; it is tried again", slog.String("webhook", w.hook.Name), slog.Any("error", err))
		if err := pause(ctx, storeRetry); err != nil {
			return err
		}
	}
}

// failed notes a failure and when to try again, or gives the webhook up.
func (w *delivering) failed(ctx context.Context, why error) error {
	w.Observer.Failed(w.hook.Name)
	now := w.Now()
	s := &w.state
	s.Failures++
	if s.FailingFrom.IsZero() {
		s.FailingFrom = now
	}
	s.Error = clip(why.Error())
	var answer *answerError
	errors.As(why, &answer)
	wait := backoff(w.retry, s.Failures)
	if answer != nil {
		wait = max(wait, min(answer.after, lastRetry))
	}
	s.Next = now.Add(wait)
	switch {
	case answer != nil && answer.status == http.StatusGone:
		return w.giveUp(ctx, "the target answered 410 Gone: it wants no more events")
	case now.Sub(s.FailingFrom) >= patience:
		return w.giveUp(ctx, fmt.Sprintf("every delivery failed since %s, at last: %s", s.FailingFrom.UTC().Format(time.RFC3339), s.Error))
	}
	w.Log.LogAttrs(ctx, slog.LevelWarn, "a delivery to a webhook failed; it is tried again", slog.String("webhook", w.hook.Name), slog.Int64("failures", s.Failures), slog.Duration("in", wait), slog.String("error", s.Error))
	return w.save(ctx)
}

func clip(text string) string {
	if len(text) > 500 {
		return text[:500] + "…"
	}
	return text
}

// backoff is the pause after a number of failures: twice as long each time,
// less up to a half by chance, so that many servers do not come at once.
func backoff(first time.Duration, failures int64) time.Duration {
	d := min(lastRetry, first<<min(failures-1, 20))
	return d - time.Duration(rand.Int64N(int64(d)/2+1))
}

// giveUp pauses the webhook until somebody resumes it.
func (w *delivering) giveUp(ctx context.Context, why string) error {
	last := w.state
	last.Next = time.Time{}
	if err := w.Store.PauseDelivery(ctx, w.holder, w.hook, last, why); err != nil {
		return err
	}
	w.Observer.Paused(w.hook.Name)
	w.Log.LogAttrs(ctx, slog.LevelError, "a webhook was paused: events wait until `touchmark webhook resume`", slog.String("webhook", w.hook.Name), slog.String("reason", why))
	return errPaused
}
