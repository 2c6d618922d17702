package store

import (
	"context"
	"time"

	"github.com/touchmark/touchmark/internal/access"
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
// must be free (Exists), product and site must exist (NotFound). An open one
// that wants approvals is a Conflict.
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
			Body: mustJSON(orderBody{Identifiers: o.Identifiers, NotBefore: o.NotBefore.UTC(), NotAfter: o.NotAfter.UTC(), ManifestSignatures: o.ManifestSignatures, Limits: o.Limits, Waste: o.Waste, Rework: o.Rework, MaxReplacements: o.MaxReplacements, RaiseApprovals: o.RaiseApprovals, ManifestApprovals: o.ManifestApprovals, Created: w.now, Updated: w.now})}
		if row.State == "" {
			row.State = string(vetting.OrderDraft)
		}
		of, err := w.productOf(row)
		if err != nil {
			return 0, err
		}
		if n := of.Approvals.Opening(o.Quantity); n > 0 && row.State == string(vetting.OrderOpen) {
			return 0, vetting.Errorf(vetting.Conflict, "an order of %d units of product %s opens only with the approval of %d others: make it a draft, and ask with `touchmark order open %s --note WHY`", o.Quantity, o.Product, n, o.Name)
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
// issued, is a Conflict; so is what wants approvals (see ProposeRaise and
// ProposeOpening). What waits for them becomes void.
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
		return o.ID, w.orderChanged(operatorOf(a), name)
	})
	if err != nil {
		return nil, err
	}
	return s.Order(ctx, name)
}

// orderNamed reads an order, or fails with NotFound.
func (w *writing) orderNamed(name string) (*orderRow, error) {
	return w.orderWhere(`o.name = $1`, name)
}

func (w *writing) orderWhere(where string, arg any) (*orderRow, error) {
	o := new(orderRow)
	w.fetch(`SELECT `+orderColumns+` FROM orders o WHERE `+where, []any{arg}, func(r row) error { return r.Scan(o.dest()...) })
	if err := w.flush(); err != nil {
		return nil, err
	}
	if o.ID == 0 {
		return nil, notFound("order", arg)
	}
	return o, nil
}

func (w *writing) saveOrder(o *orderRow) {
	w.exec(`UPDATE orders SET state = $2, quantity = $3, revision = $4, body = $5 WHERE id = $1`, o.ID, o.State, o.Quantity, o.Revision, o.Body)
}

// changeOrder checks a change against the order as it is now; approved says
// that others agreed to it, as many as it wants.
func (w *writing) changeOrder(row *orderRow, c vetting.OrderChange, approved bool) error {
	body, err := row.body()
	if err != nil {
		return err
	}
	product, err := w.productOf(row)
	if err != nil {
		return err
	}
	before := row.order(&body)
	o := *before
	if c.State != nil && *c.State != o.State {
		if !o.MayBecome(*c.State) {
			return vetting.Errorf(vetting.Conflict, "order %s is %s and cannot become %q", o.Name, o.State, *c.State)
		}
		o.State = *c.State
	}
	if err := moreApprovals(&o, c); err != nil {
		return err
	}
	setTerms(&o, c)
	if err := o.Check(); err != nil {
		return vetting.Errorf(vetting.Invalid, "%v", err)
	}
	if !approved {
		if err := agreed(before, &o, product.Approvals); err != nil {
			return err
		}
	}
	if o.Quantity < row.Licensed {
		return vetting.Errorf(vetting.Conflict, "%d chips have a licence from order %s already, so its quantity cannot become %d", row.Licensed, o.Name, o.Quantity)
	}
	if o.Left() < 0 {
		return vetting.Errorf(vetting.Conflict, "order %s has issued %d units already and lost %d by waste, so its quantity cannot become %d", o.Name, o.Issued, o.Wasted, o.Quantity)
	}
	row.keep(&o, body, w.now)
	return nil
}

// setTerms enters what a change says of quantity, window, rate and rework.
func setTerms(o *vetting.Order, c vetting.OrderChange) {
	if c.Quantity != nil {
		o.Quantity = *c.Quantity
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
}

// moreApprovals enters how many approvals are wanted from now on, which can
// only grow.
func moreApprovals(o *vetting.Order, c vetting.OrderChange) error {
	for _, n := range [...]struct {
		what string
		to   *int
		have *int
	}{{"raise", c.RaiseApprovals, &o.RaiseApprovals}, {"manifest", c.ManifestApprovals, &o.ManifestApprovals}} {
		if n.to == nil {
			continue
		}
		if *n.to < *n.have {
			return vetting.Errorf(vetting.Conflict, "order %s wants %d approvals of a %s, and that cannot be made %d: it can only grow", o.Name, *n.have, n.what, *n.to)
		}
		*n.have = *n.to
	}
	return nil
}

// agreed refuses a change of an order that others have to agree to, and says
// how to ask. What they agreed to before counts only as long as the order is
// not loosened.
func agreed(before, o *vetting.Order, p vetting.ProductApprovals) error {
	raised := o.Quantity > before.Quantity
	if raised && before.RaiseApprovals > 0 {
		return vetting.Errorf(vetting.Conflict, "order %s is raised only with the approval of %d others: ask for a raise", o.Name, before.RaiseApprovals)
	}
	o.Approved = before.Approved && !raised && o.SameTerms(before)
	n := o.Unapproved(p)
	switch {
	case n == 0 || o.State != vetting.OrderOpen:
		return nil
	case before.State != vetting.OrderOpen:
		return vetting.Errorf(vetting.Conflict, "order %s opens only with the approval of %d others: ask for it, with `touchmark order open %[1]s --note WHY`", o.Name, n)
	case raised:
		return vetting.Errorf(vetting.Conflict, "order %s is raised only with the approval of %d others: ask for a raise", o.Name, n)
	case !o.SameTerms(before):
		return vetting.Errorf(vetting.Conflict, "%d others have to agree to the window, limits and rework of order %s: pause it, change it, and ask for it to be opened again", n, o.Name)
	}
	return nil // it was open before approvals were wanted, and is not loosened
}

// keep enters a changed order into its row.
func (o *orderRow) keep(to *vetting.Order, body orderBody, now time.Time) {
	body.NotBefore, body.NotAfter, body.Limits, body.Rework, body.Updated = to.NotBefore, to.NotAfter, to.Limits, to.Rework, now
	body.MaxReplacements, body.RaiseApprovals, body.ManifestApprovals, body.Approved = to.MaxReplacements, to.RaiseApprovals, to.ManifestApprovals, to.Approved
	o.State, o.Quantity, o.Body = string(to.State), to.Quantity, mustJSON(body)
	o.Revision++
}
