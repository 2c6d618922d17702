package cms

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	_ "crypto/sha256" // the digests that are accepted
	_ "crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"time"

	"github.com/smallstep/pkcs7"
)

// MaxSignature is the longest detached signature that is looked at, in
// bytes, and MaxSigners how many signers it may have.
const (
	MaxSignature = 64 << 10
	MaxSigners   = 8
)

// minRSA is the smallest RSA modulus accepted, in bits.
const minRSA = 2048

// Digest returns the digest of the signed content by the given hash, which
// is SHA-256, SHA-384 or SHA-512.
type Digest func(crypto.Hash) ([]byte, error)

// Signer is one verified signature.
type Signer struct {
	Certificate *x509.Certificate
	// SigningTime is the signer's own statement, unproven and only for show;
	// zero if there is none (RFC 5652 §11.3).
	SigningTime time.Time
	// Others are the other certificates inside the message, which nobody has
	// verified: issuers of the signer's, if it put them there. Open gives them.
	Others []*x509.Certificate
	// Signed are the signed attributes.
	Signed []Attribute
}

// DigestError says that the content's digest could not be had; the signature
// was not judged.
type DigestError struct{ Err error }

func (e *DigestError) Error() string { return "digest of the signed content: " + e.Err.Error() }
func (e *DigestError) Unwrap() error { return e.Err }

// VerifyDetached verifies a detached SignedData (RFC 5652 §5), DER, BER or
// PEM, over content that is given by its digests. Every signer in it must be
// good: the certificate is inside and issued directly by one of the roots
// (embedded certificates are not used to build a longer chain), is valid at
// the given time and may sign; signed attributes are there, the digest is
// SHA-256, -384 or -512, the key RSA of 2048 bits or more (PKCS #1 v1.5, or PSS
// with SHA-256), or ECDSA. The
// errors say what is wrong in the signature; a *DigestError is not the
// signature's fault.
func VerifyDetached(sig []byte, content Digest, roots *x509.CertPool, at time.Time) ([]Signer, error) {
	if len(sig) > 2*MaxSignature {
		return nil, fmt.Errorf("it is %d bytes long: at most %d are accepted", len(sig), MaxSignature)
	}
	der, err := Decode(sig)
	if err != nil {
		return nil, err
	}
	p7, err := Parse(der, MaxSignature)
	if err != nil {
		return nil, err
	}
	switch {
	case len(p7.Content) > 0:
		return nil, errors.New("it carries the signed content inside: make a detached signature")
	case len(p7.Signers) == 0:
		return nil, errors.New("it has no signer identified by issuer and serial number (openssl: leave out -keyid)")
	case len(p7.Signers) > MaxSigners:
		return nil, fmt.Errorf("it has %d signers: at most %d are accepted", len(p7.Signers), MaxSigners)
	}
	signers := make([]Signer, len(p7.Signers))
	for i := range p7.Signers {
		if signers[i], err = verifySigner(p7, i, content, roots, at); err != nil {
			return nil, err
		}
	}
	return signers, nil
}

func verifySigner(p7 *pkcs7.PKCS7, i int, content Digest, roots *x509.CertPool, at time.Time) (Signer, error) {
	cert, err := signerCertificate(p7, i)
	if err != nil {
		return Signer{}, err
	}
	if err := (Signer{Certificate: cert}).Check(roots, at); err != nil {
		return Signer{}, err
	}
	return verifySignature(p7, i, cert, pkcs7.OIDData, content)
}

// signerCertificate finds the certificate of a signer inside the message.
func signerCertificate(p7 *pkcs7.PKCS7, i int) (*x509.Certificate, error) {
	id := p7.Signers[i].IssuerAndSerialNumber
	cert := find(p7.Certificates, id.IssuerName.FullBytes, id.SerialNumber.Text(16))
	if cert == nil {
		return nil, errors.New("the signer's certificate is not inside (openssl: leave out -nocerts)")
	}
	return cert, nil
}

