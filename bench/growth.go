package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/touchmark/touchmark/enroll"
	"github.com/touchmark/touchmark/internal/ca"
	"github.com/touchmark/touchmark/internal/store"
	"github.com/touchmark/touchmark/vetting"
)

// few is how many devices a small installation has, which a large one is
// held against.
const few = 10_000

// growth fills a database and measures what a device costs, and whether
// enrolment gets slower.
func (b *bench) growth(ctx context.Context, db string, t *table) (err error) {
	if b.fill <= few {
		return nil
	}
	dir, err := os.MkdirTemp("", "touchmark-bench")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	w, drop, err := b.world(ctx, db, filepath.Join(dir, "touchmark"), b.fill+4*b.units)
	if err != nil {
		return err
	}
	defer drop()
	f, err := newFilling(ctx, w, dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.store.Close()) }()
	row := row{name: fmt.Sprintf("first enrolments with %d devices, %s", b.fill, db), limit: fmt.Sprintf("with %d devices", few), wanted: 0.90}
	before, err := b.enrolAmong(ctx, f, 0, few)
	if err != nil {
		return err
	}
	forgetPeak()
	began, cpu := time.Now(), processor()
	if err := f.fill(ctx, few, b.fill); err != nil {
		return err
	}
	n := b.fill - few
	t.note("%d devices through the store, %s: %.0f per second, %.0f µs of this process's processor time each, records and first use included; at most %d MB resident", n, db,
		float64(n)/time.Since(began).Seconds(), (processor()-cpu).Seconds()/float64(n)*1e6, peak()>>20)
	forgetPeak()
	after, err := b.enrolAmong(ctx, f, b.fill, b.fill)
	if err != nil {
		return err
	}
	t.note("memory while %d devices enrol among %d, %s: at most %d MB resident, this bench's clients included", b.units, b.fill, db, peak()>>20)
	t.note("an enrolment over EST, %s: %.0f µs of this process's processor time among %d devices, %.0f µs among %d, this bench's client included", db,
		before.cpu.Seconds()*1e6, few, after.cpu.Seconds()*1e6, b.fill)
	row.add(after.rate, before.rate)
	t.rows = append(t.rows, row)
	return f.disk(ctx, t, db, b.fill+2*b.units)
}

func processor() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// enrolAmong fills the database up to so many devices, and then lets others
// enrol over EST.
func (b *bench) enrolAmong(ctx context.Context, f *filling, from, to int) (*load, error) {
	if err := f.fill(ctx, from, to); err != nil {
		return nil, err
	}
	requests, err := f.alone(ctx, f.round, b.units)
	if err != nil {
		return nil, err
	}
	f.round++
	return drive(ctx, f.est+"/.well-known/est/simpleenroll", requests, b.clients)
}

// filling puts devices into a database through the store: records by
// manifests, certificates by commits, as the server does but without wire and
// signatures.
type filling struct {
	*world
	store *store.Store
	tmp   string
	round int
}

func newFilling(ctx context.Context, w *world, tmp string) (*filling, error) {
	s, err := store.Open(ctx, store.Options{DSN: w.dsn})
	if err != nil {
		return nil, err
	}
	return &filling{world: w, store: s, tmp: tmp}, nil
}

// perManifest is how many records a manifest holds at most.
const perManifest = 200_000

func (f *filling) fill(ctx context.Context, from, to int) error {
	return f.fillBy(ctx, from, to, func(ctx context.Context, n int) error {
		serial, err := f.admit(ctx, n)
		if err != nil {
			return err
		}
		return f.store.Activate(ctx, serial) // it was used
	})
}

// fillBy hands records in and lets each device enrol.
func (f *filling) fillBy(ctx context.Context, from, to int, enrol func(context.Context, int) error) error {
	for ; from < to; from += perManifest {
		until := min(to, from+perManifest)
		lin, err := f.admin.Hire(ctx, fmt.Sprintf("lin-of-%d", from), "site-operator", "hsinchu")
		if err != nil {
			return err
		}
		file, signature, err := signedFile(f.tmp, from, until, lin)
		if err != nil {
			return err
		}
		if err := errors.Join(f.handIn(ctx, lin, file, signature), file.Close()); err != nil {
			return err
		}
		if err := together(ctx, from, until, enrol); err != nil {
			return err
		}
	}
	return nil
}

// together does something for each device, for many at the same time, so that
// they share commits as under load.
func together(ctx context.Context, from, to int, do func(context.Context, int) error) error {
	var next atomic.Int64
	next.Store(int64(from))
	errs := make([]error, 128)
	var wg sync.WaitGroup
	for i := range errs {
		wg.Go(func() {
			for errs[i] == nil {
				n := int(next.Add(1)) - 1
				if n >= to {
					return
				}
				errs[i] = do(ctx, n)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// admit gives a device its certificate, whose serial number it returns.
func (f *filling) admit(ctx context.Context, n int) (serial string, err error) {
	r := madeUp(n)
	key := fingerprint("official", n)
	claim := vetting.Claim{At: time.Now(), Key: key, Auth: vetting.Auth{Proof: vetting.ProofBootstrapKey, Key: r.BootstrapKey},
		Asserted: vetting.Identity{Serial: r.Serial}, Transport: "est", Remote: "192.0.2.17"}
	for {
		facts, err := f.store.Facts(ctx, claim)
		if err != nil {
			return "", err
		}
		verdict := vetting.Judge(facts)
		if verdict.Outcome != vetting.Admitted {
			return "", fmt.Errorf("device %d was not admitted: %s", n, verdict.Text())
		}
		issued := f.certificate(key)
		_, err = f.store.Commit(ctx, enroll.Commit{Facts: facts, Verdict: verdict, Issued: issued})
		if err == nil {
			return fmt.Sprintf("%x", issued.Serial), nil
		}
		if !errors.Is(err, enroll.ErrStale) {
			return "", err
		}
	}
}

// certificate has the size of one that is issued, and random bytes.
func (f *filling) certificate(key vetting.Fingerprint) *enroll.Issued {
	serial := ca.NewSerials([]byte("bench")).New().FillBytes(make([]byte, 17))
	der := make([]byte, 0, certificateSize)
	for len(der) < certificateSize {
		der = append(append(der, serial...), key[:]...)
	}
	return &enroll.Issued{Serial: serial, DER: der[:certificateSize], NotAfter: time.Now().AddDate(2, 0, 0)}
}

// certificateSize is what the default profile's certificates have on P-256.
const certificateSize = 460
