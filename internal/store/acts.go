package store

import (
	"bytes"
	"context"

	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/vetting"
)

// act carries out an operator's act once. fn returns the ID of the object it
// made or changed. If the same operator used the same idempotency key before
// for the same request, fn is not run and the earlier object's ID is
// returned; for another request that is a Conflict.
func (s *Store) act(ctx context.Context, a access.Act, fn func(*writing) (int64, error)) (id int64, err error) {
	err = s.update(ctx, func(w *writing) error {
		earlier, found, err := w.earlierAct(a)
		if err != nil || found {
			id = earlier
			return err
		}
		if id, err = fn(w); err != nil || a.Key == "" {
			return err
		}
		w.exec(`INSERT INTO idempotency (operator, key, request, object_id, at) VALUES ($1, $2, $3, $4, $5)`,
			a.Operator, a.Key, a.Request[:], id, micros(w.now))
		return nil
	})
	return id, err
}

func (w *writing) earlierAct(a access.Act) (id int64, found bool, err error) {
	if a.Key == "" {
		return 0, false, nil
	}
	var request []byte
	w.fetch(`SELECT request, object_id FROM idempotency WHERE operator = $1 AND key = $2`, []any{a.Operator, a.Key}, func(r row) error {
		found = true
		return r.Scan(&request, &id)
	})
	if err := w.flush(); err != nil || !found {
		return 0, false, err
	}
	if !bytes.Equal(request, a.Request[:]) {
		return 0, false, keyReused(a)
	}
	return id, true, nil
}

func keyReused(a access.Act) error {
	return vetting.Errorf(vetting.Conflict, "the idempotency key %q was used before for another request: use a new key for each request", a.Key)
}

// taken reports whether a row of the given query exists.
func (w *writing) taken(sql string, args ...any) (bool, error) {
	found := false
	w.fetch(sql, args, func(row) error { found = true; return nil })
	return found, w.flush()
}

// idOf resolves a name, or fails with NotFound.
func (w *writing) idOf(what, table, name string) (int64, error) {
	var id int64
	w.fetch(`SELECT id FROM `+table+` WHERE name = $1`, []any{name}, func(r row) error { return r.Scan(&id) })
	if err := w.flush(); err != nil {
		return 0, err
	}
	if id == 0 {
		return 0, notFound(what, name)
	}
	return id, nil
}

func notFound(what string, name any) error {
	return vetting.Errorf(vetting.NotFound, "there is no %s %v", what, name)
}

func operatorOf(a access.Act) string { return "operator:" + a.Operator }
