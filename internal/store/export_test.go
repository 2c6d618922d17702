package store

import (
	"context"
	"errors"
	"hash/maphash"
	"os"
	"sync/atomic"
	"syscall"

	"github.com/touchmark/touchmark/internal/audit"
	"github.com/touchmark/touchmark/ocsp"
)

// Fault makes write transactions fail, for tests.
type Fault struct{ mode atomic.Int32 }

// How a transaction may fail.
const (
	NoFault        = iota
	Lost           // the commit fails, and nothing was written
	Persisted      // the commit is reported as failed, but took effect
	StatementFails // a statement in the middle fails
	Panics         // the program has a defect there
)

// EndedAtOnce is how many revocation lists one transaction ends.
const EndedAtOnce = endedAtOnce

var errInjected = errors.New("injected fault")

// Next makes the transactions from now on fail in a way.
func (f *Fault) Next(mode int32) { f.mode.Store(mode) }

// WithFault returns options whose store fails as f says.
func WithFault(o Options, f *Fault) Options {
	o.fault = func(t transaction) transaction { return &faultyTx{transaction: t, mode: f.mode.Load()} }
	return o
}

type faultyTx struct {
	transaction
	mode  int32
	execs int
}

func (t *faultyTx) exec(sql string, args ...any) {
	if t.execs++; t.mode == StatementFails && t.execs == 2 {
		sql, args = "INSERT INTO no_such_table VALUES (1)", nil
	}
	if t.mode == Panics && t.execs == 1 {
		panic("a defect")
	}
	t.transaction.exec(sql, args...)
}

func (t *faultyTx) commit() error {
	switch t.mode {
	case Lost:
		t.transaction.rollback()
		return errors.Join(errOutcomeUnknown, errInjected)
	case Persisted:
		return errors.Join(t.transaction.commit(), errOutcomeUnknown, errInjected)
	}
	return t.transaction.commit()
}

// WithKill returns options whose store kills the process at one of its
// commits, counted from 1: before it, or when it has taken effect.
func WithKill(o Options, at int32, after bool) Options {
	var begun atomic.Int32
	o.fault = func(t transaction) transaction {
		return &fatalTx{transaction: t, before: begun.Add(1) == at && !after, after: begun.Load() == at && after}
	}
	return o
}

type fatalTx struct {
	transaction
	before, after bool
}

func (t *fatalTx) commit() error {
	if t.before {
		kill()
	}
	err := t.transaction.commit()
	if t.after {
		kill()
	}
	return err
}

// kill ends the process as a power cut does.
func kill() {
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	select {} // until the signal is here
}

// VerifyIn verifies the log with the last rows of at most so many serial
// numbers in memory, and tells how many there were in each portion.
func VerifyIn(ctx context.Context, s *Store, atOnce int) (report *audit.Report, portions []int, err error) {
	err = s.db.snapshot(ctx, func(r reader) error {
		src := source{r, atOnce}
		if report, err = audit.Verify(ctx, src, audit.Options{}); err != nil {
			return err
		}
		return src.told(ctx, allSerials, maphash.MakeSeed(), func(_ serials, last map[ocsp.Serial]lastTold) error {
			portions = append(portions, len(last))
			return nil
		})
	})
	return report, portions, err
}

// Bodies is how many bodies of revocation lists there are.
func Bodies(ctx context.Context, s *Store) (n int64, err error) {
	_, err = one(ctx, s.db, `SELECT COUNT(*) FROM crl_bodies`, nil, &n)
	return n, err
}

// Tamper runs a statement past every rule, as somebody with the database's
// password can.
func (s *Store) Tamper(ctx context.Context, sql string) error {
	t, err := s.db.begin(ctx)
	if err != nil {
		return err
	}
	defer t.rollback()
	t.exec(sql)
	return t.commit()
}

// Waiting is how many jobs wait for the writer.
func (s *Store) Waiting() int { return len(s.jobs) }

// Exec runs a statement in a database of some schema, before any store opens
// it.
func Exec(ctx context.Context, dsn string, schema int64, sql string, args ...any) error {
	db, err := open(ctx, dsn, standardPatience)
	if err != nil {
		return err
	}
	defer db.close()
	if err := db.migrate(ctx, schema); err != nil {
		return err
	}
	t, err := db.begin(ctx)
	if err != nil {
		return err
	}
	defer t.rollback()
	t.exec(sql, args...)
	return t.commit()
}

// Explain is how PostgreSQL would carry out a query.
func Explain(ctx context.Context, s *Store, sql string) (plan string, err error) {
	err = s.db.query(ctx, "EXPLAIN "+sql, nil, func(r row) error {
		var line string
		defer func() { plan += line + "\n" }()
		return r.Scan(&line)
	})
	return plan, err
}
