package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/touchmark/touchmark/internal/approval"
	"github.com/touchmark/touchmark/server/api"
	"github.com/touchmark/touchmark/vetting"
)

// People look at a proposal and sign it; what they agreed to is proved
// offline.
func TestApprovals(t *testing.T) {
	w := newWorld(t)
	people := map[string]string{}
	for name, role := range map[string]string{"paula": "planner", "berta": "approver", "carla": "approver", "sue": "auditor"} {
		people[name] = filepath.Join(t.TempDir(), name)
		w.admin(t, "operator", "add", name, "--role", role, "--out", people[name]).want(t, 0)
	}
	as := func(name string, args ...string) ran {
		t.Helper()
		return touchmark(t, append([]string{"--dir", people[name], "--server", "https://" + w.server.Addr["api"]}, args...)...)
	}
	as("paula", "order", "create", "PO-2", "--product", "thermostat", "--site", "penang", "--quantity", "10", "--raise-approvals", "2").want(t, 0)
	as("berta", "approval", "list").want(t, 0, "No proposal")
	raise := decodeAs[vetting.Raise](t, as("paula", "order", "set-quantity", "PO-2", "15", "--note", "50% more", "--json").want(t, 0).out)
	n := fmt.Sprint(raise.ID)
	as("berta", "approval", "list").want(t, 0, n, "order.raise", "PO-2", "pending", "paula", "50% more")
	p := decodeAs[api.Proposal](t, as("sue", "approval", "show", n, "--json").want(t, 0).out)

	as("berta", "approval", "approve", n).want(t, exitUsage, "to        15", "asked by    paula", p.Digest, "exactly this", "--yes")
	as("berta", "approval", "approve", n, "--yes", "--digest", strings.Repeat("0", 64)).want(t, exitFailed, "nothing was signed")
	as("berta", "approval", "approve", "first", "--yes").want(t, exitUsage, "no number")
	as("berta", "approval", "approve", "999999", "--yes").want(t, exitFailed, "there is no proposal")
	as("paula", "approval", "approve", n, "--yes").want(t, exitFailed, "somebody else")
	as("sue", "approval", "approve", n, "--yes").want(t, exitFailed, "approve proposals")
	w.site(t, "approval", "show", n).want(t, exitFailed, "read proposals")
	as("berta", "approval", "approve", n, "--yes", "--digest", p.Digest).want(t, 0, "pending", "1 approval by others")
	as("berta", "approval", "approve", n, "--yes").want(t, exitFailed, "already")
	as("carla", "approval", "retract", n, "--note", "not mine").want(t, exitFailed, "did not approve")
	as("berta", "approval", "retract", n).want(t, exitUsage, "note")
	as("berta", "approval", "retract", n, "--note", "looked again").want(t, 0, "2 approvals by others")
	as("berta", "approval", "approve", n, "--yes").want(t, 0)

	early := filepath.Join(t.TempDir(), "early")
	root, verifier := filepath.Join(people["berta"], "root.crt"), filepath.Join(w.dir, "log", "verifier")
	as("sue", "approval", "export", n, "-o", early).want(t, 0)
	touchmark(t, "approval", "verify", early, "--root", root).want(t, exitFailed, "1 of 2")
	as("carla", "approval", "approve", n, "--yes").want(t, 0, "carried-out", "berta, carla")
	as("berta", "approval", "withdraw", n, "--note", "too late").want(t, exitFailed, "was carried out")
	w.admin(t, "order", "show", "PO-2").want(t, 0, "of 15")

	w.server.stop(t) // which publishes the last checkpoint
	w.server = serve(t, w.dir)
	bundle := filepath.Join(t.TempDir(), "bundle")
	as("sue", "approval", "export", n, "-o", bundle).want(t, 0)
	touchmark(t, "approval", "verify", bundle, "--root", root).want(t, 0, "verified", "berta (approver)", "carla (approver)", p.Digest)
	touchmark(t, "approval", "verify", bundle, "--root", root, "--verifier", verifier).want(t, 0, "in the log")
	touchmark(t, "approval", "verify", bundle, "--root", filepath.Join(people["berta"], "berta.crt")).want(t, exitFailed)
	touchmark(t, "approval", "verify", early, "--root", root, "--verifier", verifier).want(t, exitFailed)
	touchmark(t, "approval", "verify", root, "--root", root).want(t, exitFailed, "not a bundle")

	text, err := os.ReadFile(bundle)
	if err != nil {
		t.Fatal(err)
	}
	b, err := approval.ReadBundle(text)
	if err != nil {
		t.Fatal(err)
	}
	forged := strings.Replace(string(text), `"by":"carla"`, `"by":"paula"`, 1)
	if forged == string(text) || len(b.Signers) != 2 {
		t.Fatalf("the bundle is %s", text)
	}
	if err := os.WriteFile(bundle, []byte(forged), 0o600); err != nil {
		t.Fatal(err)
	}
	touchmark(t, "approval", "verify", bundle, "--root", root).want(t, exitFailed, "carla")

	decodeAs[vetting.Raise](t, as("paula", "order", "set-quantity", "PO-2", "20", "--note", "again", "--json").want(t, 0).out)
	list := w.admin(t, "approval", "list", "--kind", "order.raise", "--subject", "PO-2", "--json").want(t, 0).out
	pending := decodeAs[api.List[api.Proposal]](t, list).Items
	if len(pending) != 1 {
		t.Fatalf("%d proposals wait", len(pending))
	}
	as("carla", "approval", "withdraw", fmt.Sprint(pending[0].ID), "--note", "not now").want(t, 0, "withdrawn", "carla: not now")
	w.admin(t, "approval", "list", "--state", "withdrawn").want(t, 0, "again")
	w.admin(t, "audit", "verify").want(t, 0, "nothing is wrong")
}
