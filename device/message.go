package device

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"time"
)

// Messages over MQTT are CMS SignedData with the content inside (RFC 5652 §5),
// here in DER, with one signer and SHA-256.

var (
	oidContentType     = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 3}
	oidMessageDigest   = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 4}
	oidSigningTime     = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 5}
	oidSHA256          = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}
	oidECDSAWithSHA256 = asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2}
	oidRSA             = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 1}
)

// signerInfo is RFC 5652 §5.3.
type signerInfo struct {
	Version int
	Signer  struct {
		Issuer asn1.RawValue
		Serial *big.Int
	}
	Digest     pkix.AlgorithmIdentifier
	Attributes asn1.RawValue `asn1:"optional,tag:0"`
	Algorithm  pkix.AlgorithmIdentifier
	Signature  []byte
}

type signedAttribute struct {
	Type  asn1.ObjectIdentifier
	Value asn1.RawValue // a SET
}

// message is signedData as it carries content.
type message struct {
	Version      int
	Digests      []pkix.AlgorithmIdentifier `asn1:"set"`
	Encapsulated struct {
		Type    asn1.ObjectIdentifier
		Content []byte `asn1:"explicit,tag:0"`
	}
	Certificates asn1.RawValue
	Signers      []signerInfo `asn1:"set"`
}

// signature is how a key signs, as CMS names it (RFC 5754 §3).
func signatureOf(key crypto.PublicKey) (pkix.AlgorithmIdentifier, x509.SignatureAlgorithm, error) {
	switch key.(type) {
	case *ecdsa.PublicKey:
		return pkix.AlgorithmIdentifier{Algorithm: oidECDSAWithSHA256}, x509.ECDSAWithSHA256, nil
	case *rsa.PublicKey:
		return pkix.AlgorithmIdentifier{Algorithm: oidRSA, Parameters: asn1.NullRawValue}, x509.SHA256WithRSA, nil
	}
	return pkix.AlgorithmIdentifier{}, 0, fmt.Errorf("a key of type %T cannot sign messages: use EC or RSA, or EST", key)
}

// signContent makes a message by a credential.
func signContent(content []byte, by *Credential, at time.Time) ([]byte, error) {
	cert := by.Leaf()
	algorithm, _, err := signatureOf(cert.PublicKey)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(content)
	attributes, err := attributeSet(sum[:], at)
	if err != nil {
		return nil, err
	}
	signed := sha256.Sum256(attributes)
	signature, err := by.Key.Sign(rand.Reader, signed[:], crypto.SHA256)
	if err != nil {
		return nil, fmt.Errorf("sign the message: %w", err)
	}
	info := signerInfo{Version: 1, Digest: pkix.AlgorithmIdentifier{Algorithm: oidSHA256}, Algorithm: algorithm, Signature: signature}
	info.Signer.Issuer.FullBytes, info.Signer.Serial = cert.RawIssuer, cert.SerialNumber
	implicit := bytes.Clone(attributes)
	implicit[0] = 0xa0 // SET OF is signed, [0] IMPLICIT is sent (RFC 5652 §5.4)
	info.Attributes.FullBytes = implicit
	m := message{Version: 1, Digests: []pkix.AlgorithmIdentifier{info.Digest}, Signers: []signerInfo{info}}
	m.Encapsulated.Type, m.Encapsulated.Content = oidData, content
	m.Certificates = asn1.RawValue{Class: asn1.ClassContextSpecific, IsCompound: true}
	for _, c := range by.Chain { // a chip vendor's count only with their issuers'
		m.Certificates.Bytes = append(m.Certificates.Bytes, c.Raw...)
	}
	inner, err := asn1.Marshal(m)
	if err != nil {
		return nil, err
	}
	return asn1.Marshal(contentInfo{oidSignedData, asn1.RawValue{Class: asn1.ClassContextSpecific, IsCompound: true, Bytes: inner}})
}

