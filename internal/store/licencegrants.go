package store

import (
	"context"
	"encoding/hex"
	"fmt"

	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/vetting"
)

// chip is what the database knows of a UID, as the earlier jobs of a batch
// left it.
type chip struct {
	licence, grant int64 // 0 if it has none
	signed         bool
	holders        []vetting.ChipHolder
}

// loadChip asks for a chip's licence and record, once for the whole batch.
func (w *writing) loadChip(uid []byte) {
	if w.chips[string(uid)] == nil {
		w.chips[string(uid)] = new(chip)
		w.wantChips = append(w.wantChips, uid)
		w.wantChipRecords = append(w.wantChipRecords, hex.EncodeToString(uid))
	}
}

func (w *writing) loadGrant(id int64) {
	if w.grants[id] == nil {
		w.grants[id] = new(grantRow)
		w.wantGrants = append(w.wantGrants, id)
	}
}

func (w *writing) readChips() {
	w.fetchOneOf(`SELECT l.uid, l.id, g.id, g.product_id, g.site_id, g.signed FROM licences l JOIN licence_grants g ON g.id = l.grant_id WHERE l.uid IN`, nil, w.wantChips, func(r row) error {
		var uid []byte
		var c chip
		var h vetting.ChipHolder
		var signed int64
		err := r.Scan(&uid, &c.licence, &c.grant, &h.ProductID, &h.SiteID, &signed)
		c.signed = signed != 0
		held := w.chips[string(uid)]
		held.licence, held.grant, held.signed, held.holders = c.licence, c.grant, c.signed, append(held.holders, h)
		return err
	})
	w.fetchOneOf(`SELECT rec.uid, rec.id, rec.product_id, rec.site_id FROM records rec WHERE rec.uid IN`, nil, w.wantChipRecords, func(r row) error {
		var text string
		var h vetting.ChipHolder
		if err := r.Scan(&text, &h.DeviceID, &h.ProductID, &h.SiteID); err != nil {
			return err
		}
		uid, err := hex.DecodeString(text)
		held := w.chips[string(uid)]
		held.holders = append(held.holders, h)
		return err
	})
	w.fetchOneOf(`SELECT `+grantColumns+` FROM licence_grants g WHERE g.id IN`, nil, w.wantGrants, func(r row) error {
		g := new(grantRow)
		err := r.Scan(g.dest()...)
		w.grants[g.ID] = g
		return err
	})
	w.wantChips, w.wantChipRecords, w.wantGrants = nil, nil, nil
}

// fewChips share their transaction with others' requests; more would make
// those wait.
const fewChips = 32

// ReserveLicences decides on each chip of a request, takes a unit of the
// order's quota for each that has none yet, and keeps what refusals bring up
// as evidence.
func (s *Store) ReserveLicences(ctx context.Context, a access.Act, q vetting.LicenceRequest) (*vetting.LicenceClaims, error) {
	r := &reservation{act: a, request: q}
	err := s.submit(&job{ctx: ctx, load: r.load, apply: r.apply, alone: len(q.UIDs) > fewChips})
	if err != nil {
		return nil, err
	}
	return r.out, nil
}

// reservation is one request on its way through the writer. A batch that is
// tried again loads and applies it anew.
type reservation struct {
	act     access.Act
	request vetting.LicenceRequest
	out     *vetting.LicenceClaims
}

func (r *reservation) load(w *writing) {
	w.loadOrder(r.request.Order.ID)
	for _, uid := range r.request.UIDs {
		w.loadChip(uid)
	}
}

func (r *reservation) apply(w *writing) error {
	row := w.orders[r.request.Order.ID]
	order, err := r.order(row)
	if err != nil {
		return err
	}
	r.out = &vetting.LicenceClaims{Claims: make([]vetting.LicenceClaim, len(r.request.UIDs))}
	var fresh []int // of the chips
	var repeated [][]byte
	var evidence []vetting.Evidence
	for i, uid := range r.request.UIDs {
		c, claim := w.chips[string(uid)], &r.out.Claims[i]
		var seen *vetting.Evidence
		if claim.Refused, seen = vetting.JudgeLicence(order, uid, "Operator "+r.act.Operator, w.now, c.licence != 0, c.holders...); seen != nil {
			evidence = append(evidence, *seen)
		}
		switch {
		case claim.Refused != nil:
		case c.licence != 0:
			claim.Grant, claim.Signed = c.grant, c.signed
			repeated = append(repeated, uid)
		default:
			order.Licensed++
			fresh = append(fresh, i)
		}
	}
	if err := w.recordEvidence(operatorOf(r.act), evidence); err != nil {
		return err
	}
	if err := r.take(w, row, fresh); err != nil {
		return err
	}
	if len(repeated) > 0 {
		w.leaf("licence.repeat", operatorOf(r.act), chipsNote(row, "again for", repeated), row.object())
	}
	r.out.Lot, r.out.Left = uint32(row.Lot), row.Quantity-row.Licensed
	return nil
}

