package vendorid

import (
	"context"
	"crypto/x509"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/touchmark/touchmark/vetting"
)

// Products lists products by ID; internal/store implements it.
type Products interface {
	Products(ctx context.Context, p vetting.Page) ([]*vetting.Product, error)
}

// Book knows which products trust which vendors. Its exported fields are set
// once, before use.
type Book struct {
	Products Products
	// Vendors are those that a product trusts; ByCertificate, ByTPM or
	// ByAttestation.
	Vendors func(*vetting.Product) []vetting.Vendor
	Now     func() time.Time

	mu      sync.Mutex
	read    time.Time
	entries []*entry
}

// ByCertificate gives the vendors whose certificates prove a product's devices.
func ByCertificate(p *vetting.Product) []vetting.Vendor {
	if !p.Accepts(vetting.ProofVendor) {
		return nil
	}
	return p.Vendors
}

// ByAttestation gives the vendors that may attest the keys of a product's
// devices: the product's own, and where the product says so the server's
// attestation CA.
func ByAttestation(own vetting.Vendor) func(*vetting.Product) []vetting.Vendor {
	return func(p *vetting.Product) []vetting.Vendor {
		switch {
		case !p.Accepts(vetting.ProofAttestation):
			return nil
		case p.TPM.AttestationCA:
			return append(slices.Clip(p.Vendors), own)
		}
		return p.Vendors
	}
}

// ByTPM gives the makers whose TPMs prove a product's devices.
func ByTPM(p *vetting.Product) []vetting.Vendor {
	if !p.Accepts(vetting.ProofTPM) {
		return nil
	}
	return p.TPM.Makers
}

// entry is a product in one of its revisions.
type entry struct {
	id, revision int64
	product      string
	trusts       []*Trust
}

const perPage = 200

// life is how long the book is used without being read again: as long a
// change of a product's vendors may go unnoticed.
const life = time.Second

// Matches finds the products that trust a chain, the device's own certificate
// first, and what each makes of it. A *Rejection says why none does.
func (b *Book) Matches(ctx context.Context, chain []*x509.Certificate) ([]vetting.VendorMatch, error) {
	entries, err := b.current(ctx)
	if err != nil {
		return nil, err
	}
	var list []vetting.VendorMatch
	var why error = &Rejection{Reason: fmt.Sprintf("the certificate was issued by %q, which is no CA of a vendor that a product trusts", chain[0].Issuer), Stranger: true}
	for _, e := range entries {
		for _, t := range e.trusts {
			id, err := t.Verify(chain, b.Now())
			if err == nil {
				list = append(list, vetting.VendorMatch{Product: e.product, Vendor: t.vendor, Asserted: id})
				break
			}
			if t.issued(chain) {
				why = err
			}
		}
	}
	if len(list) == 0 {
		return nil, why
	}
	return list, nil
}

// issued reports whether a chain names one of the vendor's anchors as an
// issuer, genuine or not.
func (t *Trust) issued(chain []*x509.Certificate) bool {
	for _, c := range chain {
		for _, a := range t.anchors {
			if string(c.RawIssuer) == string(a.RawSubject) {
				return true
			}
		}
	}
	return false
}

// current gives the products that have vendors.
func (b *Book) current(ctx context.Context) ([]*entry, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if now := time.Now(); b.read.IsZero() || now.Sub(b.read) > life {
		if err := b.reread(ctx); err != nil {
			return nil, err
		}
		b.read = now
	}
	return b.entries, nil
}

func (b *Book) reread(ctx context.Context) error {
	known := map[int64]*entry{}
	for _, e := range b.entries {
		known[e.id] = e
	}
	var entries []*entry
	page := vetting.Page{Limit: perPage}
	for {
		list, err := b.Products.Products(ctx, page)
		if err != nil {
			return err
		}
		for _, p := range list {
			page.After = p.ID
			e := known[p.ID]
			if e == nil || e.revision != p.Revision {
				if e, err = b.enter(p); err != nil {
					return err
				}
			}
			if len(e.trusts) > 0 {
				entries = append(entries, e)
			}
		}
		if len(list) < page.Limit {
			b.entries = entries
			return nil
		}
	}
}

func (b *Book) enter(p *vetting.Product) (*entry, error) {
	e := &entry{id: p.ID, revision: p.Revision, product: p.Name}
	for _, v := range b.Vendors(p) {
		t, err := Compile(v)
		if err != nil {
			return nil, fmt.Errorf("product %s: %w", p.Name, err)
		}
		e.trusts = append(e.trusts, t)
	}
	return e, nil
}
