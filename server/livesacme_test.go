package server

import (
	"crypto"
	"crypto/ecdsa"
	"fmt"
)

// acmeAccounts are more than a run of TestLives asks for.
const acmeAccounts = 45

// acmeDoor is ACME with attested keys. Another account asks each time, because
// the one that was given a certificate may renew it without that. All are
// opened at once: administrators' certificates end before the run's years do.
func (l *lives) acmeDoor() entry {
	maker := l.attesting()
	accounts := make([]*acmeClient, acmeAccounts)
	for i := range accounts {
		accounts[i] = l.opens()
		accounts[i].http.CloseIdleConnections()
	}
	next := 0
	return entry{name: "acme", enrol: func(d *lived, key crypto.Signer) answered {
		own, ok := key.(*ecdsa.PrivateKey)
		if !ok {
			own = newP256(l.t) // a TPM's key is not the vendor's to certify
		}
		c := accounts[next]
		next++
		c.http, c.nonce = l.speaks(v13, pair{}), ""
		defer c.http.CloseIdleConnections()
		o, a := c.enrol(maker, d.serial, maker.Certify(attestingCertificate(l.t, d.serial), own, maker.Issuing))
		if v := a.json(l.t); a.status != 200 || v["status"] != "valid" {
			return answered{text: fmt.Sprintf("%d %s", a.status, a.body)}
		}
		return answered{cert: o.certificate(), key: own}
	}}
}
