package httperr_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/touchmark/touchmark/enroll"
	"github.com/touchmark/touchmark/enroll/httperr"
)

func TestTo(t *testing.T) {
	over, cancel := context.WithTimeout(t.Context(), -time.Second)
	defer cancel()
	for name, c := range map[string]struct {
		err    error
		ctx    context.Context
		status int
		text   string
		retry  string
	}{
		"refused":          {err: fmt.Errorf("first: %w", httperr.New(410, "gone %d", 7)), status: 410, text: "first: gone 7"},
		"told to wait":     {err: httperr.New(503, "not now"), status: 503, text: "not now", retry: "5"},
		"a bad request":    {err: enroll.BadRequest("no serial"), status: 400, text: "no serial"},
		"an unknown":       {err: &enroll.AuthError{Reason: "who?"}, status: 403, text: "who?"},
		"all are too many": {err: &enroll.BusyError{Reason: "full", RetryAfter: 1500 * time.Millisecond}, status: 503, text: "full", retry: "2"},
		"one is too many":  {err: &enroll.BusyError{Reason: "you", RetryAfter: time.Millisecond, Share: true}, status: 429, text: "you", retry: "1"},
		"a CA is mute":     {err: &enroll.IssuerError{Issuer: "acme", Err: errors.New("no token, pin 123")}, status: 503, text: "issuing CA acme cannot sign", retry: "60"},
		"late":             {err: errors.New("x"), ctx: over, status: 503, text: "in time", retry: "5"},
		"broken":           {err: errors.New("the database's password is 123"), status: 503, text: "the reference", retry: "5"},
	} {
		t.Run(name, func(t *testing.T) {
			var log strings.Builder
			if c.ctx == nil {
				c.ctx = t.Context()
			}
			r := httptest.NewRequestWithContext(c.ctx, "GET", "/x", nil)
			a := httperr.To(r, c.err, slog.New(slog.NewTextHandler(&log, nil)), time.Unix(1, 0))
			h := http.Header{}
			httperr.SetRetryAfter(h, a.RetryAfter)
			if a.Status != c.status || !strings.Contains(a.Text, c.text) || strings.Contains(a.Text, "password") || h.Get("Retry-After") != c.retry {
				t.Errorf("%+v, Retry-After %q", a, h.Get("Retry-After"))
			}
			if logged := log.Len() > 0; logged != (name == "broken" || name == "a CA is mute") {
				t.Errorf("logged: %s", log.String())
			}
		})
	}
}

func TestToNobody(t *testing.T) {
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	defer func() {
		if p := recover(); p != http.ErrAbortHandler {
			t.Errorf("panic %v", p)
		}
	}()
	a := httperr.To(httptest.NewRequestWithContext(gone, "GET", "/x", nil), errors.New("x"), slog.Default(), time.Now())
	t.Errorf("answered %+v to a client that is gone", a)
}
