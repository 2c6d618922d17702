package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Each signature has a time stamp that openssl verifies: in a CMS signature,
// and over a signed image in a file beside it.
func TestFirmwareTimeStamps(t *testing.T) {
	w := newFirmwareWorld(t)
	w.as(t, w.erna, "release", "create", "thermostat@1.4.0", "--counter", "3", "--support-end", "2031-12-31").want(t, 0)
	sign := []string{"sign", w.file("app.bin"), "--stage", "test", "--release", "thermostat@1.4.0", "--key", "thermo-test"}
	root := filepath.Join(w.dir, "ca", "root.crt")

	w.as(t, w.erna, append(sign, "--format", "mcuboot", "--set", "pad-header=true")...).want(t, 0)
	signed := w.file("app.bin.signed")
	openssl(t, true, "ts", "-verify", "-in", signed+".tst", "-token_in", "-data", signed, "-CAfile", root)
	openssl(t, false, "ts", "-verify", "-in", signed+".tst", "-token_in", "-data", w.file("app.bin"), "-CAfile", root)

	w.as(t, w.erna, append(sign, "--format", "cms", "--name", "app.bin.p7s")...).want(t, 0)
	signature := w.file("app.bin.p7s")
	if _, err := os.Stat(signature + ".tst"); err == nil {
		t.Error("a CMS signature has its time stamp inside, and another one beside it")
	}
	verify := []string{"cms", "-verify", "-binary", "-inform", "DER", "-in", signature, "-content", w.file("app.bin"), "-CAfile", root, "-purpose", "any", "-out", os.DevNull}
	openssl(t, true, verify...)
	if out := openssl(t, true, "cms", "-cmsout", "-print", "-inform", "DER", "-in", signature); !strings.Contains(out, "id-smime-aa-timeStampToken") {
		t.Errorf("the signature has no time stamp:\n%s", out)
	}
	w.admin(t, "firmware", "key", "create", "thermo-rsa", "--product", "thermostat", "--stage", "test", "--kind", "RSA-3072").want(t, 0)
	w.copyIn(t, "app.efi", "authenticode/testdata/app.efi")
	w.as(t, w.erna, "sign", w.file("app.efi"), "--format", "authenticode", "--stage", "test", "--release", "thermostat@1.4.0", "--key", "thermo-rsa").want(t, 0, "osslsigncode")
	if _, err := os.Stat(w.file("app.efi.signed.tst")); err == nil {
		t.Error("an image has its time stamp inside, and another one beside it")
	}
	w.put(t, "key.crt", pemOf("CERTIFICATE", w.key(t, "thermo-rsa").Certificate))
	for _, check := range [][]string{
		{"osslsigncode", "verify", "-in", w.file("app.efi.signed"), "-CAfile", root, "-TSA-CAfile", root},
		{"sbverify", "--cert", w.file("key.crt"), w.file("app.efi.signed")},
	} {
		out, err := exec.CommandContext(t.Context(), check[0], check[1:]...).CombinedOutput()
		if err != nil || check[0] == "osslsigncode" && !strings.Contains(string(out), "Timestamp Server Signature verification: ok") {
			t.Errorf("%s: %v\n%s", check[0], err, out)
		}
	}
	w.as(t, w.erna, append(sign, "--format", "raw", "--name", "raw", "--timestamp=false", "--out", w.file("raw"))...).want(t, 0)
	if _, err := os.Stat(w.file("raw.tst")); err == nil {
		t.Error("a time stamp that nobody wanted was written")
	}
	w.admin(t, "audit", "verify").want(t, 0, "nothing is wrong")
}

func openssl(t *testing.T, good bool, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "openssl", args...).CombinedOutput()
	if (err == nil) != good {
		t.Errorf("openssl %q: %v\n%s", args, err, out)
	}
	return string(out)
}
