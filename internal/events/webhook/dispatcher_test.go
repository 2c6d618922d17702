package webhook

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/touchmark/touchmark/internal/events"
	"github.com/touchmark/touchmark/internal/store/storetest"
)

// TestDelivers is the good case: all events, in order, signed.
func TestDelivers(t *testing.T) {
	w := newWorld(t)
	w.hook("erp", nil)
	w.enrol(0, 3)
	d := w.dispatch()
	w.until("the past", w.whole)
	w.enrol(3, 10)
	got := w.until("what happens now", w.whole)
	hook, err := w.store.Webhook(t.Context(), "erp")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range got {
		if !genuine(m, testSecrets.Text(hook.Seed)) || genuine(m, testSecrets.Text(NewSeed())) {
			t.Errorf("a signature is wrong: %v", m.header)
		}
		if m.Version != 1 || m.Webhook != "erp" || len(m.Events) == 0 || m.header.Get("Webhook-Id") != fmt.Sprintf("evt_%s_%s", m.Events[0].ID, m.Events[len(m.Events)-1].ID) {
			t.Errorf("message %s: %s", m.header.Get("Webhook-Id"), m.body)
		}
	}
	saved := func(h *events.Webhook) bool {
		return h.Delivery.Lag == 0 && h.Delivery.Failures == 0 && !h.Delivery.Delivered.IsZero()
	}
	w.state("erp", saved)
	d.stop()
	w.enrol(10, 20)
	again := w.dispatch()
	w.until("what happened while the server was stopped", w.whole)
	w.state("erp", saved)
	again.stop()
	n := 0
	for _, m := range w.messages() {
		n += len(m.Events)
	}
	if all := len(w.events(events.Filter{})); n != all {
		t.Errorf("without a failure %d events came as %d", all, n)
	}
	if sum := d.books.delivered + again.books.delivered; sum != n {
		t.Errorf("%d deliveries were counted", sum)
	}
}

func TestFilterIsKept(t *testing.T) {
	w := newWorld(t)
	w.hook("erp", func(h *events.Webhook) { h.Types = []string{"device.admitted"} })
	w.dispatch()
	w.enrol(0, 2)
	got := w.until("admissions", func(m []received) bool {
		n := 0
		for _, m := range m {
			n += len(m.Events)
		}
		return n == 2
	})
	for _, m := range got {
		for _, e := range m.Events {
			if e.Type != "device.admitted" {
				t.Errorf("%+v", e)
			}
		}
	}
}

// TestFailuresAreRetried has the target fail in every way it can.
func TestFailuresAreRetried(t *testing.T) {
	w := newWorld(t)
	var n atomic.Int64
	w.answer = func(rw http.ResponseWriter, r *http.Request) bool {
		switch n.Add(1) % 6 {
		case 1:
			rw.WriteHeader(http.StatusInternalServerError)
		case 2:
			panic(http.ErrAbortHandler)
		case 3:
			http.Redirect(rw, r, "/elsewhere", http.StatusTemporaryRedirect)
		case 4:
			rw.Header().Set("Retry-After", "0")
			rw.WriteHeader(http.StatusTooManyRequests)
		case 5:
			rw.WriteHeader(http.StatusNotFound)
		default:
			return false
		}
		return true
	}
	w.hook("erp", nil)
	d := w.dispatch()
	for i := range 4 {
		w.enrol(i, i+1)
		w.until("an event", w.whole)
	}
	if d.books.failed < 5 || d.books.paused != 0 {
		t.Errorf("%+v", d.books)
	}
	for _, m := range w.messages() {
		if m.header.Get("Referer") != "" {
			t.Error("a redirect was followed")
		}
	}
}

