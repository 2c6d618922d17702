// Package licence is the check that firmware makes before it runs: that the
// chip under it has a licence. Devices with an operating system can use it as
// it is; for microcontrollers there is a C header. docs/licences.md has the
// format.
package licence

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math/big"
)

// Size of a licence in bytes.
const Size = 80

// Policy is what firmware knows.
type Policy struct {
	Keys    map[uint8]crypto.PublicKey // Ed25519, or ECDSA on P-256, by their numbers
	Product uint32
	Epoch   uint16 // the oldest that counts
	UIDType uint8
}

// Why firmware does not run. Errors wrap one of them.
var (
	ErrNone      = errors.New("there is no licence")
	ErrFormat    = errors.New("it is no licence")
	ErrProduct   = errors.New("the licence is another product's")
	ErrEpoch     = errors.New("the licence was taken back")
	ErrChip      = errors.New("the licence is another chip's")
	ErrKey       = errors.New("the licence is by an unknown key")
	ErrSignature = errors.New("the licence is forged, or another chip's")
)

// Check reports, by nil, that a chip may run the firmware. The UID is what was
// read from the silicon.
func Check(licence, uid []byte, p Policy) error {
	if len(licence) != Size {
		return fmt.Errorf("%w: it has %d bytes", ErrFormat, len(licence))
	}
	blank := true
	for _, b := range licence {
		blank = blank && b == licence[0]
	}
	h := licence[:16]
	switch {
	case blank && (h[0] == 0 || h[0] == 0xff):
		return ErrNone
	case h[0] != 'T' || h[1] != 1:
		return fmt.Errorf("%w: it begins with %x", ErrFormat, h[:2])
	case binary.LittleEndian.Uint32(h[8:]) != p.Product:
		return fmt.Errorf("%w: %d, and this is %d", ErrProduct, binary.LittleEndian.Uint32(h[8:]), p.Product)
	case binary.LittleEndian.Uint16(h[6:]) < p.Epoch:
		return fmt.Errorf("%w: it is of epoch %d, and %d is the oldest that counts", ErrEpoch, binary.LittleEndian.Uint16(h[6:]), p.Epoch)
	case h[3] != p.UIDType || int(h[4]) != len(uid):
		return fmt.Errorf("%w: it is for a UID of type %d and %d bytes", ErrChip, h[3], h[4])
	}
	if !verify(p.Keys[h[5]], h[2], append(append([]byte("touchmark lic 1\x00"), h...), uid...), licence[16:]) {
		if p.Keys[h[5]] == nil {
			return fmt.Errorf("%w: number %d", ErrKey, h[5])
		}
		return ErrSignature
	}
	return nil
}

func verify(key crypto.PublicKey, algorithm uint8, message, sig []byte) bool {
	switch key := key.(type) {
	case ed25519.PublicKey:
		return algorithm == 1 && ed25519.Verify(key, message, sig)
	case *ecdsa.PublicKey:
		digest := sha256.Sum256(message)
		return algorithm == 2 && key.Curve == elliptic.P256() && ecdsa.Verify(key, digest[:], new(big.Int).SetBytes(sig[:32]), new(big.Int).SetBytes(sig[32:]))
	}
	return false
}