// Check wants the signer's certificate issued directly by one of the roots,
// valid at the given time, and fit to sign.
func (s Signer) Check(roots *x509.CertPool, at time.Time) error {
	if err := checkCertificate(s.Certificate, roots, at); err != nil {
		return fmt.Errorf("the certificate of %q %w", s.Certificate.Subject, err)
	}
	return nil
}

// verifySignature checks a signature over content of a type by a certificate's
// key, and nothing about the certificate.
func verifySignature(p7 *pkcs7.PKCS7, i int, cert *x509.Certificate, kind asn1.ObjectIdentifier, content Digest) (Signer, error) {
	info := p7.Signers[i]
	alg, err := algorithmOf(info.DigestAlgorithm.Algorithm, info.DigestEncryptionAlgorithm, cert)
	if err != nil {
		return Signer{}, fmt.Errorf("the signature of %q %w", cert.Subject, err)
	}
	attrs := make([]attribute, len(info.AuthenticatedAttributes))
	for k, a := range info.AuthenticatedAttributes {
		attrs[k] = attribute{a.Type, a.Value}
	}
	sum, err := content(alg.hash)
	if err != nil {
		return Signer{}, &DigestError{err}
	}
	signed, when, err := checkAttributes(attrs, kind, sum)
	if err != nil {
		return Signer{}, fmt.Errorf("the signature of %q %w", cert.Subject, err)
	}
	if err := cert.CheckSignature(alg.signature, signed, info.EncryptedDigest); err != nil {
		return Signer{}, fmt.Errorf("the signature of %q does not verify with its certificate's key: %w", cert.Subject, err)
	}
	by := Signer{Certificate: cert, SigningTime: when}
	for _, a := range attrs {
		by.Signed = append(by.Signed, Attribute{a.Type, a.Value.Bytes})
	}
	return by, nil
}

func find(certs []*x509.Certificate, issuer []byte, serial string) *x509.Certificate {
	for _, c := range certs {
		if bytes.Equal(c.RawIssuer, issuer) && c.SerialNumber.Text(16) == serial {
			return c
		}
	}
	return nil
}

func checkCertificate(cert *x509.Certificate, roots *x509.CertPool, at time.Time) error {
	if _, err := cert.Verify(x509.VerifyOptions{
		Roots: roots, CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	}); err != nil {
		return fmt.Errorf("is not acceptable: %w", err)
	}
	switch {
	case cert.IsCA:
		return errors.New("is a CA's: sign with a person's certificate")
	case cert.KeyUsage != 0 && cert.KeyUsage&(x509.KeyUsageDigitalSignature|x509.KeyUsageContentCommitment) == 0:
		return errors.New("is not for digital signatures (keyUsage, RFC 5280 §4.2.1.3)")
	}
	return checkSize(cert)
}

type algorithm struct {
	hash      crypto.Hash
	signature x509.SignatureAlgorithm
}

// digests are the hashes that are accepted, with the OIDs that name a
// signature by them: those of RFC 5754 §3.2 and §3.3.
var digests = []struct {
	oid      asn1.ObjectIdentifier
	hash     crypto.Hash
	rsaOID   asn1.ObjectIdentifier
	rsa      x509.SignatureAlgorithm
	ecdsaOID asn1.ObjectIdentifier
	ecdsa    x509.SignatureAlgorithm
}{
	{pkcs7.OIDDigestAlgorithmSHA256, crypto.SHA256, pkcs7.OIDEncryptionAlgorithmRSASHA256, x509.SHA256WithRSA, pkcs7.OIDDigestAlgorithmECDSASHA256, x509.ECDSAWithSHA256},
	{pkcs7.OIDDigestAlgorithmSHA384, crypto.SHA384, pkcs7.OIDEncryptionAlgorithmRSASHA384, x509.SHA384WithRSA, pkcs7.OIDDigestAlgorithmECDSASHA384, x509.ECDSAWithSHA384},
	{pkcs7.OIDDigestAlgorithmSHA512, crypto.SHA512, pkcs7.OIDEncryptionAlgorithmRSASHA512, x509.SHA512WithRSA, pkcs7.OIDDigestAlgorithmECDSASHA512, x509.ECDSAWithSHA512},
}

