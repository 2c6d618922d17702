package store

import (
	"context"

	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/internal/approval"
	"github.com/touchmark/touchmark/vetting"
)

func (s *Store) orders(ctx context.Context, where string, args ...any) (list []*vetting.Order, err error) {
	var rows []*orderRow
	err = s.db.query(ctx, `SELECT `+orderColumns+` FROM orders o JOIN products p ON p.id = o.product_id JOIN sites s ON s.id = o.site_id WHERE `+where, args, func(r row) error {
		o := new(orderRow)
		rows = append(rows, o)
		return r.Scan(o.dest()...)
	})
	for _, row := range rows {
		o, err := s.orderFrom(ctx, row)
		if err != nil {
			return nil, err
		}
		list = append(list, o)
	}
	return list, err
}

// Orders lists orders by ID.
func (s *Store) Orders(ctx context.Context, f vetting.OrderFilter, p vetting.Page) ([]*vetting.Order, error) {
	return s.orders(ctx, `o.id > $1 AND ($2 = '' OR s.name = $2) AND ($3 = '' OR p.name = $3) AND ($4 = '' OR o.state = $4) ORDER BY o.id LIMIT $5`,
		p.After, f.Site, f.Product, string(f.State), limit(p))
}

// Order returns an order by name, or a NotFound error.
func (s *Store) Order(ctx context.Context, name string) (*vetting.Order, error) {
	list, err := s.orders(ctx, `o.name = $1`, name)
	return theOne(list, err, "order", name)
}

// CreateOrder keeps a new order in the state it names (draft if none); name
// must be free (Exists), product and site must exist (NotFound).
func (s *Store) CreateOrder(ctx context.Context, a access.Act, o *vetting.Order) (*vetting.Order, error) {
	_, err := s.act(ctx, a, func(w *writing) (int64, error) {
		if used, err := w.taken(`SELECT 1 FROM orders WHERE name = $1`, o.Name); err != nil || used {
			return 0, orExists(err, "order", o.Name)
		}
		product, err := w.idOf("product", "products", o.Product)
		if err != nil {
			return 0, err
		}
		site, err := w.idOf("site", "sites", o.Site)
		if err != nil {
			return 0, err
		}
		row := &orderRow{ID: w.ids(1), ProductID: product, SiteID: site, Name: o.Name, State: string(o.State), Quantity: o.Quantity, Revision: 1,
			Body: mustJSON(orderBody{Identifiers: o.Identifiers, NotBefore: o.NotBefore.UTC(), NotAfter: o.NotAfter.UTC(), ManifestSignatures: o.ManifestSignatures, Limits: o.Limits, Waste: o.Waste, Rework: o.Rework, MaxReplacements: o.MaxReplacements, RaiseApprovals: o.RaiseApprovals, Created: w.now, Updated: w.now})}
		if row.State == "" {
			row.State = string(vetting.OrderDraft)
		}
		w.exec(`INSERT INTO orders (id, name, product_id, site_id, state, quantity, issued, revision, body) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)`,
			row.ID, row.Name, row.ProductID, row.SiteID, row.State, row.Quantity, row.Issued, row.Revision, row.Body)
		w.leaf("order.create", operatorOf(a), o.Name, row.object())
		return row.ID, nil
	})
	if err != nil {
		return nil, err
	}
	return s.Order(ctx, o.Name)
}

// ChangeOrder applies a planner's change. A change of state that does not
// follow draft → open ⇄ paused or closed → cancelled, or a quantity below what was
// issued, is a Conflict; so is a raise that wants approvals (see ProposeRaise). One that waits for them
// becomes void.
func (s *Store) ChangeOrder(ctx context.Context, a access.Act, name string, c vetting.OrderChange) (*vetting.Order, error) {
	_, err := s.act(ctx, a, func(w *writing) (int64, error) {
		o, err := w.orderNamed(name)
		if err != nil {
			return 0, err
		}
		if err := w.changeOrder(o, c, false); err != nil {
			return 0, err
		}
		w.saveOrder(o)
		w.leaf("order.change", operatorOf(a), name+" is "+o.State, o.object())
		return o.ID, w.voidProposals(operatorOf(a), approval.OrderRaise, name, "the order was changed since")
	})
	if err != nil {
		return nil, err
	}
	return s.Order(ctx, name)
}

