package storetest

import (
	"errors"
	"time"

	"github.com/touchmark/touchmark/enroll"
	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/vetting"
)

var staleCases = []conformance{
	{"a verdict whose basis changed writes nothing", commitStale},
	{"a verdict whose basis stands is written", commitNotStale},
	{"a certificate fits its verdict", commitMisfit},
	{"a serial number is issued once", commitSerialTaken},
}

// overtake is what may happen between a verdict and its commit.
type overtake struct {
	claim vetting.Claim
	want  vetting.Code // the verdict's reason
	then  func()
}

// refusesCommit checks that a commit is refused and that nothing was written.
func (t *trial) refusesCommit(what string, c enroll.Commit, stale bool) {
	t.Helper()
	head := ok(t.store.Head(t.ctx))(t)
	device, order := t.device(c.Facts.Record.ID), ok(t.store.Order(t.ctx, c.Facts.Order.Name))(t)
	registrations := ok(t.store.Registrations(t.ctx, vetting.RegistrationFilter{}, vetting.Page{}))(t)
	if _, err := t.store.Commit(t.ctx, c); err == nil || errors.Is(err, enroll.ErrStale) != stale {
		t.Errorf("%s: the error is %v", what, err)
	}
	if now := ok(t.store.Head(t.ctx))(t); now.Root() != head.Root() {
		t.Errorf("%s: the log grew", what)
	}
	same(t, what+": the device", t.device(c.Facts.Record.ID), device)
	same(t, what+": the order", ok(t.store.Order(t.ctx, c.Facts.Order.Name))(t), order)
	same(t, what+": the registrations", ok(t.store.Registrations(t.ctx, vetting.RegistrationFilter{}, vetting.Page{}))(t), registrations)
}

func commitStale(t *trial) {
	w := t.world(10)
	name := ""
	unit := 0
	// next makes an order of its own for each case, with two units
	next := func(what string, state vetting.OrderState) (a, b int) {
		t.Helper()
		name = "po-" + Key(what, 0).String()[:8]
		a, b = unit, unit+1
		unit += 2
		w.with(t.order(name, "thermo", "hsinchu", state)).Load(t, full(a), full(b))
		return a, b
	}
	change := func(c vetting.OrderChange) { t.change(name, c) }
	closed, open, cancelled := vetting.OrderClosed, vetting.OrderOpen, vetting.OrderCancelled
	for what, begin := range map[string]func(a, b int) overtake{
		"the device got a certificate": func(a, _ int) overtake {
			return overtake{first(a), vetting.ReasonVetted, func() { t.enrol(first(a), vetting.ReasonVetted) }}
		},
		"the device got one on another key": func(a, _ int) overtake {
			return overtake{first(a), vetting.ReasonVetted, func() { t.enrol(Claim(Unit(a).BootstrapKey, Key("other", a)), vetting.ReasonVetted) }}
		},
		"the device was quarantined": func(a, _ int) overtake {
			return overtake{first(a), vetting.ReasonVetted, func() { t.setState(t.facts(first(a)).Record.ID, vetting.DeviceQuarantined) }}
		},
		"the device was replaced": func(a, _ int) overtake {
			t.admit(a)
			return overtake{Claim(Unit(a).BootstrapKey, Key("other", a)), vetting.ReasonReplaced, func() {
				t.enrol(Claim(Unit(a).BootstrapKey, Key("third", a)), vetting.ReasonReplaced)
			}}
		},
		"the device was activated": func(a, _ int) overtake {
			d := t.admit(a)
			return overtake{Claim(Unit(a).BootstrapKey, Key("other", a)), vetting.ReasonReplaced, func() { t.use(d.Certificate) }}
		},
		"the device was renewed": func(a, _ int) overtake {
			d := t.admit(a)
			return overtake{Renewal(d.Certificate, Key("other", a)), vetting.ReasonRenewed, func() { t.enrol(Renewal(d.Certificate, Key("third", a)), vetting.ReasonRenewed) }}
		},
		"the device was scrapped while it renewed": func(a, _ int) overtake {
			d := t.admit(a)
			return overtake{Renewal(d.Certificate, Key("other", a)), vetting.ReasonRenewed, func() { t.setState(d.ID, vetting.DeviceScrapped) }}
		},
		"the order was closed": func(a, _ int) overtake {
			return overtake{first(a), vetting.ReasonVetted, func() { change(vetting.OrderChange{State: &closed}) }}
		},
		"the order was cancelled before a replacement": func(a, _ int) overtake {
			t.admit(a)
			return overtake{Claim(Unit(a).BootstrapKey, Key("other", a)), vetting.ReasonReplaced, func() { change(vetting.OrderChange{State: &cancelled}) }}
		},
		"the order was changed": func(a, _ int) overtake {
			return overtake{first(a), vetting.ReasonVetted, func() { change(vetting.OrderChange{}) }}
		},
		"the order's last unit went to another": func(a, b int) overtake {
			one := int64(1)
			change(vetting.OrderChange{Quantity: &one})
			return overtake{first(a), vetting.ReasonVetted, func() { t.admit(b) }}
		},
		"the key became another device's": func(a, b int) overtake {
			return overtake{first(a), vetting.ReasonVetted, func() { t.enrol(Claim(Unit(b).BootstrapKey, first(a).Key), vetting.ReasonVetted) }}
		},
		"the key became another unit's bootstrap key": func(a, _ int) overtake {
			return overtake{first(a), vetting.ReasonVetted, func() {
				r := full(1000 + a)
				r.BootstrapKey = first(a).Key
				w.Load(t, r)
			}}
		},
		"the record became contested": func(a, _ int) overtake {
			return overtake{first(a), vetting.ReasonVetted, func() {
				r := full(2000 + a)
				r.Serial = Unit(a).Serial
				w.Load(t, r)
			}}
		},
		"the record became contested before a replacement": func(a, _ int) overtake {
			t.admit(a)
			return overtake{Claim(Unit(a).BootstrapKey, Key("other", a)), vetting.ReasonReplaced, func() {
				r := full(3000 + a)
				r.Serial = Unit(a).Serial
				w.Load(t, r)
			}}
		},
		"the request was held meanwhile": func(a, _ int) overtake {
			return overtake{first(a), vetting.ReasonVetted, func() {
				later := time.Now().AddDate(1, 0, 0)
				change(vetting.OrderChange{NotBefore: &later})
				t.enrol(first(a), vetting.ReasonTooEarly)
			}}
		},
		"the held request was turned away": func(a, _ int) overtake { return t.heldThen(a, change, &open, false) },
		"the held request was let in":      func(a, _ int) overtake { return t.heldThen(a, change, &open, true) },
		"the device came with another key": func(a, _ int) overtake {
			o := t.heldThen(a, change, &open, true)
			o.then = func() { t.enrol(Claim(Unit(a).BootstrapKey, Key("other", a)), vetting.ReasonVetted) }
			return o
		},
	} {
		state := vetting.OrderOpen
		if what == "the held request was turned away" || what == "the held request was let in" || what == "the device came with another key" {
			state = vetting.OrderDraft
		}
		a, b := next(what, state)
		o := begin(a, b)
		commit := t.propose(o.claim)
		if got := commit.Verdict.Reasons[0].Code; got != o.want || commit.Issued == nil {
			t.Fatalf("%s: the verdict is %s", what, commit.Verdict.Text())
		}
		o.then()
		t.refusesCommit(what, commit, true)
	}
}

