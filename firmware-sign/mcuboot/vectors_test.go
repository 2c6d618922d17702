package mcuboot

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"os"
	"path/filepath"
	"testing"

	firmwaresign "github.com/touchmark/touchmark/firmware-sign"
	"github.com/touchmark/touchmark/firmware-sign/internal/signtest"
)

func read(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// private is a private key that imgtool made.
func private(t testing.TB, name string) any {
	t.Helper()
	block, _ := pem.Decode(read(t, name+".pem"))
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func public(t testing.TB, name string) crypto.PublicKey {
	t.Helper()
	return private(t, name).(crypto.Signer).Public()
}

func uuid(t testing.TB, s string) *[16]byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return (*[16]byte)(b)
}

func counter(n uint32) *uint32 { return &n }

// vector is an image that imgtool made, and how we would make it.
type vector struct {
	name, key string
	im        Image
	before    int // zeros before the payload
}

func vectors(t testing.TB) []vector {
	slot := func(s Slot) *Slot { return &s }
	large := slot(Slot{Size: 0x20000})
	return []vector{
		{"p256", "ecdsa-p256", Image{Version: Version{1, 2, 3, 4}, HeaderSize: 32, PadHeader: true, SecurityCounter: counter(7), Slot: large}, 0},
		{"p384", "ecdsa-p384", Image{Version: Version{1, 2, 3, 0}, HeaderSize: 512, Slot: large,
			Dependencies: []Dependency{{1, Version{2, 3, 4, 5}}, {2, Version{1, 0, 0, 0}}}}, 512},
		{"rsa2048", "rsa-2048", Image{Version: Version{250, 255, 65535, 4294967295}, HeaderSize: 64, PadHeader: true, SecurityCounter: counter(4294967295), Slot: large,
			VendorID: uuid(t, "3ba1ea1b4a2a4dd0a0b6a2e4c0e1f5c7"), ClassID: uuid(t, "7d7b0e218cb34eb59b803bd2a3a53d6b")}, 0},
		{"rsa3072", "rsa-3072", Image{Version: Version{0, 0, 1, 0}, HeaderSize: 32, PadHeader: true, LoadAddress: 0x20001000, FullKeys: true, Slot: large}, 0},
		{"ed25519", "ed25519", Image{Version: Version{Major: 2}, HeaderSize: 32, PadHeader: true, SecurityCounter: counter(1), Custom: []TLV{{0xa1, []byte{1, 2}}}, Slot: large}, 0},
		{"ed25519-sha512", "ed25519", Image{Version: Version{Major: 2}, HeaderSize: 32, PadHeader: true, SHA512: true, ROMAddress: 0x8000, NonBootable: true, Slot: large}, 0},
		{"pure", "ed25519", Image{Version: Version{Major: 3}, HeaderSize: 32, PadHeader: true, Pure: true, Slot: large}, 0},
		{"slot", "ed25519", Image{Version: Version{Major: 3}, HeaderSize: 32, PadHeader: true, Slot: slot(Slot{Size: 4096, Align: 8, MaxSectors: 16, Pad: true, Confirm: true})}, 0},
		{"slot16", "ed25519", Image{Version: Version{Major: 3}, HeaderSize: 32, PadHeader: true, Slot: slot(Slot{Size: 4096, Align: 16, MaxSectors: 16, Pad: true})}, 0},
		{"overwrite", "ed25519", Image{Version: Version{Major: 3}, HeaderSize: 32, PadHeader: true, Slot: slot(Slot{Size: 2048, OverwriteOnly: true, Pad: true})}, 0},
	}
}

// What imgtool made is made again, to the byte, with the signature that
// imgtool's image has: RSA-PSS and ECDSA are random.
func TestImagesAreImgtools(t *testing.T) {
	payload := read(t, "payload.bin")
	for _, v := range vectors(t) {
		t.Run(v.name, func(t *testing.T) {
			want := read(t, v.name+".img")
			v.im.Keys = []crypto.PublicKey{public(t, v.key)}
			got := sign(t, &v.im, append(make([]byte, v.before), payload...), func([]firmwaresign.ToSign) ([][]byte, error) {
				return signatures(t, want), nil
			})
			if !bytes.Equal(got, want) {
				t.Errorf("an image of\n%x, want\n%x", got, want)
			}
			info, err := Verify(signtest.Reader(want), Trust{Keys: v.im.Keys})
			if err != nil {
				t.Fatal(err)
			}
			if info.Version != v.im.Version || info.HeaderSize != v.im.HeaderSize || len(info.Dependencies) != len(v.im.Dependencies) || info.Pure != v.im.Pure {
				t.Errorf("the image says %+v", info)
			}
			if sum := sha256.Sum256(want); !bytes.Equal(info.SHA256, sum[:]) {
				t.Errorf("the SHA-256 is %x, want %x", info.SHA256, sum)
			}
		})
	}
}

// signatures takes the signatures out of an image.
func signatures(t *testing.T, image []byte) (all [][]byte) {
	t.Helper()
	f, err := dissect(signtest.Reader(image))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range f.open {
		if e.kind >= tlvRSA2048 && e.kind <= tlvEd25519 {
			all = append(all, e.value)
		}
	}
	return all
}

func sign(t testing.TB, im *Image, payload []byte, ask func([]firmwaresign.ToSign) ([][]byte, error)) []byte {
	t.Helper()
	var out bytes.Buffer
	if err := firmwaresign.Write(&out, im, signtest.Reader(payload), ask); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}
