package mcuboot

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"errors"
	"fmt"
	"hash"
	"io"
	"slices"
)

// Recipient is whom an image's content key is wrapped for: one device, or all
// of a family that have the private key.
type Recipient struct {
	Key *ecdh.PublicKey // X25519 or P-256
	// SHA512 is for bootloaders that are so configured; X25519 only.
	SHA512 bool
}

// wrap encrypts a content key by ECIES, as MCUboot's encrypted.c undoes it:
// an ephemeral key, HKDF, AES-CTR and an HMAC. The documentation's derived key
// is too short for AES-256; bootloaders do it like this.
func (r *Recipient) wrap(contentKey []byte) (TLV, error) {
	if r.Key == nil {
		return TLV{}, errors.New("a recipient without a key")
	}
	kind, newHash := uint16(tlvECIESX25519), sha256.New
	switch {
	case r.Key.Curve() == ecdh.X25519() && r.SHA512:
		kind, newHash = tlvX25519SHA512, sha512.New
	case r.SHA512:
		return TLV{}, errors.New("content keys are wrapped with SHA-512 for X25519 alone")
	case r.Key.Curve() == ecdh.P256():
		kind = tlvECIESP256
	case r.Key.Curve() != ecdh.X25519():
		return TLV{}, fmt.Errorf("a content key cannot be wrapped for a key on %v: use X25519 or P-256", r.Key.Curve())
	}
	ephemeral, err := r.Key.Curve().GenerateKey(rand.Reader)
	if err != nil {
		return TLV{}, err
	}
	shared, err := ephemeral.ECDH(r.Key)
	if err != nil {
		return TLV{}, fmt.Errorf("agree on a key with the recipient: %w", err)
	}
	sealed, mac, err := seal(newHash, shared, contentKey)
	if err != nil {
		return TLV{}, err
	}
	return TLV{kind, slices.Concat(ephemeral.PublicKey().Bytes(), mac, sealed)}, nil
}

// seal encrypts a content key by a secret that is used but once.
func seal[H hash.Hash](newHash func() H, shared, contentKey []byte) (sealed, mac []byte, err error) {
	n := len(contentKey)
	derived, err := hkdf.Key(newHash, shared, nil, "MCUBoot_ECIES_v1", n+newHash().Size())
	if err != nil {
		return nil, nil, err
	}
	block, err := aes.NewCipher(derived[:n])
	if err != nil {
		return nil, nil, err
	}
	sealed = make([]byte, n)
	cipher.NewCTR(block, make([]byte, aes.BlockSize)).XORKeyStream(sealed, contentKey)
	h := hmac.New(func() hash.Hash { return newHash() }, derived[n:])
	h.Write(sealed)
	return sealed, h.Sum(nil), nil
}

// Wrap makes what an encrypted image ends with for one recipient. It replaces
// everything from offset on, and is a few hundred bytes, however large the
// image: all recipients share what is before it, signatures included. The
// content key must be the image's; that is not checked, for it would take
// reading the image.
func Wrap(image *io.SectionReader, contentKey []byte, to *Recipient) (offset int64, end []byte, err error) {
	f, offset, tlvs, err := split(image)
	if err != nil {
		return 0, nil, err
	}
	if len(contentKey) != f.keyLength() {
		return 0, nil, fmt.Errorf("the content key is %d bytes long: the image says %d", len(contentKey), f.keyLength())
	}
	end, err = WrapInto(tlvs, contentKey, to)
	return offset, end, err
}

// Split tells an encrypted image's two parts apart: up to size is what all
// recipients share, then come TLVs, of which one is the recipient's own. It
// gives the others, for [WrapInto].
func Split(image *io.SectionReader) (size int64, tlvs []byte, err error) {
	_, size, tlvs, err = split(image)
	return size, tlvs, err
}

func split(image *io.SectionReader) (f *found, size int64, tlvs []byte, err error) {
	if f, err = dissect(image); err != nil {
		return nil, 0, nil, err
	}
	switch {
	case !f.info.Encrypted:
		return nil, 0, nil, errors.New("the image is not encrypted: there is no key to wrap")
	case f.info.Size != image.Size():
		return nil, 0, nil, errors.New("the image fills its slot already: wrap the key before that")
	}
	a := area{magic: magicTLV}
	for _, e := range f.open {
		if e.kind < 0x30 {
			a.add(e.kind, e.value)
		}
	}
	tlvs, err = a.bytes()
	return f, f.signed, tlvs, err
}

// WrapInto is [Wrap] for who has no more of an image than what [Split] gave.
func WrapInto(tlvs, contentKey []byte, to *Recipient) (end []byte, err error) {
	if err := CheckTLVs(tlvs); err != nil {
		return nil, err
	}
	wrapped, err := to.wrap(contentKey)
	if err != nil {
		return nil, err
	}
	a := area{magic: magicTLV, tlvs: bytes.Clone(tlvs[tlvLen:])}
	a.add(wrapped.Type, wrapped.Value)
	return a.bytes()
}

// CheckTLVs reports whether these are TLVs that a wrapped key can follow.
func CheckTLVs(tlvs []byte) error {
	_, size, err := readArea(io.NewSectionReader(bytes.NewReader(tlvs), 0, int64(len(tlvs))), 0, magicTLV)
	if err == nil && int(size) != len(tlvs) {
		err = fmt.Errorf("they are %d bytes long, but say %d", len(tlvs), size)
	}
	if err != nil {
		return fmt.Errorf("the image's TLVs: %w", err)
	}
	return nil
}

// WrapFor is the whole of an image that is wrapped for one recipient.
func WrapFor(image *io.SectionReader, contentKey []byte, to *Recipient) (*io.SectionReader, error) {
	offset, end, err := Wrap(image, contentKey, to)
	if err != nil {
		return nil, err
	}
	joined := spliced{image, offset, bytes.NewReader(end)}
	return io.NewSectionReader(joined, 0, offset+int64(len(end))), nil
}

// spliced is a file with another end.
type spliced struct {
	file   io.ReaderAt
	offset int64
	end    io.ReaderAt
}

func (s spliced) ReadAt(p []byte, off int64) (n int, err error) {
	if off < s.offset {
		n, err = s.file.ReadAt(p[:min(int64(len(p)), s.offset-off)], off)
		if err != nil || n == len(p) {
			return n, err
		}
	}
	k, err := s.end.ReadAt(p[n:], off+int64(n)-s.offset)
	return n + k, err
}
