package idtoken

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	jose "github.com/go-jose/go-jose/v4"

	"github.com/touchmark/touchmark/internal/egress"
)

const (
	// keysLife is how long an issuer's keys are known without being read again,
	// and again how soon they are read again at the earliest: for a key that is
	// new, or after a failure.
	keysLife = time.Hour
	again    = 30 * time.Second
	// fetchTime bounds a request to an issuer, maxDocument its answer.
	fetchTime   = 10 * time.Second
	maxDocument = 1 << 20
	maxIssuers  = 1000
)

// Verifier verifies tokens, and knows the issuers' keys for a while. Make one
// with its fields set; it is safe for concurrent use.
type Verifier struct {
	HTTP *http.Client // [NewClient] makes one that can be let at what others name
	Now  func() time.Time

	mu      sync.Mutex
	issuers map[string]*keySet
}

// UnreachableError says that an issuer's keys could not be read. Who shows the
// token can do nothing about that but try again.
type UnreachableError struct {
	Issuer string
	Err    error
}

func (e *UnreachableError) Error() string {
	return fmt.Sprintf("the keys of the issuer %s cannot be read: %v", e.Issuer, e.Err)
}

func (e *UnreachableError) Unwrap() error { return e.Err }

// keySet is what an issuer's keys were when they were read last.
type keySet struct {
	busy chan struct{} // holds one token: the right to look at the rest
	keys map[string]jose.JSONWebKey
	read time.Time // successfully
	last time.Time // an attempt
	err  error     // of it
}

// key is an issuer's key of a name.
func (v *Verifier) key(ctx context.Context, issuer, kid string) (key jose.JSONWebKey, err error) {
	set := v.set(issuer)
	select {
	case set.busy <- struct{}{}:
		defer func() { <-set.busy }()
	case <-ctx.Done():
		return key, ctx.Err()
	}
	key, known := set.keys[kid]
	now := v.Now()
	fresh := !set.read.IsZero() && now.Sub(set.read) < keysLife
	if known && fresh {
		return key, nil
	}
	if set.last.IsZero() || now.Sub(set.last) >= again || now.Before(set.last) {
		set.last = now
		var keys map[string]jose.JSONWebKey
		if keys, set.err = v.fetch(ctx, issuer); set.err == nil {
			set.keys, set.read, fresh = keys, now, true
		}
		key, known = set.keys[kid]
	}
	switch {
	case known && fresh:
		return key, nil
	case set.err != nil:
		return key, &UnreachableError{issuer, set.err}
	}
	return key, refused("%s has no key %q, as far as is known since %s", issuer, kid, set.read.UTC().Format(time.RFC3339))
}

func (v *Verifier) set(issuer string) *keySet {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.issuers == nil || len(v.issuers) >= maxIssuers {
		v.issuers = map[string]*keySet{}
	}
	set := v.issuers[issuer]
	if set == nil {
		set = &keySet{busy: make(chan struct{}, 1)}
		v.issuers[issuer] = set
	}
	return set
}

// fetch reads an issuer's keys, from where its discovery document says that
// they are (OpenID Connect Discovery 1.0 §4).
func (v *Verifier) fetch(ctx context.Context, issuer string) (map[string]jose.JSONWebKey, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), fetchTime) // others wait for it, too
	defer cancel()
	var about struct {
		Issuer string `json:"issuer"`
		Keys   string `json:"jwks_uri"`
	}
	if err := v.get(ctx, issuer+"/.well-known/openid-configuration", &about); err != nil {
		return nil, err
	}
	if about.Issuer != issuer {
		return nil, fmt.Errorf("its discovery document is of the issuer %q", about.Issuer)
	}
	if !strings.HasPrefix(about.Keys, "https://") {
		return nil, fmt.Errorf("its keys are at %q: only https is read", about.Keys)
	}
	var list struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := v.get(ctx, about.Keys, &list); err != nil {
		return nil, err
	}
	keys := map[string]jose.JSONWebKey{}
	for _, text := range list.Keys {
		var k jose.JSONWebKey
		if json.Unmarshal(text, &k) == nil && usable(k) == nil { // others are for others
			keys[k.KeyID] = k
		}
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("there is no key at %s that verifies signatures", about.Keys)
	}
	return keys, nil
}

func (v *Verifier) get(ctx context.Context, url string, out any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	req.Header.Set("Accept", "application/json")
	resp, err := v.HTTP.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxDocument))
	switch {
	case err != nil:
		return err
	case resp.StatusCode != http.StatusOK:
		return fmt.Errorf("%s answered %s", url, resp.Status)
	}
	if err := json.Unmarshal(body, out); err != nil {
		return fmt.Errorf("%s answered no JSON that is known: %w", url, err)
	}
	return nil
}

// decode reads JSON without making floats of numbers.
func decode(text []byte, out any) error {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	return d.Decode(out)
}

// NewClient makes the client that asks issuers: only at public addresses and
// those that are allowed, by https, without redirects and proxies. roots are
// what their certificates must lead to; nil is those of the system.
func NewClient(allowed egress.Allowed, roots *x509.CertPool) *http.Client {
	dial := func(ctx context.Context, network, address string) (net.Conn, error) {
		host, _, err := net.SplitHostPort(address)
		if err != nil {
			return nil, err
		}
		d := &net.Dialer{Timeout: fetchTime, Control: egress.Control(func(a netip.Addr) error {
			if egress.Public(a) || allowed.Contains(a) || allowed.Names(host) {
				return nil
			}
			return fmt.Errorf("%s has the address %s, which is not a public one: add it to workloads.allow in the server's configuration if it is your CI", host, a)
		})}
		return d.DialContext(ctx, network, address)
	}
	return &http.Client{
		Timeout:       fetchTime,
		CheckRedirect: func(*http.Request, []*http.Request) error { return errors.New("a redirect is not followed") },
		Transport: &http.Transport{DialContext: dial, TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots},
			DisableKeepAlives: true, TLSHandshakeTimeout: fetchTime, MaxResponseHeaderBytes: 64 << 10, ForceAttemptHTTP2: true},
	}
}
