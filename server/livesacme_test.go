package server

import (
	"crypto"
	"crypto/ecdsa"
	"fmt"

	"github.com/touchmark/touchmark/enroll"
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
	next, holders := 0, map[string]*acmeClient{} // of certificates, by serial number
	asks := func(c *acmeClient, in map[string]any, serial string, key crypto.Signer) answered {
		own, ok := key.(*ecdsa.PrivateKey)
		if !ok {
			own = newP256(l.t) // a TPM's key is not the vendor's to certify
		}
		c.http, c.nonce = l.speaks(v13, pair{}), ""
		defer c.http.CloseIdleConnections()
		opened := c.post("new-order", in)
		if opened.status != 201 {
			return answered{text: fmt.Sprintf("%d %s", opened.status, opened.body)}
		}
		o := c.authorized(opened)
		p := maker.Certify(attestingCertificate(l.t, serial), own, maker.Issuing)
		if a := o.attest(o.statement(p, maker.Issuing.Cert)); a.json(l.t)["status"] != "valid" {
			l.t.Fatalf("challenge: %d %s", a.status, a.body)
		}
		a := o.finalize(p)
		if v := a.json(l.t); a.status != 200 || v["status"] != "valid" {
			return answered{text: fmt.Sprintf("%d %s", a.status, a.body)}
		}
		cert := o.certificate()
		holders[enroll.SerialHex(cert)] = c
		return answered{cert: cert, key: own}
	}
	return entry{
		name: "acme",
		enrol: func(d *lived, key crypto.Signer) answered {
			c := accounts[next]
			next++
			return asks(c, permanent(d.serial), d.serial, key)
		},
		renews: func(by *grant) bool { return holders[enroll.SerialHex(by.cert)] != nil },
		renew: func(by *grant, key crypto.Signer) answered {
			in := permanent(by.cert.Subject.SerialNumber)
			in["replaces"] = b64url(by.cert.AuthorityKeyId) + "." + b64url(by.cert.SerialNumber.Bytes())
			return asks(holders[enroll.SerialHex(by.cert)], in, by.cert.Subject.SerialNumber, key)
		},
	}
}
