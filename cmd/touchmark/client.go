package main

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/touchmark/touchmark/internal/keys"
	"github.com/touchmark/touchmark/server"
	"github.com/touchmark/touchmark/server/api"
)

// client speaks the operators' API.
type client struct {
	base string
	http *http.Client
	key  crypto.Signer // the operator's; nil without a certificate
	// pause waits between attempts.
	pause func(context.Context, time.Duration) error
}

// attempts is how often a request is made that can be repeated safely.
const attempts = 4

func (a *app) client() (*client, error) {
	p, err := a.resolve()
	if err != nil {
		return nil, err
	}
	return newClient(p)
}

func newClient(p server.Profile) (*client, error) {
	u, err := url.Parse(p.Server)
	if err != nil || u.Scheme != "https" || u.Host == "" {
		return nil, usagef("the server's address is %q: want https://HOST:PORT", p.Server)
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if p.CA != "" {
		pem, err := os.ReadFile(p.CA)
		if err != nil {
			return nil, fmt.Errorf("the root certificate (--ca): %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("the root certificate (--ca): %s holds no certificate in PEM", p.CA)
		}
	}
	var key crypto.Signer
	if p.Certificate != "" {
		pair, err := loadPair(p)
		if err != nil {
			return nil, fmt.Errorf("your certificate and key (--cert %s, --key %s): %w", p.Certificate, keys.Redact(p.Key), err)
		}
		config.Certificates = []tls.Certificate{pair}
		key, _ = pair.PrivateKey.(crypto.Signer)
	}
	return &client{
		base: strings.TrimSuffix(p.Server, "/"), pause: pause, key: key,
		http: &http.Client{Transport: &http.Transport{
			TLSClientConfig: config, Proxy: http.ProxyFromEnvironment,
			DialContext:           (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
			TLSHandshakeTimeout:   10 * time.Second,
			ResponseHeaderTimeout: 10 * time.Minute, // a large manifest is checked before it is answered
		}},
	}, nil
}

// loadPair reads the operator's certificate, and opens the key in a file or
// wherever its URI says.
func loadPair(p server.Profile) (tls.Certificate, error) {
	uri := keyURI(p.Key)
	if strings.HasPrefix(uri, "file:") {
		return tls.LoadX509KeyPair(p.Certificate, strings.TrimPrefix(uri, "file:"))
	}
	text, err := os.ReadFile(p.Certificate)
	if err != nil {
		return tls.Certificate{}, err
	}
	cert, err := parsePEM(text)
	if err != nil {
		return tls.Certificate{}, err
	}
	key, err := keys.Ring{}.Open(context.Background(), uri)
	if err != nil {
		return tls.Certificate{}, err
	}
	if public, ok := cert.PublicKey.(interface{ Equal(crypto.PublicKey) bool }); !ok || !public.Equal(key.Public()) {
		return tls.Certificate{}, errors.New("the key is not the certificate's")
	}
	return tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key, Leaf: cert}, nil
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// body makes a request's body anew for each attempt.
type body struct {
	kind string // Content-Type
	open func() (io.ReadCloser, error)
}

func bytesBody(kind string, b []byte) *body {
	return &body{kind, func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b)), nil }}
}

// refusal is an error that the server answered.
type refusal struct {
	status  string
	problem api.Problem
}

func (e *refusal) Error() string {
	p := e.problem
	if p.Detail == "" {
		return "the server answered " + e.status
	}
	var b strings.Builder
	b.WriteString(p.Detail)
	for _, f := range p.Errors {
		fmt.Fprintf(&b, "\n  %s: %s", f.Location, f.Message)
	}
	const most = 50
	for i, l := range p.Lines {
		if i == most {
			break
		}
		fmt.Fprintf(&b, "\n  line %d: %s", l.Line, l.Message)
	}
	if more := max(p.LineCount, int64(len(p.Lines))) - most; more > 0 {
		fmt.Fprintf(&b, "\n  … and %d more", more)
	}
	if p.Reference != "" {
		fmt.Fprintf(&b, "\n  the server's log tells more under the reference %s", p.Reference)
	}
	return b.String()
}

