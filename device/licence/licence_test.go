package licence_test

import (
	"bufio"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/touchmark/touchmark/device/licence"
)

// verdicts are what the C header's mean here.
var verdicts = map[int]error{1: licence.ErrNone, 2: licence.ErrFormat, 3: licence.ErrProduct, 4: licence.ErrEpoch, 5: licence.ErrChip, 6: licence.ErrKey, 7: licence.ErrSignature}

type vector struct {
	name         string
	licence, uid []byte
	policy       licence.Policy
	verdict      int
}

// vectors are those that every port is held to.
func vectors(t testing.TB) (all []vector) {
	t.Helper()
	file, err := os.Open(filepath.Join("..", "..", "firmware-sign", "licence", "testdata", "vectors.txt"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for lines := bufio.NewScanner(file); lines.Scan(); {
		if strings.HasPrefix(lines.Text(), "#") {
			continue
		}
		var v vector
		var number, algorithm uint8
		var raw []byte
		p := &v.policy
		if _, err := fmt.Sscanf(lines.Text(), "%s %x %x %d %d %d %d %d %x %d", &v.name, &v.licence, &v.uid, &p.Product, &p.Epoch, &p.UIDType, &number, &algorithm, &raw, &v.verdict); err != nil {
			t.Fatalf("%q: %v", lines.Text(), err)
		}
		var key crypto.PublicKey = ed25519.PublicKey(raw)
		if algorithm == 2 {
			if key, err = ecdsa.ParseUncompressedPublicKey(elliptic.P256(), append([]byte{4}, raw...)); err != nil {
				t.Fatal(err)
			}
		}
		p.Keys = map[uint8]crypto.PublicKey{number: key}
		all = append(all, v)
	}
	return all
}

func TestVectors(t *testing.T) {
	all := vectors(t)
	if len(all) < 30 {
		t.Fatalf("only %d vectors", len(all))
	}
	for _, v := range all {
		err := licence.Check(v.licence, v.uid, v.policy)
		if want := verdicts[v.verdict]; (err == nil) != (want == nil) || want != nil && !errors.Is(err, want) && !(v.verdict == 6 && errors.Is(err, licence.ErrSignature)) {
			t.Errorf("%s: %v, want %v", v.name, err, want)
		}
	}
}

// Whatever differs in one bit from a licence is none, and nothing panics.
func FuzzCheck(f *testing.F) {
	good := vectors(f)[0]
	f.Add(good.licence, good.uid)
	f.Add([]byte{}, []byte{})
	f.Fuzz(func(t *testing.T, b, uid []byte) {
		if err := licence.Check(b, uid, good.policy); err == nil && (string(b) != string(good.licence) || string(uid) != string(good.uid)) {
			t.Fatalf("%x runs on %x", b, uid)
		}
	})
}

func TestOneBit(t *testing.T) {
	good := vectors(t)[0]
	for i := range len(good.licence) * 8 {
		b := append([]byte(nil), good.licence...)
		b[i/8] ^= 1 << (i % 8)
		if licence.Check(b, good.uid, good.policy) == nil {
			t.Errorf("bit %d does not matter", i)
		}
	}
	if licence.Check(good.licence, append([]byte{good.uid[0] ^ 1}, good.uid[1:]...), good.policy) == nil {
		t.Error("it runs on another chip")
	}
}
