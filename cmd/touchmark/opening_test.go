package main

import (
	"fmt"
	"path/filepath"
	"testing"

	"github.com/touchmark/touchmark/internal/approval"
	"github.com/touchmark/touchmark/server/api"
)

// An order of a product that wants approvals opens when others have signed all
// that it says.
func TestOrderOpensByApproval(t *testing.T) {
	w := newWorld(t)
	people := map[string]string{}
	for name, role := range map[string]string{"paula": "planner", "quentin": "planner", "berta": "approver", "rita": "release-engineer"} {
		people[name] = filepath.Join(t.TempDir(), name)
		w.admin(t, "operator", "add", name, "--role", role, "--out", people[name]).want(t, 0)
	}
	as := func(name string, args ...string) ran {
		t.Helper()
		return touchmark(t, append([]string{"--dir", people[name], "--server", "https://" + w.server.Addr["api"]}, args...)...)
	}
	as("paula", "product", "update", "thermostat", "--order-approvals", "2", "--order-approvals-above", "10").want(t, 0, "above 10 units open with 2 approvals")
	as("paula", "product", "update", "thermostat", "--order-approvals", "1").want(t, exitFailed, "can only grow")
	as("paula", "product", "update", "thermostat", "--order-approvals-above", "11").want(t, exitFailed, "can only fall")
	create := []string{"order", "create", "PO-2", "--product", "thermostat", "--site", "penang", "--quantity", "11", "--serials", "A-1..A-9", "--serials", "B-1"}
	as("paula", append(create, "--open")...).want(t, exitFailed, "approval of 2 others", "order open PO-2")
	as("paula", append(create, "--not-after", "2099-01-01T00:00:00Z", "--per-hour", "5")...).want(t, 0, "draft")
	as("paula", "order", "create", "PO-3", "--product", "thermostat", "--site", "penang", "--quantity", "10", "--open").want(t, 0, "open")

	as("paula", "order", "open", "PO-2").want(t, exitUsage, "2 approvals", "--note")
	p := decodeAs[api.Proposal](t, as("paula", "order", "open", "PO-2", "--note", "the customer ordered", "--json").want(t, 0).out)
	n := fmt.Sprint(p.ID)
	as("berta", "approval", "show", n).want(t, 0, "order.open PO-2", "thermostat", "penang", "quantity            11", "A-1..A-9, B-1", "2099-01-01T00:00:00Z", "perHour", "the customer ordered")
	as("paula", "approval", "approve", n, "--yes").want(t, exitFailed, "somebody else")
	as("rita", "approval", "approve", n, "--yes").want(t, exitFailed, "does not approve")
	as("berta", "approval", "approve", n, "--yes").want(t, 0)
	as("quentin", "order", "open", "PO-2").want(t, exitUsage, "--note") // one more does not open it
	as("paula", "order", "set-limits", "PO-2", "--per-hour", "500").want(t, 0)
	as("quentin", "approval", "approve", n, "--yes").want(t, exitFailed, "void", "the order was changed since")

	p = decodeAs[api.Proposal](t, as("paula", "order", "open", "PO-2", "--note", "with another rate", "--json").want(t, 0).out)
	n = fmt.Sprint(p.ID)
	as("berta", "approval", "approve", n, "--yes").want(t, 0)
	if done := decodeAs[api.Proposal](t, as("quentin", "approval", "approve", n, "--yes", "--json").want(t, 0).out); done.State != approval.CarriedOut {
		t.Errorf("%+v", done)
	}
	as("paula", "order", "show", "PO-2").want(t, 0, "open", "others agreed to it")
	as("paula", "order", "set-window", "PO-2", "--not-after", "none").want(t, exitFailed, "pause it")
	as("paula", "order", "set-quantity", "PO-2", "12").want(t, exitUsage, "2 approvals", "--note")
	as("paula", "order", "set-quantity", "PO-2", "12", "--note", "one more").want(t, 0, "2 approvals by others")

	bundle := filepath.Join(t.TempDir(), "bundle")
	as("berta", "approval", "export", n, "-o", bundle).want(t, 0)
	touchmark(t, "approval", "verify", bundle, "--root", filepath.Join(people["berta"], "root.crt")).want(t, 0, "verified", "berta (approver)", "quentin (planner)", "quantity")
	w.admin(t, "audit", "verify").want(t, 0, "nothing is wrong")
}
