package fit

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"encoding/asn1"
	"encoding/binary"
	"fmt"
	"math/big"
	"slices"
	"strings"

	firmwaresign "github.com/touchmark/touchmark/firmware-sign"
)

// key is what an image needs to know of a key.
type key struct {
	public crypto.PublicKey
	algo   string // as U-Boot calls it, with the hash
	size   int    // of a signature, in bytes
}

func newKey(pub crypto.PublicKey) (key, error) {
	switch pub := pub.(type) {
	case *rsa.PublicKey:
		if bits := pub.N.BitLen(); bits == 2048 || bits == 3072 || bits == 4096 {
			return key{pub, fmt.Sprintf("sha256,rsa%d", bits), bits / 8}, nil
		}
		return key{}, &firmwaresign.KeyError{Reason: fmt.Sprintf("the key is RSA of %d bits: U-Boot knows 2048, 3072 and 4096", pub.N.BitLen())}
	case *ecdsa.PublicKey:
		if pub.Params().BitSize == 256 {
			return key{pub, "sha256,ecdsa256", 64}, nil
		}
	}
	return key{}, &firmwaresign.KeyError{Reason: fmt.Sprintf("the key is a %T: U-Boot checks RSA, and ECDSA on P-256", pub)}
}

// fits checks that a signature's node asks for this kind of key.
func (k key) fits(s *node) error {
	if algo := s.text("algo"); algo != k.algo {
		return fmt.Errorf("%s wants a signature with %q, but the key makes %q: name that in the .its file, or take another key", s.name, algo, k.algo)
	}
	padding := s.text("padding")
	if padding != "" && padding != "pkcs-1.5" && (padding != "pss" || !k.isRSA()) {
		return fmt.Errorf("%s wants the padding %q: for RSA there are pkcs-1.5 and pss", s.name, padding)
	}
	return nil
}

func (k key) isRSA() bool { return strings.Contains(k.algo, "rsa") }

// algorithm is how a signature's node wants to have it made.
func (k key) algorithm(s *node) firmwaresign.Algorithm {
	switch {
	case !k.isRSA():
		return firmwaresign.ECDSAP256SHA256
	case s.text("padding") == "pss":
		return firmwaresign.RSAPSSSHA256
	}
	return firmwaresign.RSAPKCS1SHA256
}

// value is a signature as it stands in the image: ECDSA as two numbers.
func (k key) value(signature []byte) ([]byte, error) {
	if k.isRSA() {
		return signature, nil
	}
	var rs struct{ R, S *big.Int }
	if _, err := asn1.Unmarshal(signature, &rs); err != nil {
		return nil, fmt.Errorf("the ECDSA signature: %w", err)
	}
	return slices.Concat(rs.R.FillBytes(make([]byte, 32)), rs.S.FillBytes(make([]byte, 32))), nil
}

// KeyNode is the key for U-Boot's own device tree, as source, so that it
// starts nothing but configurations that this key signed: what mkimage -K -r
// would write there. It belongs into the build of the bootloader.
func KeyNode(pub crypto.PublicKey, name string) (string, error) {
	k, err := newKey(pub)
	if err != nil {
		return "", err
	}
	if strings.ContainsAny(name, "\"\\/@{};\x00\n ") || name == "" {
		return "", fmt.Errorf("%q is no name for a key in a device tree", name)
	}
	numbers := ""
	switch pub := pub.(type) {
	case *rsa.PublicKey:
		numbers = rsaNumbers(pub)
	case *ecdsa.PublicKey:
		point, err := pub.Bytes()
		if err != nil {
			return "", err
		}
		numbers = fmt.Sprintf("\t\t\tecdsa,curve = \"prime256v1\";\n\t\t\tecdsa,x-point = <%s>;\n\t\t\tecdsa,y-point = <%s>;\n", cells(point[1:33]), cells(point[33:]))
	}
	return fmt.Sprintf("/ {\n\tsignature {\n\t\tkey-%s {\n\t\t\trequired = \"conf\";\n\t\t\talgo = %q;\n\t\t\tkey-name-hint = %q;\n%s\t\t};\n\t};\n};\n", name, k.algo, name, numbers), nil
}

// rsaNumbers are the key and what U-Boot's multiplication needs: R² mod n, and
// -1/n mod 2^32.
func rsaNumbers(pub *rsa.PublicKey) string {
	bits := pub.N.BitLen()
	square := new(big.Int).Lsh(big.NewInt(1), uint(2*bits))
	square.Mod(square, pub.N)
	word := new(big.Int).Lsh(big.NewInt(1), 32)
	inverse := new(big.Int).Sub(word, new(big.Int).ModInverse(pub.N, word))
	buf := make([]byte, bits/8)
	return fmt.Sprintf("\t\t\trsa,num-bits = <%d>;\n\t\t\trsa,modulus = <%s>;\n\t\t\trsa,exponent = <%s>;\n\t\t\trsa,r-squared = <%s>;\n\t\t\trsa,n0-inverse = <0x%08x>;\n",
		bits, cells(pub.N.FillBytes(slices.Clone(buf))), cells(binary.BigEndian.AppendUint64(nil, uint64(pub.E))), cells(square.FillBytes(buf)), inverse.Uint64())
}

// cells are bytes as a device tree's source has them.
func cells(b []byte) string {
	var words []string
	for ; len(b) >= 4; b = b[4:] {
		words = append(words, fmt.Sprintf("0x%08x", binary.BigEndian.Uint32(b)))
	}
	return strings.Join(words, " ")
}
