package docs

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestRootCeremony does what docs/guides/root-ceremony.md says, word for word
// but for the --yes of a script, and restarts the server where it says so. A
// fleet enrols on the way, and knows the old root or the new one.
func TestRootCeremony(t *testing.T) {
	w := newWorld(t, "sqlite:touchmark.db")
	dir := t.TempDir()
	if err := os.Symlink(w.dir, filepath.Join(dir, "tm")); err != nil {
		t.Fatal(err)
	}
	path := shim(t, map[string]string{"touchmark": `case "$*" in *" ca sign "*|"ca sign "*|*" ca import "*|*root-rollover*) set -- "$@" --yes;; esac
exec "` + bin + `/touchmark" "$@"`})
	w.cli(t, "product", "create", "thermostat", "--validity", "825d")
	w.cli(t, "site", "create", "hsinchu")
	w.cli(t, "order", "create", "PO-1", "--product", "thermostat", "--site", "hsinchu", "--quantity", "100", "--open")
	lin := filepath.Join(dir, "lin")
	w.cli(t, "operator", "add", "lin", "--role", "site-operator", "--site", "hsinchu", "--out", lin)
	units := filepath.Join(dir, "units")
	must(t, bin+"/devicesim", "factory", "--out", units, "--prefix", "TH-", "--count", "20")
	w.as(t, lin, "manifest", "upload", "PO-1", filepath.Join(units, "manifest.jsonl"), "--sign")
	old, next := write(t, "old.crt", read(t, w.root())), 0
	powerOn := func(root string) { // the first unit uses its certificate again, and one more enrols
		t.Helper()
		next++
		out := must(t, bin+"/devicesim", "fleet", "--root", root, "--est", w.est, units, "TH-000000", fmt.Sprintf("TH-%06d", next))
		if !strings.Contains(out, "refused 0, failed 0") {
			t.Errorf("unit %d: %s", next, out)
		}
	}
	powerOn(old)
	said := ""
	for _, block := range blocks(t, "guides/root-ceremony.md") {
		out, err := script(t, dir, path, block, "TOUCHMARK_SERVER="+w.api)
		if err != nil {
			t.Fatalf("%s: %v\n%s", block, err, out)
		}
		said += out
		if strings.Contains(out, "Restart") {
			w.stop()
			w.serve()
		}
		if strings.Contains(block, "root-rollover finish") {
			old = w.root()
		}
		powerOn(old)
	}
	if order := w.cli(t, "order", "show", "PO-1", "--json"); field[int](t, order, "issued") != next+1 {
		t.Errorf("%d units were powered on: %s", next+1, order)
	}
	for _, want := range []string{"CN=devices-2027", "key (SHA-256)", "certificates.pem: OK", "devices, by default", "Now the new root is in force", "Now there is one root again"} {
		if !strings.Contains(said, want) {
			t.Errorf("the ceremony did not say %q:\n%s", want, said)
		}
	}
	if left, err := filepath.Glob(filepath.Join(w.dir, "keys", "root*")); err != nil || len(left) > 0 {
		t.Errorf("the server's directory holds %v (%v)", left, err)
	}
	w.cli(t, "audit", "verify")
}
