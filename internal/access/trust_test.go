package access

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/touchmark/touchmark/internal/approval"
)

const github = "https://token.actions.githubusercontent.com"

func TestTrustCheck(t *testing.T) {
	good := func() *Trust {
		return &Trust{github, "touchmark.acme.example", map[string]string{"repository": "acme/thermostat", "ref": "refs/tags/v*"}}
	}
	if err := good().Check(); err != nil {
		t.Error(err)
	}
	for words, change := range map[string]func(*Trust){
		"the issuer":          func(t *Trust) { t.Issuer = "http://gitlab.example" },
		"a slash at the end":  func(t *Trust) { t.Issuer += "/" },
		"the audience":        func(t *Trust) { t.Audience = "" },
		"0 claims":            func(t *Trust) { t.Claims = nil },
		"are looked at":       func(t *Trust) { t.Claims["aud"] = "x" },
		`the claim "a b"`:     func(t *Trust) { t.Claims["a b"] = "x" },
		"want a value":        func(t *Trust) { t.Claims["ref"] = "" },
		"at most 2 *":         func(t *Trust) { t.Claims["ref"] = "***" },
		"to everybody":        func(t *Trust) { delete(t.Claims, "repository") },
		"without a *":         func(t *Trust) { t.Claims["repository"] = "acme/*" },
		"every claim has a *": func(t *Trust) { t.Issuer, t.Claims = "https://ci.example", map[string]string{"a": "*"} },
	} {
		trust := good()
		change(trust)
		if err := trust.Check(); err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("%v, want %q", err, words)
		}
	}
}

func TestTrustAdmits(t *testing.T) {
	trust := &Trust{github, "x", map[string]string{"repository": "acme/thermostat", "ref": "refs/tags/v*", "ref_protected": "true", "run": "7"}}
	claims := func(ref any) map[string]any {
		return map[string]any{"repository": "acme/thermostat", "ref": ref, "ref_protected": true, "run": json.Number("7"), "more": []any{}}
	}
	for _, ref := range []string{"refs/tags/v1.4.0", "refs/tags/v"} {
		if err := trust.Admits(claims(ref)); err != nil {
			t.Errorf("%s: %v", ref, err)
		}
	}
	for _, ref := range []any{"refs/heads/v1", "refs/tags/v1/x", "xrefs/tags/v1", "refs/tags/w", "", nil, []any{"refs/tags/v1"}} {
		if err := trust.Admits(claims(ref)); err == nil {
			t.Errorf("%v is admitted", ref)
		}
	}
	delete(trust.Claims, "ref")
	for name, bad := range map[string]any{"repository": "acme/thermostat2", "ref_protected": "false", "run": json.Number("70")} {
		all := claims("x")
		all[name] = bad
		if err := trust.Admits(all); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s %v: %v", name, bad, err)
		}
	}
}

func TestMatches(t *testing.T) {
	for _, c := range []struct {
		pattern, text string
		want          bool
	}{
		{"a", "a", true}, {"a", "ab", false}, {"a*", "a", true}, {"a*c", "abbc", true}, {"a*c", "ab/c", false}, {"*/*", "a/b", true}, {"*/*", "a/b/c", false}, {"*", "", true}, {"*", "/", false}, {"a*b*", "a1b2", true},
	} {
		if matches(c.pattern, c.text) != c.want {
			t.Errorf("%q, %q: want %v", c.pattern, c.text, c.want)
		}
	}
}

// Workloads approve nothing, and have roles for programs alone.
func TestWorkloads(t *testing.T) {
	o := &Operator{Name: "ci", Role: RoleReleaseEngineer, Trust: &Trust{}}
	if !o.May(SignFirmware) || o.May(Approve) || o.MayApprove(approval.ReleaseApprove) || o.Check() != nil {
		t.Errorf("%v", o.Check())
	}
	for _, role := range []Role{RoleAdmin, RoleApprover, RolePlanner, RoleRig, RoleSiteOperator, RoleResponder, RoleOwnerOperator} {
		if (&Operator{Name: "ci", Role: role, Site: "x", Owner: "x", Trust: &Trust{}}).Check() == nil {
			t.Errorf("a workload is %s", role)
		}
	}
}
