package licence

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
	"math/big"

	firmwaresign "github.com/touchmark/touchmark/firmware-sign"
)

// Verify checks that a licence is for the chip with the UID, and by the key.
func (l Licence) Verify(uid []byte, pub crypto.PublicKey) error {
	alg, err := AlgorithmFor(pub)
	if err != nil {
		return err
	}
	if alg != l.Algorithm {
		return &firmwaresign.KeyError{Reason: fmt.Sprintf("the licence is signed with %s, the key is of %s", l.Algorithm, alg)}
	}
	message, err := l.message(uid)
	if err != nil {
		return err
	}
	good := false
	switch pub := pub.(type) {
	case ed25519.PublicKey:
		good = ed25519.Verify(pub, message, l.Signature[:])
	case *ecdsa.PublicKey:
		digest := sha256.Sum256(message)
		r, s := new(big.Int).SetBytes(l.Signature[:32]), new(big.Int).SetBytes(l.Signature[32:])
		good = ecdsa.Verify(pub, digest[:], r, s)
	}
	if !good {
		return firmwaresign.ErrSignature
	}
	return nil
}
