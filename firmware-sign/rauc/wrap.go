package rauc

import (
	"crypto"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/touchmark/touchmark/internal/cms"
)

// Recipient is whom a bundle is encrypted to: one device, or all of a family.
type Recipient struct {
	Key crypto.PublicKey // RSA, or ECDSA on P-256, P-384 or P-521
	// ID is the key's identifier (subjectKeyIdentifier), by which a device that
	// is configured with a certificate finds what is for it.
	ID []byte
}

// Split tells the two parts of a signed bundle of the format crypt apart: up
// to size is what all devices share, encrypted when the bundle was built. The
// message after it has the key in the manifest, and is a secret.
func Split(bundle *io.SectionReader) (size int64, message []byte, err error) {
	e, err := readEnd(bundle)
	if err != nil {
		return 0, nil, err
	}
	if err := e.info.encrypted(); err != nil {
		return 0, nil, err
	}
	return e.payload + e.verity.size, e.message, nil
}

func (i Info) encrypted() error {
	if i.Format != "crypt" {
		return fmt.Errorf("the bundle is of the format %s: build it with format=crypt, so that there is something to encrypt", i.Format)
	}
	return nil
}

// CheckMessage reports whether this is the message of a bundle of the format
// crypt, as [Split] gives it.
func CheckMessage(message []byte) error {
	p7, err := cms.Parse(message, maxSignature)
	if err != nil {
		return err
	}
	info, _, err := readManifest(p7.Content)
	if err != nil {
		return fmt.Errorf("the manifest: %w", err)
	}
	return info.encrypted()
}

// Wrap makes what a bundle ends with for recipients, each of whom can open it,
// as "rauc encrypt" does: it follows what all share. It takes as long for a
// bundle of gigabytes as for a small one.
func Wrap(message []byte, to ...Recipient) (end []byte, err error) {
	if err := CheckMessage(message); err != nil {
		return nil, err
	}
	var recipients []cms.Recipient
	for _, r := range to {
		recipients = append(recipients, cms.Recipient(r))
	}
	if end, err = cms.Envelop(message, recipients...); err != nil {
		return nil, err
	}
	if len(end) > maxSignature {
		return nil, errors.New("the signature for so many recipients is longer than RAUC reads: wrap for fewer")
	}
	return binary.BigEndian.AppendUint64(end, uint64(len(end))), nil
}
