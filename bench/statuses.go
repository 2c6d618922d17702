package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/touchmark/touchmark/internal/store"
)

// statusRows is a database with rows for status responders, and a connection
// to it that is not the store's.
type statusRows struct {
	store *store.Store
	lite  *sql.DB   // or
	pg    *pgx.Conn // the other
}

const statusColumns = "seq, serial, issuer, reason, revoked, not_after"

func openStatuses(ctx context.Context, dsn string, n int) (r *statusRows, err error) {
	r = new(statusRows)
	if r.store, err = store.Open(ctx, store.Options{DSN: dsn}); err != nil {
		return nil, err
	}
	if path, ok := strings.CutPrefix(dsn, "sqlite:"); ok {
		r.lite, err = sql.Open("sqlite", "file:"+path+"?_pragma=busy_timeout(10000)")
	} else {
		r.pg, err = pgx.Connect(ctx, dsn)
	}
	if err == nil {
		err = r.fill(ctx, n)
	}
	if err != nil {
		return nil, errors.Join(err, r.close())
	}
	return r, nil
}

func (r *statusRows) close() error {
	var err error
	if r.lite != nil {
		err = r.lite.Close()
	}
	if r.pg != nil {
		err = r.pg.Close(context.Background())
	}
	return errors.Join(err, r.store.Close())
}

func (r *statusRows) fill(ctx context.Context, n int) error {
	values := func(i int) []any {
		s := serialNumber(i)
		return []any{int64(i + 1), s[:], int64(0), int64(1), revokedAt.UnixMicro(), revokedAt.AddDate(10, 0, 0).UnixMicro()}
	}
	if r.pg != nil {
		i := -1
		_, err := r.pg.CopyFrom(ctx, pgx.Identifier{"statuses"}, strings.Split(statusColumns, ", "), pgx.CopyFromFunc(func() ([]any, error) {
			if i++; i == n {
				return nil, nil
			}
			return values(i), nil
		}))
		return err
	}
	tx, err := r.lite.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	st, err := tx.PrepareContext(ctx, "INSERT INTO statuses ("+statusColumns+") VALUES (?, ?, ?, ?, ?, ?)")
	if err != nil {
		return err
	}
	for i := range n {
		if _, err := st.Exec(values(i)...); err != nil {
			return err
		}
	}
	return tx.Commit()
}

func (r *statusRows) exec(ctx context.Context, sql string) error {
	if r.pg != nil {
		_, err := r.pg.Exec(ctx, sql)
		return err
	}
	_, err := r.lite.ExecContext(ctx, sql)
	return err
}

// read reads all rows in order, and does nothing with them.
func (r *statusRows) read(ctx context.Context) (time.Duration, error) {
	const all = "SELECT " + statusColumns + " FROM statuses ORDER BY seq"
	var seq, issuer, reason, revoked, notAfter int64
	var serial []byte
	began := time.Now()
	if r.pg != nil {
		rows, err := r.pg.Query(ctx, all)
		if err != nil {
			return 0, err
		}
		_, err = pgx.ForEachRow(rows, []any{&seq, &serial, &issuer, &reason, &revoked, &notAfter}, func() error { return nil })
		return time.Since(began), err
	}
	rows, err := r.lite.QueryContext(ctx, all)
	if err != nil {
		return 0, err
	}
	defer rows.Close()
	for rows.Next() {
		if err := rows.Scan(&seq, &serial, &issuer, &reason, &revoked, &notAfter); err != nil {
			return 0, fmt.Errorf("read statuses: %w", err)
		}
	}
	return time.Since(began), rows.Err()
}
