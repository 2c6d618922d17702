package offline_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/big"
	"testing"
	"time"

	"github.com/touchmark/touchmark/ocsp/offline"
)

var start = time.Date(2027, 3, 1, 12, 0, 0, 0, time.UTC)

// authority is an issuing CA.
type authority struct {
	cert *x509.Certificate
	key  crypto.Signer
}

func newAuthority(t testing.TB, name string, key crypto.Signer) *authority {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: start.Add(-time.Hour), NotAfter: start.Add(1e5 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{cert, key}
}

func newCA(t testing.TB) *authority { return newAuthority(t, "Device CA", ecKey(t, elliptic.P256())) }

func ecKey(t testing.TB, c elliptic.Curve) crypto.Signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(c, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// issue makes a device certificate.
func (a *authority) issue(t testing.TB, serial []byte, notBefore, notAfter time.Time) *x509.Certificate {
	t.Helper()
	template := &x509.Certificate{SerialNumber: new(big.Int).SetBytes(serial), Subject: pkix.Name{CommonName: "device"}, NotBefore: notBefore, NotAfter: notAfter}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, ecKey(t, elliptic.P256()).Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// fleet is n certificates; those that notGood says are revoked or on hold.
type fleet struct {
	n       int
	notGood func(i int) bool
}

func (f fleet) tell(_ context.Context, each func([]byte, bool) error) error {
	for i := range f.n {
		if err := each(serialOf(i), !f.notGood(i)); err != nil {
			return err
		}
	}
	return nil
}

// serialOf is the serial number of a fleet's certificate: 17 bytes, as ours
// are.
func serialOf(i int) []byte {
	b := make([]byte, 17)
	b[0] = 1
	binary.BigEndian.PutUint64(b[1:], uint64(i)*0x9e3779b97f4a7c15)
	binary.BigEndian.PutUint64(b[9:], uint64(i))
	return b
}

func plan(number uint64, base *offline.Filter) offline.Plan {
	at := start.Add(time.Duration(number) * time.Hour)
	return offline.Plan{Number: number, ThisUpdate: at, NextUpdate: at.Add(48 * time.Hour), CoversUntil: at.Add(-10 * time.Minute), Base: base}
}

func (a *authority) build(t testing.TB, p offline.Plan, f fleet) []byte {
	t.Helper()
	file, err := offline.Build(context.Background(), a.cert, a.key, p, f.tell)
	if err != nil {
		t.Fatal(err)
	}
	return file
}

func (a *authority) open(t testing.TB, file []byte) *offline.Filter {
	t.Helper()
	f, err := offline.Open(file, a.cert)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// exact asks for every certificate of the fleet.
func exact(t *testing.T, f *offline.Filter, of fleet) {
	t.Helper()
	wrong := 0
	for i := range of.n {
		if f.NotGood(serialOf(i)) != of.notGood(i) {
			wrong++
		}
	}
	if wrong > 0 {
		t.Errorf("%d of %d certificates are answered wrongly", wrong, of.n)
	}
}

func share(p float64) func(int) bool {
	return func(i int) bool { return float64(uint64(i)*0xd6e8feb86659fd93)/math.MaxUint64 < p }
}

func none(int) bool { return false }
func all(int) bool  { return true }

// TestExact asks for all certificates of universes of all kinds.
func TestExact(t *testing.T) {
	ca := newCA(t)
	for _, n := range []int{0, 1, 2, 3, 10, 63, 64, 65, 100, 1000, 4096, 20_000} {
		for name, notGood := range map[string]func(int) bool{
			"none": none, "all": all, "one": func(i int) bool { return i == n/2 }, "all but one": func(i int) bool { return i != n/3 },
			"1 in 1000": share(0.001), "1 %": share(0.01), "30 %": share(0.3), "half": share(0.5), "90 %": share(0.9),
		} {
			t.Run(fmt.Sprint(n, " ", name), func(t *testing.T) {
				f := fleet{n, notGood}
				exact(t, ca.open(t, ca.build(t, plan(1, nil), f)), f)
			})
		}
	}
}

// TestSize holds the size to 1.3 times the entropy of who is good and who is
// not.
func TestSize(t *testing.T) {
	ca := newCA(t)
	n := 300_000
	f := fleet{n, share(0.01)}
	file := ca.build(t, plan(1, nil), f)
	h := ca.open(t, file).Header()
	p := float64(h.NotGood) / float64(h.Issued)
	entropy := -float64(n) * (p*math.Log2(p) + (1-p)*math.Log2(1-p)) / 8
	t.Logf("%d bytes, %.3f × entropy", len(file), float64(len(file))/entropy)
	if float64(len(file)) > 1.2*entropy {
		t.Errorf("%d bytes for %d certificates, %d of them not good: more than 1.2 × %.0f", len(file), n, h.NotGood, entropy)
	}
}

func TestKeys(t *testing.T) {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, key := range map[string]crypto.Signer{
		"P-256": ecKey(t, elliptic.P256()), "P-384": ecKey(t, elliptic.P384()), "P-521": ecKey(t, elliptic.P521()), "RSA": rsaKey, "Ed25519": edKey,
	} {
		t.Run(name, func(t *testing.T) {
			ca := newAuthority(t, "Device CA", key)
			f := fleet{100, share(0.1)}
			file := ca.build(t, plan(1, nil), f)
			exact(t, ca.open(t, file), f)
			other := newAuthority(t, "Device CA", ecKey(t, elliptic.P256()))
			if _, err := offline.Open(file, other.cert); !errors.Is(err, offline.ErrForeign) {
				t.Errorf("another CA: %v", err)
			}
		})
	}
}
