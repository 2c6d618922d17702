package store

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/internal/audit"
	"github.com/touchmark/touchmark/vetting"
)

type ownerRow struct {
	ID         int64
	Name, Body string
}

func (o *ownerRow) dest() []any { return []any{&o.ID, &o.Name, &o.Body} }

func (o *ownerRow) object() audit.Object {
	return audit.Object{Kind: audit.KindOwner, ID: o.ID, Digest: audit.DigestOf(o)}
}

func (o *ownerRow) owner() (*vetting.Owner, error) {
	out := new(vetting.Owner)
	if err := json.Unmarshal([]byte(o.Body), out); err != nil {
		return nil, fmt.Errorf("owner %s in the database: %w", o.Name, err)
	}
	out.ID = o.ID
	return out, nil
}

const ownerColumns = `ow.id, ow.name, ow.body`

func (s *Store) owners(ctx context.Context, where string, args ...any) ([]*vetting.Owner, error) {
	return readAll(ctx, s.db, `SELECT `+ownerColumns+` FROM owners ow WHERE `+where, args, (*ownerRow).dest, (*ownerRow).owner)
}

// Owners lists owners by ID.
func (s *Store) Owners(ctx context.Context, p vetting.Page) ([]*vetting.Owner, error) {
	return s.owners(ctx, `ow.id > $1 ORDER BY ow.id LIMIT $2`, p.After, limit(p))
}

// Owner returns an owner by name, or a NotFound error.
func (s *Store) Owner(ctx context.Context, name string) (*vetting.Owner, error) {
	list, err := s.owners(ctx, `ow.name = $1`, name)
	return theOne(list, err, "owner", name)
}

// CreateOwner keeps a new owner; the name must be free (Exists), and the
// issuing CA exist (Invalid).
func (s *Store) CreateOwner(ctx context.Context, a access.Act, o *vetting.Owner) (*vetting.Owner, error) {
	_, err := s.act(ctx, a, func(w *writing) (int64, error) {
		if used, err := w.taken(`SELECT 1 FROM owners WHERE name = $1`, o.Name); err != nil || used {
			return 0, orExists(err, "owner", o.Name)
		}
		if err := w.issues(o.Issuer); err != nil {
			return 0, err
		}
		made := *o
		made.Created = w.now
		row := &ownerRow{ID: w.ids(1), Name: o.Name, Body: mustJSON(&made)}
		w.exec(`INSERT INTO owners (id, name, body) VALUES ($1, $2, $3)`, row.ID, row.Name, row.Body)
		w.leaf("owner.create", operatorOf(a), o.Name, row.object())
		return row.ID, nil
	})
	if err != nil {
		return nil, err
	}
	return s.Owner(ctx, o.Name)
}

// elsewhere is the ID of every owner outside of this server.
const elsewhere = -1

// ownerAt returns an owner by ID, nil for the manufacturer; as it was up to
// ownerLife ago, if another server changed it.
func (s *Store) ownerAt(ctx context.Context, id int64) (*vetting.Owner, error) {
	switch id {
	case 0:
		return nil, nil
	case elsewhere:
		return &vetting.Owner{Name: vetting.Elsewhere}, nil
	}
	if c, ok := s.cache.owners.Load(id); ok && time.Since(c.(*cachedOwner).read) < ownerLife {
		return c.(*cachedOwner).Owner, nil
	}
	read := time.Now()
	list, err := s.owners(ctx, `ow.id = $1`, id)
	if err != nil || len(list) == 0 {
		return nil, orNotFound(err, "owner", id)
	}
	s.cache.owners.Store(id, &cachedOwner{list[0], read})
	return list[0], nil
}

// party is the name of an owner in a transfer.
func (s *Store) party(ctx context.Context, id int64) (string, error) {
	o, err := s.ownerAt(ctx, id)
	if err != nil || o == nil {
		return vetting.Manufacturer, err
	}
	return o.Name, nil
}

// partyID is the ID that party names, or a NotFound error.
func (s *Store) partyID(ctx context.Context, name string) (int64, error) {
	switch name {
	case vetting.Manufacturer:
		return 0, nil
	case vetting.Elsewhere:
		return elsewhere, nil
	}
	o, err := s.Owner(ctx, name)
	if err != nil {
		return 0, err
	}
	return o.ID, nil
}