// order is the request's as it is now.
func (r *reservation) order(row *orderRow) (*vetting.Order, error) {
	if row.ID == 0 {
		return nil, notFound("order", r.request.Order.Name)
	}
	o := *r.request.Order
	o.State, o.Quantity, o.Licensed = vetting.OrderState(row.State), row.Quantity, row.Licensed
	if row.Revision == o.Revision {
		return &o, nil
	}
	body, err := row.body()
	o.NotBefore, o.NotAfter = body.NotBefore, body.NotAfter
	return &o, err
}

// take reserves licences for the chips of the request that have none.
func (r *reservation) take(w *writing, row *orderRow, fresh []int) error {
	if len(fresh) == 0 {
		return nil
	}
	if row.Lot == 0 {
		if err := w.numberLot(row); err != nil {
			return err
		}
	}
	g := &grantRow{ID: w.ids(1 + int64(len(fresh))), OrderID: row.ID, ProductID: row.ProductID, SiteID: row.SiteID,
		Chips: int64(len(fresh)), By: r.act.Operator, At: micros(w.now)}
	w.grants[g.ID] = g
	w.insert(`licence_grants (id, order_id, product_id, site_id, chips, made_by, at, key_id, signed)`,
		g.ID, g.OrderID, g.ProductID, g.SiteID, g.Chips, g.By, g.At, g.KeyID, g.Signed)
	run, uids := newChipRun(g.ID), make([][]byte, len(fresh))
	for i, at := range fresh {
		id, uid := g.ID+1+int64(i), r.request.UIDs[at]
		w.insert(`licences (id, uid, grant_id)`, id, uid, g.ID)
		run.add(id, uid)
		c := w.chips[string(uid)]
		c.licence, c.grant, c.holders = id, g.ID, append(c.holders, vetting.ChipHolder{ProductID: g.ProductID, SiteID: g.SiteID})
		r.out.Claims[at].Grant, r.out.Claims[at].Fresh = g.ID, true
		uids[i] = uid
	}
	row.Licensed += g.Chips
	row.dirty = true
	w.leaf("licence.reserve", operatorOf(r.act), chipsNote(row, "for", uids), run.object(), g.object(), row.object())
	return nil
}

// numberLot gives an order its number in licences: the next one.
func (w *writing) numberLot(order *orderRow) error {
	w.fetch(`SELECT COALESCE(MAX(lot), 0) FROM orders WHERE lot <> 0`, nil, func(r row) error { return r.Scan(&order.Lot) })
	if err := w.flush(); err != nil {
		return err
	}
	for _, o := range w.orders {
		if o != order {
			order.Lot = max(order.Lot, o.Lot)
		}
	}
	order.Lot++
	return nil
}

// chipsNote tells a reader of the log which chips a leaf is about: the only
// one, or the first of several.
func chipsNote(o *orderRow, what string, uids [][]byte) string {
	if len(uids) > 1 {
		what = fmt.Sprintf("%s %d chips, the first is", what, len(uids))
	}
	return fmt.Sprintf("order %s: %s %x", o.Name, what, uids[0])
}

// SignLicences completes a grant, and reports whether it did: if it was
// complete already, what it holds stays, and these signatures count for
// nothing.
func (s *Store) SignLicences(ctx context.Context, a access.Act, sigs vetting.LicenceSignatures) (first bool, err error) {
	j := &licenceSigning{act: a, sigs: sigs}
	err = s.submit(&job{ctx: ctx, load: func(w *writing) { w.loadGrant(sigs.Grant) }, apply: j.apply, alone: len(sigs.Signatures) > fewChips*64})
	return j.first, err
}

type licenceSigning struct {
	act   access.Act
	sigs  vetting.LicenceSignatures
	first bool
}

func (j *licenceSigning) apply(w *writing) error {
	g := w.grants[j.sigs.Grant]
	switch {
	case g.ID == 0:
		return notFound("grant of licences", j.sigs.Grant)
	case int64(len(j.sigs.Signatures)) != 64*g.Chips:
		return fmt.Errorf("%d bytes of signatures for %d licences", len(j.sigs.Signatures), g.Chips)
	}
	if j.first = g.Signed == 0; !j.first {
		return nil
	}
	g.KeyID, g.Signed, g.Header, g.Signatures = j.sigs.KeyID, micros(w.now), j.sigs.Header[:], j.sigs.Signatures
	w.exec(`UPDATE licence_grants SET key_id = $2, signed = $3, header = $4, signatures = $5 WHERE id = $1`, g.ID, g.KeyID, g.Signed, g.Header, g.Signatures)
	w.leaf("licence.sign", operatorOf(j.act), fmt.Sprintf("%d", g.Chips), g.object())
	return nil
}
