package server

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"

	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/internal/ca"
	"github.com/touchmark/touchmark/internal/store/storetest"
	"github.com/touchmark/touchmark/vetting"
)

func (l *lives) posted(p pair, operation string, csr []byte) answered {
	code, _, body := l.est(v13, p, operation, csr)
	if code != 200 {
		return answered{text: fmt.Sprint(code, " ", body)}
	}
	return answered{cert: certificates(l.t, body)[0]}
}

func (l *lives) estDoor() entry {
	return entry{
		name: "est",
		enrol: func(d *lived, key crypto.Signer) answered {
			return l.posted(d.boot, "simpleenroll", l.csr(key, x509.CertificateRequest{}))
		},
		renew: func(by *grant, key crypto.Signer) answered {
			return l.posted(by.pair, "simplereenroll", l.renewal(by, key))
		},
		use: func(by *grant) { l.getsCACerts(v13, by.pair, "use") },
	}
}

// rigDoor is EST in a device's name.
func (l *lives) rigDoor() entry {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		l.t.Fatal(err)
	}
	csr, err := x509.ParseCertificateRequest(l.csr(key, x509.CertificateRequest{}))
	if err != nil {
		l.t.Fatal(err)
	}
	print, err := vetting.PublicKeyFingerprint(key.Public())
	if err != nil {
		l.t.Fatal(err)
	}
	if _, err := l.server.store.CreateOperator(l.t.Context(), storetest.By, &access.Operator{Name: "rig-1", Role: access.RoleRig, Site: "hsinchu", Key: print}); err != nil {
		l.t.Fatal(err)
	}
	return entry{name: "rig", enrol: func(d *lived, official crypto.Signer) answered {
		// A new one each time, for years go by.
		made, err := ca.OperatorIssuer{Authorities: l.server.authorities, Now: l.now}.IssueOperator(csr, &access.Operator{Name: "rig-1", Role: access.RoleRig, Site: "hsinchu"})
		if err != nil {
			l.t.Fatal(err)
		}
		cert, err := x509.ParseCertificate(made.DER)
		if err != nil {
			l.t.Fatal(err)
		}
		return l.posted(pair{key, cert}, "simpleenroll", l.csr(official, x509.CertificateRequest{Subject: pkix.Name{SerialNumber: d.serial}}))
	}}
}
