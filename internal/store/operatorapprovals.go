package store

import (
	"context"

	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/internal/approval"
	"github.com/touchmark/touchmark/internal/audit"
	"github.com/touchmark/touchmark/vetting"
)

// ProposeOperator asks others to agree to an operator whose role approves what
// others ask for. Another role, or that nobody has to agree, is a Conflict. The
// operator gets a certificate when they agreed.
func (s *Store) ProposeOperator(ctx context.Context, a access.Act, o *access.Operator, note string) (*approval.Proposal, error) {
	return s.proposed(ctx, a, func(w *writing) (*approval.Proposal, error) {
		wanted, err := w.wants(approval.OperatorAdd)
		if err != nil {
			return nil, err
		}
		if !o.May(access.Approve) {
			return nil, vetting.Errorf(vetting.Conflict, "the role %s approves nothing, and wants no approvals: add the operator", o.Role)
		}
		if err := w.isFree(o); err != nil {
			return nil, err
		}
		return w.propose(a, approval.Act{Kind: approval.OperatorAdd, Subject: o.Name, Note: note, Wanted: wanted,
			Statement: access.AddStatement{Operator: o.Name, Role: o.Role, Key: o.Key.String()}})
	})
}

// carryOperator adds an operator who was approved.
func carryOperator(w *writing, p *approval.Proposal) ([]audit.Object, error) {
	var st access.AddStatement
	if err := p.Read(&st); err != nil {
		return nil, err
	}
	o := &access.Operator{Name: st.Operator, Role: st.Role}
	if err := o.Key.UnmarshalText([]byte(st.Key)); err != nil {
		return nil, err
	}
	row, err := w.insertOperator(o)
	if vetting.ProblemOf(err) == vetting.Exists {
		err = vetting.Errorf(vetting.Conflict, "%v", err)
	}
	if err != nil {
		return nil, err
	}
	return []audit.Object{row.object()}, nil
}
