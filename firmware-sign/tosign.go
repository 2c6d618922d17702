package firmwaresign

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	_ "crypto/sha256" // the hashes of the algorithms
	_ "crypto/sha512"
	"errors"
	"fmt"

	"filippo.io/mldsa"
	pkix "filippo.io/mldsa/x509"
)

// Algorithm names how a signature is made.
type Algorithm string

// The algorithms. ECDSA signatures are in DER (RFC 3279 §2.2.3), PSS has
// MGF1 with the same hash and a salt of its length (RFC 8017 §8.1), Ed25519
// is the pure one of RFC 8032, ML-DSA the pure one of FIPS 204 with
// [StatementContext].
const (
	ECDSAP256SHA256 Algorithm = "ecdsa-p256-sha256"
	ECDSAP384SHA384 Algorithm = "ecdsa-p384-sha384"
	RSAPSSSHA256    Algorithm = "rsa-pss-sha256"
	RSAPKCS1SHA256  Algorithm = "rsa-pkcs1-sha256"
	Ed25519         Algorithm = "ed25519"
	MLDSA65         Algorithm = "ml-dsa-65"
	MLDSA87         Algorithm = "ml-dsa-87"
)

// StatementContext is the context string (FIPS 204 §5.2) of the algorithms
// MLDSA65 and MLDSA87, which sign statements about releases and nothing else.
const StatementContext = "touchmark release statement"

// MaxMessage is the longest message, in bytes, that is handed to a key whole.
// Only Ed25519 over a file itself needs so much: no digest can stand for it.
const MaxMessage = 16 << 20

// Hash is the hash whose digest is signed, 0 where the message itself is.
func (a Algorithm) Hash() crypto.Hash {
	switch a {
	case ECDSAP256SHA256, RSAPSSSHA256, RSAPKCS1SHA256:
		return crypto.SHA256
	case ECDSAP384SHA384:
		return crypto.SHA384
	}
	return 0
}

// options are what crypto.Signer wants to know.
func (a Algorithm) options() crypto.SignerOpts {
	switch a {
	case MLDSA65, MLDSA87:
		return &mldsa.Options{Context: StatementContext}
	case RSAPSSSHA256:
		return &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: a.Hash()}
	}
	return a.Hash()
}

// KeyError says that a key is of no use for what it was given for.
type KeyError struct{ Reason string }

func (e *KeyError) Error() string { return e.Reason }

// AlgorithmFor is the algorithm of a key, for RSA PKCS #1 v1.5 or PSS. RSA
// keys have 2048 to 4096 bits.
func AlgorithmFor(pub crypto.PublicKey, pss bool) (Algorithm, error) {
	switch pub := pub.(type) {
	case *ecdsa.PublicKey:
		switch pub.Curve.Params().BitSize {
		case 256:
			return ECDSAP256SHA256, nil
		case 384:
			return ECDSAP384SHA384, nil
		}
		return "", &KeyError{fmt.Sprintf("an ECDSA key on %s cannot sign firmware: use P-256 or P-384", pub.Curve.Params().Name)}
	case *rsa.PublicKey:
		if bits := pub.N.BitLen(); bits < 2048 || bits > 4096 {
			return "", &KeyError{fmt.Sprintf("an RSA key of %d bits cannot sign firmware: use 2048 to 4096", bits)}
		}
		if pss {
			return RSAPSSSHA256, nil
		}
		return RSAPKCS1SHA256, nil
	case ed25519.PublicKey:
		return Ed25519, nil
	}
	return "", &KeyError{fmt.Sprintf("a key of type %T cannot sign firmware: use ECDSA, RSA or Ed25519", pub)}
}

// statementAlgorithm is the algorithm of a key that signs statements, or that
// of a key for files.
func statementAlgorithm(pub crypto.PublicKey, pss bool) (Algorithm, error) {
	key, ok := pub.(*mldsa.PublicKey)
	switch {
	case !ok:
		return AlgorithmFor(pub, pss)
	case key.Parameters() == mldsa.MLDSA65():
		return MLDSA65, nil
	case key.Parameters() == mldsa.MLDSA87():
		return MLDSA87, nil
	}
	return "", &KeyError{fmt.Sprintf("a key of %v cannot sign statements: use ML-DSA-65 or ML-DSA-87", key.Parameters())}
}

// ToSign is one signature that is wanted: all that the holder of the key gets
// to see. Either Digest or Message is set.
type ToSign struct {
	Algorithm Algorithm `json:"algorithm"`
	// PublicKey is that of the key that must sign (SubjectPublicKeyInfo, DER).
	PublicKey []byte `json:"publicKey"`
	// Digest is by the algorithm's hash.
	Digest []byte `json:"digest,omitempty"`
	// Message is to be hashed as the algorithm says, or, for Ed25519, signed
	// as it is. At most [MaxMessage] bytes.
	Message []byte `json:"message,omitempty"`
}

