package ca

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/touchmark/touchmark/enroll"
	"github.com/touchmark/touchmark/enroll/attest"
	"github.com/touchmark/touchmark/vetting"
)

// akLife is how long an AK's certificate counts, and akEarly how far its
// beginning lies back, for clocks that are late.
const (
	akLife  = 24 * time.Hour
	akEarly = 5 * time.Minute
)

// AKIssuer certifies attestation keys. It needs no ceremony: its certificates
// count for nothing but the attestations that products trust it for.
type AKIssuer struct {
	key  crypto.Signer
	cert *x509.Certificate
	log  AKLog
	now  func() time.Time
}

// AKLog writes into the audit log that an AK was certified.
type AKLog interface {
	NoteAKCertificate(ctx context.Context, ek vetting.Fingerprint, serial []byte) error
}

// NewAKIssuer makes the issuer of a key. organization stands in its name.
func NewAKIssuer(key crypto.Signer, organization string, log AKLog, now func() time.Time) (*AKIssuer, error) {
	i := &AKIssuer{key: key, log: log, now: now}
	t := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{Organization: []string{organization}, CommonName: "TPM attestation CA"},
		NotBefore: time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC), NotAfter: time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign, SubjectKeyId: keyID(i.key.Public()),
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, i.key.Public(), i.key)
	if err != nil {
		return nil, err
	}
	i.cert, err = x509.ParseCertificate(der)
	return i, err
}

// DeriveAttestationKey makes the P-256 key of an attestation CA that has none
// of its own, of a secret that all servers share, so that each has it:
// candidates until one is in range, which all but one in 2³² are (FIPS 186-5,
// A.2.2).
func DeriveAttestationKey(secret []byte) *ecdsa.PrivateKey {
	for n := byte(0); ; n++ {
		m := hmac.New(sha256.New, secret)
		m.Write([]byte("touchmark attestation CA key"))
		m.Write([]byte{n})
		if key, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), m.Sum(nil)); err == nil {
			return key
		}
	}
}

// Certificate is the issuer's own, self-signed: a trust anchor for attestations.
func (i *AKIssuer) Certificate() *x509.Certificate { return i.cert }

var (
	oidAIK                 = asn1.ObjectIdentifier{2, 23, 133, 8, 3} // tcg-kp-AIKCertificate
	oidPermanentIdentifier = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 8, 3}
	oidTPMManufacturer     = asn1.ObjectIdentifier{2, 23, 133, 2, 1}
	oidTPMModel            = asn1.ObjectIdentifier{2, 23, 133, 2, 2}
	oidTPMVersion          = asn1.ObjectIdentifier{2, 23, 133, 2, 3}
)

// IssueAK implements attest.AKIssuer. The certificate is in the log before it
// leaves. Its subject is empty; its critical subjectAltName has the TPM's
// names, and as permanentIdentifiers (RFC 4043) the endorsement key and the
// device's serial number. Without its key the error is an *enroll.IssuerError.
func (i *AKIssuer) IssueAK(ctx context.Context, ak attest.AKCertificate) ([][]byte, error) {
	san, err := akNames(ak)
	if err != nil {
		return nil, err
	}
	serial := make([]byte, 16)
	rand.Read(serial)
	serial[0] = serial[0]&0x7f | 0x40 // positive, and always as long
	now := i.now()
	t := &x509.Certificate{
		SerialNumber: new(big.Int).SetBytes(serial), NotBefore: now.Add(-akEarly), NotAfter: now.Add(akLife),
		KeyUsage: x509.KeyUsageDigitalSignature, UnknownExtKeyUsage: []asn1.ObjectIdentifier{oidAIK}, BasicConstraintsValid: true,
		ExtraExtensions: []pkix.Extension{{Id: oidSubjectAltName, Critical: true, Value: san}},
	}
	der, err := x509.CreateCertificate(rand.Reader, t, i.cert, ak.Key, i.key)
	if err != nil {
		return nil, &enroll.IssuerError{Issuer: AttestationKeyName, Err: err}
	}
	if err := i.log.NoteAKCertificate(ctx, ak.EK, serial); err != nil {
		return nil, err
	}
	return [][]byte{der, i.cert.Raw}, nil
}

// akNames is the subjectAltName of an AK's certificate. What an EK without a
// certificate does not tell is "unknown".
func akNames(ak attest.AKCertificate) ([]byte, error) {
	name, err := asn1.Marshal(pkix.RDNSequence{{
		{Type: oidTPMManufacturer, Value: known(ak.TPM.Manufacturer)}, {Type: oidTPMModel, Value: known(ak.TPM.Model)}, {Type: oidTPMVersion, Value: known(ak.TPM.Version)},
	}})
	if err != nil {
		return nil, err
	}
	urn := attest.EKURN(ak.EK)
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(cbasn1.Tag(6).ContextSpecific(), func(b *cryptobyte.Builder) { b.AddBytes([]byte(urn)) })
		addPermanentIdentifier(b, urn)
		if ak.Serial != "" {
			addPermanentIdentifier(b, ak.Serial)
		}
		b.AddASN1(cbasn1.Tag(4).ContextSpecific().Constructed(), func(b *cryptobyte.Builder) { b.AddBytes(name) })
	})
	return b.Bytes()
}

func known(s string) string {
	if s == "" {
		return "unknown"
	}
	return s
}

func addPermanentIdentifier(b *cryptobyte.Builder, value string) {
	b.AddASN1(cbasn1.Tag(0).ContextSpecific().Constructed(), func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(oidPermanentIdentifier)
		b.AddASN1(cbasn1.Tag(0).ContextSpecific().Constructed(), func(b *cryptobyte.Builder) {
			b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddASN1(cbasn1.UTF8String, func(b *cryptobyte.Builder) { b.AddBytes([]byte(value)) })
			})
		})
	})
}
