package ocsp

import (
	"bytes"
	"fmt"

	"golang.org/x/crypto/cryptobyte"
	tag "golang.org/x/crypto/cryptobyte/asn1"
)

// Bounds of a request. RFC 6960 has none.
const (
	// MaxRequest is the size of a request in bytes.
	MaxRequest = 128 << 10
	// MaxCertIDs is how many certificates one request may ask about.
	MaxCertIDs = 1000
	// MaxNonce is the length of a nonce (RFC 9654 §2.1).
	MaxNonce = 128
)

// Request is what an OCSPRequest (RFC 6960 §4.1.1) asks. Who asks, and a
// signature that would prove it, do not matter to a responder that answers
// everybody.
type Request struct {
	CertIDs []CertID
	Nonce   []byte // nil is none
}

// CertID names a certificate by its issuer's name and key and by its serial
// number. All parts point into the request.
type CertID struct {
	// Raw is the whole CertID. The answer repeats it, as the asker looks for
	// its own bytes.
	Raw []byte
	// Issuer is all but the serial number: the hash algorithm, with or
	// without parameters, and both hashes, encoded.
	Issuer []byte
	// Serial is the content of the serial number's INTEGER.
	Serial []byte
}

// ocspArc is id-pkix-ocsp, 1.3.6.1.5.5.7.48.1, as DER has it, and the numbers
// are what RFC 6960 §4.4 and RFC 9654 put below it.
var ocspArc = []byte{0x2b, 6, 1, 5, 5, 7, 48, 1}

const (
	numberBasic          = 1
	numberNonce          = 2
	numberResponseTypes  = 4
	numberServiceLocator = 7
	numberPreferred      = 8
	numberExtendedRevoke = 9
)

// The context-specific tags of RFC 6960's structures.
var (
	context0 = tag.Tag(0).ContextSpecific()
	context1 = tag.Tag(1).ContextSpecific()
	explicit = tag.Tag.Constructed
)

// ParseRequest reads an OCSPRequest in DER. It refuses what does not conform
// to the syntax, what is beyond the bounds, a nonce that RFC 9654 §2.1
// forbids, and critical extensions that it does not know (RFC 6960 §4.4): all
// of these are answered malformedRequest.
func ParseRequest(der []byte) (*Request, error) {
	if len(der) > MaxRequest {
		return nil, fmt.Errorf("the request has %d bytes: at most %d are taken", len(der), MaxRequest)
	}
	in := cryptobyte.String(der)
	if !nests(in, maxDepth) {
		return nil, syntax("OCSPRequest")
	}
	var outer, tbs cryptobyte.String
	if !in.ReadASN1(&outer, tag.SEQUENCE) || !in.Empty() || !outer.ReadASN1(&tbs, tag.SEQUENCE) {
		return nil, syntax("OCSPRequest")
	}
	if !outer.Empty() && (!skipSignature(&outer) || !outer.Empty()) {
		return nil, syntax("optionalSignature")
	}
	return parseTBS(tbs)
}

// usualSize is the most that a usual request takes: all lengths in it have one
// byte.
const usualSize = 2 + 0x7f

// usual reads the request that most clients send: about one certificate, that
// can be ours, with nothing besides. Each of its elements begins right within
// the one before and ends with it. The issuer's part is not looked into; one
// that is known is right. All other requests are left to ParseRequest.
func usual(der []byte) (id CertID, ok bool) {
	const wrappers, serial = 10, 2 + SerialLength // OCSPRequest, TBSRequest, requestList, Request, CertID
	if len(der) < wrappers+serial || len(der) > usualSize {
		return id, false
	}
	for at := 0; at < wrappers; at += 2 {
		if rest := len(der) - at - 2; der[at] != byte(tag.SEQUENCE) || int(der[at+1]) != rest {
			return id, false
		}
	}
	end := len(der) - serial
	if der[end] != byte(tag.INTEGER) || der[end+1] != SerialLength {
		return id, false
	}
	return CertID{Raw: der[wrappers-2:], Issuer: der[wrappers:end], Serial: der[end+2:]}, true
}

