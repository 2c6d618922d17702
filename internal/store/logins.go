package store

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"

	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/internal/audit"
	"github.com/touchmark/touchmark/vetting"
)

// loginRow is a row of operator_logins.
type loginRow struct {
	ID, OperatorID int64
	Key, Token     []byte
	Issuer         string
	NotAfter, At   int64
}

const loginColumns = `ol.id, ol.operator_id, ol.key, ol.token, ol.issuer, ol.not_after, ol.at`

func (l *loginRow) dest() []any {
	return []any{&l.ID, &l.OperatorID, &l.Key, &l.Token, &l.Issuer, &l.NotAfter, &l.At}
}

func (l *loginRow) scan(from row) error { return from.Scan(l.dest()...) }

func (l *loginRow) object() audit.Object {
	return audit.Object{Kind: audit.KindLogin, ID: l.ID, Digest: audit.DigestOf(l)}
}

// LogIn keeps that a workload has a key until its certificate ends, for a token
// that was verified. The token counts once: with the same key it is the same
// login again, with another it is a Conflict, and so is an operator who was
// revoked or is no workload.
func (s *Store) LogIn(ctx context.Context, l access.Login) (*access.Operator, error) {
	err := s.update(ctx, func(w *writing) error {
		op, err := w.workload(l.Operator)
		if err != nil {
			return err
		}
		row := new(loginRow)
		w.fetch(`SELECT `+loginColumns+` FROM operator_logins ol WHERE ol.token = $1`, []any{l.Token[:]}, row.scan)
		if err := w.flush(); err != nil {
			return err
		}
		switch {
		case row.ID == 0:
			if row, err = w.newLogin(op.ID, l); err != nil {
				return err
			}
		case row.OperatorID != op.ID || !bytes.Equal(row.Key, l.Key[:]):
			return vetting.Errorf(vetting.Conflict, "this token was used before: get a new one for each login")
		default:
			row.Issuer, row.NotAfter = l.Issuer, micros(l.NotAfter)
			w.exec(`UPDATE operator_logins SET issuer = $2, not_after = $3 WHERE id = $1`, row.ID, row.Issuer, row.NotAfter)
		}
		w.leaf("operator.login", "operator:"+l.Operator, fmt.Sprintf("%s, %s", l.Subject, l.Key), row.object())
		return nil
	})
	if err != nil {
		return nil, err
	}
	return s.Operator(ctx, l.Operator)
}

// workload reads an operator who may log in as he is now.
func (w *writing) workload(name string) (*operatorRow, error) {
	o := new(operatorRow)
	w.fetch(`SELECT `+operatorColumns+` FROM operators op WHERE op.name = $1`, []any{name}, func(r row) error { return r.Scan(o.dest()...) })
	if err := w.flush(); err != nil {
		return nil, err
	}
	switch {
	case o.ID == 0:
		return nil, notFound("operator", name)
	case o.Trust == "":
		return nil, vetting.Errorf(vetting.Conflict, "operator %s has a key, and does not log in with tokens", name)
	case o.Revoked != 0:
		return nil, vetting.Errorf(vetting.Conflict, "operator %s was revoked: ask an admin for another one", name)
	}
	return o, nil
}

func (w *writing) newLogin(operator int64, l access.Login) (*loginRow, error) {
	used, err := w.taken(`SELECT 1 FROM operators WHERE key = $1`, l.Key[:])
	if err == nil && !used {
		used, err = w.taken(`SELECT 1 FROM operator_logins WHERE key = $1`, l.Key[:])
	}
	if err != nil || used {
		return nil, orExists(err, "operator with the key", l.Key.String())
	}
	row := &loginRow{ID: w.ids(1), OperatorID: operator, Key: l.Key[:], Token: l.Token[:], Issuer: l.Issuer, NotAfter: micros(l.NotAfter), At: micros(w.now)}
	w.exec(`INSERT INTO operator_logins (id, operator_id, key, token, issuer, not_after, at) VALUES ($1, $2, $3, $4, $5, $6, $7)`,
		row.ID, row.OperatorID, row.Key, row.Token, row.Issuer, row.NotAfter, row.At)
	return row, nil
}

// workloadByKey is the operator who logged in with a key, which it has in the
// answer.
func (s *Store) workloadByKey(ctx context.Context, key vetting.Fingerprint) (*access.Operator, error) {
	o, err := s.operator(ctx, `op.id = (SELECT ol.operator_id FROM operator_logins ol WHERE ol.key = $1)`, key[:], "with the key "+key.String())
	if err == nil {
		o.Key = key
	}
	return o, err
}

// trust is what a workload's tokens must say, nil of other operators.
func (o *operatorRow) trust() (*access.Trust, error) {
	if o.Trust == "" {
		return nil, nil
	}
	t := new(access.Trust)
	if err := json.Unmarshal([]byte(o.Trust), t); err != nil {
		return nil, fmt.Errorf("what operator %s trusts, in the database: %w", o.Name, err)
	}
	return t, nil
}
