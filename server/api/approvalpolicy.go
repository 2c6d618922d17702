package api

import (
	"bytes"
	"context"
	"net/http"

	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/internal/approval"
	"github.com/touchmark/touchmark/vetting"
)

// ApprovalPolicy says how many others must agree to what is done with the
// installation itself.
type ApprovalPolicy struct {
	CAs       int   `json:"cas" doc:"How many others must approve that an issuing CA is created, becomes the default, is closed or reopened; 0 means nobody"`
	Operators int   `json:"operators" doc:"How many others must approve an operator whose role approves what others ask for; 0 means nobody"`
	Revision  int64 `json:"revision" doc:"Grows with every change; 0 before the first"`
}

// ApprovalPolicyInput is what the policy is to be.
type ApprovalPolicyInput struct {
	CAs       int `json:"cas" minimum:"0" maximum:"8" doc:"For issuing CAs; it can only grow"`
	Operators int `json:"operators" minimum:"0" maximum:"8" doc:"For operators who may approve; it can only grow"`
}

// IssuerProposalInput is an act on a CA below the root that others must agree
// to.
type IssuerProposalInput struct {
	Act         approval.Kind `json:"act" enum:"ca.create,ca.default,ca.close,ca.reopen" doc:"What is asked for"`
	Name        string        `json:"name" minLength:"1" maxLength:"63" doc:"The CA's name"`
	Certificate string        `json:"certificate,omitempty" maxLength:"32768" doc:"With ca.create: its certificate as PEM, signed by the root"`
	Note        string        `json:"note" minLength:"1" maxLength:"1000" doc:"Why, for those who approve it"`
}

// OperatorProposalInput is an operator whom others must agree to.
type OperatorProposalInput struct {
	Name string      `json:"name" minLength:"1" maxLength:"63" doc:"The operator's name"`
	Role access.Role `json:"role" enum:"admin,planner,release-engineer,approver" doc:"What the operator is there for"`
	CSR  string      `json:"csr" minLength:"1" doc:"The operator's PKCS#10 request (RFC 2986), as PEM or as base64 of DER; only its key counts"`
	Note string      `json:"note" minLength:"1" maxLength:"1000" doc:"Why, for those who approve it"`
}

func (a *API) approvalPolicy() {
	register(a, access.ReadProposals, operation{
		id: "getApprovalPolicy", method: http.MethodGet, path: "/approval-policy", tag: tagApprovals,
		summary: "Show what of the installation itself wants approvals",
	}, func(ctx context.Context, c *call, _ *struct{}) (*bodyOutput[ApprovalPolicy], error) {
		return answerPolicy(c.ApprovalPolicy(ctx))
	})
	register(a, access.ManageOperators, operation{
		id: "setApprovalPolicy", method: http.MethodPut, path: "/approval-policy", tag: tagApprovals,
		summary:     "Say what of the installation itself wants approvals",
		description: "The numbers can only grow, and not beyond the administrators and approvers that there are besides the one who asks. What waits with fewer approvals becomes void.",
	}, func(ctx context.Context, c *call, in *bodyOf[ApprovalPolicyInput]) (*bodyOutput[ApprovalPolicy], error) {
		return answerPolicy(c.SetApprovalPolicy(ctx, c.act, approval.Policy{CAs: in.Body.CAs, Operators: in.Body.Operators}))
	})
	register(a, access.ManageIssuers, operation{
		id: "proposeIssuer", method: http.MethodPost, path: "/issuer-proposals", tag: tagIssuers, status: http.StatusCreated, errors: []int{404},
		summary:     "Ask others to agree to an act on an issuing CA",
		description: "Where the approval policy wants that; createIssuer, setDefaultIssuer, closeIssuer and reopenIssuer are conflicts then. What others sign has the CA's key and certificate. The last approval carries it out, on every server within a second or two.",
	}, a.proposeIssuer)
	register(a, access.ManageOperators, operation{
		id: "proposeOperator", method: http.MethodPost, path: "/operator-proposals", tag: tagOperators, status: http.StatusCreated,
		summary:     "Ask others to agree to an operator who may approve",
		description: "Where the approval policy wants that; createOperator is a conflict for such roles then. When they agreed, renewOperator gives the operator's first certificate.",
	}, proposeOperator)
}

func answerPolicy(p *approval.Policy, err error) (*bodyOutput[ApprovalPolicy], error) {
	if err != nil {
		return nil, err
	}
	return answer(&ApprovalPolicy{p.CAs, p.Operators, p.Revision}, nil)
}

func (a *API) proposeIssuer(ctx context.Context, c *call, in *bodyOf[IssuerProposalInput]) (*bodyOutput[Proposal], error) {
	i, err := a.issuerFor(ctx, c, &in.Body)
	if err != nil {
		return nil, err
	}
	return answerProposal(c.ProposeIssuer(ctx, c.act, in.Body.Act, i, in.Body.Note))
}

// issuerFor finds the CA that an act is about, as far as this server has a say.
func (a *API) issuerFor(ctx context.Context, c *call, in *IssuerProposalInput) (*vetting.IssuingCA, error) {
	if in.Act == approval.CACreate {
		return a.readIssuer(ctx, in.Name, in.Certificate)
	}
	i, err := a.namedIssuer(ctx, c, in.Name)
	if err != nil {
		return nil, err
	}
	switch in.Act {
	case approval.CADefault:
		err = a.ableToIssue(in.Name)
	case approval.CAClose:
		err = locksOut(c, i)
	}
	return i, err
}

// namedIssuer is a CA below the root, in a file or not.
func (a *API) namedIssuer(ctx context.Context, c *call, name string) (*vetting.IssuingCA, error) {
	if p, founding := vetting.PurposeOfFounding(name); founding {
		return a.config.IssuingCAs.Founding(p), nil
	}
	return c.IssuingCA(ctx, name)
}

// ableToIssue refuses a CA that this server cannot issue with.
func (a *API) ableToIssue(name string) error {
	if err := a.config.IssuingCAs.Unable()[name]; err != nil {
		return vetting.Errorf(vetting.Conflict, "the server cannot issue with %s, so no device would get a certificate: %v", name, err)
	}
	return nil
}

// locksOut refuses to close the CA of the certificate that the operator shows.
func locksOut(c *call, i *vetting.IssuingCA) error {
	if bytes.Equal(i.Subject, c.r.TLS.PeerCertificates[0].RawIssuer) {
		return vetting.Errorf(vetting.Conflict, "your own certificate is of %s, and would count no more: get one of its successor first, with `touchmark operator renew`", i.Name)
	}
	return nil
}

func proposeOperator(ctx context.Context, c *call, in *bodyOf[OperatorProposalInput]) (*bodyOutput[Proposal], error) {
	csr, err := parseCSR(in.Body.CSR)
	if err != nil {
		return nil, err
	}
	op := &access.Operator{Name: in.Body.Name, Role: in.Body.Role, Key: vetting.KeyFingerprint(csr.RawSubjectPublicKeyInfo)}
	if err := op.Check(); err != nil {
		return nil, vetting.Errorf(vetting.Invalid, "%v", err)
	}
	return answerProposal(c.ProposeOperator(ctx, c.act, op, in.Body.Note))
}
