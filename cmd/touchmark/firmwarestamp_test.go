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
