package api_test

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/internal/events"
	"github.com/touchmark/touchmark/server/api"
	"github.com/touchmark/touchmark/vetting"
)

func TestEventsAreConfined(t *testing.T) {
	w := newWorld(t)
	near := decode[api.EventPage](t, w.as("site-operator", "GET", "/events", nil), 200)
	if len(near.Items) != 1 || near.Items[0].Device.Serial != "S-near" || len(near.Items[0].Evidence) != 1 || near.Items[0].Evidence[0].Text != "of near" {
		t.Errorf("a site operator sees %+v", near)
	}
	if far := w.as("site-operator", "GET", "/events?site=far", nil); strings.Contains(far.body, "S-far") || !strings.Contains(far.body, `"items":[]`) {
		t.Errorf("a site operator sees of another site %s", far.body)
	}
	support := w.as("support", "GET", "/events", nil)
	if p := decode[api.EventPage](t, support, 200); len(p.Items) != 2 || len(p.Items[0].Evidence) != 2 || strings.Contains(support.body, "of near") || strings.Contains(support.body, "operator:") {
		t.Errorf("support, who may not read particulars, sees %s", support.body)
	}
	all := decode[api.EventPage](t, w.as("planner", "GET", "/events", nil), 200)
	if len(all.Items) != 2 || len(all.Items[0].Evidence) != 2 || all.More || all.Next != all.Head || all.Head.Leaf != 2 || all.Items[0].By != "operator:x" {
		t.Errorf("a planner sees %+v", all)
	}
}

func TestEventPages(t *testing.T) {
	w := newWorld(t)
	for range 5 {
		w.store.happen(events.Event{Type: "device.held"})
	}
	var seen []events.Event
	for after := "0-0"; ; {
		p := decode[api.EventPage](t, w.as("planner", "GET", "/events?limit=2&type=device.held&type=certificate.*&after="+after, nil), 200)
		seen, after = append(seen, p.Items...), p.Next.String()
		if !p.More {
			break
		}
	}
	if len(seen) != 5 || seen[4].ID != (events.Position{Leaf: 6, Place: 1}) {
		t.Errorf("%+v", seen)
	}
	for query, status := range map[string]int{"after=x": 422, "type=nothing.*": 422, "limit=0": 422, "limit=1001": 422, "after=99-1": 409, "before=1-1": 422, "after=0-00": 422} {
		refused(t, w.as("planner", "GET", "/events?"+query, nil), status)
	}
}

// sse is an open stream.
type sse struct {
	t     *testing.T
	lines *bufio.Scanner
	close func()
}

