package ca

import (
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/touchmark/touchmark/enroll"
	"github.com/touchmark/touchmark/vetting"
)

// DeviceIssuer makes device certificates. It implements enroll.Issuer.
type DeviceIssuer struct {
	authorities *Authorities
	now         func() time.Time

	// Refresh, if set, learns the issuing CAs anew. It is called when an owner
	// names one that is not known, which another server may have created.
	Refresh func(context.Context) error

	mu       sync.RWMutex
	compiled map[profileOf]compiledProfile
}

// profileOf says whose profile it is: a product's, or that of an owner, who
// never changes.
type profileOf struct{ product, owner int64 }

type compiledProfile struct {
	revision int64
	profile  *profile
}

// NewDeviceIssuer issues with the CA that a device's owner names, or the
// device CA.
func NewDeviceIssuer(a *Authorities, now func() time.Time) *DeviceIssuer {
	return &DeviceIssuer{authorities: a, now: now, compiled: map[profileOf]compiledProfile{}}
}

// Issue prepares and signs one certificate. If the issuing CA cannot sign, the
// error is an *enroll.IssuerError.
func (i *DeviceIssuer) Issue(ctx context.Context, a vetting.Admission, csr *x509.CertificateRequest) (enroll.Issued, error) {
	if i.Refresh != nil && i.authorities.issuerFor(a.Owner()) == nil {
		if err := i.Refresh(ctx); err != nil {
			return enroll.Issued{}, err
		}
	}
	p, err := i.Prepare(a, csr)
	if err != nil {
		return enroll.Issued{}, err
	}
	return p.Issue()
}

// Prepared is a certificate that was checked and may be signed, once.
type Prepared struct {
	by       *issuer
	template *x509.Certificate
	key      crypto.PublicKey
	used     bool
}

// Prepare renders the certificate that an admission allows and holds the
// request against it. It refuses an admission that vetting did not grant and
// a request for another key; a request that asks for a key, name or
// extension that the profile does not give is an *enroll.RequestError.
func (i *DeviceIssuer) Prepare(a vetting.Admission, csr *x509.CertificateRequest) (*Prepared, error) {
	if !a.Granted() {
		return nil, errors.New("ca: refused to issue without an admission")
	}
	if vetting.KeyFingerprint(csr.RawSubjectPublicKeyInfo) != a.Key() {
		return nil, fmt.Errorf("ca: refused to issue: the admission is for key %s, the request has another", a.Key())
	}
	p, err := i.profile(a)
	if err != nil {
		return nil, err
	}
	kind, err := enroll.KeyKind(csr.PublicKey)
	if err != nil || !slices.Contains(p.keys, kind) {
		return nil, enroll.BadRequest("product %s accepts keys of kind %v, the request has %s", a.Product().Name, p.keys, kind)
	}
	t, err := p.render(variables(a))
	if err != nil {
		return nil, fmt.Errorf("product %s: %w", a.Product().Name, err)
	}
	// A renewal was held to the names of the certificate that it renews; the
	// profile may have changed since. So was the request of an active device.
	names := a.Kind() != vetting.ReasonRenewed && a.Device().State != vetting.DeviceActive
	if err := demands(csr, t, a.Record().Identity, names); err != nil {
		return nil, err
	}
	by, err := i.by(a.Owner())
	if err != nil {
		return nil, err
	}
	i.authorities.complete(t, by, p, csr.PublicKey, i.now())
	return &Prepared{by: by, template: t, key: csr.PublicKey}, nil
}

// by is the CA that issues to an owner's devices, if it can.
func (i *DeviceIssuer) by(o *vetting.Owner) (*issuer, error) {
	by := i.authorities.issuerFor(o)
	if by == nil {
		return nil, &enroll.IssuerError{Issuer: o.Issuer, Err: errors.New("there is none of that name in the database")}
	}
	if err := by.unable(i.now()); err != nil {
		return nil, &enroll.IssuerError{Issuer: by.name, Err: err}
	}
	return by, nil
}

// Issue signs. x509.CreateCertificate verifies what it signed, so a faulty
// key or HSM does not go unnoticed.
func (p *Prepared) Issue() (enroll.Issued, error) {
	if p.used {
		return enroll.Issued{}, errors.New("ca: a prepared certificate is signed once")
	}
	p.used = true
	der, err := p.by.sign(p.template, p.key)
	if err != nil {
		return enroll.Issued{}, err
	}
	return enroll.Issued{
		Serial: p.template.SerialNumber.FillBytes(make([]byte, SerialLength)),
		DER:    der, NotAfter: p.template.NotAfter, Issuer: p.by.id,
	}, nil
}

// complete adds what is the CA's and not the template's: serial number, time,
// key identifier, where the status can be learnt.
func (a *Authorities) complete(t *x509.Certificate, by *issuer, p *profile, key crypto.PublicKey, now time.Time) {
	t.SerialNumber = by.serials.New()
	t.NotBefore = now.Add(-Backdate).UTC().Truncate(time.Second)
	t.NotAfter = forever
	if p.validity != 0 {
		// A certificate beyond its issuer's end would not verify then; only
		// "forever" says that on purpose (RFC 5280 §4.1.2.5).
		t.NotAfter = now.Add(p.validity).UTC().Truncate(time.Second)
		if end := by.Certificate.NotAfter; t.NotAfter.After(end) {
			t.NotAfter = end
		}
	}
	t.BasicConstraintsValid = true
	t.SubjectKeyId = keyID(key)
	t.SignatureAlgorithm = x509.UnknownSignatureAlgorithm // the CA's key decides
	a.points(t, by.name, p.noStatusURLs)
}

// Backdate is how much earlier than now a certificate begins. It lets a device whose clock is a little slow use its certificate.
const Backdate = time.Minute

// keyID is method 1 of RFC 7093 §2: 160 bits of the SHA-256 of the key.
func keyID(key crypto.PublicKey) []byte {
	spki, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return nil
	}
	var info struct {
		Algorithm asn1.RawValue
		Key       asn1.BitString
	}
	if _, err := asn1.Unmarshal(spki, &info); err != nil {
		return nil
	}
	sum := sha256.Sum256(info.Key.Bytes)
	return sum[:20]
}

// profile returns the compiled profile of an admission: the owner's, or the
// product's.
func (i *DeviceIssuer) profile(a vetting.Admission) (*profile, error) {
	if o := a.Owner(); o != nil && o.Profile != nil {
		return i.compiledOf(profileOf{owner: o.ID}, 0, "owner "+o.Name, *o.Profile)
	}
	return i.productProfile(a.Product())
}

func (i *DeviceIssuer) productProfile(p *vetting.Product) (*profile, error) {
	return i.compiledOf(profileOf{product: p.ID}, p.Revision, "product "+p.Name, profileFor(p))
}

// compiledOf compiles a profile anew when it changed.
func (i *DeviceIssuer) compiledOf(whose profileOf, revision int64, name string, p vetting.Profile) (*profile, error) {
	i.mu.RLock()
	c, ok := i.compiled[whose]
	i.mu.RUnlock()
	if ok && c.revision == revision {
		return c.profile, nil
	}
	made, err := compile(p)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	i.mu.Lock()
	i.compiled[whose] = compiledProfile{revision, made}
	i.mu.Unlock()
	return made, nil
}
