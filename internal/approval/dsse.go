package approval

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
)

// PayloadType says in a DSSE envelope that the payload is the terms of a
// proposal.
const PayloadType = "application/vnd.touchmark.proposal+json"

// Encoding is what is signed of a payload: the pre-authentication encoding of
// DSSE v1 (https://github.com/secure-systems-lab/dsse, protocol.md), which
// binds the type to it.
func Encoding(payload []byte) []byte {
	return fmt.Appendf(nil, "DSSEv1 %d %s %d %s", len(PayloadType), PayloadType, len(payload), payload)
}

// Sign signs a payload by an operator's key, wherever that is. The caller has
// read it with [ReadTerms] and shown it to the operator.
func Sign(payload []byte, key crypto.Signer) ([]byte, error) {
	_, hash, err := algorithm(key.Public())
	if err != nil {
		return nil, err
	}
	sig, err := crypto.SignMessage(key, rand.Reader, Encoding(payload), hash)
	if err != nil {
		return nil, fmt.Errorf("sign the proposal: %w", err)
	}
	return sig, nil
}

// algorithm is the one that a key signs with: Ed25519; ECDSA in ASN.1 with the
// hash of the curve's size; RSA PKCS #1 v1.5, which every token does, with
// SHA-256.
func algorithm(public crypto.PublicKey) (x509.SignatureAlgorithm, crypto.Hash, error) {
	switch key := public.(type) {
	case ed25519.PublicKey:
		return x509.PureEd25519, 0, nil
	case *rsa.PublicKey:
		return x509.SHA256WithRSA, crypto.SHA256, nil
	case *ecdsa.PublicKey:
		switch key.Curve {
		case elliptic.P256():
			return x509.ECDSAWithSHA256, crypto.SHA256, nil
		case elliptic.P384():
			return x509.ECDSAWithSHA384, crypto.SHA384, nil
		case elliptic.P521():
			return x509.ECDSAWithSHA512, crypto.SHA512, nil
		}
	}
	return 0, 0, fmt.Errorf("approvals cannot be signed with a key of the type %T", public)
}

// SignatureError says that an approval is not signed as it should be.
type SignatureError struct{ Text string }

func (e *SignatureError) Error() string { return e.Text }

// verify checks that the key of an approval's certificate signed the payload.
func verify(payload []byte, a Approval) error {
	if len(a.Certificates) == 0 {
		return &SignatureError{"the approval by " + a.By + " has no certificate"}
	}
	cert, err := x509.ParseCertificate(a.Certificates[0])
	if err != nil {
		return &SignatureError{fmt.Sprintf("the certificate of %s: %v", a.By, err)}
	}
	with, _, err := algorithm(cert.PublicKey)
	if err != nil {
		return &SignatureError{err.Error()}
	}
	if cert.CheckSignature(with, Encoding(payload), a.Signature) != nil {
		return &SignatureError{fmt.Sprintf("the signature of %s is not over this proposal by the key of the certificate: look at the proposal again and sign its payload", a.By)}
	}
	return nil
}

// keyID names a key in an envelope: SHA-256 of the SubjectPublicKeyInfo, hex.
func keyID(cert *x509.Certificate) string {
	sum := sha256.Sum256(cert.RawSubjectPublicKeyInfo)
	return hex.EncodeToString(sum[:])
}
