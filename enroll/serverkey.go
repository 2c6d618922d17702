package enroll

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"fmt"
	"slices"

	"github.com/touchmark/touchmark/vetting"
)

// ServerKey is a private key that was made for a device (RFC 7030 §4.4). It
// is answered once, and neither stored nor logged: its fields are out of
// reach of every formatter.
type ServerKey struct{ signer crypto.Signer }

// PKCS8 gives the key as DER (RFC 5958).
func (k *ServerKey) PKCS8() ([]byte, error) { return x509.MarshalPKCS8PrivateKey(k.signer) }

// String and GoString keep the key out of logs and messages.
func (*ServerKey) String() string { return "a private key" }

// GoString does as String.
func (*ServerKey) GoString() string { return "a private key" }

// ParseServerKeyCSR parses the PKCS#10 request of a device that wants its key
// made. Its own key and signature are of no account (RFC 7030 §4.4.1), so
// that a device may fill in anything. Its errors are *RequestErrors.
func ParseServerKeyCSR(der []byte) (*x509.CertificateRequest, error) { return parseCSR(der) }

// makeKey makes a key pair of the kind of the request's own key if the
// profile accepts that, else of the first kind that it accepts, and returns
// the request with the new public key in the place of the old.
func makeKey(p vetting.Profile, csr *x509.CertificateRequest) (*ServerKey, *x509.CertificateRequest, error) {
	kinds := p.KeyKinds()
	kind, err := KeyKind(csr.PublicKey)
	if err != nil || !slices.Contains(kinds, kind) {
		kind = kinds[0]
	}
	key, err := generate(kind)
	if err != nil {
		return nil, nil, fmt.Errorf("make a key of kind %s for a device: %w", kind, err)
	}
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return nil, nil, err
	}
	return &ServerKey{key}, &x509.CertificateRequest{
		Subject: csr.Subject, RawSubject: csr.RawSubject, Extensions: csr.Extensions,
		PublicKey: key.Public(), RawSubjectPublicKeyInfo: spki,
	}, nil
}

func generate(kind string) (crypto.Signer, error) {
	switch kind {
	case "P-256":
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "P-384":
		return ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case "P-521":
		return ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	case "Ed25519":
		_, key, err := ed25519.GenerateKey(rand.Reader)
		return key, err
	case "RSA-2048":
		return rsa.GenerateKey(rand.Reader, 2048)
	case "RSA-3072":
		return rsa.GenerateKey(rand.Reader, 3072)
	case "RSA-4096":
		return rsa.GenerateKey(rand.Reader, 4096)
	default:
		return nil, fmt.Errorf("no key of kind %q can be made", kind)
	}
}
