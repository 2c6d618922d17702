package main

import (
	"context"
	"fmt"
	"io"
	"net/http"

	"github.com/spf13/cobra"

	"github.com/touchmark/touchmark/server/api"
	"github.com/touchmark/touchmark/vetting"
	"github.com/touchmark/touchmark/vetting/rules"
)

func (a *app) ruleCommand() *cobra.Command {
	return group("rule", "Rules of a product: what a first enrolment must meet",
		`A rule is a CEL expression (https://cel.dev) that must be true for a device to be let in, beyond its record and its order's quota.
Otherwise the device is held, or refused, and the person on the line is told the rule, the values it looked at and what it wants.

An expression may look at:

`+rules.Vocabulary(), a.ruleSet(), a.ruleRemove(), a.ruleList(), a.ruleHistory(), a.ruleTry())
}

// ruleFlags are what can be said about a rule beside its expression.
type ruleFlags struct{ otherwise, text string }

func (r *ruleFlags) add(c *cobra.Command) {
	c.Flags().StringVar(&r.otherwise, "otherwise", string(vetting.Held), "what becomes of a device that does not pass: held or refused")
	c.Flags().StringVar(&r.text, "text", "", "a sentence for the person on the line")
	oneOf(c, "otherwise", vetting.Held, vetting.Refused)
}

func (r *ruleFlags) rule(name, expression string) vetting.Rule {
	return vetting.Rule{Name: name, Expression: expression, Otherwise: vetting.Outcome(r.otherwise), Text: r.text}
}

func (a *app) ruleSet() *cobra.Command {
	var r ruleFlags
	c := &cobra.Command{
		Use: "set PRODUCT NAME EXPRESSION", Short: "Add a rule, or replace the one of that name", Args: cobra.ExactArgs(3),
		Example: `  touchmark rule set thermostat tested 'record.tests.passed' --otherwise refused --text 'The unit failed its test: rework it.'
  touchmark rule set thermostat night 'now.getHours("Asia/Taipei") >= 6' --text 'Nobody builds at night.'`,
		ValidArgsFunction: a.completeFirst("/products"),
	}
	r.add(c)
	return objectCommand(a, c, func(ctx context.Context, cl *client, args []string) ([]byte, error) {
		return changeProduct(ctx, cl, args[0], func(in *api.ProductUpdate) error {
			in.Rules = put(in.Rules, r.rule(args[1], args[2]), ruleName)
			return nil
		})
	}, showRules)
}

func (a *app) ruleRemove() *cobra.Command {
	c := &cobra.Command{Use: "remove PRODUCT NAME", Short: "Remove a rule", Args: cobra.ExactArgs(2), ValidArgsFunction: a.completeFirst("/products")}
	return objectCommand(a, c, func(ctx context.Context, cl *client, args []string) ([]byte, error) {
		return changeProduct(ctx, cl, args[0], func(in *api.ProductUpdate) (err error) {
			in.Rules, err = remove(in.Rules, "rule", args[1], ruleName)
			return err
		})
	}, showRules)
}

func ruleName(r vetting.Rule) string { return r.Name }

func (a *app) ruleList() *cobra.Command {
	c := &cobra.Command{Use: "list PRODUCT", Short: "Show a product's rules", Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeFirst("/products")}
	return objectCommand(a, c, getter("/products/"), showRules)
}

func showRules(w io.Writer, p *vetting.Product) {
	if len(p.Rules) == 0 {
		fmt.Fprintf(w, "Product %s has no rules.\n", p.Name)
	}
	for _, r := range p.Rules {
		field(w, "rule", r.Name)
		field(w, "wants", r.Expression)
		field(w, "otherwise", r.Otherwise)
		field(w, "says", r.Text)
	}
	field(w, "version", number(p.RulesVersion))
}

func (a *app) ruleTry() *cobra.Command {
	var r ruleFlags
	var since string
	version := int64(-1)
	c := &cobra.Command{
		Use: "try PRODUCT [EXPRESSION]", Short: "Say what a rule would have done to the devices that were let in", Args: cobra.RangeArgs(1, 2),
		Long:              "try runs an expression, or without one the product's own rules, or with --version those of an earlier version, over past registrations. Nothing changes.",
		Example:           "  touchmark rule try thermostat 'history.order_last_hour < 100' --since 2026-11-01\n  touchmark rule try thermostat --version 3",
		ValidArgsFunction: a.completeFirst("/products"),
	}
	r.add(c)
	c.Flags().StringVar(&since, "since", "", "only registrations from then on: `time` as 2026-12-01 or RFC 3339")
	c.Flags().Int64Var(&version, "version", -1, "the rules as they were in this `version`, as history numbers them")
	return objectCommand(a, c, func(ctx context.Context, cl *client, args []string) (raw []byte, err error) {
		var in api.TrialInput
		if in.Since, err = parseTime("--since", since, false); err != nil {
			return nil, err
		}
		switch {
		case len(args) == 2 && version >= 0:
			return nil, usagef("give an expression or --version, not both")
		case len(args) == 2:
			in.Rules = []vetting.Rule{r.rule("tried", args[1])}
		default:
			if in.Rules, err = rulesOf(ctx, cl, args[0], version); err != nil {
				return nil, err
			}
		}
		err = cl.api(ctx, http.MethodPost, "/products/"+segment(args[0])+"/rule-trials", in, &raw)
		return raw, err
	}, showTrial)
}

func showTrial(w io.Writer, t *rules.Trial) {
	fmt.Fprintf(w, "Of %s that were let in, %s would have been refused and %s held.\n",
		counted(t.Looked, "device", "devices"), count(t.Refused), count(t.Held))
	for _, c := range t.Cases {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", text(c.At), c.Serial, c.Verdict, join(c.Reasons))
	}
	if more := t.Refused + t.Held - int64(len(t.Cases)); more > 0 {
		fmt.Fprintf(w, "and %s more\n", count(more))
	}
}
