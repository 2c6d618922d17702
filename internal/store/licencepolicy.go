package store

import (
	"github.com/touchmark/touchmark/vetting"
)

// declareLicences gives a product that is about to be kept its number in
// licences, and holds it to those that were given already. old is nil if it is
// new.
func (w *writing) declareLicences(p, old *vetting.Product) error {
	if p.Licences != nil {
		policy := *p.Licences
		if p.Licences = &policy; policy.Number == 0 && old != nil && old.Licences != nil {
			policy.Number = old.Licences.Number
		}
		if err := w.numberProduct(p.Name, &policy); err != nil {
			return err
		}
	}
	if old == nil || old.Licences == nil {
		return nil
	}
	given, err := w.taken(`SELECT 1 FROM licence_grants WHERE product_id = $1 LIMIT 1`, old.ID)
	if err != nil || !given {
		return err
	}
	return p.Licences.Succeeds(old.Licences)
}

// numberProduct gives a policy without a number the next one, and refuses a
// number that another product has.
func (w *writing) numberProduct(product string, policy *vetting.LicencePolicy) error {
	next := uint32(1)
	var bad error
	w.fetch(`SELECT id, name, revision, body FROM products WHERE name <> $1`, []any{product}, func(r row) error {
		var other productRow
		if err := r.Scan(other.dest()...); err != nil {
			return err
		}
		p, err := other.product()
		if err != nil || p.Licences == nil {
			return err
		}
		if next = max(next, p.Licences.Number+1); p.Licences.Number == policy.Number {
			bad = vetting.Errorf(vetting.Conflict, "product %s has the number %d in licences already: choose another, or none to get the next", p.Name, policy.Number)
		}
		return nil
	})
	if err := w.flush(); err != nil || policy.Number != 0 {
		if err == nil {
			err = bad
		}
		return err
	}
	policy.Number = next
	return nil
}
