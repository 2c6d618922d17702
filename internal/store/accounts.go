package store

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"

	"github.com/touchmark/touchmark/enroll/certorder"
	"github.com/touchmark/touchmark/internal/audit"
	"github.com/touchmark/touchmark/vetting"
)

// accountRow is a row of acme_accounts.
type accountRow struct {
	ID       int64
	Key      []byte // its fingerprint
	SPKI     []byte
	Status   string
	Contact  string // a JSON array
	Agreed   int64
	Binding  int64
	Created  int64
	Revision int64
}

const accountColumns = `acc.id, acc.key, acc.spki, acc.status, acc.contact, acc.agreed, acc.binding, acc.created, acc.revision`

func (a *accountRow) dest() []any {
	return []any{&a.ID, &a.Key, &a.SPKI, &a.Status, &a.Contact, &a.Agreed, &a.Binding, &a.Created, &a.Revision}
}

func (a *accountRow) object() audit.Object {
	return audit.Object{Kind: audit.KindAccount, ID: a.ID, Digest: audit.DigestOf(a)}
}

func newAccountRow(a *certorder.Account) *accountRow {
	key := vetting.KeyFingerprint(a.Key)
	contact := a.Contact
	if contact == nil {
		contact = []string{}
	}
	return &accountRow{ID: a.ID, Key: key[:], SPKI: a.Key, Status: string(a.Status), Contact: mustJSON(contact),
		Agreed: micros(a.Agreed), Binding: a.Binding, Created: micros(a.Created), Revision: a.Revision}
}

func (s *Store) accounts(ctx context.Context, where string, args ...any) (list []*certorder.Account, err error) {
	err = s.db.query(ctx, `SELECT `+accountColumns+`, COALESCE(o.name, ''), COALESCE(p.name, ''), CASE WHEN ak.order_id = 0 THEN COALESCE(s.name, '') ELSE '' END
		FROM acme_accounts acc LEFT JOIN account_keys ak ON ak.id = acc.binding LEFT JOIN sites s ON s.id = ak.site_id
		LEFT JOIN orders o ON o.id = ak.order_id LEFT JOIN products p ON p.id = o.product_id
		WHERE `+where, args, func(r row) error {
		var row accountRow
		out := new(certorder.Account)
		if err := r.Scan(append(row.dest(), &out.Scope.Order, &out.Scope.Product, &out.Scope.Site)...); err != nil {
			return err
		}
		out.ID, out.Key, out.Status, out.Binding, out.Revision = row.ID, row.SPKI, certorder.Status(row.Status), row.Binding, row.Revision
		out.Agreed, out.Created = fromMicros(row.Agreed), fromMicros(row.Created)
		if err := json.Unmarshal([]byte(row.Contact), &out.Contact); err != nil {
			return fmt.Errorf("account %d in the database: %w", row.ID, err)
		}
		list = append(list, out)
		return nil
	})
	return list, err
}

// Account returns an ACME account by ID, or a NotFound error.
func (s *Store) Account(ctx context.Context, id int64) (*certorder.Account, error) {
	list, err := s.accounts(ctx, `acc.id = $1`, id)
	return theOne(list, err, "account", id)
}

// AccountByKey returns the ACME account of a key, or a NotFound error.
func (s *Store) AccountByKey(ctx context.Context, key vetting.Fingerprint) (*certorder.Account, error) {
	list, err := s.accounts(ctx, `acc.key = $1`, key[:])
	return theOne(list, err, "account with the key", key)
}

