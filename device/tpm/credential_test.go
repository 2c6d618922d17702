package tpm

import (
	"bytes"
	"testing"

	"github.com/google/go-tpm/tpm2"
	"github.com/touchmark/touchmark/device"
)

// FuzzCredential: what goes into the TPM is what came, to the byte.
func FuzzCredential(f *testing.F) {
	f.Add([]byte{0, 4, 0, 2, 1, 1}, []byte{0, 2, 7, 7})
	f.Add([]byte{0, 4, 0, 2, 1, 1, 9}, []byte{0, 2, 7, 7})
	f.Add([]byte{0, 4, 0xff, 0xff, 1, 1}, []byte{0xff, 0xff})
	f.Fuzz(func(t *testing.T, credential, secret []byte) {
		blob, sealed, err := parseCredential(&device.TPMChallenge{Credential: credential, Secret: secret})
		if err == nil && (!bytes.Equal(tpm2.Marshal(*blob), credential) || !bytes.Equal(tpm2.Marshal(*sealed), secret)) {
			t.Errorf("%x and %x go in as %x and %x", credential, secret, tpm2.Marshal(*blob), tpm2.Marshal(*sealed))
		}
	})
}
