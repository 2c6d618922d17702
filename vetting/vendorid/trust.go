// Package vendorid verifies the certificates that makers of chips put into
// them, and finds in them what a device is called.
package vendorid

import (
	"bytes"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/touchmark/touchmark/vetting"
)

// Bounds of what is saved with a product, and of what a device may present.
const (
	MaxPEM     = 48 << 10 // bytes of a vendor's anchors, and of its CRLs
	MaxAnchors = 16
	MaxCRLs    = 8
	MaxChain   = 5    // certificates, the device's own included
	maxRSA     = 4096 // bits
)

// Trust is a vendor, ready to verify with. It does not change.
type Trust struct {
	vendor  string
	anchors []*x509.Certificate
	pool    *x509.CertPool
	crls    []*x509.RevocationList
	names   names
}

// Compile checks all of a vendor.
func Compile(v vetting.Vendor) (*Trust, error) {
	t := &Trust{vendor: v.Name, pool: x509.NewCertPool()}
	for _, step := range []func(vetting.Vendor) error{t.addAnchors, t.addCRLs, t.names.compile} {
		if err := step(v); err != nil {
			return nil, fmt.Errorf("vendor %q: %w", v.Name, err)
		}
	}
	return t, nil
}

// Anchors are the vendor's trust anchors.
func (t *Trust) Anchors() []*x509.Certificate { return t.anchors }

// CRLs are the vendor's revocation lists.
func (t *Trust) CRLs() []*x509.RevocationList { return t.crls }

func (t *Trust) addAnchors(v vetting.Vendor) error {
	err := blocks("anchors", v.Anchors, "CERTIFICATE", MaxAnchors, func(der []byte) error {
		c, err := x509.ParseCertificate(der)
		switch {
		case err != nil:
			return err
		case !c.BasicConstraintsValid || !c.IsCA:
			return fmt.Errorf("%q is no CA's certificate (basicConstraints, RFC 5280 §4.2.1.9): name the CA that issued it", c.Subject)
		case c.KeyUsage != 0 && c.KeyUsage&x509.KeyUsageCertSign == 0:
			return fmt.Errorf("%q may not sign certificates (keyUsage, RFC 5280 §4.2.1.3)", c.Subject)
		case weak(c):
			return fmt.Errorf("%q has an RSA key of more than %d bits", c.Subject, maxRSA)
		case slices.ContainsFunc(t.anchors, c.Equal):
			return fmt.Errorf("%q is given twice", c.Subject)
		}
		t.anchors = append(t.anchors, c)
		t.pool.AddCert(c)
		return nil
	})
	if err == nil && len(t.anchors) == 0 {
		return errors.New("the anchors hold no certificate: give the vendor's root or issuing CA in PEM")
	}
	return err
}

func (t *Trust) addCRLs(v vetting.Vendor) error {
	return blocks("CRLs", v.CRLs, "X509 CRL", MaxCRLs, func(der []byte) error {
		l, err := x509.ParseRevocationList(der)
		if err == nil {
			t.crls = append(t.crls, l)
		}
		return err
	})
}

// blocks takes a PEM text apart. Text between the blocks is ignored, as
// openssl writes some.
func blocks(what, text, kind string, most int, add func(der []byte) error) error {
	if len(text) > MaxPEM {
		return fmt.Errorf("the %s are %d bytes long: at most %d are allowed", what, len(text), MaxPEM)
	}
	rest := []byte(text)
	for n := 1; ; n++ {
		var b *pem.Block
		if b, rest = pem.Decode(rest); b == nil {
			break
		}
		switch {
		case n > most:
			return fmt.Errorf("the %s are more than %d", what, most)
		case b.Type != kind:
			return fmt.Errorf("the %s: PEM block %d is of type %q: want %q", what, n, b.Type, kind)
		}
		if err := add(b.Bytes); err != nil {
			return fmt.Errorf("the %s: PEM block %d: %w", what, n, err)
		}
	}
	if bytes.Contains(rest, []byte("-----BEGIN")) {
		return fmt.Errorf("the %s hold a PEM block that cannot be read", what)
	}
	return nil
}

