package esp32

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"encoding/pem"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
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

func private(t testing.TB, name string) crypto.Signer {
	t.Helper()
	block, _ := pem.Decode(read(t, name))
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return key.(crypto.Signer)
}

const shared = "../../mcuboot/testdata/"

// vectors are images that espsecure made, with their keys.
var vectors = map[string][]string{
	"rsa.img":  {shared + "rsa-3072.pem"},
	"two.img":  {shared + "rsa-3072.pem", "rsa-b.pem"},
	"p256.img": {shared + "ecdsa-p256.pem"},
	"p384.img": {shared + "ecdsa-p384.pem"},
}

func publics(t testing.TB, names []string) (keys []crypto.PublicKey) {
	for _, name := range names {
		keys = append(keys, private(t, name).Public())
	}
	return keys
}

// What espsecure made is made again, to the byte, with the signatures that
// its images have: PSS and ECDSA are random.
func TestImagesAreEspsecures(t *testing.T) {
	for name, names := range vectors {
		t.Run(name, func(t *testing.T) {
			want, keys := read(t, name), publics(t, names)
			var got bytes.Buffer
			err := firmwaresign.Write(&got, Image{keys}, signtest.Reader(read(t, "payload.bin")), func([]firmwaresign.ToSign) ([][]byte, error) {
				return signatures(t, want[len(want)-sectorLen:], len(keys)), nil
			})
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got.Bytes(), want) {
				t.Errorf("an image of\n%x, want\n%x", got.Bytes(), want)
			}
			if err := Verify(signtest.Reader(want), keys...); err != nil {
				t.Error(err)
			}
		})
	}
}

// signatures takes them out of a sector.
func signatures(t *testing.T, sector []byte, n int) (all [][]byte) {
	t.Helper()
	for i := range n {
		b := sector[i*blockLen:]
		if b[1] == versionRSA {
			sig := slices.Clone(b[812:1196])
			slices.Reverse(sig)
			all = append(all, sig)
			continue
		}
		size, at := 32, 4+32+1+64
		if b[2] == 1 {
			size, at = 48, 4+48+1+96
		}
		der, err := asn1.Marshal(struct{ R, S *big.Int }{number(b[at : at+size]), number(b[at+size : at+2*size])})
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, der)
	}
	return all
}

// The digests are those that espsecure's digest_sbv2_public_key gives.
func TestKeyDigest(t *testing.T) {
	for name, want := range map[string]string{
		"rsa-3072.pem":   "471289b2ee1644fcd3fdf69d02cd465c8e2a7ba60c2f41703508d08701b75b22",
		"ecdsa-p256.pem": "783d3dccb5cd9eb7be4dc2f94f022ee8d3519bd5d4138ad860585c298a44e090",
		"ecdsa-p384.pem": "93fdc9a233ebd0119a789543452836b2d0010894ae2e0f0fb8e05c23a08e6122",
	} {
		got, err := KeyDigest(private(t, shared+name).Public())
		if err != nil || hex.EncodeToString(got) != want {
			t.Errorf("%s: %x, %v; want %s", name, got, err, want)
		}
	}
}

// Images that are signed here pass the second verifier, and espsecure where
// it is installed.
func TestSign(t *testing.T) {
	for _, kind := range []string{"rsa3072", "p256", "p384"} {
		key := signtest.Key(t, kind)
		for _, size := range []int{1, 4095, 4096, 4097, 70000} {
			image := signtest.Sign(t, Image{[]crypto.PublicKey{key.Public()}}, payload(size), key)
			if err := Verify(signtest.Reader(image), key.Public()); err != nil {
				t.Errorf("%s, %d bytes: %v", kind, size, err)
			}
			if size == 4097 {
				espsecure(t, image, key.Public())
			}
		}
	}
}

func payload(size int) []byte {
	b := bytes.Repeat([]byte{0x5a}, size)
	b[0] = imageMark
	return b
}