// call makes a request and reads its JSON into out unless that is nil. GET
// and POST are repeated when the network or the server fails: a POST carries
// an idempotency key, so it is done once.
func (c *client) call(ctx context.Context, method, path string, query url.Values, in any, out any) error {
	var b *body
	switch v := in.(type) {
	case nil:
	case *body:
		b = v
	default:
		text, err := json.Marshal(in)
		if err != nil {
			return err
		}
		b = bytesBody("application/json", text)
	}
	u := c.base + path
	if len(query) > 0 {
		u += "?" + query.Encode()
	}
	key := rand.Text()
	wait := 250 * time.Millisecond
	for attempt := 1; ; attempt++ {
		again, err := c.attempt(ctx, method, u, key, b, out)
		if err == nil || !again || attempt == attempts || method != http.MethodGet && method != http.MethodPost || ctx.Err() != nil {
			return err
		}
		var later *laterError
		if errors.As(err, &later) && later.after > 0 {
			wait = min(later.after, 10*time.Second)
		}
		if err := c.pause(ctx, wait); err != nil {
			return err
		}
		wait *= 3
	}
}

// laterError is a refusal that may pass.
type laterError struct {
	error
	after time.Duration
}

func (e *laterError) Unwrap() error { return e.error }

// attempt reports whether another one may help.
func (c *client) attempt(ctx context.Context, method, u, key string, b *body, out any) (again bool, err error) {
	var content io.ReadCloser
	if b != nil {
		if content, err = b.open(); err != nil {
			return false, err
		}
		defer content.Close()
	}
	req, err := http.NewRequestWithContext(ctx, method, u, nil)
	if err != nil {
		return false, err
	}
	if b != nil {
		req.Body = content
		req.Header.Set("Content-Type", b.kind)
	}
	if method == http.MethodPost {
		req.Header.Set("Idempotency-Key", key)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return transient(err), c.unreachable(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode >= 300 {
		return refused(resp)
	}
	switch o := out.(type) {
	case nil:
		_, err = io.Copy(io.Discard, resp.Body)
	case *[]byte:
		*o, err = io.ReadAll(resp.Body)
	default:
		err = json.NewDecoder(resp.Body).Decode(out)
	}
	if err != nil {
		return true, fmt.Errorf("the server's answer broke off: %w", err)
	}
	return false, nil
}

func refused(resp *http.Response) (again bool, err error) {
	text, err := io.ReadAll(io.LimitReader(resp.Body, 8<<20))
	if err != nil {
		return true, fmt.Errorf("the server's answer broke off: %w", err)
	}
	e := &refusal{status: resp.Status}
	if json.Unmarshal(text, &e.problem) != nil {
		e.problem.Detail = strings.TrimSpace(string(text)) // a proxy's words, perhaps
	}
	switch resp.StatusCode {
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		seconds, _ := strconv.Atoi(resp.Header.Get("Retry-After"))
		return true, &laterError{e, time.Duration(seconds) * time.Second}
	}
	return false, e
}

// transient tells a network that may recover from a certificate that does
// not get better.
func transient(err error) bool {
	var verify *tls.CertificateVerificationError
	var alert tls.AlertError
	return !errors.As(err, &verify) && !errors.As(err, &alert)
}

func (c *client) unreachable(err error) error {
	var verify *tls.CertificateVerificationError
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err // its text repeats method and address
	}
	if errors.As(err, &verify) {
		return fmt.Errorf("the certificate of %s is not to be trusted: %w; is --ca the root certificate of this server, and is its name among the server's names?", c.base, verify.Err)
	}
	return fmt.Errorf("cannot reach %s: %w; is the server running, and is this its operators' address (api.listen)?", c.base, err)
}

// api makes a call below the API's base path.
func (c *client) api(ctx context.Context, method, path string, in, out any) error {
	return c.call(ctx, method, api.Base+path, nil, in, out)
}

// page is one page of a list, its entries as they came.
type page struct {
	Items []json.RawMessage `json:"items"`
	Next  string            `json:"next,omitempty"`
}

// list reads up to limit entries, over as many pages as that takes.
func (c *client) list(ctx context.Context, path string, query url.Values, limit int) (page, error) {
	all := page{Items: []json.RawMessage{}}
	q := url.Values{}
	for k, v := range query {
		if len(v) > 0 && v[0] != "" {
			q[k] = v
		}
	}
	for {
		size := 1000
		if limit > 0 {
			size = min(size, limit-len(all.Items))
		}
		q.Set("limit", strconv.Itoa(size))
		var p page
		if err := c.call(ctx, http.MethodGet, api.Base+path, q, nil, &p); err != nil {
			return all, err
		}
		all.Items, all.Next = append(all.Items, p.Items...), p.Next
		if p.Next == "" || limit > 0 && len(all.Items) >= limit {
			return all, nil
		}
		q.Set("cursor", p.Next)
	}
}

// segment escapes a name for a path.
func segment(name string) string { return url.PathEscape(name) }
