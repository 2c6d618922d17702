// Package rules compiles and evaluates the rules of a product: CEL
// expressions (https://cel.dev) over a claim, its record, its order and what
// happened before.
package rules

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/cost"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/ext"

	"github.com/touchmark/touchmark/vetting"
)

// maxCost bounds what one expression may do, in CEL's units: about one for
// each operation and for each ten characters of a string that is looked at.
const maxCost = 50_000

var environment = must(cel.NewEnv(
	cel.Variable("claim", cel.ObjectType("rules.Claim")),
	cel.Variable("record", cel.ObjectType("rules.Record")),
	cel.Variable("test", cel.ObjectType("rules.Test")),
	cel.Variable("tpm", cel.ObjectType("rules.TPM")),
	cel.Variable("order", cel.ObjectType("rules.Order")),
	cel.Variable("history", cel.ObjectType("rules.History")),
	cel.Variable("now", cel.TimestampType),
	ext.NativeTypes(ext.ParseStructTags(true), typeOf[Claim](), typeOf[Record](), typeOf[Test](), typeOf[TPM](), typeOf[Order](), typeOf[History]()),
	ext.Strings(),
	cel.OptionalTypes(),
))

// Set is a product's rules, ready to run. It is a [vetting.RuleSet].
type Set struct {
	rules []*compiled
	looks vetting.Looks
}

// Looks tells which counters and other costly facts the rules look at.
func (s *Set) Looks() vetting.Looks { return s.looks }

type compiled struct {
	rule    vetting.Rule
	program cel.Program
	looksAt []*operand // what the expression looks at, to show to a person
}

// operand is a value that an expression looks at, such as record.line.
type operand struct {
	name    string
	program cel.Program
}

// Compile checks the rules' expressions: syntax, types, and what they can
// cost at most. Its errors name the rule and the place.
func Compile(rules []vetting.Rule) (*Set, error) {
	s := &Set{}
	for _, r := range rules {
		c, err := compile(r)
		if err != nil {
			return nil, fmt.Errorf("rule %q: %w", r.Name, err)
		}
		s.rules = append(s.rules, c)
		for _, o := range c.looksAt {
			switch {
			case o.name == "history.attempts" || o.name == "history.refusals":
				s.looks.Attempts = true
			case strings.HasPrefix(o.name, "history."):
				s.looks.Pace = true
			case o.name == "history":
				s.looks.Pace, s.looks.Attempts = true, true
			case o.name == "claim" || o.name == "claim.on_site":
				s.looks.Site = true
			}
		}
	}
	return s, nil
}

func compile(r vetting.Rule) (*compiled, error) {
	tree, issues := environment.Compile(r.Expression)
	if err := issues.Err(); err != nil {
		return nil, err
	}
	if out := tree.OutputType(); out != cel.BoolType && out != cel.DynType { // a test result may be anything
		return nil, fmt.Errorf("the expression is a %s: it must be a bool, true for a device that passes", tree.OutputType())
	}
	estimate, err := environment.EstimateCost(tree, sizes{})
	if err != nil {
		return nil, err
	}
	if estimate.Max > maxCost {
		return nil, fmt.Errorf("the expression can cost up to %s units, %d are allowed: bound what it looks at", costText(estimate.Max), maxCost)
	}
	program, err := environment.Program(tree, cel.EvalOptions(cel.OptOptimize), cel.CostLimit(maxCost))
	if err != nil {
		return nil, err
	}
	looksAt, err := operands(tree)
	return &compiled{rule: r, program: program, looksAt: looksAt}, err
}

func costText(n uint64) string {
	if n >= math.MaxInt64 {
		return "any number of"
	}
	return fmt.Sprint(n)
}

// operands finds the longest selections from a variable, as in
// record.tests.rssi, and what is looked up without one, as now.
func operands(tree *cel.Ast) (list []*operand, err error) {
	native := tree.NativeRep()
	inner := map[int64]bool{}
	var names []string
	ast.PreOrderVisit(ast.NavigateAST(native), ast.NewExprVisitor(func(e ast.Expr) {
		if inner[e.ID()] {
			if e.Kind() == ast.SelectKind {
				inner[e.AsSelect().Operand().ID()] = true
			}
			return
		}
		if e.Kind() == ast.SelectKind {
			inner[e.AsSelect().Operand().ID()] = true
		}
		if name, ok := path(e); ok && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}))
	for _, name := range names {
		tree, issues := environment.Compile(name)
		if issues.Err() != nil {
			continue // a variable of a macro, which has no value outside it
		}
		program, err := environment.Program(tree, cel.CostLimit(maxCost))
		if err != nil {
			return nil, err
		}
		list = append(list, &operand{name, program})
	}
	return list, nil
}

// path spells out variable.field.field.
func path(e ast.Expr) (string, bool) {
	switch e.Kind() {
	case ast.IdentKind:
		return e.AsIdent(), true
	case ast.SelectKind:
		s := e.AsSelect()
		if s.IsTestOnly() {
			return "", false
		}
		head, ok := path(s.Operand())
		return head + "." + s.FieldName(), ok
	}
	return "", false
}

// Broken implements [vetting.RuleSet].
func (s *Set) Broken(f *vetting.Facts) (broken []vetting.BrokenRule) {
	if len(s.rules) == 0 {
		return nil
	}
	vars := variables(f)
	for _, c := range s.rules {
		out, _, err := c.program.Eval(vars)
		if err == nil && out == types.True {
			continue
		}
		if err == nil && out != types.False {
			err = fmt.Errorf("the expression gives %v, which is neither true nor false", out.Value())
		}
		broken = append(broken, vetting.BrokenRule{Rule: &c.rule, Values: c.values(vars), Err: err})
	}
	return broken
}

func (c *compiled) values(vars any) map[string]string {
	values := map[string]string{}
	for _, o := range c.looksAt {
		out, _, err := o.program.Eval(vars)
		if err != nil {
			values[o.name] = "unknown: " + err.Error()
			continue
		}
		text := fmt.Sprint(out.Value())
		values[o.name] = text[:min(len(text), maxShown)]
	}
	return values
}

const maxShown = 200 // bytes of a value

// sizes tells the estimator how large things can be.
type sizes struct{}

func (sizes) EstimateSize(n cost.AstNode) *cost.SizeEstimate {
	if p := n.Path(); len(p) > 1 && (p[0] == "record" && p[1] == "tests" || p[0] == "test" && p[1] == "values") {
		return &cost.SizeEstimate{Max: vetting.MaxRecordTests / 2}
	}
	return &cost.SizeEstimate{Max: vetting.MaxRecordText}
}

func (sizes) EstimateCallCost(string, string, *cost.AstNode, []cost.AstNode) *cost.CallEstimate {
	return nil
}

func must(e *cel.Env, err error) *cel.Env {
	if err != nil {
		panic(fmt.Sprintf("rules: %v", err)) // the declarations above contradict themselves
	}
	return e
}

// Vocabulary lists what an expression may look at, a line each.
func Vocabulary() string { return strings.TrimSpace(vocabulary) + "\n" }
