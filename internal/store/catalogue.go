package store

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/internal/audit"
	"github.com/touchmark/touchmark/vetting"
)

// Products and sites are few and read whole: their rows hold them as JSON.

type productRow struct {
	ID       int64
	Name     string
	Revision int64
	Body     string
}

func (p *productRow) object() audit.Object {
	return audit.Object{Kind: audit.KindProduct, ID: p.ID, Digest: audit.DigestOf(p)}
}

func (p *productRow) product() (*vetting.Product, error) {
	out := new(vetting.Product)
	if err := json.Unmarshal([]byte(p.Body), out); err != nil {
		return nil, fmt.Errorf("product %s in the database: %w", p.Name, err)
	}
	out.ID, out.Name, out.Revision = p.ID, p.Name, p.Revision
	return out, nil
}

func (p *productRow) dest() []any { return []any{&p.ID, &p.Name, &p.Revision, &p.Body} }

func (s *Store) products(ctx context.Context, where string, args ...any) ([]*vetting.Product, error) {
	return readAll(ctx, s.db, `SELECT id, name, revision, body FROM products WHERE `+where, args, (*productRow).dest, (*productRow).product)
}

func (s *Store) productWhere(ctx context.Context, where string, arg any) (*vetting.Product, error) {
	list, err := s.products(ctx, where, arg)
	return theOne(list, err, "product", arg)
}

// Products lists products by ID.
func (s *Store) Products(ctx context.Context, p vetting.Page) ([]*vetting.Product, error) {
	return s.products(ctx, `id > $1 ORDER BY id LIMIT $2`, p.After, limit(p))
}

// Product returns a product by name, or a NotFound error.
func (s *Store) Product(ctx context.Context, name string) (*vetting.Product, error) {
	return s.productWhere(ctx, `name = $1`, name)
}

// CreateProduct keeps a new product; the name must be free (Exists), and so
// must the number in its licences (Conflict).
func (s *Store) CreateProduct(ctx context.Context, a access.Act, p *vetting.Product) (*vetting.Product, error) {
	id, err := s.act(ctx, a, func(w *writing) (int64, error) {
		if used, err := w.taken(`SELECT 1 FROM products WHERE name = $1`, p.Name); err != nil || used {
			return 0, orExists(err, "product", p.Name)
		}
		made := *p
		made.Created, made.Updated = w.now, w.now
		if err := w.declareLicences(&made, nil); err != nil {
			return 0, err
		}
		id := w.ids(1)
		rules := w.changeRules(id, nil, &made)
		row := productRowOf(id, 1, &made)
		w.exec(`INSERT INTO products (id, name, revision, body) VALUES ($1, $2, $3, $4)`, row.ID, row.Name, row.Revision, row.Body)
		rules.save(w, w.leaf("product.create", operatorOf(a), p.Name, rules.objects(row.object())...))
		return row.ID, nil
	})
	if err != nil {
		return nil, err
	}
	return s.productWhere(ctx, `id = $1`, id)
}

// UpdateProduct replaces a product whose revision is still p.Revision, or
// fails with Conflict.
func (s *Store) UpdateProduct(ctx context.Context, a access.Act, p *vetting.Product) (*vetting.Product, error) {
	id, err := s.act(ctx, a, func(w *writing) (int64, error) {
		var have productRow
		w.fetch(`SELECT id, name, revision, body FROM products WHERE name = $1`, []any{p.Name}, func(r row) error {
			return r.Scan(&have.ID, &have.Name, &have.Revision, &have.Body)
		})
		if err := w.flush(); err != nil {
			return 0, err
		}
		if have.ID == 0 {
			return 0, notFound("product", p.Name)
		}
		if have.Revision != p.Revision {
			return 0, vetting.Errorf(vetting.Conflict, "product %s is at revision %d, your change is based on %d: read it again and repeat the change", p.Name, have.Revision, p.Revision)
		}
		old, err := have.product()
		if err != nil {
			return 0, err
		}
		if err := p.Approvals.Follows(old.Approvals); err != nil {
			return 0, vetting.Errorf(vetting.Conflict, "product %s: %v", p.Name, err)
		}
		made := *p
		made.Created, made.Updated = old.Created, w.now
		if err := w.declareLicences(&made, old); err != nil {
			return 0, err
		}
		rules := w.changeRules(have.ID, old, &made)
		row := productRowOf(have.ID, have.Revision+1, &made)
		w.exec(`UPDATE products SET revision = $2, body = $3 WHERE id = $1`, row.ID, row.Revision, row.Body)
		rules.save(w, w.leaf("product.update", operatorOf(a), p.Name, rules.objects(row.object())...))
		return row.ID, w.productChanged(operatorOf(a), row)
	})
	if err != nil {
		return nil, err
	}
	return s.productWhere(ctx, `id = $1`, id)
}

