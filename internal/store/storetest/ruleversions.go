package storetest

import (
	"github.com/touchmark/touchmark/vetting"
)

var ruleVersionCases = []conformance{
	{"each change of a product's rules is kept", rulesAreKept},
}

func aRule(name, expression string) vetting.Rule {
	return vetting.Rule{Name: name, Expression: expression, Otherwise: vetting.Held}
}

// setRules changes the rules of a product, and says who did it and when by
// the leaf that is written.
func (t *trial) setRules(p *vetting.Product, by string, rules ...vetting.Rule) *vetting.Product {
	t.Helper()
	changed := *p
	changed.Rules, changed.RulesVersion = rules, 77 // a client's word, which does not count
	return ok(t.store.UpdateProduct(t.ctx, keyed(by, "", ""), &changed))(t)
}

func rulesAreKept(t *trial) {
	p := t.product("thermo")
	t.product("lamp")
	same(t, "without rules", ok(t.store.RuleVersions(t.ctx, "thermo", vetting.Page{}))(t), []*vetting.RuleVersion{})
	leaf := t.leaves()
	p = t.setRules(p, "anna", aRule("a", "1 < 2"))
	p = t.setRules(p, "berta", aRule("a", "1 < 3"), aRule("b", "true"))
	same(t, "version", p.RulesVersion, 2)
	p.Description = "for walls"
	p = t.setRules(p, "carla", p.Rules...) // changes something else
	same(t, "version", p.RulesVersion, 2)
	t.setRules(p, "dora")
	same(t, "version", ok(t.store.Product(t.ctx, "thermo"))(t).RulesVersion, 3)
	list := ok(t.second().RuleVersions(t.ctx, "thermo", vetting.Page{}))(t)
	want := []*vetting.RuleVersion{
		{Version: 3, By: "operator:dora", Leaf: leaf + 3},
		{Version: 2, By: "operator:berta", Leaf: leaf + 1, Rules: []vetting.Rule{aRule("a", "1 < 3"), aRule("b", "true")}},
		{Version: 1, By: "operator:anna", Leaf: leaf, Rules: []vetting.Rule{aRule("a", "1 < 2")}},
	}
	for i, v := range list {
		if v.ID == 0 || v.At.IsZero() {
			t.Errorf("version %+v", v)
		}
		want[i].ID, want[i].At = v.ID, v.At
	}
	same(t, "the versions", list, want)
	pages(t, 3, true, func(p vetting.Page) ([]*vetting.RuleVersion, error) { return t.store.RuleVersions(t.ctx, "thermo", p) },
		func(v *vetting.RuleVersion) int64 { return v.ID })
	made := ok(t.store.CreateProduct(t.ctx, By, &vetting.Product{Name: "torch", Rules: []vetting.Rule{aRule("a", "true")}}))(t)
	same(t, "of a new product", made.RulesVersion, 1)
	same(t, "versions of a new product", len(ok(t.store.RuleVersions(t.ctx, "torch", vetting.Page{}))(t)), 1)
	t.refuses(vetting.NotFound)(t.store.RuleVersions(t.ctx, "none", vetting.Page{}))
	stale := *made
	stale.Revision = 9
	t.refuses(vetting.Conflict)(t.store.UpdateProduct(t.ctx, By, &stale))
}
