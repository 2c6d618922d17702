package server

import (
	"net/netip"
	"time"

	"github.com/touchmark/touchmark/vetting"
)

// guesses bounds how often enrolment codes that do not count are presented,
// by one address and for one serial number. A code that counts costs nothing.
// What is asked for at the same time is judged by what failed before, so that
// a line behind one address may enrol as many devices at once as it likes.
type guesses struct {
	addresses *rates[netip.Prefix]
	serials   *rates[string]
	exempt    networks
}

func newGuesses(perSecond int, exempt networks) *guesses {
	return &guesses{addresses: newRates[netip.Prefix](perSecond), serials: newRates[string](perSecond), exempt: exempt}
}

// wait tells how long a claim with a code has to wait, if it has to.
func (g *guesses) wait(c *vetting.Claim) (time.Duration, bool) {
	if home, ok := g.home(c); ok {
		if wait, ok := g.addresses.room(home); !ok {
			return wait, true
		}
	}
	if serial := c.Asserted.Serial; serial != "" {
		if wait, ok := g.serials.room(serial); !ok {
			return wait, true
		}
	}
	return 0, false
}

// failed counts a claim whose code did not count.
func (g *guesses) failed(c *vetting.Claim) {
	if home, ok := g.home(c); ok {
		g.addresses.take(home)
	}
	if serial := c.Asserted.Serial; serial != "" {
		g.serials.take(serial)
	}
}

// home is the address that a claim is counted under, if it is.
func (g *guesses) home(c *vetting.Claim) (netip.Prefix, bool) {
	a, err := netip.ParseAddr(c.Remote)
	if err != nil {
		return netip.Prefix{}, false
	}
	home := neighbourhood(a)
	return home, !g.exempt.hold(home)
}
