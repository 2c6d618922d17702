package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/touchmark/touchmark/internal/audit"
	"github.com/touchmark/touchmark/vetting"
)

// Reader is a database that is only read: it is neither made nor migrated,
// and it may be in use by servers meanwhile.
type Reader struct{ store *Store }

// OpenReader opens a database to read it. It fails with a *NewerSchemaError
// on a schema that it does not know, with an *OlderSchemaError on one that a
// server would migrate first, and with an error that wraps os.ErrNotExist
// where there is no SQLite file.
func OpenReader(ctx context.Context, dsn string) (*Reader, error) {
	if path, ok := strings.CutPrefix(dsn, "sqlite:"); ok {
		if _, err := os.Stat(path); err != nil { // SQLite would make the file
			return nil, fmt.Errorf("database: %w", err)
		}
	}
	db, err := open(ctx, dsn, standardPatience)
	if err != nil {
		return nil, err
	}
	s := &Store{db: db, log: slog.New(slog.DiscardHandler), now: time.Now, closing: make(chan struct{}), closed: make(chan struct{})}
	close(s.closing) // writes are refused from the beginning
	close(s.closed)
	if err := checkSchema(ctx, db); err != nil {
		return nil, errors.Join(err, db.close())
	}
	return &Reader{s}, nil
}

// OlderSchemaError says that the database waits for a server to migrate it;
// Have is 0 for one that holds nothing of Touchmark's yet.
type OlderSchemaError struct{ Have, Know int64 }

func (e *OlderSchemaError) Error() string {
	if e.Have == 0 {
		return "the database was not used by Touchmark yet: `touchmark serve` makes what it needs"
	}
	return fmt.Sprintf("the database has schema version %d, this program's is %d: `touchmark serve` brings it up to date", e.Have, e.Know)
}

// checkSchema compares versions without goose, which would make its table.
func checkSchema(ctx context.Context, db backend) error {
	_, know, err := migrations(func(s string) string { return s })
	if err != nil {
		return err
	}
	var have int64
	if _, err := one(ctx, db, `SELECT COALESCE(MAX(version_id), 0) FROM goose_db_version`, nil, &have); err != nil {
		if text := err.Error(); !strings.Contains(text, "no such table") && !strings.Contains(text, "does not exist") {
			return fmt.Errorf("read the database's schema version: %w", err)
		}
		have = 0
	}
	switch {
	case have > know:
		return &NewerSchemaError{Have: have, Know: know}
	case have < know:
		return &OlderSchemaError{Have: have, Know: know}
	}
	return nil
}

// Unfinished refuses a database whose restore was not finished.
func (r *Reader) Unfinished(ctx context.Context) error { return refuseUnfinished(ctx, r.store.db) }

// Authority is the CA that the database is bound to, "" if none yet.
func (r *Reader) Authority(ctx context.Context) (name string, err error) {
	_, err = one(ctx, r.store.db, `SELECT value FROM meta WHERE name = 'authority'`, nil, &name)
	return name, err
}

// Ping reports whether the database answers.
func (r *Reader) Ping(ctx context.Context) error {
	var last int64
	_, err := one(ctx, r.store.db, `SELECT COALESCE(MAX(seq), 0) FROM statuses`, nil, &last)
	return err
}

// ReadOnly is a store of the same database in which every write fails.
func (r *Reader) ReadOnly() *Store { return r.store }

// Snapshot runs fn on one unchanging state of the log and its objects.
func (r *Reader) Snapshot(ctx context.Context, fn func(audit.Source) error) error {
	return r.store.Snapshot(ctx, fn)
}

// Head returns the log's tree.
func (r *Reader) Head(ctx context.Context) (*audit.Tree, error) { return r.store.Head(ctx) }

// Leaves reads leaves; see audit.Source.
func (r *Reader) Leaves(ctx context.Context, from, to int64, fn func(int64, []byte) error) error {
	return r.store.Leaves(ctx, from, to, fn)
}

// LastCheckpoint returns the largest checkpoint that was signed, nil if none.
func (r *Reader) LastCheckpoint(ctx context.Context) ([]byte, error) {
	return r.store.LastCheckpoint(ctx)
}

// Certificate returns an issued certificate by its serial number in hex, or
// a NotFound error.
func (r *Reader) Certificate(ctx context.Context, serial string) (*vetting.Certificate, error) {
	return r.store.Certificate(ctx, serial)
}

// IssuingCAs lists the CAs that issue to the devices of owners that name them.
func (r *Reader) IssuingCAs(ctx context.Context) ([]*vetting.IssuingCA, error) {
	return r.store.IssuingCAs(ctx)
}

// Close closes the database.
func (r *Reader) Close() error { return r.store.db.close() }
