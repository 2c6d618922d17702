package mcuboot

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"encoding/binary"
	"io"
	"math/big"
	"os"
	"os/exec"
	"strings"
	"testing"

	firmwaresign "github.com/touchmark/touchmark/firmware-sign"
	"github.com/touchmark/touchmark/firmware-sign/internal/signtest"
)

func plain(keys ...crypto.Signer) *Image {
	im := &Image{Version: Version{1, 2, 3, 4}, HeaderSize: 32, PadHeader: true, SecurityCounter: counter(9)}
	for _, k := range keys {
		im.Keys = append(im.Keys, k.Public())
	}
	return im
}

// opensslChecks are how openssl checks each kind's signature over what is
// signed, apart from any code of ours: by the bytes of the image up to the end
// of the protected TLVs.
var opensslChecks = map[string][]string{
	"p256":    {"dgst", "-sha256"},
	"p384":    {"dgst", "-sha384"},
	"rsa2048": {"dgst", "-sha256", "-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:32"},
	"rsa3072": {"dgst", "-sha256", "-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:32"},
}

func TestSignaturesAreGoodForOthers(t *testing.T) {
	for _, kind := range []string{"p256", "p384", "rsa2048", "rsa3072", "ed25519"} {
		t.Run(kind, func(t *testing.T) {
			key := signtest.Key(t, kind)
			image := sign(t, plain(key), signtest.Random(70_001), firmwaresign.With(signtest.Opaque{Signer: key}))
			if args := opensslChecks[kind]; args != nil {
				end := 32 + 70_001 + 12
				args = append(args, "-verify", signtest.PublicFile(t, key.Public()),
					"-signature", signtest.File(t, "sig", signatures(t, image)[0]), signtest.File(t, "signed", image[:end]))
				if _, err := signtest.Run("openssl", args...); err != nil {
					t.Error(err)
				}
			}
			imgtool(t, image, key.Public(), true)
			refuseChanged(t, image, key.Public())
		})
	}
}

// imgtool is asked, too, where there is one; its images in testdata are always.
func imgtool(t *testing.T, image []byte, key crypto.PublicKey, good bool) {
	t.Helper()
	if _, err := exec.LookPath("imgtool"); err != nil {
		return
	}
	_, err := signtest.Run("imgtool", "verify", "-k", signtest.PublicFile(t, key), signtest.File(t, "image.bin", image))
	if good != (err == nil) {
		t.Errorf("imgtool: %v; it should take it: %v", err, good)
	}
}

// refuseChanged changes an image in each byte of header and TLVs and here and
// there in the payload, and cuts it off: it must never verify.
func refuseChanged(t *testing.T, image []byte, key crypto.PublicKey) {
	t.Helper()
	trust := Trust{Keys: []crypto.PublicKey{key}}
	if _, err := Verify(signtest.Reader(image), trust); err != nil {
		t.Fatal(err)
	}
	for i := range image {
		if i > 32 && i < len(image)-700 && i%9001 != 0 {
			continue
		}
		changed := bytes.Clone(image)
		changed[i] ^= 1 << (i % 8)
		if _, err := Verify(signtest.Reader(changed), trust); err == nil {
			t.Errorf("byte %d of %d is changed, and it verifies", i, len(image))
		}
	}
	for _, n := range []int{0, 10, 32, 1000, len(image) - 1} {
		if _, err := Verify(signtest.Reader(image[:n]), trust); err == nil {
			t.Errorf("it is cut off after %d bytes, and verifies", n)
		}
	}
	if _, err := Verify(signtest.Reader(append(bytes.Clone(image), 0)), trust); err == nil {
		t.Error("a byte was added, and it verifies")
	}
	if _, err := Verify(signtest.Reader(image), Trust{}); err == nil {
		t.Error("it verifies without a key")
	}
}

// While keys are exchanged an image has two signatures, and each bootloader
// finds its own.
func TestTwoKeysSign(t *testing.T) {
	old, next, stranger := signtest.Key(t, "p256"), signtest.Key(t, "rsa2048"), signtest.Key(t, "p256")
	image := sign(t, plain(old, next), signtest.Random(1000), firmwaresign.With(next, old))
	for _, keys := range [][]crypto.PublicKey{{old.Public()}, {next.Public()}, {old.Public(), next.Public()}} {
		if _, err := Verify(signtest.Reader(image), Trust{Keys: keys}); err != nil {
			t.Error(err)
		}
	}
	imgtool(t, image, old.Public(), true)
	imgtool(t, image, next.Public(), true)
	imgtool(t, image, stranger.Public(), false)
	for _, keys := range [][]crypto.PublicKey{{stranger.Public()}, {old.Public(), next.Public(), stranger.Public()}} {
		if _, err := Verify(signtest.Reader(image), Trust{Keys: keys}); err == nil || !strings.Contains(err.Error(), "not signed with it") {
			t.Errorf("a signer is missing: %v", err)
		}
	}
}

