package storetest

import (
	"fmt"
	"sync"
	"time"

	"github.com/touchmark/touchmark/internal/audit"
	"github.com/touchmark/touchmark/vetting"
)

var transferCases = []conformance{
	{"a transfer ends what the device had, and lets it come to the next owner", transferAccepted},
	{"with the certificate that ended a device comes once", transferComesOnce},
	{"a copy of the certificate that ended is found", transferCopied},
	{"a copy of an earlier certificate is found", transferCopiedBefore},
	{"a renewal's answer was lost, then the device changed hands", transferLost},
	{"a device on its way to its owner is revoked", transferRevoked},
	{"a device that was never powered on changes hands", transferUnused},
	{"an offer that makes no sense is refused", transferRefused},
	{"an offer is open for its time, and until it is answered", transferOpen},
	{"of two who accept, one does", transferTwice},
	{"a transfer is reversed", transferReversed},
	{"devices out of service do not change hands, but come back", transferOutOfService},
	{"transfers and their devices are listed", transferLists},
}

func (t *trial) owner(name string) *vetting.Owner {
	t.Helper()
	return ok(t.store.CreateOwner(t.ctx, By, &vetting.Owner{Name: name}))(t)
}

// offer offers the units, by number.
func (t *trial) offer(from, to string, units ...int) *vetting.Transfer {
	t.Helper()
	return ok(t.store.OfferTransfer(t.ctx, By, offerOf(from, to, units...)))(t)
}

func offerOf(from, to string, units ...int) vetting.Offer {
	o := vetting.Offer{From: from, To: to, Note: "sold"}
	for _, n := range units {
		o.Serials = append(o.Serials, Unit(n).Serial)
	}
	return o
}

// transferred is unit 0, active, given to acme.
func (t *trial) transferred() (before, after *vetting.Device, tr *vetting.Transfer) {
	t.Helper()
	t.owner("acme")
	before, _ = t.copied()
	tr = ok(t.store.AcceptTransfer(t.ctx, By, t.offer(vetting.Manufacturer, "acme", 0).ID, "received"))(t)
	return before, t.device(before.ID), tr
}

func transferAccepted(t *trial) {
	t.world(1, Unit(0))
	t.owner("acme")
	d, old := t.copied()
	offer := t.offer(vetting.Manufacturer, "acme", 0)
	if offer.State != vetting.TransferOffered || offer.Devices != 1 || len(offer.Steps) != 1 || !offer.Expires.Equal(offer.Steps[0].At.Add(vetting.DefaultOfferTime)) {
		t.Errorf("the offer is %+v", offer)
	}
	if now := t.device(d.ID); now.Owner != "" || now.Transfer != offer.ID || now.State != d.State || now.Certificate != d.Certificate {
		t.Errorf("offered, the device is %+v", now)
	}
	leaf := t.leaves()
	done := ok(t.store.AcceptTransfer(t.ctx, By, offer.ID, "received"))(t)
	if done.State != vetting.TransferAccepted || len(done.Steps) != 2 || done.Steps[1].Note != "received" || t.leaves() != leaf+1 {
		t.Errorf("accepted: %+v, %d new leaves", done, t.leaves()-leaf)
	}
	if l := t.leaf(leaf); l.Act != "transfer.accept" || l.By != "operator:test" || len(l.Objects) != 4 || l.Objects[0].Kind != audit.KindTransfer {
		t.Errorf("the leaf is %+v", l)
	}
	now := t.second()
	dev := ok(now.Device(t.ctx, d.ID))(t)
	if dev.Owner != "acme" || dev.State != vetting.DeviceManufactured || !dev.Readmitted() || !dev.Activated.IsZero() || !dev.Issued.Equal(d.Issued) {
		t.Errorf("the device is %+v", dev)
	}
	for _, serial := range []string{old, d.Certificate} {
		if c := t.cert(serial); c.State != vetting.CertificateRevoked || c.Reason != 3 || c.Revoked.IsZero() {
			t.Errorf("its certificate is %+v", c)
		}
	}
	h := ok(t.store.DeviceHistory(t.ctx, d.ID))(t)
	if len(h.Certificates) != 2 || len(h.Registrations) != 2 {
		t.Errorf("of its history there is %+v", h)
	}
}

