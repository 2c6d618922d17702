package storetest

import (
	"errors"
	"fmt"
	"time"

	"github.com/touchmark/touchmark/internal/events"
	"github.com/touchmark/touchmark/internal/store"
	"github.com/touchmark/touchmark/vetting"
)

var webhookCases = []conformance{
	{"webhooks are kept", webhooksKept},
	{"webhooks begin where they should", webhooksBegin},
	{"webhooks are bounded", webhooksBounded},
	{"a deleted webhook leaves its name and nothing secret", webhooksDeleted},
	{"a webhook is moved", webhooksUpdated},
	{"a secret is rotated", webhooksRotated},
	{"one holder has a webhook at a time", webhooksHeld},
	{"who lost a webhook saves nothing", webhooksFenced},
	{"a change ends what is under way", webhooksChanged},
	{"the server pauses a webhook", webhooksPaused},
}

// hook creates a webhook.
func (t *trial) hook(name string) *events.Webhook {
	t.Helper()
	return ok(t.store.CreateWebhook(t.ctx, By, &events.Webhook{Name: name, Target: events.Target{URL: "https://" + name + ".example.com/in"}, Seed: random(24)}, nil))(t)
}

func webhooksKept(t *trial) {
	t.site("hsinchu")
	made := &events.Webhook{Name: "erp", Target: events.Target{URL: "https://erp.example.com/x?y=z", CA: "PEM"}, Seed: random(24),
		Filter: events.Filter{Types: []string{"device.*", "evidence.added"}, Site: "hsinchu"}}
	before := t.leaves()
	got := ok(t.store.CreateWebhook(t.ctx, By, made, nil))(t)
	leaf := t.leaf(before)
	if leaf.Act != "webhook.create" || leaf.By != "operator:test" || leaf.Note != "erp" {
		t.Errorf("the leaf is %+v", leaf)
	}
	want := *made
	want.ID, want.State, want.Revision, want.Created, want.Updated = got.ID, events.WebhookActive, 1, leaf.Time, leaf.Time
	want.Delivery = events.Delivery{Cursor: events.Position{Leaf: before}, Lag: 1}
	same(t, "the webhook", *got, want)
	same(t, "on another server", ok(t.second().Webhook(t.ctx, "erp"))(t), got)
	t.hook("b")
	t.hook("c")
	pages(&trial{TB: t, ctx: t.ctx, store: t.store}, 3, false, func(p vetting.Page) ([]*events.Webhook, error) { return t.store.Webhooks(t.ctx, p) },
		func(w *events.Webhook) int64 { return w.ID })
	t.refuses(vetting.Exists)(t.store.CreateWebhook(t.ctx, By, made, nil))
	t.refuses(vetting.NotFound)(t.store.CreateWebhook(t.ctx, By, &events.Webhook{Name: "x", Filter: events.Filter{Site: "gdansk"}}, nil))
	t.refuses(vetting.NotFound)(t.store.Webhook(t.ctx, "x"))
	t.refuses(vetting.NotFound)(t.store.PauseWebhook(t.ctx, By, "x", "no"))
	t.refuses(vetting.NotFound)(nil, t.store.DeleteWebhook(t.ctx, By, "x"))
}

func webhooksBegin(t *trial) {
	t.world(1)
	from := func(name string, p events.Position) *events.Webhook {
		return ok(t.store.CreateWebhook(t.ctx, By, &events.Webhook{Name: name, Seed: random(24)}, &p))(t)
	}
	if w := from("all", events.Position{}); w.Delivery.Cursor != (events.Position{}) || w.Delivery.Lag != t.leaves() {
		t.Errorf("%+v", w.Delivery)
	}
	if w := from("some", events.Position{Leaf: 2, Place: 1}); w.Delivery.Cursor != (events.Position{Leaf: 2, Place: 1}) {
		t.Errorf("%+v", w.Delivery)
	}
	t.refuses(vetting.Invalid)(t.store.CreateWebhook(t.ctx, By, &events.Webhook{Name: "late"}, &events.Position{Leaf: 99}))
}

