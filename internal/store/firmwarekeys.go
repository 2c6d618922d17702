package store

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/touchmark/touchmark/firmware-sign/release"
	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/internal/audit"
	"github.com/touchmark/touchmark/vetting"
)

// firmwareKeyRow is a row of firmware_keys.
type firmwareKeyRow struct {
	ID, ProductID int64
	Name          string
	Body          string // the release.Key as JSON
}

const firmwareKeyColumns = `fk.id, fk.product_id, fk.name, fk.body`

func (k *firmwareKeyRow) dest() []any { return []any{&k.ID, &k.ProductID, &k.Name, &k.Body} }

func (k *firmwareKeyRow) scan(from row) error { return from.Scan(k.dest()...) }

func (k *firmwareKeyRow) object() audit.Object {
	return audit.Object{Kind: audit.KindFirmwareKey, ID: k.ID, Digest: audit.DigestOf(k)}
}

func (k *firmwareKeyRow) key() (*release.Key, error) {
	out := new(release.Key)
	if err := json.Unmarshal([]byte(k.Body), out); err != nil {
		return nil, fmt.Errorf("the firmware key %s in the database: %w", k.Name, err)
	}
	out.ID = k.ID
	return out, nil
}

func (s *Store) firmwareKeys(ctx context.Context, where string, args ...any) ([]*release.Key, error) {
	return readAll(ctx, s.db, `SELECT `+firmwareKeyColumns+` FROM firmware_keys fk WHERE `+where, args, (*firmwareKeyRow).dest, (*firmwareKeyRow).key)
}

// FirmwareKeys lists the signing keys of a product, or of all if it is "".
func (s *Store) FirmwareKeys(ctx context.Context, product string, p vetting.Page) ([]*release.Key, error) {
	if product == "" {
		return s.firmwareKeys(ctx, `fk.id > $1 ORDER BY fk.id LIMIT $2`, p.After, limit(p))
	}
	of, err := s.Product(ctx, product)
	if err != nil {
		return nil, err
	}
	return s.firmwareKeys(ctx, `fk.product_id = $1 AND fk.id > $2 ORDER BY fk.id LIMIT $3`, of.ID, p.After, limit(p))
}

// FirmwareKey returns a signing key by name, or a NotFound error.
func (s *Store) FirmwareKey(ctx context.Context, name string) (*release.Key, error) {
	list, err := s.firmwareKeys(ctx, `fk.name = $1`, name)
	return theOne(list, err, "firmware key", name)
}

// CreateFirmwareKey keeps a new signing key; the name must be free (Exists).
func (s *Store) CreateFirmwareKey(ctx context.Context, a access.Act, k *release.Key) (*release.Key, error) {
	_, err := s.act(ctx, a, func(w *writing) (int64, error) {
		product, err := w.idOf("product", "products", k.Product)
		if err != nil {
			return 0, err
		}
		if used, err := w.taken(`SELECT 1 FROM firmware_keys WHERE name = $1`, k.Name); err != nil || used {
			return 0, orExists(err, "firmware key", k.Name)
		}
		if k.Offline {
			if err := w.unusedKey(k); err != nil {
				return 0, err
			}
		}
		made := *k
		made.By, made.Created, made.ID = a.Operator, w.now, w.ids(1)
		row := &firmwareKeyRow{ID: made.ID, ProductID: product, Name: k.Name, Body: mustJSON(&made)}
		w.exec(`INSERT INTO firmware_keys (id, product_id, name, body) VALUES ($1, $2, $3, $4)`, row.ID, row.ProductID, row.Name, row.Body)
		w.leaf("firmware.key.create", operatorOf(a), fmt.Sprintf("%s for %s of %s", k.Name, k.Stage, k.Product), row.object())
		return row.ID, nil
	})
	if err != nil {
		return nil, err
	}
	return s.FirmwareKey(ctx, k.Name)
}

// firmwareKeysNamed reads keys as they are now, in the order of their names.
func (w *writing) firmwareKeysNamed(names []string) ([]*release.Key, error) {
	var keys []*release.Key
	for _, name := range names {
		row := new(firmwareKeyRow)
		w.fetch(`SELECT `+firmwareKeyColumns+` FROM firmware_keys fk WHERE fk.name = $1`, []any{name}, row.scan)
		if err := w.flush(); err != nil {
			return nil, err
		}
		if row.ID == 0 {
			return nil, notFound("firmware key", name)
		}
		key, err := row.key()
		if err != nil {
			return nil, err
		}
		keys = append(keys, key)
	}
	return keys, nil
}
