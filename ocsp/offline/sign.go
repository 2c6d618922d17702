package offline

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"fmt"
)

// algorithm is how a key signs files: each in one way only, so that a file
// need not say which.
func algorithm(key crypto.PublicKey) (x509.SignatureAlgorithm, crypto.Hash, error) {
	switch key := key.(type) {
	case *ecdsa.PublicKey:
		switch size := key.Curve.Params().BitSize; {
		case size <= 256:
			return x509.ECDSAWithSHA256, crypto.SHA256, nil
		case size <= 384:
			return x509.ECDSAWithSHA384, crypto.SHA384, nil
		}
		return x509.ECDSAWithSHA512, crypto.SHA512, nil
	case *rsa.PublicKey:
		return x509.SHA256WithRSA, crypto.SHA256, nil
	case ed25519.PublicKey:
		return x509.PureEd25519, 0, nil
	}
	return 0, 0, fmt.Errorf("offline status cannot be signed with a key of type %T", key)
}

// sign appends the signature over all bytes of a file.
func sign(file []byte, signer crypto.Signer) ([]byte, error) {
	_, hash, err := algorithm(signer.Public())
	if err != nil {
		return nil, err
	}
	message := file
	if hash != 0 {
		h := hash.New()
		h.Write(file)
		message = h.Sum(nil)
	}
	signature, err := signer.Sign(rand.Reader, message, hash)
	if err != nil {
		return nil, fmt.Errorf("sign the offline status: %w", err)
	}
	return append(file, signature...), nil
}

func verify(file []byte, h *Header, issuer *x509.Certificate) error {
	by, _, err := algorithm(issuer.PublicKey)
	if err != nil {
		return err
	}
	if err := issuer.CheckSignature(by, file[:h.signed], file[h.signed:]); err != nil {
		return fileErrorf("its signature is not good, so it was altered or cut off: %v", err)
	}
	return nil
}
