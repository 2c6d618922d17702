package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/touchmark/touchmark/vetting"
)

// A copy of a database is its rows, table by table, as one reader sees them:
// the same for both databases, so that either can be restored into either
// (docs/decisions/backup.md).

// CopyHead tells of a copy what its rows are held against.
type CopyHead struct {
	Schema     int64  `json:"schema"`
	Authority  string `json:"authority"` // the CA that it belongs to
	Leaves     int64  `json:"leaves"`
	Root       string `json:"root"`
	Checkpoint string `json:"checkpoint,omitempty"` // the newest that was signed
}

// Parcel is some rows of one table. A value is nil, an int64, a string or
// a []byte.
type Parcel struct {
	Table   string
	Columns []string
	Rows    [][]any
}

// What a parcel holds at most.
const (
	parcelRows  = 1000
	parcelBytes = 1 << 20
)

// Copy reads the whole database in one unchanging state: first its head, then
// its rows. It tells how many rows there are of each table.
func (r *Reader) Copy(ctx context.Context, head func(CopyHead) error, each func(Parcel) error) (rows map[string]int64, err error) {
	rows = map[string]int64{}
	db := r.store.db
	err = db.snapshot(ctx, func(snap reader) error {
		h, err := copyHead(ctx, snap)
		if err != nil {
			return err
		}
		if err := head(h); err != nil {
			return err
		}
		list, err := tablesOf(ctx, db, snap)
		if err != nil {
			return err
		}
		for _, t := range list {
			if rows[t.Table], err = copyTable(ctx, snap, t, each); err != nil {
				return fmt.Errorf("copy table %s: %w", t.Table, err)
			}
		}
		return nil
	})
	return rows, err
}

func copyHead(ctx context.Context, r reader) (h CopyHead, err error) {
	tree, err := source{r: r}.Head(ctx)
	if err != nil {
		return h, err
	}
	h.Leaves, h.Root = tree.Size(), tree.Root().String()
	if _, err := one(ctx, r, `SELECT MAX(version_id) FROM goose_db_version`, nil, &h.Schema); err != nil {
		return h, err
	}
	if _, err := one(ctx, r, `SELECT value FROM meta WHERE name = 'authority'`, nil, &h.Authority); err != nil {
		return h, err
	}
	var note []byte
	_, err = one(ctx, r, `SELECT note FROM checkpoints ORDER BY size DESC LIMIT 1`, nil, &note)
	h.Checkpoint = string(note)
	return h, err
}

// tablesOf lists the tables with their columns, as parcels without rows.
func tablesOf(ctx context.Context, db backend, r reader) (list []Parcel, err error) {
	err = r.query(ctx, db.columns(), nil, func(r row) error {
		var table, column string
		if err := r.Scan(&table, &column); err != nil {
			return err
		}
		if len(list) == 0 || list[len(list)-1].Table != table {
			list = append(list, Parcel{Table: table})
		}
		last := &list[len(list)-1]
		last.Columns = append(last.Columns, column)
		return nil
	})
	return list, err
}

func copyTable(ctx context.Context, r reader, p Parcel, each func(Parcel) error) (rows int64, err error) {
	size := 0
	hand := func() error {
		if len(p.Rows) == 0 {
			return nil
		}
		err := each(p)
		p.Rows, size = nil, 0
		return err
	}
	err = r.query(ctx, "SELECT "+strings.Join(p.Columns, ", ")+" FROM "+p.Table, nil, func(r row) error {
		values := make([]any, len(p.Columns))
		if err := r.Scan(pointers(values)...); err != nil {
			return err
		}
		for i, v := range values {
			values[i] = plainValue(v)
			size += sizeOf(v)
		}
		p.Rows = append(p.Rows, values)
		rows++
		if len(p.Rows) < parcelRows && size < parcelBytes {
			return nil
		}
		return hand()
	})
	if err == nil {
		err = hand()
	}
	return rows, err
}

func pointers(values []any) []any {
	to := make([]any, len(values))
	for i := range values {
		to[i] = &values[i]
	}
	return to
}

// plainValue gives PostgreSQL's short numbers the type that SQLite's have.
func plainValue(v any) any {
	switch v := v.(type) {
	case int16:
		return int64(v)
	case int32:
		return int64(v)
	}
	return v
}

func sizeOf(v any) int {
	switch v := v.(type) {
	case string:
		return len(v)
	case []byte:
		return len(v)
	}
	return 8
}

