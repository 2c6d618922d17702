package storetest

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"testing"
	"time"

	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/internal/approval"
	"github.com/touchmark/touchmark/internal/store"
	"github.com/touchmark/touchmark/vetting"
)

// Person is an operator with a key of its own. The certificate is self-signed:
// whose certificates count is not the store's business.
type Person struct {
	Name        string
	Key         crypto.Signer
	Certificate []byte
}

// NewPerson makes a person, who is no operator yet.
func NewPerson(t testing.TB, name string) *Person {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: now, NotAfter: now.Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return &Person{name, key, der}
}

// Employ makes a person an operator of a store.
func (p *Person) Employ(t testing.TB, s *store.Store, role access.Role) *Person {
	t.Helper()
	cert, err := x509.ParseCertificate(p.Certificate)
	if err != nil {
		t.Fatal(err)
	}
	o := &access.Operator{Name: p.Name, Role: role, Key: vetting.KeyFingerprint(cert.RawSubjectPublicKeyInfo)}
	if _, err := s.CreateOperator(context.Background(), By, o); err != nil {
		t.Fatal(err)
	}
	return p
}

// Yes is the person's approval of a proposal's payload.
func (p *Person) Yes(t testing.TB, payload []byte) approval.Approval {
	t.Helper()
	sig, err := approval.Sign(payload, p.Key)
	if err != nil {
		t.Fatal(err)
	}
	return approval.Approval{Certificates: [][]byte{p.Certificate}, Signature: sig}
}
