package store

import (
	"context"

	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/internal/approval"
	"github.com/touchmark/touchmark/internal/audit"
	"github.com/touchmark/touchmark/vetting"
)

// ProposeOpening asks others to agree that an order opens as it is. An order
// that needs nobody's approval, or cannot open, is a Conflict.
func (s *Store) ProposeOpening(ctx context.Context, a access.Act, order, note string) (*approval.Proposal, error) {
	return s.proposed(ctx, a, func(w *writing) (*approval.Proposal, error) {
		have, o, product, err := w.wholeOrder(`o.name = $1`, order)
		if err != nil {
			return nil, err
		}
		wanted := o.Unapproved(product.Approvals)
		if wanted == 0 {
			return nil, vetting.Errorf(vetting.Conflict, "order %s wants no approvals: open it", order)
		}
		if err := w.changeOrder(have, opened(), true); err != nil { // it is not saved: only tried
			return nil, err
		}
		return w.propose(a, approval.Act{Kind: approval.OrderOpen, Subject: order, Note: note, Wanted: wanted, Statement: o.Opening(product.Revision)})
	})
}

func opened() vetting.OrderChange {
	state := vetting.OrderOpen
	return vetting.OrderChange{State: &state}
}

// wholeOrder reads an order with its product and the names that belong to it.
func (w *writing) wholeOrder(where string, arg any) (*orderRow, *vetting.Order, *vetting.Product, error) {
	have, err := w.orderWhere(where, arg)
	if err != nil {
		return nil, nil, nil, err
	}
	body, err := have.body()
	if err != nil {
		return nil, nil, nil, err
	}
	product, err := w.productOf(have)
	if err != nil {
		return nil, nil, nil, err
	}
	o := have.order(&body)
	o.Product = product.Name
	w.fetch(`SELECT name FROM sites WHERE id = $1`, []any{have.SiteID}, func(r row) error { return r.Scan(&o.Site) })
	return have, o, product, w.flush()
}

// productOf reads the product of an order.
func (w *writing) productOf(o *orderRow) (*vetting.Product, error) {
	var p productRow
	w.fetch(`SELECT id, name, revision, body FROM products WHERE id = $1`, []any{o.ProductID}, func(r row) error { return r.Scan(p.dest()...) })
	if err := w.flush(); err != nil {
		return nil, err
	}
	return p.product()
}

// carryOpening opens an order that is still what was approved.
func carryOpening(w *writing, p *approval.Proposal) ([]audit.Object, error) {
	var st vetting.OpenStatement
	if err := p.Read(&st); err != nil {
		return nil, err
	}
	row, o, product, err := w.wholeOrder(`o.name = $1`, st.Order)
	if err != nil {
		return nil, err
	}
	if o.Revision != st.Revision || product.Revision != st.ProductRevision {
		return nil, vetting.Errorf(vetting.Conflict, "order %s or its product was changed since its opening was asked for: ask for it again", st.Order)
	}
	if err := w.changeOrder(row, opened(), true); err != nil {
		return nil, err
	}
	if err := w.approveTerms(row); err != nil {
		return nil, err
	}
	w.saveOrder(row)
	return []audit.Object{row.object()}, w.orderChanged(carrier(p), st.Order)
}

// approveTerms notes that others agreed to an order as it is.
func (w *writing) approveTerms(row *orderRow) error {
	body, err := row.body()
	if err != nil {
		return err
	}
	body.Approved = true
	row.Body = mustJSON(body)
	return nil
}

// orderChanged ends what is pending about an order that is another one now.
func (w *writing) orderChanged(by, name string) error {
	for _, kind := range []approval.Kind{approval.OrderOpen, approval.OrderRaise} {
		if err := w.voidProposals(by, kind, name, "the order was changed since"); err != nil {
			return err
		}
	}
	return w.reviewManifests(by)
}

// productChanged ends what is pending about orders of a product that is
// another one now.
func (w *writing) productChanged(by string, product *productRow) error {
	var orders []string
	w.fetch(`SELECT pr.subject FROM proposals pr JOIN orders o ON o.name = pr.subject WHERE pr.kind = $1 AND pr.state = $2 AND o.product_id = $3`,
		[]any{string(approval.OrderOpen), string(approval.Pending), product.ID}, func(r row) error {
			var name string
			err := r.Scan(&name)
			orders = append(orders, name)
			return err
		})
	if err := w.flush(); err != nil {
		return err
	}
	for _, name := range orders {
		if err := w.voidProposals(by, approval.OrderOpen, name, "its product was changed since"); err != nil {
			return err
		}
	}
	return w.reviewManifests(by)
}
