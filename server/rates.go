package server

import (
	"net"
	"net/netip"
	"sync"
	"time"
)

// rates bounds how often each of many keys may do something: so many times a
// second, and a burst after a rest. It is the generic cell rate algorithm
// (ITU-T I.371): a key's whole state is the time at which it will have used
// up what it took.
//
// Its memory is bounded: keys live in two generations, and when the younger
// has grown to half the bound, the older is forgotten. Who is forgotten starts
// with a full burst; to make use of that a client needs as many addresses as
// the bound, and then no limit by address holds it anyway.
type rates[K comparable] struct {
	every time.Duration // between two; 0 is without bound
	burst time.Duration // how far ahead of the clock a key may be
	most  int
	now   func() time.Time

	mu             sync.Mutex
	younger, older map[K]time.Time
}

// mostKeys bounds a limiter to a few megabytes.
const mostKeys = 1 << 16

// newRates allows perSecond, and at a time twice as many, but at least
// leastBurst. The clock is not the injected one: this is about real load, and
// must not stall when the clock is set.
func newRates[K comparable](perSecond int) *rates[K] {
	r := &rates[K]{most: mostKeys, now: time.Now, younger: map[K]time.Time{}}
	if perSecond > 0 {
		r.every = time.Second / time.Duration(perSecond)
		r.burst = r.every * time.Duration(max(2*perSecond, leastBurst))
	}
	return r
}

// leastBurst lets a client that does a few things in a row do them.
const leastBurst = 20

// take reports whether key may do it once more now, and if not, when.
func (r *rates[K]) take(key K) (wait time.Duration, ok bool) { return r.ask(key, r.put) }

// room reports what take would, and takes nothing.
func (r *rates[K]) room(key K) (wait time.Duration, ok bool) {
	return r.ask(key, func(K, time.Time) {})
}

func (r *rates[K]) ask(key K, put func(K, time.Time)) (wait time.Duration, ok bool) {
	if r.every == 0 {
		return 0, true
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.now()
	until := r.get(key)
	if until.Before(now) {
		until = now
	}
	until = until.Add(r.every)
	if ahead := until.Sub(now); ahead > r.burst {
		return ahead - r.burst, false
	}
	put(key, until)
	return 0, true
}

func (r *rates[K]) get(key K) time.Time {
	if t, ok := r.younger[key]; ok {
		return t
	}
	return r.older[key]
}

func (r *rates[K]) put(key K, t time.Time) {
	if _, ok := r.younger[key]; !ok && len(r.younger) >= r.most/2 {
		r.older, r.younger = r.younger, make(map[K]time.Time, r.most/2)
	}
	r.younger[key] = t
}

// neighbourhood is what counts as one client: an IPv4 address, or the /64
// that one customer has of IPv6.
func neighbourhood(a netip.Addr) netip.Prefix {
	a = a.Unmap().WithZone("")
	bits := a.BitLen()
	if a.Is6() {
		bits = 64
	}
	p, err := a.Prefix(bits)
	if err != nil { // the zero address: all such share one place
		return netip.Prefix{}
	}
	return p
}

// networks is a list of addresses and networks.
type networks []netip.Prefix

func (n networks) hold(p netip.Prefix) bool {
	for _, net := range n {
		if net.Contains(p.Addr()) {
			return true
		}
	}
	return false
}

// addressOf is the client's neighbourhood.
func addressOf(a net.Addr) netip.Prefix {
	if t, ok := a.(*net.TCPAddr); ok {
		return neighbourhood(t.AddrPort().Addr())
	}
	return netip.Prefix{}
}

// parseNetwork reads an address or a network.
func parseNetwork(text string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(text); err == nil {
		a = a.Unmap()
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	return netip.ParsePrefix(text)
}