func transferComesOnce(t *trial) {
	t.world(1, Unit(0))
	d, now, _ := t.transferred()
	for range 2 { // its use makes nothing active
		t.done(activate(t.ctx, t.store, d.Certificate))
	}
	same(t, "used for something else", t.device(d.ID), now)
	claim := Renewal(d.Certificate, Key("anew", 0))
	r := t.enrol(claim, vetting.ReasonReadmitted)
	if dev := t.deviceOf(r); dev.State != vetting.DeviceIssued || dev.Owner != "acme" || dev.Key != Key("anew", 0) || t.issued("po-1") != 1 {
		t.Errorf("the device is %+v", dev)
	}
	if v := t.propose(claim).Verdict; v.Reasons[0].Code != vetting.ReasonRepeated {
		t.Errorf("its answer was lost: %s", v.Text())
	}
	t.enrol(Renewal(d.Certificate, Key("other", 0)), vetting.ReasonTwoRenewals)
	t.use(r.Certificate)
	if dev := t.device(d.ID); dev.State != vetting.DeviceActive || dev.Certificate != r.Certificate {
		t.Errorf("used, the device is %+v", dev)
	}
	if c := t.cert(d.Certificate); c.State != vetting.CertificateRevoked || c.Reason != 3 {
		t.Errorf("the certificate from before is %+v", c)
	}
}

func transferCopied(t *trial) {
	t.world(1, Unit(0))
	d, _, _ := t.transferred()
	t.use(t.enrol(Renewal(d.Certificate, Key("anew", 0)), vetting.ReasonReadmitted).Certificate)
	t.enrol(Renewal(d.Certificate, Key("clone", 0)), vetting.ReasonSuperseded)
	if dev := t.device(d.ID); dev.State != vetting.DeviceQuarantined || dev.Owner != "acme" {
		t.Errorf("the device is %+v", dev)
	}
	if c := t.cert(d.Certificate); c.State != vetting.CertificateRevoked || c.Reason != 3 {
		t.Errorf("the certificate from before is %+v", c)
	}
}

func transferCopiedBefore(t *trial) {
	t.world(1, Unit(0))
	t.owner("acme")
	d, old := t.copied()
	ok(t.store.AcceptTransfer(t.ctx, By, t.offer(vetting.Manufacturer, "acme", 0).ID, ""))(t)
	t.enrol(Renewal(old, Key("clone", 0)), vetting.ReasonSuperseded)
	if dev := t.device(d.ID); dev.State != vetting.DeviceQuarantined || dev.Before != vetting.DeviceManufactured {
		t.Errorf("the device is %+v", dev)
	}
	t.enrol(Renewal(d.Certificate, Key("anew", 0)), vetting.ReasonNotInService)
	ok(t.store.SetDeviceState(t.ctx, By, d.ID, vetting.DeviceManufactured, "looked at it"))(t)
	t.enrol(Renewal(d.Certificate, Key("anew", 0)), vetting.ReasonReadmitted)
	for _, serial := range []string{old, d.Certificate} {
		if c := t.cert(serial); c.State != vetting.CertificateRevoked || c.Reason != 3 {
			t.Errorf("its certificate is %+v", c)
		}
	}
}

func transferLost(t *trial) {
	t.world(1, Unit(0))
	t.owner("acme")
	old := t.admit(0).Certificate
	claim := Renewal(old, Key("second", 0))
	lost := t.enrol(claim, vetting.ReasonRenewed).Certificate
	ok(t.store.AcceptTransfer(t.ctx, By, t.offer(vetting.Manufacturer, "acme", 0).ID, ""))(t)
	t.enrol(Renewal(old, Key("other", 0)), vetting.ReasonSuperseded)
	r := t.enrol(claim, vetting.ReasonReadmitted)
	if dev := t.deviceOf(r); dev.State != vetting.DeviceIssued || dev.Owner != "acme" || r.Certificate == lost {
		t.Errorf("the device is %+v", dev)
	}
}

