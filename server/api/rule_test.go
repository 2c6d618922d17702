package api_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/touchmark/touchmark/vetting"
	"github.com/touchmark/touchmark/vetting/rules"
)

func aRule(expression string) map[string]any {
	return map[string]any{"name": "r", "expression": expression, "otherwise": "refused", "text": "No."}
}

// A rule that says nothing certain is not saved, and the planner learns why.
func TestBadRulesAreNotSaved(t *testing.T) {
	w := newWorld(t)
	for expression, want := range map[string]string{
		`record.sreial == "1"`: "undefined field 'sreial'",
		`record.serial`:        "must be a bool",
		`record.serial == `:    "Syntax error",
		``:                     "no expression",
		`record.tests.a.all(x, record.tests.a.all(y, x == y))`: "can cost up to",
	} {
		body := map[string]any{"profile": map[string]any{"validity": "10d"}, "proofs": []string{"rig"}, "revision": 3, "rules": []any{aRule(expression)}}
		refused(t, w.as("planner", "PUT", "/products/lamp", body), 422, want)
		refused(t, w.as("planner", "POST", "/products/lamp/rule-trials", map[string]any{"rules": []any{aRule(expression)}}), 422, want)
	}
	made := map[string]any{"name": "ruled", "profile": map[string]any{"validity": "10d"}, "proofs": []string{"rig"}, "awaitRecords": "72h", "rules": []any{aRule(`true`)}}
	if p := decode[vetting.Product](t, w.as("planner", "POST", "/products", made), 201); len(p.Rules) != 1 || p.AwaitRecords != "72h" {
		t.Errorf("%+v", p)
	}
	if p := decode[vetting.Product](t, w.as("planner", "GET", "/products/lamp", nil), 200); len(p.Rules) != 0 {
		t.Errorf("%+v", p.Rules)
	}
	body := map[string]any{"profile": map[string]any{"validity": "10d"}, "proofs": []string{"rig"}, "revision": 3, "rules": []any{aRule(`record.line == "L1"`)}}
	if p := decode[vetting.Product](t, w.as("planner", "PUT", "/products/lamp", body), 200); len(p.Rules) != 1 || p.Rules[0].Text != "No." {
		t.Errorf("%+v", p.Rules)
	}
}

// Four devices were let in within a minute, and one that was refused before
// came again: what would rules have done?
func TestTrial(t *testing.T) {
	w := newWorld(t)
	begin := time.Date(2026, 11, 20, 8, 1, 0, 0, time.UTC)
	order := &vetting.Order{ID: 7, Name: "PO-1"}
	add := func(minute int, device int64, outcome vetting.Outcome, code vetting.Code) {
		w.store.past = append(w.store.past, vetting.Past{
			Registration: &vetting.Registration{ID: int64(len(w.store.past) + 1), At: begin.Add(time.Duration(minute) * time.Minute), DeviceID: device, Outcome: outcome,
				Reasons: []vetting.Reason{{Code: code}}, Claim: vetting.Claim{Auth: vetting.Auth{Proof: vetting.ProofRig, Operator: "rig-1"}}},
			Record: &vetting.Record{ID: device, Identity: vetting.Identity{Serial: fmt.Sprint("SN-", device)}, Made: vetting.Manufacturing{Line: "L1"}}, Order: order,
		})
	}
	add(0, 1, vetting.Admitted, vetting.ReasonVetted)
	add(1, 2, vetting.Refused, vetting.ReasonOrderClosed)
	add(2, 2, vetting.Admitted, vetting.ReasonVetted)
	add(3, 3, vetting.Admitted, vetting.ReasonVetted)
	add(4, 3, vetting.Admitted, vetting.ReasonReplaced) // no unit, and not judged by rules
	add(120, 4, vetting.Admitted, vetting.ReasonVetted)
	for i, word := range map[int]bool{0: true, 2: true, 3: false} { // the fourth nobody tested
		w.store.past[i].Test = &vetting.TestResult{Passed: word, Rig: "rig-1"}
	}
	for expression, want := range map[string][]string{
		`true`:                        nil,
		`history.order_last_hour < 2`: {"SN-3"},
		`history.rig_last_hour < 1`:   {"SN-2", "SN-3"},
		`history.order_last_day < 3`:  {"SN-4"},
		`history.refusals == 0`:       {"SN-2"},
		`test.passed`:                 {"SN-3", "SN-4"},
		`record.line == "L2"`:         {"SN-1", "SN-2", "SN-3", "SN-4"},
		`now.getHours() < 10`:         {"SN-4"},
	} {
		got := decode[rules.Trial](t, w.as("planner", "POST", "/products/lamp/rule-trials", map[string]any{"rules": []any{aRule(expression)}}), 200)
		var serials []string
		for _, c := range got.Cases {
			serials = append(serials, c.Serial)
			if c.Verdict != vetting.Refused || len(c.Reasons) != 1 || c.Order != "PO-1" {
				t.Errorf("%+v", c)
			}
		}
		if got.Looked != 4 || got.Refused != int64(len(want)) || fmt.Sprint(serials) != fmt.Sprint(want) {
			t.Errorf("%s: %d of %d, %v; want %v", expression, got.Refused, got.Looked, serials, want)
		}
	}
	late := map[string]any{"rules": []any{aRule(`false`)}, "since": begin.Add(time.Hour)}
	if got := decode[rules.Trial](t, w.as("planner", "POST", "/products/lamp/rule-trials", late), 200); got.Looked != 1 || got.Refused != 1 {
		t.Errorf("%+v", got)
	}
	refused(t, w.as("planner", "POST", "/products/none/rule-trials", map[string]any{"rules": []any{aRule(`true`)}}), 404)
}
