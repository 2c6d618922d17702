package challenge

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/smallstep/certificates/acme"

	door "github.com/touchmark/touchmark/enroll/acme"
	"github.com/touchmark/touchmark/enroll/certorder"
	"github.com/touchmark/touchmark/internal/egress"
)

// Reach is how the servers are reached whose names are to be proved (RFC 8555
// §8.3, §8.4, RFC 8737): at public addresses, and those that are allowed
// besides, whatever names and redirects lead there.
type Reach struct {
	Allowed egress.Allowed
	// Resolver is the address of the DNS server that is asked, "HOST:PORT";
	// empty is the system's.
	Resolver string
	// HTTPPort and TLSPort stand in for 80 and 443; 0 is those.
	HTTPPort, TLSPort int
	// Log is told where connections failed to, which clients are not.
	Log *slog.Logger
}

// Bounds of one visit.
const (
	visitTime    = 10 * time.Second
	connectTime  = 5 * time.Second
	maxRedirects = 10
	maxAnswer    = 4 << 10 // bytes; a key authorization has under a hundred
	maxHeader    = 16 << 10
)

// visit validates a challenge by looking at the server or its zone. What the
// server answered goes into no problem: it may be anything inside the network.
func (r *Reach) visit(ctx context.Context, t door.Trial) error {
	ctx, cancel := context.WithTimeout(ctx, visitTime)
	defer cancel()
	v := &visitor{ctx: ctx, reach: r, trial: t}
	_, err := run(acme.NewClientContext(ctx, v), t)
	found := new(certorder.Problem)
	switch {
	case v.failed != nil:
		return v.failed
	case !errors.As(err, &found):
		return err
	case t.Type == certorder.HTTP01:
		return incorrect("what http://%s/.well-known/acme-challenge/%s answers is not the key authorization", t.Identifier.Value, t.Token)
	case t.Type == certorder.DNS01:
		return incorrect("no TXT record of _acme-challenge.%s is the digest of the key authorization", strings.TrimPrefix(t.Identifier.Value, "*."))
	}
	return incorrect("%s", found.Detail)
}

func incorrect(format string, args ...any) error {
	return refuse("incorrectResponse", format, args...)
}

// visitor is the library's view of the network during one validation.
type visitor struct {
	ctx   context.Context
	reach *Reach
	trial door.Trial
	// redirected says that the client's server named where to go.
	redirected bool
	failed     error
}

// fail notes why the visit failed, as the client is told, and in the log as it
// is.
func (v *visitor) fail(kind string, err error) error {
	v.reach.Log.InfoContext(v.ctx, "a challenge could not be validated", "type", v.trial.Type, "name", v.trial.Identifier.Value, "error", err)
	what := v.trial.Identifier.Value
	if v.redirected {
		what = "what it redirects to"
	}
	v.failed = refuse(kind, "%s: %s", what, v.say(err))
	return v.failed
}

// errForbidden says that the server may not connect to an address.
var errForbidden = errors.New("it has an address that this server may not connect to: its operator can allow that (acme.servers.allow)")

// say is what a client may know of a failure: not the addresses that names
// have inside, and nothing about where its redirects lead.
func (v *visitor) say(err error) string {
	refusal := new(redirectError)
	missing := new(net.DNSError)
	switch {
	case errors.As(err, &refusal):
		return refusal.Error()
	case errors.Is(err, errForbidden):
		return errForbidden.Error()
	case v.redirected:
		return "it cannot be reached"
	case errors.As(err, &missing) && missing.IsNotFound:
		return "the DNS has no such name or record"
	case errors.As(err, &missing):
		return "the DNS did not answer"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "the connection was refused"
	case errors.Is(err, context.DeadlineExceeded), isTimeout(err):
		return "it did not answer in time"
	}
	return "it cannot be reached, or answers wrongly"
}

func isTimeout(err error) bool {
	t, ok := errors.AsType[net.Error](err)
	return ok && t.Timeout()
}

// kindOf is the type of the problem that a failure to reach a server is.
func kindOf(err error) string {
	if _, ok := errors.AsType[*net.DNSError](err); ok {
		return "dns"
	}
	return "connection"
}

