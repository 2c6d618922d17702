package store

import (
	"context"
	"time"
)

// RenewalHint is the span of time in which an operator wants a certificate,
// named by its ID, to be renewed. ok is false if nobody said so.
func (s *Store) RenewalHint(ctx context.Context, certificateID int64) (start, end time.Time, ok bool, err error) {
	var from, until int64
	ok, err = one(ctx, s.db, `SELECT starts, ends FROM renewal_hints WHERE certificate_id = $1`, []any{certificateID}, &from, &until)
	return fromMicros(from), fromMicros(until), ok, err
}
