package webhook

import (
	"context"
	"crypto/x509"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"syscall"
	"time"

	"github.com/touchmark/touchmark/internal/egress"
	"github.com/touchmark/touchmark/internal/events"
	"github.com/touchmark/touchmark/vetting"
)

// Targets says where webhooks may go: by https to public addresses, and
// besides, also by http, to the hosts and networks that the server's
// configuration names. Whoever may create webhooks must not get further into
// the server's network by that than the configuration says.
type Targets struct{ allowed egress.Allowed }

// NewTargets reads a list of host names, addresses and networks.
func NewTargets(allow []string) (Targets, error) {
	a, err := egress.Parse(allow)
	return Targets{a}, err
}

// maxURL is the longest address, in bytes.
const maxURL = 2000

// parse reads a target's address.
func (t Targets) parse(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	switch {
	case len(text) > maxURL:
		return nil, fmt.Errorf("the URL has %d bytes: at most %d are taken", len(text), maxURL)
	case err != nil:
		return nil, fmt.Errorf("the URL cannot be read: want https://HOST/PATH")
	case u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.Hostname() == "":
		return nil, fmt.Errorf("the URL begins with %q: want https://HOST/PATH", u.Scheme+"://"+u.Host)
	case u.User != nil:
		return nil, fmt.Errorf("the URL holds a user name or password: leave them out; the receiver verifies the signature instead")
	case u.Fragment != "":
		return nil, fmt.Errorf("the URL holds a fragment (#%s), which is never sent: leave it out", u.Fragment)
	}
	if port := u.Port(); port != "" {
		if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
			return nil, fmt.Errorf("the URL names the port %q: want 1 to 65535", port)
		}
	}
	if u.Scheme == "http" && !t.allowed.Names(u.Hostname()) && !t.allowed.Networks() {
		return nil, fmt.Errorf("the URL is http, which anybody on the way can read and change: use https, or have the server's operator add %q to events.allow_targets", u.Hostname())
	}
	return u, nil
}

// lookupTime bounds the question to the DNS when a webhook is created.
const lookupTime = 3 * time.Second

// Check reports what is wrong with a target, as far as can be told before
// the first delivery. The error is a *vetting.Error, Invalid.
func (t Targets) Check(ctx context.Context, target events.Target) error {
	u, err := t.parse(target.URL)
	if err == nil {
		_, err = rootsOf(target.CA)
	}
	if err == nil {
		err = t.resolves(ctx, u)
	}
	if err != nil {
		return vetting.Errorf(vetting.Invalid, "%v", err)
	}
	return nil
}

// resolves refuses a name all of whose addresses are refused. One that has no
// address now may get one; each connection is checked anyway.
func (t Targets) resolves(ctx context.Context, u *url.URL) error {
	ctx, cancel := context.WithTimeout(ctx, lookupTime)
	defer cancel()
	addresses, err := net.DefaultResolver.LookupNetIP(ctx, "ip", u.Hostname())
	if err != nil || len(addresses) == 0 {
		return nil
	}
	var refused error
	for _, a := range addresses {
		if refused = t.admits(u, a); refused == nil {
			return nil
		}
	}
	return refused
}

// admits reports why a connection to an address may not be made.
func (t Targets) admits(u *url.URL, a netip.Addr) error {
	if t.allowed.Names(u.Hostname()) || t.allowed.Contains(a) {
		return nil
	}
	if !egress.Public(a) {
		return fmt.Errorf("%s has the address %s, which is not a public one: have the server's operator add the host or network to events.allow_targets if webhooks shall reach it", u.Hostname(), a)
	}
	if u.Scheme != "https" {
		return fmt.Errorf("%s has the public address %s, to which http is not allowed: use https", u.Hostname(), a)
	}
	return nil
}

func (t Targets) control(u *url.URL) func(network, address string, _ syscall.RawConn) error {
	return egress.Control(func(a netip.Addr) error { return t.admits(u, a) })
}

func rootsOf(ca string) (*x509.CertPool, error) {
	if ca == "" {
		return nil, nil // those of the system
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM([]byte(ca)) {
		return nil, fmt.Errorf("the CA holds no certificate in PEM")
	}
	return pool, nil
}
