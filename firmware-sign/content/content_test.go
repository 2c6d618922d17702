package content

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"strings"
	"testing"
)

func newKey(t *testing.T, bits int, hash string) (WrappingKey, *rsa.PrivateKey) {
	t.Helper()
	private, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		t.Fatal(err)
	}
	spki, err := x509.MarshalPKIXPublicKey(&private.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	return WrappingKey{spki, hash}, private
}

// A secret opens with the key that it was sealed for, and for what it belongs
// to; nothing of it is readable, and no part of it can be changed.
func TestSeal(t *testing.T) {
	secret, of := bytes.Repeat([]byte("content key "), 20), Of{62, strings.Repeat("0a", 32)}
	for _, hash := range Hashes {
		k, private := newKey(t, 2048, hash)
		other, otherPrivate := newKey(t, 2048, hash)
		s, err := k.Seal(secret, of)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := k.Open(s, private, of); err != nil || !bytes.Equal(got, secret) {
			t.Errorf("%s: opened: %q, %v", hash, got, err)
		}
		if bytes.Contains(s.Box, secret[:12]) {
			t.Error("the secret is readable")
		}
		again, err := k.Seal(secret, of)
		if err != nil || bytes.Equal(again.Box, s.Box) || bytes.Equal(again.Wrapped, s.Wrapped) {
			t.Errorf("sealed twice, it is the same: %v", err)
		}
		changed, wrapped, named := *s, *s, *s
		changed.Box = bytes.Clone(s.Box)
		changed.Box[20] ^= 1
		wrapped.Wrapped = bytes.Clone(s.Wrapped)
		wrapped.Wrapped[20] ^= 1
		named.Key = other.Name()
		for name, open := range map[string]func() ([]byte, error){
			"of another artefact": func() ([]byte, error) { return k.Open(s, private, Of{63, of.SHA256}) },
			"of another file":     func() ([]byte, error) { return k.Open(s, private, Of{62, strings.Repeat("0b", 32)}) },
			"by another key":      func() ([]byte, error) { return other.Open(s, otherPrivate, of) },
			"named as another's":  func() ([]byte, error) { return other.Open(&named, otherPrivate, of) },
			"with a changed box":  func() ([]byte, error) { return k.Open(&changed, private, of) },
			"with a changed key":  func() ([]byte, error) { return k.Open(&wrapped, private, of) },
			"of nothing":          func() ([]byte, error) { return k.Open(&Sealed{Key: k.Name(), Hash: hash}, private, of) },
			"by a hash of no use": func() ([]byte, error) { return k.Open(&Sealed{Key: k.Name(), Hash: "MD5"}, private, of) },
		} {
			if got, err := open(); err == nil {
				t.Errorf("%s, %s: %q", hash, name, got)
			}
		}
	}
}

func TestSealRefuses(t *testing.T) {
	good, _ := newKey(t, 2048, "SHA-256")
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	spki, err := x509.MarshalPKIXPublicKey(&ec.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		key  WrappingKey
		size int
	}{
		"an EC key":         {WrappingKey{spki, "SHA-256"}, 16},
		"no key":            {WrappingKey{nil, "SHA-256"}, 16},
		"another hash":      {WrappingKey{good.PublicKey, "SHA-512"}, 16},
		"nothing":           {good, 0},
		"too long a secret": {good, MaxSecret + 1},
	} {
		if s, err := c.key.Seal(make([]byte, c.size), Of{}); err == nil {
			t.Errorf("%s: %+v", name, s)
		}
	}
	if s, err := good.Seal(make([]byte, MaxSecret), Of{}); err != nil || len(s.Box) > 98304 {
		t.Errorf("the longest secret: %v", err)
	}
}
