package storetest

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/touchmark/touchmark/internal/store"
	"github.com/touchmark/touchmark/vetting"
)

var countCases = []conformance{
	{"units are counted by order, rig and line", countUnits},
	{"a limit is exact however many ask at once", countLimit},
	{"a paused order holds, and its devices get in later by themselves", countPause},
	{"a device waits for its record", countLate},
	{"a replaced board gives its unit back", countRework},
	{"past registrations come in order", countPast},
}

// again asks for what is answered already.
func (t *trial) again(c vetting.Claim) {
	t.Helper()
	if v, _, err := Enrol(t.ctx, t.store, c); err != nil || v.Reasons[0].Code != vetting.ReasonRepeated {
		t.Errorf("asked again: %s, %v", v.Text(), err)
	}
}

// counted are facts about a unit that counters can be read for.
func counted(n int) *vetting.Facts {
	u := Unit(n)
	return &vetting.Facts{Now: time.Now(), Claim: first(n), Record: &u, Order: &vetting.Order{ID: 1}}
}

func countUnits(t *trial) {
	w := t.world(10)
	var records []vetting.Record
	for i := range 5 {
		r := Unit(i)
		r.Made.Line = fmt.Sprint("L", i%2)
		records = append(records, r)
	}
	w.Load(t, records...)
	t.enrol(first(0), vetting.ReasonVetted)
	t.again(first(0))
	t.enrol(first(1), vetting.ReasonVetted)
	byRig := first(2)
	byRig.Auth = vetting.Auth{Proof: vetting.ProofRig, Key: Key("rig", 0), Operator: "rig-1", Site: "hsinchu"}
	byRig.Asserted = vetting.Identity{Serial: records[2].Serial}
	t.enrol(byRig, vetting.ReasonVetted)
	mine := first(3)
	mine.Auth = byRig.Auth
	for what, expect := range map[string]struct {
		claim vetting.Claim
		want  vetting.Counters
	}{
		"a new unit of line 0":   {first(4), vetting.Counters{OrderLastHour: 3, OrderLastDay: 3, LineLastHour: 2}},
		"one that asked twice":   {first(0), vetting.Counters{OrderLastHour: 3, OrderLastDay: 3, LineLastHour: 2, Attempts: 1}},
		"one of line 1 at a rig": {mineOf(mine, records[3]), vetting.Counters{OrderLastHour: 3, OrderLastDay: 3, RigLastHour: 1, LineLastHour: 1}},
	} {
		f := ok(t.store.Facts(t.ctx, expect.claim))(t)
		all := vetting.Looks{Pace: true, Attempts: true}
		same(t, what+", not looked at", ok(t.store.Count(t.ctx, &f, vetting.Looks{}))(t), vetting.Counters{})
		same(t, what, ok(t.store.Count(t.ctx, &f, all))(t), expect.want)
		f.Now = f.Now.Add(2 * time.Hour)
		same(t, what+", two hours later", ok(t.store.Count(t.ctx, &f, all))(t).OrderLastHour, 0)
		same(t, what+", two hours later, the day", ok(t.store.Count(t.ctx, &f, all))(t).OrderLastDay, 3)
		f.Now = f.Now.Add(24 * time.Hour)
		same(t, what+", a day later", ok(t.store.Count(t.ctx, &f, all))(t).OrderLastDay, 0)
	}
}

func mineOf(c vetting.Claim, r vetting.Record) vetting.Claim {
	c.Asserted = vetting.Identity{Serial: r.Serial}
	return c
}

func countLimit(t *trial) {
	w := t.world(100)
	limits := vetting.Limits{PerHour: 7}
	t.change("po-1", vetting.OrderChange{Limits: &limits})
	var records []vetting.Record
	for i := range 30 {
		records = append(records, Unit(i))
	}
	w.Load(t, records...)
	var admitted, held atomic.Int64
	var wg sync.WaitGroup
	stores := []*store.Store{t.store, t.second()}
	for i := range records {
		wg.Go(func() {
			v, _, err := Enrol(t.ctx, stores[i%2], first(i))
			switch {
			case err != nil:
				t.Error(err)
			case v.Outcome == vetting.Admitted:
				admitted.Add(1)
			case v.Outcome == vetting.Held && v.Reasons[0].Code == vetting.ReasonPace:
				held.Add(1)
			default:
				t.Errorf("unit %d: %s", i, v.Text())
			}
		})
	}
	wg.Wait()
	same(t, "admitted and held", [2]int64{admitted.Load(), held.Load()}, [2]int64{7, 23})
	limits.PerHour = 0
	t.change("po-1", vetting.OrderChange{Limits: &limits})
	for i := range records { // those that were held get in by themselves
		if v, _, err := Enrol(t.ctx, t.store, first(i)); err != nil || v.Outcome != vetting.Admitted {
			t.Errorf("unit %d: %s, %v", i, v.Text(), err)
		}
	}
	waiting := ok(t.store.Registrations(t.ctx, vetting.RegistrationFilter{Undecided: true}, vetting.Page{}))(t)
	same(t, "registrations that wait", len(waiting), 0)
}