// Rejection says why a chain proves nothing.
type Rejection struct {
	Reason string
	// Stranger says that nobody trusts the issuer, genuine or not: what to do
	// then, the protocol knows.
	Stranger bool
}

func (e *Rejection) Error() string { return e.Reason }

func reject(format string, args ...any) error {
	return &Rejection{Reason: fmt.Sprintf(format, args...)}
}

// Verify checks a device's chain, the device's own certificate first, and
// finds what the device is called. Any error is a *Rejection.
//
// The device's certificate must be valid now. Those above it, the anchor
// included, must have been valid when the device's was issued, and may have
// run out since: a device in a drawer gets no newer ones. What a CRL lists
// does not count, whenever it was revoked and however old the list is.
func (t *Trust) Verify(chain []*x509.Certificate, now time.Time) (vetting.Identity, error) {
	if err := checkForm(chain, now); err != nil {
		return vetting.Identity{}, err
	}
	device := *chain[0]
	device.UnhandledCriticalExtensions = slices.DeleteFunc(slices.Clone(device.UnhandledCriticalExtensions), oidSubjectAltName.Equal) // names reads it
	options := x509.VerifyOptions{Roots: t.pool, Intermediates: x509.NewCertPool(), CurrentTime: device.NotBefore, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}
	for _, c := range chain[1:] {
		options.Intermediates.AddCert(c)
	}
	paths, err := device.Verify(options)
	if err != nil {
		return vetting.Identity{}, reject("the certificate does not chain to an anchor of vendor %s as of %s, when it was issued: %v", t.vendor, stamp(device.NotBefore), err)
	}
	paths = slices.DeleteFunc(paths, t.revoked)
	if len(paths) == 0 {
		return vetting.Identity{}, reject("the certificate or one above it is on a revocation list of vendor %s", t.vendor)
	}
	id, err := t.names.find(&device)
	if err != nil {
		return id, reject("the certificate is vendor %s's, but %v", t.vendor, err)
	}
	return id, nil
}

var oidSubjectAltName = asn1.ObjectIdentifier{2, 5, 29, 17}

// checkForm bounds what verifying costs and refuses what is no device's.
func checkForm(chain []*x509.Certificate, now time.Time) error {
	if len(chain) > MaxChain {
		return reject("the chain has %d certificates: at most %d are taken", len(chain), MaxChain)
	}
	for _, c := range chain {
		if weak(c) {
			return reject("the certificate of %q has an RSA key of more than %d bits", c.Subject, maxRSA)
		}
	}
	switch c := chain[0]; {
	case c.IsCA:
		return reject("the certificate of %q is a CA's, not a device's", c.Subject)
	case now.Before(c.NotBefore) || now.After(c.NotAfter):
		return reject("the certificate of %q is valid from %s to %s only", c.Subject, stamp(c.NotBefore), stamp(c.NotAfter))
	}
	return nil
}

// weak reports a key with which a signature takes too long to verify.
func weak(c *x509.Certificate) bool {
	k, ok := c.PublicKey.(*rsa.PublicKey)
	return ok && k.N.BitLen() > maxRSA
}

// revoked reports whether a path from a device to an anchor has a
// certificate that a CRL of its issuer lists.
func (t *Trust) revoked(path []*x509.Certificate) bool {
	for i, c := range path[:len(path)-1] {
		for _, l := range t.crls {
			if bytes.Equal(l.RawIssuer, c.RawIssuer) && lists(l, c) && l.CheckSignatureFrom(path[i+1]) == nil {
				return true
			}
		}
	}
	return false
}

func lists(l *x509.RevocationList, c *x509.Certificate) bool {
	return slices.ContainsFunc(l.RevokedCertificateEntries, func(e x509.RevocationListEntry) bool { return e.SerialNumber.Cmp(c.SerialNumber) == 0 })
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