// algorithmOf holds a signer's digest and signature algorithms to each other
// and to the certificate's key.
func algorithmOf(digest asn1.ObjectIdentifier, by pkix.AlgorithmIdentifier, cert *x509.Certificate) (algorithm, error) {
	signature := by.Algorithm
	for _, d := range digests {
		if !digest.Equal(d.oid) {
			continue
		}
		switch cert.PublicKey.(type) {
		case *rsa.PublicKey:
			if signature.Equal(pkcs7.OIDEncryptionAlgorithmRSA) || signature.Equal(d.rsaOID) {
				return algorithm{d.hash, d.rsa}, nil
			}
			if d.hash == crypto.SHA256 && isPSS(by) {
				return algorithm{d.hash, x509.SHA256WithRSAPSS}, nil
			}
		case *ecdsa.PublicKey:
			if signature.Equal(d.ecdsaOID) {
				return algorithm{d.hash, d.ecdsa}, nil
			}
		}
		return algorithm{}, fmt.Errorf("uses the algorithm %s with a digest %v and a key %T: accepted are RSA PKCS #1 v1.5, RSA-PSS with SHA-256 and a salt of 32 bytes, and ECDSA", signature, d.hash, cert.PublicKey)
	}
	return algorithm{}, fmt.Errorf("uses the digest %s: accepted are SHA-256, SHA-384 and SHA-512 (openssl: -md sha256)", digest)
}

type attribute struct {
	Type  asn1.ObjectIdentifier
	Value asn1.RawValue `asn1:"set"`
}

// checkAttributes checks the signed attributes of RFC 5652 §11 and returns
// the bytes that were signed: their DER as a SET OF (§5.4).
func checkAttributes(attrs []attribute, kind asn1.ObjectIdentifier, sum []byte) (signed []byte, when time.Time, err error) {
	if len(attrs) == 0 {
		return nil, when, errors.New("has no signed attributes (openssl: leave out -noattr)")
	}
	var contentType asn1.ObjectIdentifier
	if err := one(attrs, pkcs7.OIDAttributeContentType, &contentType); err != nil {
		return nil, when, fmt.Errorf("has no good content-type attribute: %w", err)
	}
	if !contentType.Equal(kind) {
		return nil, when, fmt.Errorf("is over content of type %s, not of %s", contentType, kind)
	}
	var digest []byte
	if err := one(attrs, pkcs7.OIDAttributeMessageDigest, &digest); err != nil {
		return nil, when, fmt.Errorf("has no good message-digest attribute: %w", err)
	}
	if !bytes.Equal(digest, sum) {
		return nil, when, fmt.Errorf("is over other bytes: it signs the digest %x, but the file has %x (openssl: sign the same file, with -binary)", digest, sum)
	}
	if err := one(attrs, pkcs7.OIDAttributeSigningTime, &when); err != nil && !errors.Is(err, errAbsent) {
		return nil, when, fmt.Errorf("has no good signing-time attribute: %w", err)
	}
	signed, err = encodeAttributes(attrs)
	return signed, when, err
}

var errAbsent = errors.New("it is absent")

// one reads the value of an attribute that must occur once and have one
// value.
func one(attrs []attribute, oid asn1.ObjectIdentifier, into any) error {
	found := false
	for _, a := range attrs {
		if !a.Type.Equal(oid) {
			continue
		}
		if found {
			return errors.New("it occurs twice")
		}
		found = true
		rest, err := asn1.Unmarshal(a.Value.Bytes, into)
		switch {
		case err != nil:
			return err
		case len(rest) > 0:
			return errors.New("it has more than one value")
		}
	}
	if !found {
		return errAbsent
	}
	return nil
}

// encodeAttributes gives the DER of the attributes as a SET OF, in DER's
// order.
func encodeAttributes(attrs []attribute) ([]byte, error) {
	set, err := asn1.MarshalWithParams(attrs, "set")
	if err != nil {
		return nil, fmt.Errorf("has attributes that cannot be encoded: %w", err)
	}
	return set, nil
}
