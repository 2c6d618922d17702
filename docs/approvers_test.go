package docs

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestApproversGuide does what docs/guides/approvers.md says, word for word and
// in order, but for the numbers of proposals, which are not the guide's to know,
// and the answer to the question before a signature.
func TestApproversGuide(t *testing.T) {
	w := newWorld(t, "sqlite:touchmark.db")
	dir := t.TempDir()
	path := shim(t, map[string]string{"touchmark": `case "$*" in *" approve "*) set -- "$@" --yes ;; esac; exec "` + bin + `/touchmark" "$@"`})
	do := func(text, number string) string {
		t.Helper()
		text = strings.ReplaceAll(text, "4711", number)
		out, err := script(t, dir, path, text, "TOUCHMARK_DIR="+w.dir, "TOUCHMARK_SERVER="+w.api)
		if err != nil {
			t.Fatalf("%s: %v\n%s", text, err, out)
		}
		return out
	}
	says := func(out string, parts ...string) {
		t.Helper()
		for _, p := range parts {
			if !strings.Contains(out, p) {
				t.Errorf("no %q in\n%s", p, out)
			}
		}
	}
	page := blocks(t, "guides/approvers.md")
	if len(page) != 6 {
		t.Fatalf("the guide has %d blocks of commands", len(page))
	}
	w.cli(t, "product", "create", "thermostat", "--proof", "rig")
	w.cli(t, "site", "create", "penang")
	w.cli(t, "order", "create", "PO-4713", "--product", "thermostat", "--site", "penang", "--quantity", "500", "--raise-approvals", "2")
	do("openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=carla -keyout carla.key -out carla.csr", "")
	do(page[0], "")
	raise := func() string {
		t.Helper()
		return fmt.Sprint(field[int64](t, w.cli(t, "order", "set-quantity", "PO-4713", "600", "--note", "customer ordered 100 more", "--json"), "id"))
	}
	number := raise()
	says(do(page[1], number), "order.raise", "PO-4713", "to        600", "1 approval by others")
	says(do(page[2], number), "withdrawn", "the customer cancelled")

	says(do(page[3], ""), "1 approval by others", "operator.add dora")
	var list struct{ Items []struct{ ID int64 } }
	if err := json.Unmarshal([]byte(w.cli(t, "approval", "list", "--kind", "operator.add", "--json")), &list); err != nil || len(list.Items) != 1 {
		t.Fatalf("%d proposals about operators wait, %v", len(list.Items), err)
	}
	carla := filepath.Join(dir, "carla")
	w.as(t, carla, "--key", filepath.Join(dir, "carla.key"), "approval", "approve", fmt.Sprint(list.Items[0].ID), "--yes")
	do(page[4], "")

	number = raise()
	w.as(t, filepath.Join(dir, "berta"), "approval", "approve", number, "--yes")
	w.as(t, filepath.Join(dir, "dora"), "approval", "approve", number, "--yes")
	w.stop() // which publishes the last checkpoint
	w.serve()
	for from, to := range map[string]string{w.root(): "root.crt", filepath.Join(w.dir, "log", "verifier"): "log.verifier"} {
		if err := os.WriteFile(filepath.Join(dir, to), []byte(read(t, from)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	says(do(page[5], number), "verified", "berta (approver)", "dora (approver)", "in the log")
	_, with, found := strings.Cut(read(t, "guides/approvers.md"), "With openssl, for an ECDSA key on P-256:\n\n```\n")
	commands, _, _ := strings.Cut(with, "```")
	if !found {
		t.Fatal("the guide has no commands of openssl")
	}
	says(do(commands, number), "Verified OK")
	says(w.cli(t, "audit", "verify"), "nothing is wrong")
}
