package device

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// Client speaks EST to one server (RFC 7030, RFC 8951). Its fields are set
// before use.
type Client struct {
	// URL is the server's address, https://HOST:PORT.
	URL string
	// Label is the product's name; "" leaves it out of the path.
	Label string
	// Roots are the only trust anchors: explicit ones, given at the factory
	// (RFC 7030 §3.3.1).
	Roots *x509.CertPool
	// Login, if set, goes with first enrolments, beside the bootstrap
	// certificate or alone.
	Login *Login
	// Transport, if set, makes the transport of each connection from its TLS
	// settings; tests and simulators cut lines there.
	Transport func(*tls.Config) http.RoundTripper
	// Timeout bounds one exchange, from the connection to the last byte of
	// the answer; 0 is 30 seconds. A server that hangs must not hang a device.
	Timeout time.Duration
	// Now is the clock; nil is time.Now.
	Now func() time.Time
}

const defaultTimeout = 30 * time.Second

func (c *Client) now() time.Time {
	if c.Now == nil {
		return time.Now()
	}
	return c.Now()
}

// maxReply bounds an answer, in bytes.
const maxReply = 256 << 10

// defaultRetry is how long to wait when a server does not say.
const defaultRetry = 30 * time.Second

// CACerts fetches the CA certificates. by may be nil; with the official
// credential the request counts as that certificate's use.
func (c *Client) CACerts(ctx context.Context, by *Credential) ([]*x509.Certificate, error) {
	der, err := c.exchange(ctx, http.MethodGet, "cacerts", by, nil)
	if err != nil {
		return nil, err
	}
	certs, err := ParseCertsOnly(der)
	if err != nil {
		return nil, &ReplyError{"cacerts", err}
	}
	return certs, nil
}

// CSRAttributes fetches what a request should hold; none is fine.
func (c *Client) CSRAttributes(ctx context.Context) ([]Attribute, error) {
	der, err := c.exchange(ctx, http.MethodGet, "csrattrs", nil, nil)
	var refused *StatusError
	if errors.As(err, &refused) && refused.Status == http.StatusNotFound {
		return nil, nil // the same as none (RFC 7030 §4.5.2)
	}
	if err != nil || len(der) == 0 {
		return nil, err
	}
	attributes, err := ParseCSRAttributes(der)
	if err != nil {
		return nil, &ReplyError{"csrattrs", err}
	}
	return attributes, nil
}

// Enrol asks for a first certificate on the key that signed csr,
// authenticated by a bootstrap credential or a rig's, by Login with or without
// one. It checks that the answer is one certificate for that key.
func (c *Client) Enrol(ctx context.Context, by *Credential, csr []byte) (*x509.Certificate, error) {
	return c.enrol(ctx, "simpleenroll", by, csr)
}

// Reenrol renews the certificate of by.
func (c *Client) Reenrol(ctx context.Context, by *Credential, csr []byte) (*x509.Certificate, error) {
	return c.enrol(ctx, "simplereenroll", by, csr)
}

func (c *Client) enrol(ctx context.Context, op string, by *Credential, csr []byte) (*x509.Certificate, error) {
	request, err := x509.ParseCertificateRequest(csr)
	if err != nil {
		return nil, fmt.Errorf("%s: own request: %w", op, err)
	}
	der, err := c.exchange(ctx, http.MethodPost, op, by, csr)
	if err != nil {
		return nil, err
	}
	certs, err := ParseCertsOnly(der)
	switch {
	case err != nil:
	case len(certs) != 1:
		err = fmt.Errorf("it holds %d certificates instead of one (RFC 7030 §4.2.3)", len(certs))
	case !sameKey(request.PublicKey, certs[0].PublicKey):
		err = errors.New("the certificate is for another key")
	}
	if err != nil {
		return nil, &ReplyError{op, err}
	}
	return certs[0], nil
}

// exchange does one request on a connection of its own and returns the
// decoded body.
func (c *Client) exchange(ctx context.Context, method, op string, by *Credential, der []byte) ([]byte, error) {
	timeout := c.Timeout
	if timeout == 0 {
		timeout = defaultTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, c.path(op), bytes.NewReader(encodeBody(der)))
	if err != nil {
		return nil, err
	}
	if method == http.MethodPost {
		request.Header.Set("Content-Type", "application/pkcs10")
		request.Header.Set("Content-Transfer-Encoding", "base64")
	}
	if c.Login != nil && op == "simpleenroll" {
		request.SetBasicAuth(c.Login.User, c.Login.Code)
	}
	response, body, err := c.roundTrip(op, request, by)
	if err != nil {
		return nil, err
	}
	return c.read(op, response, body)
}

// roundTrip sends a request on a connection of its own and reads the answer
// to its end.
func (c *Client) roundTrip(op string, request *http.Request, by *Credential) (*http.Response, []byte, error) {
	transport := c.transport(by)
	if t, ok := transport.(*http.Transport); ok {
		defer t.CloseIdleConnections()
	}
	response, err := transport.RoundTrip(request)
	if err != nil {
		return nil, nil, c.failure(op, err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxReply+1))
	if err != nil {
		return nil, nil, &LineError{op, fmt.Errorf("the answer broke off: %w", err)}
	}
	if len(body) > maxReply {
		return nil, nil, &ReplyError{op, fmt.Errorf("it is longer than %d bytes", maxReply)}
	}
	return response, body, nil
}

func (c *Client) path(op string) string {
	path := strings.TrimSuffix(c.URL, "/") + "/.well-known/est/"
	if c.Label != "" {
		path += c.Label + "/"
	}
	return path + op
}

func (c *Client) transport(by *Credential) http.RoundTripper {
	cfg := &tls.Config{RootCAs: c.Roots, MinVersion: tls.VersionTLS12, Time: c.Now}
	if by.Leaf() != nil {
		cert := by.TLS()
		// Whatever CAs the server names, this is the certificate to show.
		cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return cert, nil }
	}
	if c.Transport != nil {
		return c.Transport(cfg)
	}
	return &http.Transport{TLSClientConfig: cfg, DisableKeepAlives: true, Proxy: http.ProxyFromEnvironment}
}

// failure tells a server that is not trusted from a line that broke.
func (c *Client) failure(op string, err error) error {
	var bad *tls.CertificateVerificationError
	if errors.As(err, &bad) {
		return &TrustError{c.URL, err}
	}
	return &LineError{op, err}
}

// read turns the status into an error or a body.
func (c *Client) read(op string, r *http.Response, body []byte) ([]byte, error) {
	wait, ok := ParseRetryAfter(r.Header.Get("Retry-After"), c.now())
	switch r.StatusCode {
	case http.StatusOK:
		der, err := decodeBody(body)
		if err != nil {
			return nil, &ReplyError{op, err}
		}
		return der, nil
	case http.StatusNoContent:
		return nil, nil
	case http.StatusAccepted:
		if !ok {
			wait = defaultRetry
		}
		return nil, &PendingError{Op: op, RetryAfter: wait, Text: readable(body)}
	default:
		return nil, &StatusError{Op: op, Status: r.StatusCode, Text: readable(body), RetryAfter: wait}
	}
}
