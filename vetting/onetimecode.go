package vetting

import (
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"fmt"
	"io"
	"strings"
)

// OneTimeCode is the secret of an enrolment code: 75 random bits as 15
// symbols of Crockford's base32, and a check symbol. It prints itself hidden,
// so that no log or error shows it by accident; [OneTimeCode.Label] is for
// the label.
type OneTimeCode struct{ symbols [codeLength]byte }

const (
	// codeAlphabet has no letter that looks like another symbol, and no U.
	codeAlphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
	codeLength   = 16
	codeGroup    = 4
)

var codeEncoding = base32.NewEncoding(codeAlphabet).WithPadding(base32.NoPadding)

// NewOneTimeCode takes ten bytes from a source of randomness.
func NewOneTimeCode(random io.Reader) (c OneTimeCode, err error) {
	var bits [10]byte
	if _, err := io.ReadFull(random, bits[:]); err != nil {
		return c, fmt.Errorf("make an enrolment code: %w", err)
	}
	codeEncoding.Encode(c.symbols[:], bits[:])
	c.symbols[codeLength-1] = codeAlphabet[checkOf(c.symbols[:codeLength-1])]
	return c, nil
}

// ParseOneTimeCode reads a code as people and scanners hand it on: in either
// case, with or without hyphens and spaces, O for 0 and I or L for 1. Its
// errors mean that the code was mistyped, for no code that was ever made
// reads like that; they do not repeat it.
func ParseOneTimeCode(s string) (c OneTimeCode, err error) {
	n := 0
	for _, r := range s {
		if r == '-' || r == ' ' {
			continue
		}
		v := symbolValue(r)
		if v < 0 {
			return OneTimeCode{}, fmt.Errorf("the enrolment code holds the character %q: a code has digits and letters without I, L, O and U", r)
		}
		if n < codeLength {
			c.symbols[n] = codeAlphabet[v]
		}
		n++
	}
	if n != codeLength {
		return OneTimeCode{}, fmt.Errorf("the enrolment code has %d characters: a code has %d, as %s", n, codeLength, codeForm)
	}
	if codeAlphabet[checkOf(c.symbols[:codeLength-1])] != c.symbols[codeLength-1] {
		return OneTimeCode{}, errors.New("the enrolment code is mistyped: its last character does not fit the others")
	}
	return c, nil
}

const codeForm = "XXXX-XXXX-XXXX-XXXX"

func symbolValue(r rune) int {
	switch {
	case r >= 'a' && r <= 'z':
		r -= 'a' - 'A'
	case r > 'Z':
		return -1
	}
	switch r {
	case 'O':
		r = '0'
	case 'I', 'L':
		r = '1'
	}
	return strings.IndexByte(codeAlphabet, byte(r))
}

// checkOf is the check symbol's value by the Luhn mod N algorithm for N = 32:
// it differs after any one symbol was changed, and after two neighbours were
// swapped unless they are 0 and Z. Crockford's own check symbols would need
// five more signs, which shells and URLs give a meaning.
func checkOf(symbols []byte) int {
	const n = len(codeAlphabet)
	sum := 0
	for i := range symbols {
		v := strings.IndexByte(codeAlphabet, symbols[len(symbols)-1-i])
		if i%2 == 0 {
			v = 2*v/n + 2*v%n
		}
		sum += v
	}
	return (n - sum%n) % n
}

// Label gives the code as it is printed: four groups of four.
func (c OneTimeCode) Label() string {
	var groups []string
	for i := 0; i < codeLength; i += codeGroup {
		groups = append(groups, string(c.symbols[i:i+codeGroup]))
	}
	return strings.Join(groups, "-")
}

// String hides the code.
func (c OneTimeCode) String() string { return "[enrolment code]" }

// GoString hides the code.
func (c OneTimeCode) GoString() string { return c.String() }

// CodeHash is what is kept of a code.
type CodeHash [sha256.Size]byte

// Hash is the code's SHA-256. A slow or salted hash is for secrets that can
// be guessed. Nobody can try the 2⁷⁵ codes that there may be, however fast
// the hash; and a plain one can be looked up in an index. For the same reason
// the time that such a look-up takes tells nothing: whoever learns a hash's
// first bytes by it cannot choose a code by them.
func (c OneTimeCode) Hash() CodeHash { return sha256.Sum256(c.symbols[:]) }

// IsZero reports whether there is no code.
func (h CodeHash) IsZero() bool { return h == CodeHash{} }
