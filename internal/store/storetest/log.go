package storetest

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"time"

	"github.com/touchmark/touchmark/internal/audit"
	"github.com/touchmark/touchmark/internal/store"
	"github.com/touchmark/touchmark/vetting"
)

var logCases = []conformance{
	{"an empty log has an empty tree", logEmpty},
	{"leaves are read in order", logLeaves},
	{"the head is the tree of the leaves", logHead},
	{"a snapshot does not change", logSnapshot},
	{"the largest checkpoint is kept", logCheckpoints},
	{"the log's time never goes back", logTime},
	{"times are of UTC and of microseconds", logMicroseconds},
	{"time stamps have the log's time", logTimeStamps},
}

func logEmpty(t *trial) {
	var none audit.Tree
	if head := ok(t.store.Head(t.ctx))(t); head.Size() != 0 || head.Root() != none.Root() {
		t.Errorf("the head is of %d leaves", head.Size())
	}
	if got := t.indexes(0, 100); len(got) != 0 {
		t.Errorf("leaves %v", got)
	}
}

// indexes are those of the leaves in a range.
func (t *trial) indexes(from, to int64) (list []int64) {
	t.Helper()
	t.done(t.store.Leaves(t.ctx, from, to, func(index int64, _ []byte) error {
		list = append(list, index)
		return nil
	}))
	return list
}

func logLeaves(t *trial) {
	t.world(1)
	t.site("a")
	t.site("b")
	for _, c := range []struct {
		from, to int64
		want     []int64
	}{
		{0, 5, []int64{0, 1, 2, 3, 4}}, {1, 3, []int64{1, 2}}, {3, 100, []int64{3, 4}}, {2, 2, nil}, {3, 2, nil}, {5, 9, nil},
	} {
		if got := t.indexes(c.from, c.to); !slices.Equal(got, c.want) {
			t.Errorf("from %d to %d: %v", c.from, c.to, got)
		}
	}
	stop, calls := errors.New("enough"), 0
	err := t.store.Leaves(t.ctx, 0, 5, func(int64, []byte) error {
		if calls++; calls == 2 {
			return stop
		}
		return nil
	})
	if !errors.Is(err, stop) || calls != 2 {
		t.Errorf("%d leaves were read: %v", calls, err)
	}
}

func logHead(t *trial) {
	var tree audit.Tree
	grow := func() {
		t.Helper()
		t.done(t.store.Leaves(t.ctx, tree.Size(), 1<<40, func(_ int64, body []byte) error {
			tree.Append(body)
			return nil
		}))
		for _, s := range []*store.Store{t.store, t.second()} {
			if head := ok(s.Head(t.ctx))(t); head.Size() != tree.Size() || head.Root() != tree.Root() {
				t.Errorf("the head is not the tree of its %d leaves", head.Size())
			}
		}
	}
	t.world(10, Unit(0), Unit(1))
	grow()
	t.admit(0)
	t.admit(1)
	grow()
}

// state is all that a reader of the log can see.
type state struct {
	size, leaves int64
	root         string
	objects      map[audit.Object]bool
}

func read(ctx context.Context, src audit.Source) (s state, err error) {
	head, err := src.Head(ctx)
	if err != nil {
		return s, err
	}
	s.size, s.root = head.Size(), head.Root().String()
	if err := src.Leaves(ctx, 0, 1<<40, func(int64, []byte) error { s.leaves++; return nil }); err != nil {
		return s, err
	}
	s.objects = map[audit.Object]bool{}
	return s, src.Objects(ctx, func(o audit.Object) error { s.objects[o] = true; return nil })
}

func logSnapshot(t *trial) {
	t.world(10, Unit(0), Unit(1))
	t.admit(0)
	other := t.second()
	var before state
	t.done(t.store.Snapshot(t.ctx, func(src audit.Source) (err error) {
		if before, err = read(t.ctx, src); err != nil {
			return err
		}
		t.admit(1) // changes the order, too
		ok(other.CreateSite(t.ctx, By, &vetting.Site{Name: "gdansk"}))(t)
		again, err := read(t.ctx, src)
		same(t, "the snapshot", again, before)
		return err
	}))
	if before.size != before.leaves || len(before.objects) == 0 {
		t.Errorf("the snapshot was %+v", before)
	}
	t.done(t.store.Snapshot(t.ctx, func(src audit.Source) error {
		after, err := read(t.ctx, src)
		if after.size != before.size+2 || after.leaves != after.size || len(after.objects) != len(before.objects)+4 {
			t.Errorf("the next snapshot has %d leaves and %d objects after %d and %d", after.size, len(after.objects), before.size, len(before.objects))
		}
		return err
	}))
	stop := errors.New("enough")
	if err := t.store.Snapshot(t.ctx, func(audit.Source) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("the reader's error became %v", err)
	}
}

func logCheckpoints(t *trial) {
	if note := ok(t.store.LastCheckpoint(t.ctx))(t); note != nil {
		t.Errorf("the first checkpoint is %q", note)
	}
	other := t.second()
	for _, c := range []struct {
		s    *store.Store
		size int64
		note string
		want string
	}{
		{t.store, 5, "five", "five"},
		{other, 9, "nine", "nine"},
		{t.store, 7, "seven", "nine"}, // a smaller one comes late
		{t.store, 9, "other nine", "nine"},
		{other, 10, "ten", "ten"},
	} {
		t.done(c.s.SaveCheckpoint(t.ctx, c.size, []byte(c.note)))
		for _, s := range []*store.Store{t.store, other} {
			if got := ok(s.LastCheckpoint(t.ctx))(t); string(got) != c.want {
				t.Errorf("after %q the last is %q", c.note, got)
			}
		}
	}
	if t.leaves() != 0 {
		t.Error("a checkpoint left a leaf")
	}
}

