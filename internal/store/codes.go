package store

import (
	"context"
	"fmt"

	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/internal/audit"
	"github.com/touchmark/touchmark/vetting"
)

// codeRow is a row of codes.
type codeRow struct {
	ID                        int64
	Hash                      []byte
	Batch                     int64
	OrderID, SiteID, DeviceID int64
	By                        string
	Created, Expires          int64
	Used, UsedBy, Revoked     int64
}

const codeColumns = `c.id, c.hash, c.batch, c.order_id, c.site_id, c.device_id, c.made_by, c.created, c.expires, c.used, c.used_by, c.revoked`

func (c *codeRow) dest() []any {
	return []any{&c.ID, &c.Hash, &c.Batch, &c.OrderID, &c.SiteID, &c.DeviceID, &c.By, &c.Created, &c.Expires, &c.Used, &c.UsedBy, &c.Revoked}
}

func (c *codeRow) object() audit.Object {
	return audit.Object{Kind: audit.KindCode, ID: c.ID, Digest: audit.DigestOf(c)}
}

func (s *Store) codes(ctx context.Context, where string, args ...any) (list []*vetting.EnrolmentCode, err error) {
	now := s.now()
	err = s.db.query(ctx, `SELECT `+codeColumns+`, o.name, s.name, COALESCE(rec.serial, '')
		FROM codes c JOIN orders o ON o.id = c.order_id JOIN sites s ON s.id = c.site_id LEFT JOIN records rec ON rec.id = c.device_id
		WHERE `+where, args, func(r row) error {
		var c codeRow
		out := new(vetting.EnrolmentCode)
		if err := r.Scan(append(c.dest(), &out.Order, &out.Site, &out.Serial)...); err != nil {
			return err
		}
		out.ID, out.Batch, out.DeviceID, out.By, out.OrderID, out.SiteID = c.ID, c.Batch, c.DeviceID, c.By, c.OrderID, c.SiteID
		out.Created, out.Expires = fromMicros(c.Created), fromMicros(c.Expires)
		out.Used, out.UsedBy, out.Revoked = fromMicros(c.Used), c.UsedBy, fromMicros(c.Revoked)
		out.State = out.At(now)
		list = append(list, out)
		return nil
	})
	return list, err
}

// Codes lists enrolment codes, newest first.
func (s *Store) Codes(ctx context.Context, f vetting.CodeFilter, p vetting.Page) ([]*vetting.EnrolmentCode, error) {
	where, args := `TRUE`, []any{}
	and := func(condition string, value any) {
		args = append(args, value)
		where += fmt.Sprintf(" AND "+condition, len(args))
	}
	if p.After != 0 {
		and(`c.id < $%d`, p.After)
	}
	if f.Site != "" {
		and(`s.name = $%d`, f.Site)
	}
	if f.Order != "" {
		and(`o.name = $%d`, f.Order)
	}
	if f.DeviceID != 0 {
		and(`c.device_id = $%d`, f.DeviceID)
	}
	if f.Batch != 0 {
		and(`c.id >= $%d`, f.Batch)
		and(`c.batch = $%d`, f.Batch)
	}
	switch f.State {
	case vetting.CodeUnused:
		and(`c.used = 0 AND c.revoked = 0 AND c.expires > $%d`, micros(s.now()))
	case vetting.CodeExpired:
		and(`c.used = 0 AND c.revoked = 0 AND c.expires <= $%d`, micros(s.now()))
	case vetting.CodeUsed:
		where += ` AND c.used <> 0`
	case vetting.CodeRevoked:
		where += ` AND c.used = 0 AND c.revoked <> 0`
	}
	args = append(args, limit(p))
	return s.codes(ctx, where+fmt.Sprintf(` ORDER BY c.id DESC LIMIT $%d`, len(args)), args...)
}

// Code returns an enrolment code by ID, or a NotFound error.
func (s *Store) Code(ctx context.Context, id int64) (*vetting.EnrolmentCode, error) {
	list, err := s.codes(ctx, `c.id = $1`, id)
	return theOne(list, err, "enrolment code", id)
}

