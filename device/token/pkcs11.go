//go:build pkcs11

package token

import (
	"crypto"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/ThalesGroup/crypto11"
	"github.com/touchmark/touchmark/device"
)

// ring is a token. It is opened anew when an operation fails: a token may go
// and come back, and its sessions with it.
type ring struct {
	place Place

	mu   sync.Mutex
	open *crypto11.Context
}

// Open opens a token.
func Open(p Place) (device.Keyring, error) {
	r := &ring{place: p}
	return r, r.use(func(*crypto11.Context) error { return nil })
}

// use does something with the token, and once more with the token opened anew
// if that fails.
func (r *ring) use(work func(*crypto11.Context) error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.open != nil {
		err := work(r.open)
		if err == nil || errors.Is(err, errNoKey) {
			return err
		}
		_ = r.open.Close() // it is lost; what it says to that does not matter
		r.open = nil
	}
	token, err := crypto11.Configure(&crypto11.Config{Path: r.place.Module, TokenLabel: r.place.Token, TokenSerial: r.place.Serial, Pin: r.place.PIN})
	if err != nil {
		return fmt.Errorf("open the token: %w", err)
	}
	r.open = token
	return work(token)
}

// Close ends the sessions with the token. A token that went can come back only
// when all who had opened the module closed it.
func (r *ring) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.open == nil {
		return nil
	}
	defer func() { r.open = nil }()
	return r.open.Close()
}

// errNoKey says that a key is not in the token.
var errNoKey = errors.New("the key is not in the token, or another is in its place: the token was changed for another; the key is lost, and the device must enrol anew")

// Make implements [device.Keyring]. crypto11 makes keys that cannot be read out:
// CKA_SENSITIVE, and not CKA_EXTRACTABLE.
func (r *ring) Make(kind device.KeyKind, taken []*pem.Block) (signer crypto.Signer, block *pem.Block, err error) {
	id, err := free(taken)
	if err != nil {
		return nil, nil, err
	}
	ref := &reference{Object: r.place.Object, ID: id}
	err = r.use(func(token *crypto11.Context) error {
		if err := remove(token, ref); err != nil {
			return err
		}
		key, err := generate(token, kind, id, []byte(ref.Object))
		if err != nil {
			return fmt.Errorf("make a key in the token: %w", err)
		}
		ref.Public, err = x509.MarshalPKIXPublicKey(key.Public())
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	if block, err = ref.block(); err != nil {
		return nil, nil, err
	}
	signer, err = r.Open(block)
	return signer, block, err
}

func generate(token *crypto11.Context, kind device.KeyKind, id, label []byte) (crypto.Signer, error) {
	switch kind {
	case device.P256, "":
		return token.GenerateECDSAKeyPairWithLabel(id, label, elliptic.P256())
	case device.P384:
		return token.GenerateECDSAKeyPairWithLabel(id, label, elliptic.P384())
	case device.RSA2048:
		return token.GenerateRSAKeyPairWithLabel(id, label, 2048)
	case device.RSA3072:
		return token.GenerateRSAKeyPairWithLabel(id, label, 3072)
	}
	return nil, fmt.Errorf("no kind %s: take %s, %s, %s or %s", kind, device.P256, device.P384, device.RSA2048, device.RSA3072)
}

// remove destroys the keys in a place.
func remove(token *crypto11.Context, ref *reference) error {
	keys, err := token.FindKeyPairs(ref.ID, []byte(ref.Object))
	for _, k := range keys {
		if err == nil {
			err = k.Delete()
		}
	}
	return err
}

// find is the key in a place, which must be the one that was made there.
func find(token *crypto11.Context, ref *reference) (crypto.Signer, error) {
	key, err := token.FindKeyPair(ref.ID, []byte(ref.Object))
	if err != nil {
		return nil, err
	}
	if key == nil {
		return nil, errNoKey
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err == nil && string(public) != string(ref.Public) {
		err = errNoKey
	}
	return key, err
}

// Open implements [device.Keyring]. The token is asked for a signature only.
func (r *ring) Open(block *pem.Block) (crypto.Signer, error) {
	ref, err := parseBlock(block)
	if err != nil {
		return nil, err
	}
	public, err := x509.ParsePKIXPublicKey(ref.Public)
	return &key{ring: r, ref: ref, public: public}, err
}

// Forget implements [device.Keyring].
func (r *ring) Forget(block *pem.Block) error {
	ref, err := parseBlock(block)
	if err != nil {
		return err
	}
	return r.use(func(token *crypto11.Context) error { return remove(token, ref) })
}

// key is a key in the token.
type key struct {
	ring   *ring
	ref    *reference
	public crypto.PublicKey
}

func (k *key) Public() crypto.PublicKey { return k.public }

// Sign implements [crypto.Signer].
func (k *key) Sign(rand io.Reader, digest []byte, opts crypto.SignerOpts) (signature []byte, err error) {
	err = k.ring.use(func(token *crypto11.Context) error {
		signer, err := find(token, k.ref)
		if err != nil {
			return err
		}
		signature, err = signer.Sign(rand, digest, opts)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("sign in the token: %w", err)
	}
	return signature, nil
}
