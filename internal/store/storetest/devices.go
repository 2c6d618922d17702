package storetest

import (
	"fmt"
	"slices"
	"time"

	"github.com/touchmark/touchmark/vetting"
)

var deviceCases = []conformance{
	{"an operator moves a device as its life allows", deviceMoves},
	{"a device's certificate follows its state", deviceCertificates},
	{"a quarantined device returns to where it was", deviceReturns},
	{"a device out of service gets no certificate", deviceOutOfService},
	{"devices are listed by what they are", deviceLists},
	{"a device's history holds all of it", deviceHistory},
	{"devices are counted", deviceTally},
}

func (t *trial) setState(id int64, to vetting.DeviceState) *vetting.Device {
	t.Helper()
	return ok(t.store.SetDeviceState(t.ctx, By, id, to, "test"))(t)
}

// fleet gives out units that are in a state.
type fleet struct {
	*trial
	w    *World
	next int
}

func (t *trial) fleet() *fleet {
	t.Helper()
	w := t.world(1000)
	t.order("po-2", "thermo", "hsinchu", vetting.OrderDraft)
	return &fleet{t, w, 0}
}

// unit is a new unit in a state.
func (f *fleet) unit(s vetting.DeviceState) *vetting.Device {
	f.Helper()
	n, w := f.next, f.w
	f.next++
	if s == vetting.DeviceRegistered {
		w = w.with(ok(f.store.Order(f.ctx, "po-2"))(f.trial))
	}
	w.Load(f, Unit(n))
	id := f.facts(first(n)).Record.ID
	switch s {
	case vetting.DeviceManufactured:
	case vetting.DeviceRegistered:
		f.enrol(first(n), vetting.ReasonOrderDraft)
	default:
		f.serve(n, id, s)
	}
	if d := f.device(id); d.State != s {
		f.Fatalf("unit %d is %s, not %s", n, d.State, s)
	}
	return f.device(id)
}

func (f *fleet) serve(n int, id int64, s vetting.DeviceState) {
	f.Helper()
	d := f.admit(n)
	if s == vetting.DeviceIssued {
		return
	}
	f.use(d.Certificate)
	if s != vetting.DeviceActive {
		f.setState(id, s)
	}
}

func deviceMoves(t *trial) {
	const (
		active, suspended, retired = vetting.DeviceActive, vetting.DeviceSuspended, vetting.DeviceRetired
		quarantined, scrapped      = vetting.DeviceQuarantined, vetting.DeviceScrapped
	)
	f := t.fleet()
	for from, may := range map[vetting.DeviceState][]vetting.DeviceState{
		vetting.DeviceManufactured: {quarantined, scrapped},
		vetting.DeviceRegistered:   {quarantined, scrapped},
		vetting.DeviceIssued:       {quarantined, scrapped},
		active:                     {suspended, retired, quarantined, scrapped},
		suspended:                  {active, retired, quarantined, scrapped},
		retired:                    {quarantined, scrapped},
		quarantined:                {active, scrapped}, // it was active before
		scrapped:                   {},
	} {
		d := f.unit(from)
		for _, to := range append(vetting.DeviceStates, "lost", "") {
			if !slices.Contains(may, to) {
				t.refuses(vetting.Conflict)(t.store.SetDeviceState(t.ctx, By, d.ID, to, "test"))
				same(t, "after the refusal", t.device(d.ID), d)
				continue
			}
			is := f.unit(from)
			before := t.leaves()
			moved := t.setState(is.ID, to)
			if moved.State != to || moved.Revision != is.Revision+1 || moved.Updated.Before(is.Updated) || t.leaves() != before+1 {
				t.Errorf("from %s to %s: %+v", from, to, moved)
			}
			same(t, "read", t.device(is.ID), moved)
		}
	}
	t.refuses(vetting.NotFound)(t.store.SetDeviceState(t.ctx, By, 1<<40, quarantined, "test"))
}

