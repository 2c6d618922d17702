package cms

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"

	"github.com/smallstep/pkcs7"
)

// bare is a SignedData with nothing in it but one signature.
type bare struct {
	Type asn1.ObjectIdentifier
	Data struct {
		Version int
		Digests []pkix.AlgorithmIdentifier `asn1:"set"`
		Content struct{ Type asn1.ObjectIdentifier }
		Signers []bareSigner `asn1:"set"`
	} `asn1:"explicit,tag:0"`
}

type bareSigner struct {
	Version int
	ID      struct {
		Issuer asn1.RawValue
		Serial asn1.RawValue
	}
	Digest    pkix.AlgorithmIdentifier
	By        pkix.AlgorithmIdentifier
	Signature []byte
}

// VerifyBare verifies a detached SignedData as [Detached.Bare] makes it: one
// signature over the content's digest itself, without attributes and without
// certificates, by the key of one of those given. Nothing about the
// certificate is judged.
func VerifyBare(sig []byte, content Digest, certs []*x509.Certificate) (*x509.Certificate, error) {
	info, err := readBare(sig)
	if err != nil {
		return nil, err
	}
	cert := info.certificate(certs)
	if cert == nil {
		return nil, errors.New("none of the given certificates is the signer's")
	}
	alg, err := algorithmOf(info.Digest.Algorithm, info.By, cert)
	if err != nil {
		return nil, fmt.Errorf("the signature of %q %w", cert.Subject, err)
	}
	sum, err := content(alg.hash)
	if err != nil {
		return nil, &DigestError{err}
	}
	if !alg.verify(cert, sum, info.Signature) {
		return nil, fmt.Errorf("the signature of %q does not verify with its certificate's key", cert.Subject)
	}
	return cert, nil
}

// readBare takes the one signature out of a message that has nothing else.
func readBare(sig []byte) (*bareSigner, error) {
	if len(sig) > MaxSignature {
		return nil, fmt.Errorf("the CMS message is %d bytes long: at most %d are accepted", len(sig), MaxSignature)
	}
	der, err := Definite(sig)
	if err != nil {
		return nil, err
	}
	var m bare
	if rest, err := asn1.Unmarshal(der, &m); err != nil || len(rest) > 0 {
		return nil, fmt.Errorf("it is no SignedData without content, certificates and attributes: %w", err)
	}
	switch {
	case !m.Type.Equal(pkcs7.OIDSignedData) || !m.Data.Content.Type.Equal(pkcs7.OIDData) || m.Data.Version != 1:
		return nil, fmt.Errorf("it is a %s of version %d over %s: want SignedData of version 1 over data", m.Type, m.Data.Version, m.Data.Content.Type)
	case len(m.Data.Signers) != 1 || m.Data.Signers[0].Version != 1:
		return nil, fmt.Errorf("it has %d signers: want one, identified by issuer and serial number", len(m.Data.Signers))
	case len(m.Data.Digests) != 1 || !m.Data.Digests[0].Algorithm.Equal(m.Data.Signers[0].Digest.Algorithm):
		return nil, fmt.Errorf("it names %d digests: want the signer's", len(m.Data.Digests))
	}
	return &m.Data.Signers[0], nil
}

func (s *bareSigner) certificate(certs []*x509.Certificate) *x509.Certificate {
	for _, c := range certs {
		serial, err := asn1.Marshal(c.SerialNumber)
		if err == nil && bytes.Equal(serial, s.ID.Serial.FullBytes) && bytes.Equal(c.RawIssuer, s.ID.Issuer.FullBytes) {
			return c
		}
	}
	return nil
}

// verify checks a signature over a digest.
func (a algorithm) verify(cert *x509.Certificate, sum, sig []byte) bool {
	switch key := cert.PublicKey.(type) {
	case *rsa.PublicKey:
		return a.signature != x509.SHA256WithRSAPSS && rsa.VerifyPKCS1v15(key, a.hash, sum, sig) == nil
	case *ecdsa.PublicKey:
		return ecdsa.VerifyASN1(key, sum, sig)
	}
	return false
}
