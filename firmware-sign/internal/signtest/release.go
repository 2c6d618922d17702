package signtest

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"testing"

	firmwaresign "github.com/touchmark/touchmark/firmware-sign"
)

// Release is who signs releases: a key with a certificate under a root.
type Release struct {
	Root, Certificate *x509.Certificate
	Key               crypto.Signer
	Roots             *x509.CertPool
}

// NewRelease makes a key of the kind, and its certificates.
func NewRelease(t testing.TB, kind string) *Release {
	t.Helper()
	ca := Key(t, "p256")
	r := &Release{Root: Certificate(t, "root", ca, nil, nil), Key: Key(t, kind), Roots: x509.NewCertPool()}
	r.Certificate = Certificate(t, "release", r.Key, r.Root, ca)
	r.Roots.AddCert(r.Root)
	return r
}

// Sign signs with a key that hides its type.
func Sign(t testing.TB, f firmwaresign.Format, content []byte, key crypto.Signer) []byte {
	t.Helper()
	var out bytes.Buffer
	if err := firmwaresign.Write(&out, f, Reader(content), firmwaresign.With(Opaque{key})); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}
