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

// TestOwnersOperator is a transfer as the next owner's people see it.
func TestOwnersOperator(t *testing.T) {
	w := newWorld(t)
	one := newDevice(t, "A-0001")
	w.handIn(t, one, newDevice(t, "A-0002"))
	for _, owner := range []string{"acme", "beta"} {
		w.admin(t, "owner", "create", owner).want(t, 0)
	}
	dir := filepath.Join(t.TempDir(), "olga")
	w.admin(t, "operator", "add", "olga", "--role", "owner-operator", "--out", dir).want(t, exitUsage, "belongs to an owner")
	w.admin(t, "operator", "add", "olga", "--role", "planner", "--owner", "acme", "--out", dir).want(t, exitUsage, "does not belong to an owner")
	w.admin(t, "operator", "add", "olga", "--role", "owner-operator", "--owner", "zeta", "--out", dir).want(t, exitFailed, "no owner zeta")
	w.admin(t, "operator", "add", "olga", "--role", "owner-operator", "--owner", "acme", "--out", dir).want(t, 0, "owner-operator", "acme")
	olga := func(args ...string) ran { return touchmark(t, append([]string{"--dir", dir}, args...)...) }
	olga("operator", "whoami").want(t, 0, "acme", "transfer devices")
	olga("device", "list").want(t, 0, "no such devices")
	offer := func() string {
		return fmt.Sprint(decodeAs[vetting.Transfer](t, w.admin(t, "transfer", "offer", "A-0001", "--to", "acme", "--json").want(t, 0).out).ID)
	}
	olga("transfer", "decline", offer(), "--note", "not ordered").want(t, 0, "declined")
	number := offer()
	olga("transfer", "list", "--state", "offered").want(t, 0, number)
	olga("transfer", "devices", number).want(t, 0, "A-0001")
	olga("transfer", "withdraw", number).want(t, exitFailed, "for manufacturer to do")
	olga("transfer", "accept", number, "--yes").want(t, 0, "accepted")
	olga("device", "list").want(t, 0, "A-0001")
	olga("device", "show", "A-0002").want(t, exitFailed)
	if code := one.enrol(t, w); code != 200 {
		t.Fatalf("enrolment at the new owner: %d", code)
	}
	olga("verify", "A-0001").want(t, 0, "genuine")
	olga("event", "tail", "--since", "0-0").want(t, 0, "transfer.accept", "device.admitted")
	olga("device", "history", "A-0001").want(t, 0, "A-0001")
	olga("order", "list").want(t, exitFailed, "read production")
	olga("transfer", "offer", "A-0002", "--to", "beta").want(t, exitFailed, "no device")
	olga("transfer", "offer", "A-0001", "--from", "manufacturer", "--to", "beta").want(t, exitFailed, "no owner")
	away := decodeAs[vetting.Transfer](t, olga("transfer", "offer", "A-0001", "--to", "beta", "--json").want(t, 0).out)
	if away.From != "acme" || away.Steps[0].Owner != "acme" {
		t.Errorf("acme's operator offered %+v", away)
	}
	w.admin(t, "transfer", "accept", fmt.Sprint(away.ID), "--yes").want(t, 0)
	olga("device", "list").want(t, 0, "no such devices")
	olga("device", "show", "A-0001").want(t, exitFailed)
	olga("verify", "A-0001").want(t, exitUnknown, "unknown")
	olga("transfer", "devices", fmt.Sprint(away.ID)).want(t, 0, "A-0001")
}
