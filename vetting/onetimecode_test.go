package vetting_test

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/touchmark/touchmark/vetting"
)

func newCode(t testing.TB) vetting.OneTimeCode {
	t.Helper()
	c, err := vetting.NewOneTimeCode(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

const codeAlphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"

func TestOneTimeCode(t *testing.T) {
	// by hand: fifteen times Z (31) is 8 doubled (2·31 = 62 = 1·32 + 30, its
	// digits' sum 31) and 7 plain; 15·31 = 465 = 14·32 + 17; 32 - 17 = 15 = F
	c, err := vetting.NewOneTimeCode(bytes.NewReader(bytes.Repeat([]byte{0xff}, 10)))
	if err != nil || c.Label() != "ZZZZ-ZZZZ-ZZZZ-ZZZF" {
		t.Fatalf("%s, %v", c.Label(), err)
	}
	if c.Hash() != sha256.Sum256([]byte("ZZZZZZZZZZZZZZZF")) {
		t.Error("the hash is not the SHA-256 of the sixteen symbols")
	}
	if c, err := vetting.NewOneTimeCode(strings.NewReader("too short")); err == nil || c != (vetting.OneTimeCode{}) {
		t.Error("a code was made of nine bytes")
	}
	for _, f := range []string{"%v", "%s", "%+v", "%#v", "%q"} {
		if s := fmt.Sprintf(f, c); strings.Contains(s, "Z") {
			t.Errorf("%s prints %s", f, s)
		}
	}
	seen := map[vetting.CodeHash]bool{}
	for range 1000 {
		c := newCode(t)
		if seen[c.Hash()] {
			t.Fatal("the same code twice")
		}
		seen[c.Hash()] = true
	}
}

func TestParseOneTimeCode(t *testing.T) {
	c := newCode(t)
	label := c.Label()
	bare := strings.ReplaceAll(label, "-", "")
	for _, s := range []string{label, bare, strings.ToLower(label), " " + strings.ReplaceAll(label, "-", " ") + " ",
		strings.NewReplacer("0", "O", "1", "I").Replace(label), strings.NewReplacer("0", "o", "1", "l").Replace(bare)} {
		if got, err := vetting.ParseOneTimeCode(s); err != nil || got != c {
			t.Errorf("%q: %v", s, err)
		}
	}
	for _, s := range []string{"", "-", bare[:15], bare + "0", bare[:15] + "U", bare[:15] + "*", bare[:15] + "é", bare[:15] + "\x00", bare + "\n", "0123-4567"} {
		if _, err := vetting.ParseOneTimeCode(s); err == nil {
			t.Errorf("%q passes", s)
		} else if strings.Contains(err.Error(), bare[:15]) {
			t.Errorf("the error repeats the code: %v", err)
		}
	}
}

// Every single mistyped character is noticed, and every swap of neighbours
// but that of 0 and Z.
func TestTyposAreTold(t *testing.T) {
	for range 20 {
		bare := []byte(strings.ReplaceAll(newCode(t).Label(), "-", ""))
		for i := range bare {
			for _, other := range []byte(codeAlphabet) {
				if other == bare[i] {
					continue
				}
				typo := slices.Clone(bare)
				typo[i] = other
				if _, err := vetting.ParseOneTimeCode(string(typo)); err == nil {
					t.Errorf("%s passes for %s", typo, bare)
				}
			}
			if i == 0 || bare[i] == bare[i-1] || strings.Contains("0Z0", string(bare[i-1:i+1])) {
				continue
			}
			typo := slices.Clone(bare)
			typo[i], typo[i-1] = typo[i-1], typo[i]
			if _, err := vetting.ParseOneTimeCode(string(typo)); err == nil {
				t.Errorf("%s passes for %s", typo, bare)
			}
		}
	}
}

// FuzzOneTimeCode: what passes is a code in every way: its label is read as
// the same code, and is of the alphabet; what does not pass is not repeated.
func FuzzOneTimeCode(f *testing.F) {
	f.Add("ZZZZ-ZZZZ-ZZZZ-ZZZF")
	f.Add("zzzzzzzzzzzzzzzf")
	f.Add("OILO 0110 0000-0000")
	f.Add("")
	f.Fuzz(func(t *testing.T, s string) {
		c, err := vetting.ParseOneTimeCode(s)
		if err != nil {
			if c != (vetting.OneTimeCode{}) {
				t.Errorf("a code came with the error %v", err)
			}
			if len(s) >= 16 && strings.Contains(err.Error(), s) {
				t.Errorf("the error repeats the code: %v", err)
			}
			return
		}
		label := c.Label()
		if len(label) != 19 || strings.Trim(label, codeAlphabet+"-") != "" {
			t.Errorf("label %q", label)
		}
		again, err := vetting.ParseOneTimeCode(label)
		if err != nil || again != c || again.Hash() != c.Hash() {
			t.Errorf("%q is read as %q: %v", label, again.Label(), err)
		}
		upper := strings.NewReplacer("O", "0", "I", "1", "L", "1", "-", "", " ", "").Replace(strings.ToUpper(s))
		if upper != strings.ReplaceAll(label, "-", "") {
			t.Errorf("%q passes for %q", s, label)
		}
	})
}

func TestNewCodes(t *testing.T) {
	good := func() vetting.NewCodes {
		return vetting.NewCodes{Order: "PO-1", Hashes: make([]vetting.CodeHash, 3), Expires: now.Add(time.Hour)}
	}
	n := good()
	if err := n.Check(now); err != nil {
		t.Error(err)
	}
	for what, change := range map[string]func(*vetting.NewCodes){
		"for nobody":      func(n *vetting.NewCodes) { n.Order = "" },
		"for both":        func(n *vetting.NewCodes) { n.Devices = []int64{1, 2, 3} },
		"twice for one":   func(n *vetting.NewCodes) { n.Order, n.Devices = "", []int64{1, 2, 1} },
		"too few devices": func(n *vetting.NewCodes) { n.Order, n.Devices = "", []int64{1} },
		"none":            func(n *vetting.NewCodes) { n.Hashes = nil },
		"too many":        func(n *vetting.NewCodes) { n.Hashes = make([]vetting.CodeHash, vetting.MaxCodes+1) },
		"expired":         func(n *vetting.NewCodes) { n.Expires = now },
		"valid for long":  func(n *vetting.NewCodes) { n.Expires = now.Add(vetting.MaxCodeValidity + 1) },
	} {
		n := good()
		change(&n)
		if n.Check(now) == nil {
			t.Errorf("%s: passes", what)
		}
	}
}