func deviceCertificates(t *trial) {
	const (
		valid, hold, revoked = vetting.CertificateValid, vetting.CertificateOnHold, vetting.CertificateRevoked
		quarantined          = vetting.DeviceQuarantined
	)
	type step struct {
		to     vetting.DeviceState
		state  vetting.CertificateState
		reason int
	}
	f := t.fleet()
	for _, c := range []struct {
		from  vetting.DeviceState
		steps []step
	}{
		{vetting.DeviceActive, []step{{vetting.DeviceSuspended, hold, 6}, {vetting.DeviceActive, valid, 0}, {vetting.DeviceRetired, revoked, 5}, {vetting.DeviceScrapped, revoked, 5}}},
		{vetting.DeviceActive, []step{{vetting.DeviceSuspended, hold, 6}, {quarantined, hold, 6}, {vetting.DeviceSuspended, hold, 6}, {vetting.DeviceActive, valid, 0}}},
		{vetting.DeviceActive, []step{{quarantined, hold, 6}, {vetting.DeviceScrapped, revoked, 5}}},
		{vetting.DeviceActive, []step{{vetting.DeviceSuspended, hold, 6}, {vetting.DeviceRetired, revoked, 5}, {quarantined, revoked, 5}, {vetting.DeviceRetired, revoked, 5}}},
		{vetting.DeviceIssued, []step{{quarantined, hold, 6}, {vetting.DeviceIssued, valid, 0}, {vetting.DeviceScrapped, revoked, 5}}},
	} {
		d := f.unit(c.from)
		want := *t.cert(d.Certificate)
		for _, s := range c.steps {
			was := want
			moved, got := t.setState(d.ID, s.to), t.cert(d.Certificate)
			want.State, want.Reason = s.state, s.reason
			switch {
			case s.state == valid:
				want.Revoked = time.Time{}
			case was.State != revoked:
				want.Revoked = moved.Updated
			}
			same(t, fmt.Sprintf("%s to %s: the certificate", c.from, s.to), got, &want)
			if moved.Certificate != d.Certificate {
				t.Errorf("%s to %s: the certificate is %s", c.from, s.to, moved.Certificate)
			}
		}
	}
}

func deviceReturns(t *trial) {
	f := t.fleet()
	for _, from := range []vetting.DeviceState{vetting.DeviceManufactured, vetting.DeviceRegistered, vetting.DeviceIssued,
		vetting.DeviceActive, vetting.DeviceSuspended, vetting.DeviceRetired} {
		d := f.unit(from)
		q := t.setState(d.ID, vetting.DeviceQuarantined)
		if q.Before != from {
			t.Errorf("from %s: it was %q before", from, q.Before)
		}
		for _, to := range []vetting.DeviceState{vetting.DeviceManufactured, vetting.DeviceRegistered, vetting.DeviceIssued, vetting.DeviceActive, vetting.DeviceSuspended, vetting.DeviceRetired} {
			if to != from {
				t.refuses(vetting.Conflict)(t.store.SetDeviceState(t.ctx, By, d.ID, to, "test"))
			}
		}
		back := t.setState(d.ID, from)
		d.Revision, d.Updated = d.Revision+2, back.Updated
		same(t, "back", back, d)
	}
}

func deviceOutOfService(t *trial) {
	f := t.fleet()
	for _, s := range []vetting.DeviceState{vetting.DeviceSuspended, vetting.DeviceRetired, vetting.DeviceQuarantined, vetting.DeviceScrapped} {
		n := f.next
		d := f.unit(s)
		t.enrol(first(n), vetting.ReasonNotInService)
		t.enrol(Renewal(d.Certificate, Key("other", n)), vetting.ReasonNotInService)
		same(t, "the device", t.device(d.ID), d)
	}
	// what was never registered comes back as it was, and may enrol
	n := f.next
	d := f.unit(vetting.DeviceManufactured)
	t.setState(d.ID, vetting.DeviceQuarantined)
	t.enrol(first(n), vetting.ReasonNotInService)
	t.setState(d.ID, vetting.DeviceManufactured)
	t.admit(n)
}

func deviceLists(t *trial) {
	w := t.world(10, full(0), full(1), full(2))
	t.product("lamp")
	t.site("gdansk")
	w.with(t.order("po-2", "thermo", "gdansk", vetting.OrderOpen)).Load(t, full(3))
	lamp := full(4)
	lamp.Serial = full(0).Serial
	w.with(t.order("po-3", "lamp", "hsinchu", vetting.OrderOpen)).Load(t, lamp)
	t.admit(1)
	t.admit(3)
	id := func(d *vetting.Device) int64 { return d.ID }
	for _, c := range []struct {
		filter vetting.DeviceFilter
		want   []int
	}{
		{vetting.DeviceFilter{}, []int{0, 1, 2, 3, 4}},
		{vetting.DeviceFilter{Site: "gdansk"}, []int{3}},
		{vetting.DeviceFilter{Order: "po-1"}, []int{0, 1, 2}},
		{vetting.DeviceFilter{Product: "thermo"}, []int{0, 1, 2, 3}},
		{vetting.DeviceFilter{State: vetting.DeviceManufactured}, []int{0, 2, 4}},
		{vetting.DeviceFilter{State: vetting.DeviceIssued}, []int{1, 3}},
		{vetting.DeviceFilter{Identity: vetting.Identity{Serial: full(0).Serial}}, []int{0, 4}},
		{vetting.DeviceFilter{Identity: vetting.Identity{MAC: " 02-00-00-00-00-02 "}}, []int{2}},
		{vetting.DeviceFilter{Identity: vetting.Identity{UID: full(3).UID}}, []int{3}},
		{vetting.DeviceFilter{Product: "lamp", Site: "hsinchu", Order: "po-3", State: vetting.DeviceManufactured, Identity: lamp.Identity}, []int{4}},
	} {
		list := func(p vetting.Page) ([]*vetting.Device, error) { return t.store.Devices(t.ctx, c.filter, p) }
		pages(t, len(c.want), false, list, id)
		for i, d := range ok(list(vetting.Page{}))(t) {
			if d.BootstrapKey != Unit(c.want[i]).BootstrapKey {
				t.Errorf("%+v lists %s in place %d", c.filter, d.Identity, i)
			}
			same(t, "the device", d, t.device(d.ID))
		}
	}
	for _, f := range []vetting.DeviceFilter{{Site: "lodz"}, {Order: "po-9"}, {Product: "torch"}, {State: vetting.DeviceScrapped}, {Site: "gdansk", Product: "lamp"}} {
		if list := ok(t.store.Devices(t.ctx, f, vetting.Page{}))(t); len(list) != 0 {
			t.Errorf("%+v lists %+v", f, list[0])
		}
	}
	t.refuses(vetting.Invalid)(t.store.Devices(t.ctx, vetting.DeviceFilter{Identity: vetting.Identity{MAC: "nonsense"}}, vetting.Page{}))
	t.refuses(vetting.NotFound)(t.store.Device(t.ctx, 1<<40))
	t.refuses(vetting.NotFound)(t.store.Device(t.ctx, w.Product.ID)) // an ID, but of something else
}

