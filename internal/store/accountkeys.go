package store

import (
	"context"
	"fmt"

	"github.com/touchmark/touchmark/enroll/certorder"
	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/internal/audit"
	"github.com/touchmark/touchmark/vetting"
)

// accountKeyRow is a row of account_keys.
type accountKeyRow struct {
	ID               int64
	OrderID, SiteID  int64 // the order is 0 for a key of a site
	By, Note         string
	Created, Expires int64
	Used, Account    int64
	Revoked          int64
}

const accountKeyColumns = `ak.id, ak.order_id, ak.site_id, ak.made_by, ak.note, ak.created, ak.expires, ak.used, ak.account_id, ak.revoked`

func (k *accountKeyRow) dest() []any {
	return []any{&k.ID, &k.OrderID, &k.SiteID, &k.By, &k.Note, &k.Created, &k.Expires, &k.Used, &k.Account, &k.Revoked}
}

func (k *accountKeyRow) object() audit.Object {
	return audit.Object{Kind: audit.KindAccountKey, ID: k.ID, Digest: audit.DigestOf(k)}
}

func (s *Store) accountKeys(ctx context.Context, where string, args ...any) (list []*vetting.AccountKey, err error) {
	now := s.now()
	err = s.db.query(ctx, `SELECT `+accountKeyColumns+`, COALESCE(o.name, ''), s.name, COALESCE(p.name, '')
		FROM account_keys ak JOIN sites s ON s.id = ak.site_id LEFT JOIN orders o ON o.id = ak.order_id LEFT JOIN products p ON p.id = o.product_id
		WHERE `+where, args, func(r row) error {
		var k accountKeyRow
		out := new(vetting.AccountKey)
		if err := r.Scan(append(k.dest(), &out.Order, &out.Site, &out.Product)...); err != nil {
			return err
		}
		out.ID, out.OrderID, out.SiteID, out.By, out.Note, out.Account = k.ID, k.OrderID, k.SiteID, k.By, k.Note, k.Account
		out.Created, out.Expires, out.Used, out.Revoked = fromMicros(k.Created), fromMicros(k.Expires), fromMicros(k.Used), fromMicros(k.Revoked)
		out.State = out.At(now)
		list = append(list, out)
		return nil
	})
	return list, err
}

// AccountKey returns an account key by ID, or a NotFound error.
func (s *Store) AccountKey(ctx context.Context, id int64) (*vetting.AccountKey, error) {
	list, err := s.accountKeys(ctx, `ak.id = $1`, id)
	return theOne(list, err, "account key", id)
}

// AccountKeys lists account keys, newest first.
func (s *Store) AccountKeys(ctx context.Context, f vetting.AccountKeyFilter, p vetting.Page) ([]*vetting.AccountKey, error) {
	where, args := `ak.id < $1`, []any{newestFirst(p)}
	for _, c := range [...]struct{ column, value string }{{"s.name", f.Site}, {"o.name", f.Order}} {
		if c.value != "" {
			args = append(args, c.value)
			where += fmt.Sprintf(` AND %s = $%d`, c.column, len(args))
		}
	}
	args = append(args, limit(p))
	return s.accountKeys(ctx, where+fmt.Sprintf(` ORDER BY ak.id DESC LIMIT $%d`, len(args)), args...)
}

// CreateAccountKey keeps a new account key for an order or a site, which must
// exist (NotFound). An act that is repeated is a Conflict: the secret is shown
// once.
func (s *Store) CreateAccountKey(ctx context.Context, a access.Act, k *vetting.AccountKey) (*vetting.AccountKey, error) {
	made := false
	id, err := s.act(ctx, a, func(w *writing) (_ int64, err error) {
		row := &accountKeyRow{By: a.Operator, Note: k.Note, Created: micros(w.now), Expires: micros(k.Expires)}
		of := "site " + k.Site
		if k.Order != "" {
			o := w.fetchOrder(`o.name = $1`, k.Order)
			if err := w.flush(); err != nil {
				return 0, err
			}
			if o.ID == 0 {
				return 0, notFound("order", k.Order)
			}
			row.OrderID, row.SiteID, of = o.ID, o.SiteID, "order "+o.Name
		} else if row.SiteID, err = w.idOf("site", "sites", k.Site); err != nil {
			return 0, err
		}
		row.ID, made = w.ids(1), true
		w.insert(`account_keys (id, order_id, site_id, made_by, note, created, expires, used, account_id, revoked)`,
			row.ID, row.OrderID, row.SiteID, row.By, row.Note, row.Created, row.Expires, row.Used, row.Account, row.Revoked)
		w.leaf("account-key.create", operatorOf(a), "for "+of, row.object())
		return row.ID, nil
	})
	if err != nil {
		return nil, err
	}
	if !made {
		return nil, vetting.Errorf(vetting.Conflict, "this account key was made already, as number %d, and its secret is shown only once: revoke it, and ask for another with a new idempotency key", id)
	}
	return s.AccountKey(ctx, id)
}

// RevokeAccountKey takes an account key back, and ends the account that was
// opened with it. Revoking it again changes nothing.
func (s *Store) RevokeAccountKey(ctx context.Context, a access.Act, id int64) (*vetting.AccountKey, error) {
	_, err := s.act(ctx, a, func(w *writing) (int64, error) {
		k, err := w.accountKey(id)
		if err != nil || k.Revoked != 0 {
			return id, err
		}
		k.Revoked = micros(w.now)
		w.exec(`UPDATE account_keys SET revoked = $2 WHERE id = $1`, id, k.Revoked)
		objects := []audit.Object{k.object()}
		if k.Account != 0 {
			account, err := w.account(k.Account)
			if err != nil {
				return 0, err
			}
			account.Status = string(certorder.Deactivated)
			objects = append(objects, w.saveAccount(account))
		}
		w.leaf("account-key.revoke", operatorOf(a), "", objects...)
		return id, nil
	})
	if err != nil {
		return nil, err
	}
	return s.AccountKey(ctx, id)
}

func (w *writing) accountKey(id int64) (*accountKeyRow, error) {
	k := new(accountKeyRow)
	w.fetch(`SELECT `+accountKeyColumns+` FROM account_keys ak WHERE ak.id = $1`, []any{id}, func(r row) error { return r.Scan(k.dest()...) })
	if err := w.flush(); err != nil {
		return nil, err
	}
	if k.ID == 0 {
		return nil, notFound("account key", id)
	}
	return k, nil
}
