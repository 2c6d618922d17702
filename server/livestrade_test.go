package server

import (
	"bytes"
	"slices"
	"time"

	"github.com/touchmark/touchmark/internal/store/storetest"
	"github.com/touchmark/touchmark/vetting"
)

// deal is a transfer of one device, in TestLives.
type deal struct {
	id       int64
	from, to string    // "" is the manufacturer
	until    time.Time // the offer's end
	accepted bool
}

// openMarket creates those to whom devices are sold.
func (l *lives) openMarket() {
	for _, name := range []string{"acme", "beta"} {
		if _, err := l.server.store.CreateOwner(l.t.Context(), storetest.By, &vetting.Owner{Name: name}); err != nil {
			l.t.Fatal(err)
		}
	}
}

// trade takes the next step of selling a device.
func (l *lives) trade(d *lived) {
	s, ctx, by := l.server.store, l.t.Context(), storetest.By
	var err error
	switch n := l.rand.IntN(8); {
	case d.deal == nil:
		l.offer(d)
	case d.deal.accepted && n < 3 && !d.out:
		_, err = s.ReverseTransfer(ctx, by, d.deal.id, "not paid")
		l.handOver(d, d.deal.from, "given back")
		d.deal = nil
	case d.deal.accepted:
		l.offer(d)
	case !l.now().Before(d.deal.until):
		d.deal = nil
	case n == 0:
		_, err = s.WithdrawTransfer(ctx, by, d.deal.id, "")
		l.seen["withdrawn"]++
		d.deal = nil
	case n == 2, n == 3:
		_, err = s.DeclineTransfer(ctx, by, d.deal.id, "")
		l.seen["declined"]++
		d.deal = nil
	case n == 1:
		l.ahead.Add(int64(15 * 24 * time.Hour))
		if _, late := s.AcceptTransfer(ctx, by, d.deal.id, ""); late == nil {
			l.t.Errorf("%s was sold by an offer that had run out", d.serial)
		}
		l.seen["ran out of time"]++
		d.deal = nil
	case !d.out:
		_, err = s.AcceptTransfer(ctx, by, d.deal.id, "")
		d.deal.accepted = true
		l.handOver(d, d.deal.to, "sold")
	}
	if err != nil {
		l.t.Errorf("%s: %v", d.serial, err)
	}
}

func (l *lives) offer(d *lived) {
	owners := slices.DeleteFunc([]string{"", "acme", "beta"}, func(o string) bool { return o == d.owner })
	next := &deal{from: d.owner, to: owners[l.rand.IntN(2)]}
	name := func(owner string) string {
		if owner == "" {
			return vetting.Manufacturer
		}
		return owner
	}
	t, err := l.server.store.OfferTransfer(l.t.Context(), storetest.By, vetting.Offer{From: name(next.from), To: name(next.to), Serials: []string{d.serial}})
	if (err == nil) == d.out {
		l.t.Errorf("%s, out of service: %v, was offered: %v", d.serial, d.out, err)
	}
	if err == nil {
		next.id, next.until, d.deal = t.ID, t.Expires, next
	}
}

// handOver is what a device's new owner makes of it: it starts anew, and may
// come with the certificate that it had.
func (l *lives) handOver(d *lived, owner, how string) {
	l.seen[how]++
	d.owner = owner
	if c := d.current(); c != nil {
		if d.handover = c; c.ended {
			d.handover = nil
		}
	}
	for _, g := range d.grants {
		g.ended = true
	}
	d.former, d.grants, d.spent = append(d.former, d.grants...), nil, false
}

// comeBack comes with a certificate from before the device changed hands. It
// is good for one certificate, if it is the one that the device had then.
func (l *lives) comeBack(d *lived) {
	by, key, c := d.former[len(d.former)-1], l.key(d), d.current()
	if l.rand.IntN(4) == 0 {
		by = d.former[l.rand.IntN(len(d.former))]
	}
	entitled := !d.out && c == nil && by == d.handover && l.now().Before(by.cert.NotAfter)
	a := l.renewing(by).renew(by, key)
	switch {
	case a.cert == nil && entitled:
		l.t.Errorf("%s could not come to its owner: %s", d.serial, a.text)
	case a.cert != nil && entitled:
		l.seen["came to its owner"]++
		d.grants = append(d.grants, a.grant(key))
	case a.cert != nil && (d.out || c == nil || c.ended || !bytes.Equal(a.cert.Raw, c.cert.Raw)):
		l.t.Errorf("%s came back with a certificate from before it changed hands, out: %v", d.serial, d.out)
	case !d.out && l.device(d.serial).State == vetting.DeviceQuarantined:
		later := append(slices.Clone(d.former[slices.Index(d.former, by)+1:]), d.grants...)
		if !slices.ContainsFunc(later, func(g *grant) bool { return g.used }) {
			l.t.Errorf("%s was quarantined, though no later certificate was used: %s", d.serial, a.text)
		}
		l.seen["cloned after it was sold"]++
		d.out = true
	case a.cert == nil && !d.out && c != nil:
		l.seen["barred after it came to its owner"]++
	}
}

// owned demands that each device belongs to whom it was sold to.
func (l *lives) owned() {
	for _, d := range l.all {
		if got := l.device(d.serial).Owner; got != d.owner {
			l.t.Errorf("%s belongs to %q, and was sold to %q", d.serial, got, d.owner)
		}
	}
}
