package tpm

import (
	"crypto"
	"crypto/ecdsa"
	"encoding/asn1"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
	"github.com/touchmark/touchmark/device"
)

// Make implements [device.Keyring]. Keys are P-256 or P-384: what TPMs make of
// RSA-PSS differs from what TLS wants.
func (t *TPM) Make(kind device.KeyKind, _ []*pem.Block) (crypto.Signer, *pem.Block, error) {
	template, err := signing(kind)
	if err != nil {
		return nil, nil, err
	}
	made, err := t.create(template, t.Auth)
	if err != nil {
		return nil, nil, fmt.Errorf("make a key in the TPM: %w", err)
	}
	block, err := made.wrapped().block(len(t.Auth) == 0)
	if err != nil {
		return nil, nil, err
	}
	key, err := t.Open(block)
	return key, block, err
}

// Open implements [device.Keyring]. The TPM is asked for a signature only.
func (t *TPM) Open(block *pem.Block) (crypto.Signer, error) {
	w, err := parseBlock(block)
	if err != nil {
		return nil, err
	}
	public, err := w.key()
	if err != nil {
		return nil, err
	}
	return &key{tpm: t, wrapped: w, public: public}, nil
}

// Forget implements [device.Keyring]. A wrapped key is gone with its file.
func (t *TPM) Forget(*pem.Block) error { return nil }

// signing is the template of a key that signs, and that cannot leave its TPM.
func signing(kind device.KeyKind) (tpm2.TPMTPublic, error) {
	curve := tpm2.TPMECCNistP256
	switch kind {
	case device.P256, "":
	case device.P384:
		curve = tpm2.TPMECCNistP384
	default:
		return tpm2.TPMTPublic{}, fmt.Errorf("the TPM makes no keys of the kind %s: take %s or %s", kind, device.P256, device.P384)
	}
	return tpm2.TPMTPublic{
		Type: tpm2.TPMAlgECC, NameAlg: tpm2.TPMAlgSHA256,
		ObjectAttributes: tpm2.TPMAObject{FixedTPM: true, FixedParent: true, SensitiveDataOrigin: true, UserWithAuth: true, NoDA: true, SignEncrypt: true},
		Parameters:       tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &tpm2.TPMSECCParms{CurveID: curve}),
	}, nil
}

// created is what TPM2_Create returns.
type created struct{ *tpm2.CreateResponse }

func (c created) wrapped() *wrapped { return &wrapped{c.OutPublic, c.OutPrivate} }

// create makes a key below the storage root key. Its authorization value goes
// to the TPM encrypted.
func (t *TPM) create(template tpm2.TPMTPublic, auth []byte) (made created, err error) {
	err = t.do(func(conn transport.TPM) error {
		return withSRK(conn, func(srk *tpm2.CreatePrimaryResponse) error {
			parent, err := srk.OutPublic.Contents()
			if err != nil {
				return err
			}
			secret := tpm2.HMAC(tpm2.TPMAlgSHA256, 16, tpm2.AESEncryption(128, tpm2.EncryptIn), tpm2.Salted(srk.ObjectHandle, *parent))
			made.CreateResponse, err = tpm2.Create{
				ParentHandle: tpm2.NamedHandle{Handle: srk.ObjectHandle, Name: srk.Name},
				InSensitive:  tpm2.TPM2BSensitiveCreate{Sensitive: &tpm2.TPMSSensitiveCreate{UserAuth: tpm2.TPM2BAuth{Buffer: auth}}},
				InPublic:     tpm2.New2B(template),
			}.Execute(conn, secret)
			return err
		})
	})
	return made, err
}

// key is a key that only this TPM can use.
type key struct {
	tpm     *TPM
	wrapped *wrapped
	public  *ecdsa.PublicKey
}

func (k *key) Public() crypto.PublicKey { return k.public }

// Sign implements [crypto.Signer]: ECDSA in ASN.1.
func (k *key) Sign(_ io.Reader, digest []byte, _ crypto.SignerOpts) ([]byte, error) {
	size := k.public.Curve.Params().BitSize / 8
	if len(digest) > size {
		digest = digest[:size] // as ECDSA does; TPMs do not know every long hash
	}
	hash, ok := map[int]tpm2.TPMIAlgHash{32: tpm2.TPMAlgSHA256, 48: tpm2.TPMAlgSHA384}[len(digest)]
	if !ok {
		return nil, fmt.Errorf("the TPM signs no digest of %d bytes", len(digest))
	}
	var signature []byte
	err := k.tpm.do(func(conn transport.TPM) error {
		return k.wrapped.with(conn, func(l loaded) error {
			signed, err := tpm2.Sign{
				KeyHandle: l.by(k.tpm.Auth), Digest: tpm2.TPM2BDigest{Buffer: digest},
				InScheme:   tpm2.TPMTSigScheme{Scheme: tpm2.TPMAlgECDSA, Details: tpm2.NewTPMUSigScheme(tpm2.TPMAlgECDSA, &tpm2.TPMSSchemeHash{HashAlg: hash})},
				Validation: tpm2.TPMTTKHashCheck{Tag: tpm2.TPMSTHashCheck},
			}.Execute(conn)
			if err != nil {
				return err
			}
			signature, err = inASN1(&signed.Signature)
			return err
		})
	})
	if err != nil {
		return nil, fmt.Errorf("sign in the TPM: %w", err)
	}
	return signature, nil
}

// inASN1 is an ECDSA signature in the form of RFC 3279 §2.2.3.
func inASN1(s *tpm2.TPMTSignature) ([]byte, error) {
	ecdsa, err := s.Signature.ECDSA()
	if err != nil {
		return nil, err
	}
	return asn1.Marshal(struct{ R, S *big.Int }{new(big.Int).SetBytes(ecdsa.SignatureR.Buffer), new(big.Int).SetBytes(ecdsa.SignatureS.Buffer)})
}
