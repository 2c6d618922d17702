package ocsp

import (
	"time"

	"golang.org/x/crypto/cryptobyte"
	tag "golang.org/x/crypto/cryptobyte/asn1"
)

// errorStatus is an OCSPResponseStatus that comes without an answer (RFC 6960
// §4.2.1).
type errorStatus byte

const (
	malformedRequest errorStatus = 1
	tryLater         errorStatus = 3
)

// der is the whole OCSPResponse.
func (e errorStatus) der() []byte { return []byte{0x30, 3, 0x0a, 1, byte(e)} }

// certStatus is the CertStatus of RFC 6960 §4.2.1, by its tag.
type certStatus uint8

const (
	statusGood    certStatus = 0
	statusRevoked certStatus = 1
	statusUnknown certStatus = 2
)

// singleResponse is the answer about one certificate.
type singleResponse struct {
	certID []byte // as it was asked
	status certStatus
	Revocation
}

// basic is a BasicOCSPResponse before it is signed.
type basic struct {
	produced, this, next time.Time
	singles              []singleResponse
	nonce                []byte // nil is none
	// extended says that a revoked one was never issued (RFC 6960 §4.4.8).
	extended bool
}

// sign makes the whole OCSPResponse.
func (b *basic) sign(c *Credential) ([]byte, error) {
	data, err := b.data(c.id)
	if err != nil {
		return nil, err
	}
	signature, err := c.sign(data)
	if err != nil {
		return nil, err
	}
	return successful(data, c.algorithm, signature, c.cert)
}

// successful wraps a signed ResponseData up (RFC 6960 §4.2.1).
func successful(data, algorithm, signature, cert []byte) ([]byte, error) {
	out := cryptobyte.NewBuilder(make([]byte, 0, len(data)+len(signature)+len(cert)+80))
	out.AddASN1(tag.SEQUENCE, func(out *cryptobyte.Builder) {
		out.AddASN1Enum(0)
		out.AddASN1(explicit(context0), func(out *cryptobyte.Builder) {
			out.AddASN1(tag.SEQUENCE, func(out *cryptobyte.Builder) {
				addOID(out, numberBasic)
				out.AddASN1(tag.OCTET_STRING, func(out *cryptobyte.Builder) {
					out.AddASN1(tag.SEQUENCE, func(out *cryptobyte.Builder) {
						out.AddBytes(data)
						out.AddBytes(algorithm)
						out.AddASN1BitString(signature)
						out.AddASN1(explicit(context0), func(out *cryptobyte.Builder) {
							out.AddASN1(tag.SEQUENCE, func(out *cryptobyte.Builder) { out.AddBytes(cert) })
						})
					})
				})
			})
		})
	})
	return out.Bytes()
}

// data makes the ResponseData, which is what is signed.
func (b *basic) data(responder []byte) ([]byte, error) {
	out := cryptobyte.NewBuilder(make([]byte, 0, 128+160*len(b.singles)+len(b.nonce)))
	out.AddASN1(tag.SEQUENCE, func(out *cryptobyte.Builder) {
		out.AddASN1(explicit(tag.Tag(2).ContextSpecific()), func(out *cryptobyte.Builder) { out.AddASN1OctetString(responder) })
		addTime(out, b.produced)
		out.AddASN1(tag.SEQUENCE, func(out *cryptobyte.Builder) {
			for i := range b.singles {
				b.addSingle(out, &b.singles[i])
			}
		})
		b.addExtensions(out)
	})
	return out.Bytes()
}

func (b *basic) addSingle(out *cryptobyte.Builder, s *singleResponse) {
	out.AddASN1(tag.SEQUENCE, func(out *cryptobyte.Builder) {
		out.AddBytes(s.certID)
		if s.status == statusRevoked {
			out.AddASN1(explicit(context1), func(out *cryptobyte.Builder) { addRevoked(out, s.Revocation) })
		} else {
			out.AddASN1(tag.Tag(s.status).ContextSpecific(), func(*cryptobyte.Builder) {})
		}
		addTime(out, b.this)
		out.AddASN1(explicit(context0), func(out *cryptobyte.Builder) { addTime(out, b.next) })
	})
}

// addRevoked adds what RevokedInfo holds. Unspecified is no reason: it is left
// out, as in revocation lists (RFC 5280 §5.3.1).
func addRevoked(out *cryptobyte.Builder, r Revocation) {
	addTime(out, r.At)
	if r.Reason != Unspecified {
		out.AddASN1(explicit(context0), func(out *cryptobyte.Builder) { out.AddASN1Enum(int64(r.Reason)) })
	}
}

// addOID adds a number below id-pkix-ocsp.
func addOID(out *cryptobyte.Builder, number byte) {
	out.AddASN1(tag.OBJECT_IDENTIFIER, func(out *cryptobyte.Builder) {
		out.AddBytes(ocspArc)
		out.AddUint8(number)
	})
}

// addTime adds a GeneralizedTime in whole seconds.
func addTime(out *cryptobyte.Builder, t time.Time) { out.AddASN1GeneralizedTime(t.UTC()) }

func (b *basic) addExtensions(out *cryptobyte.Builder) {
	if b.nonce == nil && !b.extended {
		return
	}
	out.AddASN1(explicit(context1), func(out *cryptobyte.Builder) {
		out.AddASN1(tag.SEQUENCE, func(out *cryptobyte.Builder) {
			if b.nonce != nil {
				out.AddASN1(tag.SEQUENCE, func(out *cryptobyte.Builder) {
					addOID(out, numberNonce)
					out.AddASN1(tag.OCTET_STRING, func(out *cryptobyte.Builder) { out.AddASN1OctetString(b.nonce) })
				})
			}
			if b.extended {
				out.AddASN1(tag.SEQUENCE, func(out *cryptobyte.Builder) {
					addOID(out, numberExtendedRevoke)
					out.AddASN1(tag.OCTET_STRING, func(out *cryptobyte.Builder) { out.AddASN1NULL() })
				})
			}
		})
	})
}
