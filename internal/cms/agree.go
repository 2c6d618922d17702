package cms

import (
	"crypto"
	"crypto/aes"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/subtle"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/binary"
	"fmt"
)

// curves are the curves of key agreement, each with the scheme that suits
// its strength: dhSinglePass-stdDH with a SHA-2 KDF (RFC 5753 §7.1.4).
var curves = []struct {
	curve  ecdh.Curve
	scheme asn1.ObjectIdentifier
	hash   crypto.Hash
}{
	{ecdh.P256(), asn1.ObjectIdentifier{1, 3, 132, 1, 11, 1}, crypto.SHA256},
	{ecdh.P384(), asn1.ObjectIdentifier{1, 3, 132, 1, 11, 2}, crypto.SHA384},
	{ecdh.P521(), asn1.ObjectIdentifier{1, 3, 132, 1, 11, 3}, crypto.SHA512},
}

var (
	oidECPublicKey = asn1.ObjectIdentifier{1, 2, 840, 10045, 2, 1}
	oidAES256Wrap  = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 45}
)

// keyAgreement is KeyAgreeRecipientInfo (RFC 5652 §6.2.2) by ephemeral-static
// ECDH (RFC 5753 §3.1), the content's key wrapped by AES-256 (RFC 3565).
func keyAgreement(key []byte, pub *ecdsa.PublicKey, id []byte) ([]byte, error) {
	static, err := pub.ECDH()
	if err != nil {
		return nil, fmt.Errorf("agree on a key with an EC key on %s: %w", pub.Curve.Params().Name, err)
	}
	for _, c := range curves {
		if c.curve != static.Curve() {
			continue
		}
		ephemeral, err := c.curve.GenerateKey(rand.Reader)
		if err != nil {
			return nil, err
		}
		secret, err := ephemeral.ECDH(static)
		if err != nil {
			return nil, err
		}
		kek, err := deriveKey(c.hash, secret)
		if err != nil {
			return nil, err
		}
		wrapped, err := wrapKey(kek, key)
		if err != nil {
			return nil, err
		}
		return agreementInfo(c.scheme, ephemeral.PublicKey(), id, wrapped)
	}
	return nil, fmt.Errorf("agree on a key with an EC key on %s: use P-256, P-384 or P-521", pub.Curve.Params().Name)
}

// agreementInfo spells KeyAgreeRecipientInfo out. The originator's key has no
// parameters, for they are those of the recipient's key (RFC 5753 §3.1.1).
func agreementInfo(scheme asn1.ObjectIdentifier, ephemeral *ecdh.PublicKey, id, wrapped []byte) ([]byte, error) {
	type originatorKey struct {
		Algorithm pkix.AlgorithmIdentifier
		Key       asn1.BitString
	}
	type keyIdentifier struct{ ID []byte }
	type encryptedKey struct {
		Recipient keyIdentifier `asn1:"tag:0"`
		Key       []byte
	}
	algorithm, err := withParameters(scheme, pkix.AlgorithmIdentifier{Algorithm: oidAES256Wrap})
	if err != nil {
		return nil, err
	}
	point := ephemeral.Bytes()
	inner, err := asn1.MarshalWithParams(originatorKey{pkix.AlgorithmIdentifier{Algorithm: oidECPublicKey}, asn1.BitString{Bytes: point, BitLength: 8 * len(point)}}, "tag:1")
	if err != nil {
		return nil, err
	}
	return asn1.MarshalWithParams(struct {
		Version    int
		Originator asn1.RawValue
		Algorithm  pkix.AlgorithmIdentifier
		Keys       []encryptedKey
	}{
		3, asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 0, IsCompound: true, Bytes: inner}, algorithm,
		[]encryptedKey{{keyIdentifier{id}, wrapped}},
	}, "tag:1")
}

// deriveKey derives the 256 bits of the key-encryption key: one round of the
// KDF of SEC 1 §3.6.1 over ECC-CMS-SharedInfo (RFC 5753 §7.2).
func deriveKey(hash crypto.Hash, secret []byte) ([]byte, error) {
	info, err := asn1.Marshal(struct {
		Key  pkix.AlgorithmIdentifier
		Bits []byte `asn1:"explicit,tag:2"`
	}{pkix.AlgorithmIdentifier{Algorithm: oidAES256Wrap}, []byte{0, 0, 1, 0}})
	if err != nil {
		return nil, err
	}
	h := hash.New()
	h.Write(secret)
	h.Write([]byte{0, 0, 0, 1})
	h.Write(info)
	return h.Sum(nil)[:32], nil
}

// wrapKey is the AES key wrap (RFC 3394 §2.2.1) of a key whose length is a
// multiple of eight bytes.
func wrapKey(kek, key []byte) ([]byte, error) {
	block, err := aes.NewCipher(kek)
	if err != nil {
		return nil, err
	}
	out := append([]byte{0xa6, 0xa6, 0xa6, 0xa6, 0xa6, 0xa6, 0xa6, 0xa6}, key...)
	n := len(key) / 8
	buf, count := make([]byte, aes.BlockSize), make([]byte, 8)
	for t := range 6 * n {
		r := out[8*(t%n+1):][:8]
		copy(buf, out[:8])
		copy(buf[8:], r)
		block.Encrypt(buf, buf)
		binary.BigEndian.PutUint64(count, uint64(t+1))
		subtle.XORBytes(out[:8], buf[:8], count)
		copy(r, buf[8:])
	}
	return out, nil
}
