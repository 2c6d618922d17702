package store

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/internal/approval"
	"github.com/touchmark/touchmark/internal/audit"
	"github.com/touchmark/touchmark/vetting"
)

// Raises of orders had a table of their own before they were proposals, and
// approvals were names without signatures. What was over by then stays there.

// raiseMoved is the state of a row whose raise became a proposal.
const raiseMoved = "moved"

// raiseRow is a row of raises.
type raiseRow struct {
	ID, OrderID int64
	State       string
	Body        string // the vetting.Raise as JSON
}

const raiseColumns = `ra.id, ra.order_id, ra.state, ra.body`

func (r *raiseRow) scan(from row) error { return from.Scan(&r.ID, &r.OrderID, &r.State, &r.Body) }

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

// oldRaises lists an order's raises that never were proposals.
func (s *Store) oldRaises(ctx context.Context, order int64, p vetting.Page) (list []*vetting.Raise, err error) {
	err = s.db.query(ctx, `SELECT `+raiseColumns+` FROM raises ra WHERE ra.order_id = $1 AND ra.state <> $2 AND ra.id < $3 ORDER BY ra.id DESC LIMIT $4`,
		[]any{order, raiseMoved, newestFirst(p), limit(p)}, func(r row) error {
			var row raiseRow
			if err := row.scan(r); err != nil {
				return err
			}
			raise, err := row.raise()
			list = append(list, raise)
			return err
		})
	return list, err
}

// moveRaises makes proposals of the raises that an earlier program left
// pending. They want their approvals anew, signed.
func (s *Store) moveRaises(ctx context.Context) error {
	found := int64(0)
	if _, err := one(ctx, s.db, `SELECT COUNT(*) FROM raises WHERE state = $1`, []any{string(vetting.RaisePending)}, &found); err != nil || found == 0 {
		return err
	}
	return s.update(ctx, func(w *writing) error {
		var rows []*raiseRow
		w.fetch(`SELECT `+raiseColumns+` FROM raises ra WHERE ra.state = $1`, []any{string(vetting.RaisePending)}, func(r row) error {
			rows = append(rows, new(raiseRow))
			return rows[len(rows)-1].scan(r)
		})
		if err := w.flush(); err != nil {
			return err
		}
		for _, row := range rows {
			if err := w.moveRaise(row); err != nil {
				return err
			}
		}
		return nil
	})
}

// moveRaise writes down what became of a raise by time or by a change of its
// order, or makes it a proposal with the same number.
func (w *writing) moveRaise(row *raiseRow) error {
	r, err := row.raise()
	if err != nil {
		return err
	}
	o, err := w.orderNamed(r.Order)
	if err != nil {
		return err
	}
	switch {
	case r.Revision != o.Revision:
		row.State = string(vetting.RaiseVoid)
	case !w.now.Before(r.Expires):
		row.State = string(vetting.RaiseExpired)
	default:
		row.State = raiseMoved
		p, err := approval.New(row.ID, approval.Act{Kind: approval.OrderRaise, Subject: r.Order, Note: r.Note, Wanted: r.Wanted, Life: r.Expires.Sub(w.now),
			Statement: vetting.RaiseStatement{Order: r.Order, From: r.From, To: r.To, Revision: r.Revision}}, r.By, w.now)
		if err != nil {
			return err
		}
		w.insertProposal(access.Act{Operator: r.By}, p)
	}
	w.exec(`UPDATE raises SET state = $2 WHERE id = $1`, row.ID, row.State)
	w.leaf("order.raise-move", "server", r.Order+" is "+row.State, row.object())
	return nil
}
