package ocsp

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	_ "crypto/sha512" // for P-384
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/crypto/cryptobyte"
	tag "golang.org/x/crypto/cryptobyte/asn1"
)

// Credential is what answers for one issuing CA are signed with: a key, and
// the certificate by which that CA delegates answering to it (RFC 6960
// §4.2.2.2). It is made once and used by many goroutines.
type Credential struct {
	// NotBefore and NotAfter are when answers can be signed with it.
	NotBefore, NotAfter time.Time

	signer    crypto.Signer
	hash      crypto.Hash
	algorithm []byte // AlgorithmIdentifier
	id        []byte // the key's hash, for responderID
	cert      []byte
}

// NewCredential refuses what clients would refuse: a certificate that the
// issuer did not sign with the key that it signs devices' certificates with,
// that is not for signing answers, or is another key's.
func NewCredential(issuer, responder *x509.Certificate, key crypto.Signer) (*Credential, error) {
	if err := responder.CheckSignatureFrom(issuer); err != nil {
		return nil, fmt.Errorf("the responder's certificate is not by the CA %q: %w", issuer.Subject, err)
	}
	if !slices.Contains(responder.ExtKeyUsage, x509.ExtKeyUsageOCSPSigning) {
		return nil, errors.New("the responder's certificate is not for signing OCSP answers: it lacks the extended key usage OCSPSigning")
	}
	public, ok := responder.PublicKey.(*ecdsa.PublicKey)
	if !ok || !public.Equal(key.Public()) {
		return nil, errors.New("the responder's certificate is not of the responder's ECDSA key")
	}
	c := &Credential{NotBefore: responder.NotBefore, NotAfter: responder.NotAfter, signer: key, cert: responder.Raw}
	if issuer.NotAfter.Before(c.NotAfter) {
		c.NotAfter = issuer.NotAfter
	}
	if err := c.setAlgorithm(public.Curve); err != nil {
		return nil, err
	}
	c.id, ok = keyHash(responder.RawSubjectPublicKeyInfo, crypto.SHA1)
	if !ok {
		return nil, errors.New("the responder's certificate has no subjectPublicKeyInfo")
	}
	return c, nil
}

func (c *Credential) setAlgorithm(curve elliptic.Curve) error {
	oid := asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2} // ecdsa-with-SHA256
	switch curve {
	case elliptic.P256():
		c.hash = crypto.SHA256
	case elliptic.P384():
		c.hash, oid = crypto.SHA384, asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 3}
	default:
		return fmt.Errorf("the responder's key is on the curve %s: want P-256 or P-384", curve.Params().Name)
	}
	var b cryptobyte.Builder
	b.AddASN1(tag.SEQUENCE, func(b *cryptobyte.Builder) { b.AddASN1ObjectIdentifier(oid) })
	c.algorithm = b.BytesOrPanic()
	return nil
}

// sign signs a ResponseData.
func (c *Credential) sign(data []byte) ([]byte, error) {
	h := c.hash.New()
	h.Write(data)
	return c.signer.Sign(rand.Reader, h.Sum(nil), c.hash)
}

// keyHash is the hash of the subjectPublicKey's bits, without tag, length and
// the count of unused bits (RFC 6960 §4.1.1, §4.2.1).
func keyHash(spki []byte, with crypto.Hash) ([]byte, bool) {
	var info cryptobyte.String
	var bits []byte
	in := cryptobyte.String(spki)
	if !in.ReadASN1(&info, tag.SEQUENCE) || !info.SkipASN1(tag.SEQUENCE) || !info.ReadASN1BitStringAsBytes(&bits) {
		return nil, false
	}
	h := with.New()
	h.Write(bits)
	return h.Sum(nil), true
}
