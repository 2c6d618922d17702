package docs

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// line makes a fleet of three thermostats, two of them let in, in DIR/units,
// and a support agent in DIR/mia.
func (w *world) line(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	lin, units := filepath.Join(dir, "lin"), filepath.Join(dir, "units")
	w.cli(t, "product", "create", "thermostat", "--proof", "bootstrap-key", "--validity", "825d")
	w.cli(t, "site", "create", "hsinchu")
	w.cli(t, "order", "create", "PO-1", "--product", "thermostat", "--site", "hsinchu", "--quantity", "2", "--open")
	w.cli(t, "operator", "add", "lin", "--role", "site-operator", "--site", "hsinchu", "--out", lin)
	must(t, bin+"/devicesim", "factory", "--out", units, "--prefix", "TH-", "--count", "3")
	w.as(t, lin, "manifest", "upload", "PO-1", filepath.Join(units, "manifest.jsonl"), "--sign")
	must(t, bin+"/devicesim", "fleet", "--root", w.root(), "--est", w.est, units)
	w.cli(t, "operator", "add", "mia", "--role", "support", "--out", filepath.Join(dir, "mia"))
	return dir
}

// TestSupportGuide does what docs/guides/support.md tells a support agent to
// type, word for word, as the agent; what is an administrator's is refused.
func TestSupportGuide(t *testing.T) {
	w := newWorld(t, "sqlite:touchmark.db")
	dir := w.line(t)
	admitted := w.admitted(t)
	cert, err := os.ReadFile(filepath.Join(dir, "units", admitted, "official.crt"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "official.crt"), cert, 0o600); err != nil {
		t.Fatal(err)
	}
	path := shim(t, map[string]string{"touchmark": `exec "` + bin + `/touchmark" "$@"`})
	tried := 0
	for _, block := range blocks(t, "guides/support.md") {
		for line := range strings.Lines(block) {
			line = strings.ReplaceAll(strings.TrimSpace(line), "TH-000001", admitted)
			if !strings.HasPrefix(line, "touchmark verify") {
				continue
			}
			out, err := script(t, dir, path, line, "TOUCHMARK_DIR=mia", "TOUCHMARK_SERVER="+w.api)
			if strings.Contains(line, "--mac") && strings.Contains(out, "unknown") {
				err = nil // which address the unit has is not the guide's to know
			}
			if err != nil || !strings.Contains(out, "verdict") {
				t.Errorf("%s: %v\n%s", line, err, out)
			}
			tried++
		}
	}
	if tried < 5 {
		t.Errorf("%d commands were tried", tried)
	}
	if out, errors, code := outcome(t, bin+"/touchmark", "--dir", filepath.Join(dir, "mia"), "--server", w.api, "evidence", "clear", "--device", admitted, "--note", "x"); code != 1 || !strings.Contains(errors, "clear evidence") {
		t.Errorf("a support agent cleared evidence: %d %s%s", code, out, errors)
	}
}

// admitted is the serial number of a device that was let in.
func (w *world) admitted(t *testing.T) string {
	t.Helper()
	var list struct{ Items []struct{ Serial string } }
	if err := json.Unmarshal([]byte(w.cli(t, "device", "list", "--state", "active", "--json")), &list); err != nil || len(list.Items) == 0 {
		t.Fatalf("no device is active: %v", err)
	}
	return list.Items[0].Serial
}

// TestChallenge challenges a device as the guide says: by the simulator, by
// openssl alone, by the device itself, and with a signature of another.
func TestChallenge(t *testing.T) {
	w := newWorld(t, "sqlite:touchmark.db")
	dir := w.line(t)
	serial, units, mia := w.admitted(t), filepath.Join(dir, "units"), filepath.Join(dir, "mia")
	challenge := func() (id, nonce string) {
		t.Helper()
		made := w.as(t, mia, "device", "challenge", serial, "--json")
		return fmt.Sprint(field[int](t, made, "id")), field[string](t, made, "nonce")
	}
	for name, sign := range map[string]func(nonce string) string{
		"devicesim": func(nonce string) string { return must(t, bin+"/devicesim", "challenge", units, serial, nonce) },
		"openssl": func(nonce string) string {
			return must(t, "./guides/challenge-with-openssl.sh", filepath.Join(units, serial, "official.pem"), nonce)
		},
	} {
		id, nonce := challenge()
		if out := w.as(t, mia, "device", "answer", id, strings.TrimSpace(sign(nonce))); !strings.Contains(out, "proved") {
			t.Errorf("%s: %s", name, out)
		}
	}
	id, nonce := challenge()
	must(t, bin+"/devicesim", "challenge", units, serial, nonce, "--est", w.est, "--root", w.root())
	if _, errors, code := outcome(t, bin+"/touchmark", "--dir", mia, "--server", w.api, "device", "answer", id, "AAAA"); code != 1 || !strings.Contains(errors, "answered already") {
		t.Errorf("answered twice: %d %s", code, errors)
	}
	if out := w.as(t, mia, "verify", serial); !strings.Contains(out, "A challenge was answered with the device's key") {
		t.Errorf("verified: %s", out)
	}
	id, nonce = challenge()
	key := filepath.Join(dir, "other.key")
	must(t, "openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", key)
	forged := strings.TrimSpace(must(t, "./guides/challenge-with-openssl.sh", key, nonce))
	if out, _, code := outcome(t, bin+"/touchmark", "--dir", mia, "--server", w.api, "device", "answer", id, forged); code != 1 || !strings.Contains(out, "none of the device's keys") {
		t.Errorf("a forged answer: %d %s", code, out)
	}
	if out, _, code := outcome(t, bin+"/touchmark", "--dir", mia, "--server", w.api, "verify", serial); code != 3 || !strings.Contains(out, "suspect") {
		t.Errorf("after a forged answer: %d %s", code, out)
	}
}