// Between the transfer and its first certificate there, a key that leaked is
// still the way to the new owner, until somebody says so.
func transferRevoked(t *trial) {
	t.world(2, Unit(0), Unit(1))
	t.owner("acme")
	for n, revoke := range []func(d *vetting.Device) error{
		func(d *vetting.Device) error {
			_, err := t.store.RevokeDevice(t.ctx, By, d.ID, vetting.RevokedKeyCompromise, "leaked")
			return err
		},
		func(d *vetting.Device) error {
			_, err := t.store.RevokeCertificate(t.ctx, By, d.Certificate, vetting.RevokedKeyCompromise, "leaked")
			return err
		},
	} {
		d := t.admit(n)
		ok(t.store.AcceptTransfer(t.ctx, By, t.offer(vetting.Manufacturer, "acme", n).ID, ""))(t)
		before, leaf := t.cert(d.Certificate), t.leaves()
		if v := t.propose(Renewal(d.Certificate, Key("anew", n))).Verdict; v.Reasons[0].Code != vetting.ReasonReadmitted {
			t.Fatalf("before: %s", v.Text())
		}
		t.done(revoke(d))
		if c := t.cert(d.Certificate); c.State != vetting.CertificateRevoked || c.Reason != 1 || !c.Revoked.Equal(before.Revoked) {
			t.Errorf("the certificate is %+v", c)
		}
		if l := t.leaf(leaf); t.leaves() != leaf+1 || l.Note != "keyCompromise: leaked" || len(l.Objects) != 2 {
			t.Errorf("%d leaves, %+v", t.leaves()-leaf, l)
		}
		t.enrol(Renewal(d.Certificate, Key("anew", n)), vetting.ReasonCertificateEnded)
		t.enrol(Renewal(d.Certificate, d.Key), vetting.ReasonCertificateEnded)
		t.refuses(vetting.Conflict)(nil, revoke(d))
		t.enrol(Claim(Unit(n).BootstrapKey, d.Key), vetting.ReasonKeyInUse) // by its first proof on another key only
		t.enrol(Claim(Unit(n).BootstrapKey, Key("anew", n)), vetting.ReasonReadmitted)
	}
}

func transferUnused(t *trial) {
	t.world(1, Unit(0))
	t.owner("acme")
	ok(t.store.AcceptTransfer(t.ctx, By, t.offer(vetting.Manufacturer, "acme", 0).ID, ""))(t)
	f := t.facts(first(0))
	if f.Owner == nil || f.Owner.Name != "acme" || f.Device.Readmitted() || f.Device.State != vetting.DeviceManufactured {
		t.Errorf("the facts are %+v, of %+v", f.Device, f.Owner)
	}
	if d := t.admit(0); d.Owner != "acme" || t.issued("po-1") != 1 {
		t.Errorf("the device is %+v", d)
	}
}

