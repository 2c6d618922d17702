package ca

import (
	"context"
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"time"

	"github.com/touchmark/touchmark/enroll"
)

// Issuing is a CA that issues to devices, for those who tell what became of
// its certificates.
type Issuing struct {
	ID          int64 // in the database; 0 is the device CA
	Name        string
	Certificate *x509.Certificate
	Serials     Serials
	Signer      crypto.Signer // nil where the key is not at hand
}

// Issuing lists the CAs that issue or issued to devices, the device CA first.
func (a *Authorities) Issuing() []Issuing {
	known := a.issuers.Load().list
	list := make([]Issuing, len(known))
	for n, i := range known {
		list[n] = Issuing{i.id, i.name, i.Certificate, i.serials, i.Signer}
	}
	return list
}

// Points are the URLs at which the status of a certificate and its issuer's
// certificate can be learnt; an empty one is left out of the certificate.
type Points struct{ OCSP, CRL, Issuer string }

// noRevAvail says that nobody tells what became of the certificate (RFC
// 9608).
var oidNoRevAvail = asn1.ObjectIdentifier{2, 5, 29, 56}

// shortLived is the longest life of a certificate of which nobody tells what
// became of it.
const shortLived = 10 * 24 * time.Hour

// points enters where the certificate's status can be learnt, unless the
// profile leaves that out. One that is short-lived and says so has no such
// place (RFC 9608 §3).
func (a *Authorities) points(t *x509.Certificate, issuer string, none bool) {
	t.OCSPServer, t.CRLDistributionPoints, t.IssuingCertificateURL = nil, nil, nil
	if a.StatusPoints == nil || none {
		return
	}
	p := a.StatusPoints(issuer, t.SerialNumber)
	told := extension(t.ExtraExtensions, oidNoRevAvail) == nil
	if p.OCSP != "" && told {
		t.OCSPServer = []string{p.OCSP}
	}
	if p.CRL != "" && told {
		t.CRLDistributionPoints = []string{p.CRL}
	}
	if p.Issuer != "" {
		t.IssuingCertificateURL = []string{p.Issuer}
	}
}

// ResponderValidity is the lifetime of an OCSP responder's certificate, which
// is renewed at half of it: nobody can revoke it, so it is short.
const ResponderValidity = 7 * 24 * time.Hour

var oidOCSPNoCheck = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 5}

// IssueResponder lets a key answer for an issuing CA over OCSP (RFC 6960
// §4.2.2.2): the certificate is signed by the key that signs devices'
// certificates, and names no place where its own status could be asked for.
// The CA may be closed. Without its key the error is an *enroll.IssuerError.
func (a *Authorities) IssueResponder(name string, key crypto.PublicKey, now time.Time) ([]byte, error) {
	by := a.issuers.Load().byName[name]
	switch {
	case by == nil || name == "":
		return nil, fmt.Errorf("there is no issuing CA %q", name)
	case by.Signer == nil:
		return nil, &enroll.IssuerError{Issuer: name, Err: by.lost}
	case now.After(by.Certificate.NotAfter):
		return nil, &enroll.IssuerError{Issuer: name, Err: fmt.Errorf("its certificate ran out at %s", by.Certificate.NotAfter.Format(time.RFC3339))}
	}
	return by.sign(&x509.Certificate{
		SerialNumber:          by.serials.New(),
		Subject:               pkix.Name{Organization: by.Certificate.Subject.Organization, CommonName: by.Certificate.Subject.CommonName + " OCSP"},
		NotBefore:             now.Add(-Backdate).UTC().Truncate(time.Second),
		NotAfter:              earlier(now.Add(ResponderValidity), by.Certificate.NotAfter),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageOCSPSigning},
		ExtraExtensions:       []pkix.Extension{{Id: oidOCSPNoCheck, Value: asn1.NullBytes}},
		SubjectKeyId:          keyID(key),
		BasicConstraintsValid: true,
	}, key)
}

// errKeyless is why an authority of a node without keys cannot sign.
var errKeyless = errors.New("this node holds no CA's key")

// OpenKeyless loads what tells of devices' certificates without being able to
// make one: the certificates of root and device CA, and the key of the serial
// numbers. No other method than Learn, Issuing, Root, Name, Own, Probe and
// CheckOwn is of use then.
func OpenKeyless(ctx context.Context, p Places) (*Authorities, error) {
	root, err := p.Root()
	if err != nil {
		return nil, err
	}
	a := &Authorities{Root: root, places: p, keyless: true}
	if a.rollover, err = readRollover(p, root); err != nil {
		return nil, err
	}
	if a.Device.Certificate, err = readCertificate(p.certificate(DeviceName)); err != nil {
		return nil, err
	}
	if err := a.belowRoot(a.Device.Certificate); err != nil {
		return nil, fmt.Errorf("%s: %w", p.certificate(DeviceName), err)
	}
	if err := a.openOwn(ctx, ResponderKeyName); err != nil {
		return nil, err
	}
	if a.Serials, err = readSerialKey(p.serialKey()); err != nil {
		return nil, err
	}
	a.founders = []*issuer{{Authority: a.Device, name: DeviceName, serials: a.Serials, lost: errKeyless}}
	a.issuers.Store(newIssuers(a.founders))
	return a, nil
}

// keyOf opens the key of an issuing CA, if this node is to have it.
func (a *Authorities) keyOf(ctx context.Context, name string, cert *x509.Certificate) (crypto.Signer, error) {
	if a.keyless {
		return nil, errKeyless
	}
	return a.places.openKey(ctx, a.places.key(IssuingKeyName(name)), cert)
}
