package store_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/touchmark/touchmark/enroll"
	"github.com/touchmark/touchmark/internal/store"
	"github.com/touchmark/touchmark/internal/store/storetest"
	"github.com/touchmark/touchmark/vetting"
)

// batch is a store whose writer stands still between two transactions while
// a test hands in, one after the other, what is to share the next one.
type batch struct {
	*storetest.World
	t      *testing.T
	stop   chan bool // true makes the writer stand still
	stands chan bool
	sizes  chan int
	errs   []chan error
}

// queue is how many jobs may wait in these tests.
const queue = 8

// eachBatch runs a test on a store of each kind, with units 0 to 3 of an
// order for ten in place.
func eachBatch(t *testing.T, test func(b *batch)) {
	for _, kind := range storetest.Kinds(t) {
		t.Run(kind, func(t *testing.T) {
			b := &batch{t: t, stop: make(chan bool, 1), stands: make(chan bool), sizes: make(chan int, 100)}
			s, err := store.Open(context.Background(), store.Options{DSN: storetest.Database(t, kind), Observe: b.observe, MaxQueue: queue})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { s.Close() })
			b.World = storetest.NewWorld(t, s, 10)
			b.Load(t, storetest.Unit(0), storetest.Unit(1), storetest.Unit(2), storetest.Unit(3))
			test(b)
			verify(t, s)
		})
	}
}

func (b *batch) observe(n int, _ time.Duration) {
	select {
	case <-b.stop:
		b.stands <- true // the writer is here now
		<-b.stands       // and may go on
	default:
		b.sizes <- n
	}
}

// begin makes the writer stand still.
func (b *batch) begin() {
	b.stop <- true
	b.add(func(ctx context.Context) error { return b.Store.SaveCheckpoint(ctx, 1, []byte("x")) }, 0)
	<-b.stands
	for len(b.sizes) > 0 {
		<-b.sizes
	}
}

// add hands a write in and returns when it waits, as the nth.
func (b *batch) add(write func(context.Context) error, nth int) {
	done := make(chan error, 1)
	b.errs = append(b.errs, done)
	go func() { done <- write(context.Background()) }()
	for nth > 0 && b.Store.Waiting() < nth {
		runtime.Gosched()
	}
}

// run hands writes in, lets them share a transaction and gives the result of
// each.
func (b *batch) run(writes ...func(context.Context) error) []error {
	b.t.Helper()
	b.begin()
	for i, write := range writes {
		b.add(write, i+1)
	}
	b.stands <- true
	var results []error
	for _, done := range b.errs {
		results = append(results, <-done)
	}
	b.errs = nil
	if n := <-b.sizes; n != len(writes) {
		b.t.Fatalf("%d of %d writes shared a transaction", n, len(writes))
	}
	return results[1:]
}

// propose judges a claim by what is committed now.
func (b *batch) propose(c vetting.Claim) enroll.Commit {
	b.t.Helper()
	f, err := b.Store.Facts(context.Background(), c)
	if err != nil {
		b.t.Fatal(err)
	}
	commit := enroll.Commit{Facts: f, Verdict: vetting.Judge(f)}
	if _, ok := commit.Verdict.Admission(); ok {
		serial := storetest.Key(fmt.Sprint(time.Now().UnixNano()), 0)
		commit.Issued = &enroll.Issued{Serial: serial[:17], DER: serial[:], NotAfter: time.Now().Add(time.Hour)}
	}
	return commit
}

func (b *batch) commit(c enroll.Commit) func(context.Context) error {
	return func(ctx context.Context) error {
		_, err := b.Store.Commit(ctx, c)
		return err
	}
}

func (b *batch) activate(serial string) func(context.Context) error {
	return func(ctx context.Context) error { return b.Store.Activate(ctx, serial) }
}

// admit enrols a unit and returns its device.
func (b *batch) admit(n int) *vetting.Device {
	b.t.Helper()
	c := b.propose(unitClaim(n, "official"))
	if err := b.commit(c)(context.Background()); err != nil {
		b.t.Fatal(err)
	}
	return b.device(c.Facts.Record.ID)
}

func (b *batch) device(id int64) *vetting.Device {
	b.t.Helper()
	d, err := b.Store.Device(context.Background(), id)
	if err != nil {
		b.t.Fatal(err)
	}
	return d
}

