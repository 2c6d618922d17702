package licence

import (
	"bufio"
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"

	firmwaresign "github.com/touchmark/touchmark/firmware-sign"
	"github.com/touchmark/touchmark/firmware-sign/internal/signtest"
)

var update = flag.Bool("update", false, "make testdata/vectors.txt anew")

// vector is a licence, what a device knows, and what its firmware must say.
type vector struct {
	name         string
	licence, uid []byte
	firmware
	verdict int
}

const vectorsFile = "testdata/vectors.txt"

// vectors reads the reference vectors. They were made with -update, once.
func vectors(t testing.TB) (all []vector) {
	t.Helper()
	file, err := os.Open(filepath.FromSlash(vectorsFile))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for lines := bufio.NewScanner(file); lines.Scan(); {
		if strings.HasPrefix(lines.Text(), "#") {
			continue
		}
		var v vector
		var alg Algorithm
		var key []byte
		if _, err := fmt.Sscanf(lines.Text(), "%s %x %x %d %d %d %d %d %x %d", &v.name, &v.licence, &v.uid, &v.product, &v.epoch, &v.uidType, &v.keyID, &alg, &key, &v.verdict); err != nil {
			t.Fatalf("%q: %v", lines.Text(), err)
		}
		v.key = ed25519.PublicKey(key)
		if alg == P256 {
			if v.key, err = ecdsa.ParseUncompressedPublicKey(elliptic.P256(), append([]byte{4}, key...)); err != nil {
				t.Fatal(err)
			}
		}
		all = append(all, v)
	}
	return all
}

func TestVectors(t *testing.T) {
	if *update {
		makeVectors(t)
	}
	c := start(t, sanitized)
	all := vectors(t)
	if len(all) < 30 {
		t.Fatalf("only %d vectors", len(all))
	}
	for _, v := range all {
		if got := v.check(v.licence, v.uid); got != v.verdict {
			t.Errorf("%s: the library says %d, want %d", v.name, got, v.verdict)
		}
		if got := c.check(t, v.firmware, v.licence, v.uid); got != v.verdict {
			t.Errorf("%s: C says %d, want %d", v.name, got, v.verdict)
		}
	}
}

// OpenSSL takes the signatures, over the bytes that docs/licences.md tells.
func TestSignaturesAreGoodForOpenSSL(t *testing.T) {
	for _, v := range vectors(t) {
		if v.name != "ed25519-opaque" && v.name != "p256-opaque" {
			continue
		}
		message := signtest.File(t, "message", append(append([]byte("touchmark lic 1\x00"), v.licence[:16]...), v.uid...))
		public, raw := signtest.PublicFile(t, v.key), v.licence[16:]
		args := []string{"pkeyutl", "-verify", "-rawin", "-pubin", "-inkey", public, "-in", message, "-sigfile"}
		if v.name == "p256-opaque" {
			der, err := asn1.Marshal([]*big.Int{new(big.Int).SetBytes(raw[:32]), new(big.Int).SetBytes(raw[32:])})
			if err != nil {
				t.Fatal(err)
			}
			raw = der
			args = []string{"dgst", "-sha256", "-verify", public, message, "-signature"}
			args = []string{args[0], args[1], args[2], args[3], args[5], signtest.File(t, "sig", raw), args[4]}
		} else {
			args = append(args, signtest.File(t, "sig", raw))
		}
		if _, err := signtest.Run("openssl", args...); err != nil {
			t.Error(v.name, err)
		}
	}
}

func TestLicencesForOneChip(t *testing.T) {
	for _, kind := range []string{"ed25519", "p256"} {
		key := signtest.Key(t, kind)
		uid := signtest.Random(16)
		l, err := Sign(Header{UIDType: UID128, Product: 7, Lot: 3}, uid, signtest.Opaque{Signer: key})
		if err != nil {
			t.Fatal(err)
		}
		back, err := Parse(l.Bytes())
		if err != nil || back != l || len(l.Bytes()) != Size {
			t.Fatalf("%+v became %+v, %v", l, back, err)
		}
		if err := back.Verify(uid, key.Public()); err != nil {
			t.Error(err)
		}
		other := bytes.Clone(uid)
		other[15] ^= 1
		if err := back.Verify(other, key.Public()); !errors.Is(err, firmwaresign.ErrSignature) {
			t.Errorf("another chip: %v", err)
		}
		if err := back.Verify(uid[:15], key.Public()); err == nil {
			t.Error("a shorter UID")
		}
		if err := back.Verify(uid, signtest.Key(t, kind).Public()); !errors.Is(err, firmwaresign.ErrSignature) {
			t.Errorf("another key: %v", err)
		}
		var wrong *firmwaresign.KeyError
		if err := back.Verify(uid, signtest.Key(t, "p384").Public()); !errors.As(err, &wrong) {
			t.Errorf("a key of another kind: %v", err)
		}
	}
	if _, err := Sign(Header{UIDType: UID128}, signtest.Random(16), signtest.Key(t, "rsa2048")); err == nil {
		t.Error("RSA signed a licence")
	}
}

