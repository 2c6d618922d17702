package rules_test

import (
	"testing"

	"github.com/touchmark/touchmark/vetting"
	"github.com/touchmark/touchmark/vetting/rules"
)

// Whatever a planner writes is refused, or gives the same answer each time.
func FuzzCompile(f *testing.F) {
	for _, e := range []string{`true`, `record.tests.rssi > -70.0 && record.line in ["L1"]`, `record.tests.leds.all(l, l == "red")`,
		`now - record.made < duration("24h")`, `record.serial.matches("(a+)+b")`, `history.attempts`, `((((`, `[1].map(x, [x]).size() > 0`} {
		f.Add(e)
	}
	f.Fuzz(func(t *testing.T, expression string) {
		if len(expression) > vetting.MaxRuleExpression {
			return // refused before
		}
		set, err := rules.Compile(rule(expression))
		if err != nil {
			return
		}
		if a, b := set.Broken(facts()), set.Broken(facts()); len(a) != len(b) {
			t.Errorf("%q gave %v and then %v", expression, a, b)
		}
	})
}