func (b *batch) leaves() int64 {
	b.t.Helper()
	head, err := b.Store.Head(context.Background())
	if err != nil {
		b.t.Fatal(err)
	}
	return head.Size()
}

func unitClaim(n int, key string) vetting.Claim {
	return storetest.Claim(storetest.Unit(n).BootstrapKey, storetest.Key(key, n))
}

func expectErrors(t *testing.T, got []error, want ...error) {
	t.Helper()
	for i, err := range got {
		if !errors.Is(err, want[i]) {
			t.Errorf("write %d of the batch: %v, want %v", i, err, want[i])
		}
	}
}

func TestBatchOfFirstUses(t *testing.T) {
	eachBatch(t, func(b *batch) {
		d, before := b.admit(0), b.leaves()
		use := b.activate(d.Certificate)
		expectErrors(b.t, b.run(use, use, use), nil, nil, nil)
		if n := b.leaves() - before; n != 1 {
			b.t.Errorf("one first use left %d leaves", n)
		}
		if d = b.device(d.ID); d.State != vetting.DeviceActive || d.Revision != 2 {
			b.t.Errorf("the device is %+v", d)
		}
	})
}

// The first use of a certificate comes just after what ended it.
func TestBatchOfEndAndUse(t *testing.T) {
	eachBatch(t, func(b *batch) {
		replaced, renewed := b.admit(0), b.admit(1)
		replace := b.propose(unitClaim(0, "other"))
		renew := b.propose(storetest.Renewal(renewed.Certificate, storetest.Key("other", 1)))
		before := b.leaves()
		expectErrors(b.t, b.run(b.commit(replace), b.activate(replaced.Certificate), b.commit(renew), b.activate(renewed.Certificate)), nil, nil, nil, nil)
		if n := b.leaves() - before; n != 2 {
			b.t.Errorf("%d leaves", n)
		}
		if d := b.device(replaced.ID); d.State != vetting.DeviceIssued {
			b.t.Errorf("a replaced certificate activated %+v", d)
		}
	})
}

// And the other way round: what ends it comes just after its first use.
func TestBatchOfUseAndEnd(t *testing.T) {
	eachBatch(t, func(b *batch) {
		d := b.admit(0)
		replace := b.propose(unitClaim(0, "other"))
		expectErrors(b.t, b.run(b.activate(d.Certificate), b.commit(replace)), nil, enroll.ErrStale)
		if got := b.device(d.ID); got.State != vetting.DeviceActive || got.Certificate != d.Certificate {
			b.t.Errorf("the device is %+v", got)
		}
	})
}

// What several commits of a batch rest on holds for the first of them only.
func TestBatchIsStaleWithinItself(t *testing.T) {
	eachBatch(t, func(b *batch) {
		one := int64(1)
		if _, err := b.Store.ChangeOrder(context.Background(), storetest.By, "po-1", vetting.OrderChange{Quantity: &one}); err != nil {
			b.t.Fatal(err)
		}
		first, second := b.commit(b.propose(unitClaim(0, "official"))), b.commit(b.propose(unitClaim(1, "official")))
		expectErrors(b.t, b.run(first, second), nil, enroll.ErrStale)
	})
	eachBatch(t, func(b *batch) {
		claim := unitClaim(1, "official")
		claim.Key = unitClaim(0, "official").Key
		expectErrors(b.t, b.run(b.commit(b.propose(unitClaim(0, "official"))), b.commit(b.propose(claim))), nil, enroll.ErrStale)
	})
	eachBatch(t, func(b *batch) {
		again := unitClaim(0, "other")
		expectErrors(b.t, b.run(b.commit(b.propose(unitClaim(0, "official"))), b.commit(b.propose(again))), nil, enroll.ErrStale)
	})
}

