package store

import (
	"context"
	"crypto/rand"
)

// Secret gives the secret of a name: 32 random bytes that every server on the
// database gets alike, made when they are first asked for. A node that may
// only answer for certificates cannot read them.
func (s *Store) Secret(ctx context.Context, name string) (secret []byte, err error) {
	read := func(r row) error { return r.Scan(&secret) }
	const query = `SELECT value FROM secrets WHERE name = $1`
	if err = s.db.query(ctx, query, []any{name}, read); err != nil || secret != nil {
		return secret, err
	}
	err = s.update(ctx, func(w *writing) error {
		secret = nil
		w.fetch(query, []any{name}, read)
		if err := w.flush(); err != nil || secret != nil {
			return err
		}
		secret = make([]byte, 32)
		rand.Read(secret)
		w.insert(`secrets (name, value)`, name, secret)
		return nil
	})
	if err != nil {
		return nil, err // whether this secret is the one is not known
	}
	return secret, nil
}
