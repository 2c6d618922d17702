package api

import (
	"context"
	"net/http"

	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/vetting"
)

// OperatorInput is an operator to be created.
type OperatorInput struct {
	Name  string      `json:"name" minLength:"1" maxLength:"63"`
	Role  access.Role `json:"role" enum:"admin,planner,site-operator,rig,owner-operator,release-engineer,support,reporter,responder,auditor,approver"`
	Site  string      `json:"site,omitempty" maxLength:"63" doc:"The site of a site operator or rig; absent for the others"`
	Owner string      `json:"owner,omitempty" maxLength:"63" doc:"The owner of an owner operator; absent for the others"`
	CSR   string      `json:"csr" minLength:"1" doc:"The operator's PKCS#10 request (RFC 2986), as PEM or as base64 of DER; only its key counts"`
}

// OperatorCreated is a new operator with the certificate.
type OperatorCreated struct {
	Operator    access.Operator `json:"operator"`
	Certificate string          `json:"certificate" doc:"The certificate as PEM"`
	Chain       string          `json:"chain" doc:"The certificates above it as PEM, the root last"`
}

// Whoami says who the server takes its client for.
type Whoami struct {
	Operator    access.Operator     `json:"operator"`
	Permissions []access.Permission `json:"permissions" nullable:"false" doc:"What the role includes"`
}

func (a *API) operators() {
	type list struct{ PageInput }
	register(a, access.ReadAudit, operation{
		id: "listOperators", method: http.MethodGet, path: "/operators", tag: tagOperators,
		summary: "List operators, revoked ones too", errors: []int{400},
	}, func(ctx context.Context, c *call, in *list) (*listOutput[access.Operator], error) {
		return listing(in.PageInput, "operators", func(o *access.Operator) int64 { return o.ID },
			func(p vetting.Page) ([]*access.Operator, error) { return c.Operators(ctx, p) })
	})
	register(a, access.ManageOperators, operation{
		id: "createOperator", method: http.MethodPost, path: "/operators", tag: tagOperators,
		summary: "Create an operator and issue the certificate", status: http.StatusCreated, errors: []int{404},
		description: "The key stays with the operator; only the request with the public key is sent. A repetition with the same idempotency key gets a certificate on the same key again.",
	}, a.createOperator)
	register(a, access.ReadAudit, operation{
		id: "getOperator", method: http.MethodGet, path: "/operators/{name}", tag: tagOperators,
		summary: "Show an operator",
	}, func(ctx context.Context, c *call, in *nameInput) (*bodyOutput[access.Operator], error) {
		return answer(c.NamedOperator(ctx, in.Name))
	})
	register(a, access.ManageOperators, operation{
		id: "revokeOperator", method: http.MethodPost, path: "/operators/{name}/revoke", tag: tagOperators,
		summary:     "Revoke an operator",
		description: "Takes effect with the next request, and is final.",
	}, func(ctx context.Context, c *call, in *nameInput) (*bodyOutput[access.Operator], error) {
		if in.Name == c.Operator().Name {
			return nil, vetting.Errorf(vetting.Conflict, "operator %s cannot revoke itself: the last admin would be locked out; let another admin do it", in.Name)
		}
		return answer(c.RevokeOperator(ctx, c.act, in.Name))
	})
	register(a, access.ManageOperators, operation{
		id: "renewOperator", method: http.MethodPost, path: "/operators/{name}/certificate", tag: tagOperators,
		summary:     "Issue another certificate on an operator's key",
		description: "For one whose certificate ran out, or whose issuing CA was closed; all others do it themselves.",
	}, func(ctx context.Context, c *call, in *operatorRenewal) (*bodyOutput[OperatorCreated], error) {
		op, err := c.NamedOperator(ctx, in.Name)
		if err != nil {
			return nil, err
		}
		return a.renewOperator(ctx, c, op, in.Body)
	})
	register(a, AnyOperator, operation{
		id: "renewOwn", method: http.MethodPost, path: "/whoami/certificate", tag: tagOperators,
		summary:     "Issue another certificate on your own key",
		description: "By the CA that issues now, for as long as a new one. The certificate that you have counts until it ends or its CA is closed.",
	}, func(ctx context.Context, c *call, in *bodyOf[OperatorRenewal]) (*bodyOutput[OperatorCreated], error) {
		return a.renewOperator(ctx, c, c.Operator(), in.Body)
	})
	register(a, AnyOperator, operation{
		id: "whoami", method: http.MethodGet, path: "/whoami", tag: tagOperators,
		summary: "Show who the server takes you for",
	}, func(_ context.Context, c *call, _ *struct{}) (*bodyOutput[Whoami], error) {
		return &bodyOutput[Whoami]{&Whoami{*c.Operator(), permissionsOf(c.Operator())}}, nil
	})
}

func (a *API) createOperator(ctx context.Context, c *call, in *bodyOf[OperatorInput]) (*createdOutput[OperatorCreated], error) {
	csr, err := parseCSR(in.Body.CSR)
	if err != nil {
		return nil, err
	}
	op := &access.Operator{
		Name: in.Body.Name, Role: in.Body.Role, Site: in.Body.Site, Owner: in.Body.Owner,
		Key: vetting.KeyFingerprint(csr.RawSubjectPublicKeyInfo),
	}
	if err := op.Check(); err != nil {
		return nil, vetting.Errorf(vetting.Invalid, "%v", err)
	}
	// The certificate is made first and leaves the process only after the
	// operator is stored: one that is not stored opens nothing.
	cert, err := a.config.Operators.IssueOperator(csr, op)
	if err != nil {
		return nil, err
	}
	op.Issuer, op.NotAfter = cert.Issuer, cert.NotAfter
	stored, err := c.CreateOperator(ctx, c.act, op)
	if err != nil {
		return nil, err
	}
	if stored.Key != op.Key || !stored.Revoked.IsZero() {
		// A repetition of a request whose operator was revoked since.
		return nil, vetting.Errorf(vetting.Conflict, "operator %s was created by this request and revoked since: create another one", stored.Name)
	}
	out := &OperatorCreated{*stored, toPEM(cert.DER), toPEM(cert.Chain...)}
	return created(out, nil, func(o *OperatorCreated) string { return "/operators/" + o.Operator.Name })
}

// OperatorRenewal asks for another certificate.
type OperatorRenewal struct {
	CSR string `json:"csr" minLength:"1" doc:"The operator's PKCS#10 request (RFC 2986), as PEM or as base64 of DER, on the key that the operator has"`
}

type operatorRenewal struct {
	Name string `path:"name" maxLength:"63" doc:"The name"`
	Body OperatorRenewal
}

func (a *API) renewOperator(ctx context.Context, c *call, of *access.Operator, in OperatorRenewal) (*bodyOutput[OperatorCreated], error) {
	csr, err := parseCSR(in.CSR)
	if err != nil {
		return nil, err
	}
	op := *of
	cert, err := a.config.Operators.IssueOperator(csr, &op)
	if err != nil {
		return nil, err
	}
	op.Key, op.Issuer, op.NotAfter = vetting.KeyFingerprint(csr.RawSubjectPublicKeyInfo), cert.Issuer, cert.NotAfter
	stored, err := c.RenewOperator(ctx, c.act, &op)
	if err != nil {
		return nil, err
	}
	return answer(&OperatorCreated{*stored, toPEM(cert.DER), toPEM(cert.Chain...)}, nil)
}

func permissionsOf(op *access.Operator) []access.Permission {
	list := []access.Permission{}
	for _, p := range permissions {
		if p != AnyOperator && op.May(p) {
			list = append(list, p)
		}
	}
	return list
}
