package store

import (
	"bytes"
	"context"

	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/internal/approval"
	"github.com/touchmark/touchmark/internal/audit"
	"github.com/touchmark/touchmark/vetting"
)

// issuingRow is a row of issuing_cas.
type issuingRow struct {
	ID                        int64
	Name                      string
	Subject, Key, Certificate []byte
	Created, Updated          int64
	State                     string `json:",omitempty"` // the log has rows of before these came
	Purpose                   string `json:",omitempty"`
}

const issuingColumns = `ica.id, ica.name, ica.subject, ica.key, ica.certificate, ica.created, ica.updated, ica.state, ica.purpose`

func (i *issuingRow) dest() []any {
	return []any{&i.ID, &i.Name, &i.Subject, &i.Key, &i.Certificate, &i.Created, &i.Updated, &i.State, &i.Purpose}
}

func (i *issuingRow) object() audit.Object {
	return audit.Object{Kind: audit.KindIssuingCA, ID: i.ID, Digest: audit.DigestOf(i)}
}

func (i *issuingRow) issuingCA() *vetting.IssuingCA {
	out := &vetting.IssuingCA{ID: i.ID, Name: i.Name, Purpose: vetting.Purpose(i.Purpose), Certificate: i.Certificate, Subject: i.Subject, State: vetting.IssuingState(i.State),
		Created: fromMicros(i.Created), Updated: fromMicros(i.Updated)}
	copy(out.Key[:], i.Key)
	return out
}

func (s *Store) issuingCAs(ctx context.Context, where string, args ...any) (list []*vetting.IssuingCA, err error) {
	err = s.db.query(ctx, `SELECT `+issuingColumns+` FROM issuing_cas ica `+where, args, func(r row) error {
		var i issuingRow
		if err := r.Scan(i.dest()...); err != nil {
			return err
		}
		list = append(list, i.issuingCA())
		return nil
	})
	return list, err
}

// IssuingCAs lists the CAs below the root, whatever they are for, oldest first;
// there are vetting.MaxIssuingCAs at most. A founding CA is among them once
// its state changed.
func (s *Store) IssuingCAs(ctx context.Context) ([]*vetting.IssuingCA, error) {
	return s.issuingCAs(ctx, `ORDER BY ica.id`)
}

// IssuingCA returns an issuing CA by name, or a NotFound error.
func (s *Store) IssuingCA(ctx context.Context, name string) (*vetting.IssuingCA, error) {
	list, err := s.issuingCAs(ctx, `WHERE ica.name = $1`, name)
	return theOne(list, err, "issuing CA", name)
}

// CreateIssuingCA keeps a new issuing CA. Name, subject and key must be free
// (Exists), and there is a bound (Conflict).
func (s *Store) CreateIssuingCA(ctx context.Context, a access.Act, c *vetting.IssuingCA) (*vetting.IssuingCA, error) {
	_, err := s.act(ctx, a, func(w *writing) (int64, error) {
		if err := w.alone(approval.CACreate, "a new issuing CA", "touchmark issuer create "+c.Name); err != nil {
			return 0, err
		}
		if err := w.mayCreate(c); err != nil {
			return 0, err
		}
		row := w.insertIssuing(c)
		w.leaf("issuer.create", operatorOf(a), c.Name, row.object())
		return row.ID, nil
	})
	if err != nil {
		return nil, err
	}
	return s.IssuingCA(ctx, c.Name)
}

// mayCreate refuses an issuing CA that cannot be kept.
func (w *writing) mayCreate(c *vetting.IssuingCA) error {
	if used, err := w.taken(`SELECT 1 FROM issuing_cas WHERE name = $1`, c.Name); err != nil || used {
		return orExists(err, "issuing CA", c.Name)
	}
	if used, err := w.taken(`SELECT 1 FROM issuing_cas WHERE subject = $1 OR key = $2`, c.Subject, c.Key[:]); err != nil || used {
		return orExists(err, "issuing CA with the subject or the key of", c.Name)
	}
	count := 0
	w.fetch(`SELECT COUNT(*) FROM issuing_cas`, nil, func(r row) error { return r.Scan(&count) })
	if err := w.flush(); err != nil {
		return err
	}
	if count >= vetting.MaxIssuingCAs {
		return vetting.Errorf(vetting.Conflict, "there are %d issuing CAs already: more would make /cacerts too long for devices", count)
	}
	return nil
}

func (w *writing) insertIssuing(c *vetting.IssuingCA) *issuingRow {
	now := micros(w.now)
	row := &issuingRow{ID: w.ids(1), Name: c.Name, Subject: c.Subject, Key: c.Key[:], Certificate: c.Certificate, Created: now, Updated: now, Purpose: string(c.Purpose)}
	w.exec(`INSERT INTO issuing_cas (id, name, subject, key, certificate, created, updated, purpose) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`,
		row.ID, row.Name, row.Subject, row.Key, row.Certificate, row.Created, row.Updated, row.Purpose)
	return row
}

// RenewIssuingCA replaces the certificate of an issuing CA, whose subject and
// key stay as they are (Conflict). The certificate that it has changes
// nothing.
func (s *Store) RenewIssuingCA(ctx context.Context, a access.Act, c *vetting.IssuingCA) (*vetting.IssuingCA, error) {
	_, err := s.act(ctx, a, func(w *writing) (int64, error) {
		have, err := w.issuingCA(c.Name)
		switch {
		case err != nil:
			return 0, err
		case !bytes.Equal(have.Subject, c.Subject) || !bytes.Equal(have.Key, c.Key[:]):
			return 0, vetting.Errorf(vetting.Conflict, "the certificate has another subject or key than the issuing CA %s: what it signed could not be verified with it", c.Name)
		case bytes.Equal(have.Certificate, c.Certificate):
			return have.ID, nil
		}
		have.Certificate, have.Updated = c.Certificate, micros(w.now)
		w.exec(`UPDATE issuing_cas SET certificate = $2, updated = $3 WHERE id = $1`, have.ID, have.Certificate, have.Updated)
		w.leaf("issuer.renew", operatorOf(a), c.Name, have.object())
		return have.ID, w.reviewIssuers(operatorOf(a))
	})
	if err != nil {
		return nil, err
	}
	return s.IssuingCA(ctx, c.Name)
}

// issuingCA reads the row of an issuing CA, or fails with NotFound.
func (w *writing) issuingCA(name string) (*issuingRow, error) {
	i := new(issuingRow)
	w.fetch(`SELECT `+issuingColumns+` FROM issuing_cas ica WHERE ica.name = $1`, []any{name}, func(r row) error { return r.Scan(i.dest()...) })
	if err := w.flush(); err != nil {
		return nil, err
	}
	if i.ID == 0 {
		return nil, notFound("issuing CA", name)
	}
	return i, nil
}

// become changes the state of an issuing CA, for a leaf.
func (w *writing) become(i *issuingRow, state vetting.IssuingState) audit.Object {
	i.State = string(state)
	w.exec(`UPDATE issuing_cas SET state = $2 WHERE id = $1`, i.ID, i.State)
	return i.object()
}
