package main

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// bareInsert inserts the records of a database once more, into a table with
// the same columns and indexes and with the same durability, in the fastest
// way that the database has, and tells how long that takes.
func bareInsert(ctx context.Context, dsn string) (time.Duration, error) {
	if path, ok := strings.CutPrefix(dsn, "sqlite:"); ok {
		return bareSQLite(ctx, path)
	}
	return barePostgres(ctx, dsn)
}

const allColumns = `id, manifest_id, row_no, order_id, product_id, site_id, serial, mac, uid, key, made, contested`

const allWidth = 12

// rowsAtOnce is how many rows a statement carries; more gain nothing.
const rowsAtOnce = 100

func bareSQLite(ctx context.Context, path string) (time.Duration, error) {
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)&_pragma=cache_size(-16384)&_pragma=wal_autocheckpoint(4000)&_txlock=immediate")
	if err != nil {
		return 0, err
	}
	defer db.Close()
	db.SetMaxOpenConns(1)
	if err := bareTableSQLite(ctx, db); err != nil {
		return 0, err
	}
	rows, err := allRecords(ctx, db)
	if err != nil {
		return 0, err
	}
	began := time.Now()
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return 0, err
	}
	defer tx.Rollback()
	one := "(" + strings.TrimSuffix(strings.Repeat("?, ", allWidth), ", ") + ")"
	for size := rowsAtOnce; size >= 1; size = map[bool]int{true: 1, false: 0}[size > 1] {
		st, err := tx.PrepareContext(ctx, "INSERT INTO bare ("+allColumns+") VALUES "+strings.TrimSuffix(strings.Repeat(one+", ", size), ", "))
		if err != nil {
			return 0, err
		}
		for ; len(rows) >= size*allWidth; rows = rows[size*allWidth:] {
			// Without a context that can end, as internal/store does it.
			if _, err := st.Exec(rows[:size*allWidth]...); err != nil {
				return 0, err
			}
		}
	}
	if err := tx.Commit(); err != nil {
		return 0, err
	}
	return time.Since(began), nil
}

// bareTableSQLite makes the table from the words that made records.
func bareTableSQLite(ctx context.Context, db *sql.DB) error {
	made, err := db.QueryContext(ctx, `SELECT sql FROM sqlite_master WHERE tbl_name = 'records' AND sql IS NOT NULL ORDER BY type DESC`)
	if err != nil {
		return err
	}
	defer made.Close()
	var statements []string
	for made.Next() {
		var text string
		if err := made.Scan(&text); err != nil {
			return err
		}
		statements = append(statements, strings.ReplaceAll(text, "records", "bare"))
	}
	if err := made.Close(); err != nil {
		return err
	}
	for _, s := range statements {
		if _, err := db.ExecContext(ctx, s); err != nil {
			return fmt.Errorf("%w in %s", err, s)
		}
	}
	return nil
}

func allRecords(ctx context.Context, db *sql.DB) (values []any, err error) {
	rows, err := db.QueryContext(ctx, "SELECT "+allColumns+" FROM records ORDER BY id")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		row := make([]any, allWidth)
		dest := make([]any, allWidth)
		for i := range row {
			dest[i] = &row[i]
		}
		if err := rows.Scan(dest...); err != nil {
			return nil, err
		}
		values = append(values, row...)
	}
	return values, rows.Err()
}

func barePostgres(ctx context.Context, dsn string) (time.Duration, error) {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return 0, err
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, `CREATE TABLE bare (LIKE records INCLUDING ALL)`); err != nil {
		return 0, err
	}
	found, err := conn.Query(ctx, "SELECT "+allColumns+" FROM records ORDER BY id")
	if err != nil {
		return 0, err
	}
	rows, err := pgx.CollectRows(found, func(r pgx.CollectableRow) ([]any, error) { return r.Values() })
	if err != nil {
		return 0, err
	}
	began := time.Now()
	_, err = conn.CopyFrom(ctx, pgx.Identifier{"bare"}, strings.Split(allColumns, ", "), pgx.CopyFromRows(rows))
	return time.Since(began), err
}
