package store

import (
	"bytes"
	"context"

	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/internal/audit"
	"github.com/touchmark/touchmark/vetting"
)

// licenceKeyRow is a row of licence_keys.
type licenceKeyRow struct {
	ID, ProductID, Number int64
	Algorithm             string
	SPKI                  []byte
	Signing               int64
	By                    string
	Created               int64
}

const licenceKeyColumns = `lk.id, lk.product_id, lk.number, lk.algorithm, lk.spki, lk.signing, lk.made_by, lk.created`

func (k *licenceKeyRow) dest() []any {
	return []any{&k.ID, &k.ProductID, &k.Number, &k.Algorithm, &k.SPKI, &k.Signing, &k.By, &k.Created}
}

func (k *licenceKeyRow) object() audit.Object {
	return audit.Object{Kind: audit.KindLicenceKey, ID: k.ID, Digest: audit.DigestOf(k)}
}

func (k *licenceKeyRow) key(product string) *vetting.LicenceKey {
	return &vetting.LicenceKey{ID: k.ID, ProductID: k.ProductID, Product: product, Number: uint8(k.Number), Algorithm: k.Algorithm,
		Public: k.SPKI, Key: vetting.KeyFingerprint(k.SPKI), Signing: k.Signing != 0, By: k.By, Created: fromMicros(k.Created)}
}

// LicenceKeys lists a product's licence keys by number.
func (s *Store) LicenceKeys(ctx context.Context, product string) ([]*vetting.LicenceKey, error) {
	p, err := s.Product(ctx, product)
	if err != nil {
		return nil, err
	}
	return readAll(ctx, s.db, `SELECT `+licenceKeyColumns+` FROM licence_keys lk WHERE lk.product_id = $1 ORDER BY lk.number`, []any{p.ID},
		(*licenceKeyRow).dest, func(k *licenceKeyRow) (*vetting.LicenceKey, error) { return k.key(product), nil })
}

// LicenceTerms are what an order's licences are made by now. Where its product
// declares none, or has no key, that is a Conflict.
func (s *Store) LicenceTerms(ctx context.Context, o *vetting.Order) (*vetting.LicenceTerms, error) {
	p, err := s.Product(ctx, o.Product)
	if err != nil {
		return nil, err
	}
	if p.Licences == nil {
		return nil, vetting.Errorf(vetting.Conflict, "product %s declares no licences", p.Name)
	}
	var k licenceKeyRow
	found, err := one(ctx, s.db, `SELECT `+licenceKeyColumns+` FROM licence_keys lk WHERE lk.product_id = $1 AND lk.signing <> 0`, []any{p.ID}, k.dest()...)
	if err == nil && !found {
		err = vetting.Errorf(vetting.Conflict, "product %s has no key for its licences yet: make one with `touchmark licence key create %s`", p.Name, p.Name)
	}
	if err != nil {
		return nil, err
	}
	return &vetting.LicenceTerms{Policy: *p.Licences, Key: k.key(p.Name)}, nil
}

// LicenceKeyMade is the key of a product that an act made when it was carried
// out before; nil if it was not. Who makes keys asks, or one would stay in the
// key store for each repetition.
func (s *Store) LicenceKeyMade(ctx context.Context, a access.Act, product string) (*vetting.LicenceKey, error) {
	if a.Key == "" {
		return nil, nil
	}
	var request []byte
	var id int64
	found, err := one(ctx, s.db, `SELECT request, object_id FROM idempotency WHERE operator = $1 AND key = $2`, []any{a.Operator, a.Key}, &request, &id)
	switch {
	case err != nil || !found:
		return nil, err
	case !bytes.Equal(request, a.Request[:]):
		return nil, keyReused(a)
	}
	var k licenceKeyRow
	found, err = one(ctx, s.db, `SELECT `+licenceKeyColumns+` FROM licence_keys lk WHERE lk.id = $1`, []any{id}, k.dest()...)
	if err != nil || !found {
		return nil, err
	}
	return k.key(product), nil
}

