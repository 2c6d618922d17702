package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/touchmark/touchmark/enroll"
	"github.com/touchmark/touchmark/vetting"
)

func testMetrics() *metrics {
	return newMetrics(func() map[string]time.Time { return nil }, time.Now)
}

// lockedBuffer takes a log that several goroutines write.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func TestPanicIsOneFailedRequest(t *testing.T) {
	m, log := testMetrics(), new(lockedBuffer)
	mux := http.NewServeMux()
	mux.HandleFunc("/early", func(http.ResponseWriter, *http.Request) { panic("a defect") })
	mux.HandleFunc("/late", func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, "half")
		http.NewResponseController(w).Flush()
		panic("a defect")
	})
	mux.HandleFunc("/fine", func(http.ResponseWriter, *http.Request) {})
	s := httptest.NewServer(watched("x", mux, m, slog.New(slog.NewTextHandler(log, nil)), 0))
	defer s.Close()
	code, body := get(t, s.Client(), s.URL+"/early")
	if code != 500 || strings.Contains(body, "defect") {
		t.Errorf("answer %d %q", code, body)
	}
	resp, err := s.Client().Get(s.URL + "/late")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if b, err := io.ReadAll(resp.Body); err == nil {
		t.Errorf("half an answer looked whole: %q", b)
	}
	if code, _ := get(t, s.Client(), s.URL+"/fine"); code != 200 {
		t.Errorf("afterwards: %d", code)
	}
	wantContains(t, log.String(), "a defect", "watch_test.go")
	if n := testutil.ToFloat64(m.panics); n != 2 {
		t.Errorf("%v panics counted", n)
	}
}

// A handler that gives up in silence when its time is over must not have
// answered 200.
func TestTimeIsUp(t *testing.T) {
	h := watched("x", http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }),
		testMetrics(), slog.New(slog.DiscardHandler), time.Millisecond)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
	if w.Code != 503 || w.Header().Get("Retry-After") == "" {
		t.Errorf("answer %d %v", w.Code, w.Header())
	}
}

func TestAccessLog(t *testing.T) {
	log := new(lockedBuffer)
	m := testMetrics()
	h := watched("est", http.NotFoundHandler(), m, slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})), 0)
	r := httptest.NewRequest("BREW", "/pot?secret=1", nil)
	h.ServeHTTP(httptest.NewRecorder(), r)
	wantContains(t, log.String(), "door=est", "method=BREW", "path=/pot", "status=404")
	if strings.Contains(log.String(), "secret") {
		t.Errorf("the query was logged: %s", log)
	}
	if n := testutil.ToFloat64(m.requests.WithLabelValues("est", "other", "404")); n != 1 {
		t.Errorf("a made-up method has a label of its own")
	}
}

// fixed answers the same always.
type fixed struct {
	out enroll.Outcome
	err error
}

func (f fixed) Enroll(context.Context, enroll.Request) (enroll.Outcome, error) { return f.out, f.err }

func TestVerdictsAreCounted(t *testing.T) {
	m := testMetrics()
	reason := func(c vetting.Code) []vetting.Reason { return []vetting.Reason{{Code: c}, {Code: "further"}} }
	for _, f := range []fixed{
		{out: enroll.Outcome{Verdict: vetting.Admitted, Reasons: reason(vetting.ReasonVetted)}},
		{out: enroll.Outcome{Verdict: vetting.Held, Reasons: reason(vetting.ReasonContested)}},
		{out: enroll.Outcome{Verdict: vetting.Refused}},
		{err: enroll.BadRequest("no")},
		{err: io.ErrUnexpectedEOF},
	} {
		out, err := countedEnroller{f, m}.Enroll(t.Context(), enroll.Request{Claim: vetting.Claim{Transport: "est"}})
		if out.Verdict != f.out.Verdict || err != f.err {
			t.Errorf("the outcome was changed: %v %v", out, err)
		}
	}
	for _, want := range [][2]string{{"admitted", "vetted"}, {"held", "contested"}, {"refused", ""}, {"bad-request", ""}, {"error", ""}} {
		if n := testutil.ToFloat64(m.registrations.WithLabelValues(want[0], want[1], "est")); n != 1 {
			t.Errorf("%v counted %v times", want, n)
		}
	}
}

func TestReadiness(t *testing.T) {
	now := time.Date(2026, 11, 21, 0, 0, 0, 0, time.UTC)
	clock := func() time.Time { return now }
	p := &publishing{now: clock, good: now, patience: time.Minute}
	h := &health{checks: []check{
		{"checkpoint", p.check},
		{"certificates", validity(func() map[string]time.Time { return map[string]time.Time{"device-ca": now.Add(0)} }, clock)},
		{"database", func(context.Context) error { return nil }},
	}}
	if r := h.report(t.Context()); !r.Ready {
		t.Errorf("report %+v", r)
	}
	p.failed = errors.New("disk full")
	if r := h.report(t.Context()); !r.Ready {
		t.Errorf("one hiccup: %+v", r)
	}
	p.good = now.Add(-2 * time.Minute)
	if r := h.report(t.Context()); r.Ready || !strings.Contains(r.Checks["checkpoint"], "disk full") || r.Checks["database"] != "ok" {
		t.Errorf("no checkpoint for two minutes: %+v", r)
	}
	p.failed = nil
	ended := validity(func() map[string]time.Time { return map[string]time.Time{"device-ca": now.Add(-time.Second)} }, clock)
	if err := ended(t.Context()); err == nil || !strings.Contains(err.Error(), "device-ca ran out") {
		t.Errorf("a CA whose time is over: %v", err)
	}
}

// A checkpoint that could not be kept is tried again with the next tick.
func TestPublishingGoesOn(t *testing.T) {
	s, err := New(t.Context(), initialized(t, Plan{}), Environment{})
	if err != nil {
		t.Fatal(err)
	}
	p := s.publishing
	away := filepath.Join(t.TempDir(), "away")
	p.publisher.Path = filepath.Join(away, "checkpoint")
	ctx, cancel := context.WithCancel(t.Context())
	ticks, done := make(chan time.Time), make(chan struct{})
	go func() { defer close(done); p.run(ctx, ticks) }()
	tick := func() error {
		ticks <- time.Time{}
		ticks <- time.Time{} // taken only after the first was worked off
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.failed
	}
	if err := tick(); err == nil || !strings.Contains(err.Error(), away) {
		t.Errorf("no directory for the checkpoint: %v", err)
	}
	if err := os.Mkdir(away, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := tick(); err != nil {
		t.Error(err)
	}
	cancel()
	<-done
	head, err := s.store.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if signed, err := s.store.LastCheckpoint(t.Context()); err != nil || !strings.HasPrefix(string(signed), fmt.Sprintf("localhost/audit\n%d\n", head.Size())) {
		t.Errorf("checkpoint %q of %d leaves, %v", signed, head.Size(), err)
	}
	if err := s.Stop(t.Context()); err != nil {
		t.Error(err)
	}
}
