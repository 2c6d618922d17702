package store

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// postgres is the scaled store: any PostgreSQL from 15 on. A transaction's
// statements travel in pipelines.
type postgres struct {
	pool     *pgxpool.Pool
	dsn      string
	patience time.Duration // of a query whose context has no end
}

func openPostgres(ctx context.Context, dsn string, patience time.Duration) (*postgres, error) {
	cfg, err := pgxpool.ParseConfig(dsn)
	if err != nil {
		// pgx redacts the password in this message.
		return nil, fmt.Errorf("database address: %w", err)
	}
	cfg.MaxConns = max(cfg.MaxConns, 8)
	cfg.ConnConfig.RuntimeParams["timezone"] = "UTC"
	cfg.ConnConfig.RuntimeParams["synchronous_commit"] = "on"
	// A statement stays prepared, and its plan with it: one that was made while
	// a table was empty reads the whole table, until the statistics are made
	// anew. So indexes are preferred from the beginning; what no index serves
	// seems expensive by that, and is not worth compiling.
	cfg.ConnConfig.RuntimeParams["enable_seqscan"] = "off"
	cfg.ConnConfig.RuntimeParams["jit"] = "off"
	// A network that drops packets and a database that hangs say nothing.
	if cfg.ConnConfig.ConnectTimeout == 0 {
		cfg.ConnConfig.ConnectTimeout = connectTime
	}
	if cfg.PingTimeout == 0 {
		cfg.PingTimeout = pingTime
	}
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("open the database: %w", err)
	}
	return &postgres{pool: pool, dsn: dsn, patience: patience}, nil
}

// What a connection gets that the configuration of the database does not say
// otherwise for: to be made, to answer when it was unused for a while, and to
// end a transaction.
const (
	connectTime  = 5 * time.Second
	pingTime     = 2 * time.Second
	rollbackTime = 2 * time.Second
)

func (p *postgres) query(ctx context.Context, query string, args []any, each func(row) error) error {
	return patient(ctx, p.patience, each, func(ctx context.Context, each func(row) error) error {
		rows, err := p.pool.Query(ctx, query, args...)
		return failed(eachPgRow(rows, err, each))
	})
}

var errSilent = errors.New("the database does not answer")

// patient runs a query, and ends it when the database was silent for too
// long. A caller that has set an end itself knows better.
func patient(ctx context.Context, silence time.Duration, each func(row) error, query func(context.Context, func(row) error) error) error {
	if _, ends := ctx.Deadline(); ends {
		return query(ctx, each)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	timer := time.AfterFunc(silence, func() { cancel(errSilent) })
	defer timer.Stop()
	err := query(ctx, func(r row) error {
		timer.Stop() // each takes its own time
		defer timer.Reset(silence)
		return each(r)
	})
	if err != nil && context.Cause(ctx) == errSilent {
		return failed(fmt.Errorf("%w for %s", errSilent, silence))
	}
	return err
}

func eachPgRow(rows pgx.Rows, err error, each func(row) error) error {
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

func (p *postgres) columns() string {
	return `SELECT c.table_name::text, c.column_name::text FROM information_schema.columns c
		JOIN information_schema.tables t ON t.table_schema = c.table_schema AND t.table_name = c.table_name
		WHERE c.table_schema = current_schema() AND t.table_type = 'BASE TABLE' AND c.table_name <> 'goose_db_version'
		ORDER BY c.table_name, c.ordinal_position`
}

func (p *postgres) snapshot(ctx context.Context, fn func(reader) error) error {
	begin, cancel := context.WithTimeout(ctx, p.patience)
	defer cancel()
	tx, err := p.pool.BeginTx(begin, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
	if err != nil {
		return failed(err)
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), rollbackTime)
		defer cancel()
		_ = tx.Rollback(ctx)
	}()
	return fn(pgSnapshot{tx, p.patience})
}

type pgSnapshot struct {
	tx       pgx.Tx
	patience time.Duration
}

func (s pgSnapshot) query(ctx context.Context, query string, args []any, each func(row) error) error {
	return patient(ctx, s.patience, each, func(ctx context.Context, each func(row) error) error {
		rows, err := s.tx.Query(ctx, query, args...)
		return failed(eachPgRow(rows, err, each))
	})
}

// begin relies on READ COMMITTED: statements after the one that waited for
// the head's lock see everything that the holder before committed.
func (p *postgres) begin(ctx context.Context) (transaction, error) {
	conn, err := p.pool.Acquire(ctx)
	if err != nil {
		return nil, failed(err)
	}
	t := &pgTx{ctx: ctx, conn: conn, batch: &pgx.Batch{}}
	t.batch.Queue("BEGIN ISOLATION LEVEL READ COMMITTED")
	return t, nil
}

type pgTx struct {
	ctx   context.Context
	conn  *pgxpool.Conn
	batch *pgx.Batch
	err   error
	done  bool
}

func (t *pgTx) exec(query string, args ...any) { t.batch.Queue(query, args...) }

func (t *pgTx) fetch(query string, args []any, each func(row) error) {
	if query == lockHead {
		query += " FOR UPDATE"
	}
	t.batch.Queue(query, args...).Query(func(rows pgx.Rows) error { return eachPgRow(rows, nil, each) })
}

// load sends what is waiting, and then the rows by COPY.
func (t *pgTx) load(rows *rowset) {
	if t.flush() != nil {
		return // it says so again
	}
	table, columns, _ := strings.Cut(strings.TrimSuffix(rows.into, ")"), " (")
	_, t.err = t.conn.CopyFrom(t.ctx, pgx.Identifier{table}, strings.Split(columns, ", "),
		pgx.CopyFromSlice(rows.len(), func(i int) ([]any, error) { return rows.row(i), nil }))
}

func (t *pgTx) flush() error {
	if t.err != nil || t.batch.Len() == 0 {
		return t.err
	}
	b := t.batch
	t.batch = &pgx.Batch{}
	t.err = failed(t.conn.SendBatch(t.ctx, b).Close())
	return t.err
}

// commit sends what is waiting and COMMIT in separate pipelines: so an error
// of a statement is known to have prevented the commit.
func (t *pgTx) commit() error {
	if err := t.flush(); err != nil {
		return err
	}
	if _, err := t.conn.Exec(t.ctx, "COMMIT"); err != nil {
		t.err = failed(err)
		return fmt.Errorf("%w: %w", errOutcomeUnknown, t.err)
	}
	t.done = true
	t.conn.Release()
	return nil
}

// rollback ends the transaction if commit did not. A connection whose state
// is unknown is closed rather than returned to the pool.
func (t *pgTx) rollback() {
	if t.done {
		return
	}
	t.done = true
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.ctx), rollbackTime)
	defer cancel()
	if _, err := t.conn.Exec(ctx, "ROLLBACK"); err != nil {
		_ = t.conn.Conn().Close(ctx)
	}
	t.conn.Release()
}

func (p *postgres) close() error {
	p.pool.Close()
	return nil
}
