package scope

import (
	"context"

	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/internal/approval"
	"github.com/touchmark/touchmark/vetting"
)

// Proposals are acts that others must agree to. No role of a site or an owner
// has to do with them but by the raises of their orders.
type Proposals interface {
	Proposals(context.Context, approval.Filter, vetting.Page) ([]*approval.Proposal, error)
	Proposal(ctx context.Context, id int64) (*approval.Proposal, error)
	// ApproveProposal takes an operator's signed yes; the last one that is
	// wanted carries the act out. A signature that does not verify is Invalid,
	// a yes that does not count a Conflict.
	ApproveProposal(ctx context.Context, act access.Act, id int64, yes approval.Approval) (*approval.Proposal, error)
	RetractApproval(ctx context.Context, act access.Act, id int64, note string) (*approval.Proposal, error)
	WithdrawProposal(ctx context.Context, act access.Act, id int64, note string) (*approval.Proposal, error)
	// ApprovalPolicy is what of the installation itself wants approvals.
	ApprovalPolicy(context.Context) (*approval.Policy, error)
	SetApprovalPolicy(context.Context, access.Act, approval.Policy) (*approval.Policy, error)
	// ProposeIssuer and ProposeOperator ask for what the policy guards; what it
	// does not is a Conflict.
	ProposeIssuer(ctx context.Context, act access.Act, kind approval.Kind, c *vetting.IssuingCA, note string) (*approval.Proposal, error)
	ProposeOperator(ctx context.Context, act access.Act, o *access.Operator, note string) (*approval.Proposal, error)
}

// ApprovalPolicy shows the policy.
func (v View) ApprovalPolicy(ctx context.Context) (*approval.Policy, error) {
	return ofManufacturer(v, errNoPolicy, func() (*approval.Policy, error) { return v.store.ApprovalPolicy(ctx) })
}

// SetApprovalPolicy changes the policy.
func (v View) SetApprovalPolicy(ctx context.Context, act access.Act, p approval.Policy) (*approval.Policy, error) {
	return ofManufacturer(v, errNoPolicy, func() (*approval.Policy, error) { return v.store.SetApprovalPolicy(ctx, act, p) })
}

var errNoPolicy = vetting.Errorf(vetting.NotFound, "there is no approval policy")

// ProposeIssuer asks others to agree to an act on a CA.
func (v View) ProposeIssuer(ctx context.Context, act access.Act, kind approval.Kind, c *vetting.IssuingCA, note string) (*approval.Proposal, error) {
	return ofManufacturer(v, unknownName("issuing CA", c.Name), func() (*approval.Proposal, error) { return v.store.ProposeIssuer(ctx, act, kind, c, note) })
}

// ProposeOperator asks others to agree to an operator.
func (v View) ProposeOperator(ctx context.Context, act access.Act, o *access.Operator, note string) (*approval.Proposal, error) {
	return ofManufacturer(v, unknownName("operator", o.Name), func() (*approval.Proposal, error) { return v.store.ProposeOperator(ctx, act, o, note) })
}

// Proposals lists proposals.
func (v View) Proposals(ctx context.Context, f approval.Filter, p vetting.Page) ([]*approval.Proposal, error) {
	if !v.op.Role.OfManufacturer() {
		return nil, nil
	}
	return v.store.Proposals(ctx, f, p)
}

// Proposal finds a proposal.
func (v View) Proposal(ctx context.Context, id int64) (*approval.Proposal, error) {
	return ofManufacturer(v, unknownID("proposal", id), func() (*approval.Proposal, error) { return v.store.Proposal(ctx, id) })
}

// ApproveProposal approves a proposal.
func (v View) ApproveProposal(ctx context.Context, act access.Act, id int64, yes approval.Approval) (*approval.Proposal, error) {
	return ofManufacturer(v, unknownID("proposal", id), func() (*approval.Proposal, error) { return v.store.ApproveProposal(ctx, act, id, yes) })
}

// RetractApproval takes the operator's approval of a proposal back.
func (v View) RetractApproval(ctx context.Context, act access.Act, id int64, note string) (*approval.Proposal, error) {
	return ofManufacturer(v, unknownID("proposal", id), func() (*approval.Proposal, error) { return v.store.RetractApproval(ctx, act, id, note) })
}

// WithdrawProposal takes a proposal back.
func (v View) WithdrawProposal(ctx context.Context, act access.Act, id int64, note string) (*approval.Proposal, error) {
	return ofManufacturer(v, unknownID("proposal", id), func() (*approval.Proposal, error) { return v.store.WithdrawProposal(ctx, act, id, note) })
}
