package api

import (
	"context"
	"errors"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/internal/idtoken"
	"github.com/touchmark/touchmark/vetting"
)

// TokenVerifier verifies ID tokens of workloads. [idtoken.Verifier] is one.
type TokenVerifier interface {
	// Verify checks that an issuer made a token for an audience, for now. What is
	// wrong with the token is an *idtoken.Refused, that the issuer cannot be
	// asked an *idtoken.UnreachableError.
	Verify(ctx context.Context, issuer, audience, token string) (*idtoken.Token, error)
}

// WorkloadInput is an operator to be created that is a workload.
type WorkloadInput struct {
	Name  string       `json:"name" minLength:"1" maxLength:"63"`
	Role  access.Role  `json:"role" enum:"release-engineer,reporter,support,auditor"`
	Trust access.Trust `json:"trust" doc:"Whose tokens speak for the operator"`
}

// LoginInput is a workload's wish for a certificate.
type LoginInput struct {
	Operator string `json:"operator" minLength:"1" maxLength:"63" doc:"The operator's name"`
	Token    string `json:"token" minLength:"1" maxLength:"16384" doc:"The ID token that the CI system made for this build (a JWT). It counts once"`
	CSR      string `json:"csr" minLength:"1" doc:"A PKCS#10 request (RFC 2986) on a new key, as PEM or as base64 of DER; only its key counts"`
}

func (a *API) workloads() {
	register(a, access.ManageOperators, operation{
		id: "createWorkload", method: http.MethodPost, path: "/workloads", tag: tagOperators,
		summary: "Create an operator that is a workload", status: http.StatusCreated,
		description: "It has no key. A build shows an ID token of its CI system that says what is wanted, and gets a certificate for an hour. It approves nothing, whatever its role.",
	}, a.createWorkload)
	a.login()
}

func (a *API) createWorkload(ctx context.Context, c *call, in *bodyOf[WorkloadInput]) (*createdOutput[access.Operator], error) {
	op := &access.Operator{Name: in.Body.Name, Role: in.Body.Role, Trust: &in.Body.Trust}
	if err := errors.Join(op.Check(), op.Trust.Check()); err != nil {
		return nil, vetting.Errorf(vetting.Invalid, "%v", err)
	}
	for name, value := range op.Trust.Claims { // maps are not looked into otherwise
		if bad := checkString(name + value); bad != nil {
			return nil, invalid("body.trust.claims", "the claim %q %s", name, bad.why)
		}
	}
	made, err := c.CreateOperator(ctx, c.act, op)
	return created(made, err, func(o *access.Operator) string { return "/operators/" + o.Name })
}

// login is the one operation that needs no certificate: it is how a workload
// gets one.
func (a *API) login() {
	o := operation{
		id: "logIn", method: http.MethodPost, path: "/logins", tag: tagOperators,
		summary: "Get a certificate for an ID token of a workload", status: http.StatusCreated, errors: []int{http.StatusServiceUnavailable},
	}
	huma.Register(a.huma, huma.Operation{
		OperationID: o.id, Method: o.method, Path: o.path, Tags: []string{o.tag}, Summary: o.summary, DefaultStatus: o.status,
		Description:  "Without a client certificate. The token must be genuine, of the issuer and for the audience that the operator trusts, and have its claims. It counts once: with the same key it can be sent again after a lost answer.",
		MaxBodyBytes: -1, BodyReadTimeout: -1, // the middleware has read it
		Middlewares: huma.Middlewares{a.unguarded(o)},
		Responses:   a.errorResponses(o),
		Security:    []map[string][]string{},
	}, func(ctx context.Context, in *bodyOf[LoginInput]) (*createdOutput[OperatorCreated], error) {
		if p := checkText(in); p != nil {
			return nil, p
		}
		made, err := a.logIn(ctx, in.Body)
		if err != nil {
			a.config.Log.InfoContext(ctx, "a workload's login was refused", "operator", in.Body.Operator, "reason", err)
			return nil, a.problemOf(ctx, err)
		}
		return created(made, nil, func(o *OperatorCreated) string { return "/operators/" + o.Operator.Name })
	})
}

// unguarded lets anybody's request through once its body is read.
func (a *API) unguarded(o operation) func(huma.Context, func(huma.Context)) {
	return func(hc huma.Context, next func(huma.Context)) {
		r, w := humago.Unwrap(hc)
		if _, err := a.readBody(w, r, o); err != nil {
			a.problemOf(r.Context(), err).write(w)
			return
		}
		next(hc)
	}
}

func (a *API) logIn(ctx context.Context, in LoginInput) (*OperatorCreated, error) {
	csr, err := parseCSR(in.CSR)
	if err != nil {
		return nil, err
	}
	op, err := a.gate.Workload(ctx, in.Operator)
	if vetting.ProblemOf(err) == vetting.NotFound {
		return nil, unauthorized("there is no workload %s: an admin makes one with `touchmark operator trust`", in.Operator)
	}
	if err != nil {
		return nil, err
	}
	token, err := a.token(ctx, op.Trust, in.Token)
	if err != nil {
		return nil, err
	}
	// The certificate leaves the process when its key is in the store; before, it
	// opens nothing.
	cert, err := a.config.Operators.IssueOperator(csr, op)
	if err != nil {
		return nil, err
	}
	login := access.Login{Operator: op.Name, Key: vetting.KeyFingerprint(csr.RawSubjectPublicKeyInfo), Token: token.ID, Subject: subjectOf(token), Issuer: cert.Issuer, NotAfter: cert.NotAfter}
	stored, err := a.gate.LogIn(ctx, login)
	if err != nil {
		return nil, err
	}
	return &OperatorCreated{*stored, toPEM(cert.DER), toPEM(cert.Chain...)}, nil
}

// token verifies a token, and that it is one that the operator trusts.
func (a *API) token(ctx context.Context, trust *access.Trust, text string) (*idtoken.Token, error) {
	token, err := a.config.Tokens.Verify(ctx, trust.Issuer, trust.Audience, text)
	var wrong *idtoken.Refused
	var away *idtoken.UnreachableError
	switch {
	case errors.As(err, &wrong):
		return nil, unauthorized("%s", wrong.Reason)
	case errors.As(err, &away):
		a.config.Log.WarnContext(ctx, "the issuer of workloads' tokens cannot be asked for its keys", "issuer", away.Issuer, "error", away.Err)
		return nil, problem(http.StatusServiceUnavailable, "the server cannot read the keys of the issuer %s at the moment: try again; its log tells why", away.Issuer).with("Retry-After", "30")
	case err != nil:
		return nil, err
	}
	if err := trust.Admits(token.Claims); err != nil {
		return nil, unauthorized("%v", err)
	}
	return token, nil
}

// subjectOf is the token's subject as the log has it: short, and of characters
// that can be printed.
func subjectOf(t *idtoken.Token) string {
	b := []byte(t.Subject)
	for i, c := range b {
		if c < ' ' || c > '~' {
			b[i] = '?'
		}
	}
	return string(b[:min(len(b), 300)])
}
