package store

import (
	"context"

	"github.com/touchmark/touchmark/vetting"
)

// presentedCode finds the code that was presented, if there is such a one.
func (s *Store) presentedCode(ctx context.Context, f *vetting.Facts) error {
	auth := &f.Claim.Auth
	if auth.CodeHash.IsZero() {
		return nil
	}
	list, err := s.codes(ctx, `c.hash = $1`, auth.CodeHash[:])
	if err == nil && len(list) > 0 {
		f.Code, auth.Code = list[0], list[0].ID
	}
	return err
}

// byCode finds the record that a code and the name given with it speak of.
// With a code that there is not, the records of that name only bear it.
func (s *Store) byCode(ctx context.Context, f *vetting.Facts) error {
	if err := s.presentedCode(ctx, f); err != nil {
		return err
	}
	if f.Code != nil {
		units, err := s.ofCode(ctx, f)
		if err != nil {
			return err
		}
		if len(units) > 0 {
			return s.fill(ctx, f, units[0])
		}
	}
	if err := s.named(ctx, f); err != nil || f.Code == nil || len(f.Named) > 0 {
		return err
	}
	return s.awaitedByCode(ctx, f)
}

// ofCode finds the device of a code, or the one of its order that is named.
func (s *Store) ofCode(ctx context.Context, f *vetting.Facts) ([]*unit, error) {
	key, order, id := f.Claim.Key, f.Code.OrderID, f.Claim.Asserted
	switch {
	case f.Code.DeviceID != 0:
		return s.unitsFor(ctx, key, `rec.id = $2`, f.Code.DeviceID)
	case id.Serial != "":
		return s.unitsFor(ctx, key, `rec.order_id = $2 AND rec.serial = $3`, order, id.Serial)
	case id.UID != "":
		return s.unitsFor(ctx, key, `rec.order_id = $2 AND rec.uid = $3`, order, id.UID)
	case id.MAC != "":
		return s.unitsFor(ctx, key, `rec.order_id = $2 AND rec.mac = $3`, order, id.MAC)
	}
	return nil, nil
}

// named finds the records that bear the asserted name.
func (s *Store) named(ctx context.Context, f *vetting.Facts) error {
	units, err := s.byAsserted(ctx, f.Claim)
	if err != nil {
		return err
	}
	return bear(f, units)
}

// bear notes units as records that only bear the name.
func bear(f *vetting.Facts, units []*unit) error {
	for _, u := range units {
		r, err := u.record.record()
		if err != nil {
			return err
		}
		f.Named = append(f.Named, r)
	}
	return nil
}

// awaitedByCode finds what a device that is in no record may wait for: its
// code tells the order, and that the product.
func (s *Store) awaitedByCode(ctx context.Context, f *vetting.Facts) error {
	list, err := s.orders(ctx, `o.id = $1`, f.Code.OrderID)
	if err != nil || len(list) == 0 {
		return err
	}
	if serial := f.Claim.Asserted.Serial; serial != "" {
		if f.Dispute, err = s.dispute(ctx, `di.serial = $1 AND di.product_id = $2`, serial, list[0].ProductID); err != nil || f.Dispute != nil {
			return err
		}
	}
	p, err := s.productWhere(ctx, `id = $1`, list[0].ProductID)
	if err == nil && p.Awaits() > 0 && (f.Claim.Label == "" || f.Claim.Label == p.Name) {
		f.Product = p
	}
	return err
}

// guessedAt is what wrong codes are told apart by: the records that they were
// tried on. So whoever guesses fills no table, whatever keys and names the
// guesses come with.
func guessedAt(f *vetting.Facts) (of []int64) {
	if f.Record != nil {
		return []int64{f.Record.ID}
	}
	for _, r := range f.Named {
		of = append(of, r.ID)
	}
	return of
}

// useCode marks the code used that an admission rests on.
func (e *enrolment) useCode(w *writing) *codeRow {
	c := e.admission.Code()
	if c == nil {
		return nil
	}
	row := w.codes[c.ID]
	row.Used, row.UsedBy = micros(w.now), e.facts.Record.ID
	w.exec(`UPDATE codes SET used = $2, used_by = $3 WHERE id = $1`, row.ID, row.Used, row.UsedBy)
	return row
}

// gone reports whether the code that an admission rests on was used or
// revoked since.
func (e *enrolment) gone(w *writing) bool {
	c := e.admission.Code()
	if c == nil {
		return false
	}
	row := w.codes[c.ID]
	return row.ID == 0 || row.Used != 0 || row.Revoked != 0
}

// bind notes the bootstrap key that a device came with whose record lists
// none, or its TPM. A code made for the device may bring another, or none.
func (e *enrolment) bind(w *writing, d *deviceRow) {
	auth, code := e.facts.Claim.Auth, e.admission.Code()
	switch {
	case auth.Proof == vetting.ProofTPM:
		d.EK = auth.Key[:]
		w.eks[auth.Key] = d.ID
	case !e.facts.Record.BootstrapKey.IsZero():
	case (auth.Proof == vetting.ProofIdentifiers || auth.Proof == vetting.ProofVendor) && e.admission.TakesUnit():
		d.Bound = auth.Key[:]
	case auth.Proof == vetting.ProofCode && code != nil && !auth.Key.IsZero():
		d.Bound = auth.Key[:]
	case auth.Proof == vetting.ProofCode && code != nil && code.DeviceID != 0:
		d.Bound = nil
	}
}
