package webhook

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/touchmark/touchmark/internal/events"
)

// Message is the body of a delivery.
type Message struct {
	Version int            `json:"version" doc:"The version of this form: 1. Fields may be added to it"`
	Webhook string         `json:"webhook" doc:"The webhook's name"`
	Events  []events.Event `json:"events" nullable:"false" doc:"The events in their order; none in a test"`
}

// Bounds of one delivery.
const (
	maxEvents   = 500
	readAhead   = 10 * maxEvents // events read at once: a leaf of a manifest has thousands
	maxBody     = 768 << 10      // many servers take no more than a MiB
	maxHeader   = 16 << 10       // of an answer
	maxAnswer   = 4 << 10        // that is read of an answer's body
	dialTime    = 5 * time.Second
	answerTime  = 20 * time.Second // for all of it
	readingTime = 2 * time.Second  // for the answer's body, which says nothing
)

// pack makes the body of as many of the events as fit, at least one.
func pack(name string, list []events.Event) (body []byte, n int) {
	for n = len(list); ; n = max(1, n/2) {
		body, err := json.Marshal(Message{1, name, list[:n]})
		if err != nil { // a programming error: events always marshal
			panic(fmt.Sprintf("webhook: message: %v", err))
		}
		if len(body) <= maxBody || n <= 1 {
			return body, n
		}
	}
}

// courier brings messages to one webhook.
type courier struct {
	hook    *events.Webhook
	url     *url.URL
	client  *http.Client
	secrets Secrets
	now     func() time.Time
}

func newCourier(hook *events.Webhook, targets Targets, secrets Secrets, now func() time.Time) (*courier, error) {
	u, err := targets.parse(hook.URL)
	if err != nil {
		return nil, err
	}
	roots, err := rootsOf(hook.CA)
	if err != nil {
		return nil, err
	}
	dialer := &net.Dialer{Timeout: dialTime, Control: targets.control(u)}
	return &courier{hook: hook, url: u, secrets: secrets, now: now, client: &http.Client{
		Timeout: answerTime,
		// A redirect leads where nobody said that events may go.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			// No proxy: it would connect where the dialer cannot look.
			DialContext: dialer.DialContext, TLSHandshakeTimeout: dialTime,
			TLSClientConfig:     &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
			MaxIdleConnsPerHost: 1, IdleConnTimeout: 30 * time.Second,
			MaxResponseHeaderBytes: maxHeader, DisableCompression: true,
		},
	}}, nil
}

func (c *courier) close() { c.client.CloseIdleConnections() }

// answerError is a status that is not one of success.
type answerError struct {
	status int
	after  time.Duration // Retry-After
}

func (e *answerError) Error() string {
	text := fmt.Sprintf("the target answered %d %s", e.status, http.StatusText(e.status))
	if e.status >= 300 && e.status < 400 {
		text += ", a redirect, which is never followed: have the webhook's URL name the place itself"
	}
	return text
}

// bring sends one message and waits for a status of success (2xx).
func (c *courier) bring(ctx context.Context, id string, body []byte) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url.String(), bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "touchmark")
	c.secrets.sign(req.Header, c.hook, id, c.now(), body)
	resp, err := c.client.Do(req)
	if err != nil {
		return reason(err)
	}
	defer resp.Body.Close()
	// The rest is read for the next message's sake, who can use the
	// connection then; a target that makes it long loses that.
	defer time.AfterFunc(readingTime, cancel).Stop()
	_, _ = io.CopyN(io.Discard, resp.Body, maxAnswer)
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return &answerError{resp.StatusCode, retryAfter(resp.Header.Get("Retry-After"), c.now())}
	}
	return nil
}

// reason says what went wrong without repeating the URL, which may hold
// something that is not for logs.
func reason(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		if u.Timeout() {
			return fmt.Errorf("the target did not answer within %s", answerTime)
		}
		return u.Err
	}
	return err
}

// retryAfter reads a Retry-After (RFC 9110 §10.2.3); 0 if there is none.
func retryAfter(text string, now time.Time) time.Duration {
	if seconds, err := strconv.ParseInt(text, 10, 32); err == nil {
		return time.Duration(max(0, seconds)) * time.Second
	}
	if at, err := http.ParseTime(text); err == nil {
		return max(0, at.Sub(now))
	}
	return 0
}
