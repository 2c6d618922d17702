package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/touchmark/touchmark/vetting"
)

// bulk measures how fast a job revokes a batch, alone and while devices
// enrol, and what that costs them.
func (b *bench) bulk(ctx context.Context, db string, t *table) error {
	single := "single changes of devices in full batches"
	alone := row{name: "bulk revocation, " + db, limit: single, wanted: 0.30}
	beside := row{name: "bulk revocation beside enrolments, " + db, limit: single, wanted: 0.30}
	enrolled := row{name: "first enrolments beside a bulk revocation, " + db, limit: "first enrolments alone", wanted: 0.75}
	for range b.runs {
		m, err := b.measureBulk(ctx, db)
		if err != nil {
			return err
		}
		alone.add(m.alone, m.single)
		beside.add(m.beside, m.single)
		enrolled.add(m.enrolBeside, m.enrol)
		if m.short {
			t.note("bulk revocation, %s: the job was done before the enrolments beside it", db)
		}
	}
	t.rows = append(t.rows, alone, beside, enrolled)
	return nil
}

// bulked is what one run gave, all per second.
type bulked struct {
	single, alone, beside, enrol, enrolBeside float64
	short                                     bool // the job beside ended too soon
}

// perUnit is how many devices are revoked beside each one that enrols: enough
// for the job to outlast them.
const perUnit = 20

func (b *bench) measureBulk(ctx context.Context, db string) (m bulked, err error) {
	dir, err := os.MkdirTemp("", "touchmark-bench")
	if err != nil {
		return m, err
	}
	defer os.RemoveAll(dir)
	few, many := 4*b.units, perUnit*b.units
	w, drop, err := b.world(ctx, db, filepath.Join(dir, "touchmark"), few+many+2*b.units)
	if err != nil {
		return m, err
	}
	defer drop()
	f, err := newFilling(ctx, w, dir)
	if err != nil {
		return m, err
	}
	defer func() { err = errors.Join(err, f.store.Close()) }()
	serials := make([]string, few+many)
	if err = f.fillBy(ctx, 0, few+many, func(ctx context.Context, n int) (err error) {
		serials[n], err = f.admit(ctx, n)
		return err
	}); err != nil {
		return m, err
	}
	began := time.Now()
	if err = together(ctx, 0, len(serials), func(ctx context.Context, n int) error { return f.store.Activate(ctx, serials[n]) }); err != nil {
		return m, err
	}
	m.single = float64(len(serials)) / time.Since(began).Seconds()
	before, err := b.enrolAmong(ctx, f, 0, 0)
	if err != nil {
		return m, err
	}
	m.enrol = before.rate
	if m.alone, err = f.revoke(ctx, 0, few, nil); err != nil {
		return m, err
	}
	requests, err := f.alone(ctx, f.round, b.units)
	if err != nil {
		return m, err
	}
	m.beside, err = f.revoke(ctx, few, few+many, func(running func() bool) error {
		l, err := drive(ctx, f.est+"/.well-known/est/simpleenroll", requests, b.clients)
		if err != nil {
			return err
		}
		m.enrolBeside, m.short = l.rate, !running()
		return nil
	})
	return m, err
}

// revoke revokes the devices from one to another as a job, and tells how many
// a second: while beside runs, or until the job is done.
func (f *filling) revoke(ctx context.Context, from, to int, beside func(running func() bool) error) (rate float64, err error) {
	type object = map[string]any
	var j vetting.Job
	selected := object{"identifiers": object{"serials": []string{madeUp(from).Serial + ".." + madeUp(to-1).Serial}}}
	if err := f.admin.Do(ctx, http.MethodPost, "/jobs", object{"action": "revoke", "reason": "keyCompromise", "note": "bench", "selected": selected}, &j); err != nil {
		return 0, err
	}
	if j.Found.Changes != int64(to-from) {
		return 0, fmt.Errorf("%d devices would be revoked, not %d", j.Found.Changes, to-from)
	}
	if err := f.admin.Do(ctx, http.MethodPost, fmt.Sprintf("/jobs/%d/confirm", j.ID), object{"digest": j.Digest}, nil); err != nil {
		return 0, err
	}
	if beside == nil {
		beside = func(running func() bool) error {
			for running() {
				time.Sleep(10 * time.Millisecond)
			}
			return ctx.Err()
		}
	}
	now := func() *vetting.Job {
		at, failed := f.store.Job(ctx, j.ID)
		if failed != nil {
			err = failed
			return &vetting.Job{}
		}
		return at
	}
	for now().Worked.Changes == 0 && err == nil { // it begins within a second
		time.Sleep(time.Millisecond)
	}
	begin := now()
	if berr := beside(func() bool { return now().State == vetting.JobRunning }); berr != nil || err != nil {
		return 0, errors.Join(berr, err)
	}
	end := now()
	rate = float64(end.Worked.Changes-begin.Worked.Changes) / end.Updated.Sub(begin.Updated).Seconds()
	for now().State == vetting.JobRunning && err == nil { // nothing is left for the next
		time.Sleep(10 * time.Millisecond)
	}
	return rate, err
}
