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