func webhooksBounded(t *trial) {
	for i := range events.MaxWebhooks {
		t.hook(fmt.Sprint("h", i))
	}
	t.refuses(vetting.Conflict)(t.store.CreateWebhook(t.ctx, By, &events.Webhook{Name: "more"}, nil))
	t.done(t.store.DeleteWebhook(t.ctx, By, "h0"))
	t.hook("more")
}

func webhooksDeleted(t *trial) {
	old := t.hook("erp")
	t.done(t.store.DeleteWebhook(t.ctx, By, "erp"))
	t.refuses(vetting.NotFound)(t.store.Webhook(t.ctx, "erp"))
	t.refuses(vetting.NotFound)(t.store.ResumeWebhook(t.ctx, By, "erp"))
	if got := t.hook("erp"); got.ID == old.ID || string(got.Seed) == string(old.Seed) {
		t.Error("the new webhook is the old one")
	}
}

func webhooksUpdated(t *trial) {
	t.world(1)
	old := t.hook("erp")
	want := *old
	want.Target, want.Filter = events.Target{URL: "https://new.example.com/in", CA: "PEM"}, events.Filter{Types: []string{"device.*"}, Site: "hsinchu"}
	to := want
	got := ok(t.store.UpdateWebhook(t.ctx, By, &to))(t)
	if l := t.leaf(t.leaves() - 1); l.Act != "webhook.update" || l.Note != "erp" {
		t.Errorf("the leaf is %+v", l)
	}
	want.Revision, want.Updated, want.Delivery = 2, got.Updated, got.Delivery
	same(t, "the webhook", *got, want)
	if got.Delivery.Cursor != old.Delivery.Cursor {
		t.Errorf("delivery goes on after %s, not %s", got.Delivery.Cursor, old.Delivery.Cursor)
	}
	t.refuses(vetting.Conflict)(t.store.UpdateWebhook(t.ctx, By, &to)) // by now there is another revision
	to.Revision, to.Site = 2, "lodz"
	t.refuses(vetting.NotFound)(t.store.UpdateWebhook(t.ctx, By, &to))
	t.refuses(vetting.NotFound)(t.store.UpdateWebhook(t.ctx, By, &events.Webhook{Name: "none", Revision: 1}))
	same(t, "after refusals", ok(t.second().Webhook(t.ctx, "erp"))(t).Filter, want.Filter)
}

func webhooksRotated(t *trial) {
	old := t.hook("erp")
	seed := random(24)
	got := ok(t.store.RotateWebhook(t.ctx, By, "erp", seed, time.Hour))(t)
	if string(got.Seed) != string(seed) || string(got.Former) != string(old.Seed) || !got.FormerUntil.Equal(got.Updated.Add(time.Hour)) || got.Revision != 2 {
		t.Errorf("%+v", got)
	}
}

// held are the names of what a holder gets.
func (t *trial) held(s *store.Store, holder string, period time.Duration) (names string) {
	t.Helper()
	for _, w := range ok(s.HoldWebhooks(t.ctx, holder, period))(t) {
		names += w.Name + " "
	}
	return names
}

func webhooksHeld(t *trial) {
	a, setA := t.clocked()
	b, setB := t.clocked()
	noon := time.Date(2027, 3, 1, 12, 0, 0, 0, time.UTC)
	at := func(s time.Duration) { setA(noon.Add(s)); setB(noon.Add(s)) }
	at(0)
	t.hook("x")
	before := t.leaves()
	step := func(what, got, want string) {
		t.Helper()
		if got != want {
			t.Errorf("%s: has %q, want %q", what, got, want)
		}
	}
	step("a takes it", t.held(a, "a", 10*time.Second), "x ")
	step("b may not", t.held(b, "b", 10*time.Second), "")
	at(6 * time.Second)
	step("a keeps it", t.held(a, "a", 10*time.Second), "x ")
	at(11 * time.Second)
	step("b still may not", t.held(b, "b", 10*time.Second), "")
	at(17 * time.Second)
	step("b takes over", t.held(b, "b", 10*time.Second), "x ")
	step("a has lost it", t.held(a, "a", 10*time.Second), "")
	t.done(b.DropWebhooks(t.ctx, "b"))
	step("a takes what b dropped", t.held(a, "a", 10*time.Second), "x ")
	if t.leaves() != before {
		t.Error("holding left a leaf")
	}
	ok(t.store.PauseWebhook(t.ctx, By, "x", "maintenance"))(t)
	step("a paused one is nobody's", t.held(a, "a", 10*time.Second), "")
}

