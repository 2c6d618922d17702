package vetting

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Rule is a condition of a product on its devices' first enrolment, beyond
// record, order and quota.
type Rule struct {
	Name string `json:"name"`
	// Expression is a CEL expression (https://cel.dev) of type bool over
	// what vetting/rules documents; true lets the device pass.
	Expression string `json:"expression"`
	// Otherwise is what becomes of a device that does not pass: Held or
	// Refused.
	Otherwise Outcome `json:"otherwise"`
	// Text tells the person on the line what to do about it.
	Text string `json:"text,omitempty"`
}

// RuleVersion is the rules of a product as they were from some change on.
type RuleVersion struct {
	ID      int64 `json:"-"`
	Version int64 `json:"version"`
	// At and By are when and by whom the change was made, e.g.
	// "operator:anna"; zero for rules from before versions were kept.
	At    time.Time `json:"at,omitzero"`
	By    string    `json:"by,omitempty"`
	Rules []Rule    `json:"rules"`
	Leaf  int64     `json:"leaf"` // -1 if unknown
}

// Rule returns the rule of a name, nil if the version has none.
func (v *RuleVersion) Rule(name string) *Rule {
	for i := range v.Rules {
		if v.Rules[i].Name == name {
			return &v.Rules[i]
		}
	}
	return nil
}

// Bounds of a product's rules.
const (
	MaxRules          = 20
	MaxRuleExpression = 2000 // bytes
)

// Check reports the first thing wrong with the rule, but for the expression
// itself, which vetting/rules compiles.
func (r *Rule) Check() error {
	if err := CheckName("rule", r.Name); err != nil {
		return err
	}
	switch {
	case r.Expression == "":
		return fmt.Errorf("rule %q has no expression", r.Name)
	case len(r.Expression) > MaxRuleExpression:
		return fmt.Errorf("rule %q: its expression is %d bytes long: at most %d are allowed", r.Name, len(r.Expression), MaxRuleExpression)
	case r.Otherwise != Held && r.Otherwise != Refused:
		return fmt.Errorf("rule %q: a device that does not pass cannot be %q: otherwise is %q or %q", r.Name, r.Otherwise, Held, Refused)
	}
	return CheckText(fmt.Sprintf("rule %q: its text", r.Name), r.Text)
}

func checkRules(rules []Rule) error {
	if len(rules) > MaxRules {
		return fmt.Errorf("%d rules: at most %d are allowed", len(rules), MaxRules)
	}
	seen := map[string]bool{}
	for i := range rules {
		if err := rules[i].Check(); err != nil {
			return err
		}
		if seen[rules[i].Name] {
			return fmt.Errorf("two rules are called %q", rules[i].Name)
		}
		seen[rules[i].Name] = true
	}
	return nil
}

// RuleSet is a product's rules, compiled.
type RuleSet interface {
	// Broken returns the rules that the facts do not meet, in their order.
	Broken(f *Facts) []BrokenRule
}

// BrokenRule is a rule that was not met.
type BrokenRule struct {
	Rule *Rule
	// Values are those that the expression looked at, by name.
	Values map[string]string
	// Err is set if the expression has no value for these facts, for
	// instance because a test result is missing: the rule is not met then.
	Err error
}

// Text tells the person on the line what is wrong: the rule's own words, what
// it wants, and the values that it looked at. The version is that of the
// product's rules; 0 is not named.
func (b BrokenRule) Text(product string, version int64) string {
	text := b.Rule.Text
	if text == "" {
		text = fmt.Sprintf("The device does not meet the rule %q of product %s.", b.Rule.Name, product)
	}
	detail := "rule " + b.Rule.Name
	if version > 0 {
		detail += fmt.Sprintf(" of version %d", version)
	}
	detail += " wants " + b.Rule.Expression
	for i, name := range slices.Sorted(maps.Keys(b.Values)) {
		detail += map[bool]string{true: "; ", false: ", "}[i == 0] + name + " is " + b.Values[name]
	}
	return strings.TrimSpace(text) + " (" + detail + ")"
}
