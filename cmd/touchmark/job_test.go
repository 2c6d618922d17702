package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/touchmark/touchmark/vetting"
)

func TestJobs(t *testing.T) {
	w := newWorld(t)
	var devices []*device
	for n := range 4 {
		devices = append(devices, newDevice(t, fmt.Sprintf("A-000%d", n)))
	}
	w.handIn(t, devices...)
	for _, d := range devices[:3] {
		if code := d.enrol(t, w); code != 200 {
			t.Fatalf("enrolment: %d", code)
		}
	}
	revoke := func(args ...string) ran {
		t.Helper()
		return w.admin(t, append([]string{"device", "revoke", "--note", "leaked", "--reason", "keyCompromise"}, args...)...)
	}
	revoke().want(t, exitUsage, "which device?")
	revoke("A-0001", "--order", "PO-1").want(t, exitUsage, "one or the other")
	revoke("--order", "PO-9").want(t, exitFailed, "there is no order PO-9")
	revoke("--made-before", "soon").want(t, exitUsage, "is no time")
	revoke("--serials-file", "nowhere").want(t, exitFailed, "--serials-file")
	revoke("--order", "PO-1", "--dry-run").want(t, 0, "planned", "4 devices, of which 3 would change", "1 manufactured: it has no certificate", "A-0000")
	revoke("--order", "PO-1").want(t, exitUsage, "3 devices will be changed", "--yes")
	revoke("--serials", "A-0003", "--yes").want(t, exitFailed, "no device would change")

	file := filepath.Join(t.TempDir(), "serials")
	if err := os.WriteFile(file, []byte("A-0000\n\nA-0001\nZ-1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	out := revoke("--serials-file", file, "--yes", "--wait", "--json").want(t, 0, "2 devices will be changed").out
	j := decodeAs[vetting.Job](t, out)
	if j.State != vetting.JobDone || j.Worked.Changes != 2 || j.UnknownCount != 1 || j.Listed != 3 {
		t.Errorf("the job is %s", out)
	}
	id := fmt.Sprint(j.ID)
	w.admin(t, "job", "show", id, "--wait").want(t, 0, "done", "revoke keyCompromise", "2 devices, of which 2 changed", "Z-1")
	w.admin(t, "job", "list").want(t, 0, "leaked", "planned", "done")
	w.admin(t, "job", "devices", id).want(t, 0, "A-0001", "its certificates are revoked already")
	w.admin(t, "job", "cancel", id, "--note", "no").want(t, exitFailed, "is done, not running")
	w.admin(t, "job", "resume", id, "--note", "no").want(t, exitFailed, "is done, not cancelled")
	w.admin(t, "device", "renew", "--order", "PO-1", "--note", "move", "--spread", "2d", "--yes", "--wait").want(t, 0, "48h0m0s", "1 changed")
	w.admin(t, "device", "renew", "--order", "PO-1", "--note", "move", "--spread", "soon", "--yes").want(t, exitUsage, "--spread")
	w.admin(t, "device", "scrap", "--serials", "A-0003", "--note", "cracked", "--yes", "--wait").want(t, 0, "1 changed")
	w.admin(t, "order", "show", "PO-1").want(t, 0, "1 (waste counts)")
	if out := w.site(t, "job", "list").want(t, exitFailed); !strings.Contains(out.err, "permission") {
		t.Error(out.err)
	}
	w.site(t, "device", "scrap", "--all", "--note", "x", "--yes").want(t, exitFailed, "permission to manage devices")
}
