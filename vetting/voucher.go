package vetting

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"time"
)

// Elsewhere is the name under which transfers speak of owners outside of
// this server, to whom devices are handed out with a voucher.
const Elsewhere = "elsewhere"

// Voucher tells a device whose it is, and by which certificate it knows its
// owner's domain: the ietf-voucher module (RFC 8366 §5.3), as JSON (RFC 7951)
// of what stands in it.
type Voucher struct {
	CreatedOn time.Time `json:"created-on"`
	// ExpiresOn and Nonce exclude each other.
	ExpiresOn time.Time `json:"expires-on,omitzero"`
	// Assertion is "verified": the owner is the one that the server knows.
	Assertion    string `json:"assertion"`
	SerialNumber string `json:"serial-number"`
	// IDevIDIssuer is the key identifier of the CA of the device's latest
	// certificate.
	IDevIDIssuer     []byte `json:"idevid-issuer,omitempty"`
	PinnedDomainCert []byte `json:"pinned-domain-cert"` // DER
	Nonce            []byte `json:"nonce,omitempty"`
}

// VoucherTerms are what a voucher is asked for with.
type VoucherTerms struct {
	PinnedDomainCert *x509.Certificate
	// Nonce is the device's own; without one the voucher expires after
	// Lifetime, 0 for DefaultVoucherLife.
	Nonce    []byte
	Lifetime time.Duration
}

// Bounds of a voucher's terms.
const (
	DefaultVoucherLife = 30 * 24 * time.Hour
	minVoucherLife     = time.Hour
	maxVoucherLife     = 10 * 366 * 24 * time.Hour
	minNonce, maxNonce = 8, 32 // bytes (RFC 8366 §5.3)
)

// Check reports the first thing wrong with the terms, and fills in what was
// left out.
func (t *VoucherTerms) Check(now time.Time) error {
	nonced := len(t.Nonce) > 0
	if t.Lifetime == 0 && !nonced {
		t.Lifetime = DefaultVoucherLife
	}
	switch end := t.PinnedDomainCert.NotAfter; {
	case !now.Before(end):
		return fmt.Errorf("the pinned domain certificate of %q ran out at %s", t.PinnedDomainCert.Subject, stamp(end))
	case nonced && t.Lifetime != 0:
		return fmt.Errorf("a voucher with a nonce has no lifetime: it is good for the one time that the device waits for it")
	case nonced && (len(t.Nonce) < minNonce || len(t.Nonce) > maxNonce):
		return fmt.Errorf("the nonce has %d bytes: want %d to %d", len(t.Nonce), minNonce, maxNonce)
	case !nonced && (t.Lifetime < minVoucherLife || t.Lifetime > maxVoucherLife):
		return fmt.Errorf("the voucher would be good for %s: it may be for 1h to %dd", t.Lifetime, maxVoucherLife/(24*time.Hour))
	}
	return nil
}

// Digest names the terms: asked for with the same, a voucher is the same.
func (t *VoucherTerms) Digest() [sha256.Size]byte {
	return sha256.Sum256(bytes.Join([][]byte{t.PinnedDomainCert.Raw, t.Nonce, []byte(t.Lifetime.String())}, []byte{0}))
}

// Voucher makes the voucher of a device with its latest certificate, nil if
// it has none.
func (t *VoucherTerms) Voucher(d *Device, latest *x509.Certificate, now time.Time) *Voucher {
	v := &Voucher{CreatedOn: now.UTC().Truncate(time.Second), Assertion: "verified", SerialNumber: d.Serial,
		PinnedDomainCert: t.PinnedDomainCert.Raw, Nonce: t.Nonce}
	if t.Lifetime > 0 {
		v.ExpiresOn = v.CreatedOn.Add(t.Lifetime)
	}
	if latest != nil {
		v.IDevIDIssuer = latest.AuthorityKeyId
	}
	return v
}

// Handout hands a device to an owner outside of this server.
type Handout struct {
	DeviceID int64
	Terms    [sha256.Size]byte // digest of the terms
	Voucher  []byte            // signed
	Note     string
}
