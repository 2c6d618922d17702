package store_test

import (
	"slices"

	"github.com/touchmark/touchmark/internal/store/storetest"
	"github.com/touchmark/touchmark/ocsp"
	"github.com/touchmark/touchmark/vetting"
)

// hold changes whether certificates are on hold until their first use.
func (r *run) hold() {
	p, err := r.world.Store.Product(r.ctx, "thermo")
	if err != nil {
		r.Fatal(err)
	}
	p.Life.HoldUntilActive = !p.Life.HoldUntilActive
	if _, err := r.world.Store.UpdateProduct(r.ctx, storetest.By, p); err != nil {
		r.Fatal(err)
	}
	r.model.held = p.Life.HoldUntilActive
}

// said is what a status responder should say of a certificate, and the kind
// of case that it is.
func (u *modelUnit) said(c *modelCert) (kind string, is func(ocsp.Reason) bool) {
	equal := func(want ocsp.Reason) func(ocsp.Reason) bool {
		return func(r ocsp.Reason) bool { return r == want }
	}
	switch {
	case c.state == vetting.CertificateRevoked:
		return "told revoked", func(r ocsp.Reason) bool { return r != ocsp.CertificateHold && r != ocsp.RemoveFromCRL }
	case c.state == vetting.CertificateOnHold:
		return "told on hold", equal(ocsp.CertificateHold)
	case c.state == vetting.CertificateSuperseded && slices.ContainsFunc(u.certs[slices.Index(u.certs, c):], func(n *modelCert) bool { return n != c && n.used }):
		return "told superseded", equal(ocsp.Superseded)
	case c.state == vetting.CertificateValid && c.held && !c.used:
		return "told on hold until its first use", equal(ocsp.CertificateHold)
	}
	return "told good", equal(ocsp.RemoveFromCRL)
}

// compareStatuses holds what status responders were told against the model.
func (r *run) compareStatuses() {
	told := map[string]ocsp.Reason{}
	_, err := r.world.Store.Changes(r.ctx, 0, func(list []ocsp.Change) error {
		for _, c := range list {
			told[c.Serial.String()] = c.Reason
		}
		return nil
	})
	if err != nil {
		r.Fatal(err)
	}
	for _, u := range r.model.units {
		for _, c := range u.certs {
			have, found := told[c.serial]
			if !found {
				have = ocsp.RemoveFromCRL
			}
			kind, is := u.said(c)
			r.model.seen[kind]++
			if !is(have) {
				r.Errorf("%s: of certificate %s (%s) responders say %d, which should be %s", u.record.Serial, c.serial, c.state, have, kind)
			}
			delete(told, c.serial)
		}
	}
	if len(told) > 0 {
		r.Errorf("responders were told of what was never issued: %v", told)
	}
}