func TestFailuresAreShown(t *testing.T) {
	for name, c := range map[string]struct {
		answer func(http.ResponseWriter, *http.Request)
		hook   func(*events.Webhook)
		allow  []string
		want   string
		next   time.Duration // at least
	}{
		"a status": {answer: func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(418) }, want: "the target answered 418"},
		"a redirect": {answer: func(rw http.ResponseWriter, r *http.Request) {
			http.Redirect(rw, r, "https://example.com/", http.StatusFound)
		}, want: "a redirect, which is never followed"},
		"a wish": {answer: func(rw http.ResponseWriter, _ *http.Request) {
			rw.Header().Set("Retry-After", "600")
			rw.WriteHeader(503)
		}, want: "503", next: 590 * time.Second},
		"a wish too large": {answer: func(rw http.ResponseWriter, _ *http.Request) {
			rw.Header().Set("Retry-After", "99999999")
			rw.WriteHeader(503)
		}, want: "503", next: lastRetry - time.Minute},
		"another CA":       {hook: func(h *events.Webhook) { h.CA = "" }, want: "certificate"},
		"an inner address": {allow: []string{"192.0.2.0/24"}, want: "not a public one"},
		"nobody there":     {hook: func(h *events.Webhook) { h.URL = "https://127.0.0.1:1/" }, want: "refused"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.answer = func(rw http.ResponseWriter, r *http.Request) bool { c.answer(rw, r); return true }
			w.hook("erp", c.hook)
			w.dispatch(c.allow...)
			h := w.state("erp", func(h *events.Webhook) bool { return h.Delivery.Failures > 0 })
			d := h.Delivery
			if !strings.Contains(d.Error, c.want) || strings.Contains(d.Error, "/in") || d.Cursor != (events.Position{}) || d.Next.IsZero() || d.FailingFrom.IsZero() ||
				d.Next.Before(w.now().Add(c.next-time.Minute)) || d.Next.After(w.now().Add(lastRetry)) {
				t.Errorf("%+v", d)
			}
			if len(w.messages()) != 0 {
				t.Error("something was delivered")
			}
		})
	}
}

func TestGonePauses(t *testing.T) {
	w := newWorld(t)
	w.answer = func(rw http.ResponseWriter, _ *http.Request) bool { rw.WriteHeader(http.StatusGone); return true }
	w.hook("erp", nil)
	d := w.dispatch()
	h := w.state("erp", func(h *events.Webhook) bool { return h.State == events.WebhookPaused })
	if !strings.Contains(h.Reason, "410") || h.Delivery.Failures != 1 || h.Delivery.Cursor != (events.Position{}) {
		t.Errorf("%+v", h)
	}
	w.receiver.Config.Handler = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { w.answer = nil; w.receive(rw, r) })
	if _, err := w.store.ResumeWebhook(t.Context(), storetest.By, "erp"); err != nil {
		t.Fatal(err)
	}
	d.Poke()
	w.until("everything after resuming", w.whole)
}

// TestPatienceEnds lets days of failures go by.
func TestPatienceEnds(t *testing.T) {
	w := newWorld(t)
	w.answer = func(rw http.ResponseWriter, _ *http.Request) bool {
		w.clock.Add(int64(20 * time.Hour))
		rw.WriteHeader(http.StatusBadGateway)
		return true
	}
	w.hook("erp", nil)
	w.dispatch()
	patience := time.After(30 * time.Second)
	for {
		h, err := w.store.Webhook(t.Context(), "erp")
		if err != nil {
			t.Fatal(err)
		}
		if h.State == events.WebhookPaused {
			if h.Delivery.Failures < 4 || !strings.Contains(h.Reason, "every delivery failed since") || !strings.Contains(h.Reason, "502") {
				t.Errorf("%+v", h)
			}
			return
		}
		select {
		case <-w.news:
		case <-time.After(10 * time.Millisecond):
		case <-patience:
			t.Fatalf("%+v", h)
		}
	}
}

func TestBackoff(t *testing.T) {
	last := time.Duration(0)
	for n := int64(1); n < 100; n++ {
		top := min(lastRetry, time.Second<<min(n-1, 13))
		for range 20 {
			if d := backoff(time.Second, n); d > top || d < top/2 {
				t.Errorf("after %d failures %s, want %s to %s", n, d, top/2, top)
			}
		}
		if top < last {
			t.Errorf("the pause shrinks to %s after %d failures", top, n)
		}
		last = top
	}
}

// TestHangingTarget has one webhook whose target never answers beside one
// whose does.
func TestHangingTarget(t *testing.T) {
	w := newWorld(t)
	hang, hanging := make(chan struct{}), make(chan struct{}, 100)
	w.answer = func(_ http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path != "/hang" {
			return false
		}
		hanging <- struct{}{}
		<-hang
		return true
	}
	t.Cleanup(func() { close(hang) })
	w.hook("a", func(h *events.Webhook) { h.URL = w.receiver.URL + "/hang" })
	w.hook("b", nil)
	d := w.dispatch()
	<-hanging
	for i := range 5 {
		w.enrol(i, i+1)
		w.until("an event for the other", w.whole)
	}
	d.stop() // does not wait for the one that hangs
}

