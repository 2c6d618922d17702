// Package licence makes and checks licences: a signature over a chip's UID
// that lets firmware run on that chip and no other. docs/licences.md has the
// format, touchmark_licence.h the check that firmware makes.
package licence

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Size is that of a licence, in bytes: a header and a signature.
const (
	Size       = headerSize + sigSize
	headerSize = 16
	sigSize    = 64
)

// tag is the domain of what is signed: no signature of another kind by the
// same key can be taken for a licence.
const tag = "touchmark lic 1\x00"

// Header is what a licence says besides its signature. The UID is not in it.
type Header struct {
	Algorithm Algorithm
	UIDType   UIDType
	UIDLength uint8
	KeyID     uint8 // which of the keys that the firmware knows
	// Epoch is raised when licences that are out should lose their worth for
	// newer firmware.
	Epoch   uint16
	Product uint32
	Lot     uint32 // the quota that the licence was taken from
}

// Algorithm is how a licence is signed.
type Algorithm uint8

// The algorithms: Ed25519 (RFC 8032), and ECDSA on P-256 with SHA-256, its
// signature r and s, of 32 bytes each, big-endian.
const (
	Ed25519 Algorithm = 1
	P256    Algorithm = 2
)

func (a Algorithm) String() string {
	switch a {
	case Ed25519:
		return "Ed25519"
	case P256:
		return "ECDSA P-256"
	}
	return fmt.Sprintf("algorithm %d", uint8(a))
}

// Licence is one licence taken apart.
type Licence struct {
	Header
	Signature [sigSize]byte
}

// ErrEmpty is of a place where no licence was ever stored.
var ErrEmpty = errors.New("there is no licence: the bytes are blank")

// Parse reads a licence, and does not judge its signature.
func Parse(b []byte) (l Licence, err error) {
	switch {
	case len(b) != Size:
		return l, fmt.Errorf("a licence has %d bytes, not %d", Size, len(b))
	case blank(b):
		return l, ErrEmpty
	case b[0] != 'T' || b[1] != 1:
		return l, fmt.Errorf("it begins with %x: a licence of version 1 begins with 5401", b[:2])
	}
	l.Header = Header{
		Algorithm: Algorithm(b[2]), UIDType: UIDType(b[3]), UIDLength: b[4], KeyID: b[5],
		Epoch: binary.LittleEndian.Uint16(b[6:]), Product: binary.LittleEndian.Uint32(b[8:]), Lot: binary.LittleEndian.Uint32(b[12:]),
	}
	copy(l.Signature[:], b[headerSize:])
	return l, l.check()
}

// Bytes are the licence as it is stored.
func (l Licence) Bytes() []byte {
	return append(l.append(make([]byte, 0, Size)), l.Signature[:]...)
}

func (h Header) append(b []byte) []byte {
	b = append(b, 'T', 1, byte(h.Algorithm), byte(h.UIDType), h.UIDLength, h.KeyID)
	b = binary.LittleEndian.AppendUint16(b, h.Epoch)
	b = binary.LittleEndian.AppendUint32(b, h.Product)
	return binary.LittleEndian.AppendUint32(b, h.Lot)
}

func (h Header) check() error {
	switch {
	case h.Algorithm != Ed25519 && h.Algorithm != P256:
		return fmt.Errorf("%s is not known: a licence has Ed25519 (1) or ECDSA P-256 (2)", h.Algorithm)
	case !h.UIDType.fits(int(h.UIDLength)):
		return fmt.Errorf("a UID of %d bytes is none of type %s", h.UIDLength, h.UIDType)
	}
	return nil
}

// message is what is signed.
func (h Header) message(uid []byte) ([]byte, error) {
	if err := h.check(); err != nil {
		return nil, err
	}
	if len(uid) != int(h.UIDLength) {
		return nil, fmt.Errorf("the UID has %d bytes, the licence is for one of %d", len(uid), h.UIDLength)
	}
	return append(h.append([]byte(tag)), uid...), nil
}

func blank(b []byte) bool {
	and, or := byte(0xff), byte(0)
	for _, x := range b {
		and, or = and&x, or|x
	}
	return and == 0xff || or == 0
}
