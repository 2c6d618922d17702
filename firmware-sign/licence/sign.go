package licence

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"math/big"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	firmwaresign "github.com/touchmark/touchmark/firmware-sign"
)

// AlgorithmFor is the algorithm of a key.
func AlgorithmFor(pub crypto.PublicKey) (Algorithm, error) {
	switch pub := pub.(type) {
	case ed25519.PublicKey:
		return Ed25519, nil
	case *ecdsa.PublicKey:
		if pub.Curve == elliptic.P256() {
			return P256, nil
		}
	}
	return 0, &firmwaresign.KeyError{Reason: fmt.Sprintf("a key of type %T cannot sign licences: use Ed25519, or ECDSA on P-256", pub)}
}

// Sign makes the licence for one chip. The header's algorithm and length are
// filled in. The signature is not verified again, which would take three
// times as long as making it: what a broken key signed, the firmware refuses
// before the device has left the rig.
func Sign(h Header, uid []byte, key crypto.Signer) (l Licence, err error) {
	if h.Algorithm, err = AlgorithmFor(key.Public()); err != nil {
		return l, err
	}
	if err := h.UIDType.CheckUID(uid); err != nil {
		return l, err
	}
	h.UIDLength = uint8(len(uid))
	message, err := h.message(uid)
	if err != nil {
		return l, err
	}
	l.Header = h
	if h.Algorithm == Ed25519 {
		sig, err := key.Sign(rand.Reader, message, crypto.Hash(0))
		if err == nil && copy(l.Signature[:], sig) != sigSize {
			err = fmt.Errorf("it has %d bytes", len(sig))
		}
		return l, signed(err)
	}
	digest := sha256.Sum256(message)
	sig, err := key.Sign(rand.Reader, digest[:], crypto.SHA256)
	if err == nil {
		err = rawECDSA(&l.Signature, sig)
	}
	return l, signed(err)
}

func signed(err error) error {
	if err != nil {
		return fmt.Errorf("sign the licence: %w", err)
	}
	return nil
}

// rawECDSA writes r and s of a signature in DER at full length.
func rawECDSA(raw *[sigSize]byte, der []byte) error {
	r, s := new(big.Int), new(big.Int)
	in := cryptobyte.String(der)
	var seq cryptobyte.String
	if !in.ReadASN1(&seq, asn1.SEQUENCE) || !in.Empty() || !seq.ReadASN1Integer(r) || !seq.ReadASN1Integer(s) || !seq.Empty() ||
		r.Sign() <= 0 || s.Sign() <= 0 || r.BitLen() > 256 || s.BitLen() > 256 {
		return fmt.Errorf("%x is no ECDSA signature on P-256", der)
	}
	r.FillBytes(raw[:32])
	s.FillBytes(raw[32:])
	return nil
}
