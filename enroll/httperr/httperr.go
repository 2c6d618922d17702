// Package httperr tells what a door answers to an error, in the statuses of
// HTTP, which the door over MQTT uses too. How the answer is written, as plain
// text or as problem details, is the door's.
package httperr

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/touchmark/touchmark/enroll"
)

// Error is a refusal whose status and text are for the client.
type Error struct {
	Status int
	Text   string
}

func (e *Error) Error() string { return e.Text }

// New makes an Error.
func New(status int, format string, args ...any) error {
	return &Error{status, fmt.Sprintf(format, args...)}
}

// Answer is what a client is told.
type Answer struct {
	Status int
	Text   string
	// RetryAfter is when to come again; 0 if that would not help.
	RetryAfter time.Duration
}

// busy is how long a client waits that met a server which could not work.
const busy = 5 * time.Second

// To returns the answer to an error of an HTTP request, as [Of] does. If the
// client is gone To panics with [http.ErrAbortHandler]: if it is not, silence
// must not look like success.
func To(r *http.Request, err error, log *slog.Logger, now time.Time) Answer {
	a := Of(r.Context(), err, log, now, "path", r.URL.Path, "remote", r.RemoteAddr)
	if a.Status == 0 {
		panic(http.ErrAbortHandler)
	}
	return a
}

// Of returns the answer to an error of a request whose context is ctx. What is
// the server's own affair is logged with the attributes, and the client gets a
// reference to it. The answer is zero if nobody waits for it any more.
func Of(ctx context.Context, err error, log *slog.Logger, now time.Time, attrs ...any) Answer {
	var refused *Error
	var bad *enroll.RequestError
	var auth *enroll.AuthError
	var stale *enroll.ProofError
	var full *enroll.BusyError
	var mute *enroll.IssuerError
	switch {
	case errors.As(err, &refused):
		a := Answer{Status: refused.Status, Text: err.Error()}
		if a.Status == http.StatusServiceUnavailable {
			a.RetryAfter = busy
		}
		return a
	case errors.As(err, &bad):
		return Answer{Status: http.StatusBadRequest, Text: err.Error()}
	case errors.As(err, &stale):
		return Answer{Status: http.StatusUnauthorized, Text: err.Error()}
	case errors.As(err, &auth):
		return Answer{Status: http.StatusForbidden, Text: err.Error()}
	case errors.As(err, &full) && full.Share:
		return Answer{http.StatusTooManyRequests, err.Error(), full.RetryAfter}
	case errors.As(err, &full):
		return Answer{http.StatusServiceUnavailable, err.Error(), full.RetryAfter}
	case errors.As(err, &mute):
		log.ErrorContext(ctx, "a certificate was not issued", append(attrs, "error", err)...)
		return Answer{http.StatusServiceUnavailable, mute.Text(), mute.RetryAfter()}
	case ctx.Err() == context.DeadlineExceeded:
		return Answer{http.StatusServiceUnavailable, "the server did not get to this request in time; try again", busy}
	case ctx.Err() != nil:
		return Answer{}
	}
	reference := strconv.FormatInt(now.UnixNano(), 36)
	log.ErrorContext(ctx, "a device's request failed", append(attrs, "reference", reference, "error", err)...)
	return Answer{http.StatusServiceUnavailable, "the server could not work on the request; try again. If it persists, give the operator the reference " + reference, busy}
}

// SetRetryAfter sets Retry-After (RFC 9110 §10.2.3) in whole seconds, at
// least one; nothing if d is 0.
func SetRetryAfter(h http.Header, d time.Duration) {
	if d != 0 {
		h.Set("Retry-After", strconv.FormatInt(max(1, int64((d+time.Second-1)/time.Second)), 10))
	}
}

// Remote is the address that a request came from, without the port.
func Remote(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}
