package est

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
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
