package storetest

import (
	"fmt"
	"sync"

	"github.com/touchmark/touchmark/vetting"
)

var wasteCases = []conformance{
	{"waste uses up units of the order, as long as some are left", wasteCounts},
	{"waste returns where the order says so", wasteReturns},
	{"only what was never powered on is scrapped as a record", wasteOnly},
	{"issued and wasted never exceed the quantity", wasteRaces},
}

func (t *trial) scrap(n int) *vetting.Device {
	t.Helper()
	return ok(t.store.ScrapRecord(t.ctx, By, t.facts(first(n)).Record.ID, "cracked"))(t)
}

func (t *trial) expectOrder(name string, issued, wasted int64) {
	t.Helper()
	if o := ok(t.store.Order(t.ctx, name))(t); o.Issued != issued || o.Wasted != wasted {
		t.Errorf("order %s has %d issued and %d wasted, want %d and %d", name, o.Issued, o.Wasted, issued, wasted)
	}
}

func wasteCounts(t *trial) {
	t.world(3, Unit(0), Unit(1), Unit(2), Unit(3), Unit(4))
	if d := t.scrap(0); d.State != vetting.DeviceScrapped {
		t.Errorf("it is %s", d.State)
	}
	t.setState(t.facts(first(1)).Record.ID, vetting.DeviceScrapped) // an administrator's waste counts alike
	t.expectOrder("po-1", 0, 2)
	t.admit(2)
	t.enrol(first(3), vetting.ReasonQuota)
	t.scrap(3) // the order has no unit left that it could use up
	t.expectOrder("po-1", 1, 2)
	two, four := int64(2), int64(4)
	t.refuses(vetting.Conflict)(t.store.ChangeOrder(t.ctx, By, "po-1", vetting.OrderChange{Quantity: &two}))
	t.change("po-1", vetting.OrderChange{Quantity: &four})
	t.admit(4)
	t.expectOrder("po-1", 2, 2)
}

func wasteReturns(t *trial) {
	w := t.world(1)
	o := ok(t.store.CreateOrder(t.ctx, By, &vetting.Order{Name: "po-2", Product: "thermo", Site: "hsinchu", Quantity: 1, State: vetting.OrderOpen,
		ManifestSignatures: 1, Waste: vetting.WasteReturns}))(t)
	if w.Order.Waste != vetting.WasteCounts || o.Waste != vetting.WasteReturns {
		t.Errorf("waste %s and %s", w.Order.Waste, o.Waste)
	}
	w.with(o).Load(t, Unit(0), Unit(1))
	t.scrap(0)
	t.expectOrder("po-2", 0, 0)
	t.admit(1)
}

func wasteOnly(t *trial) {
	f := t.fleet()
	for _, s := range vetting.DeviceStates[1:] {
		d := f.unit(s)
		t.refuses(vetting.Conflict)(t.store.ScrapRecord(t.ctx, By, d.ID, "cracked"))
		same(t, "after the refusal", t.device(d.ID), d)
	}
	before := ok(t.store.Order(t.ctx, "po-1"))(t)
	d := f.unit(vetting.DeviceActive)
	t.setState(d.ID, vetting.DeviceScrapped) // its unit is used already
	t.expectOrder("po-1", before.Issued+1, 0)
	t.refuses(vetting.NotFound)(t.store.ScrapRecord(t.ctx, By, 1<<40, "cracked"))
}

func wasteRaces(t *trial) {
	const units, quantity = 24, 10
	records := make([]vetting.Record, units)
	for n := range records {
		records[n] = Unit(n)
	}
	t.world(quantity, records...)
	other := t.second()
	ids := make([]int64, units)
	for n := range ids {
		ids[n] = t.facts(first(n)).Record.ID
	}
	var wg sync.WaitGroup
	errs := make([]error, units)
	for n := range units {
		wg.Go(func() {
			if n%2 == 0 {
				_, errs[n] = other.ScrapRecord(t.ctx, By, ids[n], fmt.Sprint(n))
				return
			}
			_, _, errs[n] = Enrol(t.ctx, t.store, first(n))
		})
	}
	wg.Wait()
	for _, err := range errs {
		t.done(err)
	}
	if o := ok(t.store.Order(t.ctx, "po-1"))(t); o.Issued+o.Wasted != quantity {
		t.Errorf("%d issued and %d wasted of %d", o.Issued, o.Wasted, quantity)
	}
}
