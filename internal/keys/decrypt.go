package keys

import (
	"context"
	"crypto"
	"crypto/rsa"
	"errors"
	"fmt"
	"io"
	"strings"

	"go.step.sm/crypto/kms/apiv1"
)

// OpenDecrypter returns the RSA key that a URI names, to decrypt with.
func (r Ring) OpenDecrypter(ctx context.Context, uri string) (crypto.Decrypter, error) {
	_, inFile := r.file(uri)
	if inFile || inToken(uri) {
		signer, err := r.Open(ctx, uri)
		if err != nil {
			return nil, err
		}
		return decrypterOf(signer, uri)
	}
	m, err := manager(ctx, uri)
	if err != nil {
		return nil, err
	}
	store, ok := m.(apiv1.Decrypter)
	if !ok {
		return nil, fmt.Errorf("the key %s is where nothing is decrypted: take a file, an HSM, or a KMS that does", Redact(uri))
	}
	d, err := store.CreateDecrypter(&apiv1.CreateDecrypterRequest{DecryptionKey: uri})
	if err != nil {
		return nil, fmt.Errorf("open key %s: %w", Redact(uri), redacted(uri, err))
	}
	return d, nil
}

func decrypterOf(signer crypto.Signer, uri string) (crypto.Decrypter, error) {
	d, ok := signer.(crypto.Decrypter)
	if _, isRSA := signer.Public().(*rsa.PublicKey); !ok || !isRSA {
		return nil, fmt.Errorf("the key %s is a %T: RSA decrypts", Redact(uri), signer.Public())
	}
	return d, nil
}

// Decrypt is Sign's counterpart for RSA keys.
func (k *tokenKey) Decrypt(rand io.Reader, msg []byte, opts crypto.DecrypterOpts) ([]byte, error) {
	return k.use("decrypt", func(s crypto.Signer) ([]byte, error) {
		d, ok := s.(crypto.Decrypter)
		if !ok {
			return nil, errors.New("the token does not decrypt with it")
		}
		return d.Decrypt(rand, msg, opts)
	})
}

// answered reports whether a token is there, and has refused what it was asked
// for: a mechanism or hash that it does not have, or what was encrypted for
// another key.
func answered(err error) bool {
	for _, code := range []string{"CKR_ARGUMENTS_BAD", "CKR_MECHANISM_", "CKR_ENCRYPTED_DATA_", "CKR_KEY_FUNCTION_NOT_PERMITTED", "CKR_FUNCTION_NOT_SUPPORTED"} {
		if strings.Contains(err.Error(), code) {
			return true
		}
	}
	return false
}
