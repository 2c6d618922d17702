package firmware_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/touchmark/touchmark/device/firmware"
)

// images are what imgtool made (see its README).
const images = "../../firmware-sign/mcuboot/testdata"

func read(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(images, name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func publicKey(t testing.TB, name string) crypto.PublicKey {
	t.Helper()
	block, _ := pem.Decode(read(t, name))
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return key.(crypto.Signer).Public()
}

func check(image []byte, trust firmware.Trust) (*firmware.Image, error) {
	return firmware.Verify(bytes.NewReader(image), int64(len(image)), trust)
}

// What imgtool signed is taken, by each kind of key.
func TestImagesOfImgtool(t *testing.T) {
	for _, c := range []struct {
		image, key string
		version    string
		counter    uint32
	}{
		{"p256.img", "ecdsa-p256.pem", "1.2.3+4", 7},
		{"p384.img", "ecdsa-p384.pem", "1.2.3+0", 0},
		{"rsa2048.img", "rsa-2048.pem", "250.255.65535+4294967295", 4294967295},
		{"rsa3072.img", "rsa-3072.pem", "0.0.1+0", 0},
		{"ed25519.img", "ed25519.pem", "2.0.0+0", 1},
		{"ed25519-sha512.img", "ed25519.pem", "2.0.0+0", 0},
		{"pure.img", "ed25519.pem", "3.0.0+0", 0},
	} {
		t.Run(c.image, func(t *testing.T) {
			other := publicKey(t, "ecdsa-p256.pem")
			if c.key == "ecdsa-p256.pem" {
				other = publicKey(t, "ed25519.pem")
			}
			image, key := read(t, c.image), publicKey(t, c.key)
			im, err := check(image, firmware.Trust{Keys: []crypto.PublicKey{other, key}})
			if err != nil {
				t.Fatal(err)
			}
			if im.Version.String() != c.version || im.Counter != c.counter || im.Size != int64(len(image)) {
				t.Errorf("it is %+v", im)
			}
			_, err = check(image, firmware.Trust{Keys: []crypto.PublicKey{other}})
			wantRefusal(t, err, firmware.Forged, "none of the device's 1 keys")
			_, err = check(image, firmware.Trust{})
			wantRefusal(t, err, firmware.Forged, "none of the device's 0 keys")
		})
	}
}

func wantRefusal(t testing.TB, err error, why firmware.Reason, text string) {
	t.Helper()
	var refusal *firmware.Refusal
	if !errors.As(err, &refusal) || refusal.Reason != why || !strings.Contains(refusal.Text, text) {
		t.Errorf("got %v; want it refused as %s: %q", err, why, text)
	}
}

// No image passes with one bit changed, cut off anywhere, or with something
// behind it.
func TestChangedImage(t *testing.T) {
	for name, key := range map[string]string{"p256.img": "ecdsa-p256.pem", "pure.img": "ed25519.pem", "rsa2048.img": "rsa-2048.pem"} {
		image, trust := read(t, name), firmware.Trust{Keys: []crypto.PublicKey{publicKey(t, key)}}
		for i := range image {
			changed := slices.Clone(image)
			changed[i] ^= 1 << (i % 8)
			if _, err := check(changed, trust); !errors.As(err, new(*firmware.Refusal)) {
				t.Fatalf("%s with byte %d changed: %v", name, i, err)
			}
			if _, err := check(image[:i], trust); !errors.As(err, new(*firmware.Refusal)) {
				t.Fatalf("%s cut off at byte %d: %v", name, i, err)
			}
		}
		_, err := check(append(slices.Clone(image), 0), trust)
		wantRefusal(t, err, firmware.Damaged, "something was added")
	}
	_, err := check(read(t, "enc-p256.img"), firmware.Trust{})
	wantRefusal(t, err, firmware.Sealed, "encrypted")
}

// A genuine image for other devices is refused, although one key signs for
// both.
func TestForeignClass(t *testing.T) {
	id := func(s string) (id [16]byte) {
		hex.Decode(id[:], []byte(strings.ReplaceAll(s, "-", "")))
		return id
	}
	image := read(t, "rsa2048.img")
	trust := firmware.Trust{Keys: []crypto.PublicKey{publicKey(t, "rsa-2048.pem")},
		Vendor: id("3ba1ea1b-4a2a-4dd0-a0b6-a2e4c0e1f5c7"), Class: id("7d7b0e21-8cb3-4eb5-9b80-3bd2a3a53d6b")}
	if _, err := check(image, trust); err != nil {
		t.Error(err)
	}
	other := trust
	other.Class[0] ^= 1
	_, err := check(image, other)
	wantRefusal(t, err, firmware.Foreign, "devices of class")
	other = trust
	other.Vendor[15] ^= 1
	_, err = check(image, other)
	wantRefusal(t, err, firmware.Foreign, "of vendor")
	trust.Keys = []crypto.PublicKey{publicKey(t, "ecdsa-p256.pem")}
	_, err = check(read(t, "p256.img"), trust) // names no class
	wantRefusal(t, err, firmware.Foreign, "of vendor")
}

// The digest's own signature counts, not one that is there for another key.
func TestSignatureUnderAnotherName(t *testing.T) {
	image := read(t, "p256.img")
	mine, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	theirs, _ := x509.MarshalPKIXPublicKey(publicKey(t, "ecdsa-p256.pem"))
	ours, _ := x509.MarshalPKIXPublicKey(mine.Public())
	from, to := sha256.Sum256(theirs), sha256.Sum256(ours)
	forged := bytes.Replace(image, from[:], to[:], 1)
	_, err = check(forged, firmware.Trust{Keys: []crypto.PublicKey{mine.Public()}})
	wantRefusal(t, err, firmware.Forged, "is not by it")
}

func newSlots(t *testing.T) *firmware.Slots {
	return &firmware.Slots{Dir: t.TempDir(), Trust: firmware.Trust{Keys: []crypto.PublicKey{publicKey(t, "ecdsa-p256.pem"), publicKey(t, "ed25519.pem"), publicKey(t, "rsa-2048.pem")}}}
}

func install(t *testing.T, s *firmware.Slots, name string) {
	t.Helper()
	if _, err := s.Install(bytes.NewReader(read(t, name))); err != nil {
		t.Fatal(err)
	}
}

func TestInstall(t *testing.T) {
	s := newSlots(t)
	install(t, s, "ed25519.img") // counter 1
	if running, err := s.Running(); running != nil || err != nil {
		t.Errorf("before it is confirmed, %v runs: %v", running, err)
	}
	if n, err := s.Counter(); n != 0 || err != nil {
		t.Errorf("before it is confirmed, the counter is %d: %v", n, err)
	}
	if err := s.Confirm(); err != nil {
		t.Fatal(err)
	}
	install(t, s, "p256.img") // counter 7
	if err := s.Confirm(); err != nil {
		t.Fatal(err)
	}
	_, err := s.Install(bytes.NewReader(read(t, "ed25519.img")))
	wantRefusal(t, err, firmware.Downgrade, "security counter 1, but this device has been at 7")
	install(t, s, "p256.img") // the same counter again
	forged := read(t, "rsa2048.img")
	binary.LittleEndian.PutUint32(forged[24:], 0)
	if _, err = s.Install(bytes.NewReader(forged)); err == nil {
		t.Error("a forged image was installed")
	}
	next, err := s.Next()
	if err != nil || next == nil || next.Counter != 7 {
		t.Errorf("after refusals %v is next: %v", next, err)
	}
	running, err := s.Running()
	if err != nil || running == nil || running.Version.String() != "1.2.3+4" {
		t.Errorf("%v runs: %v", running, err)
	}
	if left, _ := filepath.Glob(filepath.Join(s.Dir, "*.tmp")); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

// An image that waited while the counter was raised is not confirmed.
func TestConfirmOldImage(t *testing.T) {
	s := newSlots(t)
	install(t, s, "ed25519.img")
	if err := os.WriteFile(filepath.Join(s.Dir, "counter"), []byte("7"), 0o600); err != nil {
		t.Fatal(err)
	}
	wantRefusal(t, s.Confirm(), firmware.Downgrade, "has been at 7")
	if err := newSlots(t).Confirm(); err == nil {
		t.Error("nothing was confirmed")
	}
}

// A cut between the two writes of Confirm leaves what the next call ends.
func TestConfirmAfterPowerCut(t *testing.T) {
	s := newSlots(t)
	install(t, s, "p256.img")
	if err := os.WriteFile(filepath.Join(s.Dir, "counter"), []byte("7"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.Confirm(); err != nil {
		t.Fatal(err)
	}
	if running, err := s.Running(); err != nil || running == nil || running.Counter != 7 {
		t.Errorf("%v runs: %v", running, err)
	}
	os.WriteFile(filepath.Join(s.Dir, "counter"), []byte("many"), 0o600)
	if _, err := s.Install(bytes.NewReader(read(t, "p256.img"))); err == nil || !strings.Contains(err.Error(), "not a counter") {
		t.Errorf("with a damaged counter: %v", err)
	}
}

func FuzzVerify(f *testing.F) {
	trust := firmware.Trust{Keys: []crypto.PublicKey{publicKey(f, "ecdsa-p256.pem"), publicKey(f, "ed25519.pem"), publicKey(f, "rsa-2048.pem")}}
	good := [][]byte{}
	for _, name := range []string{"p256.img", "ed25519.img", "rsa2048.img", "pure.img", "ed25519-sha512.img"} {
		good = append(good, read(f, name))
		f.Add(read(f, name))
	}
	f.Fuzz(func(t *testing.T, image []byte) {
		im, err := check(image, trust)
		if err != nil {
			if !errors.As(err, new(*firmware.Refusal)) {
				t.Errorf("not refused: %v", err)
			}
			return
		}
		if im.Size != int64(len(image)) {
			t.Errorf("%d of %d bytes were looked at", im.Size, len(image))
		}
		// Nothing else than what was signed passes; but beside the signature there may be TLVs that nobody looks at.
		if !slices.ContainsFunc(good, func(g []byte) bool { return len(g) > 300 && bytes.HasPrefix(image, g[:300]) }) {
			t.Error("an image that nobody signed is taken")
		}
	})
}