// resolver asks the DNS server that is configured.
func (r *Reach) resolver() *net.Resolver {
	if r.Resolver == "" {
		return net.DefaultResolver
	}
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{Timeout: connectTime}).DialContext(ctx, network, r.Resolver)
	}}
}

// rooted keeps the resolver from trying a name within its search domains.
func rooted(name string) string {
	if _, err := netip.ParseAddr(name); err == nil || strings.HasSuffix(name, ".") {
		return name
	}
	return name + "."
}

// dial connects to a host, if its address allows.
func (v *visitor) dial(ctx context.Context, _, address string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	switch r := v.reach; {
	case port == "80" && r.HTTPPort != 0:
		port = strconv.Itoa(r.HTTPPort)
	case port == "443" && r.TLSPort != 0:
		port = strconv.Itoa(r.TLSPort)
	}
	d := &net.Dialer{Timeout: connectTime, Resolver: v.reach.resolver(), Control: egress.Control(func(a netip.Addr) error {
		if !egress.Public(a) && !v.reach.Allowed.Contains(a) && !v.reach.Allowed.Names(host) {
			return fmt.Errorf("%s: %w", a, errForbidden)
		}
		return nil
	})}
	return d.DialContext(ctx, "tcp", net.JoinHostPort(rooted(host), port))
}

// redirectError is a redirect that is not followed.
type redirectError struct{ text string }

func (e *redirectError) Error() string { return e.text }

// follow bounds redirects (RFC 8555 §8.3).
func (v *visitor) follow(to *http.Request, via []*http.Request) error {
	v.redirected = true
	switch u := to.URL; {
	case len(via) > maxRedirects:
		return &redirectError{fmt.Sprintf("there are more than %d redirects", maxRedirects)}
	case u.Scheme != "http" && u.Scheme != "https" || u.User != nil:
		return &redirectError{"the redirect is to neither http nor https, or holds a password"}
	case !usual(u):
		return &redirectError{"the redirect is to another port than 80 for http and 443 for https"}
	}
	return nil
}

func usual(u *url.URL) bool {
	port := u.Port()
	return port == "" || port == "80" && u.Scheme == "http" || port == "443" && u.Scheme == "https"
}

// Get implements acme.Client, for http-01.
func (v *visitor) Get(target string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(v.ctx, http.MethodGet, target, http.NoBody)
	if err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", "touchmark")
	transport := &http.Transport{
		// No proxy: it would connect where dial cannot look.
		DialContext: v.dial, TLSHandshakeTimeout: connectTime, DisableKeepAlives: true,
		// What an http server redirects to need not have a certificate yet.
		TLSClientConfig:        &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12}, //nolint:gosec
		MaxResponseHeaderBytes: maxHeader, DisableCompression: true,
	}
	resp, err := (&http.Client{Transport: transport, CheckRedirect: v.follow}).Do(req)
	if err != nil {
		return nil, v.fail(kindOf(err), err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	switch {
	case err != nil:
		return nil, v.fail("connection", err)
	case resp.StatusCode != http.StatusOK || len(body) > maxAnswer:
		v.failed = incorrect("http://%s/.well-known/acme-challenge/%s does not answer with status 200 and at most %d bytes", v.trial.Identifier.Value, v.trial.Token, maxAnswer)
		return nil, v.failed
	}
	resp.Body = io.NopCloser(bytes.NewReader(body))
	return resp, nil
}

// LookupTxt implements acme.Client, for dns-01.
func (v *visitor) LookupTxt(name string) ([]string, error) {
	list, err := v.reach.resolver().LookupTXT(v.ctx, rooted(name))
	if err != nil {
		return nil, v.fail("dns", err)
	}
	return list, nil
}

// TLSDial implements acme.Client, for tls-alpn-01.
func (v *visitor) TLSDial(network, address string, config *tls.Config) (*tls.Conn, error) {
	conn, err := v.dial(v.ctx, network, address)
	if err != nil {
		return nil, v.fail(kindOf(err), err)
	}
	c := tls.Client(conn, config)
	if err := c.HandshakeContext(v.ctx); err != nil {
		conn.Close()
		return nil, v.fail("tls", err)
	}
	return c, nil
}
