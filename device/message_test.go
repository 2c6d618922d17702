package device

import (
	"bytes"
	"crypto/rand"
	"crypto/x509"
	"math/big"
	"testing"
	"time"

	"go.mozilla.org/pkcs7"
)

// What the device signs, another implementation reads.
func TestMessagesAreReadElsewhere(t *testing.T) {
	for _, kind := range []KeyKind{P256, RSA2048} {
		by, err := MakeBootstrap(new(MemoryStore), "SN-1", kind, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		message, err := signContent([]byte("content"), by, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		p7, err := pkcs7.Parse(message)
		if err != nil {
			t.Fatal(err)
		}
		if err := p7.Verify(); err != nil || string(p7.Content) != "content" || !p7.GetOnlySigner().Equal(by.Leaf()) {
			t.Errorf("%s: content %q, %v", kind, p7.Content, err)
		}
		var at time.Time
		if err := p7.UnmarshalSignedAttribute(pkcs7.OIDAttributeSigningTime, &at); err != nil || time.Since(at).Abs() > time.Hour {
			t.Errorf("%s: signed at %v, %v", kind, at, err)
		}
	}
}

// A chip vendor's certificate counts only with those of its issuers, so they go
// with the message.
func TestMessagesCarryTheChain(t *testing.T) {
	by, err := MakeBootstrap(new(MemoryStore), "SN-1", P256, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	issuer, err := MakeBootstrap(new(MemoryStore), "CA", P256, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	by.Chain = append(by.Chain, issuer.Leaf())
	message, err := signContent([]byte("content"), by, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	p7, err := pkcs7.Parse(message)
	if err != nil || p7.Verify() != nil || len(p7.Certificates) != 2 || !p7.GetOnlySigner().Equal(by.Leaf()) || !p7.Certificates[1].Equal(issuer.Leaf()) {
		t.Errorf("%d certificates, %v", len(p7.Certificates), err)
	}
}

// FuzzOpenMessage: nothing but the message that was signed opens, and with
// nothing but its content.
func FuzzOpenMessage(f *testing.F) {
	key, err := P256.generate()
	if err != nil {
		f.Fatal(err)
	}
	own := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(99, 0, 0), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	der, err := x509.CreateCertificate(rand.Reader, own, own, key.Public(), key)
	if err != nil {
		f.Fatal(err)
	}
	if own, err = x509.ParseCertificate(der); err != nil {
		f.Fatal(err)
	}
	by := &Credential{Key: key, Chain: []*x509.Certificate{own}}
	message, err := signContent([]byte("content"), by, time.Now())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(message)
	f.Add(bytes.Repeat([]byte{0x30, 0x80}, 1000))
	roots := x509.NewCertPool()
	roots.AddCert(by.Leaf())
	if got, err := openMessage(message, roots, time.Now()); err != nil || string(got) != "content" {
		f.Fatalf("%q, %v", got, err)
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		got, err := openMessage(in, roots, time.Now())
		if err == nil && string(got) != "content" {
			t.Fatalf("opened with %q", got)
		}
	})
}