// CreateLicenceKey keeps a new key of a product that declares licences
// (Conflict). Its number must be the product's next (Conflict). The first key
// signs at once; a later one when UseLicenceKey says so, because firmware must
// know it first.
func (s *Store) CreateLicenceKey(ctx context.Context, a access.Act, k *vetting.LicenceKey) (*vetting.LicenceKey, error) {
	return s.actOnLicenceKey(ctx, a, k.Product, func(w *writing, p *vetting.Product, have []*licenceKeyRow) (*licenceKeyRow, error) {
		switch {
		case p.Licences == nil:
			return nil, vetting.Errorf(vetting.Conflict, "product %s declares no licences: declare them first, with the type of its chips' UIDs", p.Name)
		case int(k.Number) != len(have)+1:
			return nil, vetting.Errorf(vetting.Conflict, "product %s has %d licence keys, so the next is not number %d: somebody else made one at the same time", p.Name, len(have), k.Number)
		}
		row := &licenceKeyRow{ID: w.ids(1), ProductID: p.ID, Number: int64(k.Number), Algorithm: k.Algorithm, SPKI: k.Public, By: a.Operator, Created: micros(w.now)}
		if len(have) == 0 {
			row.Signing = 1
		}
		w.exec(`INSERT INTO licence_keys (id, product_id, number, algorithm, spki, signing, made_by, created) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`,
			row.ID, row.ProductID, row.Number, row.Algorithm, row.SPKI, row.Signing, row.By, row.Created)
		w.leaf("licence-key.create", operatorOf(a), row.key(p.Name).Name(), row.object())
		return row, nil
	})
}

// UseLicenceKey has a product's licences signed by another of its keys from
// now on. Using it again changes nothing.
func (s *Store) UseLicenceKey(ctx context.Context, a access.Act, product string, number uint8) (*vetting.LicenceKey, error) {
	return s.actOnLicenceKey(ctx, a, product, func(w *writing, p *vetting.Product, have []*licenceKeyRow) (*licenceKeyRow, error) {
		var use *licenceKeyRow
		var objects []audit.Object
		for _, k := range have {
			signing := int64(0)
			if k.Number == int64(number) {
				use, signing = k, 1
			}
			if k.Signing != signing {
				k.Signing = signing
				w.exec(`UPDATE licence_keys SET signing = $2 WHERE id = $1`, k.ID, k.Signing)
				objects = append(objects, k.object())
			}
		}
		if use == nil {
			return nil, notFound("licence key", number)
		}
		if len(objects) > 0 {
			w.leaf("licence-key.use", operatorOf(a), use.key(p.Name).Name(), objects...)
		}
		return use, nil
	})
}

func (s *Store) actOnLicenceKey(ctx context.Context, a access.Act, product string, do func(*writing, *vetting.Product, []*licenceKeyRow) (*licenceKeyRow, error)) (*vetting.LicenceKey, error) {
	id, err := s.act(ctx, a, func(w *writing) (int64, error) {
		var of productRow
		var have []*licenceKeyRow
		w.fetch(`SELECT id, name, revision, body FROM products WHERE name = $1`, []any{product}, func(r row) error { return r.Scan(of.dest()...) })
		w.fetch(`SELECT `+licenceKeyColumns+` FROM licence_keys lk JOIN products p ON p.id = lk.product_id WHERE p.name = $1 ORDER BY lk.number`, []any{product}, func(r row) error {
			k := new(licenceKeyRow)
			have = append(have, k)
			return r.Scan(k.dest()...)
		})
		if err := w.flush(); err != nil {
			return 0, err
		}
		if of.ID == 0 {
			return 0, notFound("product", product)
		}
		p, err := of.product()
		if err != nil {
			return 0, err
		}
		k, err := do(w, p, have)
		if err != nil {
			return 0, err
		}
		return k.ID, nil
	})
	if err != nil {
		return nil, err
	}
	list, err := s.LicenceKeys(ctx, product)
	for _, k := range list {
		if k.ID == id {
			return k, nil
		}
	}
	return nil, orNotFound(err, "licence key", id)
}
