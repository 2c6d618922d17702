package main

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// made runs a build's program in the directory of the build.
func (w *firmwareWorld) made(t *testing.T, program string, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), program, args...)
	cmd.Dir = w.build
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s %q: %v\n%s", program, args, err, out)
	}
}

// bundle makes a bundle as a build does, signed by the build's key.
func (w *firmwareWorld) bundle(t *testing.T, name string) {
	t.Helper()
	if err := os.Mkdir(w.file("content"), 0o700); err != nil {
		t.Fatal(err)
	}
	w.put(t, "content/rootfs.img", w.read(t, "app.bin"))
	w.put(t, "content/manifest.raucm", []byte("[update]\ncompatible=gateway\nversion=1\n[bundle]\nformat=verity\n[image.rootfs]\nfilename=rootfs.img\n"))
	w.made(t, "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=build", "-keyout", "build.key", "-out", "build.crt")
	w.made(t, "rauc", "--cert", "build.crt", "--key", "build.key", "bundle", "content", name)
}

// fit makes a FIT image as a build does.
func (w *firmwareWorld) fit(t *testing.T, name string) {
	t.Helper()
	w.put(t, "a.its", []byte(`/dts-v1/;
/ {
	description = "x"; #address-cells = <1>;
	images { kernel { description = "k"; data = "what the kernel is"; type = "kernel"; arch = "arm"; os = "linux"; compression = "none"; load = <0>; entry = <0>; hash-1 { algo = "sha256"; }; }; };
	configurations { default = "c"; c { kernel = "kernel"; signature-1 { algo = "sha256,rsa3072"; key-name-hint = "prod"; sign-images = "kernel"; }; }; };
};
`))
	w.made(t, "mkimage", "-f", "a.its", name)
}

// swu is an archive for SWUpdate (cpio, newc with checksums).
func swu(image []byte) []byte {
	var out []byte
	member := func(name string, data []byte) {
		sum := uint32(0)
		for _, b := range data {
			sum += uint32(b)
		}
		out = append(out, "070702"...)
		for _, field := range []uint32{0, 0o100644, 0, 0, 1, 0, uint32(len(data)), 0, 0, 0, 0, uint32(len(name) + 1), sum} {
			out = fmt.Appendf(out, "%08X", field)
		}
		out = append(append(out, name...), 0)
		out = append(out, make([]byte, -len(out)&3)...)
		out = append(out, data...)
		out = append(out, make([]byte, -len(out)&3)...)
	}
	member("sw-description", fmt.Appendf(nil, "software =\n{\n version = \"1.0.1\";\n hardware-compatibility: [ \"1.0\" ];\n images: ( { filename = \"rootfs.img\"; device = \"/dev/null\"; type = \"raw\"; sha256 = \"%x\"; } );\n}\n", sha256.Sum256(image)))
	member("rootfs.img", image)
	member("TRAILER!!!", nil)
	return append(out, make([]byte, -len(out)&511)...)
}

