package crl

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	_ "crypto/sha512" // registers the hashes of P-384 and P-521
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/binary"
	"fmt"
	"hash"
	"io"
	"iter"
	"time"

	"github.com/touchmark/touchmark/ocsp"
)

// tbs is what one TBSCertList says (RFC 5280 §5.1).
type tbs struct {
	issuer                 *x509.Certificate
	number, base           int64
	thisUpdate, nextUpdate time.Time
	names                  []string // of the distribution point; none for all certificates of the CA
	freshest               []string // where the deltas are
	entries                iter.Seq[*entry]
}

// signed is a list that can be written, any number of times.
type signed struct {
	tbs             *tbs
	head, tail      []byte // before and after the entries, up to the signature
	signature, open []byte // open begins the CertificateList
	count           int
}

// size is the length of what WriteTo writes.
func (s *signed) size(entries int) int {
	return len(s.open) + len(s.head) + entries + len(s.tail) + len(s.signature)
}

// sign encodes the list and has it signed. What it holds in memory does not
// grow with the entries: they are encoded to be hashed, and again whenever the
// list is written. Only Ed25519, which hashes by itself, needs all bytes.
func (l *tbs) sign(key crypto.Signer) (*signed, error) {
	algorithm, err := algorithmOf(key.Public())
	if err != nil {
		return nil, err
	}
	s, length := &signed{tbs: l}, 0
	for e := range l.entries {
		length += e.size()
		s.count++
	}
	if err := s.frame(algorithm.identifier, length); err != nil {
		return nil, err
	}
	digest := algorithm.digest()
	if err := s.writeSigned(digest); err != nil {
		return nil, err
	}
	signature, err := key.Sign(rand.Reader, digest.Sum(nil), algorithm.hash)
	if err != nil {
		return nil, fmt.Errorf("sign the list: %w", err)
	}
	bits, err := asn1.Marshal(asn1.BitString{Bytes: signature, BitLength: 8 * len(signature)})
	if err != nil {
		return nil, err
	}
	s.signature = append(algorithm.identifier, bits...)
	s.open = header(0x30, s.size(length))
	return s, nil
}

// WriteTo writes the DER of the CertificateList.
func (s *signed) WriteTo(w io.Writer) (int64, error) {
	counted := &counter{w: w}
	_, err := counted.Write(s.open)
	if err == nil {
		err = s.writeSigned(counted)
	}
	if err == nil {
		_, err = counted.Write(s.signature)
	}
	return counted.n, err
}

type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(b []byte) (int, error) {
	n, err := c.w.Write(b)
	c.n += int64(n)
	return n, err
}

// writeSigned writes the TBSCertList.
func (s *signed) writeSigned(w io.Writer) error {
	if _, err := w.Write(s.head); err != nil {
		return err
	}
	buf := make([]byte, 0, 32<<10)
	for e := range s.tbs.entries {
		if len(buf)+maxEntry > cap(buf) {
			if _, err := w.Write(buf); err != nil {
				return err
			}
			buf = buf[:0]
		}
		buf = e.encode(buf)
	}
	_, err := w.Write(append(buf, s.tail...))
	return err
}

// frame encodes what stands around entries of a total length.
func (s *signed) frame(algorithm []byte, length int) error {
	l := s.tbs
	body := append([]byte{0x02, 0x01, 0x01}, algorithm...) // v2
	body = append(body, l.issuer.RawSubject...)
	body = appendTime(body, l.thisUpdate.Unix())
	body = appendTime(body, l.nextUpdate.Unix())
	if s.count > 0 { // RFC 5280 §5.1.2.6: absent where nothing is revoked
		body = append(body, header(0x30, length)...)
	}
	extensions, err := l.extensions()
	if err != nil {
		return err
	}
	s.tail = extensions
	s.head = append(header(0x30, len(body)+length+len(s.tail)), body...)
	return nil
}

var (
	oidAuthorityKeyID = asn1.ObjectIdentifier{2, 5, 29, 35}
	oidNumber         = asn1.ObjectIdentifier{2, 5, 29, 20}
	oidDelta          = asn1.ObjectIdentifier{2, 5, 29, 27}
	oidIssuingPoint   = asn1.ObjectIdentifier{2, 5, 29, 28}
	oidFreshest       = asn1.ObjectIdentifier{2, 5, 29, 46}
)

// extensions encodes crlExtensions (RFC 5280 §5.2).
func (l *tbs) extensions() ([]byte, error) {
	var list []pkix.Extension
	var failed error
	add := func(id asn1.ObjectIdentifier, critical bool, value any) {
		der, err := asn1.Marshal(value)
		if err != nil && failed == nil {
			failed = err
		}
		list = append(list, pkix.Extension{Id: id, Critical: critical, Value: der})
	}
	add(oidAuthorityKeyID, false, struct {
		KeyID []byte `asn1:"tag:0"`
	}{l.issuer.SubjectKeyId})
	add(oidNumber, false, l.number)
	if l.base > 0 {
		add(oidDelta, true, l.base)
	}
	if len(l.names) > 0 {
		add(oidIssuingPoint, true, struct {
			Point distributionPointName `asn1:"tag:0"`
			User  bool                  `asn1:"tag:1"`
		}{pointName(l.names), true})
	}
	if len(l.freshest) > 0 {
		add(oidFreshest, false, []struct {
			Point distributionPointName `asn1:"tag:0"`
		}{{pointName(l.freshest)}})
	}
	if failed != nil {
		return nil, fmt.Errorf("encode the extensions of the list: %w", failed)
	}
	return asn1.MarshalWithParams(list, "explicit,tag:0")
}

