package licence

import (
	"bufio"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/touchmark/touchmark/firmware-sign/internal/signtest"
)

// What touchmark_licence_check says.
const (
	licensed     = 0x3ca5
	isEmpty      = 1
	badFormat    = 2
	badProduct   = 3
	badEpoch     = 4
	badUID       = 5
	badKey       = 6
	badSignature = 7
)

// firmware is what a device knows.
type firmware struct {
	product uint32
	epoch   uint16
	uidType UIDType
	keyID   uint8
	key     crypto.PublicKey
}

// check is what touchmark_licence_check does, by the library.
func (f firmware) check(b, uid []byte) int {
	l, err := Parse(b)
	alg, _ := AlgorithmFor(f.key)
	switch {
	case err == ErrEmpty:
		return isEmpty
	case b[0] != 'T' || b[1] != 1 || b[4] < 4 || b[4] > 32:
		return badFormat
	case l.Product != f.product:
		return badProduct
	case l.Epoch < f.epoch:
		return badEpoch
	case l.UIDType != f.uidType || int(l.UIDLength) != len(uid):
		return badUID
	case l.KeyID != f.keyID || l.Algorithm != alg:
		return badKey
	case err != nil || l.Verify(uid, f.key) != nil:
		return badSignature
	}
	return licensed
}

func keyBytes(t testing.TB, pub crypto.PublicKey) []byte {
	t.Helper()
	switch pub := pub.(type) {
	case ed25519.PublicKey:
		return pub
	case *ecdsa.PublicKey:
		b, err := pub.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		return b[1:]
	}
	t.Fatalf("a key of type %T", pub)
	return nil
}

// checker is touchmark_licence.h, compiled and waiting for questions.
type checker struct {
	in  io.Writer
	out *bufio.Reader
}

// build compiles the header into a program.
func build(dir string, flags ...string) (program string, err error) {
	program = filepath.Join(dir, "check")
	flags = append(flags, "-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", "-o", program, filepath.Join("testdata", "check.c"))
	_, err = signtest.Run("gcc", flags...)
	return program, err
}

// sanitized is the program that finds reads and writes out of bounds, and
// what C leaves undefined. It is compiled once: that takes longer than most of
// the tests.
var sanitized string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "licence-")
		if err == nil {
			defer os.RemoveAll(dir)
			sanitized, err = build(dir, "-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return m.Run()
	}())
}

func start(t testing.TB, program string) *checker {
	t.Helper()
	// What gcc reads, go test does not know of: a result is not to outlive it.
	for _, source := range []string{"touchmark_licence.h", "testdata/check.c"} {
		if _, err := os.ReadFile(filepath.FromSlash(source)); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(program)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("the C check: %v", err)
		}
	})
	return &checker{in, bufio.NewReader(out)}
}

func (c *checker) check(t testing.TB, f firmware, licence, uid []byte) (verdict int) {
	t.Helper()
	alg, err := AlgorithmFor(f.key)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(c.in, "%x %x %d %d %d %d %d %x\n", licence, uid, f.product, f.epoch, f.uidType, f.keyID, alg, keyBytes(t, f.key))
	if _, err := fmt.Fscan(c.out, &verdict); err != nil {
		t.Fatal("the C check ended: ", err)
	}
	return verdict
}

// The firmware's check and the library's agree, licence by licence: on what
// was signed, and on what was changed afterwards, by one bit or by more.
func TestFirmwareAndLibraryAgree(t *testing.T) {
	c := start(t, sanitized)
	for _, kind := range []string{"ed25519", "p256"} {
		for i := range int(lastType) {
			f, l, uid := random(t, kind, i)
			if got := c.check(t, f, l.Bytes(), uid); got != licensed {
				t.Errorf("%s: C says %d of a licence for %x: %x", kind, got, uid, l.Bytes())
			}
			for j := range 10 {
				b, u := l.Bytes(), append([]byte(nil), uid...)
				switch at := (i*10 + j) * 11 % (Size + len(u)); {
				case at < Size:
					b[at] ^= 1 << (j % 8)
				default:
					u[at-Size] ^= 1 << (j % 8)
				}
				want := f.check(b, u)
				if got := c.check(t, f, b, u); got != want || got == licensed {
					t.Errorf("%s: C says %d, the library %d of %x for %x", kind, got, want, b, u)
				}
			}
		}
	}
}

