package webhook

import (
	"context"
	"crypto/x509"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/touchmark/touchmark/internal/events"
	"github.com/touchmark/touchmark/vetting"
)

// Targets says where webhooks may go: by https to public addresses, and
// besides, also by http, to the hosts and networks that the server's
// configuration names. Whoever may create webhooks must not get further into
// the server's network by that than the configuration says.
type Targets struct {
	hosts    []string
	networks []netip.Prefix
}

// NewTargets reads a list of host names, addresses and networks.
func NewTargets(allow []string) (t Targets, err error) {
	for _, text := range allow {
		prefix, err := parseNetwork(text)
		switch {
		case err == nil:
			t.networks = append(t.networks, prefix)
		case text == "" || strings.ContainsAny(text, "/: @*"):
			return t, fmt.Errorf("%q is no host name, address or network: want erp.example.com, 192.0.2.7 or 10.1.0.0/16", text)
		default:
			t.hosts = append(t.hosts, hostName(text))
		}
	}
	return t, nil
}

func parseNetwork(text string) (netip.Prefix, error) {
	if addr, err := netip.ParseAddr(text); err == nil {
		addr = addr.Unmap()
		return netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	p, err := netip.ParsePrefix(text)
	return p.Masked(), err
}

func hostName(host string) string { return strings.TrimSuffix(strings.ToLower(host), ".") }

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
	if u.Scheme == "http" && !t.names(u.Hostname()) && len(t.networks) == 0 {
		return nil, fmt.Errorf("the URL is http, which anybody on the way can read and change: use https, or have the server's operator add %q to events.allow_targets", u.Hostname())
	}
	return u, nil
}

func (t Targets) names(host string) bool { return slices.Contains(t.hosts, hostName(host)) }

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
	if t.names(u.Hostname()) {
		return nil
	}
	real := embedded(a)
	if slices.ContainsFunc(t.networks, func(p netip.Prefix) bool { return p.Contains(real) }) {
		return nil
	}
	if !public(real) {
		return fmt.Errorf("%s has the address %s, which is not a public one: have the server's operator add the host or network to events.allow_targets if webhooks shall reach it", u.Hostname(), a)
	}
	if u.Scheme != "https" {
		return fmt.Errorf("%s has the public address %s, to which http is not allowed: use https", u.Hostname(), a)
	}
	return nil
}

// control is a net.Dialer's: it sees the address that is about to be
// connected to, whatever name led there.
func (t Targets) control(u *url.URL) func(network, address string, _ syscall.RawConn) error {
	return func(_, address string, _ syscall.RawConn) error {
		to, err := netip.ParseAddrPort(address)
		if err != nil {
			return fmt.Errorf("%s is not an address: %w", address, err)
		}
		return t.admits(u, to.Addr())
	}
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

// embedded gives the IPv4 address inside of an IPv6 one that leads there:
// IPv4-mapped, NAT64 (RFC 6052 §2.1), 6to4 (RFC 3056 §2). Others it gives as
// they are, without their zone.
func embedded(a netip.Addr) netip.Addr {
	a = a.Unmap().WithZone("")
	b := a.As16()
	switch {
	case nat64.Contains(a):
		return netip.AddrFrom4([4]byte(b[12:16]))
	case sixToFour.Contains(a):
		return netip.AddrFrom4([4]byte(b[2:6]))
	}
	return a
}

var (
	nat64     = netip.MustParsePrefix("64:ff9b::/96")
	sixToFour = netip.MustParsePrefix("2002::/16")
	global6   = netip.MustParsePrefix("2000::/3")
)

// notPublic are the addresses that are no way out into the internet: IANA's
// special-purpose registries (RFC 6890), multicast, and what clouds serve
// their machines' credentials on.
var notPublic = prefixes(
	"0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24",
	"192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
	"168.63.129.16/32",                        // Azure's own services, a public address on paper
	"2001::/23", "2001:db8::/32", "3fff::/20", // IETF protocols (Teredo among them), documentation
)

func prefixes(texts ...string) (list []netip.Prefix) {
	for _, text := range texts {
		list = append(list, netip.MustParsePrefix(text))
	}
	return list
}

// public reports whether an address, as embedded gives it, is one in the
// internet. Of IPv6 only 2000::/3 is (RFC 4291 §2.4).
func public(a netip.Addr) bool {
	if a.Is6() && !global6.Contains(a) {
		return false
	}
	return !slices.ContainsFunc(notPublic, func(p netip.Prefix) bool { return p.Contains(a) })
}
