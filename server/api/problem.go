package api

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/touchmark/touchmark/enroll"
	"github.com/touchmark/touchmark/internal/audit"
	"github.com/touchmark/touchmark/vetting"
	"github.com/touchmark/touchmark/vetting/manifest"
)

// problemType is the media type of every error.
const problemType = "application/problem+json"

// Problem is the body of every error: problem details for HTTP APIs (RFC
// 9457 §3). Its type is always "about:blank", so the status says which kind
// of problem it is; detail says what to do about it.
type Problem struct {
	Title  string `json:"title" doc:"The status in words"`
	Status int    `json:"status" doc:"The HTTP status code"`
	Detail string `json:"detail" doc:"What was wrong, with which value, and what to do"`
	// Reference is given with status 500, and 503 if the database is to
	// blame, and names the log entry that tells
	// the operator of the server what happened.
	Reference string `json:"reference,omitempty" doc:"With status 500 and 503: names the entry in the server's log"`
	// Errors lists what is wrong with the request's fields.
	Errors []FieldError `json:"errors,omitempty" doc:"What is wrong with the request's fields"`
	// Lines lists what is wrong with a manifest; LineCount counts all of it.
	Lines     []LineError `json:"lines,omitempty" doc:"What is wrong with the lines of a manifest, in their order"`
	LineCount int64       `json:"lineCount,omitempty" doc:"How many findings there are, with those that are not listed"`

	header http.Header
}

// FieldError is one thing wrong with one field of a request.
type FieldError struct {
	Location string `json:"location" doc:"Where: body, query, path or header, then the field" example:"body.quantity"`
	Message  string `json:"message" doc:"What is wrong there"`
}

// LineError is one thing wrong with one line of a manifest.
type LineError struct {
	Line    int64  `json:"line" doc:"The line, counted from 1; of a CSV record over several lines, the first"`
	Message string `json:"message" doc:"What is wrong there"`
}

func (p *Problem) Error() string { return p.Detail }

// GetStatus gives the status to answer with, to huma.
func (p *Problem) GetStatus() int { return p.Status }

// GetHeaders gives the headers to answer with, to huma.
func (p *Problem) GetHeaders() http.Header { return p.header }

// ContentType gives the media type to answer with, to huma.
func (p *Problem) ContentType(string) string { return problemType }

func problem(status int, format string, args ...any) *Problem {
	return &Problem{Title: http.StatusText(status), Status: status, Detail: fmt.Sprintf(format, args...)}
}

func (p *Problem) with(header, value string) *Problem {
	if p.header == nil {
		p.header = http.Header{}
	}
	p.header.Set(header, value)
	return p
}

// invalid is a request that can be read but makes no sense.
func invalid(location, format string, args ...any) *Problem {
	p := problem(http.StatusUnprocessableEntity, format, args...)
	p.Errors = []FieldError{{location, p.Detail}}
	return p
}

// write answers with the problem, outside of huma.
func (p *Problem) write(w http.ResponseWriter) {
	for name, values := range p.header {
		w.Header()[name] = values
	}
	w.Header().Set("Content-Type", problemType)
	w.WriteHeader(p.Status)
	// The status is out; a client that is gone cannot be told any more.
	_ = json.NewEncoder(w).Encode(p)
}

// statuses maps the problems of operators' acts, all of them.
var statuses = map[vetting.Problem]int{
	vetting.NotFound: http.StatusNotFound,
	vetting.Exists:   http.StatusConflict,
	vetting.Conflict: http.StatusConflict,
	vetting.Invalid:  http.StatusUnprocessableEntity,
}

