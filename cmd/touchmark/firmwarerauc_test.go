package main

import (
	"crypto/ecdh"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/touchmark/touchmark/firmware-sign/release"
)

// cryptBundle builds a bundle as a build does, with a key of its own.
func (w *firmwareWorld) cryptBundle(t *testing.T, name string) {
	t.Helper()
	dir := t.TempDir()
	content := filepath.Join(dir, "content")
	if err := os.Mkdir(content, 0o700); err != nil {
		t.Fatal(err)
	}
	manifest := "[update]\ncompatible=thermostat\nversion=1.4.0\n[bundle]\nformat=crypt\n[image.rootfs]\nfilename=rootfs.img\n"
	noise := make([]byte, 200_000) // zeros would leave nothing of the image
	rand.Read(noise)
	for file, text := range map[string]string{"manifest.raucm": manifest, "rootfs.img": string(noise)} {
		if err := os.WriteFile(filepath.Join(content, file), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	key, cert := filepath.Join(dir, "key.pem"), filepath.Join(dir, "cert.pem")
	program(t, "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=build", "-keyout", key, "-out", cert)
	program(t, "rauc", "--cert", cert, "--key", key, "bundle", content, w.file(name))
}

func program(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", name, err, out)
	}
}

// opensBundle asks RAUC with the key of a device's certificate.
func (w *firmwareWorld) opensBundle(t *testing.T, name string, official tls.Certificate) error {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(official.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	key, cert, conf := filepath.Join(dir, "key.pem"), filepath.Join(dir, "cert.pem"), filepath.Join(dir, "system.conf")
	for file, text := range map[string][]byte{key: pemOf("PRIVATE KEY", der), cert: pemOf("CERTIFICATE", official.Certificate[0]),
		conf: []byte("[system]\ncompatible=thermostat\nbootloader=noop\n[keyring]\npath=" + filepath.Join(w.dir, "ca", "root.crt") + "\ncheck-purpose=codesign\n[encryption]\nkey=" + key + "\ncert=" + cert + "\n")} {
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	out, err := exec.Command("rauc", "--conf="+conf, "extract", w.file(name), filepath.Join(dir, "out")).CombinedOutput()
	t.Logf("%s", out)
	return err
}

// A bundle is wrapped for devices by the keys of their certificates, and RAUC
// opens it on those alone.
func TestEncryptedBundles(t *testing.T) {
	w := newFirmwareWorld(t)
	one, two := newDevice(t, "A-0001"), newDevice(t, "A-0002")
	w.handIn(t, one, two)
	first, second := w.inService(t, one), w.inService(t, two)
	w.cryptBundle(t, "update.raucb")
	w.as(t, w.erna, "release", "create", wrapRelease, "--counter", "3", "--support-end", "2031-12-31").want(t, 0)
	out := w.as(t, w.erna, "sign", w.file("update.raucb"), "--format", "rauc", "--stage", "test", "--key", "thermo-test", "--release", wrapRelease, "--set", "encrypt=cms", "--json").want(t, 0).out
	ticket := w.ticket(decodeAs[release.Artefact](t, out))
	wrap := []string{"wrap", ticket, "--in", w.file("update.raucb.encrypted"), "--out", w.file("b-{serial}")}
	w.as(t, w.erna, append(wrap, "--device", "A-0001", "--device", "A-0002")...).want(t, 0, "A-0001", "A-0002")
	for name, c := range map[string]struct {
		by    tls.Certificate
		opens bool
	}{"b-A-0001": {first, true}, "b-A-0002": {second, true}} {
		if err := w.opensBundle(t, name, c.by); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if w.opensBundle(t, "b-A-0001", second) == nil || w.opensBundle(t, "update.raucb.encrypted", first) == nil {
		t.Error("a device opens what is not for it")
	}
	_, file := recipientKey(t, ecdh.X25519())
	w.as(t, w.erna, "recipient", "add", file, "--product", "thermostat", "--device", "A-0002").want(t, 0)
	w.as(t, w.erna, append(wrap, "--device", "A-0002")...).want(t, exitFailed, "opens no RAUC bundle")
}