func espsecure(t *testing.T, image []byte, key crypto.PublicKey) {
	t.Helper()
	path, err := exec.LookPath("espsecure.py")
	if err != nil {
		return // the images of testdata stand in
	}
	dir := t.TempDir()
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{"image": image, "key": pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), path, "verify_signature", "-v", "2", "-k", filepath.Join(dir, "key"), filepath.Join(dir, "image"))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("espsecure: %v\n%s", err, out)
	}
}

// No byte can be changed, and no key stands for another.
func TestChanged(t *testing.T) {
	for name, names := range vectors {
		image, keys := read(t, name), publics(t, names)
		for i := 0; i < len(image); i += 3 {
			changed := slices.Clone(image)
			changed[i] ^= 1 << (i % 8)
			if Verify(signtest.Reader(changed), keys...) == nil {
				t.Fatalf("%s passes with byte %d changed", name, i)
			}
		}
		for _, short := range []int{0, 1, sectorLen, len(image) - sectorLen, len(image) - 1} {
			if Verify(signtest.Reader(image[:short]), keys...) == nil {
				t.Errorf("%s passes cut off at byte %d", name, short)
			}
		}
		for _, kind := range []string{"rsa3072", "p256", "p384", "ed25519"} {
			if Verify(signtest.Reader(image), signtest.Key(t, kind).Public()) == nil {
				t.Errorf("%s passes with another key, %s", name, kind)
			}
		}
	}
	two, keys := read(t, "two.img"), publics(t, vectors["two.img"])
	for want, set := range map[string][]crypto.PublicKey{
		"another key signed":     keys[:1],
		"it is by another key":   {keys[1], keys[0]},
		"it is not there":        {keys[0], keys[1], keys[1]},
		"it has one to 3":        {},
		"signature block 0":      {keys[1]},
		"check no signature by ": {signtest.Key(t, "ed25519").Public()},
	} {
		if err := Verify(signtest.Reader(two), set...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%d keys: %v, want %q", len(set), err, want)
		}
	}
}

func TestNotToBeSigned(t *testing.T) {
	rsa, p256 := signtest.Key(t, "rsa3072").Public(), signtest.Key(t, "p256").Public()
	for _, c := range []struct {
		file []byte
		keys []crypto.PublicKey
		want string
	}{
		{nil, []crypto.PublicKey{rsa}, "empty"},
		{[]byte("\x7fELF"), []crypto.PublicKey{rsa}, "elf2image"},
		{read(t, "rsa.img"), []crypto.PublicKey{rsa}, "signed already"},
		{payload(10), nil, "0 keys were given"},
		{payload(10), []crypto.PublicKey{rsa, rsa, rsa, rsa}, "4 keys were given"},
		{payload(10), []crypto.PublicKey{rsa, p256}, "give that key alone"},
		{payload(10), []crypto.PublicKey{signtest.Key(t, "rsa2048").Public()}, "RSA of 2048 bits"},
		{payload(10), []crypto.PublicKey{signtest.Key(t, "ed25519").Public()}, "chips check RSA-3072"},
	} {
		if _, err := (Image{c.keys}).Prepare(signtest.Reader(c.file), nil); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%.8q with %d keys: %v, want %q", c.file, len(c.keys), err, c.want)
		}
	}
}

func FuzzVerify(f *testing.F) {
	names := []string{"rsa.img", "p256.img", "p384.img"}
	keys := map[string][]crypto.PublicKey{}
	for i, name := range names {
		keys[name] = publics(f, vectors[name])
		image := read(f, name)
		f.Add(i, image[:len(image)-sectorLen], image[len(image)-sectorLen:])
	}
	f.Fuzz(func(t *testing.T, i int, image, sector []byte) {
		name := names[uint(i)%uint(len(names))]
		file := append(slices.Clone(image), sector...)
		if Verify(signtest.Reader(file), keys[name]...) == nil && !bytes.Equal(file, read(t, name)) {
			t.Errorf("an image that nobody signed passes for %s", name)
		}
	})
}
