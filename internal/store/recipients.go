package store

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/touchmark/touchmark/firmware-sign/release"
	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/internal/audit"
	"github.com/touchmark/touchmark/vetting"
)

// recipientRow is a row of recipients.
type recipientRow struct {
	ID, ProductID, DeviceID int64
	Name, Fingerprint       string
	Revoked                 int64
	Body                    string // the release.Recipient as JSON
}

const recipientColumns = `rp.id, rp.product_id, rp.device_id, rp.name, rp.fingerprint, rp.revoked, rp.body`

func (p *recipientRow) dest() []any {
	return []any{&p.ID, &p.ProductID, &p.DeviceID, &p.Name, &p.Fingerprint, &p.Revoked, &p.Body}
}

func (p *recipientRow) scan(from row) error { return from.Scan(p.dest()...) }

func (p *recipientRow) object() audit.Object {
	return audit.Object{Kind: audit.KindRecipient, ID: p.ID, Digest: audit.DigestOf(p)}
}

func (p *recipientRow) recipient() (*release.Recipient, error) {
	out := new(release.Recipient)
	if err := json.Unmarshal([]byte(p.Body), out); err != nil {
		return nil, fmt.Errorf("the recipient %d in the database: %w", p.ID, err)
	}
	out.ID = p.ID
	return out, nil
}

// key is the recipient as a key of a target.
func (p *recipientRow) key() (release.TargetKey, error) {
	r, err := p.recipient()
	if err != nil {
		return release.TargetKey{}, err
	}
	return r.Key()
}

// Recipients lists the keys that a product's files are wrapped for.
func (s *Store) Recipients(ctx context.Context, product string, p vetting.Page) ([]*release.Recipient, error) {
	of, err := s.Product(ctx, product)
	if err != nil {
		return nil, err
	}
	return readAll(ctx, s.db, `SELECT `+recipientColumns+` FROM recipients rp WHERE rp.product_id = $1 AND rp.id > $2 ORDER BY rp.id LIMIT $3`,
		[]any{of.ID, p.After, limit(p)}, (*recipientRow).dest, (*recipientRow).recipient)
}

// Recipient returns a key that files are wrapped for, or a NotFound error.
func (s *Store) Recipient(ctx context.Context, id int64) (*release.Recipient, error) {
	list, err := readAll(ctx, s.db, `SELECT `+recipientColumns+` FROM recipients rp WHERE rp.id = $1`, []any{id}, (*recipientRow).dest, (*recipientRow).recipient)
	return theOne(list, err, "recipient", id)
}

// AddRecipient registers a key: of the device with the serial number that it
// names, or of the product's family, under a name that is free (Exists). A key
// is one recipient's alone, and one that was revoked stays so (Exists).
func (s *Store) AddRecipient(ctx context.Context, a access.Act, r *release.Recipient) (*release.Recipient, error) {
	id, err := s.act(ctx, a, func(w *writing) (int64, error) {
		product, err := w.idOf("product", "products", r.Product)
		if err != nil {
			return 0, err
		}
		made := *r
		if r.Name == "" {
			if made.Device, err = w.deviceNamed(product, r.Product, r.Serial); err != nil {
				return 0, err
			}
		} else if used, err := w.taken(`SELECT 1 FROM recipients WHERE product_id = $1 AND name = $2`, product, r.Name); err != nil || used {
			return 0, orExists(err, "recipient", r.Name)
		}
		if used, err := w.taken(`SELECT 1 FROM recipients WHERE fingerprint = $1`, r.Fingerprint()); err != nil || used {
			return 0, orExists(err, "recipient with the key", r.Fingerprint())
		}
		made.ID, made.By, made.Created = w.ids(1), a.Operator, w.now
		row := &recipientRow{ID: made.ID, ProductID: product, DeviceID: made.Device, Name: r.Name, Fingerprint: r.Fingerprint(), Body: mustJSON(&made)}
		w.exec(`INSERT INTO recipients (id, product_id, device_id, name, fingerprint, revoked, body) VALUES ($1, $2, $3, $4, $5, $6, $7)`,
			row.ID, row.ProductID, row.DeviceID, row.Name, row.Fingerprint, row.Revoked, row.Body)
		w.leaf("recipient.add", operatorOf(a), made.Called(), row.object())
		return row.ID, nil
	})
	if err != nil {
		return nil, err
	}
	return s.Recipient(ctx, id)
}

// RevokeRecipient has nothing wrapped for a key any more. What was, stays
// readable with it. One that is revoked already is a Conflict.
func (s *Store) RevokeRecipient(ctx context.Context, a access.Act, id int64, reason string) (*release.Recipient, error) {
	_, err := s.act(ctx, a, func(w *writing) (int64, error) {
		row := new(recipientRow)
		w.fetch(`SELECT `+recipientColumns+` FROM recipients rp WHERE rp.id = $1`, []any{id}, row.scan)
		if err := w.flush(); err != nil {
			return 0, err
		}
		if row.ID == 0 {
			return 0, notFound("recipient", id)
		}
		r, err := row.recipient()
		if err != nil {
			return 0, err
		}
		if row.Revoked != 0 {
			return 0, vetting.Errorf(vetting.Conflict, "the key of %s was revoked already", r.Called())
		}
		r.Revoked, r.Reason = w.now, reason
		row.Revoked, row.Body = 1, mustJSON(r)
		w.exec(`UPDATE recipients SET revoked = $2, body = $3 WHERE id = $1`, row.ID, row.Revoked, row.Body)
		w.leaf("recipient.revoke", operatorOf(a), r.Called()+": "+reason, row.object())
		return id, nil
	})
	if err != nil {
		return nil, err
	}
	return s.Recipient(ctx, id)
}

// deviceNamed finds the device of a product that has a serial number.
func (w *writing) deviceNamed(product int64, name, serial string) (int64, error) {
	list, err := w.devicesNamed(product, name, []string{serial})
	if err != nil {
		return 0, err
	}
	return list[0].(int64), nil
}

// devicesNamed finds devices of a product by their serial numbers, in the order
// of these, none of which may be there twice.
func (w *writing) devicesNamed(product int64, name string, serials []string) ([]any, error) {
	ids := make([]any, len(serials))
	if twice := len(serials) - len(slices.Compact(slices.Sorted(slices.Values(serials)))); twice > 0 {
		return nil, vetting.Errorf(vetting.Invalid, "%d of %d serial numbers are there twice", twice, len(serials))
	}
	for i, text := range serials {
		id, err := vetting.Identity{Serial: text}.Normalize()
		if err != nil || id.Serial == "" {
			return nil, vetting.Errorf(vetting.Invalid, "%q is no serial number", text)
		}
		w.fetch(`SELECT rec.id FROM records rec WHERE rec.product_id = $1 AND rec.serial = $2 ORDER BY rec.id`, []any{product, id.Serial}, func(from row) error {
			var found int64
			err := from.Scan(&found)
			if ids[i] != nil {
				return vetting.Errorf(vetting.Conflict, "product %s has several devices with the serial number %s: settle which is genuine first", name, text)
			}
			ids[i] = found
			return err
		})
	}
	if err := w.flush(); err != nil {
		return nil, err
	}
	for i, id := range ids {
		if id == nil {
			return nil, vetting.Errorf(vetting.NotFound, "product %s has no device with the serial number %s", name, serials[i])
		}
	}
	return ids, nil
}