func transferRefused(t *trial) {
	t.world(3, Unit(0), Unit(1), Unit(2))
	t.owner("acme")
	t.owner("beta")
	open := t.offer(vetting.Manufacturer, "acme", 0)
	for name, c := range map[string]struct {
		offer vetting.Offer
		want  vetting.Problem
	}{
		"to itself":           {offerOf(vetting.Manufacturer, vetting.Manufacturer, 1), vetting.Invalid},
		"no device":           {offerOf(vetting.Manufacturer, "acme"), vetting.Invalid},
		"a device twice":      {offerOf(vetting.Manufacturer, "acme", 1, 1), vetting.Invalid},
		"too many devices":    {vetting.Offer{From: vetting.Manufacturer, To: "acme", Serials: make([]string, vetting.MaxTransferred+1)}, vetting.Invalid},
		"no time":             {vetting.Offer{From: vetting.Manufacturer, To: "acme", Serials: []string{Unit(1).Serial}, Time: time.Second}, vetting.Invalid},
		"to nobody":           {offerOf(vetting.Manufacturer, "none", 1), vetting.NotFound},
		"from nobody":         {offerOf("none", "acme", 1), vetting.NotFound},
		"another's":           {offerOf("beta", "acme", 1), vetting.NotFound},
		"unknown":             {offerOf(vetting.Manufacturer, "acme", 9), vetting.NotFound},
		"of another product":  {vetting.Offer{From: vetting.Manufacturer, To: "acme", Serials: []string{Unit(1).Serial}, Product: "lamp"}, vetting.NotFound},
		"offered already":     {offerOf(vetting.Manufacturer, "beta", 1, 0), vetting.Conflict},
		"offered to the same": {offerOf(vetting.Manufacturer, "acme", 0), vetting.Conflict},
	} {
		before := t.leaves()
		if _, err := t.store.OfferTransfer(t.ctx, By, c.offer); vetting.ProblemOf(err) != c.want || t.leaves() != before {
			t.Errorf("%s: %v", name, err)
		}
	}
	if d := t.deviceOfUnit(1); d.Transfer != 0 || d.Revision != 0 {
		t.Errorf("a device that was offered with others is %+v", d)
	}
	for _, id := range []int64{open.ID + 1000, 1} {
		t.refuses(vetting.NotFound)(t.store.AcceptTransfer(t.ctx, By, id, ""))
		t.refuses(vetting.NotFound)(t.store.DeclineTransfer(t.ctx, By, id, ""))
		t.refuses(vetting.NotFound)(t.store.WithdrawTransfer(t.ctx, By, id, ""))
		t.refuses(vetting.NotFound)(t.store.ReverseTransfer(t.ctx, By, id, ""))
	}
	t.refuses(vetting.Conflict)(t.store.ReverseTransfer(t.ctx, By, open.ID, "not accepted yet"))
}

func (t *trial) deviceOfUnit(n int) *vetting.Device {
	t.Helper()
	list := ok(t.store.Devices(t.ctx, vetting.DeviceFilter{Identity: Unit(n).Identity}, vetting.Page{}))(t)
	if len(list) != 1 {
		t.Fatalf("%d devices are unit %d", len(list), n)
	}
	return list[0]
}

func transferOpen(t *trial) {
	s, set := t.clocked()
	start := time.Now().Add(time.Hour) // ahead of what the trial's own store has written
	set(start)
	t.store = s
	t.world(2, Unit(0), Unit(1))
	t.owner("acme")
	t.owner("beta")
	gone := t.offer(vetting.Manufacturer, "acme", 0)
	back := t.offer(vetting.Manufacturer, "acme", 1)
	same(t, "withdrawn", ok(s.WithdrawTransfer(t.ctx, By, back.ID, "a mistake"))(t).State, vetting.TransferWithdrawn)
	for _, answer := range []func() (*vetting.Transfer, error){
		func() (*vetting.Transfer, error) { return s.AcceptTransfer(t.ctx, By, back.ID, "") },
		func() (*vetting.Transfer, error) { return s.WithdrawTransfer(t.ctx, By, back.ID, "") },
		func() (*vetting.Transfer, error) { return s.DeclineTransfer(t.ctx, By, back.ID, "") },
		func() (*vetting.Transfer, error) { return s.ReverseTransfer(t.ctx, By, back.ID, "") },
	} {
		t.refuses(vetting.Conflict)(answer())
	}
	unwanted := t.offer(vetting.Manufacturer, "beta", 1) // it is free again
	same(t, "declined", ok(s.DeclineTransfer(t.ctx, By, unwanted.ID, "not ordered"))(t).State, vetting.TransferDeclined)
	t.refuses(vetting.Conflict)(s.AcceptTransfer(t.ctx, By, unwanted.ID, "after all"))
	t.offer(vetting.Manufacturer, "beta", 1) // and again
	set(gone.Expires)
	same(t, "its time is over", ok(s.Transfer(t.ctx, gone.ID))(t).State, vetting.TransferExpired)
	t.refuses(vetting.Conflict)(s.AcceptTransfer(t.ctx, By, gone.ID, "too late"))
	again := t.offer(vetting.Manufacturer, "beta", 0)
	ok(s.AcceptTransfer(t.ctx, By, again.ID, ""))(t)
	same(t, "the owner", t.deviceOfUnit(0).Owner, "beta")
}

