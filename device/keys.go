package device

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
)

// KeyKind names an algorithm and size for new keys.
type KeyKind string

// The kinds of key that a device can make.
const (
	P256    KeyKind = "P-256"
	P384    KeyKind = "P-384"
	Ed25519 KeyKind = "Ed25519"
	RSA2048 KeyKind = "RSA-2048"
	RSA3072 KeyKind = "RSA-3072"
)

// generate makes a key; the empty kind means P-256.
func (k KeyKind) generate() (crypto.Signer, error) {
	switch k {
	case P256, "":
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case P384:
		return ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case Ed25519:
		_, key, err := ed25519.GenerateKey(rand.Reader)
		return key, err
	case RSA2048:
		return rsa.GenerateKey(rand.Reader, 2048)
	case RSA3072:
		return rsa.GenerateKey(rand.Reader, 3072)
	default:
		return nil, fmt.Errorf("unknown kind of key %q; known are %s, %s, %s, %s and %s", k, P256, P384, Ed25519, RSA2048, RSA3072)
	}
}

// Fingerprint is how a manifest names a public key: the SHA-256 of its DER
// SubjectPublicKeyInfo as 64 lower-case hexadecimal digits.
func Fingerprint(pub crypto.PublicKey) (string, error) {
	spki, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return "", fmt.Errorf("fingerprint of a public key: %w", err)
	}
	sum := sha256.Sum256(spki)
	return hex.EncodeToString(sum[:]), nil
}

// sameKey reports whether two public keys are equal.
func sameKey(a, b crypto.PublicKey) bool {
	k, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && k.Equal(b)
}
