package store

import (
	"context"
	"strconv"
	"time"

	"github.com/touchmark/touchmark/vetting"
)

// outage is a failure of the database, as opposed to an answer of it. What
// was asked may be asked again.
type outage struct{ err error }

func (o *outage) Error() string { return o.err.Error() }
func (o *outage) Unwrap() error { return o.err }

// Unavailable marks the error for those who turn errors into answers and
// know no store.
func (o *outage) Unavailable() bool { return true }

// failed marks an error that a driver returned, or what a row's reader said
// to it.
func failed(err error) error {
	if err == nil || vetting.ProblemOf(err) != 0 {
		return err
	}
	return &outage{err}
}

// CheckWrites reports whether the database takes writes. As long as they
// succeed it asks nothing. After a failure it tries one that means nothing,
// but does change a row, for SQLite would not write what is there already:
// were it to wait for others to try, a load balancer that looks at it would
// keep them away for good.
func (s *Store) CheckWrites(ctx context.Context) error {
	select {
	case <-s.closing:
		return errClosed
	default:
		if !s.failing.Load() {
			return ctx.Err()
		}
	}
	return s.update(ctx, func(w *writing) error {
		w.exec(`DELETE FROM meta WHERE name = 'write-check'`)
		w.exec(`INSERT INTO meta (name, value) VALUES ('write-check', $1)`, strconv.FormatInt(time.Now().UnixNano(), 36))
		return nil
	})
}