// problemOf turns any error into what the client is told. It is the only
// place that does. Whatever it does not know is logged under a reference, and
// the client is told no more than that.
func (a *API) problemOf(ctx context.Context, err error) *Problem {
	var (
		ready *Problem
		lines *manifest.LineErrors
		bad   *enroll.RequestError
		busy  *enroll.BusyError
		mute  *enroll.IssuerError
		key   *vetting.KeyError
		act   *vetting.Error
		large *http.MaxBytesError
		wait  net.Error
	)
	switch {
	case errors.As(err, &ready):
		return ready
	case errors.As(err, &lines):
		return linesProblem(lines)
	case errors.As(err, &bad):
		return problem(http.StatusBadRequest, "%s", bad.Reason)
	case errors.As(err, &busy):
		return busyProblem(busy)
	case errors.As(err, &mute):
		a.config.Log.ErrorContext(ctx, "a certificate was not issued", "error", mute)
		return later(problem(http.StatusServiceUnavailable, "%s", mute.Text()), mute.RetryAfter())
	case errors.As(err, &key):
		a.config.Log.ErrorContext(ctx, "a key could not be used", "error", key)
		return later(problem(http.StatusServiceUnavailable, "the server cannot use the key %s at the moment: send the request again, nothing is lost by that", key.Key), keyRetry)
	case errors.As(err, &act) && statuses[act.Problem] != 0:
		return problem(statuses[act.Problem], "%s", act.Text)
	case errors.As(err, &large):
		return tooLarge(large.Limit)
	case errors.Is(err, audit.ErrNotPublished):
		return problem(http.StatusConflict, "%s", audit.ErrNotPublished).with("Retry-After", "5")
	case errors.Is(err, enroll.ErrStale):
		return problem(http.StatusServiceUnavailable, "too many requests change the same things at once: send this one again").with("Retry-After", "1")
	case ctx.Err() != nil:
		// The client is gone, or the server's time limit struck.
		return problem(http.StatusServiceUnavailable, "the request was broken off before it was done: send it again").with("Retry-After", "1")
	case errors.As(err, &wait) && wait.Timeout() && !isOutage(err):
		return problem(http.StatusRequestTimeout, "the request's body did not arrive in time: send it again")
	}
	return a.unknown(ctx, err)
}

// keyRetry is after how long a key in an HSM may be back.
const keyRetry = 5 * time.Second

func busyProblem(e *enroll.BusyError) *Problem {
	status := http.StatusServiceUnavailable
	if e.Share {
		status = http.StatusTooManyRequests
	}
	return later(problem(status, "%s", e.Reason), e.RetryAfter)
}

// later says when a request may come again.
func later(p *Problem, d time.Duration) *Problem {
	return p.with("Retry-After", strconv.Itoa(max(1, int(math.Ceil(d.Seconds())))))
}

// unknown is an error that the client must not see.
func (a *API) unknown(ctx context.Context, err error) *Problem {
	ref := rand.Text()[:13]
	a.config.Log.LogAttrs(ctx, slog.LevelError, "API request failed",
		slog.String("reference", ref), slog.Any("error", err))
	p := problem(http.StatusInternalServerError, "the server failed to do this; its log tells why under the reference %s", ref)
	if isOutage(err) {
		p = problem(http.StatusServiceUnavailable, "the database does not work at the moment: send the request again; the server's log tells more under the reference %s", ref).with("Retry-After", "5")
	}
	p.Reference = ref
	return p
}

// isOutage tells a failure of the database from one of the request.
func isOutage(err error) bool {
	var down interface{ Unavailable() bool }
	return errors.As(err, &down) && down.Unavailable()
}

func linesProblem(e *manifest.LineErrors) *Problem {
	p := problem(http.StatusUnprocessableEntity, "%d things are wrong with the manifest; nothing of it was stored: mend the lines and hand it in again", e.Total)
	p.LineCount = e.Total
	for _, l := range e.List {
		p.Lines = append(p.Lines, LineError{l.Line, l.Text})
	}
	return p
}

func tooLarge(limit int64) *Problem {
	return problem(http.StatusRequestEntityTooLarge, "the request's body is too large: at most %d bytes are accepted here", limit)
}

// shownErrors bounds how many field errors the detail repeats.
const shownErrors = 3

// problemsOnly turns huma's own errors, which are about the request's form,
// into Problems. It leaves out the offending values that huma would repeat,
// whole bodies among them.
func problemsOnly(_ huma.Context, _ string, v any) (any, error) {
	e, ok := v.(*huma.ErrorModel)
	if !ok {
		return v, nil
	}
	p := problem(e.Status, "%s", e.Detail)
	var texts []string
	for _, d := range e.Errors {
		p.Errors = append(p.Errors, FieldError{d.Location, d.Message})
		texts = append(texts, strings.TrimPrefix(d.Location+": "+d.Message, ": "))
	}
	if n := len(texts); n > 0 {
		p.Detail = strings.Join(texts[:min(n, shownErrors)], "; ")
	}
	return p, nil
}