// maxDepth is how deep elements may lie in each other; certificates in a
// signature need 10.
const maxDepth = 16

// nests reports whether each element ends where what is in it ends, also of
// those that nobody reads any further.
func nests(s cryptobyte.String, depth int) bool {
	var t tag.Tag
	var content cryptobyte.String
	for !s.Empty() {
		if depth == 0 || !s.ReadAnyASN1(&content, &t) || t == explicit(t) && !nests(content, depth-1) {
			return false
		}
	}
	return true
}

func syntax(what string) error { return fmt.Errorf("%s is not as RFC 6960 §4.1.1 has it", what) }

// skipSignature reads over a Signature whose parts are in place.
func skipSignature(in *cryptobyte.String) bool {
	var wrapped, sig, certs cryptobyte.String
	var some bool
	return in.ReadASN1(&wrapped, explicit(context0)) && wrapped.ReadASN1(&sig, tag.SEQUENCE) && wrapped.Empty() &&
		sig.SkipASN1(tag.SEQUENCE) && sig.SkipASN1(tag.BIT_STRING) &&
		sig.ReadOptionalASN1(&certs, &some, explicit(context0)) && sig.Empty() &&
		(!some || certs.SkipASN1(tag.SEQUENCE) && certs.Empty())
}

func parseTBS(tbs cryptobyte.String) (*Request, error) {
	var list, name cryptobyte.String
	var version int64
	var named bool
	if !tbs.ReadOptionalASN1Integer(&version, explicit(context0), int64(0)) || version != 0 {
		return nil, syntax("version")
	}
	if !tbs.ReadOptionalASN1(&name, &named, explicit(context1)) || named && !single(name) {
		return nil, syntax("requestorName")
	}
	if !tbs.ReadASN1(&list, tag.SEQUENCE) {
		return nil, syntax("requestList")
	}
	r := new(Request)
	if err := r.parseExtensions(&tbs, tag.Tag(2).ContextSpecific()); err != nil {
		return nil, err
	}
	if !tbs.Empty() {
		return nil, syntax("tbsRequest")
	}
	return r, r.parseList(list)
}

// single reports whether there is exactly one element.
func single(s cryptobyte.String) bool {
	var t tag.Tag
	var element cryptobyte.String
	return s.ReadAnyASN1Element(&element, &t) && s.Empty()
}

func (r *Request) parseList(list cryptobyte.String) error {
	if list.Empty() {
		return syntax("requestList, which is empty,")
	}
	for !list.Empty() {
		if len(r.CertIDs) == MaxCertIDs {
			return fmt.Errorf("the request asks about more than %d certificates: split it", MaxCertIDs)
		}
		var request, raw cryptobyte.String
		if !list.ReadASN1(&request, tag.SEQUENCE) || !request.ReadASN1Element(&raw, tag.SEQUENCE) {
			return syntax("requestList")
		}
		id, ok := parseCertID(raw)
		if !ok {
			return syntax("CertID")
		}
		if err := new(Request).parseExtensions(&request, context0); err != nil {
			return err
		}
		if !request.Empty() {
			return syntax("requestList")
		}
		r.CertIDs = append(r.CertIDs, id)
	}
	return nil
}

func parseCertID(raw cryptobyte.String) (CertID, bool) {
	var content, algorithm, oid, serial cryptobyte.String
	whole := raw
	if !raw.ReadASN1(&content, tag.SEQUENCE) {
		return CertID{}, false
	}
	issuer := content
	ok := content.ReadASN1(&algorithm, tag.SEQUENCE) &&
		readOID(&algorithm, &oid) && (algorithm.Empty() || single(algorithm)) &&
		content.SkipASN1(tag.OCTET_STRING) && content.SkipASN1(tag.OCTET_STRING)
	if !ok {
		return CertID{}, false
	}
	issuer = issuer[:len(issuer)-len(content)]
	ok = content.ReadASN1(&serial, tag.INTEGER) && content.Empty() && minimal(serial)
	return CertID{Raw: whole, Issuer: issuer, Serial: serial}, ok
}

