package main

import (
	"crypto/x509"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/touchmark/touchmark/firmware-sign/authenticode"
	"github.com/touchmark/touchmark/firmware-sign/esp32"
	"github.com/touchmark/touchmark/firmware-sign/kmod"
	"github.com/touchmark/touchmark/firmware-sign/release"
)

// module is the least that is taken for a kernel module: an ELF header, and
// where it says that the section headers are.
func module() []byte {
	elf := make([]byte, 5000)
	copy(elf, "\x7fELF\x02\x01")
	elf[16], elf[40], elf[58], elf[60] = 1, 64, 64, 1
	return elf
}

// copyIn puts a file of the library's tests into the build.
func (w *firmwareWorld) copyIn(t *testing.T, name, from string) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("..", "..", "firmware-sign", from))
	if err != nil {
		t.Fatal(err)
	}
	w.put(t, name, data)
}

func (w *firmwareWorld) put(t *testing.T, name string, data []byte) {
	t.Helper()
	if err := os.WriteFile(w.file(name), data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// Files of several formats are signed by one key that the server has, with its
// certificate below a CA below the root, and checked by those programs of
// others that are there.
func TestFirmwareFormats(t *testing.T) {
	w := newFirmwareWorld(t)
	w.admin(t, "firmware", "key", "create", "thermo-rsa", "--product", "thermostat", "--stage", "test", "--kind", "RSA-3072").want(t, 0)
	w.as(t, w.erna, "release", "create", "thermostat@1.4.0", "--counter", "3", "--support-end", "2031-12-31").want(t, 0)
	w.copyIn(t, "app.efi", "authenticode/testdata/app.efi")
	w.copyIn(t, "esp.bin", "esp32/testdata/payload.bin")
	w.put(t, "sensor.ko", module())
	w.put(t, "cut.ko", module()[:100])
	sign := func(name, format string, more ...string) ran {
		t.Helper()
		return w.as(t, w.erna, append([]string{"sign", w.file(name), "--format", format, "--stage", "test", "--release", "thermostat@1.4.0", "--key", "thermo-rsa", "--json"}, more...)...)
	}
	suffixes := map[string]string{"authenticode": ".signed", "kmod": ".signed", "esp32": ".signed", "cms": ".p7s"}
	for name, c := range map[string]struct{ format, program string }{
		"app.efi": {"authenticode", "osslsigncode"}, "sensor.ko": {"kmod", ""}, "esp.bin": {"esp32", ""}, "app.bin": {"cms", "openssl"},
	} {
		part := decodeAs[release.Artefact](t, sign(name, c.format).want(t, 0).out)
		if c.program != "" && !slices.ContainsFunc(part.Checks, func(k release.Check) bool { return k.Program == c.program }) {
			t.Errorf("%s was checked by %+v, without %s", name, part.Checks, c.program)
		}
		signed := w.read(t, name+suffixes[c.format])
		if part.Signed == nil || *part.Signed != fileOf(signed) {
			t.Errorf("the server keeps %+v of %s", part.Signed, name)
		}
	}
	root, err := os.ReadFile(filepath.Join(w.dir, "ca", "root.crt"))
	if err != nil {
		t.Fatal(err)
	}
	w.verifyThem(t, root)
	for name, c := range map[string][]string{
		"app.efi.signed":   {"authenticode", "signed already"},
		"sensor.ko.signed": {"kmod", "signed already"},
		"cut.ko":           {"kmod", "cut off"},
		"app.bin":          {"authenticode", "no PE image"},
		"sensor.ko":        {"fit", "key-name"},
	} {
		sign(name, c[0], "--out", w.file("out")).want(t, exitFailed, c[1])
		if left, err := filepath.Glob(w.file("out*")); err != nil || len(left) > 0 {
			t.Errorf("%s was refused, but %q is there", name, left)
		}
	}
	sign("app.efi.signed", "authenticode", "--set", "append=true").want(t, 0)
}

// What devices must know of a key is in the form that their builds take.
func TestFirmwareKeyExport(t *testing.T) {
	w := newFirmwareWorld(t)
	w.admin(t, "firmware", "key", "create", "thermo-rsa", "--product", "thermostat", "--stage", "test", "--kind", "RSA-3072").want(t, 0)
	key := w.key(t, "thermo-rsa")
	public, err := key.Public()
	if err != nil {
		t.Fatal(err)
	}
	digest, err := esp32.KeyDigest(public)
	if err != nil {
		t.Fatal(err)
	}
	export := func(args ...string) ran {
		return w.as(t, w.erna, append([]string{"key", "export", "thermo-rsa", "--for"}, args...)...)
	}
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"mcuboot"}, string(pemOf("PUBLIC KEY", key.PublicKey))},
		{[]string{"kmod"}, string(pemOf("CERTIFICATE", key.Certificate))},
		{[]string{"esp32"}, string(digest)},
	} {
		if out := export(c.args...).want(t, 0).out; out != c.want {
			t.Errorf("%q: %q, want %q", c.args, out, c.want)
		}
	}
	export("fit", "--set", "key-name=prod").want(t, 0, "key-prod {", `required = "conf"`, "rsa,num-bits = <3072>")
	export("fit").want(t, exitFailed, "key-name")
	export("uf2").want(t, exitUsage, "uf2")
	w.as(t, w.erna, "key", "export", "thermo-ed", "--for", "esp32").want(t, exitFailed, "RSA-3072")
}

// verifyThem holds what was signed to the root and to the key's certificate.
func (w *firmwareWorld) verifyThem(t *testing.T, root []byte) {
	t.Helper()
	key := w.key(t, "thermo-rsa")
	cert, err := x509.ParseCertificate(key.Certificate)
	if err != nil {
		t.Fatal(err)
	}
	ca, err := x509.ParseCertificate(key.Chain[0])
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(root)
	if _, err := ca.Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}); err != nil {
		t.Fatal(err)
	}
	roots.AddCert(ca)
	if info, err := authenticode.Verify(reader(w.read(t, "app.efi.signed")), roots, time.Now()); err != nil || !info.By[0].Certificate.Equal(cert) {
		t.Errorf("app.efi: %+v, %v", info, err)
	}
	if _, err := kmod.Verify(reader(w.read(t, "sensor.ko.signed")), []*x509.Certificate{cert}); err != nil {
		t.Error(err)
	}
	if !strings.HasPrefix(string(w.read(t, "sensor.ko.signed")), string(module())) {
		t.Error("the module itself was changed")
	}
}
