package vetting

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Life is a product's policy for what comes after the first certificate:
// activation, renewal, the rescue of devices that slept too long, and what a
// copied key leads to. The zero value renews at any time before the
// certificate's end, and quarantines.
type Life struct {
	// HoldUntilActive lets status responders say certificateHold of a
	// certificate until it was first used, instead of good at once. It counts
	// for certificates that are issued from then on.
	HoldUntilActive bool `json:"holdUntilActive,omitempty"`
	// RenewWindow is that part of a certificate's life, at its end, in which
	// it renews: a share ("33%") or a time ("60d", "12h"); "" is all of it.
	RenewWindow string `json:"renewWindow,omitempty"`
	// Grace is how long after its end a certificate still renews, on the same
	// key; "" is not at all.
	Grace string `json:"grace,omitempty"`
	// Rescue is how long after its end, beyond Grace, a device that asks is
	// held for a person instead of being refused; "" is not at all.
	Rescue string `json:"rescue,omitempty"`
	// OnClone is what happens to a device whose key is seen to have two
	// holders; "" is quarantine.
	OnClone CloneAction `json:"onClone,omitempty"`
}

// CloneAction is what a copied key leads to.
type CloneAction string

const (
	// CloneQuarantine takes the device out of service until a person has
	// looked at it: neither holder of the key gets a certificate.
	CloneQuarantine CloneAction = "quarantine"
	// CloneNote keeps evidence, and refuses the later of the two.
	CloneNote CloneAction = "note"
)

// Quarantines reports whether a copied key takes the device out of service.
func (l Life) Quarantines() bool { return l.OnClone != CloneNote }

const maxSleep = 20 * 365 * 24 * time.Hour

// check reports the first thing wrong with the policy.
func (l Life) check() error {
	if _, _, err := l.window(); err != nil {
		return err
	}
	for _, f := range [...]struct{ name, value string }{{"grace", l.Grace}, {"rescue", l.Rescue}} {
		if _, err := period(f.value, maxSleep); err != nil {
			return fmt.Errorf("%s: %w", f.name, err)
		}
	}
	switch l.OnClone {
	case "", CloneQuarantine, CloneNote:
		return nil
	default:
		return fmt.Errorf("unknown onClone %q; known are %q and %q", l.OnClone, CloneQuarantine, CloneNote)
	}
}

// window is RenewWindow as a share in percent, or as a time; both are 0 if it
// is empty.
func (l Life) window() (percent int, d time.Duration, err error) {
	if text, ok := strings.CutSuffix(l.RenewWindow, "%"); ok {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > 100 {
			return 0, 0, fmt.Errorf("renewWindow %q is no share between 1%% and 100%%", l.RenewWindow)
		}
		return n, 0, nil
	}
	if d, err = period(l.RenewWindow, maxSleep); err != nil {
		return 0, 0, fmt.Errorf("renewWindow: %w", err)
	}
	return 0, d, nil
}

// RenewFrom is when a certificate may first be renewed: its issuance, if the
// policy names no window.
func (l Life) RenewFrom(c *Certificate) time.Time {
	percent, d, err := l.window() // checked when it was saved
	switch life := c.NotAfter.Sub(c.Issued); {
	case err != nil || forever(c) || percent == 0 && d == 0:
		return c.Issued
	case percent > 0:
		return c.NotAfter.Add(-life / 100 * time.Duration(percent))
	default:
		return c.NotAfter.Add(-min(d, life))
	}
}

// forever reports whether a certificate has no end (RFC 5280 §4.1.2.5).
func forever(c *Certificate) bool { return c.NotAfter.Year() == 9999 }

// Sleep is how long after its certificate's end a device still renews by
// itself, and after that by a person's word.
func (l Life) Sleep() (grace, rescue time.Duration) {
	grace, _ = period(l.Grace, maxSleep) // checked when it was saved
	rescue, _ = period(l.Rescue, maxSleep)
	return grace, rescue
}

// period reads a length of time, days included ("90d", "1d12h"); "" is none.
func period(text string, longest time.Duration) (time.Duration, error) {
	if text == "" {
		return 0, nil
	}
	days, rest, found := strings.Cut(text, "d")
	if !found {
		days, rest = "0", text
	}
	n, err := strconv.ParseUint(days, 10, 16)
	var d time.Duration
	if err == nil && rest != "" {
		d, err = time.ParseDuration(rest)
	}
	if d += time.Duration(n) * 24 * time.Hour; err != nil || d < time.Minute || d > longest {
		return 0, fmt.Errorf("%q is no time between 1m and %dd, such as 90d or 12h", text, longest/(24*time.Hour))
	}
	return d, nil
}

// Window is a span of time in which a device should renew (RFC 9773 §4.2).
type Window struct {
	Start time.Time `json:"start"`
	End   time.Time `json:"end"`
}

// Suggests is when a certificate should be renewed if nothing is special: in
// the first half of the policy's window, or of the last third of its life, so
// that the other half is left for servers that are away.
func (l Life) Suggests(c *Certificate) Window {
	if forever(c) {
		return Window{c.NotAfter, c.NotAfter}
	}
	start := c.NotAfter.Add(-c.NotAfter.Sub(c.Issued) / 3)
	if from := l.RenewFrom(c); from.After(start) {
		start = from
	}
	return Window{start, start.Add(c.NotAfter.Sub(start) / 2)}
}

// Status is what a status responder says of a certificate: its state, but
// on hold until it was first used if its product wanted that when it was
// issued. A superseded one is good until its successor is used, and revoked
// from then on.
func (c *Certificate) Status() CertificateState {
	if c.Held && c.State == CertificateValid && c.Used.IsZero() {
		return CertificateOnHold
	}
	return c.State
}

// Standing is a certificate with its device and product, and when an operator
// wants it renewed.
type Standing struct {
	Certificate *Certificate
	Device      *Device
	Product     *Product
	Hint        *Window // nil if no operator said anything
}

// Renew is when the certificate should be renewed: at once, in a window that
// is over, if its device was transferred and may come to its owner with it.
func (s Standing) Renew() Window {
	if s.Device.HandoverID == s.Certificate.ID && s.Device.Readmitted() {
		return Window{s.Certificate.Revoked, s.Certificate.Revoked}
	}
	if s.Hint != nil {
		return *s.Hint
	}
	return s.Product.Life.Suggests(s.Certificate)
}
