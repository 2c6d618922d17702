package timestamp

import (
	"crypto"
	_ "crypto/sha256" // the hashes that are taken
	_ "crypto/sha512"
	"encoding/asn1"
	"fmt"

	"golang.org/x/crypto/cryptobyte"
	tag "golang.org/x/crypto/cryptobyte/asn1"
)

// MaxRequest is the longest TimeStampReq that is read, in bytes. A usual one
// has about a hundred.
const MaxRequest = 4 << 10

// Request is a TimeStampReq (RFC 3161 §2.4.1) that can be granted as far as
// its form goes.
type Request struct {
	Hash   crypto.Hash
	Digest []byte
	// Policy is the one that is wanted; nil leaves it to the authority.
	Policy asn1.ObjectIdentifier
	// Nonce is an INTEGER in DER, with tag and length; nil if there is none.
	Nonce []byte
	// Certificates is whether the answer shall have them inside.
	Certificates bool

	// imprint is the MessageImprint as it came: the answer repeats it to the byte
	// (RFC 3161 §2.4.2).
	imprint []byte
}

// Failure is a PKIFailureInfo: why nothing was stamped (RFC 3161 §2.4.2).
type Failure int

// The failures that an authority tells of.
const (
	BadAlgorithm        Failure = 0  // badAlg
	BadRequest          Failure = 2  // badRequest
	BadDataFormat       Failure = 5  // badDataFormat
	TimeNotAvailable    Failure = 14 // timeNotAvailable
	UnacceptedPolicy    Failure = 15 // unacceptedPolicy
	UnacceptedExtension Failure = 16 // unacceptedExtension
	SystemFailure       Failure = 25 // systemFailure
)

// Refusal is the reason why a request is not granted, for who asked.
type Refusal struct {
	Failure Failure
	Reason  string
}

func (r *Refusal) Error() string { return r.Reason }

func refuse(f Failure, format string, args ...any) error {
	return &Refusal{f, fmt.Sprintf(format, args...)}
}

// hashes are those that are taken: the ones that have no known collisions
// and that verifiers in use know.
var hashes = []struct {
	hash crypto.Hash
	oid  asn1.ObjectIdentifier
}{
	{crypto.SHA256, asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}},
	{crypto.SHA384, asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 2}},
	{crypto.SHA512, asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 3}},
}

var errFormat = refuse(BadDataFormat, "the request is no TimeStampReq in DER (RFC 3161, section 2.4.1)")

// ParseRequest reads a TimeStampReq. Its errors are [*Refusal]s.
func ParseRequest(der []byte) (*Request, error) {
	in, r := cryptobyte.String(der), new(Request)
	var body, imprint cryptobyte.String
	var version int
	if len(der) > MaxRequest || !in.ReadASN1(&body, tag.SEQUENCE) || !in.Empty() || !body.ReadASN1Integer(&version) {
		return nil, errFormat
	}
	if version != 1 {
		return nil, refuse(BadRequest, "the request is of version %d: this authority knows version 1", version)
	}
	if !body.ReadASN1Element(&imprint, tag.SEQUENCE) {
		return nil, errFormat
	}
	// Whether the rest is well-formed comes first: only then is it a question.
	imprintErr := r.readImprint(imprint)
	if imprintErr == errFormat {
		return nil, errFormat
	}
	extended, ok := r.readOptions(&body)
	switch {
	case !ok || !body.Empty():
		return nil, errFormat
	case imprintErr != nil:
		return nil, imprintErr
	case extended:
		return nil, refuse(UnacceptedExtension, "the request has extensions: this authority knows none")
	}
	return r, nil
}

// readImprint reads a MessageImprint.
func (r *Request) readImprint(element cryptobyte.String) error {
	var in, algorithm cryptobyte.String
	var oid asn1.ObjectIdentifier
	r.imprint = element
	if !element.ReadASN1(&in, tag.SEQUENCE) || !in.ReadASN1(&algorithm, tag.SEQUENCE) || !algorithm.ReadASN1ObjectIdentifier(&oid) ||
		!in.ReadASN1Bytes(&r.Digest, tag.OCTET_STRING) || !in.Empty() {
		return errFormat
	}
	var null cryptobyte.String
	if !algorithm.Empty() && (!algorithm.ReadASN1(&null, tag.NULL) || !null.Empty() || !algorithm.Empty()) {
		return refuse(BadAlgorithm, "the hash algorithm %s has parameters: none are known", oid)
	}
	for _, h := range hashes {
		if !h.oid.Equal(oid) {
			continue
		}
		if r.Hash = h.hash; len(r.Digest) != h.hash.Size() {
			return refuse(BadDataFormat, "the digest has %d bytes, and one by %v has %d", len(r.Digest), h.hash, h.hash.Size())
		}
		return nil
	}
	return refuse(BadAlgorithm, "the hash algorithm %s is not taken: use SHA-256, SHA-384 or SHA-512", oid)
}

// readOptions reads what may follow the imprint, and reports whether there
// are extensions.
func (r *Request) readOptions(in *cryptobyte.String) (extended, ok bool) {
	if in.PeekASN1Tag(tag.OBJECT_IDENTIFIER) && !in.ReadASN1ObjectIdentifier(&r.Policy) {
		return false, false
	}
	if in.PeekASN1Tag(tag.INTEGER) {
		var nonce cryptobyte.String
		if !in.ReadASN1Element(&nonce, tag.INTEGER) || !isInteger(nonce) {
			return false, false
		}
		r.Nonce = nonce
	}
	if in.PeekASN1Tag(tag.BOOLEAN) && !in.ReadASN1Boolean(&r.Certificates) {
		return false, false
	}
	var extensions cryptobyte.String
	ok = in.ReadOptionalASN1(&extensions, &extended, tag.Tag(0).ContextSpecific().Constructed())
	return extended, ok
}

// isInteger reports whether an element is an INTEGER as short as it can be
// (X.690 §8.3.2), so that it reads the same in the answer.
func isInteger(element cryptobyte.String) bool {
	var content cryptobyte.String
	if !element.ReadASN1(&content, tag.INTEGER) || len(content) == 0 {
		return false
	}
	return len(content) == 1 || content[0] != 0 && content[0] != 0xff || content[0]>>7 != content[1]>>7
}

func (r *Request) addImprint(b *cryptobyte.Builder) {
	if r.imprint != nil {
		b.AddBytes(r.imprint)
		return
	}
	b.AddASN1(tag.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(tag.SEQUENCE, func(b *cryptobyte.Builder) {
			for _, h := range hashes {
				if h.hash == r.Hash {
					b.AddASN1ObjectIdentifier(h.oid)
				}
			}
			b.AddASN1NULL()
		})
		b.AddASN1OctetString(r.Digest)
	})
}

// Encode gives the TimeStampReq.
func (r *Request) Encode() ([]byte, error) {
	var b cryptobyte.Builder
	b.AddASN1(tag.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1Int64(1)
		r.addImprint(b)
		if r.Policy != nil {
			b.AddASN1ObjectIdentifier(r.Policy)
		}
		b.AddBytes(r.Nonce)
		if r.Certificates {
			b.AddASN1Boolean(true)
		}
	})
	return b.Bytes()
}
