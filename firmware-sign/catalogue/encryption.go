package catalogue

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"io"

	"github.com/touchmark/touchmark/firmware-sign/mcuboot"
	"github.com/touchmark/touchmark/firmware-sign/rauc"
)

// Encryption is how files of a format are encrypted: once, so that all devices
// share the larger part. What is secret of a file follows that part in a form
// of its own for each target. It is there if the parameter "encrypt" is.
type Encryption struct {
	// KeyLength is that of the content key which a signing is given, in bytes;
	// 0 if the build has encrypted already.
	KeyLength func(*Values) int
	// Split gives the size of what all devices share, and the secret.
	Split func(signed *io.SectionReader, contentKey []byte) (size int64, secret []byte, err error)
	// Check reports whether this is a secret of such a file.
	Check func(v *Values, secret []byte) error
	// Fits reports whether a file can be wrapped for a target with these keys.
	Fits func([]Recipient) error
	// Wrap makes what follows for a target. Neither time nor length depend on
	// that of the file.
	Wrap func(v *Values, secret []byte, to []Recipient) (end []byte, err error)
	// ByCertificate says that the key of a device's certificate will do, if the
	// device has no other.
	ByCertificate bool
}

// EncryptedSuffix is what the name of an encrypted file adds to that of the
// file before.
const EncryptedSuffix = ".encrypted"

// Recipient is a key that a file is wrapped for.
type Recipient struct {
	Key crypto.PublicKey
	ID  []byte // its subjectKeyIdentifier
}

// Encrypting gives how a file is encrypted that complete parameters are for;
// nil if it is not.
func (f *Format) Encrypting(parameters map[string]string) *Encryption {
	if parameters["encrypt"] == "" {
		return nil
	}
	return f.Encryption
}

// ContentKey makes a new one for a signing; nil if that needs none.
func (f *Format) ContentKey(parameters map[string]string) ([]byte, error) {
	e := f.Encrypting(parameters)
	if e == nil {
		return nil, nil
	}
	v := &Values{of: parameters}
	n := e.KeyLength(v)
	if v.err != nil || n == 0 {
		return nil, v.err
	}
	key := make([]byte, n)
	rand.Read(key)
	return key, nil
}

// CheckSecret reports whether this is what is secret of a file that complete
// parameters are for.
func (f *Format) CheckSecret(parameters map[string]string, secret []byte) error {
	e := f.Encrypting(parameters)
	if e == nil {
		return errors.New("the file is not encrypted: it has no secret")
	}
	v := &Values{of: parameters}
	err := e.Check(v, secret)
	if v.err != nil {
		return v.err
	}
	return err
}

// Wrap makes what follows a file for a target, from what is secret of it.
func (f *Format) Wrap(parameters map[string]string, secret []byte, to []Recipient) ([]byte, error) {
	if err := f.CheckSecret(parameters, secret); err != nil {
		return nil, err
	}
	if err := f.Encryption.Fits(to); err != nil {
		return nil, err
	}
	v := &Values{of: parameters}
	end, err := f.Encryption.Wrap(v, secret, to)
	if v.err != nil {
		return nil, v.err
	}
	return end, err
}

// mcubootEncryption has as its secret the content key and the TLVs that the
// wrapped key joins.
var mcubootEncryption = &Encryption{
	KeyLength: mcubootKeyLength,
	Split: func(signed *io.SectionReader, contentKey []byte) (int64, []byte, error) {
		size, tlvs, err := mcuboot.Split(signed)
		return size, append(bytes.Clone(contentKey), tlvs...), err
	},
	Check: func(v *Values, secret []byte) error {
		n := mcubootKeyLength(v)
		if len(secret) < n {
			return fmt.Errorf("the secret of %d bytes has no content key of %d", len(secret), n)
		}
		return mcuboot.CheckTLVs(secret[n:])
	},
	Fits: func(to []Recipient) error {
		if len(to) != 1 {
			return fmt.Errorf("an MCUboot image has room for one wrapped key, not for %d: name one", len(to))
		}
		_, err := agreementKey(to[0].Key)
		return err
	},
	Wrap: func(v *Values, secret []byte, to []Recipient) ([]byte, error) {
		key, err := agreementKey(to[0].Key)
		if err != nil {
			return nil, err
		}
		n := mcubootKeyLength(v)
		return mcuboot.WrapInto(secret[n:], secret[:n], &mcuboot.Recipient{Key: key, SHA512: v.Bool("hmac-sha512")})
	},
}

func mcubootKeyLength(v *Values) int {
	switch v.Text("encrypt") {
	case "aes128":
		return 16
	case "aes256":
		return 32
	case "":
		return 0
	}
	v.bad("encrypt", "aes128 or aes256")
	return 0
}

// agreementKey is a key that MCUboot agrees on keys with.
func agreementKey(pub crypto.PublicKey) (*ecdh.PublicKey, error) {
	switch pub := pub.(type) {
	case *ecdh.PublicKey:
		return pub, nil
	case *ecdsa.PublicKey:
		if key, err := pub.ECDH(); err == nil && key.Curve() == ecdh.P256() {
			return key, nil
		}
	}
	return nil, fmt.Errorf("a key of type %T, or on that curve, opens no MCUboot image: use X25519 or P-256", pub)
}

// raucEncryption has as its secret the signed message with the manifest, in
// which the key is. The build has made that, and encrypted.
var raucEncryption = &Encryption{
	KeyLength: func(v *Values) int {
		if text := v.Text("encrypt"); text != "cms" {
			v.bad("encrypt", "cms")
		}
		return 0
	},
	Split: func(signed *io.SectionReader, _ []byte) (int64, []byte, error) { return rauc.Split(signed) },
	Check: func(_ *Values, secret []byte) error { return rauc.CheckMessage(secret) },
	Fits: func(to []Recipient) error {
		for _, r := range to {
			switch key := r.Key.(type) {
			case *rsa.PublicKey:
			case *ecdsa.PublicKey:
				if key.Curve.Params().BitSize < 256 {
					return fmt.Errorf("nothing is encrypted to a key on %s: use P-256, P-384 or P-521", key.Curve.Params().Name)
				}
			default:
				return fmt.Errorf("a key of type %T opens no RAUC bundle: use RSA, or an EC key on P-256, P-384 or P-521", r.Key)
			}
		}
		return nil
	},
	Wrap: func(_ *Values, secret []byte, to []Recipient) ([]byte, error) {
		var recipients []rauc.Recipient
		for _, r := range to {
			recipients = append(recipients, rauc.Recipient(r))
		}
		return rauc.Wrap(secret, recipients...)
	},
	ByCertificate: true,
}
