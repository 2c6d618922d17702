package cms

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
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
	return d.draft(pkcs7.OIDData, sum)
}

func (d Detached) draft(kind asn1.ObjectIdentifier, sum []byte) (*Draft, error) {
	info, signed, err := d.signerInfo(kind, sum)
	if err != nil {
		return nil, err
	}
	certs := [][]byte{d.Certificate.Raw}
	for _, c := range d.Chain {
		certs = append(certs, c.Raw)
	}
	data := signedData{
		Version:          1,
		DigestAlgorithms: []pkix.AlgorithmIdentifier{info.DigestAlgorithm},
		Certificates:     asn1.RawValue{Class: asn1.ClassContextSpecific, IsCompound: true, Bytes: bytes.Join(certs, nil)},
		Signers:          []signerInfo{info},
	}
	data.Encapsulated.Type = kind
	return &Draft{data, signed}, nil
}

// ToSign is the message that the certificate's key must sign, with the hash
// of [Detached.Hash]: the signed attributes (RFC 5652 §5.4). It holds the
// content's digest.
func (d *Draft) ToSign() []byte { return d.signed }

// Finish puts the signature in (DER).
func (d *Draft) Finish(signature []byte) ([]byte, error) {
	d.data.Signers[0].Signature = signature
	return asn1.Marshal(contentInfo{pkcs7.OIDSignedData, d.data})
}

// FinishAround puts the signature in, and the content that was digested.
func (d *Draft) FinishAround(content, signature []byte) ([]byte, error) {
	d.data.Encapsulated.Content = content
	return d.Finish(signature)
}

// signerInfo is all of a SignerInfo but the signature, and what is signed.
func (d Detached) signerInfo(kind asn1.ObjectIdentifier, sum []byte) (info signerInfo, signed []byte, err error) {
	digest, signature, err := d.algorithms()
	if err != nil {
		return info, nil, err
	}
	attrs, err := makeAttributes(kind, sum, d.At)
	if err != nil {
		return info, nil, err
	}
	signed, err = encodeAttributes(attrs)
	return signerInfo{
		Version:            1,
		ID:                 issuerAndSerial{asn1.RawValue{FullBytes: d.Certificate.RawIssuer}, d.Certificate.SerialNumber},
		DigestAlgorithm:    pkix.AlgorithmIdentifier{Algorithm: digest},
		Attributes:         attrs,
		SignatureAlgorithm: signature,
	}, signed, err
}

// DigestOf is the digest of content in memory.
func DigestOf(content []byte) Digest {
	return func(hash crypto.Hash) ([]byte, error) {
		h := hash.New()
		h.Write(content)
		return h.Sum(nil), nil
	}
}
