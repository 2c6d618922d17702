package store

import (
	"context"
	"database/sql"
	"embed"
	"fmt"
	"io/fs"
	"path"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/database"
)

//go:embed migrations/*.sql
var migrationFiles embed.FS

// Migrations are written once, in PostgreSQL's words; forSQLite translates
// the few that differ.
var forSQLite = strings.NewReplacer("BIGINT PRIMARY KEY", "INTEGER PRIMARY KEY", "BYTEA", "BLOB")

func (s *sqlite) migrate(ctx context.Context, to int64) error {
	// The single writing connection is taken; SQLite waits for its lock.
	return migrate(ctx, s.pool, to, goose.DialectSQLite3, forSQLite.Replace)
}

func (p *postgres) migrate(ctx context.Context, to int64) error {
	db := stdlib.OpenDBFromPool(p.pool)
	defer db.Close()
	// Several servers may start at once: one migrates, the others wait.
	conn, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := conn.ExecContext(ctx, "SELECT pg_advisory_lock($1)", migrationLock); err != nil {
		return err
	}
	defer conn.ExecContext(context.WithoutCancel(ctx), "SELECT pg_advisory_unlock($1)", migrationLock)
	return migrate(ctx, db, to, goose.DialectPostgres, func(s string) string { return s })
}

// migrationLock is the advisory lock's number: "touchmrk" in ASCII.
const migrationLock = 0x746f7563686d726b

// newestSchema stands for the newest version that this program knows.
const newestSchema = 0

// migrate applies what is missing. A schema newer than this program is
// refused: an older server would not know what to keep intact.
func migrate(ctx context.Context, db *sql.DB, to int64, dialect database.Dialect, translate func(string) string) error {
	steps, newest, err := migrations(translate)
	if err != nil {
		return err
	}
	provider, err := goose.NewProvider(dialect, db, nil, goose.WithGoMigrations(steps...), goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return fmt.Errorf("prepare the migrations: %w", err)
	}
	have, err := provider.GetDBVersion(ctx)
	if err != nil {
		return fmt.Errorf("read the database's schema version: %w", err)
	}
	if to == newestSchema {
		to = newest
	}
	if have > newest || to > newest {
		return &NewerSchemaError{Have: max(have, to), Know: newest}
	}
	if _, err := provider.UpTo(ctx, to); err != nil {
		return fmt.Errorf("bring the database from schema %d to %d: %w", have, to, err)
	}
	return nil
}

// NewerSchemaError says that a newer Touchmark has migrated the database.
type NewerSchemaError struct{ Have, Know int64 }

func (e *NewerSchemaError) Error() string {
	return fmt.Sprintf("the database has schema version %d, but this program knows only up to %d: a newer Touchmark has used it; start that one or a newer", e.Have, e.Know)
}

func migrations(translate func(string) string) (steps []*goose.Migration, newest int64, err error) {
	names, err := fs.Glob(migrationFiles, "migrations/*.sql")
	if err != nil {
		return nil, 0, err
	}
	for _, name := range names {
		number, _, _ := strings.Cut(path.Base(name), "_")
		version, err := strconv.ParseInt(number, 10, 64)
		if err != nil {
			return nil, 0, fmt.Errorf("migration %s does not begin with its version", name)
		}
		text, err := migrationFiles.ReadFile(name)
		if err != nil {
			return nil, 0, err
		}
		sqlText := translate(string(text))
		steps = append(steps, goose.NewGoMigration(version, &goose.GoFunc{
			RunTx: func(ctx context.Context, tx *sql.Tx) error { return execAll(ctx, tx, sqlText) },
		}, nil))
		newest = max(newest, version)
	}
	return steps, newest, nil
}

// execAll runs statements that end in ";\n".
func execAll(ctx context.Context, tx *sql.Tx, text string) error {
	for stmt := range strings.SplitSeq(text, ";\n") {
		if strings.TrimSpace(stmt) == "" {
			continue
		}
		if _, err := tx.ExecContext(ctx, stmt); err != nil {
			return fmt.Errorf("%w in\n%s", err, strings.TrimSpace(stmt))
		}
	}
	return nil
}
