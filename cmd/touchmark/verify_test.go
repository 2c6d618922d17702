package main

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/touchmark/touchmark/server/api"
)

func TestVerify(t *testing.T) {
	w := newWorld(t)
	w.site(t, "manifest", "upload", "PO-1", manifestFile(t, 3), "--sign").want(t, 0)
	const serial = "A-000001"
	w.admin(t, "verify", serial).want(t, 0, "genuine", "never been let in", "thermostat")
	w.site(t, "verify", "SN:"+serial, "--product", "thermostat").want(t, 0, "genuine")
	w.admin(t, "verify", "X-1").want(t, exitUnknown, "unknown", "No manufacturing record")
	w.admin(t, "verify", serial, "--product", "lamp").want(t, exitSuspect, "does not belong together")
	w.admin(t, "verify").want(t, exitUsage, "what is known of the device?")
	w.admin(t, "verify", "EHQQ-ARV8-DNGQ-4TS6").want(t, exitFailed, "one-time enrolment code")
	r := decodeAs[api.VerifyResult](t, w.admin(t, "verify", "--serial", serial, "--history", "--json").want(t, 0).out)
	if r.Verdict != "genuine" || r.History == nil || r.History.Record.Serial != serial {
		t.Errorf("as JSON: %+v", r)
	}
	// An operator's certificate is ours, but no device's.
	w.admin(t, "verify", filepath.Join(w.dir, "admin.crt")).want(t, exitUnknown, "no CA of ours")
	w.admin(t, "verify", filepath.Join(w.dir, "admin.key")).want(t, exitFailed, "no certificate in PEM")

	w.admin(t, "device", "scrap", serial, "--note", "broken", "--yes").want(t, 0)
	w.admin(t, "verify", serial).want(t, exitFailed, "counterfeit", "was destroyed")
}

func TestEvidenceIsCleared(t *testing.T) {
	w := newWorld(t)
	w.site(t, "manifest", "upload", "PO-1", manifestFile(t, 3), "--sign").want(t, 0)
	twin := filepath.Join(t.TempDir(), "twin.jsonl")
	if err := os.WriteFile(twin, fmt.Appendf(nil, "{\"serial\":\"A-000001\",\"bootstrapKey\":\"%064x\"}\n", 99), 0o600); err != nil {
		t.Fatal(err)
	}
	w.site(t, "manifest", "upload", "PO-1", twin, "--sign").want(t, 0, "1 disputed")
	w.admin(t, "verify", "A-000001").want(t, exitSuspect, "Another record claims", "duplicate-serial")
	w.admin(t, "evidence", "clear", "--note", "x").want(t, exitUsage, "--device")
	w.site(t, "evidence", "clear", "--device", "A-000001", "--note", "x").want(t, exitFailed, "clear evidence")
	w.admin(t, "evidence", "clear", "--device", "A-000001", "--note", "handed in twice").want(t, 0, "cleared: handed in twice")
	w.admin(t, "verify", "A-000001").want(t, 0, "genuine")
	w.admin(t, "evidence", "list", "--open").want(t, 0, "no such evidence")
	w.admin(t, "evidence", "list", "--device", "none").want(t, exitFailed, `serial number "none"`)
	list := decodeAs[struct{ Items []struct{ ID int64 } }](t, w.admin(t, "evidence", "list", "--json").want(t, 0).out)
	id := number(list.Items[0].ID)
	w.admin(t, "evidence", "clear", id, "--note", "x").want(t, exitFailed, "cleared already")
	w.admin(t, "evidence", "reopen", id, "--note", "it was a copy").want(t, 0, "duplicate-serial")
	w.admin(t, "evidence", "list", "--open", "--device", "A-000001").want(t, 0, "duplicate-serial")
	w.admin(t, "verify", "A-000001").want(t, exitSuspect)
}
