package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/spf13/cobra"

	"github.com/touchmark/touchmark/vetting"
)

// rulesOf reads a product's rules as they are, or as they were in a version
// that is not negative.
func rulesOf(ctx context.Context, cl *client, product string, version int64) ([]vetting.Rule, error) {
	if version < 0 {
		var p vetting.Product
		if err := cl.api(ctx, http.MethodGet, "/products/"+segment(product), nil, &p); err != nil {
			return nil, err
		}
		if len(p.Rules) == 0 {
			return nil, usagef("product %s has no rules: give an expression to try", p.Name)
		}
		return p.Rules, nil
	}
	versions, err := ruleVersions(ctx, cl, product)
	if err != nil {
		return nil, err
	}
	for _, v := range versions {
		switch {
		case v.Version != version:
		case len(v.Rules) == 0:
			return nil, fmt.Errorf("in version %d product %s had no rules", version, product)
		default:
			return v.Rules, nil
		}
	}
	return nil, fmt.Errorf("the rules of product %s have no version %d; `touchmark rule history %s` lists them", product, version, product)
}

// ruleVersions reads all versions of a product's rules, newest first.
func ruleVersions(ctx context.Context, cl *client, product string) (list []vetting.RuleVersion, err error) {
	p, err := cl.list(ctx, "/products/"+segment(product)+"/rule-versions", nil, 0)
	if err != nil {
		return nil, err
	}
	for _, raw := range p.Items {
		var v vetting.RuleVersion
		if err := json.Unmarshal(raw, &v); err != nil {
			return nil, fmt.Errorf("the server's answer is not what this program knows: %w", err)
		}
		list = append(list, v)
	}
	return list, nil
}

// ruleChange is what a version did to one rule.
type ruleChange struct {
	Version int64         `json:"version"`
	At      string        `json:"at"`
	By      string        `json:"by"`
	Rule    string        `json:"rule"`
	Before  *vetting.Rule `json:"before"` // null if it is new
	After   *vetting.Rule `json:"after"`  // null if it was removed
}

func (a *app) ruleHistory() *cobra.Command {
	c := &cobra.Command{Use: "history PRODUCT [RULE]", Short: "Show how a product's rules changed: when, by whom, from what to what", Args: cobra.RangeArgs(1, 2),
		Long:              "history shows every change of a product's rules, or of one of them, the newest first. Each change makes a version, which a registration names if rules judged it.",
		Example:           "  touchmark rule history thermostat tested",
		ValidArgsFunction: a.completeFirst("/products")}
	c.RunE = func(cmd *cobra.Command, args []string) error {
		cl, err := a.client()
		if err != nil {
			return err
		}
		versions, err := ruleVersions(cmd.Context(), cl, args[0])
		if err != nil {
			return err
		}
		changes := ruleChanges(versions, strings.Join(args[1:], ""))
		raw, err := json.Marshal(changes)
		if err != nil {
			return err
		}
		return a.print(raw, func(w io.Writer) { showRuleChanges(w, changes) })
	}
	return a.jsonFlag(c)
}

// ruleChanges compares each version with the one before, newest first. only
// names the rule that is asked for; "" means all.
func ruleChanges(versions []vetting.RuleVersion, only string) []ruleChange {
	list := []ruleChange{}
	for i := range versions {
		now, before := &versions[i], new(vetting.RuleVersion)
		if i+1 < len(versions) {
			before = &versions[i+1]
		}
		add := func(name string, old, made *vetting.Rule) {
			if (only == "" || only == name) && (old == nil || made == nil || *old != *made) {
				list = append(list, ruleChange{now.Version, text(now.At), now.By, name, old, made})
			}
		}
		for j := range now.Rules {
			add(now.Rules[j].Name, before.Rule(now.Rules[j].Name), &now.Rules[j])
		}
		for j := range before.Rules {
			if name := before.Rules[j].Name; now.Rule(name) == nil {
				add(name, &before.Rules[j], nil)
			}
		}
	}
	return list
}

func showRuleChanges(w io.Writer, changes []ruleChange) {
	if len(changes) == 0 {
		fmt.Fprintln(w, "There were no such rules.")
	}
	for i, c := range changes {
		if i > 0 {
			fmt.Fprintln(w)
		}
		when := "before versions were kept"
		if c.By != "" {
			when = c.At + " by " + c.By
		}
		field(w, "version", fmt.Sprintf("%d  %s", c.Version, when))
		field(w, "rule", c.Rule)
		field(w, "before", ruleLine(c.Before))
		field(w, "after", ruleLine(c.After))
	}
}

func ruleLine(r *vetting.Rule) string {
	if r == nil {
		return "(none)"
	}
	line := fmt.Sprintf("%s, otherwise %s", r.Expression, r.Otherwise)
	if r.Text != "" {
		line += ": " + r.Text
	}
	return line
}
