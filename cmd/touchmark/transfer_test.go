package main

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/touchmark/touchmark/vetting"
)

func TestTransferCommands(t *testing.T) {
	w := newWorld(t)
	one, two := newDevice(t, "A-0001"), newDevice(t, "A-0002")
	w.handIn(t, one, two)
	if code := one.enrol(t, w); code != 200 {
		t.Fatalf("enrolment: %d", code)
	}
	w.admin(t, "owner", "create", "acme", "--description", "Acme AG", "--validity", "30d").want(t, 0, "Acme AG", "30d")
	w.admin(t, "owner", "create", "manufacturer").want(t, exitFailed, "choose another name")
	w.admin(t, "owner", "create", "beta", "--validity", "soon").want(t, exitFailed, "soon")
	w.admin(t, "owner", "list").want(t, 0, "acme")
	w.site(t, "owner", "list").want(t, exitFailed, "read owners")
	w.admin(t, "transfer", "offer", "--to", "acme").want(t, exitUsage, "no device")
	w.admin(t, "transfer", "offer", "A-0009", "--to", "acme").want(t, exitFailed, "no device \"A-0009\"")
	w.admin(t, "transfer", "offer", "A-0001", "--to", "manufacturer").want(t, exitFailed, "to itself")
	sold := filepath.Join(t.TempDir(), "sold.txt")
	if err := os.WriteFile(sold, []byte("A-0001\nA-0002\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	tr := decodeAs[vetting.Transfer](t, w.admin(t, "transfer", "offer", "--file", sold, "--to", "acme", "--json").want(t, 0).out)
	number := fmt.Sprint(tr.ID)
	w.admin(t, "transfer", "offer", "A-0002", "--to", "acme").want(t, exitFailed, "stands in transfer "+number)
	w.admin(t, "transfer", "list", "--state", "offered").want(t, 0, number, "manufacturer", "acme")
	w.admin(t, "transfer", "accept", number).want(t, exitUsage, "certificates are revoked", "--yes")
	w.admin(t, "transfer", "accept", number, "--note", "received", "--yes").want(t, 0, "accepted", "received")
	w.admin(t, "transfer", "accept", number, "--yes").want(t, exitFailed, "is accepted")
	w.admin(t, "transfer", "withdraw", number).want(t, exitFailed, "is accepted")
	w.admin(t, "device", "list", "--owner", "acme").want(t, 0, "A-0001", "A-0002")
	w.admin(t, "device", "list", "--owner", "manufacturer").want(t, 0, "no such devices")
	w.admin(t, "device", "show", "A-0001").want(t, 0, "acme", "manufactured")
	if out := w.site(t, "device", "show", "A-0001", "--json").want(t, 0).out; decodeAs[vetting.Device](t, out).Owner != "" {
		t.Errorf("a site learns whom a device was sold to: %s", out)
	}
	w.site(t, "device", "list", "--owner", "acme").want(t, 0, "no such devices")
	if code := two.enrol(t, w); code != 200 {
		t.Errorf("enrolment at the new owner: %d", code)
	}
	w.admin(t, "transfer", "reverse", number, "--yes").want(t, exitUsage, "note")
	w.admin(t, "transfer", "reverse", number, "--note", "not paid", "--yes").want(t, 0, "reversed", "not paid")
	w.admin(t, "transfer", "devices", number).want(t, 0, "A-0001", "A-0002", "manufactured")
	w.admin(t, "device", "list", "--owner", "acme").want(t, 0, "no such devices")
}
