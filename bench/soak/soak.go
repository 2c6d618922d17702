// Package soak lets a Touchmark work for a long time under a load that it can
// bear, in a process of its own that is ended and started again and again,
// and then checks that nothing was lost and nothing grew: the device side
// kept count of all that it was promised.
//
// It is a part of the benchmarks and not of the tests because it takes as
// long as it is told to; a short run is a test, so that it keeps working.
package soak

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// Plan is what to do. All fields but Out are needed.
type Plan struct {
	// Program is the `touchmark` to run.
	Program string
	// Dir is a directory for the data and the server's log; it must not hold
	// a Touchmark yet.
	Dir string
	// Database is where the server keeps everything: as in its configuration.
	Database string
	// Lives is how many of the server's processes devices come to. Each ends
	// when it has lived for Life and seen Least units, by turns in order and
	// killed.
	Lives int
	Life  time.Duration
	Least int64
	// Share (0 to 1) is how much of the best rate is offered. The best rate is
	// measured for Measure before.
	Share   float64
	Measure time.Duration
	// Batch is how many units a manifest lists, PerOrder the quantity of an
	// order.
	Batch, PerOrder int
	Out             io.Writer
}

// soak is one run.
type soak struct {
	Plan
	server  *process
	factory *factory
	visits  *ledger
	samples *samples
	db      *sql.DB
}

// drainTime bounds how long devices that are under way at the end may take.
const drainTime = 2 * time.Minute

// Run makes a Touchmark, loads it and checks it. The error tells everything
// that was wrong.
func Run(ctx context.Context, p Plan) (err error) {
	s := &soak{Plan: p, visits: newLedger()}
	if s.server, err = install(ctx, p.Program, filepath.Join(p.Dir, "data"), p.Database); err != nil {
		return err
	}
	defer func() { _ = s.server.kill() }()
	if err := s.server.start(ctx); err != nil {
		return err
	}
	if s.db, err = s.open(); err != nil {
		return err
	}
	defer s.db.Close()
	if s.factory, err = openFactory(ctx, s.server, s.visits, p.Batch, p.PerOrder); err != nil {
		return err
	}
	if err := s.work(ctx); err != nil {
		return err
	}
	return s.check(ctx)
}

// work is the day: units are built, come and go, while the server's process
// comes and goes too.
func (s *soak) work(ctx context.Context) error {
	building, stop := context.WithCancel(ctx)
	defer stop()
	built := s.factory.run(building)
	a := newArrivals(ctx, s.factory.server, s.factory.stock, s.visits)
	defer a.end()
	best := a.best(ctx, s.Measure)
	rate := max(1, best*s.Share)
	s.say("best rate: %.0f devices a second. %.0f are offered to %d processes of the server, each for %s", best, rate, s.Lives, s.Life)
	s.samples = &samples{process: s.server, visits: s.visits, db: s.db, began: time.Now(), every: min(10*time.Second, s.Life/8), life: s.Life}
	load, end := context.WithCancel(ctx)
	lived := make(chan error, 1)
	go func() {
		defer end()
		lived <- s.live(load)
	}()
	a.offer(load, rate)
	err := errors.Join(<-lived, a.drain(drainTime))
	stop()
	return errors.Join(err, <-built, ctx.Err())
}

// live ends the server's process and starts it again as often as planned, and
// leaves one running.
func (s *soak) live(ctx context.Context) error {
	for life := range s.Lives {
		before := s.visits.days()
		if err := s.samples.watch(ctx, s.Life, func() bool { return s.visits.days() >= before+s.Least }); err != nil {
			return err
		}
		end, how := s.server.stop, "ended in order"
		if life%2 == 1 {
			end, how = s.server.kill, "killed"
		}
		began := time.Now()
		if err := end(); err != nil {
			return err
		}
		if err := s.server.start(ctx); err != nil {
			return err
		}
		s.say("%s: %s, ready again after %s; %d devices so far", time.Since(s.samples.began).Round(time.Second), how,
			time.Since(began).Round(time.Millisecond), s.visits.days())
	}
	return nil
}

func (s *soak) say(format string, args ...any) { fmt.Fprintf(s.Out, format+"\n", args...) }

// check ends the server and looks at what it left.
func (s *soak) check(ctx context.Context) error {
	s.say("%s", s.visits)
	errs := []error{s.server.stop(), s.server.logged(), s.visits.err()}
	f, err := s.visits.compare(ctx, s.db)
	s.say("in the database: %d certificates, %d of them valid and held by their devices; %d orders issued %d units", f.certificates, f.valid, f.orders, f.issued)
	s.samples.tell(s.Out)
	errs = append(errs, err, s.samples.err())
	out, err := s.server.command(ctx, "audit", "verify").CombinedOutput()
	s.say("touchmark audit verify:\n%s", out)
	if err != nil {
		err = fmt.Errorf("touchmark audit verify: %w", err)
	}
	return errors.Join(append(errs, err)...)
}

// Build builds the `touchmark` of this module into a directory.
func Build(ctx context.Context, dir string) (program string, err error) {
	program = filepath.Join(dir, "touchmark")
	build := exec.CommandContext(ctx, "go", "build", "-o", program, "github.com/touchmark/touchmark/cmd/touchmark")
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		return "", fmt.Errorf("build touchmark: %w", err)
	}
	return program, nil
}
