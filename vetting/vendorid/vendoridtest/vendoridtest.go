// Package vendoridtest plays the makers of chips in tests.
package vendoridtest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"
	"time"
)

// Forever is the notAfter of an IDevID (IEEE 802.1AR).
var Forever = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)

// Maker is a vendor with a root and an issuing CA, which ran out since it
// issued.
type Maker struct {
	t             testing.TB
	Root, Issuing *Party
	serial        int64
}

// Party is a certificate and its key.
type Party struct {
	Cert *x509.Certificate
	Key  *ecdsa.PrivateKey
}

// Times of a Maker's certificates.
var (
	Made   = time.Now().Add(-48 * time.Hour).Truncate(time.Second) // devices
	RanOut = Made.Add(24 * time.Hour)                              // the issuing CA
)

// New makes a vendor.
func New(t testing.TB, name string) *Maker {
	m := &Maker{t: t}
	ca := func(cn string, until time.Time) *x509.Certificate {
		return &x509.Certificate{Subject: pkix.Name{Organization: []string{name}, CommonName: name + " " + cn}, NotBefore: Made.Add(-time.Hour), NotAfter: until,
			IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign}
	}
	m.Root = m.Issue(ca("Root CA", Forever), nil)
	m.Issuing = m.Issue(ca("Issuing CA", RanOut), m.Root)
	return m
}

// Device makes a chip with a certificate of the issuing CA.
func (m *Maker) Device(template *x509.Certificate) *Party {
	m.t.Helper()
	if template.NotAfter.IsZero() {
		template.NotBefore, template.NotAfter = Made, Forever
	}
	return m.Issue(template, m.Issuing)
}

// Issue makes a key and a certificate for it, self-signed without an issuer.
func (m *Maker) Issue(template *x509.Certificate, by *Party) *Party {
	m.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		m.t.Fatal(err)
	}
	return m.Certify(template, key, by)
}

// Certify makes a certificate for a key.
func (m *Maker) Certify(template *x509.Certificate, key *ecdsa.PrivateKey, by *Party) *Party {
	m.t.Helper()
	if m.serial++; template.SerialNumber == nil {
		template.SerialNumber = big.NewInt(m.serial)
	}
	parent, signer := template, key
	if by != nil {
		parent, signer = by.Cert, by.Key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		m.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		m.t.Fatal(err)
	}
	return &Party{cert, key}
}

// CRL lists certificates that the issuing CA revoked, in PEM.
func (m *Maker) CRL(revoked ...*Party) string {
	m.t.Helper()
	list := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: Made, NextUpdate: RanOut}
	for _, p := range revoked {
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: p.Cert.SerialNumber, RevocationTime: Made})
	}
	der, err := x509.CreateRevocationList(rand.Reader, list, m.Issuing.Cert, m.Issuing.Key)
	if err != nil {
		m.t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der}))
}

// PEM is the text of certificates.
func PEM(parties ...*Party) string {
	var b strings.Builder
	for _, p := range parties {
		b.Write(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.Cert.Raw}))
	}
	return b.String()
}

// HardwareModule is a critical subjectAltName with a hardwareModuleName (RFC
// 4108 §5) alone, as IDevIDs have it.
func HardwareModule(t testing.TB, serial []byte) pkix.Extension {
	t.Helper()
	return otherName(t, asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 8, 4}, struct {
		Type   asn1.ObjectIdentifier
		Serial []byte
	}{asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 99999, 1}, serial})
}

// PermanentIdentifier is one with a permanentIdentifier (RFC 4043).
func PermanentIdentifier(t testing.TB, value string) pkix.Extension {
	t.Helper()
	return otherName(t, asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 8, 3}, struct {
		Value string `asn1:"utf8"`
	}{value})
}

func otherName(t testing.TB, oid asn1.ObjectIdentifier, value any) pkix.Extension {
	t.Helper()
	inner := marshal(t, value, "explicit,tag:0")
	name := asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 0, IsCompound: true, Bytes: append(marshal(t, oid, ""), inner...)}
	return pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Critical: true, Value: marshal(t, []asn1.RawValue{name}, "")}
}

func marshal(t testing.TB, v any, params string) []byte {
	t.Helper()
	der, err := asn1.MarshalWithParams(v, params)
	if err != nil {
		t.Fatal(err)
	}
	return der
}
