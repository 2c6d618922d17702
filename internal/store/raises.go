package store

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/internal/audit"
	"github.com/touchmark/touchmark/vetting"
)

// raiseRow is a row of raises. What it comes to by time, or by a change of
// its order, is not written: nobody does it.
type raiseRow struct {
	ID, OrderID int64
	State       string
	Body        string // the vetting.Raise as JSON
}

const raiseColumns = `ra.id, ra.order_id, ra.state, ra.body`

func (r *raiseRow) dest() []any { return []any{&r.ID, &r.OrderID, &r.State, &r.Body} }

func (r *raiseRow) scan(from row) error { return from.Scan(r.dest()...) }

func (r *raiseRow) object() audit.Object {
	return audit.Object{Kind: audit.KindRaise, ID: r.ID, Digest: audit.DigestOf(r)}
}

func (r *raiseRow) raise() (*vetting.Raise, error) {
	out := new(vetting.Raise)
	if err := json.Unmarshal([]byte(r.Body), out); err != nil {
		return nil, fmt.Errorf("raise %d in the database: %w", r.ID, err)
	}
	out.ID, out.State = r.ID, vetting.RaiseState(r.State)
	return out, nil
}

// Raises lists the raises of an order, newest first.
func (s *Store) Raises(ctx context.Context, order string, p vetting.Page) ([]*vetting.Raise, error) {
	o, err := s.Order(ctx, order)
	if err != nil {
		return nil, err
	}
	return s.raises(ctx, o.Revision, `ra.order_id = $1 AND ra.id < $2 ORDER BY ra.id DESC LIMIT $3`, o.ID, newestFirst(p), limit(p))
}

func (s *Store) raises(ctx context.Context, revision int64, where string, args ...any) (list []*vetting.Raise, err error) {
	now := s.now()
	err = s.db.query(ctx, `SELECT `+raiseColumns+` FROM raises ra WHERE `+where, args, func(r row) error {
		var row raiseRow
		if err := r.Scan(row.dest()...); err != nil {
			return err
		}
		raise, err := row.raise()
		if err != nil {
			return err
		}
		raise.State = raise.Standing(now, revision)
		list = append(list, raise)
		return nil
	})
	return list, err
}

// ProposeRaise asks for a larger quantity of an order that wants approvals
// for it. An order that wants none, a quantity that is not larger, or a raise
// that is pending already is a Conflict.
func (s *Store) ProposeRaise(ctx context.Context, a access.Act, order string, to int64, note string) (*vetting.Raise, error) {
	return s.actOnRaise(ctx, a, order, func(w *writing, o *orderRow) (int64, error) {
		r := &vetting.Raise{Order: order, State: vetting.RaisePending, From: o.Quantity, To: to, Revision: o.Revision,
			By: a.Operator, Note: note, At: w.now, Expires: w.now.Add(vetting.RaiseLife), Approvals: []vetting.Approval{}}
		if err := w.checkRaise(o, r); err != nil {
			return 0, err
		}
		row := &raiseRow{ID: w.ids(1), OrderID: o.ID, State: string(r.State), Body: mustJSON(r)}
		w.exec(`INSERT INTO raises (id, order_id, state, body) VALUES ($1, $2, $3, $4)`, row.ID, row.OrderID, row.State, row.Body)
		w.leaf("order.raise-request", operatorOf(a), raiseNote(r), row.object())
		return row.ID, nil
	})
}

// checkRaise says why a raise cannot be asked for, and how many approvals it
// wants.
func (w *writing) checkRaise(o *orderRow, r *vetting.Raise) error {
	body, err := o.body()
	if err != nil {
		return err
	}
	r.Wanted = body.RaiseApprovals
	switch state := vetting.OrderState(o.State); {
	case body.RaiseApprovals == 0:
		return vetting.Errorf(vetting.Conflict, "order %s wants no approvals: change its quantity", o.Name)
	case r.To <= o.Quantity:
		return vetting.Errorf(vetting.Conflict, "order %s is for %d units, so %d is no raise: a smaller quantity needs no approval", o.Name, o.Quantity, r.To)
	case r.To > vetting.MaxQuantity:
		return vetting.Errorf(vetting.Invalid, "a quantity of %d: at most %d are allowed", r.To, int64(vetting.MaxQuantity))
	case state == vetting.OrderCancelled:
		return vetting.Errorf(vetting.Conflict, "order %s was cancelled", o.Name)
	}
	var pending *vetting.Raise
	w.fetch(`SELECT `+raiseColumns+` FROM raises ra WHERE ra.order_id = $1 ORDER BY ra.id DESC LIMIT 1`, []any{o.ID}, func(r row) error {
		var row raiseRow
		if err := r.Scan(row.dest()...); err != nil {
			return err
		}
		var err error
		pending, err = row.raise()
		return err
	})
	if err := w.flush(); err != nil {
		return err
	}
	if pending != nil && pending.Standing(w.now, o.Revision) == vetting.RaisePending {
		return vetting.Errorf(vetting.Conflict, "a raise of order %s to %d units, asked for by %s, waits for approvals already: withdraw it first", o.Name, pending.To, pending.By)
	}
	return nil
}

