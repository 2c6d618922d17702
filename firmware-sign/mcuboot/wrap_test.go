package mcuboot

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	firmwaresign "github.com/touchmark/touchmark/firmware-sign"
	"github.com/touchmark/touchmark/firmware-sign/internal/signtest"
)

// unwrapped is a content key as a device finds it: with openssl and the
// device's private key, and without any code of ours but where the TLV is.
func unwrapped(t *testing.T, image []byte, keyName string, contentKeyLen int) []byte {
	t.Helper()
	f, err := dissect(signtest.Reader(image))
	if err != nil {
		t.Fatal(err)
	}
	last := f.open[len(f.open)-1]
	point, digest, size := 32, "SHA2-256", 32
	switch last.kind {
	case 0x32:
		point = 65
	case 0x34:
		digest, size = "SHA2-512", 64
	}
	ephemeral, mac, sealed := last.value[:point], last.value[point:point+size], last.value[point+size:]
	if len(sealed) != contentKeyLen {
		t.Fatalf("the wrapped key has %d bytes, want %d", len(sealed), contentKeyLen)
	}
	derive := filepath.Join(t.TempDir(), "shared")
	openssl(t, "pkeyutl", "-derive", "-inkey", filepath.Join("testdata", keyName+".pem"), "-peerkey", peerFile(t, ephemeral), "-out", derive)
	shared, err := os.ReadFile(derive)
	if err != nil {
		t.Fatal(err)
	}
	hexed := strings.ReplaceAll(openssl(t, "kdf", "-keylen", map[int]string{48: "48", 64: "64", 80: "80"}[contentKeyLen+size], "-kdfopt", "digest:"+digest,
		"-kdfopt", "hexkey:"+hex.EncodeToString(shared), "-kdfopt", "info:MCUBoot_ECIES_v1", "HKDF"), ":", "")
	derived, err := hex.DecodeString(strings.TrimSpace(hexed))
	if err != nil {
		t.Fatal(err)
	}
	sealedFile := signtest.File(t, "sealed", sealed)
	got := openssl(t, "mac", "-digest", digest, "-macopt", "hexkey:"+hex.EncodeToString(derived[contentKeyLen:]), "-in", sealedFile, "HMAC")
	if !strings.EqualFold(strings.TrimSpace(got), hex.EncodeToString(mac)) {
		t.Fatalf("the HMAC is %x, want %s", mac, got)
	}
	plain := filepath.Join(t.TempDir(), "plain")
	cipher := map[int]string{16: "-aes-128-ctr", 32: "-aes-256-ctr"}[contentKeyLen]
	openssl(t, "enc", cipher, "-d", "-K", hex.EncodeToString(derived[:contentKeyLen]), "-iv", strings.Repeat("0", 32), "-in", sealedFile, "-out", plain)
	key, err := os.ReadFile(plain)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func openssl(t *testing.T, args ...string) string {
	t.Helper()
	out, err := signtest.Run("openssl", args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func peerFile(t *testing.T, point []byte) string {
	t.Helper()
	curve := ecdh.X25519()
	if len(point) == 65 {
		curve = ecdh.P256()
	}
	pub, err := curve.NewPublicKey(point)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		t.Fatal(err)
	}
	return signtest.File(t, "peer.pem", pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
}

func recipient(t *testing.T, name string, sha512 bool) *Recipient {
	t.Helper()
	switch key := private(t, name).(type) {
	case *ecdh.PrivateKey:
		return &Recipient{Key: key.PublicKey(), SHA512: sha512}
	case *ecdsa.PrivateKey:
		pub, err := key.PublicKey.ECDH()
		if err != nil {
			t.Fatal(err)
		}
		return &Recipient{Key: pub}
	}
	t.Fatal(name)
	return nil
}

// What imgtool encrypted is made again with the same content key, and wrapped
// anew: all but the wrapped key is the same, and openssl unwraps both.
func TestEncryptedImagesAreImgtools(t *testing.T) {
	payload := read(t, "payload.bin")
	for _, c := range []struct {
		name, key string
		length    int
		sha512    bool
		counter   *uint32
	}{
		{"enc-x25519", "x25519", 16, false, counter(2)},
		{"enc-x25519-256", "x25519", 32, false, nil},
		{"enc-x25519-512", "x25519", 16, true, nil},
		{"enc-p256", "ecdsa-p256", 16, false, nil},
		{"enc-p256-256", "ecdsa-p256", 32, false, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			theirs := read(t, c.name+".img")
			contentKey := unwrapped(t, theirs, c.key, c.length)
			im := Image{Version: Version{Major: 3}, HeaderSize: 32, PadHeader: true, SecurityCounter: c.counter,
				ContentKey: contentKey, Recipient: recipient(t, c.key, c.sha512), Keys: []crypto.PublicKey{public(t, "ed25519")}}
			ours := sign(t, &im, payload, firmwaresign.With(private(t, "ed25519").(crypto.Signer)))
			wrapped := 32 + 32 + c.length // after the TLV's header, at the end
			switch {
			case c.sha512:
				wrapped += 32
			case c.key == "ecdsa-p256":
				wrapped += 33
			}
			if len(ours) != len(theirs) || !bytes.Equal(ours[:len(ours)-wrapped], theirs[:len(theirs)-wrapped]) {
				t.Errorf("an image of\n%x, want\n%x", ours, theirs)
			}
			if got := unwrapped(t, ours, c.key, c.length); !bytes.Equal(got, contentKey) {
				t.Errorf("a device unwraps %x, want %x", got, contentKey)
			}
			for _, image := range [][]byte{ours, theirs} {
				checkEncrypted(t, image, im.Keys, contentKey)
			}
		})
	}
}

func checkEncrypted(t *testing.T, image []byte, keys []crypto.PublicKey, contentKey []byte) {
	t.Helper()
	if _, err := Verify(signtest.Reader(image), Trust{keys, contentKey}); err != nil {
		t.Error(err)
	}
	if bytes.Contains(image, read(t, "payload.bin")[16:64]) {
		t.Error("the payload can be read")
	}
	wrong := bytes.Clone(contentKey)
	wrong[0] ^= 1
	for name, key := range map[string][]byte{"none": nil, "another": wrong, "a short one": contentKey[1:]} {
		if _, err := Verify(signtest.Reader(image), Trust{keys, key}); err == nil {
			t.Errorf("it verifies with %s for a content key", name)
		}
	}
	changed := bytes.Clone(image)
	changed[100] ^= 1
	if _, err := Verify(signtest.Reader(changed), Trust{keys, contentKey}); err == nil {
		t.Error("it verifies with a bit of the ciphertext changed")
	}
}

// One image, encrypted and signed once, is wrapped for one device after the
// other; they share all that is signed.
func TestOneImageForManyDevices(t *testing.T) {
	key := signtest.Key(t, "p256")
	im := plain(key)
	im.ContentKey = signtest.Random(32)
	master := sign(t, im, signtest.Random(100_003), firmwaresign.With(key))
	if _, err := Verify(signtest.Reader(master), Trust{im.Keys, im.ContentKey}); err != nil {
		t.Fatal(err)
	}
	image := signtest.Reader(master)
	for _, name := range []string{"x25519", "ecdsa-p256", "x25519"} {
		counted := &counting{ReaderAt: image}
		ready, err := WrapFor(io.NewSectionReader(counted, 0, image.Size()), im.ContentKey, recipient(t, name, false))
		if err != nil {
			t.Fatal(err)
		}
		if counted.n > 1000 {
			t.Errorf("%d bytes of the image were read to wrap its key", counted.n)
		}
		got, err := io.ReadAll(ready)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Verify(signtest.Reader(got), Trust{im.Keys, im.ContentKey}); err != nil {
			t.Error(err)
		}
		if back := unwrapped(t, got, name, 32); !bytes.Equal(back, im.ContentKey) {
			t.Errorf("a device unwraps %x", back)
		}
		if offset := 32 + 100_003 + 13 + 12; !bytes.Equal(got[:offset], master[:offset]) {
			t.Error("what is signed was changed")
		}
		image = signtest.Reader(got) // the next one takes this one's place
	}
}

// counting counts the bytes that are read.
type counting struct {
	io.ReaderAt
	n int
}

func (c *counting) ReadAt(p []byte, off int64) (int, error) {
	c.n += len(p)
	return c.ReaderAt.ReadAt(p, off)
}

func TestWhatCannotBeWrapped(t *testing.T) {
	key := signtest.Key(t, "p256")
	to := recipient(t, "x25519", false)
	p384, err := ecdh.P384().GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	open := sign(t, plain(key), signtest.Random(100), firmwaresign.With(key))
	im := plain(key)
	im.ContentKey = signtest.Random(16)
	closed := sign(t, im, signtest.Random(100), firmwaresign.With(key))
	for name, c := range map[string]struct {
		image, key []byte
		to         *Recipient
		want       string
	}{
		"an image that is open": {open, im.ContentKey, to, "not encrypted"},
		"a key of 32 bytes":     {closed, signtest.Random(32), to, "the image says 16"},
		"no key":                {closed, nil, to, "the image says 16"},
		"P-384":                 {closed, im.ContentKey, &Recipient{Key: p384.PublicKey()}, "X25519 or P-256"},
		"P-256 with SHA-512":    {closed, im.ContentKey, &Recipient{Key: recipient(t, "ecdsa-p256", false).Key, SHA512: true}, "X25519 alone"},
		"nobody":                {closed, im.ContentKey, &Recipient{}, "without a key"},
		"an image cut off":      {closed[:len(closed)-1], im.ContentKey, to, "cut off"},
		"no image":              {[]byte("a file of another kind, long enough"), im.ContentKey, to, "no MCUboot image"},
	} {
		if _, _, err := Wrap(signtest.Reader(c.image), c.key, c.to); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q in it", name, err, c.want)
		}
	}
}
