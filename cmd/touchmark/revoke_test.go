package main

import (
	"testing"

	"github.com/touchmark/touchmark/vetting"
)

func TestRevoke(t *testing.T) {
	w := newWorld(t)
	one, two := newDevice(t, "A-0001"), newDevice(t, "A-0002")
	w.handIn(t, one, two)
	for _, d := range []*device{one, two} {
		if code := d.enrol(t, w); code != 200 {
			t.Fatalf("enrolment: %d", code)
		}
	}
	w.admin(t, "device", "revoke", "A-0001").want(t, exitUsage, "note")
	w.admin(t, "device", "revoke", "A-0001", "--reason", "keyCompromise", "--note", "leaked").want(t, exitUsage, "A-0001", "keyCompromise", "--yes")
	w.admin(t, "device", "revoke", "A-0001", "--reason", "certificateHold", "--note", "leaked", "--yes").want(t, exitFailed, "suspend or quarantine")
	d := decodeAs[vetting.Device](t, w.admin(t, "device", "revoke", "A-0001", "--reason", "keyCompromise", "--note", "leaked", "--yes", "--json").want(t, 0).out)
	if d.State != vetting.DeviceIssued {
		t.Errorf("it is %s", d.State)
	}
	w.admin(t, "certificate", "show", d.Certificate).want(t, 0, "revoked", "(keyCompromise)")
	w.admin(t, "device", "revoke", "A-0001", "--note", "leaked", "--yes").want(t, exitFailed, "revoked at", "keyCompromise")
	w.admin(t, "certificate", "revoke", d.Certificate, "--note", "leaked", "--yes").want(t, exitFailed, "revoked at", "keyCompromise")
	w.admin(t, "device", "resume", "A-0001", "--note", "found").want(t, exitFailed, "issued")
	if code := one.enrol(t, w); code != 403 {
		t.Errorf("a revoked device asked again: %d", code)
	}
	if code := two.enrol(t, w); code != 200 {
		t.Errorf("the other device asked again: %d", code)
	}
	w.site(t, "device", "revoke", "A-0002", "--note", "leaked", "--yes").want(t, exitFailed, "does not include the permission to manage devices")
}
