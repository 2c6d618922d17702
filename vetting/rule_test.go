package vetting_test

import (
	"strings"
	"testing"

	"github.com/touchmark/touchmark/vetting"
)

func TestRuleText(t *testing.T) {
	b := vetting.BrokenRule{Rule: &vetting.Rule{Name: "rate", Expression: "a < b", Text: "Slow down."}, Values: map[string]string{"b": "2", "a": "3"}}
	if got, want := b.Text("lamp", 3), "Slow down. (rule rate of version 3 wants a < b; a is 3, b is 2)"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	b = vetting.BrokenRule{Rule: &vetting.Rule{Name: "rate", Expression: "false"}}
	if got, want := b.Text("lamp", 0), `The device does not meet the rule "rate" of product lamp. (rule rate wants false)`; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestCheckRules(t *testing.T) {
	good := vetting.Rule{Name: "r", Expression: "true", Otherwise: vetting.Held}
	for want, change := range map[string]func(p *vetting.Product){
		"":                          func(*vetting.Product) {},
		"no expression":             func(p *vetting.Product) { p.Rules[0].Expression = "" },
		"2001 bytes long":           func(p *vetting.Product) { p.Rules[0].Expression = strings.Repeat("x", 2001) },
		`cannot be "admitted"`:      func(p *vetting.Product) { p.Rules[0].Otherwise = vetting.Admitted },
		`cannot be ""`:              func(p *vetting.Product) { p.Rules[0].Otherwise = "" },
		"two rules are called":      func(p *vetting.Product) { p.Rules = append(p.Rules, p.Rules[0]) },
		"at most 20":                func(p *vetting.Product) { p.Rules = make([]vetting.Rule, 21) },
		"holds a control character": func(p *vetting.Product) { p.Rules[0].Text = "\x1b[31m" },
		"rule":                      func(p *vetting.Product) { p.Rules[0].Name = "a b" },
	} {
		p := &vetting.Product{Name: "lamp", Proofs: []vetting.Proof{vetting.ProofRig}, Rules: []vetting.Rule{good}}
		change(p)
		err := p.Check()
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

func TestLimitsCheck(t *testing.T) {
	o := vetting.Order{Name: "PO-1", Quantity: 1, ManifestSignatures: 1, Limits: vetting.Limits{PerDay: -1}}
	if err := o.Check(); err == nil || !strings.Contains(err.Error(), "perDay is -1") {
		t.Error(err)
	}
}