// orderNamed reads an order, or fails with NotFound.
func (w *writing) orderNamed(name string) (*orderRow, error) {
	o := new(orderRow)
	w.fetch(`SELECT `+orderColumns+` FROM orders o WHERE o.name = $1`, []any{name}, func(r row) error { return r.Scan(o.dest()...) })
	if err := w.flush(); err != nil {
		return nil, err
	}
	if o.ID == 0 {
		return nil, notFound("order", name)
	}
	return o, nil
}

func (w *writing) saveOrder(o *orderRow) {
	w.exec(`UPDATE orders SET state = $2, quantity = $3, revision = $4, body = $5 WHERE id = $1`, o.ID, o.State, o.Quantity, o.Revision, o.Body)
}

// changeOrder checks a change against the order as it is now; approved says
// that a raise has what approvals it wants.
func (w *writing) changeOrder(row *orderRow, c vetting.OrderChange, approved bool) error {
	body, err := row.body()
	if err != nil {
		return err
	}
	o := vetting.Order{Name: row.Name, State: vetting.OrderState(row.State), Quantity: row.Quantity, Issued: row.Issued, Wasted: row.Wasted,
		NotBefore: body.NotBefore, NotAfter: body.NotAfter, ManifestSignatures: body.ManifestSignatures, Limits: body.Limits, Rework: body.Rework, MaxReplacements: body.MaxReplacements, RaiseApprovals: body.RaiseApprovals}
	if c.State != nil && *c.State != o.State {
		if !o.MayBecome(*c.State) {
			return vetting.Errorf(vetting.Conflict, "order %s is %s and cannot become %q", o.Name, o.State, *c.State)
		}
		o.State = *c.State
	}
	if c.Quantity != nil {
		if *c.Quantity > o.Quantity && body.RaiseApprovals > 0 && !approved {
			return vetting.Errorf(vetting.Conflict, "order %s is raised only with the approval of %d others: ask for a raise", o.Name, body.RaiseApprovals)
		}
		o.Quantity = *c.Quantity
	}
	if c.RaiseApprovals != nil {
		if *c.RaiseApprovals < body.RaiseApprovals {
			return vetting.Errorf(vetting.Conflict, "order %s wants %d approvals of a raise, and that cannot be made %d: it can only grow", o.Name, body.RaiseApprovals, *c.RaiseApprovals)
		}
		o.RaiseApprovals = *c.RaiseApprovals
	}
	if c.NotBefore != nil {
		o.NotBefore = c.NotBefore.UTC()
	}
	if c.NotAfter != nil {
		o.NotAfter = c.NotAfter.UTC()
	}
	if c.Limits != nil {
		o.Limits = *c.Limits
	}
	if c.Rework != nil {
		o.Rework = *c.Rework
	}
	if c.MaxReplacements != nil {
		o.MaxReplacements = *c.MaxReplacements
	}
	if err := o.Check(); err != nil {
		return vetting.Errorf(vetting.Invalid, "%v", err)
	}
	if o.Quantity < row.Licensed {
		return vetting.Errorf(vetting.Conflict, "%d chips have a licence from order %s already, so its quantity cannot become %d", row.Licensed, o.Name, o.Quantity)
	}
	if o.Left() < 0 {
		return vetting.Errorf(vetting.Conflict, "order %s has issued %d units already and lost %d by waste, so its quantity cannot become %d", o.Name, o.Issued, o.Wasted, o.Quantity)
	}
	body.NotBefore, body.NotAfter, body.Limits, body.Rework, body.Updated = o.NotBefore, o.NotAfter, o.Limits, o.Rework, w.now
	body.MaxReplacements, body.RaiseApprovals = o.MaxReplacements, o.RaiseApprovals
	row.State, row.Quantity, row.Body = string(o.State), o.Quantity, mustJSON(body)
	row.Revision++
	return nil
}
