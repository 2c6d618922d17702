package store

import (
	"context"
	"slices"

	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/internal/approval"
	"github.com/touchmark/touchmark/internal/audit"
	"github.com/touchmark/touchmark/vetting"
)

// raiseStates are the states of proposals in the words of raises.
var raiseStates = map[approval.State]vetting.RaiseState{
	approval.Pending: vetting.RaisePending, approval.CarriedOut: vetting.RaiseApplied, approval.Withdrawn: vetting.RaiseWithdrawn,
	approval.Expired: vetting.RaiseExpired, approval.Void: vetting.RaiseVoid,
}

func raiseOf(p *approval.Proposal) (*vetting.Raise, error) {
	var st vetting.RaiseStatement
	if err := p.Read(&st); err != nil {
		return nil, err
	}
	r := &vetting.Raise{ID: p.ID, Order: st.Order, State: raiseStates[p.State], From: st.From, To: st.To, Revision: st.Revision,
		By: p.By, Note: p.Note, At: p.At, Expires: p.Expires, Wanted: p.Wanted, Approvals: []vetting.Approval{}}
	for _, a := range p.Approvals {
		r.Approvals = append(r.Approvals, vetting.Approval{By: a.By, At: a.At})
	}
	return r, nil
}

// Raises lists the raises of an order, newest first.
func (s *Store) Raises(ctx context.Context, order string, p vetting.Page) ([]*vetting.Raise, error) {
	o, err := s.Order(ctx, order)
	if err != nil {
		return nil, err
	}
	list, err := s.oldRaises(ctx, o.ID, p)
	if err != nil {
		return nil, err
	}
	proposals, err := s.Proposals(ctx, approval.Filter{Kind: approval.OrderRaise, Subject: order}, p)
	if err != nil {
		return nil, err
	}
	for _, p := range proposals {
		r, err := raiseOf(p)
		if err != nil {
			return nil, err
		}
		list = append(list, r)
	}
	slices.SortFunc(list, func(a, b *vetting.Raise) int { return int(b.ID - a.ID) })
	return list[:min(len(list), limit(p))], nil
}

// ProposeRaise asks for a larger quantity of an order that wants approvals
// for it. An order that wants none, a quantity that is not larger, or a raise
// that is pending already is a Conflict.
func (s *Store) ProposeRaise(ctx context.Context, a access.Act, order string, to int64, note string) (*vetting.Raise, error) {
	id, err := s.act(ctx, a, func(w *writing) (int64, error) {
		o, err := w.orderNamed(order)
		if err != nil {
			return 0, err
		}
		wanted, err := w.checkRaise(o, to)
		if err != nil {
			return 0, err
		}
		p, err := w.propose(a, approval.Act{Kind: approval.OrderRaise, Subject: order, Note: note, Wanted: wanted,
			Statement: vetting.RaiseStatement{Order: order, From: o.Quantity, To: to, Revision: o.Revision}})
		if err != nil {
			return 0, err
		}
		return p.ID, nil
	})
	if err != nil {
		return nil, err
	}
	p, err := s.Proposal(ctx, id)
	if err != nil {
		return nil, err
	}
	return raiseOf(p)
}

// checkRaise says why a raise cannot be asked for, and how many approvals it
// wants.
func (w *writing) checkRaise(o *orderRow, to int64) (wanted int, err error) {
	body, err := o.body()
	if err != nil {
		return 0, err
	}
	product, err := w.productOf(o)
	if err != nil {
		return 0, err
	}
	wanted = body.RaiseApprovals
	if o.State == string(vetting.OrderOpen) {
		wanted = max(wanted, product.Approvals.Opening(to))
	}
	switch state := vetting.OrderState(o.State); {
	case wanted == 0:
		return 0, vetting.Errorf(vetting.Conflict, "order %s wants no approvals: change its quantity", o.Name)
	case to <= o.Quantity:
		return 0, vetting.Errorf(vetting.Conflict, "order %s is for %d units, so %d is no raise: a smaller quantity needs no approval", o.Name, o.Quantity, to)
	case to > vetting.MaxQuantity:
		return 0, vetting.Errorf(vetting.Invalid, "a quantity of %d: at most %d are allowed", to, int64(vetting.MaxQuantity))
	case state == vetting.OrderCancelled:
		return 0, vetting.Errorf(vetting.Conflict, "order %s was cancelled", o.Name)
	}
	return wanted, nil
}

// ApproveRaise is ApproveProposal for a raise of an order to a quantity;
// another quantity is a Conflict, another order NotFound.
func (s *Store) ApproveRaise(ctx context.Context, a access.Act, order string, id, to int64, yes approval.Approval) (*vetting.Raise, error) {
	return s.actOnRaise(ctx, a, order, id, func(w *writing, p *approval.Proposal, r *vetting.Raise) error {
		if r.To != to {
			return vetting.Errorf(vetting.Conflict, "the raise of order %s is to %d units, not to %d: look at it again", order, r.To, to)
		}
		return w.approve(a, p, yes)
	})
}

// WithdrawRaise takes a pending raise back; anybody who may approve it may
// do that, and who asked for it.
func (s *Store) WithdrawRaise(ctx context.Context, a access.Act, order string, id int64, note string) (*vetting.Raise, error) {
	return s.actOnRaise(ctx, a, order, id, func(w *writing, p *approval.Proposal, _ *vetting.Raise) error { return w.withdraw(a, p, note) })
}

// actOnRaise is actOnProposal for a raise of an order.
func (s *Store) actOnRaise(ctx context.Context, a access.Act, order string, id int64, do func(*writing, *approval.Proposal, *vetting.Raise) error) (*vetting.Raise, error) {
	p, err := s.actOnProposal(ctx, a, id, func(w *writing, p *approval.Proposal) error {
		if p.Kind != approval.OrderRaise || p.Subject != order {
			return notFound("raise of order "+order, id)
		}
		r, err := raiseOf(p)
		if err != nil {
			return err
		}
		return do(w, p, r)
	})
	if err != nil {
		return nil, err
	}
	return raiseOf(p)
}

// carryRaise gives an order the quantity that was approved.
func carryRaise(w *writing, p *approval.Proposal) ([]audit.Object, error) {
	r, err := raiseOf(p)
	if err != nil {
		return nil, err
	}
	o, err := w.orderNamed(r.Order)
	if err != nil {
		return nil, err
	}
	if o.Revision != r.Revision {
		return nil, vetting.Errorf(vetting.Conflict, "order %s was changed since its raise was asked for: ask for it again", r.Order)
	}
	if err := w.changeOrder(o, vetting.OrderChange{Quantity: &r.To}, true); err != nil {
		return nil, err
	}
	w.saveOrder(o)
	return []audit.Object{o.object()}, w.orderChanged(carrier(p), r.Order)
}
