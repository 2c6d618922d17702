package docs

import (
	"crypto/sha256"
	"fmt"
	"strings"
	"testing"
)

// TestReleaseGuide does what docs/guides/release-engineer.md says, word for
// word: in the end a release is published that two people approved, and taken
// back.
func TestReleaseGuide(t *testing.T) {
	w := newWorld(t, "sqlite:touchmark.db")
	w.line(t)
	device := w.admitted(t)
	dir := t.TempDir()
	put := func(name, content string) {
		t.Helper()
		if _, err := script(t, dir, dir, "cat > "+name+" <<'END'\n"+content+"\nEND"); err != nil {
			t.Fatal(err)
		}
	}
	image := strings.Repeat("firmware\n", 4000)
	put("app.bin", strings.TrimSuffix(image, "\n"))
	put("sbom.cdx.json", `{"bomFormat":"CycloneDX","specVersion":"1.6"}`)
	put("provenance.intoto.json", fmt.Sprintf(`{"_type":"https://in-toto.io/Statement/v1","predicateType":"https://slsa.dev/provenance/v1","subject":[{"name":"app.bin","digest":{"sha256":"%x"}}]}`, sha256.Sum256([]byte(image))))
	path := shim(t, map[string]string{"touchmark": `exec "` + bin + `/touchmark" "$@"`, "devicesim": `exec "` + bin + `/devicesim" "$@"`})
	said := ""
	for _, block := range blocks(t, "guides/release-engineer.md") {
		block = strings.ReplaceAll(block, "TH-000001", device)
		out, err := script(t, dir, path, block, "TOUCHMARK_DIR="+w.dir, "TOUCHMARK_SERVER="+w.api)
		if err != nil {
			t.Fatalf("%s: %v\n%s", block, err, out)
		}
		said += out
	}
	for _, want := range []string{"BEGIN PUBLIC KEY", "not approved yet", "verified by", "carried-out", "published", "thermostat-pq (ml-dsa-65)", "the statement is what the key signed", "tokens of", "stamped", "release.yank", "Of 0 devices seen", "wrapped for"} {
		if !strings.Contains(said, want) {
			t.Errorf("the guide's commands did not say %q:\n%s", want, said)
		}
	}
	if out := w.cli(t, "audit", "verify"); !strings.Contains(out, "nothing is wrong") {
		t.Error(out)
	}
}
