package esp32

import (
	"crypto/ecdsa"
	"crypto/rsa"
	"encoding/asn1"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math/big"
	"slices"

	firmwaresign "github.com/touchmark/touchmark/firmware-sign"
)

// Versions of signature blocks, and what ECDSA's say of hash and curve.
const (
	versionRSA   = 2
	versionECDSA = 3
	curveP256    = 2
	curveP384    = 3
	crcAt        = 1196 // the checksum is over what stands before it
)

// key is how a signature block has a key.
type key struct {
	algorithm firmwaresign.Algorithm
	version   byte
	hash      byte // 1 is SHA-384
	encoded   []byte
	size      int // bytes of one of an ECDSA signature's two numbers
}

// rsaKey has, beside the key, two numbers that the chip's multiplier needs.
func rsaKey(pub *rsa.PublicKey) key {
	r := new(big.Int).Lsh(big.NewInt(1), 2*3072)
	r.Mod(r, pub.N)
	word := new(big.Int).Lsh(big.NewInt(1), 32)
	inverse := new(big.Int).ModInverse(pub.N, word)
	m := uint32(new(big.Int).Sub(word, inverse).Uint64())
	b := little(pub.N, 384)
	b = binary.LittleEndian.AppendUint32(b, uint32(pub.E))
	b = append(b, little(r, 384)...)
	b = binary.LittleEndian.AppendUint32(b, m)
	return key{algorithm: firmwaresign.RSAPSSSHA256, version: versionRSA, encoded: b}
}

func ecdsaKey(pub *ecdsa.PublicKey) (key, error) {
	k := key{version: versionECDSA}
	curve := byte(curveP256)
	switch pub.Params().BitSize {
	case 256:
		k.algorithm, k.size = firmwaresign.ECDSAP256SHA256, 32
	case 384:
		k.algorithm, k.size, k.hash, curve = firmwaresign.ECDSAP384SHA384, 48, 1, curveP384
	default:
		return k, &firmwaresign.KeyError{Reason: fmt.Sprintf("the key is on %s: chips check ECDSA on P-256 and P-384", pub.Params().Name)}
	}
	point, err := pub.Bytes() // 4, x, y
	if err != nil {
		return k, &firmwaresign.KeyError{Reason: err.Error()}
	}
	x, y := point[1:1+k.size], point[1+k.size:]
	slices.Reverse(x)
	slices.Reverse(y)
	k.encoded = slices.Concat([]byte{curve}, x, y)
	return k, nil
}

// little is a number in n bytes, the lowest first.
func little(x *big.Int, n int) []byte {
	b := x.FillBytes(make([]byte, n))
	slices.Reverse(b)
	return b
}

// block is the signature block of one key.
func (k key) block(digest, signature []byte) ([]byte, error) {
	b := append([]byte{blockMark, k.version, k.hash, 0}, digest...)
	b = append(b, k.encoded...)
	if k.version == versionRSA {
		signature = slices.Clone(signature)
		slices.Reverse(signature)
		b = append(b, signature...)
	} else {
		var rs struct{ R, S *big.Int }
		if _, err := asn1.Unmarshal(signature, &rs); err != nil {
			return nil, fmt.Errorf("the ECDSA signature: %w", err)
		}
		b = slices.Concat(b, little(rs.R, k.size), little(rs.S, k.size))
	}
	b = append(b, make([]byte, crcAt-len(b))...)
	b = binary.LittleEndian.AppendUint32(b, crc32.ChecksumIEEE(b))
	return append(b, make([]byte, blockLen-len(b))...), nil
}

// isBlock reports whether these bytes are a signature block.
func isBlock(b []byte) bool {
	return b[0] == blockMark && binary.LittleEndian.Uint32(b[crcAt:]) == crc32.ChecksumIEEE(b[:crcAt])
}