func productRowOf(id, revision int64, p *vetting.Product) *productRow {
	p.ID, p.Revision = id, revision
	return &productRow{ID: id, Name: p.Name, Revision: revision, Body: mustJSON(p)}
}

type siteRow struct {
	ID         int64
	Name, Body string
}

func (s *siteRow) object() audit.Object {
	return audit.Object{Kind: audit.KindSite, ID: s.ID, Digest: audit.DigestOf(s)}
}

func (s *siteRow) dest() []any { return []any{&s.ID, &s.Name, &s.Body} }

func (s *siteRow) site() (*vetting.Site, error) {
	site := new(vetting.Site)
	if err := json.Unmarshal([]byte(s.Body), site); err != nil {
		return nil, fmt.Errorf("site %s in the database: %w", s.Name, err)
	}
	site.ID = s.ID
	return site, nil
}

func (s *Store) sites(ctx context.Context, where string, args ...any) ([]*vetting.Site, error) {
	return readAll(ctx, s.db, `SELECT id, name, body FROM sites WHERE `+where, args, (*siteRow).dest, (*siteRow).site)
}

// Sites lists sites by ID.
func (s *Store) Sites(ctx context.Context, p vetting.Page) ([]*vetting.Site, error) {
	return s.sites(ctx, `id > $1 ORDER BY id LIMIT $2`, p.After, limit(p))
}

// Site returns a site by name, or a NotFound error.
func (s *Store) Site(ctx context.Context, name string) (*vetting.Site, error) {
	list, err := s.sites(ctx, `name = $1`, name)
	return theOne(list, err, "site", name)
}

// CreateSite keeps a new site; the name must be free (Exists).
func (s *Store) CreateSite(ctx context.Context, a access.Act, site *vetting.Site) (*vetting.Site, error) {
	_, err := s.act(ctx, a, func(w *writing) (int64, error) {
		if used, err := w.taken(`SELECT 1 FROM sites WHERE name = $1`, site.Name); err != nil || used {
			return 0, orExists(err, "site", site.Name)
		}
		made := *site
		made.Created, made.Revision = w.now, 1
		row := &siteRow{ID: w.ids(1), Name: site.Name, Body: mustJSON(&made)}
		w.exec(`INSERT INTO sites (id, name, body) VALUES ($1, $2, $3)`, row.ID, row.Name, row.Body)
		w.leaf("site.create", operatorOf(a), site.Name, row.object())
		return row.ID, nil
	})
	if err != nil {
		return nil, err
	}
	return s.Site(ctx, site.Name)
}

// UpdateSite replaces a site's description and networks if its revision is
// still site.Revision, or fails with Conflict.
func (s *Store) UpdateSite(ctx context.Context, a access.Act, site *vetting.Site) (*vetting.Site, error) {
	_, err := s.act(ctx, a, func(w *writing) (int64, error) {
		made := siteRow{Name: site.Name}
		w.fetch(`SELECT id, body FROM sites WHERE name = $1`, []any{site.Name}, func(r row) error { return r.Scan(&made.ID, &made.Body) })
		if err := w.flush(); err != nil {
			return 0, err
		}
		if made.ID == 0 {
			return 0, notFound("site", site.Name)
		}
		var have vetting.Site
		if err := json.Unmarshal([]byte(made.Body), &have); err != nil {
			return 0, fmt.Errorf("site %s in the database: %w", site.Name, err)
		}
		if have.Revision != site.Revision {
			return 0, vetting.Errorf(vetting.Conflict, "site %s is at revision %d, your change is based on %d: read it again and repeat the change", site.Name, have.Revision, site.Revision)
		}
		have.Description, have.Networks = site.Description, site.Networks
		have.Revision++
		made.Body = mustJSON(&have)
		w.exec(`UPDATE sites SET body = $2 WHERE id = $1`, made.ID, made.Body)
		w.leaf("site.update", operatorOf(a), site.Name, made.object())
		return made.ID, nil
	})
	if err != nil {
		return nil, err
	}
	return s.Site(ctx, site.Name)
}

func orExists(err error, what, name string) error {
	if err != nil {
		return err
	}
	return vetting.Errorf(vetting.Exists, "%s %s exists already", what, name)
}

// mustJSON marshals what the program itself made of plain values.
func mustJSON(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("store: marshal %T: %v", v, err))
	}
	return string(b)
}