// CreateCodes keeps new enrolment codes and returns them in the order of
// their hashes. A device has one unused code at most: earlier ones are
// revoked. Order and devices must exist (NotFound), the devices be of one
// order, the product accept codes, and there be something left to let in
// (Conflict). An act that is repeated is a Conflict too, for what was printed
// is not known any more.
func (s *Store) CreateCodes(ctx context.Context, a access.Act, n vetting.NewCodes) ([]*vetting.EnrolmentCode, error) {
	made := false
	batch, err := s.act(ctx, a, func(w *writing) (int64, error) {
		order, err := w.orderOfCodes(n)
		if err != nil {
			return 0, err
		}
		for _, id := range n.Devices {
			if _, err := w.revokeCodes(a, `c.device_id = $1`, id); err != nil {
				return 0, err
			}
		}
		made = true
		return w.createCodes(a, n, order), nil
	})
	if err != nil {
		return nil, err
	}
	if !made {
		return nil, vetting.Errorf(vetting.Conflict, "these codes were made already, as batch %d, and codes are shown only once: revoke that batch, and ask for others with a new idempotency key", batch)
	}
	return s.codes(ctx, `c.id >= $1 AND c.id < $2 ORDER BY c.id`, batch, batch+int64(len(n.Hashes)))
}

// orderOfCodes finds the order that codes are asked for.
func (w *writing) orderOfCodes(n vetting.NewCodes) (*orderRow, error) {
	var order *orderRow
	if len(n.Devices) == 0 {
		order = w.fetchOrder(`o.name = $1`, n.Order)
	}
	for _, id := range n.Devices {
		of := w.fetchOrder(`o.id = (SELECT order_id FROM records WHERE id = $1)`, id)
		d := deviceRow{State: string(vetting.DeviceManufactured)}
		w.fetch(`SELECT `+deviceColumns+` FROM devices d WHERE d.id = $1`, []any{id}, func(r row) error { return r.Scan(d.dest()...) })
		if err := w.flush(); err != nil {
			return nil, err
		}
		switch state := vetting.DeviceState(d.State); {
		case of.ID == 0:
			return nil, notFound("device", id)
		case order != nil && of.ID != order.ID:
			return nil, vetting.Errorf(vetting.Conflict, "the devices are of several orders, %s and %s: ask for codes for one order at a time", order.Name, of.Name)
		case state != vetting.DeviceManufactured && state != vetting.DeviceRegistered && state != vetting.DeviceIssued:
			return nil, vetting.Errorf(vetting.Conflict, "device %d is %s, and a code is for the first enrolment only", id, state)
		}
		order = of
	}
	if err := w.flush(); err != nil {
		return nil, err
	}
	if order.ID == 0 {
		return nil, notFound("order", n.Order)
	}
	return order, w.takesCodes(order)
}

func (w *writing) fetchOrder(where string, arg any) *orderRow {
	o := new(orderRow)
	w.fetch(`SELECT `+orderColumns+` FROM orders o WHERE `+where, []any{arg}, func(r row) error { return r.Scan(o.dest()...) })
	return o
}

// takesCodes reports why codes of an order could let nobody in.
func (w *writing) takesCodes(o *orderRow) error {
	if s := vetting.OrderState(o.State); s == vetting.OrderClosed || s == vetting.OrderCancelled {
		return vetting.Errorf(vetting.Conflict, "order %s is %s: its codes would let nobody in", o.Name, s)
	}
	var p productRow
	w.fetch(`SELECT id, name, revision, body FROM products WHERE id = $1`, []any{o.ProductID}, func(r row) error {
		return r.Scan(&p.ID, &p.Name, &p.Revision, &p.Body)
	})
	if err := w.flush(); err != nil {
		return err
	}
	product, err := p.product()
	if err == nil && !product.Accepts(vetting.ProofCode) {
		err = vetting.Errorf(vetting.Conflict, "product %s does not accept the proof %q: add it to the product first", p.Name, vetting.ProofCode)
	}
	return err
}

// codesPerLeaf bounds the leaves that tell of many codes.
const codesPerLeaf = 100

