package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/touchmark/touchmark/server"
)

// besideCRL measures whether a long revocation list stalls anybody: devices
// enrol, and others ask over OCSP, without and while the server makes the list
// of all revoked certificates again and again. The server is a process of its
// own.
func (b *bench) besideCRL(ctx context.Context, db string, t *table) error {
	if b.revoked == 0 {
		return nil
	}
	enrol := row{name: fmt.Sprintf("first enrolments while a CRL of %d is made again and again, %s", b.revoked, db), limit: "without", wanted: 0.60}
	answers := row{name: "OCSP answers meanwhile, " + db, limit: "without", wanted: 0.60}
	for range b.runs {
		without, with, err := b.measureBeside(ctx, db)
		if err != nil {
			return err
		}
		enrol.add(with.enrol.rate, without.enrol.rate)
		answers.add(with.ocsp.rate, without.ocsp.rate)
		t.note("beside a CRL of %d that was made %d times, one in %s, %s: 99%% of the enrolments took %s, %.1f times as long as without (wanted at most 3); of the OCSP answers %s, %.1f times (wanted at most 5), the slowest %s", b.revoked,
			with.lists, with.each.Round(time.Millisecond), db,
			with.enrol.quantile(0.99).Round(time.Millisecond), float64(with.enrol.quantile(0.99))/float64(without.enrol.quantile(0.99)),
			with.ocsp.quantile(0.99).Round(10*time.Microsecond), float64(with.ocsp.quantile(0.99))/float64(without.ocsp.quantile(0.99)), with.ocsp.quantile(1).Round(time.Millisecond))
	}
	t.rows = append(t.rows, enrol, answers)
	return nil
}

// beside is what a server did for others while it made lists, or made none.
type beside struct {
	enrol, ocsp *load
	listsMade
}

func (b *bench) measureBeside(ctx context.Context, db string) (without, with *beside, err error) {
	dir, err := os.MkdirTemp("", "touchmark-bench")
	if err != nil {
		return nil, nil, err
	}
	defer os.RemoveAll(dir)
	w, drop, err := b.worldWith(ctx, db, filepath.Join(dir, "touchmark"), 2*b.units, b.serveRevoked)
	if err != nil {
		return nil, nil, err
	}
	defer drop()
	if _, _, err := w.anyAnswer(ctx); err != nil {
		return nil, nil, err
	}
	asks := w.asks(b.units)
	if _, err := drivePlain(ctx, w.status, asks[:b.units], b.clients); err != nil { // signs them
		return nil, nil, err
	}
	if without, err = b.serveAll(ctx, w, 0, asks); err != nil {
		return nil, nil, err
	}
	made := make(chan listsMade, 1)
	enough, stop := context.WithCancel(ctx)
	defer stop()
	go func() { made <- w.makeLists(ctx, enough) }()
	if with, err = b.serveAll(ctx, w, 1, asks); err != nil {
		return nil, nil, err
	}
	stop()
	with.listsMade = <-made
	return without, with, with.err
}

// serveRevoked is serveApart on a database that knows of revoked certificates.
func (b *bench) serveRevoked(ctx context.Context, c *server.Config) (map[string]string, func(), error) {
	s, err := openStatuses(ctx, c.DSN(), b.revoked)
	if err == nil {
		err = errors.Join(s.exec(ctx, fmt.Sprintf("UPDATE log_head SET next_id = %d", b.revoked+1)), s.close())
	}
	if err != nil {
		return nil, nil, err
	}
	return b.serveApart(ctx, c)
}

// serveAll has units enrol and then as many ask over OCSP, by few clients, so
// that it is the server they wait for and not each other.
func (b *bench) serveAll(ctx context.Context, w *world, round int, asks []client) (*beside, error) {
	clients, err := w.alone(ctx, round, b.units)
	if err != nil {
		return nil, err
	}
	s := new(beside)
	if s.enrol, err = drive(ctx, w.est+"/.well-known/est/simpleenroll", clients, b.clients); err != nil {
		return nil, fmt.Errorf("first enrolments: %w", err)
	}
	if s.ocsp, err = drivePlain(ctx, w.status, asks, 4); err != nil {
		return nil, fmt.Errorf("OCSP: %w", err)
	}
	return s, nil
}

// listsMade is how many lists a server made, and how long it took for each.
type listsMade struct {
	lists int
	each  time.Duration
	err   error
}

// makeLists has the server make its lists, one after the other, until it is
// enough, and waits for the last one.
func (w *world) makeLists(ctx, enough context.Context) (m listsMade) {
	for began := time.Now(); enough.Err() == nil; m.each = time.Since(began) / time.Duration(m.lists) {
		if err := w.admin.Do(ctx, http.MethodPost, "/issuers/device-ca/crls", nil, nil); err != nil {
			m.err = fmt.Errorf("make the revocation list: %w", err)
			return m
		}
		m.lists++
	}
	return m
}
