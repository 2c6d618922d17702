package docs

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestAgentGuide does what docs/guides/agent.md says, and then takes the
// certificate away.
func TestAgentGuide(t *testing.T) {
	w := newWorld(t, "sqlite:touchmark.db")
	dir := t.TempDir()
	_, after, _ := strings.Cut(read(t, "guides/agent.md"), "four are needed:\n\n```\n")
	config, _, found := strings.Cut(after, "```")
	if !found {
		t.Fatal("the guide shows no configuration")
	}
	config = strings.Replace(config, "https://touchmark.example.com:8443", w.est, 1)
	for name, text := range map[string]string{"agent.yaml": config, "root.crt": read(t, w.root())} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	path := shim(t, map[string]string{
		"touchmark":       `exec "` + bin + `/touchmark" "$@"`,
		"touchmark-agent": `exec "` + bin + `/touchmark-agent" "$@"`,
	})
	env := []string{"TOUCHMARK_SERVER=" + w.api, "TOUCHMARK_DIR=" + w.dir}
	for _, block := range blocks(t, "guides/agent.md") {
		if out, err := script(t, dir, path, block, env...); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	out, err := script(t, dir, path, "touchmark-agent status --config agent.yaml --json")
	if err != nil || field[string](t, out, "state") != "active" {
		t.Errorf("%v\n%s", err, out)
	}
	device := w.cli(t, "device", "show", "A-0001", "--json")
	number := field[map[string]any](t, out, "certificate")["number"]
	if state, cert := field[string](t, device, "state"), field[string](t, device, "certificate"); state != "active" || cert != number {
		t.Errorf("the server knows the device as %s with certificate %s; the agent has %s", state, cert, number)
	}
	order := w.cli(t, "order", "show", "PO-7", "--json")
	if field[int](t, order, "issued") != 1 {
		t.Errorf("the order: %s", order)
	}
	w.cli(t, "device", "revoke", "A-0001", "--reason", "keyCompromise", "--note", "stolen", "--yes")
	if out, err := script(t, dir, path, "touchmark-agent renew --config agent.yaml"); err == nil || !strings.Contains(out, "revoked") {
		t.Errorf("renewing after a revocation: %v\n%s", err, out)
	}
	if out, _ := script(t, dir, path, "touchmark-agent status --config agent.yaml --json || true"); field[string](t, out, "state") != "refused" {
		t.Errorf("after a revocation: %s", out)
	}
}
