package store

import (
	"context"
	"slices"

	"github.com/touchmark/touchmark/vetting"
)

// byAttestation finds the record that bears the name which an attestation
// proves, in a product that trusts its vendor.
func (s *Store) byAttestation(ctx context.Context, f *vetting.Facts) error {
	var products []string
	for _, m := range f.Claim.Vendors {
		products = append(products, m.Product)
	}
	return s.byProvedName(ctx, f, func(p *vetting.Product) bool { return slices.Contains(products, p.Name) })
}

// byDomain finds the record of a server, whose serial number is its DNS name.
func (s *Store) byDomain(ctx context.Context, f *vetting.Facts) error {
	return s.byProvedName(ctx, f, func(p *vetting.Product) bool { return p.Accepts(vetting.ProofDomain) })
}

// byProvedName finds the record that bears the asserted name. Where several
// products have one, it is that whose product takes the proof and which the
// account is for; of several such none is taken.
func (s *Store) byProvedName(ctx context.Context, f *vetting.Facts, takes func(*vetting.Product) bool) error {
	units, err := s.byAsserted(ctx, f.Claim)
	if err != nil {
		return err
	}
	if len(units) > 1 {
		var fit []*unit
		for _, u := range units {
			ok, err := s.provable(ctx, f, u, takes)
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
	if f.Claim.Auth.Proof == vetting.ProofAttestation {
		f.Claim.Vouch(f.Product.Name)
	}
	return nil
}

// provable reports whether a unit can be the one that a claim is about.
func (s *Store) provable(ctx context.Context, f *vetting.Facts, u *unit, takes func(*vetting.Product) bool) (bool, error) {
	p, err := s.productAt(ctx, u.record.ProductID, u.productRevision)
	if err != nil {
		return false, err
	}
	o, err := s.orderFrom(ctx, &u.order)
	if err != nil {
		return false, err
	}
	auth := f.Claim.Auth
	return takes(p) && (auth.Order == "" || auth.Order == o.Name) && (auth.Site == "" || auth.Site == o.Site), nil
}