// OpenAccount keeps a new ACME account and spends the account key that it
// names. If its key has an account already, that is returned, and nothing is
// spent. A Conflict says why the account key opens none.
func (s *Store) OpenAccount(ctx context.Context, a *certorder.Account) (_ *certorder.Account, opened bool, err error) {
	made := newAccountRow(a)
	err = s.update(ctx, func(w *writing) error {
		opened = false
		made.ID, made.Revision = 0, 1
		w.fetch(`SELECT id FROM acme_accounts WHERE key = $1`, []any{made.Key}, func(r row) error { return r.Scan(&made.ID) })
		if err := w.flush(); err != nil || made.ID != 0 {
			return err
		}
		made.ID, made.Created, opened = w.ids(1), micros(w.now), true
		objects := []audit.Object{made.object()}
		if made.Binding != 0 {
			k, err := w.spend(made.Binding, made.ID)
			if err != nil {
				return err
			}
			objects = append(objects, k.object())
		}
		w.insert(`acme_accounts (id, key, spki, status, contact, agreed, binding, created, revision)`,
			made.ID, made.Key, made.SPKI, made.Status, made.Contact, made.Agreed, made.Binding, made.Created, made.Revision)
		w.leaf("account.open", "key:"+vetting.Fingerprint(made.Key).String(), "", objects...)
		return nil
	})
	if err != nil {
		return nil, false, err
	}
	a, err = s.Account(ctx, made.ID)
	return a, opened, err
}

// spend uses an account key up.
func (w *writing) spend(id, account int64) (*accountKeyRow, error) {
	k, err := w.accountKey(id)
	if err != nil {
		return nil, err
	}
	switch {
	case k.Revoked != 0:
		return nil, vetting.Errorf(vetting.Conflict, "account key %d was revoked: ask for another", id)
	case k.Used != 0:
		return nil, vetting.Errorf(vetting.Conflict, "account key %d was used already, to open another account: ask for another", id)
	case micros(w.now) >= k.Expires:
		return nil, vetting.Errorf(vetting.Conflict, "account key %d expired: ask for another", id)
	}
	k.Used, k.Account = micros(w.now), account
	w.exec(`UPDATE account_keys SET used = $2, account_id = $3 WHERE id = $1`, id, k.Used, k.Account)
	return k, nil
}

func (w *writing) account(id int64) (*accountRow, error) {
	a := new(accountRow)
	w.fetch(`SELECT `+accountColumns+` FROM acme_accounts acc WHERE acc.id = $1`, []any{id}, func(r row) error { return r.Scan(a.dest()...) })
	if err := w.flush(); err != nil {
		return nil, err
	}
	if a.ID == 0 {
		return nil, notFound("account", id)
	}
	return a, nil
}

// saveAccount writes an account that was read in the same transaction.
func (w *writing) saveAccount(a *accountRow) audit.Object {
	a.Revision++
	w.exec(`UPDATE acme_accounts SET key = $2, spki = $3, status = $4, contact = $5, agreed = $6, revision = $7 WHERE id = $1`,
		a.ID, a.Key, a.SPKI, a.Status, a.Contact, a.Agreed, a.Revision)
	return a.object()
}

// ChangeAccount keeps an ACME account's new contact, agreement, status or key,
// if it is still at Revision (else certorder.ErrStale), and moves that on. A
// key that is another account's is an Exists.
func (s *Store) ChangeAccount(ctx context.Context, a *certorder.Account) error {
	next := newAccountRow(a)
	err := s.update(ctx, func(w *writing) error {
		have, err := w.account(a.ID)
		if err != nil {
			return err
		}
		if have.Revision != a.Revision {
			return certorder.ErrStale
		}
		act := "account.change"
		if !bytes.Equal(have.Key, next.Key) {
			act = "account.change-key"
			other, err := w.taken(`SELECT 1 FROM acme_accounts WHERE key = $1`, next.Key)
			if err != nil {
				return err
			}
			if other {
				return vetting.Errorf(vetting.Exists, "the key is another account's")
			}
		}
		if next.Status == string(certorder.Deactivated) {
			act = "account.deactivate"
		}
		have.Key, have.SPKI, have.Status, have.Contact, have.Agreed = next.Key, next.SPKI, next.Status, next.Contact, next.Agreed
		w.leaf(act, accountName(a.ID), "", w.saveAccount(have))
		return nil
	})
	if err == nil {
		a.Revision++
	}
	return err
}
