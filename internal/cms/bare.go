package cms

import (
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
)

// VerifyBare verifies a detached SignedData as [Detached.Bare] makes it: one
// signature over the content's digest itself, without attributes and without
// certificates, by the key of one of those given. Nothing about the
// certificate is judged.
func VerifyBare(sig []byte, content Digest, certs []*x509.Certificate) (*x509.Certificate, error) {
	p7, err := Parse(sig, MaxSignature)
	if err != nil {
		return nil, err
	}
	if len(p7.Content) > 0 || len(p7.Signers) != 1 {
		return nil, fmt.Errorf("it has %d signers and %d bytes of content: want one signer and no content", len(p7.Signers), len(p7.Content))
	}
	info := p7.Signers[0]
	if len(info.AuthenticatedAttributes) > 0 {
		return nil, errors.New("it has signed attributes: leave them out")
	}
	cert := find(certs, info.IssuerAndSerialNumber.IssuerName.FullBytes, info.IssuerAndSerialNumber.SerialNumber.Text(16))
	if cert == nil {
		return nil, errors.New("none of the given certificates is the signer's")
	}
	alg, err := algorithmOf(info.DigestAlgorithm.Algorithm, info.DigestEncryptionAlgorithm, cert)
	if err != nil {
		return nil, fmt.Errorf("the signature of %q %w", cert.Subject, err)
	}
	sum, err := content(alg.hash)
	if err != nil {
		return nil, &DigestError{err}
	}
	if !alg.verify(cert, sum, info.EncryptedDigest) {
		return nil, fmt.Errorf("the signature of %q does not verify with its certificate's key", cert.Subject)
	}
	return cert, nil
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