// heldThen is a request that was held while its order was a draft and may be
// let in now that it is open, if no person's word comes before.
func (t *trial) heldThen(a int, change func(vetting.OrderChange), open *vetting.OrderState, admit bool) overtake {
	held := t.enrol(first(a), vetting.ReasonOrderDraft)
	change(vetting.OrderChange{State: open})
	return overtake{first(a), vetting.ReasonVetted, func() {
		ok(t.store.DecideRegistration(t.ctx, By, held.ID, vetting.Decision{Admit: admit, By: "petra"}))(t)
	}}
}

// A commit does not fail for what its verdict did not rest on.
func commitNotStale(t *trial) {
	w := t.world(3, Unit(0), Unit(1), Unit(2))
	zero, one := t.propose(first(0)), t.propose(first(1))
	ok(t.store.Commit(t.ctx, zero))(t) // units of an order do not wait for each other
	ok(t.store.Commit(t.ctx, one))(t)
	d := t.facts(first(0)).Device
	replaced := t.propose(Claim(Unit(0).BootstrapKey, Key("other", 0)))
	t.admit(2)                            // the order is used up, but a replacement takes no unit
	w.Load(t, Unit(3))                    // more records
	t.product("lamp")                     // more products
	t.operator("x", access.RoleAdmin, "") // more operators
	ok(t.store.Commit(t.ctx, replaced))(t)
	if n := t.issued("po-1"); n != 3 {
		t.Errorf("%d units", n)
	}
	own := t.propose(Claim(Unit(0).BootstrapKey, Unit(0).BootstrapKey)) // a key that only the device itself holds
	ok(t.store.Commit(t.ctx, own))(t)
	if got := t.device(d.ID); got.Key != Unit(0).BootstrapKey {
		t.Errorf("the device's key is %s", got.Key)
	}
}

func commitMisfit(t *trial) {
	w := t.world(10, Unit(0))
	w.with(t.order("po-2", "thermo", "hsinchu", vetting.OrderDraft)).Load(t, Unit(1))
	admitted := t.propose(first(0))
	admitted.Issued = nil
	t.refusesCommit("an admission without a certificate", admitted, false)
	held := t.propose(first(1))
	held.Issued = certificate()
	t.refusesCommit("a held request with a certificate", held, false)
	claim := first(0)
	claim.Asserted.Serial = "SN-9"
	refused := t.propose(claim)
	refused.Issued = certificate()
	t.refusesCommit("a refused request with a certificate", refused, false)
}

func commitSerialTaken(t *trial) {
	t.world(10, Unit(0), Unit(1))
	zero, one := t.propose(first(0)), t.propose(first(1))
	one.Issued.Serial = zero.Issued.Serial
	ok(t.store.Commit(t.ctx, zero))(t)
	t.refusesCommit("a serial number that was issued", one, false)
	t.admit(1)
}