// attributeSet is the DER of the signed attributes (RFC 5652 §11).
func attributeSet(sum []byte, at time.Time) ([]byte, error) {
	var list []signedAttribute
	for _, a := range []struct {
		oid   asn1.ObjectIdentifier
		value any
	}{{oidContentType, oidData}, {oidMessageDigest, sum}, {oidSigningTime, at.UTC().Truncate(time.Second)}} {
		value, err := asn1.Marshal(a.value)
		if err != nil {
			return nil, err
		}
		list = append(list, signedAttribute{a.oid, asn1.RawValue{Tag: asn1.TagSet, IsCompound: true, Bytes: value}})
	}
	return asn1.MarshalWithParams(list, "set")
}

// openMessage returns the content of a message that a server below one of the
// roots signed. An operator's certificate may lead there, too, but is no
// server's.
func openMessage(der []byte, roots *x509.CertPool, now time.Time) ([]byte, error) {
	var info contentInfo
	if err := unmarshal(der, &info); err != nil || !info.Type.Equal(oidSignedData) {
		return nil, fmt.Errorf("the message is not a CMS SignedData in DER (%w)", err)
	}
	var m message
	if err := unmarshal(info.Content.Bytes, &m); err != nil {
		return nil, fmt.Errorf("the SignedData is not one with content: %w", err)
	}
	if len(m.Signers) != 1 || !m.Encapsulated.Type.Equal(oidData) {
		return nil, fmt.Errorf("the message has %d signers instead of one, or another content than data", len(m.Signers))
	}
	certs, err := parseCertificates(m.Certificates.Bytes)
	if err != nil {
		return nil, err
	}
	cert, err := serverOf(&m.Signers[0], certs, roots, now)
	if err != nil {
		return nil, err
	}
	return m.Encapsulated.Content, checkSigner(&m.Signers[0], cert, m.Encapsulated.Content)
}

// serverOf finds the signer's certificate, which must be a server's.
func serverOf(s *signerInfo, certs []*x509.Certificate, roots *x509.CertPool, now time.Time) (*x509.Certificate, error) {
	opts := x509.VerifyOptions{Roots: roots, Intermediates: x509.NewCertPool(), CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	var signer *x509.Certificate
	for _, c := range certs {
		if bytes.Equal(c.RawIssuer, s.Signer.Issuer.FullBytes) && c.SerialNumber.Cmp(s.Signer.Serial) == 0 {
			signer = c
		}
		opts.Intermediates.AddCert(c)
	}
	if signer == nil {
		return nil, errors.New("the signer's certificate is not in the message")
	}
	if _, err := signer.Verify(opts); err != nil {
		return nil, fmt.Errorf("the message is not signed by a server that this device trusts: %w", err)
	}
	return signer, nil
}

// checkSigner checks the signature over the attributes, and theirs over the
// content.
func checkSigner(s *signerInfo, cert *x509.Certificate, content []byte) error {
	_, algorithm, err := signatureOf(cert.PublicKey)
	if err != nil {
		return err
	}
	if !s.Digest.Algorithm.Equal(oidSHA256) || len(s.Attributes.FullBytes) == 0 {
		return errors.New("the signature is not by SHA-256 over signed attributes")
	}
	signed := bytes.Clone(s.Attributes.FullBytes)
	signed[0] = 0x31
	var list []signedAttribute
	if rest, err := asn1.UnmarshalWithParams(signed, &list, "set"); err != nil || len(rest) > 0 {
		return fmt.Errorf("the signed attributes are malformed (%w)", err)
	}
	sum := sha256.Sum256(content)
	digests := 0
	for _, a := range list {
		var digest []byte
		if !a.Type.Equal(oidMessageDigest) {
			continue
		}
		if rest, err := asn1.Unmarshal(a.Value.Bytes, &digest); err != nil || len(rest) > 0 || !bytes.Equal(digest, sum[:]) {
			return errors.New("the signature is over another content")
		}
		digests++
	}
	if digests != 1 {
		return fmt.Errorf("the signed attributes hold %d digests instead of one", digests)
	}
	if err := cert.CheckSignature(algorithm, signed, s.Signature); err != nil {
		return fmt.Errorf("the message's signature does not verify: %w", err)
	}
	return nil
}