// ApproveRaise is an operator's yes to a raise to a quantity. The last one
// that the order wants changes the order. What vetting.Raise does not allow,
// or another quantity, is a Conflict.
func (s *Store) ApproveRaise(ctx context.Context, a access.Act, order string, id, to int64) (*vetting.Raise, error) {
	return s.actOnRaise(ctx, a, order, func(w *writing, o *orderRow) (int64, error) {
		row, r, err := w.raise(o, id)
		if err != nil {
			return 0, err
		}
		complete, err := r.Approve(a.Operator, to, w.now)
		if err != nil {
			return 0, err
		}
		act, objects := "order.raise-approve", []audit.Object{w.saveRaise(row, r)}
		if complete {
			if err := w.changeOrder(o, vetting.OrderChange{Quantity: &r.To}, true); err != nil {
				return 0, err
			}
			w.saveOrder(o)
			act, objects = "order.raise", append(objects, o.object())
		}
		w.leaf(act, operatorOf(a), raiseNote(r), objects...)
		return id, nil
	})
}

// WithdrawRaise takes a pending raise back; anybody who may approve it may
// do that, and who asked for it.
func (s *Store) WithdrawRaise(ctx context.Context, a access.Act, order string, id int64, note string) (*vetting.Raise, error) {
	return s.actOnRaise(ctx, a, order, func(w *writing, o *orderRow) (int64, error) {
		row, r, err := w.raise(o, id)
		if err != nil {
			return 0, err
		}
		if err := r.Withdraw(); err != nil {
			return 0, err
		}
		w.leaf("order.raise-withdraw", operatorOf(a), note, w.saveRaise(row, r))
		return id, nil
	})
}

// actOnRaise carries out an act on an order's raise, and reads that again.
func (s *Store) actOnRaise(ctx context.Context, a access.Act, order string, do func(*writing, *orderRow) (int64, error)) (*vetting.Raise, error) {
	id, err := s.act(ctx, a, func(w *writing) (int64, error) {
		o, err := w.orderNamed(order)
		if err != nil {
			return 0, err
		}
		return do(w, o)
	})
	if err != nil {
		return nil, err
	}
	o, err := s.Order(ctx, order)
	if err != nil {
		return nil, err
	}
	list, err := s.raises(ctx, o.Revision, `ra.id = $1`, id)
	return theOne(list, err, "raise", id)
}

// raise reads a raise of an order as it stands now.
func (w *writing) raise(o *orderRow, id int64) (*raiseRow, *vetting.Raise, error) {
	row := new(raiseRow)
	w.fetch(`SELECT `+raiseColumns+` FROM raises ra WHERE ra.id = $1 AND ra.order_id = $2`, []any{id, o.ID}, row.scan)
	if err := w.flush(); err != nil {
		return nil, nil, err
	}
	if row.ID == 0 {
		return nil, nil, notFound("raise", id)
	}
	r, err := row.raise()
	if err != nil {
		return nil, nil, err
	}
	r.State = r.Standing(w.now, o.Revision)
	return row, r, nil
}

func (w *writing) saveRaise(row *raiseRow, r *vetting.Raise) audit.Object {
	row.State, row.Body = string(r.State), mustJSON(r)
	w.exec(`UPDATE raises SET state = $2, body = $3 WHERE id = $1`, row.ID, row.State, row.Body)
	return row.object()
}

func raiseNote(r *vetting.Raise) string {
	return fmt.Sprintf("%s from %d to %d", r.Order, r.From, r.To)
}
