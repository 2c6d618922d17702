package firmware_test

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"slices"
	"testing"

	"github.com/touchmark/touchmark/device/firmware"
)

// decryptionKey reads a private key as a device has it.
func decryptionKey(t testing.TB, name string) *ecdh.PrivateKey {
	t.Helper()
	block, _ := pem.Decode(read(t, name))
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	if ec, ok := key.(*ecdsa.PrivateKey); ok {
		agreeing, err := ec.ECDH()
		if err != nil {
			t.Fatal(err)
		}
		return agreeing
	}
	return key.(*ecdh.PrivateKey)
}

// What imgtool encrypted for a device, that device takes and no other does.
func TestEncryptedImagesOfImgtool(t *testing.T) {
	keys := []crypto.PublicKey{publicKey(t, "ed25519.pem")}
	for image, key := range map[string]string{
		"enc-x25519.img": "x25519.pem", "enc-x25519-256.img": "x25519.pem", "enc-x25519-512.img": "x25519.pem",
		"enc-p256.img": "ecdsa-p256.pem", "enc-p256-256.img": "ecdsa-p256.pem",
	} {
		t.Run(image, func(t *testing.T) {
			file, own := read(t, image), decryptionKey(t, key)
			trust := firmware.Trust{Keys: keys, Decrypt: own}
			if im, err := check(file, trust); err != nil || im.Version.String() != "3.0.0+0" {
				t.Fatalf("%+v, %v", im, err)
			}
			stranger, err := own.Curve().GenerateKey(bytes.NewReader(bytes.Repeat([]byte{7}, 1000)))
			if err != nil {
				t.Fatal(err)
			}
			curve := ecdh.P256()
			if own.Curve() == curve {
				curve = ecdh.X25519()
			}
			other, err := curve.GenerateKey(bytes.NewReader(bytes.Repeat([]byte{7}, 1000)))
			if err != nil {
				t.Fatal(err)
			}
			for what, c := range map[string]struct {
				key  *ecdh.PrivateKey
				text string
			}{"no key": {nil, "no key to decrypt"}, "another device": {stranger, "for another device"}, "another curve": {other, "for nobody with a key on"}} {
				_, err := check(file, firmware.Trust{Keys: keys, Decrypt: c.key})
				wantRefusal(t, err, firmware.Sealed, c.text)
				if t.Failed() {
					t.Log(what)
				}
			}
			_, err = check(file, firmware.Trust{Keys: []crypto.PublicKey{publicKey(t, "ecdsa-p256.pem")}, Decrypt: own})
			wantRefusal(t, err, firmware.Forged, "none of the device's 1 keys")
			for i := range len(file) - 150 { // the wrapped key, which nobody signed, is at the end
				changed := slices.Clone(file)
				changed[i] ^= 1 << (i % 8)
				if _, err := check(changed, trust); !errors.As(err, new(*firmware.Refusal)) {
					t.Fatalf("with byte %d changed: %v", i, err)
				}
			}
		})
	}
}
