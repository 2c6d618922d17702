package firmware

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	_ "crypto/sha256" // the hashes of images
	_ "crypto/sha512"
	"crypto/x509"
	"fmt"
	"io"
)

// maxPure is the longest image, in bytes, whose signature is over the image
// itself: it has to be in memory.
const maxPure = 16 << 20

// Trust is what a device is built with.
type Trust struct {
	// Keys of the bootloader: RSA-2048 or -3072, ECDSA on P-256 or P-384,
	// Ed25519. One of them must have signed; there are two while keys change.
	Keys []crypto.PublicKey
	// Vendor and Class are what an image must name (UUIDs). All zeros: any.
	Vendor, Class [16]byte
	// Decrypt, on X25519 or P-256, decrypts images that are for this device; nil
	// refuses encrypted ones. They stay encrypted where they are kept: the
	// bootloader, which has the key, too, decrypts what it starts.
	Decrypt *ecdh.PrivateKey
}

// Verify checks an image that fills a file, and returns what it says of
// itself. Its error is a *Refusal, but where the file could not be read.
func Verify(file io.ReaderAt, size int64, trust Trust) (*Image, error) {
	p, err := parse(file, size)
	if err != nil {
		return nil, err
	}
	kind, digest, err := p.checkDigest(file, trust)
	if err != nil {
		return nil, err
	}
	if err := p.checkSigned(file, kind, digest, trust.Keys); err != nil {
		return nil, err
	}
	if err := trust.class(&p.Image); err != nil {
		return nil, err
	}
	return &p.Image, nil
}

// class holds a genuine image against what the device is.
func (t Trust) class(im *Image) error {
	none := [16]byte{}
	if t.Vendor != none && im.Vendor != t.Vendor {
		return refuse(Foreign, "the image is of vendor %x: this device is of %x", im.Vendor, t.Vendor)
	}
	if t.Class != none && im.Class != t.Class {
		return refuse(Foreign, "the image is for devices of class %x: this one is of %x", im.Class, t.Class)
	}
	return nil
}

var hashes = map[uint16]crypto.Hash{tlvSHA256: crypto.SHA256, tlvSHA384: crypto.SHA384, tlvSHA512: crypto.SHA512}

// checkDigest compares the image with the one digest that it has.
func (p *parsed) checkDigest(file io.ReaderAt, trust Trust) (kind uint16, digest []byte, err error) {
	var stated []byte
	for _, t := range p.open {
		if _, ok := hashes[t.kind]; !ok {
			continue
		}
		if stated != nil {
			return 0, nil, refuse(Damaged, "the image has two digests")
		}
		kind, stated = t.kind, t.value
	}
	if stated == nil {
		return 0, nil, refuse(Damaged, "the image has no digest")
	}
	contents, err := p.contents(file, trust)
	if err != nil {
		return 0, nil, err
	}
	h := hashes[kind].New()
	if _, err := io.Copy(h, contents); err != nil {
		return 0, nil, fmt.Errorf("read the image: %w", err)
	}
	if digest = h.Sum(nil); !bytes.Equal(digest, stated) {
		return 0, nil, refuse(Damaged, "the image was changed: its digest is %x, but it says %x", digest, stated)
	}
	return kind, digest, nil
}

// checkSigned looks for a good signature by one of the device's keys. A
// signature follows the key, or its hash, that it is by.
func (p *parsed) checkSigned(file io.ReaderAt, kind uint16, digest []byte, keys []crypto.PublicKey) error {
	for _, key := range keys {
		names, err := namesOf(key, hashes[kind])
		if err != nil {
			return err
		}
		for i := range len(p.open) - 1 {
			t := p.open[i]
			if name := names[t.kind]; name == nil || !bytes.Equal(name, t.value) {
				continue
			}
			if good, err := p.signedBy(file, key, digest, p.open[i+1]); err != nil || good {
				return err
			}
			return refuse(Forged, "the image names a key of this device, but its signature is not by it")
		}
	}
	return refuse(Forged, "the image is signed with none of the device's %d keys", len(keys))
}

// namesOf are a key and its hash, as images have them.
func namesOf(key crypto.PublicKey, hash crypto.Hash) (map[uint16][]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return nil, fmt.Errorf("a key of the device: %w", err)
	}
	if k, ok := key.(*rsa.PublicKey); ok {
		der = x509.MarshalPKCS1PublicKey(k)
	}
	h := hash.New()
	h.Write(der)
	return map[uint16][]byte{tlvPublicKey: der, tlvKeyHash: h.Sum(nil)}, nil
}

// signedBy checks a signature, which must be of the kind that its key makes.
func (p *parsed) signedBy(file io.ReaderAt, key crypto.PublicKey, digest []byte, sig tlv) (bool, error) {
	switch key := key.(type) {
	case *rsa.PublicKey:
		kinds := map[int]uint16{256: tlvRSA2048, 384: tlvRSA3072}
		return sig.kind == kinds[key.Size()] && len(digest) == 32 && !p.pure() &&
			rsa.VerifyPSS(key, crypto.SHA256, digest, sig.value, &rsa.PSSOptions{SaltLength: 32}) == nil, nil
	case *ecdsa.PublicKey:
		return sig.kind == tlvECDSA && len(digest) == key.Params().BitSize/8 && !p.pure() &&
			ecdsa.VerifyASN1(key, digest, sig.value), nil
	case ed25519.PublicKey:
		message, err := p.message(file, digest)
		return err == nil && sig.kind == tlvEd25519 && ed25519.Verify(key, message, sig.value), err
	}
	return false, fmt.Errorf("a key of the device is a %T: MCUboot knows RSA, ECDSA and Ed25519", key)
}

// message is what Ed25519 signed: the digest, or the image if it says so.
func (p *parsed) message(file io.ReaderAt, digest []byte) ([]byte, error) {
	if !p.pure() {
		return digest, nil
	}
	if p.signed > maxPure {
		return nil, refuse(Damaged, "the image of %d bytes is signed itself instead of its digest: that is checked up to %d", p.signed, maxPure)
	}
	message := make([]byte, p.signed)
	if _, err := file.ReadAt(message, 0); err != nil {
		return nil, fmt.Errorf("read the image: %w", err)
	}
	return message, nil
}

func (p *parsed) pure() bool {
	for _, t := range p.open {
		if t.kind == tlvPure && bytes.Equal(t.value, []byte{1}) {
			return true
		}
	}
	return false
}