func webhooksFenced(t *trial) {
	a, setA := t.clocked()
	b, setB := t.clocked()
	noon := time.Date(2027, 3, 1, 12, 0, 0, 0, time.UTC)
	setA(noon)
	setB(noon.Add(time.Minute))
	t.hook("x")
	mine := ok(a.HoldWebhooks(t.ctx, "a", time.Second))(t)[0]
	d := events.Delivery{Cursor: events.Position{Leaf: 7, Place: 3}, Delivered: noon, Failures: 2, FailingFrom: noon.Add(time.Second), Error: "no", Next: noon.Add(time.Hour)}
	t.done(a.SaveDelivery(t.ctx, "a", mine, d))
	got := ok(b.HoldWebhooks(t.ctx, "b", time.Second))(t)[0].Delivery
	same(t, "what b takes over", got, d)
	late := d
	late.Cursor.Leaf = 99
	if err := a.SaveDelivery(t.ctx, "a", mine, late); !errors.Is(err, events.ErrNotHeld) {
		t.Errorf("who lost it saved: %v", err)
	}
	if err := a.PauseDelivery(t.ctx, "a", mine, late, "gone"); !errors.Is(err, events.ErrNotHeld) {
		t.Errorf("who lost it paused: %v", err)
	}
	if w := ok(t.store.Webhook(t.ctx, "x"))(t); w.Delivery.Cursor != d.Cursor || w.State != events.WebhookActive {
		t.Errorf("%+v", w)
	}
}

func webhooksChanged(t *trial) {
	t.hook("x")
	take := func() *events.Webhook { return ok(t.store.HoldWebhooks(t.ctx, "a", time.Hour))(t)[0] }
	for name, change := range map[string]func() error{
		"rotated": func() error { _, err := t.store.RotateWebhook(t.ctx, By, "x", random(24), time.Hour); return err },
		"moved": func() error {
			now := ok(t.store.Webhook(t.ctx, "x"))(t)
			now.URL = "https://y"
			_, err := t.store.UpdateWebhook(t.ctx, By, now)
			return err
		},
		"resumed": func() error { _, err := t.store.ResumeWebhook(t.ctx, By, "x"); return err },
		"paused and resumed": func() error {
			_, err := t.store.PauseWebhook(t.ctx, By, "x", "y")
			_, again := t.store.ResumeWebhook(t.ctx, By, "x")
			return errors.Join(err, again)
		},
	} {
		mine := take()
		t.done(t.store.SaveDelivery(t.ctx, "a", mine, events.Delivery{Failures: 3, Error: "no", Next: time.Now().Add(time.Hour)}))
		t.done(change())
		if err := t.store.SaveDelivery(t.ctx, "a", mine, events.Delivery{}); !errors.Is(err, events.ErrNotHeld) {
			t.Errorf("%s: saved by what it was before: %v", name, err)
		}
		if d := take().Delivery; name != "rotated" && (d.Failures != 0 || !d.Next.IsZero()) {
			t.Errorf("%s: %+v", name, d)
		}
	}
	mine := take()
	t.done(t.store.DeleteWebhook(t.ctx, By, "x"))
	if err := t.store.SaveDelivery(t.ctx, "a", mine, events.Delivery{}); !errors.Is(err, events.ErrNotHeld) {
		t.Errorf("a deleted one was saved: %v", err)
	}
}

func webhooksPaused(t *trial) {
	t.hook("x")
	mine := ok(t.store.HoldWebhooks(t.ctx, "a", time.Hour))(t)[0]
	before := t.leaves()
	d := events.Delivery{Cursor: mine.Delivery.Cursor, Failures: 9, Error: "410 Gone"}
	t.done(t.store.PauseDelivery(t.ctx, "a", mine, d, "it is gone"))
	leaf := t.leaf(before)
	got := ok(t.store.Webhook(t.ctx, "x"))(t)
	if leaf.Act != "webhook.pause" || leaf.By != "server" || got.State != events.WebhookPaused || got.Reason != "it is gone" || got.Delivery.Error != "410 Gone" {
		t.Errorf("%+v, leaf %+v", got, leaf)
	}
}
