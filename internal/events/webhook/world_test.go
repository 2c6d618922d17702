package webhook

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/touchmark/touchmark/internal/events"
	"github.com/touchmark/touchmark/internal/store"
	"github.com/touchmark/touchmark/internal/store/storetest"
	"github.com/touchmark/touchmark/vetting"
)

const units = 40

// world is a store with records of units, and a receiver of webhooks.
type world struct {
	t        *testing.T
	dsn      string
	store    *store.Store
	clock    atomic.Int64 // ahead of real time, in nanoseconds
	receiver *httptest.Server
	// answer is what the receiver does instead of answering 200.
	answer func(w http.ResponseWriter, r *http.Request) (handled bool)
	news   chan struct{} // a message came

	mu  sync.Mutex
	got []received
}

type received struct {
	header http.Header
	body   []byte
	Message
}

func newWorld(t *testing.T) *world { return newWorldOn(t, storetest.Database(t, "sqlite")) }

func newWorldOn(t *testing.T, dsn string) *world {
	t.Helper()
	w := &world{t: t, dsn: dsn, news: make(chan struct{}, 1000)}
	w.store = w.open(nil)
	var records []vetting.Record
	for i := range units {
		records = append(records, storetest.Unit(i))
	}
	storetest.NewWorld(t, w.store, units).Load(t, records...)
	w.receiver = httptest.NewTLSServer(http.HandlerFunc(w.receive))
	w.receiver.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo)
	t.Cleanup(w.receiver.Close)
	return w
}

func (w *world) now() time.Time { return time.Now().Add(time.Duration(w.clock.Load())) }

// open opens the database as another server does.
func (w *world) open(grew func(int64)) *store.Store {
	w.t.Helper()
	s, err := store.Open(context.Background(), store.Options{DSN: w.dsn, Now: w.now, Grew: grew})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { s.Close() })
	return s
}

func (w *world) receive(rw http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	if w.answer != nil && w.answer(rw, r) {
		w.news <- struct{}{}
		return
	}
	m := received{header: r.Header, body: body}
	if err := json.Unmarshal(body, &m.Message); err != nil || r.Method != http.MethodPost || r.Header.Get("Content-Type") != "application/json" {
		w.t.Errorf("%s %s: %v", r.Method, body, err)
	}
	w.mu.Lock()
	w.got = append(w.got, m)
	w.mu.Unlock()
	w.news <- struct{}{}
}

func (w *world) messages() []received {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.got)
}

func (w *world) ca() string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: w.receiver.Certificate().Raw}))
}

// hook creates a webhook that gets everything from the beginning.
func (w *world) hook(name string, change func(*events.Webhook)) {
	w.t.Helper()
	h := &events.Webhook{Name: name, Target: events.Target{URL: w.receiver.URL + "/in", CA: w.ca()}, Seed: NewSeed()}
	if change != nil {
		change(h)
	}
	if _, err := w.store.CreateWebhook(w.t.Context(), storetest.By, h, &events.Position{}); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) enrol(from, to int) {
	w.t.Helper()
	for n := from; n < to; n++ {
		if _, _, err := storetest.Enrol(w.t.Context(), w.store, storetest.Claim(storetest.Unit(n).BootstrapKey, storetest.Key("official", n))); err != nil {
			w.t.Fatal(err)
		}
	}
}

// books is an Observer.
type books struct {
	mu                        sync.Mutex
	delivered, failed, paused int
}

func (b *books) Delivered(_ string, n int) { b.mu.Lock(); b.delivered += n; b.mu.Unlock() }
func (b *books) Failed(string)             { b.mu.Lock(); b.failed++; b.mu.Unlock() }
func (b *books) Paused(string)             { b.mu.Lock(); b.paused++; b.mu.Unlock() }
func (b *books) Lags(map[string]int64)     {}

var testSecrets = NewSecrets([]byte("of this test"))

// running is one server's dispatcher.
type running struct {
	*Dispatcher
	books *books
	ticks chan time.Time
	stop  func()
}

// dispatch runs a dispatcher, which allows targets on this machine, on a
// store of its own until the test ends.
func (w *world) dispatch(allow ...string) *running {
	w.t.Helper()
	if allow == nil {
		allow = []string{"127.0.0.0/8"}
	}
	targets, err := NewTargets(allow)
	if err != nil {
		w.t.Fatal(err)
	}
	var feed *events.Feed
	s := w.open(func(size int64) { feed.Grew(size) })
	feed = events.NewFeed(s)
	r := &running{books: new(books), ticks: make(chan time.Time)}
	r.Dispatcher = &Dispatcher{Feed: feed, Store: s, Secrets: testSecrets, Targets: targets, Observer: r.books,
		Log: slog.New(slog.DiscardHandler), Now: w.now, Contain: func(step func()) { step() }, retry: time.Millisecond}
	ctx, cancel := context.WithCancel(context.WithoutCancel(w.t.Context()))
	var work sync.WaitGroup
	looks := time.NewTicker(5 * time.Millisecond)
	work.Go(func() { feed.Watch(ctx, looks.C) })
	work.Go(func() { r.Run(ctx, r.ticks) })
	r.stop = sync.OnceFunc(func() { cancel(); work.Wait(); looks.Stop() })
	w.t.Cleanup(r.stop)
	return r
}

// until waits for messages until a condition on all of them holds.
func (w *world) until(what string, holds func([]received) bool) []received {
	w.t.Helper()
	patience := time.After(30 * time.Second)
	for {
		if got := w.messages(); holds(got) {
			return got
		}
		select {
		case <-w.news:
		case <-patience:
			w.t.Fatalf("%s: it did not come, only %d messages", what, len(w.messages()))
		}
	}
}

// whole demands that what was received is all events, in order, each once or
// in a repetition of what came last.
func (w *world) whole(got []received) (all bool) {
	w.t.Helper()
	want := w.events(events.Filter{})
	next := 0
	for _, m := range got {
		for _, e := range m.Events {
			i := slices.IndexFunc(want, func(o events.Event) bool { return o.ID == e.ID })
			if i < 0 || i > next {
				w.t.Fatalf("event %s came after %d of %d", e.ID, next, len(want))
			}
			next = max(next, i+1)
		}
	}
	return next == len(want)
}

func (w *world) events(f events.Filter) (all []events.Event) {
	w.t.Helper()
	for after := (events.Position{}); ; {
		p, err := w.store.Events(w.t.Context(), after, f, 500)
		if err != nil {
			w.t.Fatal(err)
		}
		if all = append(all, p.Events...); !p.More() {
			return all
		}
		after = p.Next
	}
}

// state waits until a webhook is in a state that holds.
func (w *world) state(name string, holds func(*events.Webhook) bool) *events.Webhook {
	w.t.Helper()
	patience := time.After(30 * time.Second)
	for {
		h, err := w.store.Webhook(w.t.Context(), name)
		if err != nil {
			w.t.Fatal(err)
		}
		if holds(h) {
			return h
		}
		select {
		case <-patience:
			w.t.Fatalf("webhook %+v", h)
		case <-time.After(time.Millisecond):
		}
	}
}

// genuine verifies a message as a receiver would, by the specification.
func genuine(m received, secret string) bool {
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, "whsec_"))
	if err != nil {
		return false
	}
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(m.header.Get("webhook-id") + "." + m.header.Get("webhook-timestamp") + "." + string(m.body)))
	want := "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
	return slices.Contains(strings.Split(m.header.Get("webhook-signature"), " "), want)
}
