package store

import (
	"context"
	"fmt"
	"slices"

	"github.com/touchmark/touchmark/vetting"
)

// byProvedName finds the record that bears the name which an attestation or a
// server proves. Where several products have one, it is that which trusts the
// attestation's vendor, or has servers of that name, and which the account is
// for; of several such none is taken.
func (s *Store) byProvedName(ctx context.Context, f *vetting.Facts) error {
	units, err := s.byAsserted(ctx, f.Claim)
	if err != nil {
		return err
	}
	if len(units) > 1 {
		var fit []*unit
		for _, u := range units {
			ok, err := s.provable(ctx, f, u)
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

// provable reports whether a unit can be the one that a claim is about.
func (s *Store) provable(ctx context.Context, f *vetting.Facts, u *unit) (bool, error) {
	p, err := s.productAt(ctx, u.record.ProductID, u.productRevision)
	if err != nil {
		return false, err
	}
	o, err := s.orderFrom(ctx, &u.order)
	if err != nil {
		return false, err
	}
	auth := f.Claim.Auth
	fits := slices.ContainsFunc(f.Claim.Vendors, func(m vetting.VendorMatch) bool { return m.Product == p.Name })
	if auth.Proof == vetting.ProofDomain {
		fits = p.Accepts(auth.Proof) && p.Domains.Allow(u.record.Serial) == nil
	}
	return fits && (auth.Order == "" || auth.Order == o.Name) && (auth.Site == "" || auth.Site == o.Site), nil
}

// spareRecords is how many records more than units an order may have by names
// that were proved. Whoever answers for all names of a domain could make any
// number.
const spareRecords = 100

// EnlistServer makes the record of a server whose name an ACME account has
// proved, in a production order by name, if the order's product has such
// servers and no record of the name. Nothing made is no error: vetting says
// what is wrong.
func (s *Store) EnlistServer(ctx context.Context, account int64, order, name string) error {
	o, err := s.Order(ctx, order)
	if err != nil {
		return err
	}
	p, err := s.Product(ctx, o.Product)
	if err != nil || !p.Accepts(vetting.ProofDomain) || p.Domains.Allow(name) != nil {
		return err
	}
	var is int64
	if listed, err := one(ctx, s.db, recordOfName, []any{name, p.ID}, &is); err != nil || listed {
		return err
	}
	r, err := newRecordRow(&vetting.Record{ProductID: p.ID, Identity: vetting.Identity{Serial: name}})
	if err != nil {
		return err
	}
	return s.update(ctx, func(w *writing) error { return w.enlist(*r, account, order) })
}

const recordOfName = `SELECT id FROM records WHERE serial = $1 AND product_id = $2`

func (w *writing) enlist(r recordRow, account int64, order string) error {
	o := w.fetchOrder(`o.name = $1`, order)
	listed, err := w.taken(recordOfName, r.Serial, r.ProductID)
	if err != nil || listed {
		return err
	}
	full, err := w.taken(`SELECT id FROM records WHERE order_id = $1 ORDER BY id LIMIT 1 OFFSET $2`, o.ID, o.Quantity+spareRecords-1)
	if err != nil || full {
		return err
	}
	r.OrderID, r.SiteID = o.ID, o.SiteID
	// The log is public: it does not say which names there are.
	w.leaf("record.enlist", accountName(account), "", w.insertRecords([]*recordRow{&r}))
	return nil
}

// accountName is how the log calls an ACME account.
func accountName(id int64) string { return fmt.Sprintf("acme-account:%d", id) }

// productsAtOnce is how many products are read at once.
const productsAtOnce = 200

// AllowServer says as a NotFound why no server may have a name: of the product,
// or of any for "".
func (s *Store) AllowServer(ctx context.Context, product, name string) error {
	if product != "" {
		p, err := s.Product(ctx, product)
		if err != nil {
			return err
		}
		return allowServer(p, name)
	}
	for after := int64(0); ; {
		list, err := s.Products(ctx, vetting.Page{After: after, Limit: productsAtOnce})
		if err != nil {
			return err
		}
		if slices.ContainsFunc(list, func(p *vetting.Product) bool { return allowServer(p, name) == nil }) {
			return nil
		}
		if len(list) < productsAtOnce {
			return vetting.Errorf(vetting.NotFound, "no product has servers of the name %q", name)
		}
		after = list[len(list)-1].ID
	}
}

func allowServer(p *vetting.Product, name string) error {
	if !p.Accepts(vetting.ProofDomain) {
		return vetting.Errorf(vetting.NotFound, "the account is for product %s, which has no servers: it does not accept the proof %q", p.Name, vetting.ProofDomain)
	}
	if err := p.Domains.Allow(name); err != nil {
		return vetting.Errorf(vetting.NotFound, "product %s: %v", p.Name, err)
	}
	return nil
}
