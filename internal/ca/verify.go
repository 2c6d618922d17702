package ca

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/touchmark/touchmark/vetting"
)

// VerifyDevice checks that a device issuing CA signed the certificate and
// that its time has not run out. Whether it was revoked, the database knows.
func (a *Authorities) VerifyDevice(cert *x509.Certificate, at time.Time) error {
	i := a.issuerOf(cert)
	if i == nil {
		return &otherIssuer{cert, a.Device.Certificate}
	}
	return i.verify(cert, at)
}

// VerifyFactory checks a certificate of a site operator or rig.
func (a *Authorities) VerifyFactory(cert *x509.Certificate, at time.Time) error {
	return a.verifyFor(vetting.ForSites, cert, at)
}

// VerifyOperator checks a certificate of an operator of the OEM.
func (a *Authorities) VerifyOperator(cert *x509.Certificate, at time.Time) error {
	return a.verifyFor(vetting.ForOperators, cert, at)
}

// DeviceKeyIDs are the key identifiers of the CAs that issue to devices.
func (a *Authorities) DeviceKeyIDs() [][]byte {
	var ids [][]byte
	for _, i := range a.issuers.Load().list {
		ids = append(ids, i.Certificate.SubjectKeyId)
	}
	return ids
}

// OfDevice reports whether a certificate names a CA that issues to devices as
// its issuer.
func (a *Authorities) OfDevice(cert *x509.Certificate) bool { return a.issuerOf(cert) != nil }

// OfFactory reports whether a certificate names a factory CA as its issuer.
func (a *Authorities) OfFactory(cert *x509.Certificate) bool {
	return slices.ContainsFunc(a.issuers.Load().all, func(i *issuer) bool { return i.purpose == vetting.ForSites && i.IssuedBy(cert) })
}

// IssuedBy reports whether a certificate names this authority as its issuer.
func (a Authority) IssuedBy(cert *x509.Certificate) bool {
	return bytes.Equal(cert.RawIssuer, a.Certificate.RawSubject)
}

// verify checks a leaf below this authority: issuer, signature, time, no
// further CA, and no critical extension that is not understood. It does by
// hand what x509.Verify does for a chain of a known issuer, at the price of
// one signature check, and knows SANs of other names only.
func (a Authority) verify(cert *x509.Certificate, at time.Time) error {
	switch {
	case !a.IssuedBy(cert):
		return &otherIssuer{cert, a.Certificate}
	case at.Before(cert.NotBefore):
		return fmt.Errorf("the certificate is not valid before %s", cert.NotBefore.UTC().Format(time.RFC3339))
	case at.After(cert.NotAfter):
		return fmt.Errorf("the certificate ran out at %s", cert.NotAfter.UTC().Format(time.RFC3339))
	case cert.IsCA:
		return fmt.Errorf("the certificate is a CA's and not a client's")
	case slices.Contains(cert.ExtKeyUsage, x509.ExtKeyUsageOCSPSigning):
		return fmt.Errorf("the certificate is an OCSP responder's and not a client's")
	}
	for _, oid := range cert.UnhandledCriticalExtensions {
		// Go calls a critical SAN unhandled when it holds only other names
		// such as hardwareModuleName; it was parsed, and decides nothing here.
		if !oid.Equal(oidSubjectAltName) {
			return fmt.Errorf("the certificate has the critical extension %s, which is not understood", oid)
		}
	}
	if err := a.checkSignature(cert); err != nil {
		return fmt.Errorf("the certificate's signature is not by %q: %w", a.Certificate.Subject, err)
	}
	return nil
}

// otherIssuer says that a certificate is another authority's. Most who ask
// only want to know that, and writing names down takes long.
type otherIssuer struct{ cert, authority *x509.Certificate }

func (e *otherIssuer) Error() string {
	return fmt.Sprintf("the certificate was issued by %q, not by %q", e.cert.Issuer, e.authority.Subject)
}

// checkSignature checks the signature once for each certificate where few
// clients come often. A signature that was good once is good always; what
// changes, such as time and revocation, is checked elsewhere each time.
func (a Authority) checkSignature(cert *x509.Certificate) error {
	if a.seen == nil {
		return cert.CheckSignatureFrom(a.Certificate)
	}
	name := sha256.Sum256(cert.Raw)
	if a.seen.has(name) {
		return nil
	}
	if err := cert.CheckSignatureFrom(a.Certificate); err != nil {
		return err
	}
	a.seen.add(name)
	return nil
}

// certificates is a bounded set of certificates by the SHA-256 of their DER.
type certificates struct {
	mu  sync.RWMutex
	set map[[sha256.Size]byte]struct{}
}

// maxSeen bounds the set; a manufacturer has fewer rigs and operators.
const maxSeen = 4096

func (c *certificates) has(name [sha256.Size]byte) bool {
	c.mu.RLock()
	defer c.mu.RUnlock()
	_, ok := c.set[name]
	return ok
}

func (c *certificates) add(name [sha256.Size]byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.set == nil || len(c.set) >= maxSeen {
		c.set = map[[sha256.Size]byte]struct{}{}
	}
	c.set[name] = struct{}{}
}

var (
	oidSubjectAltName   = asn1.ObjectIdentifier{2, 5, 29, 17}
	oidSubjectKeyID     = asn1.ObjectIdentifier{2, 5, 29, 14}
	oidKeyUsage         = asn1.ObjectIdentifier{2, 5, 29, 15}
	oidBasicConstraints = asn1.ObjectIdentifier{2, 5, 29, 19}
	oidExtKeyUsage      = asn1.ObjectIdentifier{2, 5, 29, 37}

	oidCRLDistributionPoints = asn1.ObjectIdentifier{2, 5, 29, 31}
	oidAuthorityInfoAccess   = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 1}
	// oidCMCRA is id-kp-cmcRA (RFC 6402 §2.10): a registration authority.
	oidCMCRA = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 28}
)

// IsRA reports whether a certificate carries id-kp-cmcRA, so that its holder
// may enrol for others (RFC 7030 §3.7).
func IsRA(cert *x509.Certificate) bool {
	return slices.ContainsFunc(cert.UnknownExtKeyUsage, oidCMCRA.Equal)
}
