package device

import (
	"fmt"
	"net/http"
	"strings"
	"time"
)

// StatusError is an answer with a status that grants nothing.
type StatusError struct {
	Op     string // the EST operation, e.g. "simpleenroll"
	Status int
	// Text is what the server says about it, for a person (RFC 8951 §5);
	// empty if it said nothing readable.
	Text string
	// RetryAfter is when the server wants to be asked again; 0 if it did
	// not say.
	RetryAfter time.Duration
}

func (e *StatusError) Error() string {
	text := e.Text
	if text == "" {
		text = "the server gave no reason"
	}
	return fmt.Sprintf("%s: %d %s: %s", e.Op, e.Status, http.StatusText(e.Status), text)
}

// Final reports whether asking the same again is pointless: the server
// understood the request and refused it, and did not say when to come again.
func (e *StatusError) Final() bool {
	if e.RetryAfter > 0 {
		return false
	}
	switch e.Status {
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
		return false
	case http.StatusNotImplemented, http.StatusHTTPVersionNotSupported:
		return true
	}
	return e.Status < 500
}

// PendingError is a 202: the request is held until a person decides or a
// condition comes true (RFC 7030 §4.2.3).
type PendingError struct {
	Op         string
	RetryAfter time.Duration
	Text       string
}

func (e *PendingError) Error() string {
	s := fmt.Sprintf("%s: held; ask again in %s", e.Op, e.RetryAfter.Round(time.Second))
	if e.Text != "" {
		s += ": " + e.Text
	}
	return s
}

// ReplyError is an answer with status 200 that the device does not accept.
type ReplyError struct {
	Op  string
	Err error
}

func (e *ReplyError) Error() string {
	return fmt.Sprintf("%s: the server's answer is not acceptable: %v", e.Op, e.Err)
}

func (e *ReplyError) Unwrap() error { return e.Err }

// LineError says that no answer came: the server is away, the line broke, or
// it took too long. The server may have worked on the request all the same.
type LineError struct {
	Op  string
	Err error
}

func (e *LineError) Error() string { return fmt.Sprintf("%s: no answer: %v", e.Op, e.Err) }

func (e *LineError) Unwrap() error { return e.Err }

// TrustError says that the server could not be authenticated: its
// certificate does not lead to the trust anchor that the device was given,
// or is for another name.
type TrustError struct {
	Server string
	Err    error
}

func (e *TrustError) Error() string {
	return fmt.Sprintf("the server at %s is not the one this device trusts: %v", e.Server, e.Err)
}

func (e *TrustError) Unwrap() error { return e.Err }

// readable makes a server's text fit for a log line: one line, no control
// characters, bounded.
func readable(b []byte) string {
	const longest = 2000
	s := strings.ToValidUTF8(string(b), "�")
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, s)
	s = strings.Join(strings.Fields(s), " ")
	if len(s) > longest {
		s = strings.ToValidUTF8(s[:longest], "") + "…"
	}
	return s
}
