package access

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/touchmark/touchmark/vetting"
)

// Trust says which workloads speak for an operator: builds, to which a CI
// system gives ID tokens (OpenID Connect Core §2) of its own. Such an operator
// has no key of its own; a workload that shows a token gets a certificate for
// an hour. What is trusted never changes: it takes another operator.
type Trust struct {
	Issuer   string `json:"issuer" minLength:"9" maxLength:"200" doc:"The CI system that makes the tokens: the https URL that stands in their claim iss"`
	Audience string `json:"audience" minLength:"1" maxLength:"200" doc:"What their claim aud must be: a name for this installation that no other has"`
	// Claims are what tokens must say besides. In a value * stands for any
	// characters but a slash.
	Claims map[string]string `json:"claims" doc:"What other claims must be, by name. In a value * stands for any characters but a slash"`
}

// Bounds of a trust.
const (
	maxClaims = 16
	maxClaim  = 200 // bytes of a value
	maxStars  = 2   // in a value
)

var claimForm = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_./:-]{0,99}$`)

// protocolClaims are those that the protocol itself uses.
var protocolClaims = []string{"iss", "aud", "exp", "nbf", "iat", "jti"}

// sharedIssuers give tokens to everybody in the world: there one of these
// claims must say whose workload it is.
var sharedIssuers = map[string][]string{
	"https://token.actions.githubusercontent.com": {"sub", "repository", "repository_id"},
	"https://gitlab.com":                          {"sub", "project_path", "project_id"},
}

// workloadRoles are the roles that programs may have without a person behind
// the key: none that approves, or makes operators.
var workloadRoles = []Role{RoleReleaseEngineer, RoleReporter, RoleSupport, RoleAuditor}

// Check reports the first thing wrong with the trust.
func (t *Trust) Check() error {
	u, err := url.Parse(t.Issuer)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || strings.HasSuffix(t.Issuer, "/") || len(t.Issuer) > maxClaim {
		return fmt.Errorf("the issuer %q: want the https URL that stands in its tokens, without a slash at the end", t.Issuer)
	}
	if t.Audience == "" || len(t.Audience) > maxClaim {
		return fmt.Errorf("the audience %q: name this installation in 1 to %d characters", t.Audience, maxClaim)
	}
	if len(t.Claims) == 0 || len(t.Claims) > maxClaims {
		return fmt.Errorf("%d claims are named: want 1 to %d, such as repository=acme/thermostat", len(t.Claims), maxClaims)
	}
	for name, value := range t.Claims {
		switch {
		case !claimForm.MatchString(name) || slices.Contains(protocolClaims, name):
			return fmt.Errorf("the claim %q: want the name of one that says whose workload it is; %s are looked at anyway", name, strings.Join(protocolClaims, ", "))
		case value == "" || len(value) > maxClaim:
			return fmt.Errorf("the claim %s=%q: want a value of 1 to %d characters", name, value, maxClaim)
		case strings.Count(value, "*") > maxStars:
			return fmt.Errorf("the claim %s=%q: want at most %d *", name, value, maxStars)
		}
	}
	return t.checkShared()
}

// checkShared wants a claim without * that names one workload's home.
func (t *Trust) checkShared() error {
	homes, shared := sharedIssuers[t.Issuer]
	for name, value := range t.Claims {
		if !strings.Contains(value, "*") && (!shared || slices.Contains(homes, name)) {
			return nil
		}
	}
	if shared {
		return fmt.Errorf("%s gives tokens to everybody: name one of the claims %s, without a *", t.Issuer, strings.Join(homes, ", "))
	}
	return errors.New("every claim has a *: name one without")
}

// WorkloadKey stands where other operators have the fingerprint of their key: no
// key has it.
func WorkloadKey(name string) vetting.Fingerprint {
	return sha256.Sum256([]byte("touchmark workload " + name))
}

// Admits says why the claims of a genuine token do not speak for the operator;
// nil if they do. Claims that are no text count as their JSON.
func (t *Trust) Admits(claims map[string]any) error {
	for _, name := range slices.Sorted(maps.Keys(t.Claims)) {
		have, ok := textOf(claims[name])
		if !ok {
			return fmt.Errorf("the token says nothing of %s, which must be %q", name, t.Claims[name])
		}
		if !matches(t.Claims[name], have) {
			return fmt.Errorf("the token's %s is %q, and must be %q", name, have, t.Claims[name])
		}
	}
	return nil
}

// textOf is a claim that is a text, a number or a truth.
func textOf(v any) (string, bool) {
	switch v := v.(type) {
	case string:
		return v, true
	case json.Number:
		return v.String(), true
	case bool:
		return fmt.Sprint(v), true
	}
	return "", false
}

// matches reports whether a text is what a pattern allows: * is any number of
// characters but a slash.
func matches(pattern, text string) bool {
	first, rest, wild := strings.Cut(pattern, "*")
	if !wild {
		return pattern == text
	}
	text, ok := strings.CutPrefix(text, first)
	if !ok {
		return false
	}
	for i := 0; ; i++ {
		if matches(rest, text[i:]) {
			return true
		}
		if i == len(text) || text[i] == '/' {
			return false
		}
	}
}

// Login is a workload's: the key that it has for a while, and the token that it
// got that for, which counts once.
type Login struct {
	Operator string
	Key      vetting.Fingerprint
	// Token names the token, over all issuers.
	Token    [32]byte
	Subject  string // the token's claim sub, for the log
	Issuer   string // the CA of the certificate
	NotAfter time.Time
}
