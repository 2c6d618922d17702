package cms

import (
	"bytes"
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"time"

	"github.com/smallstep/pkcs7"
)

// Recipient is whom a message is encrypted to.
type Recipient struct {
	// Key is the recipient's RSA or ECDSA public key.
	Key crypto.PublicKey
	// ID is what the recipient calls the key (subjectKeyIdentifier).
	ID []byte
}

// Signatory signs: a certificate with its key, and what leads to its root.
type Signatory struct {
	Certificate *x509.Certificate
	Chain       []*x509.Certificate
	Key         crypto.Signer
}

var (
	oidKeyPackage    = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 2, 1, 2, 78, 5}
	oidEnvelopedData = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 3}
	oidAES256CBC     = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 42}
	oidOAEP          = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 7}
	oidMGF1          = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 8}
)

// SealKey packs a private key, given as PKCS #8, for one recipient: an
// AsymmetricKeyPackage (RFC 5958 §2) in a SignedData by who made the key, in
// an EnvelopedData (RFC 7030 §4.4.2). The libraries cannot make it: they
// envelop nothing but data, name recipients only by their certificates, and
// know no key agreement.
func SealKey(pkcs8 []byte, by Signatory, at time.Time, to Recipient) ([]byte, error) {
	pack, err := asn1.Marshal([]asn1.RawValue{{FullBytes: pkcs8}})
	if err != nil {
		return nil, err
	}
	data, err := signInside(oidKeyPackage, pack, by, at)
	if err != nil {
		return nil, err
	}
	signed, err := asn1.Marshal(data)
	if err != nil {
		return nil, err
	}
	return envelop(pkcs7.OIDSignedData, signed, to)
}

// Envelop encrypts content of the type data for recipients, each of whom can
// open it: an EnvelopedData, in DER.
func Envelop(content []byte, to ...Recipient) ([]byte, error) {
	if len(to) == 0 {
		return nil, errors.New("nobody is named whom the content is encrypted to")
	}
	return envelop(pkcs7.OIDData, content, to...)
}

// envelopedData is EnvelopedData (RFC 5652 §6.1), version 2 because its
// recipients are named by key identifiers.
type envelopedData struct {
	Version    int
	Recipients []asn1.RawValue `asn1:"set"`
	Content    encryptedContent
}

type encryptedContent struct {
	Type      asn1.ObjectIdentifier
	Algorithm pkix.AlgorithmIdentifier
	Content   []byte `asn1:"tag:0"`
}

// envelop encrypts content by AES-256 in CBC mode, which every CMS reader
// knows; it is signed inside.
func envelop(kind asn1.ObjectIdentifier, content []byte, to ...Recipient) ([]byte, error) {
	key, iv := make([]byte, 32), make([]byte, aes.BlockSize)
	rand.Read(key)
	rand.Read(iv)
	var recipients []asn1.RawValue
	for _, r := range to {
		info, err := recipientInfo(key, r)
		if err != nil {
			return nil, err
		}
		recipients = append(recipients, asn1.RawValue{FullBytes: info})
	}
	encrypted, err := encryptCBC(key, iv, content)
	if err != nil {
		return nil, err
	}
	params, err := asn1.Marshal(iv)
	if err != nil {
		return nil, err
	}
	return asn1.Marshal(struct {
		Type    asn1.ObjectIdentifier
		Content envelopedData `asn1:"explicit,tag:0"`
	}{oidEnvelopedData, envelopedData{2, recipients, encryptedContent{
		kind, pkix.AlgorithmIdentifier{Algorithm: oidAES256CBC, Parameters: asn1.RawValue{FullBytes: params}}, encrypted,
	}}})
}

// encryptCBC pads as RFC 5652 §6.3 has it.
func encryptCBC(key, iv, content []byte) ([]byte, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	n := aes.BlockSize - len(content)%aes.BlockSize
	out := append(bytes.Clone(content), bytes.Repeat([]byte{byte(n)}, n)...)
	cipher.NewCBCEncrypter(block, iv).CryptBlocks(out, out)
	return out, nil
}

// recipientInfo gives the content's key to the recipient in the way that the
// recipient's key allows.
func recipientInfo(key []byte, to Recipient) ([]byte, error) {
	switch pub := to.Key.(type) {
	case *rsa.PublicKey:
		return keyTransport(key, pub, to.ID)
	case *ecdsa.PublicKey:
		return keyAgreement(key, pub, to.ID)
	default:
		return nil, fmt.Errorf("nothing can be encrypted to a key of type %T: use RSA or an EC key on P-256, P-384 or P-521", to.Key)
	}
}

// keyTransport is KeyTransRecipientInfo (RFC 5652 §6.2.1) by RSAES-OAEP with
// SHA-256 (RFC 3560, RFC 5754).
func keyTransport(key []byte, pub *rsa.PublicKey, id []byte) ([]byte, error) {
	encrypted, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, pub, key, nil)
	if err != nil {
		return nil, fmt.Errorf("encrypt to an RSA key of %d bits: %w", pub.N.BitLen(), err)
	}
	hash := pkix.AlgorithmIdentifier{Algorithm: pkcs7.OIDDigestAlgorithmSHA256, Parameters: asn1.NullRawValue}
	mask, err := withParameters(oidMGF1, hash)
	if err != nil {
		return nil, err
	}
	algorithm, err := withParameters(oidOAEP, struct {
		Hash pkix.AlgorithmIdentifier `asn1:"explicit,tag:0"`
		Mask pkix.AlgorithmIdentifier `asn1:"explicit,tag:1"`
	}{hash, mask})
	if err != nil {
		return nil, err
	}
	return asn1.Marshal(struct {
		Version   int
		ID        []byte `asn1:"tag:0"`
		Algorithm pkix.AlgorithmIdentifier
		Key       []byte
	}{2, id, algorithm, encrypted})
}

func withParameters(oid asn1.ObjectIdentifier, parameters any) (pkix.AlgorithmIdentifier, error) {
	der, err := asn1.Marshal(parameters)
	return pkix.AlgorithmIdentifier{Algorithm: oid, Parameters: asn1.RawValue{FullBytes: der}}, err
}
