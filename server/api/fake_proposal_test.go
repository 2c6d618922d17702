package api_test

import (
	"context"
	"crypto/x509"

	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/internal/approval"
	"github.com/touchmark/touchmark/vetting"
)

// The memory holds one proposal, by nobody; what approvals come to is the
// store's business.

func (m *memory) proposal() *approval.Proposal {
	p, err := approval.New(51, approval.Act{Kind: approval.OrderRaise, Subject: "order-near", Statement: vetting.RaiseStatement{Order: "order-near", To: 70}, Wanted: 2}, "nobody", today)
	if err != nil {
		panic(err)
	}
	return p
}

func (m *memory) Proposals(_ context.Context, f approval.Filter, p vetting.Page) ([]*approval.Proposal, error) {
	return pick(m, []*approval.Proposal{m.proposal()}, p, true, func(p *approval.Proposal) int64 { return p.ID }, func(p *approval.Proposal) bool {
		return fits(string(f.Kind), string(p.Kind)) && fits(f.Subject, p.Subject) && fits(string(f.State), string(p.State))
	})
}

func (m *memory) Proposal(_ context.Context, id int64) (*approval.Proposal, error) {
	return find(m, []*approval.Proposal{m.proposal()}, func(p *approval.Proposal) bool { return p.ID == id })
}

// ApproveProposal takes what verifies.
func (m *memory) ApproveProposal(_ context.Context, a access.Act, id int64, yes approval.Approval) (*approval.Proposal, error) {
	return act(m, a, func() (*approval.Proposal, error) {
		p := m.proposal()
		yes.By, yes.At = a.Operator, today
		p.Approvals = append(p.Approvals, yes)
		return p, nil
	})
}

func (m *memory) RetractApproval(_ context.Context, a access.Act, id int64, _ string) (*approval.Proposal, error) {
	return act(m, a, func() (*approval.Proposal, error) { return m.proposal(), nil })
}

func (m *memory) WithdrawProposal(_ context.Context, a access.Act, id int64, note string) (*approval.Proposal, error) {
	return act(m, a, func() (*approval.Proposal, error) {
		p := m.proposal()
		return p, p.Withdraw(a.Operator, note, today)
	})
}

func (m *memory) ProposeOpening(_ context.Context, a access.Act, order, note string) (*approval.Proposal, error) {
	return act(m, a, func() (*approval.Proposal, error) { return m.proposal(), nil })
}

func (m *memory) ProposeManifest(ctx context.Context, a access.Act, id int64, _ string) (*vetting.Manifest, error) {
	return act(m, a, func() (*vetting.Manifest, error) { return &vetting.Manifest{ID: id}, nil })
}

func (m *memory) ApprovalPolicy(context.Context) (*approval.Policy, error) {
	return &approval.Policy{CAs: 1}, nil
}

func (m *memory) SetApprovalPolicy(_ context.Context, a access.Act, p approval.Policy) (*approval.Policy, error) {
	return act(m, a, func() (*approval.Policy, error) { return &p, nil })
}

func (m *memory) ProposeIssuer(_ context.Context, a access.Act, _ approval.Kind, _ *vetting.IssuingCA, _ string) (*approval.Proposal, error) {
	return act(m, a, func() (*approval.Proposal, error) { return m.proposal(), nil })
}

func (m *memory) ProposeOperator(_ context.Context, a access.Act, _ *access.Operator, _ string) (*approval.Proposal, error) {
	return act(m, a, func() (*approval.Proposal, error) { return m.proposal(), nil })
}

func (w *world) OperatorChain(*x509.Certificate) [][]byte { return [][]byte{w.office.cert.Raw} }