func TestUIDs(t *testing.T) {
	for _, c := range []struct {
		kind UIDType
		uid  string
		want string // of the error
	}{
		{STM32, "0032001e:51383439:30393635", ""},
		{STM32, "0032001e513834393039363", "not hexadecimal"},
		{STM32, "0032001e5138343930393600", "no lot number"},
		{STM32, "0032001e51383439303936", "it has 12"},
		{ESP32, "24:6f:28:aa:bb:cc", ""},
		{ESP32, "25:6f:28:aa:bb:cc", "multicast"},
		{ESP32, "26:6f:28:aa:bb:cc", "locally given"},
		{EUI64, "00-0b-57-ff-fe-12-34-56", ""},
		{NRF, "ffffffffffffffff", "blank"},
		{UID64, "0000000000000000", "blank"},
		{UID128, "00112233445566778899aabbccddeeff", ""},
		{Opaque, "01020304", ""},
		{Opaque, "010203", "4 to 32"},
		{Opaque, strings.Repeat("01", 33), "4 to 32"},
		{9, "01020304", "not known"},
	} {
		_, err := c.kind.ParseUID(c.uid)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s %s: %v, want %q", c.kind, c.uid, err, c.want)
		}
	}
	for kind := firstType; kind <= lastType; kind++ {
		if back, err := ParseUIDType(kind.String()); err != nil || back != kind {
			t.Errorf("%s is read as %d, %v", kind, back, err)
		}
	}
	if _, err := ParseUIDType("stm8"); err == nil || !strings.Contains(err.Error(), "uid128") {
		t.Error(err)
	}
}

// makeVectors writes the file of vectors, with keys that are for nothing else.
func makeVectors(t *testing.T) {
	t.Helper()
	ed := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{0x42}, 32))
	p256, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), bytes.Repeat([]byte{0x42}, 32))
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	out.WriteString("# name licence uid product epoch uid-type key-id algorithm public-key verdict\n")
	write := func(name string, b, uid []byte, f firmware, verdict int) {
		alg, _ := AlgorithmFor(f.key)
		fmt.Fprintf(&out, "%s %x %x %d %d %d %d %d %x %d\n", name, b, uid, f.product, f.epoch, f.uidType, f.keyID, alg, keyBytes(t, f.key), verdict)
	}
	uids := []string{"01020304", "0032001e5138343930393635", "0011223344556677", "246f28aabbcc", "000b57fffe123456", "e66138935f6c8b27", "00112233445566778899aabbccddeeff"}
	for _, key := range []crypto.Signer{ed, p256} {
		alg, _ := AlgorithmFor(key.Public())
		name := map[Algorithm]string{Ed25519: "ed25519", P256: "p256"}[alg]
		f := firmware{product: 0x01020304, epoch: 5, keyID: 9, key: key.Public()}
		licence := func(kind UIDType, uid []byte) []byte {
			l, err := Sign(Header{UIDType: kind, KeyID: 9, Epoch: 5, Product: f.product, Lot: 0xa1b2c3d4}, uid, key)
			if err != nil {
				t.Fatal(err)
			}
			return l.Bytes()
		}
		for i, s := range uids {
			f.uidType = UIDType(i + 1)
			write(name+"-"+f.uidType.String(), licence(f.uidType, unhex(t, s)), unhex(t, s), f, licensed)
		}
		f.uidType = Opaque
		uid := bytes.Repeat([]byte{0xa5, 0x01}, 16)
		good := licence(Opaque, uid)
		write(name+"-longest", good, uid, f, licensed)
		for _, c := range []struct {
			name    string
			at      int
			flip    byte
			verdict int
		}{
			{"magic", 0, 1, badFormat}, {"version", 1, 3, badFormat}, {"algorithm", 2, 3, badKey}, {"uid-type", 3, 2, badUID}, {"uid-length", 4, 0x30, badUID},
			{"key-id", 5, 1, badKey}, {"older-epoch", 6, 4, badEpoch}, {"newer-epoch", 6, 2, badSignature}, {"product", 11, 1, badProduct},
			{"lot", 12, 1, badSignature}, {"signature-r", 16, 1, badSignature}, {"signature-s", 79, 1, badSignature},
		} {
			b := bytes.Clone(good)
			b[c.at] ^= c.flip
			write(name+"-changed-"+c.name, b, uid, f, c.verdict)
		}
		other := bytes.Clone(uid)
		other[31] ^= 0x80
		write(name+"-other-chip", good, other, f, badSignature)
		write(name+"-shorter-uid", good, uid[:31], f, badUID)
		write(name+"-erased", bytes.Repeat([]byte{0xff}, Size), uid, f, isEmpty)
		write(name+"-zeros", make([]byte, Size), uid, f, isEmpty)
	}
	if err := os.WriteFile(vectorsFile, []byte(out.String()), 0o644); err != nil {
		t.Fatal(err)
	}
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func one(n int) []byte { return append(make([]byte, n-1), 1) }