func transferTwice(t *trial) {
	t.world(1, Unit(0))
	t.owner("acme")
	t.admit(0)
	id := t.offer(vetting.Manufacturer, "acme", 0).ID
	other := t.second()
	errs := make([]error, 4)
	var wg sync.WaitGroup
	for i := range errs {
		wg.Go(func() {
			s := t.store
			if i%2 == 0 {
				s = other
			}
			_, errs[i] = s.AcceptTransfer(t.ctx, By, id, "")
		})
	}
	wg.Wait()
	conflicts := 0
	for _, err := range errs {
		if vetting.ProblemOf(err) == vetting.Conflict {
			conflicts++
		}
	}
	if conflicts != len(errs)-1 {
		t.Errorf("of %d one should accept: %v", len(errs), errs)
	}
	key := keyed("anna", "k", "accept")
	t.owner("beta")
	next := t.offer("acme", "beta", 0)
	for range 2 {
		same(t, "repeated under a key", ok(t.store.AcceptTransfer(t.ctx, key, next.ID, ""))(t).State, vetting.TransferAccepted)
	}
}

func transferReversed(t *trial) {
	t.world(1, Unit(0))
	d, _, tr := t.transferred()
	came := t.enrol(Renewal(d.Certificate, Key("anew", 0)), vetting.ReasonReadmitted)
	t.owner("beta")
	later := t.offer("acme", "beta", 0)
	t.refuses(vetting.Conflict)(t.store.ReverseTransfer(t.ctx, By, tr.ID, "it stands in another"))
	ok(t.store.WithdrawTransfer(t.ctx, By, later.ID, ""))(t)
	back := t.offer("acme", vetting.Manufacturer, 0)
	ok(t.store.AcceptTransfer(t.ctx, By, back.ID, "returned"))(t)
	if dev := t.device(d.ID); dev.Owner != "" || !dev.Readmitted() {
		t.Errorf("returned, the device is %+v", dev)
	}
	now := ok(t.store.ReverseTransfer(t.ctx, By, back.ID, "the wrong device"))(t)
	if now.State != vetting.TransferReversed || len(now.Steps) != 3 {
		t.Errorf("the transfer is %+v", now)
	}
	dev := t.device(d.ID)
	if dev.Owner != "acme" || !dev.Readmitted() {
		t.Errorf("reversed, the device is %+v", dev)
	}
	if c := t.cert(came.Certificate); c.State != vetting.CertificateRevoked || c.Reason != 3 {
		t.Errorf("the certificate is %+v", c)
	}
	// It slept through both, and comes with what it has.
	t.enrol(Renewal(d.Certificate, Key("fourth", 0)), vetting.ReasonSuperseded)
	t.enrol(Renewal(came.Certificate, Key("fourth", 0)), vetting.ReasonReadmitted)
	t.refuses(vetting.Conflict)(t.store.ReverseTransfer(t.ctx, By, back.ID, "twice"))
}

