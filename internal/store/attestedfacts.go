package store

import (
	"context"
	"slices"

	"github.com/touchmark/touchmark/vetting"
)

// byAttestation finds the record that bears the name which an attestation
// proves. Where several products have one, it is that which trusts the
// attestation's vendor and which the account is for; of several such none is
// taken.
func (s *Store) byAttestation(ctx context.Context, f *vetting.Facts) error {
	units, err := s.byAsserted(ctx, f.Claim)
	if err != nil {
		return err
	}
	if len(units) > 1 {
		var fit []*unit
		for _, u := range units {
			ok, err := s.attestable(ctx, f, u)
			if err != nil {
				return err
			}
			if ok {
				fit = append(fit, u)
			}
		}
		if len(fit) > 0 {
			units = fit
		}
	}
	if len(units) != 1 {
		return bear(f, units)
	}
	if err := s.fill(ctx, f, units[0]); err != nil {
		return err
	}
	f.Claim.Vouch(f.Product.Name)
	return nil
}

// attestable reports whether a unit can be the one that a claim is about.
func (s *Store) attestable(ctx context.Context, f *vetting.Facts, u *unit) (bool, error) {
	p, err := s.productAt(ctx, u.record.ProductID, u.productRevision)
	if err != nil {
		return false, err
	}
	o, err := s.orderFrom(ctx, &u.order)
	if err != nil {
		return false, err
	}
	auth := f.Claim.Auth
	trusted := slices.ContainsFunc(f.Claim.Vendors, func(m vetting.VendorMatch) bool { return m.Product == p.Name })
	return trusted && (auth.Order == "" || auth.Order == o.Name) && (auth.Site == "" || auth.Site == o.Site), nil
}