// What the program signed, anybody verifies without a server: as it is, by the
// key or root that it was signed for, and nothing else.
func TestFirmwareVerify(t *testing.T) {
	w := newFirmwareWorld(t)
	for _, key := range []string{"thermo-rsa", "stranger"} {
		w.admin(t, "firmware", "key", "create", key, "--product", "thermostat", "--stage", "test", "--kind", "RSA-3072").want(t, 0)
	}
	w.as(t, w.erna, "release", "create", "thermostat@1.4.0", "--counter", "3", "--support-end", "2031-12-31").want(t, 0)
	w.copyIn(t, "app.efi", "authenticode/testdata/app.efi")
	w.copyIn(t, "esp.bin", "esp32/testdata/payload.bin")
	w.put(t, "sensor.ko", module())
	w.put(t, "update.swu", swu(w.read(t, "app.bin")))
	w.bundle(t, "update.raucb")
	w.fit(t, "kernel.itb")
	for _, key := range []string{"thermo-rsa", "stranger", "thermo-test"} {
		k := w.key(t, key)
		w.put(t, key+".pem", pemOf("PUBLIC KEY", k.PublicKey))
		w.put(t, key+".crt", pemOf("CERTIFICATE", k.Certificate))
	}
	root, foreign := filepath.Join(w.dir, "ca", "root.crt"), filepath.Join(initialized(t), "ca", "root.crt")
	for _, c := range []struct {
		format, file, suffix string
		set                  []string // to sign and to verify
		sign                 []string // to sign alone
		by, stranger         []string
		program              string
	}{
		{format: "mcuboot", file: "app.bin", suffix: ".signed", sign: []string{"--set", "pad-header=true"}, by: []string{"--key", w.file("thermo-rsa.pem")}, stranger: []string{"--key", w.file("stranger.pem")}},
		{format: "esp32", file: "esp.bin", suffix: ".signed", by: []string{"--key", w.file("thermo-rsa.crt")}, stranger: []string{"--key", w.file("stranger.pem")}},
		{format: "fit", file: "kernel.itb", suffix: ".signed", set: []string{"--set", "key-name=prod"}, by: []string{"--key", w.file("thermo-rsa.pem")}, stranger: []string{"--key", w.file("stranger.pem")}},
		{format: "kmod", file: "sensor.ko", suffix: ".signed", by: []string{"--key", w.file("thermo-rsa.crt")}, stranger: []string{"--key", w.file("stranger.crt")}},
		{format: "raw", file: "app.bin", suffix: ".sig", by: []string{"--source", w.file("app.bin"), "--key", w.file("thermo-rsa.pem")}, stranger: []string{"--source", w.file("app.bin"), "--key", w.file("stranger.pem")}},
		{format: "cms", file: "app.bin", suffix: ".p7s", by: []string{"--source", w.file("app.bin"), "--root", root}, stranger: []string{"--source", w.file("app.bin"), "--root", foreign}, program: "openssl"},
		{format: "authenticode", file: "app.efi", suffix: ".signed", by: []string{"--root", root}, stranger: []string{"--root", foreign}, program: "osslsigncode"},
		{format: "rauc", file: "update.raucb", suffix: ".signed", by: []string{"--root", root}, stranger: []string{"--root", foreign}, program: "rauc"},
		{format: "swupdate", file: "update.swu", suffix: ".signed", by: []string{"--root", root, "--key", w.file("thermo-rsa.pem")}, stranger: []string{"--root", root, "--key", w.file("stranger.pem")}},
	} {
		t.Run(c.format, func(t *testing.T) {
			w.as(t, w.erna, append(append([]string{"sign", w.file(c.file), "--name", c.format, "--format", c.format, "--stage", "test", "--release", "thermostat@1.4.0", "--key", "thermo-rsa"}, c.set...), c.sign...)...).want(t, 0)
			signed := w.file(c.file + c.suffix)
			verify := func(file string, more ...string) ran {
				t.Helper()
				return touchmark(t, append(append([]string{"firmware", "verify", file, "--format", c.format}, c.set...), more...)...)
			}
			verify(signed, c.by...).want(t, 0, "touchmark", c.program)
			whole := w.read(t, c.file+c.suffix)
			for n := range 5 {
				bad, at := bytes.Clone(whole), (len(whole)-1)*(2*n+1)/10
				if c.format == "fit" { // names and descriptions are not signed, by design
					at = bytes.Index(whole, []byte("what the kernel is")) + n
				}
				bad[at] ^= 4
				w.put(t, "bad", bad)
				verify(w.file("bad"), c.by...).want(t, exitFailed)
			}
			verify(signed, c.stranger...).want(t, exitFailed)
			verify(signed).want(t, exitUsage, "--")
			verify(w.file("sbom.json"), c.by...).want(t, exitFailed)
			if c.suffix == ".signed" {
				verify(w.file(c.file), c.by...).want(t, exitFailed)
				if _, err := os.Stat(signed + ".tst"); err == nil {
					verify(signed, append([]string{"--timestamp", signed + ".tst", "--root", root}, c.by...)...).want(t, 0, "time stamp")
					verify(w.file(c.file), append([]string{"--timestamp", signed + ".tst", "--root", root}, c.by...)...).want(t, exitFailed, "over another file")
				}
			}
		})
	}
	// An operator's certificate leads to the root as well, but is not for code.
	w.made(t, "openssl", "cms", "-sign", "-binary", "-in", "app.bin", "-outform", "DER", "-out", "erna.p7s", "-signer", filepath.Join(w.erna, "erna.crt"), "-inkey", filepath.Join(w.erna, "erna.key"), "-certfile", filepath.Join(w.dir, "ca", "operator-ca.crt"))
	openssl(t, true, "cms", "-verify", "-binary", "-inform", "DER", "-in", w.file("erna.p7s"), "-content", w.file("app.bin"), "-CAfile", root, "-purpose", "any", "-out", os.DevNull)
	touchmark(t, "firmware", "verify", w.file("erna.p7s"), "--format", "cms", "--source", w.file("app.bin"), "--root", root).want(t, exitFailed, "incompatible key usage")
	touchmark(t, "firmware", "verify", w.file("app.efi.signed"), "--format", "authenticode", "--root", root).want(t, 0, "time stamp", "CN=thermo-rsa")
	touchmark(t, "firmware", "verify", w.file("app.bin.signed"), "--format", "mcuboot", "--key", w.file("thermo-rsa.pem"), "--key", w.file("thermo-test.pem")).want(t, exitFailed)
	touchmark(t, "firmware", "verify", w.file("app.bin.signed"), "--format", "mcuboot", "--key", w.file("thermo-rsa.pem"), "--set", "security-counter=4").want(t, exitFailed, "security counter")
	touchmark(t, "firmware", "verify", w.file("app.bin.signed"), "--format", "mcuboot", "--key", w.file("thermo-rsa.pem"), "--set", "version=1.4.0+0", "--json").want(t, 0, `"checks"`)
}
