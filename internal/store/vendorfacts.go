package store

import (
	"cmp"
	"context"
	"slices"

	"github.com/touchmark/touchmark/vetting"
)

// byVendor finds the record that a vendor's certificate speaks of: the one
// that lists its key, or else one without a key that bears, in a product that
// trusts the vendor, the name that the certificate states.
func (s *Store) byVendor(ctx context.Context, f *vetting.Facts) error {
	key := f.Claim.Auth.Key
	units, err := s.unitsFor(ctx, f.Claim.Key, `rec.key = $2`, key[:])
	if err != nil {
		return err
	}
	if len(units) > 0 {
		return s.vouched(ctx, f, units[0])
	}
	if f.Dispute, err = s.dispute(ctx, `di.key = $1`, key[:]); err != nil || f.Dispute != nil {
		return err
	}
	return s.byVendorName(ctx, f)
}

// vouched takes a record with what the certificate proves for its product.
func (s *Store) vouched(ctx context.Context, f *vetting.Facts, u *unit) error {
	if err := s.fill(ctx, f, u); err != nil {
		return err
	}
	f.Claim.Vouch(f.Product.Name)
	return nil
}

// byVendorName looks for the name in each product that trusts the vendor, or
// in the one that the claim's label names. Records with another key only bear
// the name, and of several without one none is taken.
func (s *Store) byVendorName(ctx context.Context, f *vetting.Facts) error {
	var keyless, named []*unit
	label := f.Claim.Label
	for _, m := range f.Claim.Vendors {
		if label != "" && m.Product != label {
			continue
		}
		c := f.Claim
		c.Asserted, c.Label = m.Asserted, m.Product
		units, err := s.byAsserted(ctx, c)
		if err != nil {
			return err
		}
		f.Claim.Vouch(m.Product) // what an unknown device is known by
		named = append(named, units...)
	}
	// A UID or MAC address finds the same record through every product.
	slices.SortFunc(named, func(a, b *unit) int { return cmp.Compare(a.record.ID, b.record.ID) })
	named = slices.CompactFunc(named, func(a, b *unit) bool { return a.record.ID == b.record.ID })
	for _, u := range named {
		if u.record.Key == nil {
			keyless = append(keyless, u)
		}
	}
	if len(keyless) == 1 {
		return s.vouched(ctx, f, keyless[0])
	}
	return bear(f, named)
}
