package storetest

import (
	"sync"
	"sync/atomic"

	"github.com/touchmark/touchmark/internal/store"
	"github.com/touchmark/touchmark/vetting"
)

var replaceCases = []conformance{
	{"a unit that failed is replaced in one step", replaceUnit},
	{"a site replaces only what its order leaves to it", replaceBounded},
	{"a unit takes one place only", replaceOnce},
	{"one place is taken by one unit, whoever asks first", replaceConcurrent},
	{"a site replaces no more units than its order says", replaceAtMost},
	{"a site's replacements are counted exactly, however many ask at once", replaceAtMostConcurrent},
}

// bySite says who may replace units of po-1.
func (t *trial) bySite(to vetting.Rework) { t.change("po-1", vetting.OrderChange{Rework: &to}) }

// leaving leaves a number of replacements to the site of po-1.
func (t *trial) leaving(most int64) *vetting.Order {
	bySite := vetting.ReworkBySite
	return t.change("po-1", vetting.OrderChange{Rework: &bySite, MaxReplacements: &most})
}

// failing admits a unit and lets it fail its test.
func (t *trial) failing(n int) *vetting.Device {
	t.Helper()
	d := t.admit(n)
	t.tested(d.ID, *failed())
	return t.device(d.ID)
}

// replaced is how many units of po-1 its site replaced.
func (t *trial) replaced() int64 {
	t.Helper()
	return ok(t.store.Order(t.ctx, "po-1"))(t).Replaced
}

func (t *trial) idOf(n int) int64 {
	t.Helper()
	return t.facts(first(n)).Record.ID
}

func replaceUnit(t *trial) {
	t.world(1, Unit(0), Unit(1), Unit(2))
	t.bySite(vetting.ReworkBySite)
	d, by := t.failing(0), t.idOf(1)
	t.enrol(first(1), vetting.ReasonQuota)
	before := t.leaves()
	got := ok(t.store.ReplaceDevice(t.ctx, By, d.ID, by, "radio dead"))(t)
	if got.State != vetting.DeviceScrapped || got.ReplacedBy != by || t.device(by).Replaces != d.ID || t.cert(d.Certificate).State != vetting.CertificateRevoked {
		t.Errorf("the unit is %+v, the other %+v", got, t.device(by))
	}
	if leaf := t.leaf(before); t.leaves() != before+1 || leaf.Act != "device.replace" || leaf.Note != "radio dead" || len(leaf.Objects) != 4 {
		t.Errorf("%d leaves: %+v", t.leaves()-before, leaf)
	}
	same(t, "units", t.issued("po-1"), 0)
	same(t, "replaced", t.replaced(), 1)
	same(t, "the same again", ok(t.second().ReplaceDevice(t.ctx, By, d.ID, by, "radio dead"))(t), got)
	same(t, "leaves", t.leaves(), before+1)
	same(t, "replaced", t.replaced(), 1)
	t.enrol(first(0), vetting.ReasonNotInService)
	t.enrol(first(1), vetting.ReasonVetted)
	t.enrol(first(2), vetting.ReasonQuota)
}

func replaceBounded(t *trial) {
	w := t.world(10, Unit(0), Unit(1), Unit(2), Unit(3), Unit(4))
	t.order("po-2", "thermo", "hsinchu", vetting.OrderOpen)
	w.with(ok(t.store.Order(t.ctx, "po-2"))(t)).Load(t, Unit(7))
	d := t.failing(0)
	spare, other := t.idOf(1), t.idOf(7)
	refuse := func(id, by int64) {
		t.Helper()
		t.refuses(vetting.Conflict)(t.store.ReplaceDevice(t.ctx, By, id, by, "test"))
	}
	refuse(d.ID, spare) // the order says nothing
	t.bySite(vetting.ReworkByAdministrator)
	refuse(d.ID, spare)
	t.bySite(vetting.ReworkBySite)
	refuse(d.ID, other)      // of another order
	refuse(d.ID, d.ID)       // itself
	refuse(spare, t.idOf(2)) // took no unit
	good := t.admit(2)
	refuse(good.ID, spare) // nobody says that it failed
	refuse(d.ID, good.ID)  // not new
	t.tested(t.idOf(3), *failed())
	refuse(d.ID, t.idOf(3)) // not good either
	used := t.admit(4)
	t.use(used.Certificate)
	t.tested(used.ID, *failed())
	refuse(used.ID, spare) // in service
	t.tested(d.ID, passed)
	refuse(d.ID, spare) // mended
	t.tested(d.ID, *failed())
	closed := vetting.OrderClosed
	t.change("po-1", vetting.OrderChange{State: &closed})
	refuse(d.ID, spare)
	t.refuses(vetting.NotFound)(t.store.ReplaceDevice(t.ctx, By, 1<<40, spare, "test"))
	t.refuses(vetting.NotFound)(t.store.ReplaceDevice(t.ctx, By, d.ID, 1<<40, "test"))
	open := vetting.OrderOpen
	t.change("po-1", vetting.OrderChange{State: &open})
	ok(t.store.ReadmitDevice(t.ctx, By, good.ID, "flash replaced"))(t)
	refuse(d.ID, good.ID) // it took a unit before
	ok(t.store.ReadmitDevice(t.ctx, By, used.ID, "flash replaced"))(t)
	t.tested(used.ID, passed)
	t.enrol(Claim(Unit(4).BootstrapKey, Key("anew", 4)), vetting.ReasonReadmitted)
	t.tested(used.ID, *failed())
	refuse(used.ID, spare) // it was in service before
	same(t, "units", t.issued("po-1"), 3)
	same(t, "state", t.device(d.ID).State, vetting.DeviceIssued)
}

