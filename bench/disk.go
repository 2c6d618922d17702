package main

import (
	"context"
	"database/sql"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
)

// disk tells what takes how much, table by table and index by index.
func (f *filling) disk(ctx context.Context, t *table, db string, devices int) error {
	var parts []part
	var err error
	if path, ok := strings.CutPrefix(f.dsn, "sqlite:"); ok {
		parts, err = diskSQLite(ctx, path)
	} else {
		parts, err = diskPostgres(ctx, f.dsn)
	}
	if err != nil {
		return err
	}
	var sum int64
	for _, p := range parts {
		sum += p.bytes
	}
	t.note("disk for each of %d issued devices, %s: %d bytes (wanted at most 3000), of which", devices, db, sum/int64(devices))
	for _, p := range parts {
		if each := p.bytes / int64(devices); each > 0 {
			t.note("  %5d  %s", each, p.name)
		}
	}
	return nil
}

// part is a table or an index.
type part struct {
	name  string
	bytes int64
}

func diskSQLite(ctx context.Context, path string) (parts []part, err error) {
	db, err := sql.Open("sqlite", "file:"+path)
	if err != nil {
		return nil, err
	}
	defer db.Close()
	rows, err := db.QueryContext(ctx, `SELECT name, SUM(pgsize) FROM dbstat GROUP BY name ORDER BY 2 DESC`)
	if err != nil {
		return nil, fmt.Errorf("sizes: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var p part
		if err := rows.Scan(&p.name, &p.bytes); err != nil {
			return nil, err
		}
		parts = append(parts, p)
	}
	return parts, rows.Err()
}

func diskPostgres(ctx context.Context, dsn string) ([]part, error) {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return nil, err
	}
	defer conn.Close(ctx)
	rows, err := conn.Query(ctx, `SELECT relname::text, pg_table_size(oid) FROM pg_class
		WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'i') ORDER BY 2 DESC`)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(r pgx.CollectableRow) (p part, err error) {
		err = r.Scan(&p.name, &p.bytes)
		return p, err
	})
}
