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

// statementRow is a row of statement_signatures.
type statementRow struct {
	ID, ReleaseID, KeyID int64
	Body                 string // the release.StatementSignature as JSON
}

const statementColumns = `ss.id, ss.release_id, ss.key_id, ss.body`

func (s *statementRow) dest() []any { return []any{&s.ID, &s.ReleaseID, &s.KeyID, &s.Body} }

func (s *statementRow) scan(from row) error { return from.Scan(s.dest()...) }

func (s *statementRow) object() audit.Object {
	return audit.Object{Kind: audit.KindStatementSignature, ID: s.ID, Digest: audit.DigestOf(s)}
}

func (s *statementRow) signature() (*release.StatementSignature, error) {
	out := new(release.StatementSignature)
	if err := json.Unmarshal([]byte(s.Body), out); err != nil {
		return nil, fmt.Errorf("the statement's signature %d in the database: %w", s.ID, err)
	}
	return out, nil
}

// StatementSignatures lists the signatures of a release's statement, oldest
// first.
func (s *Store) StatementSignatures(ctx context.Context, of int64) ([]*release.StatementSignature, error) {
	return readAll(ctx, s.db, `SELECT `+statementColumns+` FROM statement_signatures ss WHERE ss.release_id = $1 ORDER BY ss.id`, []any{of}, (*statementRow).dest, (*statementRow).signature)
}

// signedStatements are the releases whose statements a key signed.
func (s *Store) signedStatements(ctx context.Context, key int64) (list []int64, err error) {
	err = s.db.query(ctx, `SELECT release_id FROM statement_signatures WHERE key_id = $1`, []any{key}, func(r row) error {
		var id int64
		err := r.Scan(&id)
		list = append(list, id)
		return err
	})
	return list, err
}

// StatementWants are the keys that are yet to sign the statement of a release:
// those for statements of its product that were not revoked.
func (s *Store) StatementWants(ctx context.Context, id int64) (*release.Release, []*release.Key, error) {
	r, err := s.Release(ctx, id)
	if err != nil {
		return nil, nil, err
	}
	keys, err := s.firmwareKeys(ctx, `fk.product_id = (SELECT product_id FROM releases WHERE id = $1)
		AND NOT EXISTS (SELECT 1 FROM statement_signatures ss WHERE ss.release_id = $1 AND ss.key_id = fk.id) ORDER BY fk.id`, id)
	return r, stillSigning(keys), err
}

// stillSigning leaves those keys that sign statements.
func stillSigning(keys []*release.Key) []*release.Key {
	return slices.DeleteFunc(keys, func(k *release.Key) bool { return !k.SignsStatements() || !k.Revoked.IsZero() })
}

// KeepStatementSignature keeps a signature of a release's statement, if it may
// still be made and is over what the statement is. That of somebody who came
// first stays.
func (s *Store) KeepStatementSignature(ctx context.Context, a access.Act, id int64, sig *release.StatementSignature) ([]*release.StatementSignature, error) {
	_, err := s.act(ctx, a, func(w *writing) (int64, error) {
		_, r, err := w.releaseNow(id)
		if err != nil {
			return 0, err
		}
		keys, err := w.firmwareKeysNamed([]string{sig.Key})
		if err != nil {
			return 0, err
		}
		permit, err := release.AllowStatement(r, keys[0])
		if err != nil {
			return 0, conflict(err)
		}
		if done, err := w.taken(`SELECT 1 FROM statement_signatures WHERE release_id = $1 AND key_id = $2`, id, keys[0].ID); err != nil || done {
			return id, err
		}
		if err := permit.Accept(sig); err != nil {
			return 0, conflict(err)
		}
		kept := *sig
		kept.By, kept.At = a.Operator, w.now
		row := &statementRow{ID: w.ids(1), ReleaseID: id, KeyID: keys[0].ID, Body: mustJSON(&kept)}
		w.exec(`INSERT INTO statement_signatures (id, release_id, key_id, body) VALUES ($1, $2, $3, $4)`, row.ID, row.ReleaseID, row.KeyID, row.Body)
		w.leaf("release.statement.sign", operatorOf(a), fmt.Sprintf("%s by %s, %x", r.Name(), sig.Key, r.Statement().Digest()), row.object())
		return id, nil
	})
	if err != nil {
		return nil, err
	}
	return s.StatementSignatures(ctx, id)
}

// stated refuses to go on with a release whose statement a key has not signed
// that should.
func (w *writing) stated(r *release.Release) error {
	var keys []*release.Key
	w.fetch(`SELECT `+firmwareKeyColumns+` FROM firmware_keys fk WHERE fk.product_id = (SELECT product_id FROM releases WHERE id = $1)
		AND NOT EXISTS (SELECT 1 FROM statement_signatures ss WHERE ss.release_id = $1 AND ss.key_id = fk.id)`, []any{r.ID}, func(from row) error {
		have := new(firmwareKeyRow)
		if err := have.scan(from); err != nil {
			return err
		}
		key, err := have.key()
		keys = append(keys, key)
		return err
	})
	if err := w.flush(); err != nil {
		return err
	}
	if lack := stillSigning(keys); len(lack) > 0 {
		return vetting.Errorf(vetting.Conflict, "the key %s has not signed the statement of release %s: have it signed (firmware release statement --sign), then publish", lack[0].Name, r.Name())
	}
	return nil
}