// TestEndlessAnswer is a target that takes the message and then talks on.
func TestEndlessAnswer(t *testing.T) {
	w := newWorld(t)
	cut := make(chan struct{}, 100)
	w.receiver.Config.Handler = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w.receive(rw, r)
		for {
			if _, err := rw.Write(make([]byte, 64<<10)); err != nil {
				cut <- struct{}{}
				return
			}
		}
	})
	w.hook("erp", nil)
	w.dispatch()
	w.enrol(0, 1)
	w.until("every event", w.whole)
	<-cut
	w.state("erp", func(h *events.Webhook) bool { return h.Delivery.Failures == 0 && h.Delivery.Lag == 0 })
}

// TestSecretsRotate has both secrets count for a time.
func TestSecretsRotate(t *testing.T) {
	w := newWorld(t)
	w.hook("erp", nil)
	old, err := w.store.Webhook(t.Context(), "erp")
	if err != nil {
		t.Fatal(err)
	}
	d := w.dispatch()
	w.until("the past", w.whole)
	hook, err := w.store.RotateWebhook(t.Context(), storetest.By, "erp", NewSeed(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	d.Poke()
	first, second := testSecrets.Text(old.Seed), testSecrets.Text(hook.Seed)
	last := func(m []received) bool { return w.whole(m) && genuine(m[len(m)-1], second) }
	for n := 0; !last(w.messages()); n++ { // until the dispatcher has seen it
		w.enrol(n, n+1)
		w.until("an event", w.whole)
	}
	both := w.messages()
	if !genuine(both[len(both)-1], first) {
		t.Error("the former secret no longer counts")
	}
	w.clock.Add(int64(2 * time.Hour))
	w.enrol(units-1, units)
	got := w.until("an event", w.whole)
	if m := got[len(got)-1]; genuine(m, first) || !genuine(m, second) {
		t.Error("the former secret still counts")
	}
}

// TestTakenOver has a server die that holds a webhook, without letting go of it.
func TestTakenOver(t *testing.T) {
	for db, dsn := range storetest.Databases(t) {
		t.Run(db, func(t *testing.T) {
			w := newWorldOn(t, dsn)
			w.hook("erp", nil)
			first := w.dispatch()
			w.until("the past", w.whole)
			second := w.dispatch()
			for i := range 5 {
				w.enrol(i, i+1)
				w.until("an event", w.whole)
				second.ticks <- time.Time{}
			}
			if second.books.delivered != 0 {
				t.Error("two servers deliver to one webhook")
			}
			first.Store = deaf{first.Store} // it cannot tell any more that it ends
			first.stop()
			w.enrol(5, 10)
			second.ticks <- time.Time{}
			second.ticks <- time.Time{}
			if second.books.delivered != 0 {
				t.Error("the webhook was taken before its time was over")
			}
			w.clock.Add(int64(HoldFor + time.Second))
			second.ticks <- time.Time{}
			w.until("what the first one left", w.whole)
		})
	}
}

// deaf does not let go of webhooks, as a server that was killed does not.
type deaf struct{ events.WebhookStore }

func (deaf) DropWebhooks(context.Context, string) error { return nil }

func TestPing(t *testing.T) {
	w := newWorld(t)
	w.hook("erp", nil)
	hook, err := w.store.Webhook(t.Context(), "erp")
	if err != nil {
		t.Fatal(err)
	}
	targets, err := NewTargets([]string{"127.0.0.1"})
	if err != nil {
		t.Fatal(err)
	}
	d := &Dispatcher{Secrets: testSecrets, Targets: targets, Now: w.now}
	if _, err := d.Ping(t.Context(), hook); err != nil {
		t.Fatal(err)
	}
	m := w.messages()[0]
	if !genuine(m, testSecrets.Text(hook.Seed)) || len(m.Events) != 0 || !strings.Contains(string(m.body), `"events":[]`) {
		t.Errorf("%s", m.body)
	}
	d.Targets = Targets{}
	if _, err := d.Ping(t.Context(), hook); err == nil || !strings.Contains(err.Error(), "not a public one") {
		t.Errorf("a ping to the inside: %v", err)
	}
}

// TestMessagesAreBounded packs more than fits.
func TestMessagesAreBounded(t *testing.T) {
	list := make([]events.Event, maxEvents)
	for i := range list {
		list[i].Note = strings.Repeat("x", 4000)
	}
	for n := 0; n < len(list); {
		body, fit := pack("erp", list[n:])
		if len(body) > maxBody || fit < 1 {
			t.Fatalf("%d bytes of %d events", len(body), fit)
		}
		n += fit
	}
	list[0].Note = strings.Repeat("x", 2*maxBody)
	if _, fit := pack("erp", list); fit != 1 {
		t.Errorf("%d events with a large one", fit)
	}
}