// NewToSign wants a signature over a message.
func NewToSign(alg Algorithm, pub crypto.PublicKey, message []byte) (ToSign, error) {
	return toSign(ToSign{Algorithm: alg, Message: message}, pub)
}

// NewDigestToSign wants a signature over a digest by the algorithm's hash.
func NewDigestToSign(alg Algorithm, pub crypto.PublicKey, digest []byte) (ToSign, error) {
	return toSign(ToSign{Algorithm: alg, Digest: digest}, pub)
}

func toSign(t ToSign, pub crypto.PublicKey) (ToSign, error) {
	der, err := pkix.MarshalPKIXPublicKey(pub)
	if err != nil {
		return t, &KeyError{err.Error()}
	}
	t.PublicKey = der
	_, _, err = t.check()
	return t, err
}

// Equal reports whether both want the same signature.
func (t ToSign) Equal(o ToSign) bool {
	return t.Algorithm == o.Algorithm && bytes.Equal(t.PublicKey, o.PublicKey) && bytes.Equal(t.Digest, o.Digest) && bytes.Equal(t.Message, o.Message)
}

// check holds the parts to each other, and returns the key and what it signs.
func (t ToSign) check() (pub crypto.PublicKey, input []byte, err error) {
	if pub, err = pkix.ParsePKIXPublicKey(t.PublicKey); err != nil {
		return nil, nil, &KeyError{fmt.Sprintf("the public key cannot be read: %v", err)}
	}
	fits, err := statementAlgorithm(pub, t.Algorithm == RSAPSSSHA256)
	switch {
	case err != nil:
		return nil, nil, err
	case fits != t.Algorithm:
		return nil, nil, &KeyError{fmt.Sprintf("a key of type %T does not sign with %q, but with %q", pub, t.Algorithm, fits)}
	case len(t.Message) > MaxMessage:
		return nil, nil, fmt.Errorf("the message to sign is %d bytes long: at most %d are taken", len(t.Message), MaxMessage)
	case (t.Digest == nil) == (t.Message == nil):
		return nil, nil, errors.New("either a digest or a message must be given to sign")
	}
	input, err = t.input()
	return pub, input, err
}

// input is what the key's operation gets: the digest, or Ed25519's message.
func (t ToSign) input() ([]byte, error) {
	hash := t.Algorithm.Hash()
	switch {
	case t.Digest == nil && hash == 0:
		return t.Message, nil
	case t.Digest == nil:
		h := hash.New()
		h.Write(t.Message)
		return h.Sum(nil), nil
	case hash == 0:
		return nil, fmt.Errorf("%s signs messages, not digests", t.Algorithm)
	case len(t.Digest) != hash.Size():
		return nil, fmt.Errorf("a digest of %d bytes is not one by %v, which has %d", len(t.Digest), hash, hash.Size())
	}
	return t.Digest, nil
}

// Sign makes the signature with the key, which may be in an HSM, and checks
// what came back before anyone sees it.
func (t ToSign) Sign(key crypto.Signer) ([]byte, error) {
	pub, input, err := t.check()
	if err != nil {
		return nil, err
	}
	if own, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool }); !ok || !own.Equal(pub) {
		return nil, &KeyError{"the key is not the one that this signature is wanted from"}
	}
	sig, err := key.Sign(rand.Reader, input, t.Algorithm.options())
	if err != nil {
		return nil, fmt.Errorf("sign with %s: %w", t.Algorithm, err)
	}
	if err := t.Verify(sig); err != nil {
		return nil, err
	}
	return sig, nil
}

// ErrSignature is of a signature that does not verify.
var ErrSignature = errors.New("the signature does not verify with the key that should have made it")

// Verify checks a signature that was wanted.
func (t ToSign) Verify(sig []byte) error {
	pub, input, err := t.check()
	if err != nil {
		return err
	}
	good := false
	switch pub := pub.(type) {
	case *ecdsa.PublicKey:
		good = ecdsa.VerifyASN1(pub, input, sig)
	case ed25519.PublicKey:
		good = ed25519.Verify(pub, input, sig)
	case *mldsa.PublicKey:
		good = mldsa.Verify(pub, input, sig, &mldsa.Options{Context: StatementContext}) == nil
	case *rsa.PublicKey:
		if t.Algorithm == RSAPSSSHA256 {
			good = rsa.VerifyPSS(pub, t.Algorithm.Hash(), input, sig, t.Algorithm.options().(*rsa.PSSOptions)) == nil
		} else {
			good = rsa.VerifyPKCS1v15(pub, t.Algorithm.Hash(), input, sig) == nil
		}
	}
	if !good {
		return ErrSignature
	}
	return nil
}