func transferOutOfService(t *trial) {
	t.world(2, Unit(0), Unit(1))
	t.owner("acme")
	d := t.admit(0)
	ok(t.store.SetDeviceState(t.ctx, By, d.ID, vetting.DeviceQuarantined, "test"))(t)
	t.refuses(vetting.Conflict)(t.store.OfferTransfer(t.ctx, By, offerOf(vetting.Manufacturer, "acme", 0)))
	ok(t.store.SetDeviceState(t.ctx, By, d.ID, d.State, "test"))(t)
	tr := t.offer(vetting.Manufacturer, "acme", 0, 1)
	ok(t.store.SetDeviceState(t.ctx, By, d.ID, vetting.DeviceQuarantined, "test"))(t)
	t.refuses(vetting.Conflict)(t.store.AcceptTransfer(t.ctx, By, tr.ID, ""))
	same(t, "the other's owner", t.deviceOfUnit(1).Owner, "")
	ok(t.store.SetDeviceState(t.ctx, By, d.ID, d.State, "test"))(t)
	ok(t.store.AcceptTransfer(t.ctx, By, tr.ID, ""))(t)
	ok(t.store.SetDeviceState(t.ctx, By, d.ID, vetting.DeviceScrapped, "crushed"))(t)
	ok(t.store.ReverseTransfer(t.ctx, By, tr.ID, "not paid"))(t)
	for n, state := range []vetting.DeviceState{vetting.DeviceScrapped, vetting.DeviceManufactured} {
		if dev := t.deviceOfUnit(n); dev.Owner != "" || dev.State != state {
			t.Errorf("reversed, unit %d is %+v", n, dev)
		}
	}
	t.enrol(Renewal(d.Certificate, Key("anew", 0)), vetting.ReasonNotInService)
}

func transferLists(t *trial) {
	var units []vetting.Record
	for n := range 5 {
		units = append(units, Unit(n))
	}
	t.world(5, units...)
	t.owner("acme")
	t.owner("beta")
	one := t.offer(vetting.Manufacturer, "acme", 0, 1, 2)
	ok(t.store.AcceptTransfer(t.ctx, By, one.ID, ""))(t)
	t.offer("acme", "beta", 1)
	t.offer(vetting.Manufacturer, "beta", 4)
	for name, c := range map[string]struct {
		filter vetting.TransferFilter
		want   int
	}{
		"all": {vetting.TransferFilter{}, 3}, "acme": {vetting.TransferFilter{Parties: []string{"acme"}}, 2}, "beta": {vetting.TransferFilter{Parties: []string{"beta"}}, 2},
		"accepted": {vetting.TransferFilter{State: vetting.TransferAccepted}, 1}, "offered": {vetting.TransferFilter{State: vetting.TransferOffered}, 2},
		"expired": {vetting.TransferFilter{State: vetting.TransferExpired}, 0},
		"both":    {vetting.TransferFilter{Parties: []string{vetting.Manufacturer}, State: vetting.TransferOffered}, 1},
		"between": {vetting.TransferFilter{Parties: []string{"beta", "acme"}}, 1},
	} {
		list := ok(t.store.Transfers(t.ctx, c.filter, vetting.Page{}))(t)
		same(t, name, len(list), c.want)
	}
	pages(t, 3, true, func(p vetting.Page) ([]*vetting.Transfer, error) {
		return t.store.Transfers(t.ctx, vetting.TransferFilter{}, p)
	},
		func(tr *vetting.Transfer) int64 { return tr.ID })
	pages(t, 3, false, func(p vetting.Page) ([]*vetting.Device, error) { return t.store.TransferDevices(t.ctx, one.ID, p) },
		func(d *vetting.Device) int64 { return d.ID })
	for owner, want := range map[string]int{"acme": 3, "beta": 0, vetting.Manufacturer: 2, "none": 0} {
		list := ok(t.store.Devices(t.ctx, vetting.DeviceFilter{Owner: owner}, vetting.Page{}))(t)
		same(t, fmt.Sprintf("devices of %s", owner), len(list), want)
	}
	t.refuses(vetting.NotFound)(t.store.TransferDevices(t.ctx, 1, vetting.Page{}))
	t.refuses(vetting.NotFound)(t.store.Transfers(t.ctx, vetting.TransferFilter{Parties: []string{"none"}}, vetting.Page{}))
}
