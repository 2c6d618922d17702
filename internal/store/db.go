package store

import (
	"context"
	"errors"
)

// The two databases differ behind these interfaces and nowhere else: the
// queries above them are the same text. Placeholders are $1, $2, …

// backend is one SQL database.
type backend interface {
	reader
	// snapshot runs fn on one unchanging state of the database.
	snapshot(ctx context.Context, fn func(reader) error) error
	// begin starts the only kind of write transaction. Transactions of
	// several processes wait for each other at their first statement, which
	// must be the one that locks log_head.
	begin(ctx context.Context) (transaction, error)
	// migrate brings the schema up to a version, or to newestSchema, and
	// fails on one that is newer than this program knows.
	migrate(ctx context.Context, to int64) error
	// columns is the query for all tables and their columns, in order, but
	// for those of the migrations.
	columns() string
	close() error
}

// reader reads. each is called once a row; its error ends the query.
type reader interface {
	query(ctx context.Context, sql string, args []any, each func(row) error) error
}

// row is the present row of a query.
type row interface{ Scan(dest ...any) error }

// transaction is a write transaction. exec and fetch may be delayed until
// flush, so that a database across a network is asked many things in one
// round trip; they take effect in the order of the calls.
type transaction interface {
	exec(sql string, args ...any)
	fetch(sql string, args []any, each func(row) error)
	// load inserts many rows of one table, in the fastest way there is; also
	// it may be delayed.
	load(rows *rowset)
	// flush carries out what is waiting and returns the first error.
	flush() error
	// commit flushes and commits. After an error that is an
	// errOutcomeUnknown the transaction may have been committed all the same.
	commit() error
	rollback()
}

// errOutcomeUnknown wraps the failure of a commit.
var errOutcomeUnknown = errors.New("the database did not confirm the commit: whether it took effect is unknown")

// lockHead is the dialect's way to make the first statement of a
// transaction wait for other writers. SQLite's BEGIN IMMEDIATE did already.
const lockHead = `SELECT size, frontier, time, next_id FROM log_head WHERE id = 1`

// one reads at most one row and reports whether there was one.
func one(ctx context.Context, r reader, sql string, args []any, dest ...any) (found bool, err error) {
	err = r.query(ctx, sql, args, func(row row) error {
		found = true
		return row.Scan(dest...)
	})
	return found, err
}

// readAll gives what each row of a query stands for.
func readAll[R, T any](ctx context.Context, from reader, query string, args []any, dest func(*R) []any, means func(*R) (T, error)) (list []T, err error) {
	err = from.query(ctx, query, args, func(r row) error {
		var have R
		if err := r.Scan(dest(&have)...); err != nil {
			return err
		}
		out, err := means(&have)
		list = append(list, out)
		return err
	})
	return list, err
}

// theOne is what was looked up by a name, or a NotFound error.
func theOne[T any](list []*T, err error, what string, name any) (*T, error) {
	if err != nil || len(list) == 0 {
		return nil, orNotFound(err, what, name)
	}
	return list[0], nil
}

// bytesOrNull and textOrNull store absent optional values as NULL, which
// unique indexes let repeat.
func bytesOrNull(b []byte, zero bool) any {
	if zero {
		return nil
	}
	return b
}

func textOrNull(s string) any {
	if s == "" {
		return nil
	}
	return s
}
