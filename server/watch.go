package server

import (
	"context"
	"log/slog"
	"net/http"
	"strconv"
	"time"
)

// watched logs and counts a door's requests, and keeps a panic from being
// more than a failed request. Unless it is 0, each request's context ends
// after limit.
func watched(name string, h http.Handler, m *metrics, log *slog.Logger, limit time.Duration) http.Handler {
	requests := m.requestsOf(name)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		begin := time.Now() // a measurement; the injected clock has no say in it
		rec := &recorder{ResponseWriter: w}
		if limit > 0 {
			ctx, cancel := context.WithTimeout(r.Context(), limit)
			defer cancel()
			r = r.WithContext(ctx)
		}
		defer func() {
			if p := recover(); p != nil {
				panicked(rec, r, p, m, log)
			}
			if rec.status == 0 && r.Context().Err() == context.DeadlineExceeded {
				// A handler that gave up in silence must not look like success.
				rec.Header().Set("Retry-After", "5")
				http.Error(rec, "the server did not get to this request in time; try again", http.StatusServiceUnavailable)
			}
			took := time.Since(begin)
			requests.note(r.Method, rec.code(), took)
			if !log.Enabled(r.Context(), slog.LevelDebug) {
				return
			}
			log.LogAttrs(r.Context(), slog.LevelDebug, "request",
				slog.String("door", name), slog.String("method", r.Method), slog.String("path", r.URL.Path),
				slog.Int("status", rec.code()), slog.Int64("bytes", rec.bytes),
				slog.Duration("took", took), slog.String("remote", r.RemoteAddr))
		}()
		h.ServeHTTP(rec, r)
	})
}

// within ends the context of each request after limit. A door does that
// itself; this is for a part of one whose other parts wait for nothing, and
// should not pay for it.
func within(limit time.Duration, h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), limit)
		defer cancel()
		h.ServeHTTP(w, r.WithContext(ctx))
	})
}

func panicked(rec *recorder, r *http.Request, p any, m *metrics, log *slog.Logger) {
	if p == http.ErrAbortHandler { // the handler's way to hang up, not a defect
		panic(p)
	}
	m.panicked(log, p, "method", r.Method, "path", r.URL.Path)
	if rec.status != 0 {
		panic(http.ErrAbortHandler) // half a reply must not look like a whole one
	}
	rec.Header().Set("Connection", "close")
	http.Error(rec, "internal error; the server's log tells more", http.StatusInternalServerError)
}

// recorder remembers what was answered.
type recorder struct {
	http.ResponseWriter
	status int
	bytes  int64
}

func (r *recorder) WriteHeader(code int) {
	if r.status == 0 && code >= 200 {
		r.status = code
	}
	r.ResponseWriter.WriteHeader(code)
}

func (r *recorder) Write(b []byte) (int, error) {
	if r.status == 0 {
		r.status = http.StatusOK
	}
	n, err := r.ResponseWriter.Write(b)
	r.bytes += int64(n)
	return n, err
}

// Unwrap is for http.ResponseController.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

func (r *recorder) code() int {
	if r.status == 0 {
		return http.StatusOK
	}
	return r.status
}

// methodLabel keeps a client from inventing label values.
func methodLabel(method string) string {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete:
		return method
	}
	return "other"
}

func codeLabel(code int) string { return strconv.Itoa(code) }