// random makes a licence of each type of UID in turn.
func random(t testing.TB, kind string, i int) (f firmware, l Licence, uid []byte) {
	t.Helper()
	key := signtest.Key(t, kind)
	f = firmware{product: uint32(i * 1_000_003), epoch: uint16(i), uidType: UIDType(1 + i%int(lastType)), keyID: uint8(i), key: key.Public()}
	uid = signtest.Random(uidTypes[f.uidType].shortest + i%(1+uidTypes[f.uidType].most-uidTypes[f.uidType].shortest))
	uid[0] = 0x40
	if f.uidType == STM32 {
		copy(uid[5:], "Q123456")
	}
	h := Header{UIDType: f.uidType, KeyID: f.keyID, Epoch: f.epoch, Product: f.product, Lot: 77}
	l, err := Sign(h, uid, signtest.Opaque{Signer: key})
	if err != nil {
		t.Fatal(err)
	}
	return f, l, uid
}

// Numbers at the edges of what signatures may hold.
func TestSignaturesAtTheEdge(t *testing.T) {
	c := start(t, sanitized)
	edges := [][]byte{
		make([]byte, 32), one(32),
		unhex(t, "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551"), // P-256's order
		unhex(t, "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632550"),
		unhex(t, "edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010"), // Ed25519's order
		unhex(t, "ecd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010"),
		unhex(t, "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"), // its field's prime
		unhex(t, "0100000000000000000000000000000000000000000000000000000000000080"),
	}
	for _, kind := range []string{"ed25519", "p256"} {
		f, l, uid := random(t, kind, 3)
		for _, a := range append(edges, l.Signature[:32]) {
			for _, b := range append(edges, l.Signature[32:]) {
				forged := l
				copy(forged.Signature[:], a)
				copy(forged.Signature[32:], b)
				want := f.check(forged.Bytes(), uid)
				if got := c.check(t, f, forged.Bytes(), uid); got != want || (got == licensed) != (forged == l) {
					t.Errorf("%s: C says %d, the library %d of the signature %x", kind, got, want, forged.Signature)
				}
			}
		}
	}
}

// A licence has one form: its Ed25519 signature with the order added to the
// second half (RFC 8032 §8.4) is none.
func TestSignaturesCannotBeRewritten(t *testing.T) {
	c := start(t, sanitized)
	f, l, uid := random(t, "ed25519", 2)
	order := unhex(t, "edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010")
	carry := 0
	for i, b := range order {
		carry += int(l.Signature[32+i]) + int(b)
		l.Signature[32+i], carry = byte(carry), carry>>8
	}
	if got := c.check(t, f, l.Bytes(), uid); got != badSignature || f.check(l.Bytes(), uid) != badSignature {
		t.Errorf("C says %d, the library %d", got, f.check(l.Bytes(), uid))
	}
}

// Each half of the header compiles alone, without a warning, small.
func TestHeaderCompilesInParts(t *testing.T) {
	for _, leave := range []string{"-DTOUCHMARK_LICENCE_NO_ED25519", "-DTOUCHMARK_LICENCE_NO_P256"} {
		program, err := build(t.TempDir(), "-Os", leave)
		if err != nil {
			t.Fatal(err)
		}
		c := start(t, program)
		for _, kind := range []string{"ed25519", "p256"} {
			f, l, uid := random(t, kind, 1)
			want := licensed
			if (kind == "p256") == (leave == "-DTOUCHMARK_LICENCE_NO_P256") {
				want = badSignature
			}
			if got := c.check(t, f, l.Bytes(), uid); got != want {
				t.Errorf("%s, %s: %d, want %d", leave, kind, got, want)
			}
		}
	}
}

// Firmware and library never disagree, whatever is stored beside the firmware.
func FuzzCheck(f *testing.F) {
	seeds := vectors(f)
	for _, v := range seeds {
		f.Add(v.licence, v.uid, v.epoch, uint8(v.uidType), v.keyID)
	}
	c := start(f, sanitized)
	keys := map[bool]crypto.PublicKey{true: seeds[0].key, false: seeds[len(seeds)-1].key}
	f.Fuzz(func(t *testing.T, b, uid []byte, epoch uint16, uidType, keyID uint8) {
		if len(b) != Size || len(uid) == 0 || len(uid) > 32 {
			if _, err := Parse(b); err == nil && len(b) != Size {
				t.Fatalf("%d bytes are a licence", len(b))
			}
			return
		}
		fw := firmware{seeds[0].product, epoch, UIDType(uidType), keyID, keys[b[2] == 1]}
		if want, got := fw.check(b, uid), c.check(t, fw, b, uid); got != want {
			t.Fatalf("C says %d, the library %d", got, want)
		}
		if l, err := Parse(b); err == nil && string(l.Bytes()) != string(b) {
			t.Fatalf("%x is written as %x", b, l.Bytes())
		}
	})
}
