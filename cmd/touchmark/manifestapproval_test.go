package main

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/touchmark/touchmark/server/api"
	"github.com/touchmark/touchmark/vetting"
)

// A manifest of an order that wants approvals is loaded when others have
// signed what the site signed.
func TestManifestApproval(t *testing.T) {
	w := newWorld(t)
	people := map[string]string{}
	for _, name := range []string{"berta", "carla"} {
		people[name] = filepath.Join(t.TempDir(), name)
		w.admin(t, "operator", "add", name, "--role", "approver", "--out", people[name]).want(t, 0)
	}
	as := func(name string, args ...string) ran {
		t.Helper()
		return touchmark(t, append([]string{"--dir", people[name], "--server", "https://" + w.server.Addr["api"]}, args...)...)
	}
	w.admin(t, "product", "update", "thermostat", "--manifest-approvals", "1").want(t, 0, "need 1 approval")
	w.admin(t, "order", "create", "PO-2", "--product", "thermostat", "--site", "penang", "--quantity", "10", "--open", "--manifest-approvals", "1").want(t, 0)
	w.admin(t, "order", "set-manifest-approvals", "PO-2", "2").want(t, 0, "need 2 approvals")
	w.admin(t, "order", "set-manifest-approvals", "PO-2", "1").want(t, exitFailed, "it can only grow")
	file := filepath.Join(t.TempDir(), "units.jsonl")
	if err := os.WriteFile(file, []byte(fmt.Sprintf(`{"serial":"X-1","bootstrapKey":"%064x"}`+"\n", 7)), 0o600); err != nil {
		t.Fatal(err)
	}
	m := decodeAs[vetting.Manifest](t, w.site(t, "manifest", "upload", "PO-2", file, "--sign", "--json").want(t, 0).out)
	w.site(t, "manifest", "show", fmt.Sprint(m.ID)).want(t, 0, "unapproved", "2 approvals by others", fmt.Sprintf("approval approve %d", m.Proposal))
	n := fmt.Sprint(m.Proposal)
	as("berta", "approval", "show", n).want(t, 0, "manifest.accept", m.SHA256, "records", "penang", "PO-2", "signers", m.Signers[0])
	as("berta", "approval", "approve", n, "--yes").want(t, 0, "1 approval by others")
	as("carla", "approval", "withdraw", n, "--note", "who built these?").want(t, 0, "withdrawn")
	as("carla", "approval", "approve", n, "--yes").want(t, exitFailed, "was withdrawn")
	w.site(t, "manifest", "show", fmt.Sprint(m.ID)).want(t, 0, "manifest ask")
	w.site(t, "manifest", "ask", fmt.Sprint(m.ID)).want(t, exitUsage, "note")
	m = decodeAs[vetting.Manifest](t, w.site(t, "manifest", "ask", fmt.Sprint(m.ID), "--note", "line 2 did", "--json").want(t, 0).out)
	n = fmt.Sprint(m.Proposal)
	as("berta", "approval", "approve", n, "--yes").want(t, 0)
	p := decodeAs[api.Proposal](t, as("carla", "approval", "approve", n, "--yes", "--json").want(t, 0).out)
	w.site(t, "manifest", "upload", "PO-2", file, "--sign").want(t, 0, "loaded", "1 new") // the same file: it waits until the records are there
	bundle := filepath.Join(t.TempDir(), "bundle")
	as("berta", "approval", "export", fmt.Sprint(p.ID), "-o", bundle).want(t, 0)
	touchmark(t, "approval", "verify", bundle, "--root", filepath.Join(people["berta"], "root.crt")).want(t, 0, "verified", m.SHA256)
	w.admin(t, "audit", "verify").want(t, 0, "nothing is wrong")
}
