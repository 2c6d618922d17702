package cms

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"io"
	"math/big"
	"time"

	"github.com/smallstep/pkcs7"
)

// The types below are SignedData as this package writes it (RFC 5652 §5.1,
// §5.3). The library cannot make one over content that is not in memory.

type contentInfo struct {
	Type    asn1.ObjectIdentifier
	Content signedData `asn1:"explicit,tag:0"`
}

type signedData struct {
	Version          int
	DigestAlgorithms []pkix.AlgorithmIdentifier `asn1:"set"`
	Encapsulated     encapsulated
	Certificates     asn1.RawValue `asn1:"optional"` // [0] IMPLICIT
	Signers          []signerInfo  `asn1:"set"`
}

// encapsulated is EncapsulatedContentInfo (RFC 5652 §5.2); a detached
// signature has no content.
type encapsulated struct {
	Type    asn1.ObjectIdentifier
	Content asn1.RawValue `asn1:"optional"` // [0] EXPLICIT
}

// octets is content as an octet string, inside.
func octets(content []byte) asn1.RawValue {
	return element(append(appendHeader(nil, asn1.TagOctetString, len(content)), content...))
}

// element is content that is DER of its own type, inside.
func element(der []byte) asn1.RawValue {
	return asn1.RawValue{Class: asn1.ClassContextSpecific, IsCompound: true, Bytes: der}
}

type signerInfo struct {
	Version            int
	ID                 issuerAndSerial
	DigestAlgorithm    pkix.AlgorithmIdentifier
	Attributes         []attribute `asn1:"set,optional,omitempty,tag:0"`
	SignatureAlgorithm pkix.AlgorithmIdentifier
	Signature          []byte
}

type issuerAndSerial struct {
	Issuer asn1.RawValue
	Serial *big.Int
}

// SignDetached reads content to its end and makes a detached SignedData over
// it (DER), with the certificate inside and the given signing time. The key
// must be the certificate's, RSA or ECDSA. The digest is SHA-256, for keys on
// P-384 and P-521 SHA-384 and SHA-512.
func SignDetached(content io.Reader, cert *x509.Certificate, key crypto.Signer, at time.Time) ([]byte, error) {
	d := Detached{Certificate: cert, At: at}
	h := d.Hash().New()
	if _, err := io.Copy(h, content); err != nil {
		return nil, fmt.Errorf("read the file to sign: %w", err)
	}
	draft, err := d.Draft(h.Sum(nil))
	if err != nil {
		return nil, err
	}
	sig, err := d.sign(draft, key)
	if err != nil {
		return nil, err
	}
	return draft.Finish(sig)
}

// hashFor is the hash that suits a certificate's key.
func hashFor(cert *x509.Certificate) crypto.Hash {
	if pub, ok := cert.PublicKey.(*ecdsa.PublicKey); ok {
		switch pub.Curve.Params().BitSize {
		case 384:
			return crypto.SHA384
		case 521:
			return crypto.SHA512
		}
	}
	return crypto.SHA256
}

// sign signs a draft with the certificate's key.
func (d Detached) sign(draft *Draft, key crypto.Signer) ([]byte, error) {
	cert := d.Certificate
	if pub, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool }); !ok || !pub.Equal(cert.PublicKey) {
		return nil, fmt.Errorf("the key is not that of the certificate of %q", cert.Subject)
	}
	h := d.Hash().New()
	h.Write(draft.ToSign())
	sig, err := key.Sign(rand.Reader, h.Sum(nil), d.Hash())
	if err != nil {
		return nil, fmt.Errorf("sign with the key of %q: %w", cert.Subject, err)
	}
	return sig, nil
}

// algorithms names the digest and signature algorithms. For RSA it is
// rsaEncryption with NULL parameters, which every implementation must
// understand (RFC 3370 §3.2), or PSS.
func (d Detached) algorithms() (digest asn1.ObjectIdentifier, signature pkix.AlgorithmIdentifier, err error) {
	for _, known := range digests {
		if known.hash != d.Hash() {
			continue
		}
		switch d.Certificate.PublicKey.(type) {
		case *rsa.PublicKey:
			if d.PSS {
				return known.oid, pssSHA256, nil
			}
			return known.oid, pkix.AlgorithmIdentifier{Algorithm: pkcs7.OIDEncryptionAlgorithmRSA, Parameters: asn1.NullRawValue}, nil
		case *ecdsa.PublicKey:
			return known.oid, pkix.AlgorithmIdentifier{Algorithm: known.ecdsaOID}, nil
		}
	}
	return nil, signature, fmt.Errorf("a key of type %T cannot sign CMS messages: use RSA or ECDSA", d.Certificate.PublicKey)
}

func makeAttributes(content asn1.ObjectIdentifier, sum []byte, at time.Time) ([]attribute, error) {
	var attrs []attribute
	for _, a := range []struct {
		oid   asn1.ObjectIdentifier
		value any
	}{
		{pkcs7.OIDAttributeContentType, content},
		{pkcs7.OIDAttributeMessageDigest, sum},
		{pkcs7.OIDAttributeSigningTime, at.UTC().Truncate(time.Second)},
	} {
		value, err := asn1.Marshal(a.value)
		if err != nil {
			return nil, errors.Join(errors.New("encode a signed attribute"), err)
		}
		attrs = append(attrs, attribute{a.oid, setOf(value)})
	}
	return attrs, nil
}

// setOf is a SET OF one value.
func setOf(value []byte) asn1.RawValue {
	return asn1.RawValue{Tag: asn1.TagSet, IsCompound: true, Bytes: value}
}
