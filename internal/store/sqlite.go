package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strconv"
	"sync"

	_ "modernc.org/sqlite" // the driver, without cgo
)

// sqlite is the embedded default: one file, one writing connection, several
// reading ones. WAL with synchronous=FULL, so a commit is on disk when it
// returns.
type sqlite struct {
	pool *sql.DB
	read *sql.DB

	// writing is held by a transaction; conn is the connection it uses.
	writing sync.Mutex
	conn    *sql.Conn
	written prepared

	mu    sync.Mutex
	ready prepared
}

// prepared keeps one statement for each query.
type prepared map[string]*sql.Stmt

type preparer interface {
	PrepareContext(ctx context.Context, query string) (*sql.Stmt, error)
}

func (p prepared) stmt(ctx context.Context, on preparer, query string) (*sql.Stmt, error) {
	if st := p[query]; st != nil {
		return st, nil
	}
	st, err := on.PrepareContext(ctx, questionMarks(query))
	if err != nil {
		return nil, fmt.Errorf("prepare %q: %w", query, err)
	}
	p[query] = st
	return st, nil
}

var placeholder = regexp.MustCompile(`\$(\d+)`)

// questionMarks makes a query's $1, $2 into what SQLite takes: plain question
// marks where they come in order, each once, because the driver looks
// numbered ones up by name each time, which takes longer than the binding.
func questionMarks(query string) string {
	numbered := placeholder.ReplaceAllString(query, "?$1")
	for i, m := range placeholder.FindAllStringSubmatch(query, -1) {
		if m[1] != strconv.Itoa(i+1) {
			return numbered
		}
	}
	return placeholder.ReplaceAllString(query, "?")
}

// sqliteReaders is how many reading connections there are at most; more
// than the cores of a small machine only contend.
const sqliteReaders = 8

func openSQLite(ctx context.Context, path string) (*sqlite, error) {
	pragmas := url.Values{"_pragma": {
		"busy_timeout(10000)", "journal_mode(WAL)", "synchronous(FULL)",
		"foreign_keys(ON)", "temp_store(MEMORY)", "cache_size(-16384)", "wal_autocheckpoint(4000)",
		"journal_size_limit(67108864)",
	}}
	name := "file:" + (&url.URL{Path: path}).EscapedPath() + "?" + pragmas.Encode()
	pool, err := sql.Open("sqlite", name+"&_txlock=immediate")
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	conn, err := pool.Conn(ctx)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open %s: %w", path, err), pool.Close())
	}
	read, err := sql.Open("sqlite", name+"&_pragma=query_only(ON)")
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open %s: %w", path, err), conn.Close(), pool.Close())
	}
	read.SetMaxOpenConns(sqliteReaders)
	read.SetMaxIdleConns(sqliteReaders)
	return &sqlite{pool: pool, read: read, conn: conn, written: prepared{}, ready: prepared{}}, nil
}

// query takes ctx's end away from the statement and looks at it between rows
// itself: the driver and database/sql would start goroutines to watch for it,
// which cost more than most statements here take.
func (s *sqlite) query(ctx context.Context, query string, args []any, each func(row) error) error {
	s.mu.Lock()
	st, err := s.ready.stmt(ctx, s.read, query)
	s.mu.Unlock()
	if err != nil {
		return failed(err)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return failed(eachRow(st.QueryContext(context.WithoutCancel(ctx), args...))(func(r row) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		return each(r)
	}))
}

func eachRow(rows *sql.Rows, err error) func(func(row) error) error {
	return func(each func(row) error) error {
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			if err := each(rows); err != nil {
				return err
			}
		}
		return rows.Err()
	}
}

func (s *sqlite) columns() string {
	return `SELECT m.name, c.name FROM sqlite_master m, pragma_table_info(m.name) c
		WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite_%' AND m.name <> 'goose_db_version' ORDER BY m.name, c.cid`
}

func (s *sqlite) snapshot(ctx context.Context, fn func(reader) error) error {
	tx, err := s.read.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return failed(err)
	}
	defer tx.Rollback()
	return fn(sqliteSnapshot{tx})
}

type sqliteSnapshot struct{ tx *sql.Tx }

func (s sqliteSnapshot) query(ctx context.Context, query string, args []any, each func(row) error) error {
	return failed(eachRow(s.tx.QueryContext(ctx, questionMarks(query), args...))(each))
}

func (s *sqlite) begin(ctx context.Context) (transaction, error) {
	s.writing.Lock()
	t := &sqliteTx{ctx: context.WithoutCancel(ctx), db: s} // as in query
	if t.exec("BEGIN IMMEDIATE"); t.err != nil {
		s.writing.Unlock()
		return nil, t.err
	}
	return t, nil
}

// sqliteTx carries everything out at once; the first error sticks.
type sqliteTx struct {
	ctx  context.Context
	db   *sqlite
	err  error
	done bool
}

func (t *sqliteTx) exec(query string, args ...any) {
	if t.err != nil {
		return
	}
	st, err := t.db.written.stmt(t.ctx, t.db.conn, query)
	if err == nil {
		_, err = st.ExecContext(t.ctx, args...)
	}
	if err != nil {
		t.err = failed(fmt.Errorf("%q: %w", query, err))
	}
}

func (t *sqliteTx) fetch(query string, args []any, each func(row) error) {
	if t.err != nil {
		return
	}
	st, err := t.db.written.stmt(t.ctx, t.db.conn, query)
	if err == nil {
		err = eachRow(st.QueryContext(t.ctx, args...))(each)
	}
	if err != nil {
		t.err = failed(fmt.Errorf("%q: %w", query, err))
	}
}

func (t *sqliteTx) load(rows *rowset) { rows.insert(t) }

func (t *sqliteTx) flush() error { return t.err }

func (t *sqliteTx) commit() error {
	if t.err != nil {
		return t.err
	}
	if t.exec("COMMIT"); t.err != nil {
		return fmt.Errorf("%w: %w", errOutcomeUnknown, t.err)
	}
	t.end()
	return nil
}

func (t *sqliteTx) rollback() {
	if t.done {
		return
	}
	// After a failed COMMIT the transaction may be open or not: this closes
	// it in either case.
	_, _ = t.db.conn.ExecContext(t.ctx, "ROLLBACK")
	t.end()
}

func (t *sqliteTx) end() {
	t.done = true
	t.db.writing.Unlock()
}

func (s *sqlite) close() error {
	s.writing.Lock()
	defer s.writing.Unlock()
	for _, st := range s.written {
		_ = st.Close()
	}
	return errors.Join(s.read.Close(), s.conn.Close(), s.pool.Close())
}