func countPause(t *trial) {
	t.world(10, Unit(0), Unit(1))
	paused, open := vetting.OrderPaused, vetting.OrderOpen
	t.enrol(first(0), vetting.ReasonVetted)
	t.change("po-1", vetting.OrderChange{State: &paused})
	t.again(first(0))
	t.enrol(first(1), vetting.ReasonOrderPaused)
	t.change("po-1", vetting.OrderChange{State: &open})
	t.enrol(first(1), vetting.ReasonVetted)
}

// countLate: a device shows up before its manifest, and gets in by itself
// when it is handed in, with one registration for both.
func countLate(t *trial) {
	w := t.world(10)
	p := *w.Product
	p.AwaitRecords = "1h"
	ok(t.store.UpdateProduct(t.ctx, By, &p))(t)
	addressed := first(0)
	addressed.Label = "thermo"
	held := t.enrol(addressed, vetting.ReasonNoRecord)
	same(t, "the device", held.DeviceID, 0)
	t.enrol(first(1), vetting.ReasonUnknownDevice) // it names no product
	elsewhere := first(2)
	elsewhere.Label = "no-such-product"
	t.enrol(elsewhere, vetting.ReasonUnknownDevice)
	w.Load(t, Unit(0))
	r := t.enrol(addressed, vetting.ReasonVetted)
	same(t, "the registration", r.ID, held.ID)
	if d := t.deviceOf(r); d.State != vetting.DeviceIssued || r.DeviceID != d.ID {
		t.Errorf("device %+v, registration %+v", d, r)
	}
	waiting := ok(t.store.Registrations(t.ctx, vetting.RegistrationFilter{Undecided: true}, vetting.Page{}))(t)
	same(t, "registrations that wait", len(waiting), 0)
	same(t, "units", t.issued("po-1"), 1)
}

func countRework(t *trial) {
	t.world(1, Unit(0), Unit(1))
	d := t.admit(0)
	t.enrol(first(1), vetting.ReasonQuota)
	other := t.facts(first(1)).Record.ID
	t.refuses(vetting.Conflict)(t.store.ReworkDevice(t.ctx, By, other, "took no unit"))
	t.refuses(vetting.NotFound)(t.store.ReworkDevice(t.ctx, By, 1<<40, "is not there"))
	done := ok(t.store.ReworkDevice(t.ctx, By, d.ID, "board replaced"))(t)
	same(t, "the device", done.State, vetting.DeviceScrapped)
	same(t, "its certificate", t.cert(d.Certificate).State, vetting.CertificateRevoked)
	same(t, "units", t.issued("po-1"), 0)
	t.refuses(vetting.Conflict)(t.store.ReworkDevice(t.ctx, By, d.ID, "again"))
	same(t, "units", t.issued("po-1"), 0)
	t.enrol(first(0), vetting.ReasonNotInService)
	t.enrol(first(1), vetting.ReasonVetted)
	same(t, "units", t.issued("po-1"), 1)
}

func countPast(t *trial) {
	t.world(10, Unit(0), Unit(1), Unit(2))
	for i := range 3 {
		t.enrol(first(i), vetting.ReasonVetted)
	}
	read := func(since time.Time, limit int) (serials []string) {
		t.done(t.store.PastRegistrations(t.ctx, "thermo", since, limit, func(p vetting.Past) error {
			serials = append(serials, p.Record.Serial)
			same(t, "the order", p.Order.Name, "po-1")
			same(t, "the device", p.Registration.DeviceID, p.Record.ID)
			return nil
		}))
		return serials
	}
	all := read(time.Time{}, 100)
	if !slices.IsSorted(all) || len(all) != 3 {
		t.Errorf("%v", all)
	}
	same(t, "the first two", len(read(time.Time{}, 2)), 2)
	same(t, "from tomorrow on", len(read(time.Now().Add(24*time.Hour), 100)), 0)
	t.refuses(vetting.NotFound)(nil, t.store.PastRegistrations(t.ctx, "lamp", time.Time{}, 1, nil))
}