// distributionPointName is a DistributionPointName of the form fullName (RFC
// 5280 §4.2.1.13).
type distributionPointName struct {
	FullName []asn1.RawValue `asn1:"tag:0"`
}

func pointName(urls []string) (n distributionPointName) {
	for _, u := range urls {
		n.FullName = append(n.FullName, asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 6, Bytes: []byte(u)})
	}
	return n
}

// maxEntry is the length of the longest entry.
const maxEntry = 54

// reasonLength is the length of the extensions of an entry with a reason.
const reasonLength = 14

// utcEnd is 2050-01-01, from when on times are a GeneralizedTime (RFC 5280
// §5.1.2.4).
const utcEnd = 2524608000

// size is the length of what encode appends.
func (e *entry) size() int {
	n := 2 + 2 + ocsp.SerialLength + 2 + 13
	if binary.BigEndian.Uint32(e.revoked[:]) >= utcEnd {
		n += 2
	}
	if e.reason != ocsp.Unspecified {
		n += reasonLength
	}
	return n
}

// encode appends the DER of an element of revokedCertificates. A serial
// number's first byte is 1 to 127, so it is its own DER.
func (e *entry) encode(to []byte) []byte {
	to = append(to, 0x30, byte(e.size()-2), 0x02, ocsp.SerialLength)
	to = append(to, e.serial[:]...)
	to = appendTime(to, int64(binary.BigEndian.Uint32(e.revoked[:])))
	if e.reason == ocsp.Unspecified { // RFC 5280 §5.3.1: absent instead
		return to
	}
	return append(to, 0x30, 0x0c, 0x30, 0x0a, 0x06, 0x03, 0x55, 0x1d, 0x15, 0x04, 0x03, 0x0a, 0x01, byte(e.reason))
}

// appendTime appends a Time (RFC 5280 §5.1.2.4 to 6).
func appendTime(to []byte, unix int64) []byte {
	t := time.Unix(unix, 0).UTC()
	year, month, day := t.Date()
	hour, minute, second := t.Clock()
	if unix >= utcEnd {
		to = two(append(to, 0x18, 15), year/100)
	} else {
		to = append(to, 0x17, 13)
	}
	for _, n := range [...]int{year % 100, int(month), day, hour, minute, second} {
		to = two(to, n)
	}
	return append(to, 'Z')
}

func two(to []byte, n int) []byte { return append(to, '0'+byte(n/10), '0'+byte(n%10)) }

// header encodes a tag and a length.
func header(tag byte, length int) []byte {
	if length < 0x80 {
		return []byte{tag, byte(length)}
	}
	var b []byte
	for n := length; n > 0; n >>= 8 {
		b = append([]byte{byte(n)}, b...)
	}
	return append([]byte{tag, 0x80 | byte(len(b))}, b...)
}

// algorithm is how a CA's key signs.
type algorithm struct {
	identifier []byte // the AlgorithmIdentifier's DER
	hash       crypto.Hash
}

// digest collects what the key signs.
func (a algorithm) digest() hash.Hash {
	if a.hash == 0 {
		return new(whole)
	}
	return a.hash.New()
}

// algorithmOf is the algorithm that crypto/x509 takes for such a key, too.
func algorithmOf(key crypto.PublicKey) (algorithm, error) {
	null := asn1.RawValue{Tag: asn1.TagNull}
	switch k := key.(type) {
	case *ecdsa.PublicKey:
		switch bits := k.Curve.Params().BitSize; {
		case bits <= 256:
			return newAlgorithm(crypto.SHA256, asn1.RawValue{}, 1, 2, 840, 10045, 4, 3, 2)
		case bits <= 384:
			return newAlgorithm(crypto.SHA384, asn1.RawValue{}, 1, 2, 840, 10045, 4, 3, 3)
		default:
			return newAlgorithm(crypto.SHA512, asn1.RawValue{}, 1, 2, 840, 10045, 4, 3, 4)
		}
	case *rsa.PublicKey:
		return newAlgorithm(crypto.SHA256, null, 1, 2, 840, 113549, 1, 1, 11)
	case ed25519.PublicKey:
		return newAlgorithm(0, asn1.RawValue{}, 1, 3, 101, 112)
	}
	return algorithm{}, fmt.Errorf("the CA's key is a %T, with which no list can be signed: want ECDSA, RSA or Ed25519", key)
}

func newAlgorithm(h crypto.Hash, parameters asn1.RawValue, oid ...int) (algorithm, error) {
	der, err := asn1.Marshal(pkix.AlgorithmIdentifier{Algorithm: oid, Parameters: parameters})
	return algorithm{der, h}, err
}

// whole keeps all bytes, for keys that hash by themselves.
type whole struct{ bytes []byte }

func (w *whole) Write(b []byte) (int, error) {
	w.bytes = append(w.bytes, b...)
	return len(b), nil
}

func (w *whole) Sum(to []byte) []byte { return append(to, w.bytes...) }
func (w *whole) Reset()               { w.bytes = nil }
func (w *whole) Size() int            { return len(w.bytes) }
func (w *whole) BlockSize() int       { return 1 }
