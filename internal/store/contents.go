package store

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/touchmark/touchmark/firmware-sign/content"
	"github.com/touchmark/touchmark/firmware-sign/release"
	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/internal/audit"
	"github.com/touchmark/touchmark/vetting"
)

// contentRow is a row of contents.
type contentRow struct {
	ID   int64  // the artefact's
	Body string // the content.Sealed as JSON
}

const contentColumns = `ct.id, ct.body`

func (c *contentRow) dest() []any { return []any{&c.ID, &c.Body} }

func (c *contentRow) scan(from row) error { return from.Scan(c.dest()...) }

func (c *contentRow) object() audit.Object {
	return audit.Object{Kind: audit.KindContent, ID: c.ID, Digest: audit.DigestOf(c)}
}

// KeepContent is KeepChecks for an encrypted artefact: it keeps what is secret
// of the file with it, in one. Once a production release is published, another
// secret is a Conflict, since it could belong to another file.
func (s *Store) KeepContent(ctx context.Context, a access.Act, id int64, signed release.File, checks []release.Check, sealed *content.Sealed) (*release.Artefact, error) {
	_, err := s.act(ctx, a, func(w *writing) (int64, error) {
		row, r, part, err := w.onArtefact(id)
		if err != nil {
			return 0, err
		}
		switch {
		case !part.Encrypted():
			return 0, vetting.Errorf(vetting.Conflict, "%s of %s is not encrypted: it has no secret", part.Name, r.Name())
		case part.Stage == release.Production && part.Signed != nil && r.State != release.Approved && r.State != release.Signed:
			return 0, vetting.Errorf(vetting.Conflict, "release %s is %s with %s as the encrypted file of %s: another one comes too late", r.Name(), r.State, part.Signed.SHA256, part.Name)
		}
		if err := part.Verified(r, signed, checks); err != nil {
			return 0, conflict(err)
		}
		kept := &contentRow{ID: id, Body: mustJSON(sealed)}
		w.exec(`INSERT INTO contents (id, body) VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET body = EXCLUDED.body`, kept.ID, kept.Body)
		w.leaf("artefact.encrypt", operatorOf(a), artefactNote(r, part), w.saveArtefact(row.ID, part), kept.object())
		return id, nil
	})
	if err != nil {
		return nil, err
	}
	return s.Artefact(ctx, id)
}

// SealedContent returns what is secret of an artefact, or a NotFound error.
func (s *Store) SealedContent(ctx context.Context, artefact int64) (*content.Sealed, error) {
	row := new(contentRow)
	found, err := one(ctx, s.db, `SELECT `+contentColumns+` FROM contents ct WHERE ct.id = $1`, []any{artefact}, row.dest()...)
	if err != nil || !found {
		return nil, orNotFound(err, "secret of artefact", artefact)
	}
	out := new(content.Sealed)
	if err := json.Unmarshal([]byte(row.Body), out); err != nil {
		return nil, fmt.Errorf("the secret of artefact %d in the database: %w", artefact, err)
	}
	return out, nil
}
