// Package egress says which addresses the server may connect to where somebody
// else says where to: public ones, and those that its configuration names. A
// webhook or a name to be proved must not lead further into the server's network
// than that.
package egress

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"syscall"
)

// Allowed are the hosts and networks that a configuration names.
type Allowed struct {
	hosts    []string
	networks []netip.Prefix
}

// Parse reads a list of host names, addresses and networks.
func Parse(list []string) (a Allowed, err error) {
	for _, text := range list {
		prefix, err := parseNetwork(text)
		switch {
		case err == nil:
			a.networks = append(a.networks, prefix)
		case text == "" || strings.ContainsAny(text, "/: @*"):
			return a, fmt.Errorf("%q is no host name, address or network: want erp.example.com, 192.0.2.7 or 10.1.0.0/16", text)
		default:
			a.hosts = append(a.hosts, hostName(text))
		}
	}
	return a, nil
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

// Names reports whether a host is named, whatever its address.
func (a Allowed) Names(host string) bool { return slices.Contains(a.hosts, hostName(host)) }

// Networks reports whether any network is named.
func (a Allowed) Networks() bool { return len(a.networks) > 0 }

// Contains reports whether an address, or the IPv4 one that it leads to, is in
// a network that is named.
func (a Allowed) Contains(addr netip.Addr) bool {
	addr = embedded(addr)
	return slices.ContainsFunc(a.networks, func(p netip.Prefix) bool { return p.Contains(addr) })
}

// Public reports whether an address, or the IPv4 one that it leads to, is one in
// the internet.
func Public(addr netip.Addr) bool { return public(embedded(addr)) }

// Control makes a net.Dialer's: it sees the address that is about to be
// connected to, whatever name led there, and whatever the name led to before.
func Control(admits func(netip.Addr) error) func(network, address string, _ syscall.RawConn) error {
	return func(_, address string, _ syscall.RawConn) error {
		to, err := netip.ParseAddrPort(address)
		if err != nil {
			return fmt.Errorf("%s is not an address: %w", address, err)
		}
		return admits(to.Addr())
	}
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
