package main

import (
	"crypto/ed25519"
	"crypto/x509"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Units start with a licence for their own chip, and stop without.
func TestStart(t *testing.T) {
	dir := t.TempDir()
	units, licences := filepath.Join(dir, "units"), filepath.Join(dir, "licences")
	must(t, "factory", "--count", "4", "--block", "9", "--out", units)
	public, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(licences, 0o700); err != nil {
		t.Fatal(err)
	}
	write := func(chip int, licence []byte) {
		if err := os.WriteFile(filepath.Join(licences, uidOf(chip)+".lic"), licence, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for chip := range 4 {
		write(chip, license(t, key, uidOf(chip)))
	}
	start := []string{"start", "--licences", licences, "--key", hex.EncodeToString(der), "--product", "7", units}
	if out := must(t, start...); out != "4 of 4 units run\n" {
		t.Error(out)
	}
	write(1, license(t, key, uidOf(0)))
	write(2, make([]byte, 80))
	out := must(t, append(start, "--stopped", "2")...)
	if out != "2 of 4 units run; 1 stopped: the licence is forged, or another chip's; 1 stopped: there is no licence\n" {
		t.Error(out)
	}
	if out, err := run(t, start...); err == nil || !strings.Contains(err.Error(), "2 of 4 units stopped, where 0 should") {
		t.Errorf("%v: %s", err, out)
	}
	start[4] = "12"
	if out, err := run(t, start...); err == nil || !strings.Contains(err.Error(), "want a public key") {
		t.Errorf("%v: %s", err, out)
	}
}

func uidOf(chip int) string { return fmt.Sprintf("09%014x", chip) }

// license signs as docs/licences.md says.
func license(t *testing.T, key ed25519.PrivateKey, uid string) []byte {
	t.Helper()
	raw, err := hex.DecodeString(uid)
	if err != nil {
		t.Fatal(err)
	}
	header := append([]byte{'T', 1, 1, 6, byte(len(raw)), 1, 0, 0}, make([]byte, 8)...)
	binary.LittleEndian.PutUint32(header[8:], 7)
	message := append(append([]byte("touchmark lic 1\x00"), header...), raw...)
	return append(header, ed25519.Sign(key, message)...)
}
