package audit

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/mod/sumdb/note"
)

// typeECDSA is the signature type of ECDSA with SHA-256 (C2SP signed-note):
// the one for keys in an HSM, which seldom signs with Ed25519. As the key ID
// it has the first four bytes of the SHA-256 of the SubjectPublicKeyInfo, and
// signatures are in ASN.1 (RFC 3279 §2.2.3).
const typeECDSA = 2

// ParseVerifier reads a verifier's text form, surrounding space aside. Its
// key is Ed25519 or ECDSA on P-256.
func ParseVerifier(text string) (note.Verifier, error) {
	text = strings.TrimSpace(text)
	v, err := parseVerifier(text)
	if err != nil {
		return nil, fmt.Errorf("%q is not a log's verifier (%w): want name+hash+key, as /audit/verifier gives it", clip(text), err)
	}
	return v, nil
}

func parseVerifier(text string) (note.Verifier, error) {
	name, rest, _ := strings.Cut(text, "+")
	_, encoded, _ := strings.Cut(rest, "+")
	key, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil || len(key) == 0 || key[0] != typeECDSA {
		return note.NewVerifier(text)
	}
	if err := checkOrigin(name); err != nil {
		return nil, err
	}
	public, err := x509.ParsePKIXPublicKey(key[1:])
	if err != nil {
		return nil, err
	}
	canonical, err := verifierKey(name, public)
	if err != nil {
		return nil, err
	}
	if text != canonical {
		return nil, errors.New("its hash is not the key's")
	}
	return ecdsaVerifier{name, ecdsaKeyID(key[1:]), public.(*ecdsa.PublicKey)}, nil
}

// verifierKey is the text form of the verifier of a log's key.
func verifierKey(name string, public crypto.PublicKey) (string, error) {
	switch public := public.(type) {
	case ed25519.PublicKey:
		return note.NewEd25519VerifierKey(name, public)
	case *ecdsa.PublicKey:
		if public.Curve != elliptic.P256() {
			break
		}
		der, err := x509.MarshalPKIXPublicKey(public)
		if err != nil {
			return "", err
		}
		return fmt.Sprintf("%s+%08x+%s", name, ecdsaKeyID(der), base64.StdEncoding.EncodeToString(append([]byte{typeECDSA}, der...))), nil
	}
	return "", fmt.Errorf("the log's key is of type %T: want Ed25519 or ECDSA on P-256", public)
}

func ecdsaKeyID(spki []byte) uint32 {
	hash := sha256.Sum256(spki)
	return binary.BigEndian.Uint32(hash[:])
}

// ecdsaVerifier is a [note.Verifier].
type ecdsaVerifier struct {
	name string
	id   uint32
	key  *ecdsa.PublicKey
}

func (v ecdsaVerifier) Name() string    { return v.name }
func (v ecdsaVerifier) KeyHash() uint32 { return v.id }

func (v ecdsaVerifier) Verify(text, sig []byte) bool {
	digest := sha256.Sum256(text)
	return ecdsa.VerifyASN1(v.key, digest[:], sig)
}

// signText signs a note's text as the type of the key wants it.
func signText(key crypto.Signer, text []byte) ([]byte, error) {
	if _, ok := key.Public().(ed25519.PublicKey); ok {
		return key.Sign(rand.Reader, text, crypto.Hash(0))
	}
	digest := sha256.Sum256(text)
	return key.Sign(rand.Reader, digest[:], crypto.SHA256)
}