func (w *world) stream(t *testing.T, role, query string, options ...option) *sse {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	req, err := http.NewRequestWithContext(ctx, "GET", w.server.URL+api.Base+"/events"+query, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", "text/event-stream")
	for _, o := range options {
		o(req)
	}
	resp, err := w.client(role).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	s := &sse{t, bufio.NewScanner(resp.Body), func() { cancel(); resp.Body.Close() }}
	t.Cleanup(s.close)
	if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "text/event-stream" {
		t.Fatalf("%s, %s", resp.Status, resp.Header)
	}
	s.block() // retry
	return s
}

// block reads up to an empty line; nil at the end.
func (s *sse) block() (fields map[string]string) {
	s.t.Helper()
	for s.lines.Scan() {
		if s.lines.Text() == "" {
			return fields
		}
		if fields == nil {
			fields = map[string]string{}
		}
		name, value, _ := strings.Cut(s.lines.Text(), ": ")
		fields[name] = value
	}
	return nil
}

func (s *sse) event() (e events.Event) {
	s.t.Helper()
	b := s.block()
	if err := json.Unmarshal([]byte(b["data"]), &e); err != nil || b["id"] != e.ID.String() || b["event"] != string(e.Type) {
		s.t.Fatalf("%v: %v", b, err)
	}
	return e
}

func TestStream(t *testing.T) {
	w := newWorld(t)
	happen := func(site, note string) {
		w.store.happen(events.Event{Type: "device.held", Site: site, Note: note})
		size, _ := w.store.LogSize(t.Context())
		w.feed.Grew(size)
	}
	now, past, near := w.stream(t, "planner", ""), w.stream(t, "planner", "?after=0-0&type=device.*"), w.stream(t, "rig", "", header("Last-Event-ID", "0-1"))
	if e := past.event(); e.Device.Serial != "S-near" {
		t.Errorf("%+v", e)
	}
	past.event()
	happen("far", "first\nline")
	happen("near", "second")
	for _, want := range []string{"first\nline", "second"} {
		if a, b := now.event(), past.event(); a.Note != want || b.Note != want {
			t.Errorf("%+v and %+v, want %q", a, b, want)
		}
	}
	if e := near.event(); e.Note != "second" {
		t.Errorf("a rig sees %+v", e)
	}
	// one more than may be
	got := w.as("planner", "GET", "/events", nil, header("Accept", "text/event-stream"))
	refused(t, got, 503, "streams")
	if got.header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	now.close()
	for { // its place becomes free
		if again := w.do(w.client("planner"), "GET", api.Base+"/events?after=9-9", nil, header("Accept", "text/event-stream")); again.status == 409 {
			break
		} else if again.status != 503 {
			t.Fatalf("status %d", again.status)
		}
	}
	for query, status := range map[string]int{"?after=x": 422, "?type=x": 422, "?before=1": 422} {
		refused(t, w.as("planner", "GET", "/events"+query, nil, header("Accept", "text/event-stream")), status)
	}
}

// TestStreamsEnd has streams end when the server stops, and soon after their
// operator was revoked; until then they show that they live.
func TestStreamsEnd(t *testing.T) {
	stopping := make(chan struct{})
	w := newWorld(t, func(c *api.Config) {
		c.Streams.Stopping, c.Streams.Heartbeat = stopping, 10*time.Millisecond
	})
	s, other := w.stream(t, "support", ""), w.stream(t, "planner", "")
	if b := s.block(); b["id"] != "2-0" || len(b) != 1 {
		t.Errorf("the sign of life is %v", b)
	}
	decode[access.Operator](t, w.as("admin", "POST", "/operators/support/revoke", nil), 200)
	for s.block() != nil {
	}
	if other.block() == nil {
		t.Error("another's stream ended, too")
	}
	close(stopping)
	for other.block() != nil {
	}
}

// TestSlowReaders are cut off, and nothing is kept for them.
func TestSlowReaders(t *testing.T) {
	w := newWorld(t, func(c *api.Config) { c.Streams.Max, c.Streams.Stall = 1, 50*time.Millisecond })
	for range 400 {
		w.store.happen(events.Event{Type: "device.held", Note: strings.Repeat("x", 64<<10)})
	}
	slow := w.stream(t, "planner", "?after=0-0")
	for { // until the server has given it up and its place is free
		got := w.do(w.client("planner"), "GET", api.Base+"/events?after=999-1", nil, header("Accept", "text/event-stream"))
		if got.status == 409 {
			break
		}
		if got.status != 503 {
			t.Fatalf("status %d", got.status)
		}
	}
	n := 0
	for slow.block() != nil {
		n++
	}
	if n >= 402 {
		t.Errorf("%d events were kept for who did not read", n)
	}
}

func TestWebhooks(t *testing.T) {
	w := newWorld(t)
	body := map[string]any{"name": "new", "url": "https://a.example/", "types": []string{"device.*"}, "site": "near", "after": "0-0"}
	key := header("Idempotency-Key", "k")
	made := w.as("admin", "POST", "/webhooks", body, key)
	hook := decode[api.WebhookSecret](t, made, 201)
	if !strings.HasPrefix(hook.Secret, "whsec_") || hook.Webhook.Name != "new" || made.header.Get("Location") != api.Base+"/webhooks/new" || w.deliverer.pokes != 1 {
		t.Errorf("%s, %v", made.body, made.header)
	}
	if again := w.as("admin", "POST", "/webhooks", body, key); again.body != made.body {
		t.Errorf("asked again: %s", again.body)
	}
	for _, path := range []string{"/webhooks/new", "/webhooks"} {
		if shown := w.as("auditor", "GET", path, nil); strings.Contains(shown.body, "whsec_") || strings.Contains(shown.body, "eed") {
			t.Errorf("the secret is shown again: %s", shown.body)
		}
	}
	moved := decode[events.Webhook](t, w.as("admin", "PUT", "/webhooks/new", map[string]any{"url": "https://b.example/", "types": []string{"device.held"}, "revision": 1}), 200)
	if moved.URL != "https://b.example/" || moved.Site != "" || w.deliverer.pokes != 3 {
		t.Errorf("%+v, %d pokes", moved, w.deliverer.pokes)
	}
	refused(t, w.as("admin", "PUT", "/webhooks/new", map[string]any{"url": "https://b.example/", "types": []string{"order.*.x"}, "revision": 1}), 422)
	refused(t, w.as("admin", "PUT", "/webhooks/new", map[string]any{"url": "https://b.example/"}), 422, "revision")
	rotated := decode[api.WebhookSecret](t, w.as("admin", "POST", "/webhooks/new/secret", map[string]any{"overlap": 3600}), 200)
	if rotated.Secret == hook.Secret || !rotated.Webhook.FormerUntil.Equal(today.Add(time.Hour)) {
		t.Errorf("%+v", rotated)
	}
	if test := decode[api.WebhookTest](t, w.as("admin", "POST", "/webhooks/new/test", nil), 200); test.Delivered || test.Error != "the target answered 500" || test.Milliseconds != 7 {
		t.Errorf("%+v", test)
	}
	for _, bad := range []map[string]any{
		{"name": "a b", "url": "https://a.example/"}, {"name": "x", "url": ""}, {"name": "x", "url": "https://a.example/", "types": []string{"order.*"}},
		{"name": "x", "url": "https://a.example/", "after": "now"}, {"name": "x", "url": "https://a.example/", "secret": "mine"},
	} {
		refused(t, w.as("admin", "POST", "/webhooks", bad), 422)
	}
	w.deliverer.bad = vetting.Errorf(vetting.Invalid, "it points inside")
	refused(t, w.as("admin", "POST", "/webhooks", map[string]any{"name": "x", "url": "https://a.example/"}), 422, "it points inside")
	decode[events.Webhook](t, w.as("admin", "DELETE", "/webhooks/new", nil), 200)
	refused(t, w.as("admin", "GET", "/webhooks/new", nil), 404)
}
