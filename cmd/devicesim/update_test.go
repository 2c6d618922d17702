package main

import (
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A fleet takes a release, and refuses what is forged, older, or for others.
func TestUpdate(t *testing.T) {
	const images = "../../firmware-sign/mcuboot/testdata/"
	dir := t.TempDir()
	units := filepath.Join(dir, "units")
	must(t, "factory", "--count", "3", "--out", units)
	p256, ed25519, rsa := publicPEM(t, images+"ecdsa-p256.pem"), publicPEM(t, images+"ed25519.pem"), publicPEM(t, images+"rsa-2048.pem")

	out := must(t, "update", "--key", ed25519, units, images+"ed25519.img")
	if !strings.Contains(out, "3 of 3 units run version 2.0.0+0, with security counter 1") {
		t.Error(out)
	}
	must(t, "update", "--key", p256, units, images+"p256.img")
	out = must(t, "update", "--key", ed25519, "--refused", "downgrade", units, images+"ed25519.img")
	if !strings.Contains(out, "has security counter 1, but this device has been at 7") {
		t.Error(out)
	}
	must(t, "update", "--key", p256, "--refused", "forged", units, images+"rsa2048.img")
	must(t, "update", "--key", rsa, "--class", "00000000-0000-0000-0000-000000000001", "--refused", "foreign", units, images+"rsa2048.img")
	if out, err := run(t, "update", "--key", p256, "--refused", "forged", units, images+"p256.img"); err == nil || !strings.Contains(err.Error(), "3 of 3 units did not refuse") {
		t.Errorf("%v: %s", err, out)
	}
	if out, err := run(t, "update", "--key", p256, units, images+"payload.bin"); err == nil || !strings.Contains(out, "3 of 3 units refuse it (damaged)") {
		t.Errorf("%v: %s", err, out)
	}
	for args, want := range map[string]string{
		"--key " + images + "payload.bin " + units:              "no PEM",
		"--key " + images + "ed25519.pem " + units:              "want a public key",
		"--key " + p256 + " --class 12 " + units:                "is no UUID",
		"--key " + p256 + " " + filepath.Join(dir, "elsewhere"): "holds no units",
	} {
		if out, err := run(t, append([]string{"update"}, strings.Fields(args+" "+images+"p256.img")...)...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q\n%s", args, err, want, out)
		}
	}
	if names, _ := filepath.Glob(filepath.Join(units, "*", "flash", "running.img")); len(names) != 3 {
		t.Errorf("images that run: %q", names)
	}
}

// publicPEM writes the public half of a key beside the test's other files.
func publicPEM(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(key.(crypto.Signer).Public())
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), "public.pem")
	if err := os.WriteFile(name, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// A unit takes what is encrypted for it, and refuses what is for another.
func TestEncryptedUpdate(t *testing.T) {
	const images = "../../firmware-sign/mcuboot/testdata/"
	units := filepath.Join(t.TempDir(), "units")
	must(t, "factory", "--count", "1", "--out", units)
	key := publicPEM(t, images+"ed25519.pem")
	update := func(more ...string) []string {
		return append([]string{"update", "--key", key, units, images + "enc-x25519-256.img"}, more...)
	}
	must(t, update("--refused", "sealed")...)
	must(t, update("--refused", "sealed", "--decrypt", images+"ecdsa-p256.pem")...)
	if out := must(t, update("--decrypt", images+"x25519.pem")...); !strings.Contains(out, "run version 3.0.0+0") {
		t.Error(out)
	}
	for file, want := range map[string]string{"payload.bin": "no PEM", "ed25519.pem": "decrypts nothing"} {
		if out, err := run(t, update("--decrypt", images+file)...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q\n%s", file, err, want, out)
		}
	}
}
