package store

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"

	"github.com/touchmark/touchmark/enroll/certorder"
	"github.com/touchmark/touchmark/vetting"
)

// Orders for certificates are the protocol's own affair: they leave nothing in
// the log but what becomes of them, which is a registration.

// certOrderRow is a row of acme_orders.
type certOrderRow struct {
	ID, Account      int64
	Status, Name     string
	Created, Expires int64
	Body             string // certOrderBody as JSON
	Request          []byte
	Serial, Replaces []byte
	Revision         int64
}

// certOrderBody is what nothing is looked up by.
type certOrderBody struct {
	Identifier    certorder.Identifier    `json:"identifier"`
	Authorization certorder.Authorization `json:"authorization"`
	Again         time.Time               `json:"again,omitzero"`
	Problem       *certorder.Problem      `json:"problem,omitempty"`
}

const certOrderColumns = `co.id, co.account_id, co.status, co.name, co.created, co.expires, co.body, co.request, co.serial, co.replaces, co.revision`

func (o *certOrderRow) dest() []any {
	return []any{&o.ID, &o.Account, &o.Status, &o.Name, &o.Created, &o.Expires, &o.Body, &o.Request, &o.Serial, &o.Replaces, &o.Revision}
}

// nameOf is what orders for the same identifier have in common.
func nameOf(id certorder.Identifier) string { return id.Type + ":" + id.Value }

func newCertOrderRow(o *certorder.Order) (*certOrderRow, error) {
	row := &certOrderRow{ID: o.ID, Account: o.Account, Status: string(o.Status), Name: nameOf(o.Identifier), Created: micros(o.Created), Expires: micros(o.Expires),
		Body:    mustJSON(certOrderBody{o.Identifier, o.Authorization, o.Again, o.Problem}),
		Request: o.Request, Revision: o.Revision}
	var err error
	if row.Serial, err = serialBytes(o.Certificate); err != nil {
		return nil, err
	}
	row.Replaces, err = serialBytes(o.Replaces)
	return row, err
}

func (o *certOrderRow) order() (*certorder.Order, error) {
	var b certOrderBody
	if err := json.Unmarshal([]byte(o.Body), &b); err != nil {
		return nil, fmt.Errorf("order %d for a certificate in the database: %w", o.ID, err)
	}
	return &certorder.Order{ID: o.ID, Account: o.Account, Status: certorder.Status(o.Status), Identifier: b.Identifier, Created: fromMicros(o.Created), Expires: fromMicros(o.Expires),
		Authorization: b.Authorization, Replaces: hex.EncodeToString(o.Replaces), Request: o.Request, Again: b.Again, Problem: b.Problem,
		Certificate: hex.EncodeToString(o.Serial), Revision: o.Revision}, nil
}

func (s *Store) certOrders(ctx context.Context, where string, args ...any) ([]*certorder.Order, error) {
	return readAll(ctx, s.db, `SELECT `+certOrderColumns+` FROM acme_orders co WHERE `+where, args, (*certOrderRow).dest, (*certOrderRow).order)
}

// CertificateOrder returns an order for a certificate by ID, or a NotFound
// error.
func (s *Store) CertificateOrder(ctx context.Context, id int64) (*certorder.Order, error) {
	list, err := s.certOrders(ctx, `co.id = $1`, id)
	return theOne(list, err, "order for a certificate", id)
}

// OrderOfCertificate finds the latest order that a certificate was issued for,
// by serial number in hex, or a NotFound error.
func (s *Store) OrderOfCertificate(ctx context.Context, serial string) (*certorder.Order, error) {
	b, err := serialBytes(serial)
	if err != nil {
		return nil, err
	}
	list, err := s.certOrders(ctx, `co.serial = $1 ORDER BY co.id DESC LIMIT 1`, b)
	return theOne(list, err, "order for the certificate", serial)
}

// LastCertificate finds the certificate that an account was given last for an
// identifier, by serial number in hex, or a NotFound error.
func (s *Store) LastCertificate(ctx context.Context, account int64, id certorder.Identifier) (string, error) {
	var serial []byte
	found, err := one(ctx, s.db, `SELECT serial FROM acme_orders WHERE name = $1 AND account_id = $2 AND serial IS NOT NULL ORDER BY id DESC LIMIT 1`, []any{nameOf(id), account}, &serial)
	if err != nil || !found {
		return "", orNotFound(err, "certificate for", id.Value)
	}
	return hex.EncodeToString(serial), nil
}

// CertificateOrders lists the IDs of an account's orders after one.
func (s *Store) CertificateOrders(ctx context.Context, account, after int64, most int) (ids []int64, err error) {
	err = s.db.query(ctx, `SELECT id FROM acme_orders WHERE account_id = $1 AND id > $2 ORDER BY id LIMIT $3`, []any{account, after, most}, func(r row) error {
		var id int64
		err := r.Scan(&id)
		ids = append(ids, id)
		return err
	})
	return ids, err
}

// maxOpenOrders bounds the orders of one account that wait for its client.
const maxOpenOrders = 300

