package main

import (
	"fmt"
	"path/filepath"
	"testing"

	"github.com/touchmark/touchmark/server/api"
)

// Once the installation says so, one administrator alone changes no issuing CA
// and adds nobody who may approve.
func TestGuardedInstallation(t *testing.T) {
	w := newWorld(t)
	people := map[string]string{}
	for _, name := range []string{"berta", "carla", "paula"} {
		people[name] = filepath.Join(t.TempDir(), name)
	}
	as := func(name string, args ...string) ran {
		t.Helper()
		return touchmark(t, append([]string{"--dir", people[name], "--server", "https://" + w.server.Addr["api"]}, args...)...)
	}
	w.admin(t, "approval", "policy").want(t, 0, "nobody is asked")
	w.admin(t, "approval", "policy", "--cas", "1").want(t, exitFailed, "2 administrators and approvers")
	w.admin(t, "operator", "add", "paula", "--role", "planner", "--out", people["paula"]).want(t, 0)
	w.admin(t, "operator", "add", "berta", "--role", "approver", "--out", people["berta"]).want(t, 0)
	as("berta", "approval", "policy", "--cas", "1").want(t, exitFailed, "manage operators")
	w.admin(t, "approval", "policy", "--cas", "1", "--operators", "1").want(t, 0, "1 approval by others")
	w.admin(t, "approval", "policy", "--cas", "0").want(t, exitFailed, "can only grow")
	var last string
	agreed := func(want string, args ...string) {
		t.Helper()
		w.admin(t, args...).want(t, exitUsage, "1 approval", "--note")
		p := decodeAs[api.Proposal](t, w.admin(t, append(args, "--note", "the plan of 2027", "--json")...).want(t, 0).out)
		last = fmt.Sprint(p.ID)
		as("berta", "approval", "show", last).want(t, 0, want)
		w.admin(t, "approval", "approve", last, "--yes").want(t, exitFailed, "somebody else")
		as("paula", "approval", "approve", last, "--yes").want(t, exitFailed, "does not approve")
		as("berta", "approval", "approve", last, "--yes").want(t, 0, "carried-out")
	}
	agreed("of CN=acme,", "issuer", "create", "acme", "--dir", w.dir)
	w.admin(t, "issuer", "show", "acme").want(t, 0, "owners that name it")
	agreed("ca.default acme", "issuer", "default", "acme")
	w.admin(t, "issuer", "show", "acme").want(t, 0, "all others")
	agreed("acme", "issuer", "default", "device-ca")
	agreed("ca.close acme", "issuer", "close", "acme")
	w.admin(t, "issuer", "show", "acme").want(t, 0, "nobody")
	agreed("ca.reopen acme", "issuer", "reopen", "acme")

	bundle := filepath.Join(t.TempDir(), "bundle")
	as("berta", "approval", "export", last, "-o", bundle).want(t, 0)
	touchmark(t, "approval", "verify", bundle, "--root", filepath.Join(people["berta"], "root.crt")).want(t, 0, "verified", "ca.reopen acme", "berta (approver)")

	agreed("role", "operator", "add", "carla", "--role", "approver", "--out", people["carla"])
	w.admin(t, "operator", "certify", "carla", "--out", people["carla"]).want(t, 0, "carla", "approver")
	as("carla", "operator", "whoami").want(t, 0, "approver")
	w.admin(t, "operator", "certify", "dora", "--out", filepath.Join(t.TempDir(), "dora")).want(t, exitFailed, "no operator")
	w.admin(t, "operator", "add", "sue", "--role", "support", "--out", filepath.Join(t.TempDir(), "sue")).want(t, 0) // who approves nothing
	w.admin(t, "approval", "policy", "--cas", "2").want(t, 0, "2 approvals by others")
	w.admin(t, "audit", "verify").want(t, 0, "nothing is wrong")
}
