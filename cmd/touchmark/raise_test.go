package main

import (
	"path/filepath"
	"testing"

	"github.com/touchmark/touchmark/vetting"
)

// Two others approve that an order grows; who asked cannot, and the site
// cannot either.
func TestOrderRaise(t *testing.T) {
	w := newWorld(t)
	people := map[string]string{}
	for _, name := range []string{"paula", "quentin"} {
		people[name] = filepath.Join(t.TempDir(), name)
		w.admin(t, "operator", "add", name, "--role", "planner", "--out", people[name]).want(t, 0)
	}
	as := func(name string, args ...string) ran {
		t.Helper()
		return touchmark(t, append([]string{"--dir", people[name]}, args...)...)
	}
	as("paula", "order", "create", "PO-2", "--product", "thermostat", "--site", "penang", "--quantity", "10", "--raise-approvals", "1").want(t, 0, "need 1 approval")
	as("paula", "order", "set-raise-approvals", "PO-2", "2").want(t, 0, "need 2 approvals")
	as("paula", "order", "set-raise-approvals", "PO-2", "0").want(t, exitFailed, "it can only grow")
	as("paula", "order", "set-raise-approvals", "PO-2", "x").want(t, exitUsage, "no number")
	as("paula", "order", "approve-raise", "PO-2", "15").want(t, exitFailed, "nobody asked")
	as("paula", "order", "set-quantity", "PO-2", "15").want(t, exitUsage, "--note")
	as("paula", "order", "set-quantity", "PO-2", "15", "--note", "50% more").want(t, 0, "from 10 to 15", "pending", "2 approvals by others")
	as("paula", "order", "approve-raise", "PO-2", "15").want(t, exitFailed, "somebody else")
	as("quentin", "order", "raises", "PO-2").want(t, 0, "paula", "50% more", "pending")
	as("quentin", "order", "approve-raise", "PO-2", "51").want(t, exitFailed, "to 15 units, not to 51")
	as("quentin", "order", "approve-raise", "PO-2", "15").want(t, 0, "1 approval by others")
	w.site(t, "order", "approve-raise", "PO-2", "15").want(t, exitFailed, "read proposals")
	r := decodeAs[vetting.Raise](t, w.admin(t, "order", "approve-raise", "PO-2", "15", "--json").want(t, 0).out)
	if r.State != vetting.RaiseApplied || len(r.Approvals) != 2 {
		t.Errorf("%+v", r)
	}
	w.admin(t, "order", "show", "PO-2").want(t, 0, "of 15")
	as("paula", "order", "set-quantity", "PO-2", "12").want(t, 0, "of 12") // nobody is asked
	as("paula", "order", "set-quantity", "PO-2", "20", "--note", "again").want(t, 0, "pending")
	as("quentin", "order", "withdraw-raise", "PO-2", "--note", "not now").want(t, 0, "withdrawn")
	as("paula", "order", "set-quantity", "PO-2", "many").want(t, exitUsage, "no number")
	w.admin(t, "audit", "verify").want(t, 0, "nothing is wrong")
}