// restoring marks a database whose restored content was not verified yet.
const restoring = "restoring"

// Restore fills an empty database with the parcels that next gives until it
// gives nil, all or none of them. No server opens the database before
// Restored is called, which is for whoever has verified it. A database with a
// restore that was not finished counts as empty.
func Restore(ctx context.Context, dsn string, head CopyHead, next func() (*Parcel, error)) (err error) {
	db, err := open(ctx, dsn, standardPatience)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.close()) }()
	if err := vacant(ctx, db); err != nil {
		return err
	}
	if err := db.migrate(ctx, head.Schema); err != nil {
		return err
	}
	if err := fill(ctx, db, next); err != nil {
		return err
	}
	return db.migrate(ctx, newestSchema)
}

func fill(ctx context.Context, db backend, next func() (*Parcel, error)) error {
	list, err := tablesOf(ctx, db, db)
	if err != nil {
		return err
	}
	tx, err := db.begin(ctx)
	if err != nil {
		return err
	}
	defer tx.rollback()
	tx.fetch(lockHead, nil, func(row) error { return nil })
	for _, t := range list {
		tx.exec("DELETE FROM " + t.Table)
	}
	for {
		p, err := next()
		if err != nil {
			return err
		}
		if p == nil {
			break
		}
		set, err := p.rowset(list)
		if err != nil {
			return err
		}
		set.write(tx)
		if err := tx.flush(); err != nil {
			return fmt.Errorf("restore table %s: %w", p.Table, err)
		}
	}
	tx.exec(`INSERT INTO meta (name, value) VALUES ($1, 'not verified yet')`, restoring)
	return tx.commit()
}

// rowset holds a parcel, which comes from a file, against the tables that
// there are.
func (p *Parcel) rowset(known []Parcel) (*rowset, error) {
	i := slices.IndexFunc(known, func(t Parcel) bool { return t.Table == p.Table })
	if i < 0 || !slices.Equal(slices.Sorted(slices.Values(p.Columns)), slices.Sorted(slices.Values(known[i].Columns))) {
		return nil, fmt.Errorf("the backup holds a table %q with the columns %q, which a database of its schema version does not have: it is damaged, or was not made by `touchmark backup`", p.Table, p.Columns)
	}
	set := &rowset{into: p.Table + " (" + strings.Join(p.Columns, ", ") + ")", width: len(p.Columns)}
	for _, r := range p.Rows {
		if len(r) != set.width {
			return nil, fmt.Errorf("the backup holds a row of table %s with %d values for %d columns: it is damaged", p.Table, len(r), set.width)
		}
		set.values = append(set.values, r...)
	}
	return set, nil
}

// vacant refuses a database that holds anything of worth.
func vacant(ctx context.Context, db backend) error {
	var older *OlderSchemaError
	err := checkSchema(ctx, db)
	if errors.As(err, &older) && older.Have == 0 {
		return nil
	}
	if err != nil && older == nil {
		return err
	}
	if unfinished, err := unfinished(ctx, db); unfinished || err != nil {
		return err
	}
	var leaves int64
	if _, err := one(ctx, db, `SELECT size FROM log_head WHERE id = 1`, nil, &leaves); err != nil {
		return err
	}
	if leaves > 0 {
		return vetting.Errorf(vetting.Exists, "the database is not empty: it has a log of %d leaves, and restore overwrites nothing; name an empty database, or remove this one first", leaves)
	}
	return nil
}

func unfinished(ctx context.Context, r reader) (bool, error) {
	var value string
	return one(ctx, r, `SELECT value FROM meta WHERE name = $1`, []any{restoring}, &value)
}

// refuseUnfinished is for those who would work with the database.
func refuseUnfinished(ctx context.Context, r reader) error {
	if u, err := unfinished(ctx, r); err != nil || !u {
		return err
	}
	return errors.New("a restore of this database was begun and not finished, or found that something is missing: restore it again with `touchmark restore`")
}

// Restored says that a restored database was verified.
func Restored(ctx context.Context, dsn string) (err error) {
	db, err := open(ctx, dsn, standardPatience)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.close()) }()
	tx, err := db.begin(ctx)
	if err != nil {
		return err
	}
	defer tx.rollback()
	tx.exec(`DELETE FROM meta WHERE name = $1`, restoring)
	return tx.commit()
}
