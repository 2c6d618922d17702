package server

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/touchmark/touchmark/internal/events/webhook"
)

// streaming opens a stream of events and gives its lines, which end with it.
func streaming(t *testing.T, s *Server, c *Config) <-chan string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "GET", "https://"+s.Addrs()["api"]+"/api/v1/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", "text/event-stream")
	resp, err := as(t, c, "admin").Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	if resp.StatusCode != 200 {
		t.Fatal(resp.Status)
	}
	lines := make(chan string, 100)
	go func() {
		defer close(lines)
		for in := bufio.NewScanner(resp.Body); in.Scan(); {
			lines <- in.Text()
		}
	}()
	<-lines // retry
	<-lines
	return lines
}

// TestStreamTakesNoPlace has a stream outlive the time of a request, hold no
// place of those that requests have, and end when the server stops.
func TestStreamTakesNoPlace(t *testing.T) {
	c := local()
	c.API.MaxRequests, c.API.RequestTimeout = 1, Duration(300*time.Millisecond)
	c = initialized(t, Plan{Config: c})
	s := started(t, c)
	lines := streaming(t, s, c)
	api, admin := "https://"+s.Addrs()["api"]+"/api/v1", as(t, c, "admin")
	for began := time.Now(); time.Since(began) < 2*time.Duration(c.API.RequestTimeout); {
		if status, body := get(t, admin, api+"/whoami"); status != 200 {
			t.Fatalf("beside a stream: %d %s", status, body)
		}
	}
	_, metrics := get(t, http.DefaultClient, "http://"+s.Addrs()["ops"]+"/metrics")
	wantContains(t, metrics, "touchmark_event_streams 1\n")
	select {
	case line, open := <-lines:
		t.Fatalf("the stream said %q, open %t", line, open)
	default:
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := s.Stop(ctx); err != nil {
		t.Errorf("stop beside a stream: %v", err)
	}
	last := ""
	for line := range lines {
		last += line
	}
	wantContains(t, last, ": the server stops")
}

// TestWebhookFromTheAPI creates a webhook as an operator does, tests it, and
// looks that its secret is shown once.
func TestWebhookFromTheAPI(t *testing.T) {
	got := make(chan webhook.Message, 100)
	target := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var m webhook.Message
		if err := json.NewDecoder(r.Body).Decode(&m); err != nil || r.Header.Get("webhook-signature") == "" {
			t.Errorf("%v, %v", err, r.Header)
		}
		got <- m
	}))
	defer target.Close()
	c := local()
	c.Events.AllowTargets = []string{"127.0.0.1"}
	c = initialized(t, Plan{Config: c})
	s := started(t, c)
	admin, api := as(t, c, "admin"), "https://"+s.Addrs()["api"]+"/api/v1"
	send(t, admin, "POST", api+"/webhooks", map[string]any{"name": "inside", "url": "https://169.254.169.254/"}, 422)
	var made struct{ Secret string }
	if err := json.Unmarshal(send(t, admin, "POST", api+"/webhooks", map[string]any{"name": "erp", "url": target.URL, "after": "0-0"}, 201), &made); err != nil || !strings.HasPrefix(made.Secret, "whsec_") {
		t.Fatal(made, err)
	}
	send(t, admin, "POST", api+"/webhooks/erp/test", map[string]any{}, 200)
	if m := <-got; m.Webhook != "erp" || len(m.Events) != 0 {
		t.Errorf("the test is %+v", m)
	}
	if _, body := get(t, admin, api+"/webhooks/erp"); strings.Contains(body, made.Secret) {
		t.Errorf("the secret is shown again: %s", body)
	}
}
