package api

import (
	"context"
	"net/http"
	"time"

	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/vetting"
	"github.com/touchmark/touchmark/vetting/rules"
)

// TrialInput is rules to be tried on what happened.
type TrialInput struct {
	Rules []vetting.Rule `json:"rules" minItems:"1" maxItems:"20" nullable:"false" doc:"The rules, whether the product has them or not"`
	Since time.Time      `json:"since,omitzero" doc:"Only registrations from then on; absent means all"`
	Limit int            `json:"limit,omitempty" default:"100000" minimum:"1" maximum:"1000000" doc:"At most so many registrations are looked at, the oldest first"`
}

func (a *API) trials() {
	register(a, access.PlanProduction, operation{
		id: "tryRules", method: http.MethodPost, path: "/products/{name}/rule-trials", tag: tagPlanning,
		summary:     "Try rules on past registrations",
		description: "Nothing changes. The answer tells how many of the devices that were let in the rules would have held or refused, and names the first hundred. Counters begin with the first registration that is looked at.",
	}, tryRules)
}

// ruleVersions lists what the rules were.
func (a *API) ruleVersions() {
	type list struct {
		PageInput
		Name string `path:"name" maxLength:"63" doc:"The product's name"`
	}
	register(a, access.ReadProduction, operation{
		id: "listRuleVersions", method: http.MethodGet, path: "/products/{name}/rule-versions", tag: tagPlanning,
		summary: "List the versions of a product's rules, newest first", errors: []int{400},
		description: "Each change of the rules makes a version, with all the rules from then on. A registration that rules judged names the version in its reasons, as the value rulesVersion. Version 0 are rules from before versions were kept.",
	}, func(ctx context.Context, c *call, in *list) (*listOutput[vetting.RuleVersion], error) {
		return listing(in.PageInput, "rule-versions", func(v *vetting.RuleVersion) int64 { return v.ID },
			func(p vetting.Page) ([]*vetting.RuleVersion, error) { return c.RuleVersions(ctx, in.Name, p) })
	})
}

func tryRules(ctx context.Context, c *call, in *namedBody[TrialInput]) (*bodyOutput[rules.Trial], error) {
	for i := range in.Body.Rules {
		if err := in.Body.Rules[i].Check(); err != nil {
			return nil, invalid("body.rules", "%v", err)
		}
	}
	set, err := rules.Compile(in.Body.Rules)
	if err != nil {
		return nil, invalid("body.rules", "%v", err)
	}
	trial := rules.NewTrial(set, in.Name)
	return answer(trial, c.PastRegistrations(ctx, in.Name, in.Body.Since, in.Body.Limit, trial.Next))
}
