// Package acmetest plays devices that enrol over ACME by device-attest-01, and
// the maker of their chips. Its client does what a good one does, and sends a
// request once more when it is told to.
package acmetest

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/go-jose/go-jose/v4"
)

// Client is an account at an ACME server. Its exported fields are set once,
// before Open; it is for one goroutine.
type Client struct {
	HTTP      *http.Client
	Directory string // URL
	// Again says whether a request that failed is sent once more, with another
	// nonce; nil is never.
	Again func(error) bool

	key        *ecdsa.PrivateKey
	thumbprint string
	kid, nonce string
	directory  struct{ NewNonce, NewAccount, NewOrder string }
}

// Refused is an answer that is no success.
type Refused struct {
	Status int
	Text   string
}

func (e *Refused) Error() string { return fmt.Sprintf("status %d: %s", e.Status, e.Text) }

// Invalid is an order that came to nothing.
type Invalid struct{ Serial, Text string }

func (e *Invalid) Error() string {
	return fmt.Sprintf("the order for %s is invalid: %s", e.Serial, e.Text)
}

// Open opens an account.
func (c *Client) Open(ctx context.Context) (err error) {
	if c.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return err
	}
	print, err := (&jose.JSONWebKey{Key: c.key.Public()}).Thumbprint(5) // SHA-256
	if err != nil {
		return err
	}
	c.thumbprint = base64.RawURLEncoding.EncodeToString(print)
	text, _, err := c.ask(ctx, http.MethodGet, c.Directory, nil)
	for c.again(err) {
		text, _, err = c.ask(ctx, http.MethodGet, c.Directory, nil)
	}
	if err == nil {
		err = json.Unmarshal(text, &c.directory)
	}
	if err == nil {
		c.kid, err = c.post(ctx, c.directory.NewAccount, map[string]any{"termsOfServiceAgreed": true}, nil)
	}
	return err
}

// order is an order as its client sees it.
type order struct {
	Authorizations                []string
	Status, Finalize, Certificate string
	Error                         json.RawMessage
}

// Enrol is the whole way to a certificate, which it returns in PEM, with those
// above it: five signed requests, if nothing comes in between. An *Invalid
// order is one that the server decided against.
func (c *Client) Enrol(ctx context.Context, d Device) ([]byte, error) {
	var o order
	at, err := c.post(ctx, c.directory.NewOrder, map[string]any{"identifiers": []any{map[string]string{"type": "permanent-identifier", "value": d.Serial}}}, &o)
	if err != nil {
		return nil, err
	}
	if err := c.proves(ctx, d, o.Authorizations[0]); err != nil {
		return nil, err
	}
	if _, err := c.post(ctx, o.Finalize, map[string]string{"csr": d.csr}, &o); err != nil {
		return nil, err
	}
	for o.Status == "processing" {
		if _, err := c.post(ctx, at, nil, &o); err != nil {
			return nil, err
		}
	}
	if o.Status != "valid" {
		return nil, &Invalid{d.Serial, string(o.Error)}
	}
	var chain []byte
	_, err = c.post(ctx, o.Certificate, nil, &chain)
	return chain, err
}

// proves meets the challenge of an authorization.
func (c *Client) proves(ctx context.Context, d Device, authorization string) error {
	var z struct{ Challenges []struct{ URL, Token string } }
	if _, err := c.post(ctx, authorization, nil, &z); err != nil {
		return err
	}
	statement, err := d.statement(z.Challenges[0].Token + "." + c.thumbprint)
	if err != nil {
		return err
	}
	var met struct {
		Status string
		Error  json.RawMessage
	}
	if _, err := c.post(ctx, z.Challenges[0].URL, map[string]string{"attObj": statement}, &met); err != nil {
		return err
	}
	if met.Status != "valid" {
		return &Invalid{d.Serial, string(met.Error)}
	}
	return nil
}

// post signs a request and sends it, and again where that is wanted; a nil
// payload is a POST-as-GET. It gives the answer's Location.
func (c *Client) post(ctx context.Context, url string, payload, into any) (location string, err error) {
	body := []byte{}
	if payload != nil {
		if body, err = json.Marshal(payload); err != nil {
			return "", err
		}
	}
	for {
		text, location, err := c.try(ctx, url, body)
		if c.again(err) {
			c.nonce = ""
			continue
		}
		switch raw, ok := into.(*[]byte); {
		case err != nil || into == nil:
		case ok:
			*raw = text
		default:
			err = json.Unmarshal(text, into)
		}
		return location, err
	}
}

func (c *Client) again(err error) bool { return err != nil && c.Again != nil && c.Again(err) }

func (c *Client) try(ctx context.Context, url string, body []byte) (text []byte, location string, err error) {
	if c.nonce == "" {
		if _, _, err := c.ask(ctx, http.MethodHead, c.directory.NewNonce, nil); err != nil {
			return nil, "", err
		}
	}
	options := new(jose.SignerOptions).WithHeader("url", url).WithHeader("nonce", c.nonce)
	if c.kid != "" {
		options.WithHeader("kid", c.kid)
	} else {
		options.WithHeader("jwk", jose.JSONWebKey{Key: c.key.Public()})
	}
	s, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: c.key}, options)
	if err != nil {
		return nil, "", err
	}
	jws, err := s.Sign(body)
	if err != nil {
		return nil, "", err
	}
	return c.ask(ctx, http.MethodPost, url, []byte(jws.FullSerialize()))
}

func (c *Client) ask(ctx context.Context, method, url string, body []byte) (text []byte, location string, err error) {
	request, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(body))
	if err != nil {
		return nil, "", err
	}
	request.Header.Set("Content-Type", "application/jose+json")
	response, err := c.HTTP.Do(request)
	if err != nil {
		return nil, "", err
	}
	text, err = io.ReadAll(response.Body)
	if err = errors.Join(err, response.Body.Close()); err == nil && response.StatusCode >= 300 {
		err = &Refused{response.StatusCode, string(text)}
	}
	c.nonce = response.Header.Get("Replay-Nonce")
	return text, response.Header.Get("Location"), err
}