// OpenCertificateOrder keeps a new order for a certificate, by the word of an
// account, and gives it an ID. It is certorder.ErrAccountChanged if the account
// is not at its Revision any more, a Conflict if it has too many orders that
// are open, and an Exists if the certificate that it replaces has a successor,
// or an order for one.
func (s *Store) OpenCertificateOrder(ctx context.Context, by *certorder.Account, o *certorder.Order) error {
	made, err := newCertOrderRow(o)
	if err != nil {
		return err
	}
	open, account, taken := 0, int64(0), false
	err = s.submit(&job{ctx: ctx,
		load: func(w *writing) {
			open, account, taken = 0, 0, false
			w.fetch(`SELECT COALESCE((SELECT revision FROM acme_accounts WHERE id = $1), 0),
				(SELECT COUNT(*) FROM (SELECT 1 FROM acme_orders WHERE account_id = $2 AND status IN ('pending', 'ready') AND expires > $3 LIMIT 300) open)`,
				[]any{by.ID, made.Account, micros(w.store.now())}, func(r row) error { return r.Scan(&account, &open) })
			if len(made.Replaces) > 0 {
				w.fetch(`SELECT 1 FROM acme_orders WHERE replaces = $1 AND status <> 'invalid'`, []any{made.Replaces}, func(row) error { taken = true; return nil })
			}
		},
		apply: func(w *writing) error {
			successor := string(made.Replaces)
			switch {
			case account != by.Revision:
				return certorder.ErrAccountChanged
			case open >= maxOpenOrders:
				return vetting.Errorf(vetting.Conflict, "%d orders of this account are open: finalize them, or wait until they expire", open)
			case taken || successor != "" && w.replaced[successor]:
				return vetting.Errorf(vetting.Exists, "the certificate %s has another order for its successor", hex.EncodeToString(made.Replaces))
			}
			if successor != "" {
				w.replaced[successor] = true
			}
			made.ID, made.Revision = w.ids(1), 1
			w.insert(`acme_orders (id, account_id, status, name, created, expires, body, request, serial, replaces, revision)`, made.ID, made.Account, made.Status, made.Name, made.Created, made.Expires,
				made.Body, bytesOrNull(made.Request, len(made.Request) == 0), bytesOrNull(made.Serial, len(made.Serial) == 0), bytesOrNull(made.Replaces, len(made.Replaces) == 0), made.Revision)
			return nil
		},
	})
	o.ID, o.Revision = made.ID, made.Revision
	return err
}

// ChangeCertificateOrder keeps an order's new state if it is still at Revision (else
// certorder.ErrStale), and moves that on. Where it is by the word of an
// account, that must be at its Revision, too (else
// certorder.ErrAccountChanged); nil is the server's own.
func (s *Store) ChangeCertificateOrder(ctx context.Context, by *certorder.Account, o *certorder.Order) error {
	next, err := newCertOrderRow(o)
	if err != nil {
		return err
	}
	var at, account int64
	err = s.submit(&job{ctx: ctx,
		load: func(w *writing) {
			at, account = 0, 0
			w.fetch(`SELECT co.revision, COALESCE(acc.revision, 0) FROM acme_orders co LEFT JOIN acme_accounts acc ON acc.id = co.account_id WHERE co.id = $1`,
				[]any{next.ID}, func(r row) error { return r.Scan(&at, &account) })
		},
		apply: func(w *writing) error {
			switch {
			case at != o.Revision || w.reordered[next.ID]:
				return certorder.ErrStale
			case by != nil && (account != by.Revision || by.ID != o.Account):
				return certorder.ErrAccountChanged
			}
			w.reordered[next.ID] = true
			w.exec(`UPDATE acme_orders SET status = $2, body = $3, request = $4, serial = $5, revision = $6 WHERE id = $1`,
				next.ID, next.Status, next.Body, bytesOrNull(next.Request, len(next.Request) == 0), bytesOrNull(next.Serial, len(next.Serial) == 0), o.Revision+1)
			return nil
		},
	})
	if err == nil {
		o.Revision++
	}
	return err
}

// forgottenAtOnce is how many orders are forgotten in one transaction.
const forgottenAtOnce = 500

// ForgetCertificateOrders forgets orders that expired before a time and have no
// certificate that is still valid then. What they led to is in the
// registrations.
func (s *Store) ForgetCertificateOrders(ctx context.Context, before time.Time) (forgotten int, err error) {
	err = s.update(ctx, func(w *writing) error {
		forgotten = 0
		var ids []any
		w.fetch(`SELECT co.id FROM acme_orders co LEFT JOIN certificates c ON c.serial = co.serial
			WHERE co.expires < $1 AND (co.serial IS NULL OR c.not_after < $1) ORDER BY co.expires LIMIT $2`, []any{micros(before), forgottenAtOnce}, func(r row) error {
			var id int64
			err := r.Scan(&id)
			ids = append(ids, id)
			return err
		})
		if err := w.flush(); err != nil {
			return err
		}
		forgotten = len(ids)
		w.execOneOf(`DELETE FROM acme_orders WHERE id IN`, nil, ids)
		return nil
	})
	return forgotten, err
}
