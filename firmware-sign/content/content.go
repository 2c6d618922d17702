// Package content seals what is secret of an encrypted image, such as its
// content key, for the one key that can wrap it for devices. Whoever holds
// that key's public half can seal; the private half stays in a key store.
package content

import (
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
)

// MaxSecret bounds a secret, in bytes. The longest are signatures of bundles.
const MaxSecret = 64 << 10

// WrappingKey is the public half of the key that secrets are sealed for: RSA from
// 2048 bits.
type WrappingKey struct {
	PublicKey []byte `json:"publicKey" doc:"The public key: a SubjectPublicKeyInfo, DER in base64"`
	// Hash is that of RSAES-OAEP. Some key stores do it with SHA-1 alone, which
	// is sound there: OAEP needs no collision resistance.
	Hash string `json:"hash" enum:"SHA-256,SHA-1" doc:"The hash of RSAES-OAEP (RFC 8017 §7.1) that the key store takes"`
}

// Hashes lists those of WrappingKey, the better one first.
var Hashes = []string{"SHA-256", "SHA-1"}

// Sealed is a secret: AES-256-GCM by a key of its own, which is encrypted by
// RSAES-OAEP.
type Sealed struct {
	Key     string `json:"key" pattern:"^[0-9a-f]{64}$" doc:"The SHA-256 of the public key that it is sealed for, in hexadecimal"`
	Hash    string `json:"hash" enum:"SHA-256,SHA-1" doc:"The hash of RSAES-OAEP"`
	Wrapped []byte `json:"wrapped" minLength:"1" maxLength:"2048" doc:"The AES key, encrypted"`
	Box     []byte `json:"box" minLength:"1" maxLength:"98304" doc:"The nonce, and the secret by AES-256-GCM"`
}

// Of is what a secret belongs to. It opens for that alone.
type Of struct {
	Artefact int64
	SHA256   string // of the encrypted file, in hexadecimal
}

// bound is the additional data of AES-GCM.
func (of Of) bound() []byte {
	return fmt.Appendf(nil, "touchmark content 1\nartefact %d\nfile %s\n", of.Artefact, of.SHA256)
}

// Seal seals a secret.
func (k WrappingKey) Seal(secret []byte, of Of) (*Sealed, error) {
	pub, err := k.rsa()
	if err != nil {
		return nil, err
	}
	newHash, _, err := hashNamed(k.Hash)
	if err != nil {
		return nil, err
	}
	if len(secret) == 0 || len(secret) > MaxSecret {
		return nil, fmt.Errorf("a secret of %d bytes: 1 to %d are sealed", len(secret), MaxSecret)
	}
	once := make([]byte, 32)
	rand.Read(once)
	s := &Sealed{Key: k.Name(), Hash: k.Hash}
	if s.Wrapped, err = rsa.EncryptOAEP(newHash(), rand.Reader, pub, once, nil); err != nil {
		return nil, fmt.Errorf("seal a secret: %w", err)
	}
	box, err := boxOf(once)
	if err != nil {
		return nil, err
	}
	s.Box = box.Seal(nil, nil, secret, of.bound())
	return s, nil
}

// Open gives the secret back, by the private key. It is an error if it was
// sealed for another one, or belongs to something else.
func (k WrappingKey) Open(s *Sealed, private crypto.Decrypter, of Of) ([]byte, error) {
	if s.Key != k.Name() {
		return nil, fmt.Errorf("it is sealed for the key %s, but the key store has %s: give the server the key from before back", s.Key, k.Name())
	}
	_, hash, err := hashNamed(s.Hash)
	if err != nil {
		return nil, err
	}
	once, err := private.Decrypt(rand.Reader, s.Wrapped, &rsa.OAEPOptions{Hash: hash})
	if err != nil {
		return nil, fmt.Errorf("unwrap by the key store: %w", err)
	}
	if len(once) != 32 {
		return nil, errors.New("it was not sealed as it should be")
	}
	box, err := boxOf(once)
	if err != nil {
		return nil, err
	}
	secret, err := box.Open(nil, nil, s.Box, of.bound())
	if err != nil {
		return nil, fmt.Errorf("it does not belong to the artefact %d with the file %s, or was changed", of.Artefact, of.SHA256)
	}
	return secret, nil
}

// Name is the SHA-256 of the public key, in hexadecimal.
func (k WrappingKey) Name() string {
	sum := sha256.Sum256(k.PublicKey)
	return hex.EncodeToString(sum[:])
}

func (k WrappingKey) rsa() (*rsa.PublicKey, error) {
	pub, err := x509.ParsePKIXPublicKey(k.PublicKey)
	if err != nil {
		return nil, fmt.Errorf("the key to seal for: %w", err)
	}
	key, ok := pub.(*rsa.PublicKey)
	if !ok || key.N.BitLen() < 2048 {
		return nil, fmt.Errorf("the key to seal for is a %T: RSA from 2048 bits is taken", pub)
	}
	return key, nil
}

func hashNamed(name string) (func() hash.Hash, crypto.Hash, error) {
	switch name {
	case "SHA-256":
		return sha256.New, crypto.SHA256, nil
	case "SHA-1":
		return sha1.New, crypto.SHA1, nil
	}
	return nil, 0, fmt.Errorf("the hash %q: secrets are sealed with one of %v", name, Hashes)
}

// boxOf seals by a key that is used once, with a random nonce in front.
func boxOf(once []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(once)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}