func replaceOnce(t *trial) {
	t.world(10, Unit(0), Unit(1), Unit(2), Unit(3))
	t.leaving(2)
	one, two := t.failing(0), t.failing(1)
	ok(t.store.ReplaceDevice(t.ctx, By, one.ID, t.idOf(2), "test"))(t)
	t.refuses(vetting.Conflict)(t.store.ReplaceDevice(t.ctx, By, two.ID, t.idOf(2), "the place is taken"))
	t.refuses(vetting.Conflict)(t.store.ReplaceDevice(t.ctx, By, one.ID, t.idOf(3), "it is replaced"))
	ok(t.store.ReplaceDevice(t.ctx, By, two.ID, t.idOf(3), "test"))(t)
	same(t, "units", t.issued("po-1"), 0)
	three := t.failing(2)
	t.refuses(vetting.Conflict)(t.store.ReplaceDevice(t.ctx, By, three.ID, one.ID, "scrapped already"))
}

func replaceConcurrent(t *trial) {
	var units []vetting.Record
	for n := range 9 {
		units = append(units, Unit(n))
	}
	t.world(10, units...)
	t.bySite(vetting.ReworkBySite)
	d := t.failing(0)
	servers := []*store.Store{t.store, t.second()}
	var wg sync.WaitGroup
	var mu sync.Mutex
	done := 0
	for n := 1; n < 9; n++ {
		by := t.idOf(n)
		wg.Go(func() {
			_, err := servers[n%2].ReplaceDevice(t.ctx, By, d.ID, by, "test")
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				done++
			case vetting.ProblemOf(err) != vetting.Conflict:
				t.Error(err)
			}
		})
	}
	wg.Wait()
	same(t, "replacements", done, 1)
	same(t, "units", t.issued("po-1"), 0)
}

func replaceAtMost(t *trial) {
	t.world(51, Unit(0), Unit(1), Unit(2), Unit(3), Unit(4), Unit(5))
	t.bySite(vetting.ReworkBySite)
	same(t, "2 % of the quantity", ok(t.store.Order(t.ctx, "po-1"))(t).MaxReplacements, 2)
	same(t, "as the planner says", t.leaving(1).MaxReplacements, 1)
	one, two := t.failing(0), t.failing(1)
	ok(t.store.ReplaceDevice(t.ctx, By, one.ID, t.idOf(2), "test"))(t)
	before, want := t.leaves(), ok(t.store.Order(t.ctx, "po-1"))(t)
	t.refuses(vetting.Conflict)(t.store.ReplaceDevice(t.ctx, By, two.ID, t.idOf(3), "one too many"))
	same(t, "leaves", t.leaves(), before)
	same(t, "the order", ok(t.store.Order(t.ctx, "po-1"))(t), want)
	same(t, "the unit", t.device(two.ID), two)
	ok(t.store.ReworkDevice(t.ctx, By, two.ID, "by an administrator"))(t)
	same(t, "replaced by the site", t.replaced(), 1)
	three := t.failing(3)
	t.refuses(vetting.Conflict)(t.second().ReplaceDevice(t.ctx, By, three.ID, t.idOf(4), "still one too many"))
	same(t, "2 % again", t.leaving(0).MaxReplacements, 2)
	ok(t.second().ReplaceDevice(t.ctx, By, three.ID, t.idOf(4), "test"))(t)
	same(t, "replaced by the site", t.replaced(), 2)
	tooMany := int64(vetting.MaxQuantity + 1)
	t.refuses(vetting.Invalid)(t.store.ChangeOrder(t.ctx, By, "po-1", vetting.OrderChange{MaxReplacements: &tooMany}))
}

func replaceAtMostConcurrent(t *trial) {
	const failed, most = 8, 3
	var units []vetting.Record
	for n := range 2 * failed {
		units = append(units, Unit(n))
	}
	t.world(100, units...)
	t.leaving(most)
	var ids, by [failed]int64
	for n := range failed {
		ids[n], by[n] = t.failing(n).ID, t.idOf(failed+n)
	}
	servers := []*store.Store{t.store, t.second()}
	var wg sync.WaitGroup
	var done atomic.Int64
	for n := range failed {
		wg.Go(func() {
			_, err := servers[n%2].ReplaceDevice(t.ctx, By, ids[n], by[n], "test")
			if err == nil {
				done.Add(1)
			} else if vetting.ProblemOf(err) != vetting.Conflict {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	same(t, "replacements", done.Load(), most)
	same(t, "replaced", t.replaced(), most)
	same(t, "units", t.issued("po-1"), failed-most)
}
