// Package store keeps everything Touchmark knows, in SQLite or PostgreSQL.
//
// It implements the narrow interfaces that enroll, vetting/manifest,
// internal/audit and server/api declare. Every change goes through one writer
// (see writer.go) that first locks the audit log's head: so there is one
// order of all changes over all servers, conditions that were checked under
// the lock still hold at the commit, and each change's audit leaf is in the
// same transaction.
package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/vetting"
)

// Options say which database to open.
type Options struct {
	// DSN is "sqlite:PATH" or "postgres://…" as libpq reads it.
	DSN string
	Log *slog.Logger
	// Now is the clock; nil means time.Now.
	Now func() time.Time
	// Patience is how long a transaction may take, others' that it waits for
	// included, and how long PostgreSQL may be silent in a query whose
	// context has no end; 0 means 20 seconds.
	Patience time.Duration
	// MaxQueue bounds the registrations that wait to be written; 0 means
	// 512. What comes beyond is refused with an *enroll.BusyError.
	MaxQueue int
	// JobChunk is how many devices one transaction of a bulk job changes; 0
	// means 1000.
	JobChunk int
	// Observe, if set, is told the size of every group commit and how long
	// it took.
	Observe func(batch int, took time.Duration)
	// Grew, if set, is told how many leaves the log has whenever this store
	// added some. It must not wait.
	Grew func(size int64)
	// Told, if set, is called when this store has committed changes for status
	// responders. It must not wait.
	Told func()
	// Panicked, if set, is told of a defect that the writer met, from
	// within its recover; nil logs it.
	Panicked func(p any)

	// fault, for tests, wraps every write transaction.
	fault func(transaction) transaction
}

// Store is one open database. Its methods may be used concurrently.
type Store struct {
	db      backend
	log     *slog.Logger
	now     func() time.Time
	observe func(int, time.Duration)
	grew    func(int64)
	told    func()
	fault   func(transaction) transaction

	panicked func(any)
	patience time.Duration
	failing  atomic.Bool  // the last transaction did
	written  atomic.Int64 // how many jobs of the writer shared transactions
	chunk    int          // devices that one transaction of a job changes

	jobs    chan *job
	closing chan struct{}
	closed  chan struct{}
	once    sync.Once

	cache cache
}

// Open opens the database, migrates its schema and starts the writer. It
// fails with a *NewerSchemaError on a schema that it does not know.
func Open(ctx context.Context, o Options) (*Store, error) {
	if o.Patience == 0 {
		o.Patience = standardPatience
	}
	db, err := open(ctx, o.DSN, o.Patience)
	if err != nil {
		return nil, err
	}
	if err := db.migrate(ctx, newestSchema); err != nil {
		return nil, errors.Join(err, db.close())
	}
	if err := refuseUnfinished(ctx, db); err != nil {
		return nil, errors.Join(err, db.close())
	}
	if o.MaxQueue == 0 {
		o.MaxQueue = 4 * maxBatch
	}
	if o.JobChunk == 0 {
		o.JobChunk = jobChunk
	}
	s := &Store{
		db: db, log: o.Log, now: o.Now, observe: o.Observe, grew: o.Grew, told: o.Told, fault: o.fault, panicked: o.Panicked, patience: o.Patience, chunk: o.JobChunk,
		jobs: make(chan *job, o.MaxQueue), closing: make(chan struct{}), closed: make(chan struct{}),
	}
	if s.now == nil {
		s.now = time.Now
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.observe == nil {
		s.observe = func(int, time.Duration) {}
	}
	if s.grew == nil {
		s.grew = func(int64) {}
	}
	if s.told == nil {
		s.told = func() {}
	}
	if s.panicked == nil {
		s.panicked = func(p any) {
			s.log.Error("a defect of the program was contained: one transaction failed", "panic", p, "stack", string(debug.Stack()))
		}
	}
	go s.write()
	if err := s.moveRaises(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// standardPatience is less than a device's request may take, so that the
// device is told.
const standardPatience = 20 * time.Second

func open(ctx context.Context, dsn string, patience time.Duration) (backend, error) {
	switch {
	case strings.HasPrefix(dsn, "sqlite:"):
		return openSQLite(ctx, strings.TrimPrefix(dsn, "sqlite:"))
	case strings.HasPrefix(dsn, "postgres:"), strings.HasPrefix(dsn, "postgresql:"):
		return openPostgres(ctx, dsn, patience)
	default:
		kind, _, _ := strings.Cut(dsn, ":") // the rest may hold a password
		return nil, fmt.Errorf("database address of kind %q: want sqlite:PATH or postgres://USER@HOST/NAME", kind)
	}
}

// Close ends the writer after what it was given, and closes the database.
func (s *Store) Close() error {
	var err error
	s.once.Do(func() {
		close(s.closing)
		<-s.closed
		err = s.db.close()
	})
	return err
}

// Ping reports whether the database answers.
func (s *Store) Ping(ctx context.Context) error {
	var n int64
	_, err := one(ctx, s.db, `SELECT size FROM log_head WHERE id = 1`, nil, &n)
	return err
}

// Bind ties the database to a CA, named by the SHA-256 of its root
// certificate in hex. The first call stores the name; a later one with
// another name fails, because serial numbers, certificates and the log of
// one CA must not mix with another's. Kin are names of the same CA's roots
// with other keys: from one of those the tie moves to the name.
func (s *Store) Bind(ctx context.Context, authority string, kin ...string) error {
	return s.update(ctx, func(w *writing) error { return w.bind(authority, kin...) })
}

// Found binds a database to a CA and enters its first operator, or does
// neither: an attempt that failed can be made again with another CA.
func (s *Store) Found(ctx context.Context, authority string, first *access.Operator) error {
	return s.update(ctx, func(w *writing) error {
		if err := w.bind(authority); err != nil {
			return err
		}
		_, err := w.createOperator(access.Act{Operator: "init"}, first)
		return err
	})
}

func (w *writing) bind(authority string, kin ...string) error {
	have := ""
	w.fetch(`SELECT value FROM meta WHERE name = 'authority'`, nil, func(r row) error { return r.Scan(&have) })
	if err := w.flush(); err != nil {
		return err
	}
	switch {
	case have == authority:
	case have == "":
		w.exec(`INSERT INTO meta (name, value) VALUES ('authority', $1)`, authority)
	case slices.Contains(kin, have):
		w.exec(`UPDATE meta SET value = $1 WHERE name = 'authority'`, authority)
	default:
		return vetting.Errorf(vetting.Conflict, "the database belongs to another CA: its root certificate has the SHA-256 %s, this server's has %s; start with the data directory that the database was made with, or with another database", have, authority)
	}
	return nil
}

// Times are kept as microseconds since 1970, 0 for the zero time.

func micros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

func fromMicros(us int64) time.Time {
	if us == 0 {
		return time.Time{}
	}
	return time.UnixMicro(us).UTC()
}

// limit bounds a page.
func limit(p vetting.Page) int {
	if p.Limit < 1 || p.Limit > 1000 {
		return 100
	}
	return p.Limit
}