func (w *writing) createCodes(a access.Act, n vetting.NewCodes, o *orderRow) (batch int64) {
	batch = w.ids(int64(len(n.Hashes)))
	var objects []audit.Object
	for i, hash := range n.Hashes {
		c := &codeRow{ID: batch + int64(i), Hash: hash[:], Batch: batch, OrderID: o.ID, SiteID: o.SiteID,
			By: a.Operator, Created: micros(w.now), Expires: micros(n.Expires)}
		if len(n.Devices) > 0 {
			c.DeviceID = n.Devices[i]
		}
		w.insert(`codes (id, hash, batch, order_id, site_id, device_id, made_by, created, expires, used, used_by, revoked)`,
			c.ID, c.Hash, c.Batch, c.OrderID, c.SiteID, c.DeviceID, c.By, c.Created, c.Expires, c.Used, c.UsedBy, c.Revoked)
		if objects = append(objects, c.object()); len(objects) == codesPerLeaf || i == len(n.Hashes)-1 {
			w.leaf("code.create", operatorOf(a), fmt.Sprintf("%d for order %s, batch %d", len(objects), o.Name, batch), objects...)
			objects = nil
		}
	}
	return batch
}

// revokeCodes takes unused codes out of use, and tells how many.
func (w *writing) revokeCodes(a access.Act, where string, arg int64) (n int64, err error) {
	var rows []*codeRow
	w.fetch(`SELECT `+codeColumns+` FROM codes c WHERE c.used = 0 AND c.revoked = 0 AND `+where+` ORDER BY c.id`, []any{arg}, func(r row) error {
		c := new(codeRow)
		rows = append(rows, c)
		return r.Scan(c.dest()...)
	})
	if err := w.flush(); err != nil {
		return 0, err
	}
	var objects []audit.Object
	for i, c := range rows {
		c.Revoked = micros(w.now)
		w.exec(`UPDATE codes SET revoked = $2 WHERE id = $1`, c.ID, c.Revoked)
		if objects = append(objects, c.object()); len(objects) == codesPerLeaf || i == len(rows)-1 {
			w.leaf("code.revoke", operatorOf(a), fmt.Sprintf("%d, the first is %d", len(objects), objects[0].ID), objects...)
			objects = nil
		}
	}
	return int64(len(rows)), nil
}

// RevokeCode takes one code out of use. Revoking it again changes nothing; one
// that was used is a Conflict.
func (s *Store) RevokeCode(ctx context.Context, a access.Act, id int64) (*vetting.EnrolmentCode, error) {
	_, err := s.act(ctx, a, func(w *writing) (int64, error) {
		n, err := w.revokeCodes(a, `c.id = $1`, id)
		if err != nil || n > 0 {
			return id, err
		}
		var c codeRow
		w.fetch(`SELECT `+codeColumns+` FROM codes c WHERE c.id = $1`, []any{id}, func(r row) error { return r.Scan(c.dest()...) })
		if err := w.flush(); err != nil {
			return 0, err
		}
		switch {
		case c.ID == 0:
			return 0, notFound("enrolment code", id)
		case c.Used != 0:
			return 0, vetting.Errorf(vetting.Conflict, "enrolment code %d was used by device %d: if that was not the right device, quarantine it", id, c.UsedBy)
		}
		return id, nil
	})
	if err != nil {
		return nil, err
	}
	return s.Code(ctx, id)
}

// RevokeBatch takes the codes of a batch that are unused out of use, and
// tells how many those were. A batch that there is not is NotFound.
func (s *Store) RevokeBatch(ctx context.Context, a access.Act, batch int64) (n int64, err error) {
	_, err = s.act(ctx, a, func(w *writing) (int64, error) {
		known, err := w.taken(`SELECT 1 FROM codes WHERE id = $1 AND batch = $1`, batch)
		if err != nil || !known {
			return 0, orNotFound(err, "batch of enrolment codes", batch)
		}
		n, err = w.revokeCodes(a, fmt.Sprintf(`c.batch = $1 AND c.id >= $1 AND c.id < $1 + %d`, vetting.MaxCodes), batch)
		return batch, err
	})
	return n, err
}
