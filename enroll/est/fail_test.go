package est

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/touchmark/touchmark/enroll"
)

// Whatever ends a request early, it never looks like success: our own
// deadline is 503, and if the client is gone the connection is cut.
func TestEndedRequests(t *testing.T) {
	h := &Handler{Log: slog.New(slog.DiscardHandler), Now: time.Now}
	late, cancel := context.WithDeadline(t.Context(), time.Unix(0, 0))
	defer cancel()
	rec := httptest.NewRecorder()
	h.fail(rec, httptest.NewRequestWithContext(late, "POST", Prefix+"simpleenroll", nil), errors.New("context ended"))
	if rec.Code != http.StatusServiceUnavailable || rec.Header().Get("Retry-After") == "" {
		t.Errorf("our deadline: %d %v", rec.Code, rec.Header())
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	defer func() {
		if p := recover(); p != http.ErrAbortHandler {
			t.Errorf("the client is gone: %v", p)
		}
	}()
	h.fail(httptest.NewRecorder(), httptest.NewRequestWithContext(gone, "POST", Prefix+"simpleenroll", nil), errors.New("context ended"))
}

// Too much is no fault of the request: it may come again, and is told when.
func TestBusy(t *testing.T) {
	h := &Handler{Log: slog.New(slog.DiscardHandler), Now: time.Now}
	for share, status := range map[bool]int{false: http.StatusServiceUnavailable, true: http.StatusTooManyRequests} {
		rec := httptest.NewRecorder()
		err := fmt.Errorf("commit: %w", &enroll.BusyError{Reason: "too many", RetryAfter: 1500 * time.Millisecond, Share: share})
		h.fail(rec, httptest.NewRequestWithContext(t.Context(), "POST", Prefix+"simpleenroll", nil), err)
		if rec.Code != status || rec.Header().Get("Retry-After") != "2" || rec.Header().Get("Content-Type") != "text/plain; charset=utf-8" {
			t.Errorf("share %t: %d %v", share, rec.Code, rec.Header())
		}
	}
}
