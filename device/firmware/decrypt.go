package firmware

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/sha512"
	"fmt"
	"hash"
	"io"
)

// Types of the TLV with the content key, wrapped for a device (MCUboot's
// docs/encrypted_images.md; boot/bootutil/src/encrypted.c where that differs).
const (
	tlvECIESP256    = 0x32
	tlvECIESX25519  = 0x33
	tlvX25519SHA512 = 0x34
)

// flagAES256 in the header of an encrypted image means a content key of 32
// bytes; otherwise it has 16.
const flagAES256 = 0x8

// contents reads what signatures are over: the image with its payload
// decrypted.
func (p *parsed) contents(file io.ReaderAt, trust Trust) (io.Reader, error) {
	if p.keyLength == 0 {
		return io.NewSectionReader(file, 0, p.signed), nil
	}
	if p.pure() {
		return nil, refuse(Damaged, "the image is encrypted, and says that it is signed itself instead of its digest: no image is both")
	}
	key, err := p.unwrap(trust.Decrypt)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	payload := cipher.StreamReader{S: cipher.NewCTR(block, make([]byte, aes.BlockSize)), R: io.NewSectionReader(file, p.header, p.payload)}
	after := p.header + p.payload
	return io.MultiReader(io.NewSectionReader(file, 0, p.header), payload, io.NewSectionReader(file, after, p.signed-after)), nil
}

// unwrap gets the content key by ECIES: an ephemeral key, HKDF, HMAC and
// AES-CTR.
func (p *parsed) unwrap(by *ecdh.PrivateKey) ([]byte, error) {
	if by == nil {
		return nil, refuse(Sealed, "the image is encrypted, and this device has no key to decrypt it with")
	}
	for _, t := range p.open {
		switch {
		case t.kind == tlvECIESP256 && by.Curve() == ecdh.P256():
			return p.unwrapBy(by, t.value, 65, sha256.New)
		case t.kind == tlvECIESX25519 && by.Curve() == ecdh.X25519():
			return p.unwrapBy(by, t.value, 32, sha256.New)
		case t.kind == tlvX25519SHA512 && by.Curve() == ecdh.X25519():
			return p.unwrapBy(by, t.value, 32, sha512.New)
		}
	}
	return nil, refuse(Sealed, "the image is encrypted, but for nobody with a key on %v", by.Curve())
}

func (p *parsed) unwrapBy(by *ecdh.PrivateKey, value []byte, point int, newHash func() hash.Hash) ([]byte, error) {
	size := newHash().Size()
	if len(value) != point+size+p.keyLength {
		return nil, refuse(Damaged, "the wrapped key takes %d bytes, not %d", len(value), point+size+p.keyLength)
	}
	ephemeral, err := by.Curve().NewPublicKey(value[:point])
	if err != nil {
		return nil, refuse(Damaged, "the key that the content key is wrapped with: %v", err)
	}
	shared, err := by.ECDH(ephemeral)
	if err != nil {
		return nil, refuse(Damaged, "the key that the content key is wrapped with: %v", err)
	}
	derived, err := hkdf.Key(newHash, shared, nil, "MCUBoot_ECIES_v1", p.keyLength+size)
	if err != nil {
		return nil, fmt.Errorf("derive a key: %w", err)
	}
	mac, sealed := value[point:point+size], value[point+size:]
	h := hmac.New(newHash, derived[p.keyLength:])
	h.Write(sealed)
	if !hmac.Equal(h.Sum(nil), mac) {
		return nil, refuse(Sealed, "the image is encrypted for another device")
	}
	block, err := aes.NewCipher(derived[:p.keyLength])
	if err != nil {
		return nil, err
	}
	key := bytes.Clone(sealed)
	cipher.NewCTR(block, make([]byte, aes.BlockSize)).XORKeyStream(key, key)
	return key, nil
}