// readOID reads an OBJECT IDENTIFIER's content. Its numbers may be of any
// size, as those below 2.25 are.
func readOID(in, oid *cryptobyte.String) bool {
	if !in.ReadASN1(oid, tag.OBJECT_IDENTIFIER) || len(*oid) == 0 {
		return false
	}
	first := true
	for _, b := range *oid {
		if first && b == 0x80 { // a number that could be shorter
			return false
		}
		first = b&0x80 == 0
	}
	return first
}

// minimal reports whether an INTEGER's content is as short as DER wants it.
func minimal(i []byte) bool {
	return len(i) == 1 || len(i) > 1 && (i[0] != 0 || i[1]&0x80 != 0) && (i[0] != 0xff || i[1]&0x80 == 0)
}

// parseExtensions reads Extensions, if there are any under this tag.
func (r *Request) parseExtensions(in *cryptobyte.String, at tag.Tag) error {
	var wrapped, list cryptobyte.String
	var some bool
	if !in.ReadOptionalASN1(&wrapped, &some, explicit(at)) {
		return syntax("Extensions")
	}
	if !some {
		return nil
	}
	if !wrapped.ReadASN1(&list, tag.SEQUENCE) || !wrapped.Empty() || list.Empty() {
		return syntax("Extensions")
	}
	for !list.Empty() {
		var extension, oid, value cryptobyte.String
		var critical bool
		if !list.ReadASN1(&extension, tag.SEQUENCE) || !readOID(&extension, &oid) ||
			extension.PeekASN1Tag(tag.BOOLEAN) && !extension.ReadASN1Boolean(&critical) ||
			!extension.ReadASN1(&value, tag.OCTET_STRING) || !extension.Empty() {
			return syntax("Extension")
		}
		if err := r.take(oid, critical, value); err != nil {
			return err
		}
	}
	return nil
}

// take looks at one extension. What is known and has no bearing on the answer
// is passed over: the only type of response is the one everybody must accept,
// and there is one signature algorithm to choose from.
func (r *Request) take(oid []byte, critical bool, value cryptobyte.String) error {
	number, known := byte(0), bytes.HasPrefix(oid, ocspArc) && len(oid) == len(ocspArc)+1
	if known {
		number = oid[len(ocspArc)]
	}
	switch {
	case number == numberNonce:
		return r.takeNonce(value)
	case !critical, number == numberResponseTypes, number == numberPreferred, number == numberServiceLocator:
		return nil
	}
	return fmt.Errorf("the request has a critical extension that is not known here, %x", oid)
}

// takeNonce reads Nonce ::= OCTET STRING (SIZE(1..128)), within extnValue's
// OCTET STRING (RFC 9654 §2.1).
func (r *Request) takeNonce(value cryptobyte.String) error {
	var nonce cryptobyte.String
	if !value.ReadASN1(&nonce, tag.OCTET_STRING) || !value.Empty() || r.Nonce != nil {
		return syntax("nonce")
	}
	if len(nonce) == 0 || len(nonce) > MaxNonce {
		return fmt.Errorf("the nonce has %d bytes: RFC 9654 allows 1 to %d", len(nonce), MaxNonce)
	}
	r.Nonce = bytes.Clone(nonce)
	return nil
}

// serial gives the serial number; ok is false for one that no CA of this PKI
// can have issued.
func (c *CertID) serial() (s Serial, ok bool) {
	if len(c.Serial) != SerialLength || c.Serial[0] == 0 || c.Serial[0] >= 0x80 {
		return s, false
	}
	return Serial(c.Serial), true
}