func TestWhatIsNotSigned(t *testing.T) {
	p256, p384, ed := signtest.Key(t, "p256"), signtest.Key(t, "p384"), signtest.Key(t, "ed25519")
	good := []byte("a payload that is long enough for this")
	signed := sign(t, plain(p256), good, firmwaresign.With(p256))
	for name, c := range map[string]struct {
		change  func(*Image)
		payload []byte
		want    string
	}{
		"signed already":         {nil, signed, "an MCUboot image already"},
		"signed, room expected":  {func(im *Image) { im.PadHeader = false }, signed, "an MCUboot image already"},
		"ELF":                    {nil, []byte("\x7fELF\x01\x01\x01" + string(good)), "an ELF file"},
		"Intel HEX":              {nil, []byte(":020000040800F2\n:10C000"), "an Intel HEX file"},
		"empty":                  {nil, nil, "no payload"},
		"nothing but the header": {func(im *Image) { im.PadHeader = false }, make([]byte, 32), "no payload"},
		"no room for the header": {func(im *Image) { im.PadHeader = false }, good, "does not begin with 32 zeros"},
		"no key":                 {func(im *Image) { im.Keys = nil }, good, "one key at least"},
		"two hashes":             {func(im *Image) { im.Keys = append(im.Keys, p384.Public()) }, good, "one hash"},
		"RSA-4096":               {func(im *Image) { im.Keys = []crypto.PublicKey{rsa4096(t)} }, good, "2048 or 3072"},
		"pure by ECDSA":          {func(im *Image) { im.Pure = true }, good, "Ed25519 alone"},
		"pure and large": {func(im *Image) { im.Pure, im.Keys = true, []crypto.PublicKey{ed.Public()} },
			make([]byte, firmwaresign.MaxMessage), "pure signature is over at most"},
		"a header too short": {func(im *Image) { im.HeaderSize = 31 }, good, "the header alone takes 32"},
		"two addresses":      {func(im *Image) { im.LoadAddress, im.ROMAddress = 1, 2 }, good, "give one address"},
		"a foreign TLV":      {func(im *Image) { im.Custom = []TLV{{0x50, nil}} }, good, "0x0050"},
		"TLVs too long":      {func(im *Image) { im.Custom = []TLV{{0xa0, make([]byte, 65535)}} }, good, "room for 65535"},
		"a small slot":       {func(im *Image) { im.Slot = &Slot{Size: 500} }, good, "more than the slot has"},
		"a slot misaligned":  {func(im *Image) { im.Slot = &Slot{Size: 1 << 20, Align: 3} }, good, "alignment is 3"},
	} {
		im := plain(p256)
		if c.change != nil {
			c.change(im)
		}
		if _, err := im.Prepare(signtest.Reader(c.payload), nil); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q in it", name, err, c.want)
		}
	}
}

// A file larger than the header can say is refused before it is read.
func TestAnImageHasFourGigabytesAtMost(t *testing.T) {
	huge := io.NewSectionReader(zeros{}, 0, 1<<32+32)
	im := plain(signtest.Key(t, "p256"))
	if _, err := im.Prepare(huge, nil); err == nil || !strings.Contains(err.Error(), "at most 4294967295") {
		t.Fatal(err)
	}
}

type zeros struct{}

func (zeros) ReadAt(p []byte, _ int64) (int, error) {
	clear(p)
	return len(p), nil
}

// Nothing is believed outside of what is signed, however well it is formed.
func TestUnsignedAdditionsAreRefused(t *testing.T) {
	key := signtest.Key(t, "p256")
	image := sign(t, plain(key), signtest.Random(100), firmwaresign.With(key))
	at := 32 + 100 + 12
	for name, tlv := range map[string][]byte{
		"a security counter":  {0x50, 0, 4, 0, 255, 0, 0, 0},
		"a wrapped key":       {0x32, 0, 0, 0},
		"an unknown one":      {0xa0, 0, 0, 0},
		"a mark of pure ones": {0x25, 0, 1, 0, 1},
		"a second digest":     append([]byte{0x10, 0, 32, 0}, make([]byte, 32)...),
	} {
		more := append(bytes.Clone(image), tlv...)
		binary.LittleEndian.PutUint16(more[at+2:], uint16(len(more)-at))
		if _, err := Verify(signtest.Reader(more), Trust{Keys: []crypto.PublicKey{key.Public()}}); err == nil {
			t.Errorf("%s was added, and the image verifies", name)
		}
	}
}

func FuzzVerify(f *testing.F) {
	entries, err := os.ReadDir("testdata")
	if err != nil {
		f.Fatal(err)
	}
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), ".img") {
			f.Add(read(f, e.Name()))
		}
	}
	keys := []crypto.PublicKey{public(f, "ed25519")}
	f.Fuzz(func(t *testing.T, image []byte) {
		info, err := Inspect(signtest.Reader(image))
		if err == nil && (info.Size > int64(len(image)) || int64(info.HeaderSize)+int64(info.PayloadSize) > info.Size) {
			t.Fatalf("an image of %d bytes says %+v", len(image), info)
		}
		verified, err2 := Verify(signtest.Reader(image), Trust{Keys: keys})
		if err2 == nil && (err != nil || verified.Version.Major < 2 || verified.Version.Major > 3) {
			t.Fatalf("verified, but never signed: %+v, %v", verified, err)
		}
	})
}

func rsa4096(t *testing.T) crypto.PublicKey {
	t.Helper()
	modulus := new(big.Int).Lsh(big.NewInt(1), 4095)
	return &rsa.PublicKey{N: modulus.Add(modulus, big.NewInt(1)), E: 65537}
}