func deviceHistory(t *trial) {
	w := t.world(10, full(0), full(1))
	one := t.enrol(first(0), vetting.ReasonVetted)
	two := t.enrol(Claim(Unit(0).BootstrapKey, Key("other", 0)), vetting.ReasonReplaced)
	t.use(two.Certificate)
	three := t.enrol(first(0), vetting.ReasonBootstrapSpent)
	t.enrol(first(1), vetting.ReasonVetted) // of another device
	claim := full(2)
	claim.MAC = full(0).MAC
	w.Load(t, claim)
	h := ok(t.store.DeviceHistory(t.ctx, one.DeviceID))(t)
	same(t, "the device", &h.Device, t.device(one.DeviceID))
	same(t, "the record", &h.Record, t.facts(first(0)).Record)
	same(t, "the certificates", h.Certificates, []*vetting.Certificate{t.cert(two.Certificate), t.cert(one.Certificate)})
	same(t, "the registrations", h.Registrations, []*vetting.Registration{three, two, one})
	same(t, "the evidence", h.Evidence, ok(t.store.Evidence(t.ctx, vetting.EvidenceFilter{DeviceID: one.DeviceID}, vetting.Page{}))(t))
	if len(h.Evidence) != 2 || h.Evidence[0].Kind != vetting.EvidenceDuplicateMAC || h.Evidence[1].Kind != vetting.EvidenceSpentKey {
		t.Errorf("the evidence is %+v", h.Evidence)
	}
	if len(h.Disputes) != 1 || h.Disputes[0].RecordID != one.DeviceID {
		t.Errorf("the disputes are %+v", h.Disputes)
	}
	t.refuses(vetting.NotFound)(t.store.DeviceHistory(t.ctx, 1<<40))
}

func deviceTally(t *trial) {
	empty := vetting.Tally{Devices: map[vetting.DeviceState]int64{}, Registrations: map[vetting.Outcome]int64{}, Evidence: map[vetting.EvidenceKind]int64{}, Jobs: map[vetting.JobState]int64{}}
	same(t, "of nothing", ok(t.store.Tally(t.ctx))(t), empty)
	f := t.fleet()
	for _, s := range []vetting.DeviceState{vetting.DeviceRegistered, vetting.DeviceIssued, vetting.DeviceIssued, vetting.DeviceActive, vetting.DeviceScrapped} {
		f.unit(s)
	}
	t.enrol(Claim(Key("stranger", 0), Key("official", 99)), vetting.ReasonUnknownDevice)
	t.enrol(first(3), vetting.ReasonBootstrapSpent)
	t.owner("acme")
	t.offer(vetting.Manufacturer, "acme", 3)
	t.plan(task(vetting.JobRevoke))
	same(t, "of a fleet", ok(t.store.Tally(t.ctx))(t), vetting.Tally{
		Devices:       map[vetting.DeviceState]int64{vetting.DeviceRegistered: 1, vetting.DeviceIssued: 2, vetting.DeviceActive: 1, vetting.DeviceScrapped: 1},
		Registrations: map[vetting.Outcome]int64{vetting.Held: 1, vetting.Admitted: 4, vetting.Refused: 2},
		Evidence:      map[vetting.EvidenceKind]int64{vetting.EvidenceUnknownDevice: 1, vetting.EvidenceSpentKey: 1},
		OpenOrders:    1,
		Jobs:          map[vetting.JobState]int64{vetting.JobPlanned: 1},
		Offers:        1,
	})
}