// A request that was judged before a person's decision, but comes after its
// admission, does not take the admission back.
func TestBatchOfLetInAndHeld(t *testing.T) {
	eachBatch(t, func(b *batch) {
		ctx := context.Background()
		before, after := time.Now().Add(time.Hour), time.Now().Add(2*time.Hour)
		draft, err := b.Store.CreateOrder(ctx, storetest.By, &vetting.Order{Name: "po-2", Product: "thermo", Site: "hsinchu", Quantity: 5, ManifestSignatures: 1, NotAfter: after})
		if err != nil {
			b.t.Fatal(err)
		}
		b.Order = draft
		b.Load(b.t, storetest.Unit(9))
		held := b.propose(unitClaim(9, "official"))
		if err := b.commit(held)(ctx); err != nil {
			b.t.Fatal(err)
		}
		// held for another reason, too: no mere repetition
		if _, err := b.Store.ChangeOrder(ctx, storetest.By, "po-2", vetting.OrderChange{NotBefore: &before}); err != nil {
			b.t.Fatal(err)
		}
		late := b.propose(unitClaim(9, "official"))
		list, err := b.Store.Registrations(ctx, vetting.RegistrationFilter{Undecided: true}, vetting.Page{})
		if err != nil || len(list) != 1 {
			b.t.Fatal(len(list), err)
		}
		if _, err := b.Store.DecideRegistration(ctx, storetest.By, list[0].ID, vetting.Decision{Admit: true, By: "petra"}); err != nil {
			b.t.Fatal(err)
		}
		expectErrors(b.t, b.run(b.commit(b.propose(unitClaim(9, "official"))), b.commit(late)), nil, nil)
		r, err := b.Store.Registration(ctx, list[0].ID)
		if err != nil || r.Outcome != vetting.Admitted || r.Certificate == "" {
			b.t.Errorf("the registration is %+v, %v", r, err)
		}
	})
}

// What one job of a batch breaks fails alone.
func TestBatchWithTakenSerialNumber(t *testing.T) {
	eachBatch(t, func(b *batch) {
		a, c, d := b.propose(unitClaim(0, "official")), b.propose(unitClaim(1, "official")), b.propose(unitClaim(2, "official"))
		c.Issued.Serial = a.Issued.Serial
		refused := b.propose(storetest.Claim(storetest.Key("stranger", 0), storetest.Key("official", 9)))
		errs := b.run(b.commit(a), b.commit(c), b.commit(d), b.commit(refused), b.commit(refused))
		for i, err := range errs {
			if (err != nil) != (i == 1) {
				b.t.Errorf("write %d: %v", i, err)
			}
		}
		o, err := b.Store.Order(context.Background(), "po-1")
		if err != nil || o.Issued != 2 {
			b.t.Errorf("%d units, %v", o.Issued, err)
		}
		list, err := b.Store.Registrations(context.Background(), vetting.RegistrationFilter{Outcome: vetting.Refused}, vetting.Page{})
		if err != nil || len(list) != 1 || list[0].Repeats != 1 {
			b.t.Errorf("the refusals are %+v, %v", list, err)
		}
	})
}

// watchedContext tells how often somebody began to wait for its end.
type watchedContext struct {
	context.Context
	asked atomic.Int32
}

func (c *watchedContext) Done() <-chan struct{} {
	c.asked.Add(1)
	return c.Context.Done()
}

// Where as many wait as may, a registration is refused at once; an
// operator's act waits its turn, and what waits already is written.
func TestQueueIsBounded(t *testing.T) {
	eachBatch(t, func(b *batch) {
		ctx := context.Background()
		b.begin()
		enrol := func(n int) func(context.Context) error {
			return func(ctx context.Context) error {
				_, _, err := storetest.Enrol(ctx, b.Store, storetest.Claim(storetest.Unit(n%4).BootstrapKey, storetest.Key("official", n%4)))
				return err
			}
		}
		for n := range queue {
			b.add(enrol(n), n+1)
		}
		var busy *enroll.BusyError
		if err := enrol(0)(ctx); !errors.As(err, &busy) || busy.Share || busy.RetryAfter < time.Second {
			t.Errorf("one too many: %v", err)
		}
		ended, cancel := context.WithCancel(ctx)
		cancel()
		if err := b.Store.SaveCheckpoint(ended, 1, []byte("y")); !errors.Is(err, context.Canceled) {
			t.Errorf("an act that was given up: %v", err)
		}
		waits := &watchedContext{Context: ctx}
		b.add(func(context.Context) error {
			_, err := b.Store.CreateSite(waits, storetest.By, &vetting.Site{Name: "lyon"})
			return err
		}, 0)
		for act := b.errs[len(b.errs)-1]; waits.asked.Load() < 2 && len(act) == 0; {
			runtime.Gosched() // it tries once, and then waits
		}
		b.stands <- true
		for n, done := range b.errs {
			if err := <-done; err != nil {
				t.Errorf("job %d: %v", n, err)
			}
		}
		b.errs = nil
		if err := enrol(0)(ctx); err != nil {
			t.Errorf("afterwards: %v", err)
		}
	})
}