// clocked opens a store whose clock the test sets.
func (t *trial) clocked() (*store.Store, func(time.Time)) {
	t.Helper()
	var now atomic.Pointer[time.Time]
	s := ok(store.Open(t.ctx, store.Options{DSN: t.dsn, Now: func() time.Time { return *now.Load() }}))(t)
	t.Cleanup(func() { s.Close() })
	return s, func(to time.Time) { now.Store(&to) }
}

func logTime(t *trial) {
	a, setA := t.clocked()
	b, setB := t.clocked()
	noon := time.Date(2027, 3, 1, 12, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		name       string
		s          *store.Store
		set        func(time.Time)
		clock, log time.Time
	}{
		{"first", a, setA, noon, noon},
		{"later", a, setA, noon.Add(time.Hour), noon.Add(time.Hour)},
		{"set-back", a, setA, noon, noon.Add(time.Hour)},
		{"another-server-behind", b, setB, noon.Add(-time.Hour), noon.Add(time.Hour)},
		{"another-server-ahead", b, setB, noon.Add(2 * time.Hour), noon.Add(2 * time.Hour)},
		{"behind-it", a, setA, noon.Add(90 * time.Minute), noon.Add(2 * time.Hour)},
	} {
		c.set(c.clock)
		index := t.leaves()
		site := ok(c.s.CreateSite(t.ctx, By, &vetting.Site{Name: c.name}))(t)
		if leaf := t.leaf(index); !leaf.Time.Equal(c.log) || !site.Created.Equal(c.log) {
			t.Errorf("%s: logged at %s, created at %s, want %s", c.name, leaf.Time, site.Created, c.log)
		}
	}
	// what is judged is judged by the clock
	setA(noon)
	if f := ok(a.Facts(t.ctx, first(0)))(t); !f.Now.Equal(noon) {
		t.Errorf("the facts are of %s", f.Now)
	}
}

func logMicroseconds(t *trial) {
	s, set := t.clocked()
	t.store = s
	zone := time.FixedZone("CET", 3600)
	set(time.Date(2027, 3, 1, 12, 0, 0, 123456789, zone))
	want := time.Date(2027, 3, 1, 11, 0, 0, 123456000, time.UTC)
	w := t.drafted(0)
	m := w.with(ok(s.Order(t.ctx, "po-1"))(t)).Load(t, Unit(1), Unit(2))
	t.operator("anna", "admin", "")
	held := t.decide(t.enrol(first(0), vetting.ReasonOrderDraft).ID, true)
	d := t.admit(1)
	t.use(d.Certificate)
	d = t.setState(d.ID, vetting.DeviceRetired)
	c := t.cert(d.Certificate)
	t.enrol(Claim(Key("stranger", 0), Key("official", 9)), vetting.ReasonUnknownDevice)
	anna := ok(s.RevokeOperator(t.ctx, By, "anna"))(t)
	product, site, order := ok(s.Product(t.ctx, "thermo"))(t), ok(s.Site(t.ctx, "hsinchu"))(t), ok(s.Order(t.ctx, "po-1"))(t)
	for what, got := range map[string]time.Time{
		"product created": product.Created, "product updated": product.Updated, "site created": site.Created,
		"order created": order.Created, "order updated": order.Updated, "operator created": anna.Created, "operator revoked": anna.Revoked,
		"manifest received": m.Received, "manifest updated": m.Updated, "registered": held.At, "registered last": held.Last, "decided": held.Decision.At,
		"device issued": d.Issued, "device activated": d.Activated, "device updated": d.Updated,
		"certificate issued": c.Issued, "certificate used": c.Used, "certificate revoked": c.Revoked,
		"evidence": ok(s.Evidence(t.ctx, vetting.EvidenceFilter{}, vetting.Page{}))(t)[0].At, "leaf": t.leaf(0).Time,
	} {
		if got != want {
			t.Errorf("%s: %s, want %s", what, got.Format(time.RFC3339Nano), want.Format(time.RFC3339Nano))
		}
	}
}

func logTimeStamps(t *trial) {
	size := func() int64 { return ok(t.store.LogSize(t.ctx))(t) }
	before := size()
	first := ok(t.store.NoteTimeStamp(t.ctx, "1 of SHA-256 00", time.Now().Add(time.Hour)))(t)
	if first.After(time.Now()) || size() != before+1 {
		t.Errorf("stamped at %s, the log has %d leaves more", first, size()-before)
	}
	// Another server's clock went back by a minute.
	slow := OpenWith(t, store.Options{DSN: t.dsn, Now: func() time.Time { return first.Add(-time.Minute) }})
	if at := ok(slow.NoteTimeStamp(t.ctx, "2 of SHA-256 00", first))(t); !at.Equal(first) || size() != before+2 {
		t.Errorf("the log was at %s, and stamped is %s", first, at)
	}
	if at := ok(slow.NoteTimeStamp(t.ctx, "3 of SHA-256 00", first.Add(-time.Second)))(t); !at.Equal(first) || size() != before+2 {
		t.Errorf("a clock that is too far behind: stamped at %s, the log has %d leaves more", at, size()-before)
	}
	t.done(t.store.NoteTimestamper(t.ctx, "Code Signing CA", []byte{1}))
}
