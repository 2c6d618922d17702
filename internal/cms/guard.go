// Package cms is the one door through which Cryptographic Message Syntax
// (RFC 5652) of foreign origin enters the program. It bounds and rewrites the
// bytes before the PKCS#7 library sees them, checks detached signatures over
// content too large to hold in memory, and makes such signatures.
package cms

import (
	"bytes"
	"encoding/pem"
	"errors"
	"fmt"

	"github.com/smallstep/pkcs7"
)

// Bounds of what the guard lets through. A SignedData with certificates
// nests about 15 deep and has a few hundred elements.
const (
	MaxDepth    = 32
	MaxElements = 1 << 16
)

// Parse parses BER or DER of at most longest bytes. It is the only caller of
// the library's parser, which takes quadratic time and finally overflows the
// stack on nested input, takes quadratic time on indefinite lengths, and
// ignores bytes after the end: size, depth and number of elements are checked
// first, and the library sees [Definite]'s output only.
func Parse(ber []byte, longest int) (*pkcs7.PKCS7, error) {
	if len(ber) > longest {
		return nil, fmt.Errorf("the CMS message is %d bytes long: at most %d are accepted", len(ber), longest)
	}
	der, err := Definite(ber)
	if err != nil {
		return nil, err
	}
	p7, err := pkcs7.Parse(der)
	if err != nil {
		return nil, fmt.Errorf("the CMS message is malformed (RFC 5652): %w", err)
	}
	return p7, nil
}

// Definite rewrites one BER element (X.690 §8.1) so that every length is
// definite and as short as it can be; DER comes out unchanged. It refuses
// what CMS has no use for: more than [MaxDepth] levels, more than
// [MaxElements] elements, tags above 30, and anything after the end.
func Definite(ber []byte) ([]byte, error) {
	t := transcoder{in: ber}
	out, err := t.element(make([]byte, 0, len(ber)), 1)
	if err != nil {
		return nil, fmt.Errorf("the CMS message is malformed at byte %d: %w", t.at, err)
	}
	if t.at != len(ber) {
		return nil, fmt.Errorf("the CMS message ends at byte %d, but %d more bytes follow", t.at, len(ber)-t.at)
	}
	return out, nil
}

const (
	constructed = 0x20
	indefinite  = -1
)

var errTruncated = errors.New("it breaks off")

// transcoder reads BER at a position that only moves forward.
type transcoder struct {
	in       []byte
	at       int
	elements int
}

// element appends the next element to out.
func (t *transcoder) element(out []byte, depth int) ([]byte, error) {
	if depth > MaxDepth {
		return nil, fmt.Errorf("elements are nested more than %d deep", MaxDepth)
	}
	if t.elements++; t.elements > MaxElements {
		return nil, fmt.Errorf("there are more than %d elements", MaxElements)
	}
	tag, length, err := t.header()
	if err != nil {
		return nil, err
	}
	if tag&constructed == 0 {
		if length == indefinite {
			return nil, errors.New("a primitive element has an indefinite length")
		}
		content := t.in[t.at : t.at+length]
		t.at += length
		return append(appendHeader(out, tag, length), content...), nil
	}
	body, err := t.children(length, depth)
	if err != nil {
		return nil, err
	}
	return append(appendHeader(out, tag, len(body)), body...), nil
}

// children reads what a constructed element holds, up to its end.
func (t *transcoder) children(length, depth int) (body []byte, err error) {
	if length == indefinite {
		for !bytes.HasPrefix(t.in[t.at:], []byte{0, 0}) {
			if body, err = t.element(body, depth+1); err != nil {
				return nil, err
			}
		}
		t.at += 2
		return body, nil
	}
	end := t.at + length
	outer := t.in
	t.in = t.in[:end] // a child must not reach beyond its parent
	for t.at < end {
		if body, err = t.element(body, depth+1); err != nil {
			return nil, err
		}
	}
	t.in = outer
	return body, nil
}

// header reads identifier and length octets (X.690 §8.1.2 and §8.1.3).
func (t *transcoder) header() (tag byte, length int, err error) {
	if t.at+2 > len(t.in) {
		return 0, 0, errTruncated
	}
	tag, first := t.in[t.at], t.in[t.at+1]
	switch {
	case tag&0x1f == 0x1f:
		return 0, 0, errors.New("it has a tag above 30, which CMS does not use")
	case tag == 0:
		return 0, 0, errors.New("an end-of-contents mark stands where none is due")
	}
	t.at += 2
	switch {
	case first == 0x80:
		return tag, indefinite, nil
	case first < 0x80:
		length = int(first)
	default:
		n := int(first & 0x7f)
		if n > 8 || t.at+n > len(t.in) {
			return 0, 0, fmt.Errorf("a length of %d octets does not fit", n)
		}
		for _, b := range t.in[t.at : t.at+n] {
			if length > len(t.in) {
				break // already too long; do not overflow
			}
			length = length<<8 | int(b)
		}
		t.at += n
	}
	if length > len(t.in)-t.at {
		return 0, 0, errTruncated
	}
	return tag, length, nil
}

// appendHeader writes a tag and a definite length in DER (X.690 §10.1).
func appendHeader(out []byte, tag byte, length int) []byte {
	out = append(out, tag)
	if length < 0x80 {
		return append(out, byte(length))
	}
	n := 1
	for length>>(8*n) > 0 {
		n++
	}
	out = append(out, 0x80|byte(n))
	for n--; n >= 0; n-- {
		out = append(out, byte(length>>(8*n)))
	}
	return out
}

// Decode takes a PEM armour off ("CMS" or "PKCS7"); bytes that begin like
// BER are returned as they are.
func Decode(b []byte) ([]byte, error) {
	if len(b) > 0 && b[0] == 0x30 {
		return b, nil
	}
	if block, rest := pem.Decode(b); block != nil {
		if block.Type != "CMS" && block.Type != "PKCS7" {
			return nil, fmt.Errorf("it is a PEM block of type %q: want \"CMS\" or \"PKCS7\"", block.Type)
		}
		if len(bytes.TrimSpace(rest)) > 0 {
			return nil, errors.New("something follows the PEM block: hand in each signature by itself")
		}
		return block.Bytes, nil
	}
	if bytes.Contains(b[:min(len(b), 256)], []byte("MIME-Version:")) {
		return nil, errors.New("it is in S/MIME form: sign with \"openssl cms -sign -binary -outform DER\" (or PEM)")
	}
	return nil, errors.New("it is neither DER nor PEM of a CMS message (RFC 5652)")
}
