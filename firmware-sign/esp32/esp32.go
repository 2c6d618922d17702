// Package esp32 signs images for Secure Boot v2 of Espressif's chips, to the
// byte as espsecure does, and verifies them. Numbers are little-endian.
//
// The image is filled up to a sector of 4 KiB; a sector with signature blocks
// follows, each with the digest of all before the sector, the key and the
// signature (ESP-IDF, "Secure Boot v2", "Signature Block Format").
package esp32

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"errors"
	"fmt"
	"io"

	firmwaresign "github.com/touchmark/touchmark/firmware-sign"
	"github.com/touchmark/touchmark/firmware-sign/internal/stream"
)

const (
	sectorLen = 4096
	blockLen  = 1216
	maxBlocks = 3
	imageMark = 0xe9 // the first byte of bootloaders and applications
	blockMark = 0xe7
	// maxImage is the largest flash chip that the family addresses, in bytes.
	maxImage = 128 << 20
)

// Image signs a bootloader or an application; it is a [firmwaresign.Format].
type Image struct {
	// Keys are one to three of RSA-3072, for chips that revoke keys one by
	// one, or one of ECDSA on P-256 or P-384. Which of them a chip takes, its
	// data sheet says: the ESP32 itself one of RSA.
	Keys []crypto.PublicKey
}

type draft struct {
	keys   []key
	digest []byte
	want   []firmwaresign.ToSign
}

// Prepare writes the image, filled up to a sector.
func (im Image) Prepare(file *io.SectionReader, out io.Writer) (firmwaresign.Draft, error) {
	keys, err := im.keys()
	if err != nil {
		return nil, err
	}
	if err := check(file); err != nil {
		return nil, err
	}
	if out == nil {
		out = io.Discard
	}
	h := keys[0].algorithm.Hash().New()
	if err := stream.Copy(h, out, io.NewSectionReader(file, 0, file.Size()), file.Size()); err != nil {
		return nil, err
	}
	filling := bytes.Repeat([]byte{0xff}, int(-file.Size()&(sectorLen-1)))
	h.Write(filling)
	if _, err := out.Write(filling); err != nil {
		return nil, err
	}
	d := &draft{keys: keys, digest: h.Sum(nil)}
	for i, k := range keys {
		want, err := firmwaresign.NewDigestToSign(k.algorithm, im.Keys[i], d.digest)
		if err != nil {
			return nil, err
		}
		d.want = append(d.want, want)
	}
	return d, nil
}

// check holds the file to what can be signed.
func check(file *io.SectionReader) error {
	if file.Size() > maxImage {
		return fmt.Errorf("the file is %d bytes long: an image has at most %d", file.Size(), maxImage)
	}
	head := make([]byte, 1)
	if _, err := file.ReadAt(head, 0); err != nil {
		return errors.New("the file is empty: it is no image")
	}
	if head[0] != imageMark {
		return fmt.Errorf("the file begins with 0x%02x, not with 0x%02x: it is no image of esptool's (esptool elf2image makes one of an ELF file)", head[0], imageMark)
	}
	if file.Size()%sectorLen != 0 || file.Size() < 2*sectorLen {
		return nil
	}
	sector := make([]byte, sectorLen)
	if _, err := file.ReadAt(sector, file.Size()-sectorLen); err != nil {
		return fmt.Errorf("read the last sector: %w", err)
	}
	if isBlock(sector[:blockLen]) {
		return errors.New("the image is signed already: sign what the build made, with all its keys at once")
	}
	return nil
}

func (im Image) keys() (keys []key, err error) {
	if len(im.Keys) == 0 || len(im.Keys) > maxBlocks {
		return nil, fmt.Errorf("%d keys were given: an image is signed with one to %d", len(im.Keys), maxBlocks)
	}
	for i, pub := range im.Keys {
		k, err := newKey(pub)
		if err != nil {
			return nil, fmt.Errorf("key %d of %d: %w", i+1, len(im.Keys), err)
		}
		if k.version == versionECDSA && len(im.Keys) > 1 {
			return nil, &firmwaresign.KeyError{Reason: "a chip that checks ECDSA reads one signature: give that key alone"}
		}
		keys = append(keys, k)
	}
	return keys, nil
}

func (d *draft) ToSign() []firmwaresign.ToSign { return d.want }

// Finish writes the sector with the signatures.
func (d *draft) Finish(out io.Writer, signatures [][]byte) error {
	sector := bytes.Repeat([]byte{0xff}, sectorLen)
	for i, k := range d.keys {
		block, err := k.block(d.digest, signatures[i])
		if err != nil {
			return err
		}
		copy(sector[i*blockLen:], block)
	}
	_, err := out.Write(sector)
	return err
}

// KeyDigest is what is burned into the chip's fuses for a key: a SHA-256
// over the key as it is in signature blocks.
func KeyDigest(pub crypto.PublicKey) ([]byte, error) {
	k, err := newKey(pub)
	if err != nil {
		return nil, err
	}
	h := crypto.SHA256.New()
	h.Write(k.encoded)
	return h.Sum(nil), nil
}

func newKey(pub crypto.PublicKey) (key, error) {
	switch pub := pub.(type) {
	case *rsa.PublicKey:
		if pub.N.BitLen() == 3072 {
			return rsaKey(pub), nil
		}
		return key{}, &firmwaresign.KeyError{Reason: fmt.Sprintf("the key is RSA of %d bits: chips check RSA of 3072", pub.N.BitLen())}
	case *ecdsa.PublicKey:
		return ecdsaKey(pub)
	}
	return key{}, &firmwaresign.KeyError{Reason: fmt.Sprintf("the key is a %T: chips check RSA-3072, and ECDSA on P-256 or P-384", pub)}
}
