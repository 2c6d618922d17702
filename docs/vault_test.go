package docs

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestFirmwareCeremony does what docs/guides/firmware-ceremony.md says, word for
// word but for the --yes of a script: a release is signed by a key that the
// server never has, and published. In the vault no server is known.
func TestFirmwareCeremony(t *testing.T) {
	w := newWorld(t, "sqlite:touchmark.db")
	w.cli(t, "product", "create", "thermostat", "--proof", "rig")
	dir := t.TempDir()
	if err := os.Symlink(w.dir, filepath.Join(dir, "tm")); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"erna", "berta", "carla"} {
		w.cli(t, "operator", "add", name, "--role", "release-engineer", "--out", filepath.Join(dir, name))
	}
	image := []byte(strings.Repeat("firmware\n", 4000))
	for name, content := range map[string][]byte{"app.bin": image, "sbom.cdx.json": []byte(`{"bomFormat":"CycloneDX","specVersion":"1.6"}`),
		"provenance.intoto.json": fmt.Appendf(nil, `{"_type":"https://in-toto.io/Statement/v1","predicateType":"https://slsa.dev/provenance/v1","subject":[{"name":"app.bin","digest":{"sha256":"%x"}}]}`, sha256.Sum256(image))} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	path := shim(t, map[string]string{"touchmark": `case "$*" in
"firmware key request "*|"firmware request sign "*|"firmware verify "*) unset TOUCHMARK_DIR TOUCHMARK_SERVER;;
esac
case "$*" in "firmware request sign "*) set -- "$@" --yes;; esac
exec "` + bin + `/touchmark" "$@"`})
	said := ""
	for _, block := range blocks(t, "guides/firmware-ceremony.md") {
		out, err := script(t, dir, path, block, "TOUCHMARK_DIR="+w.dir, "TOUCHMARK_SERVER="+w.api)
		if err != nil {
			t.Fatalf("%s: %v\n%s", block, err, out)
		}
		said += out
	}
	for _, want := range []string{"offline", "approved by", "prepared again", "The key thermostat-vault signs exactly this.", "published", "time stamp"} {
		if !strings.Contains(said, want) {
			t.Errorf("the ceremony did not say %q:\n%s", want, said)
		}
	}
	if left, err := filepath.Glob(filepath.Join(w.dir, "keys", "*vault*")); err != nil || len(left) > 0 {
		t.Errorf("the server's directory holds %v (%v)", left, err)
	}
	if out := w.cli(t, "audit", "verify"); !strings.Contains(out, "nothing is wrong") {
		t.Error(out)
	}
}
