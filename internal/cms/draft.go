package cms

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"time"

	"github.com/smallstep/pkcs7"
)

// Detached describes a detached SignedData with one signer, before it is
// signed.
type Detached struct {
	Certificate *x509.Certificate
	Chain       []*x509.Certificate // goes along; may be empty
	At          time.Time           // the signing time
	PSS         bool                // an RSA key signs with PSS (RFC 4056)
	// Bare leaves out the certificates and the signed attributes, and with them
	// the time: what is signed is the content's digest itself (RFC 5652 §5.4).
	Bare bool

	Type   asn1.ObjectIdentifier // of the content; nil is data
	Signed []Attribute           // signed attributes beyond type, digest and time
}

// Attribute is one signed attribute with one value, in DER.
type Attribute struct {
	Type  asn1.ObjectIdentifier
	Value []byte
}

// Hash is by what hash the content's digest is wanted.
func (d Detached) Hash() crypto.Hash { return hashFor(d.Certificate) }

// Draft is a SignedData that lacks its signature.
type Draft struct {
	data   signedData
	signed []byte
}

// Draft makes all but the signature, from the content's digest.
func (d Detached) Draft(sum []byte) (*Draft, error) {
	if d.Type == nil {
		d.Type = pkcs7.OIDData
	}
	draft, err := d.draft(d.Type, sum)
	if err == nil && !d.Type.Equal(pkcs7.OIDData) {
		draft.data.Version = versionOther
	}
	return draft, err
}

// DraftAround makes all but the signature of a SignedData as PKCS #7 has it
// (RFC 2315 §7), around content that is no octet string but DER of a type of
// its own. Its digest is over the element without tag and length (§9.3).
func (d Detached) DraftAround(kind asn1.ObjectIdentifier, content []byte) (*Draft, error) {
	var value asn1.RawValue
	if _, err := asn1.Unmarshal(content, &value); err != nil {
		return nil, fmt.Errorf("the content to sign is no DER: %w", err)
	}
	h := d.Hash().New()
	h.Write(value.Bytes)
	draft, err := d.draft(kind, h.Sum(nil))
	if err != nil {
		return nil, err
	}
	draft.data.Encapsulated.Content = element(content)
	return draft, nil
}

func (d Detached) draft(kind asn1.ObjectIdentifier, sum []byte) (*Draft, error) {
	info, signed, err := d.signerInfo(kind, sum)
	if err != nil {
		return nil, err
	}
	data := signedData{
		Version:          1,
		DigestAlgorithms: []pkix.AlgorithmIdentifier{info.DigestAlgorithm},
		Certificates:     d.certificates(),
		Signers:          []signerInfo{info},
	}
	data.Encapsulated.Type = kind
	return &Draft{data, signed}, nil
}

func (d Detached) certificates() asn1.RawValue {
	if d.Bare {
		return asn1.RawValue{}
	}
	certs := [][]byte{d.Certificate.Raw}
	for _, c := range d.Chain {
		certs = append(certs, c.Raw)
	}
	return asn1.RawValue{Class: asn1.ClassContextSpecific, IsCompound: true, Bytes: bytes.Join(certs, nil)}
}

// ToSign is the message that the certificate's key must sign, with the hash
// of [Detached.Hash]: the signed attributes (RFC 5652 §5.4). It holds the
// content's digest. It is nil if that digest itself is to be signed.
func (d *Draft) ToSign() []byte { return d.signed }

// WithoutCertificates leaves them out, for who asked for none.
func (d *Draft) WithoutCertificates() *Draft {
	bare := *d
	bare.data.Certificates = asn1.RawValue{}
	return &bare
}

// Finish puts the signature in (DER).
func (d *Draft) Finish(signature []byte) ([]byte, error) {
	d.data.Signers[0].Signature = signature
	return asn1.Marshal(contentInfo{pkcs7.OIDSignedData, d.data})
}

// FinishAround puts the signature in, and the content that was digested.
func (d *Draft) FinishAround(content, signature []byte) ([]byte, error) {
	d.data.Encapsulated.Content = octets(content)
	return d.Finish(signature)
}

// signerInfo is all of a SignerInfo but the signature, and what is signed.
func (d Detached) signerInfo(kind asn1.ObjectIdentifier, sum []byte) (info signerInfo, signed []byte, err error) {
	digest, signature, err := d.algorithms()
	if err != nil {
		return info, nil, err
	}
	info = signerInfo{
		Version:            1,
		ID:                 issuerAndSerial{asn1.RawValue{FullBytes: d.Certificate.RawIssuer}, d.Certificate.SerialNumber},
		DigestAlgorithm:    pkix.AlgorithmIdentifier{Algorithm: digest},
		SignatureAlgorithm: signature,
	}
	if d.Bare {
		return info, nil, nil
	}
	if info.Attributes, err = makeAttributes(kind, sum, d.At); err != nil {
		return info, nil, err
	}
	for _, a := range d.Signed {
		info.Attributes = append(info.Attributes, attribute{a.Type, setOf(a.Value)})
	}
	signed, err = encodeAttributes(info.Attributes)
	return info, signed, err
}

// DigestOf is the digest of content in memory.
func DigestOf(content []byte) Digest {
	return func(hash crypto.Hash) ([]byte, error) {
		h := hash.New()
		h.Write(content)
		return h.Sum(nil), nil
	}
}
