package store_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/touchmark/touchmark/internal/store"
	"github.com/touchmark/touchmark/internal/store/storetest"
	"github.com/touchmark/touchmark/vetting"
)

// seeds are the runs that every test makes; TOUCHMARK_SEED adds one.
func seeds(t *testing.T) []uint64 {
	list := []uint64{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}
	if s := os.Getenv("TOUCHMARK_SEED"); s != "" {
		n, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatalf("TOUCHMARK_SEED: %v", err)
		}
		list = append(list, n)
	}
	return list
}

// Whatever is done to a store in whatever order, it answers as the model
// does, holds what the model holds, and its log accounts for all of it.
func TestStoreFollowsTheModel(t *testing.T) {
	seen := map[string]int{}
	for db := range storetest.Databases(t) {
		for _, seed := range seeds(t) {
			t.Run(fmt.Sprintf("%s/seed=%d", db, seed), func(t *testing.T) {
				r := newRun(t, storetest.Databases(t)[db], seed, seen)
				for step := range 300 {
					name := r.step()
					if t.Failed() {
						t.Fatalf("at step %d, %s", step, name)
					}
				}
				r.compare()
				verify(t, r.world.Store)
			})
		}
	}
	for _, want := range []string{"admitted", "held", "refused", "renewed", "replaced", "repeated", "let in", "turned away", "disputed", "reopened", "revoked", "cloned", "readmitted",
		"transfer accepted", "transfer withdrawn", "transfer declined", "transfer expired", "transfer reversed", "came to its owner",
		"told good", "told on hold", "told revoked", "told superseded", "told on hold until its first use"} {
		if seen[want] == 0 {
			t.Errorf("no run met %q: the test does not try what it should", want)
		}
	}
}

// run does the same to a store and to the model.
type run struct {
	*testing.T
	ctx   context.Context
	dsn   string
	rand  *rand.Rand
	world *storetest.World
	model *model
	made  int          // units built so far
	ahead atomic.Int64 // of the clock
}

func newRun(t *testing.T, dsn string, seed uint64, seen map[string]int) *run {
	r := &run{T: t, ctx: context.Background(), dsn: dsn, rand: rand.New(rand.NewPCG(seed, 0)),
		model: &model{quantity: 6, order: vetting.OrderOpen, asks: map[string]*modelAsk{}, seen: seen}}
	r.world = storetest.NewWorld(t, r.open(), r.model.quantity)
	for _, name := range modelOwners[1:] {
		if _, err := r.world.Store.CreateOwner(r.ctx, storetest.By, &vetting.Owner{Name: name}); err != nil {
			t.Fatal(err)
		}
	}
	r.load()
	return r
}

func (r *run) open() *store.Store {
	s, err := store.Open(r.ctx, store.Options{DSN: r.dsn, Now: func() time.Time { return time.Now().Add(time.Duration(r.ahead.Load())) }})
	if err != nil {
		r.Fatal(err)
	}
	r.Cleanup(func() { _ = s.Close() })
	return s
}

// step does one thing, more often what devices do than what people do.
func (r *run) step() string {
	steps := []struct {
		weight int
		name   string
		do     func()
	}{
		{30, "first enrolment", r.first}, {20, "renewal", r.renew}, {10, "first use", r.activate},
		{3, "load", r.load}, {3, "duplicate", func() { r.duplicate(pick(r.rand, r.model.units)) }}, {8, "change of order", r.change},
		{6, "decision", r.decide}, {3, "move", r.move}, {1, "revocation", r.revoke}, {2, "readmission", r.readmit}, {14, "transfer", r.trade}, {1, "policy", r.hold}, {1, "reopen", r.reopen}, {2, "compare", r.compare},
	}
	total := 0
	for _, s := range steps {
		total += s.weight
	}
	n := r.rand.IntN(total)
	for _, s := range steps {
		if n -= s.weight; n < 0 {
			s.do()
			return s.name
		}
	}
	panic("unreachable")
}

func (r *run) load() {
	for range 1 + r.rand.IntN(3) {
		u := &modelUnit{record: storetest.Unit(r.made), state: vetting.DeviceManufactured}
		r.made++
		r.world.Load(r, u.record)
		list, err := r.world.Store.Devices(r.ctx, vetting.DeviceFilter{Identity: u.record.Identity}, vetting.Page{})
		if err != nil || len(list) != 1 {
			r.Fatalf("%d devices %s, %v", len(list), u.record.Serial, err)
		}
		u.id = list[0].ID
		r.model.units = append(r.model.units, u)
		if r.rand.IntN(2) == 0 { // else most are let in before anything else happens to them
			r.duplicate(u)
		}
	}
}

// duplicate hands in a record that claims what another holds.
func (r *run) duplicate(u *modelUnit) {
	twin := storetest.Unit(r.made)
	r.made++
	switch r.rand.IntN(3) {
	case 0:
		twin.Serial = u.record.Serial
	case 1:
		twin.MAC = u.record.MAC
	default:
		twin.BootstrapKey = u.record.BootstrapKey
	}
	if m := r.world.Load(r, twin); m.Disputed != 1 {
		r.Errorf("a duplicate of %s: %+v", u.record.Serial, m)
	}
	u.contested = true
	r.model.seen["disputed"]++
}

// key is one of a unit's own few keys or, sometimes, another unit's.
func (r *run) key(u *modelUnit) vetting.Fingerprint {
	if r.rand.IntN(12) == 0 {
		other := pick(r.rand, r.model.units)
		if c := other.current(); c != nil {
			return c.key
		}
		return other.record.BootstrapKey
	}
	return storetest.Key(u.record.Serial, r.rand.IntN(3))
}

func (r *run) first() {
	u := pick(r.rand, r.model.units)
	key := r.key(u)
	if a := r.model.waiting(r.rand); a != nil && r.rand.IntN(3) == 0 { // who was not let in comes again
		u, key = a.unit, a.key
	}
	claim := storetest.Claim(u.record.BootstrapKey, key)
	if r.rand.IntN(3) == 0 {
		claim.Auth = vetting.Auth{Proof: vetting.ProofRig, Key: storetest.Key("rig", 0), Operator: "rig-1", Site: "hsinchu"}
		claim.Asserted = vetting.Identity{Serial: u.record.Serial}
	}
	r.ask(u, askName(u, claim.Auth.Proof, key), claim, r.model.first(u, claim.Auth.Proof, key))
}

func (r *run) renew() {
	u, c := r.certificate()
	if c == nil {
		return
	}
	key := r.key(u)
	r.ask(u, renewalName(c, key), storetest.Renewal(c.serial, key), r.model.renewal(u, c, key))
}

func (r *run) readmit() {
	u := pick(r.rand, r.model.units)
	from := u.state
	ok := r.model.readmit(u)
	if _, err := r.world.Store.ReadmitDevice(r.ctx, storetest.By, u.id, "by chance"); (err == nil) != ok {
		r.Errorf("%s, which was %s, readmitted: %v", u.record.Serial, from, err)
	}
}

// certificate is any that was issued, more often a current one.
func (r *run) certificate() (*modelUnit, *modelCert) {
	u := pick(r.rand, r.model.units)
	if len(u.certs) == 0 {
		return u, nil
	}
	if r.rand.IntN(4) == 0 {
		return u, pick(r.rand, u.certs)
	}
	return u, u.current()
}

// ask lets the store answer a request that the model has answered.
func (r *run) ask(u *modelUnit, ask string, claim vetting.Claim, want answer) {
	v, der, err := storetest.Enrol(r.ctx, r.world.Store, claim)
	if err != nil {
		r.Fatal(err)
	}
	if v.Outcome != want.outcome {
		r.Fatalf("%s asked by %s: %s (%s), the model says %s", u.record.Serial, claim.Auth.Proof, v.Outcome, v.Text(), want.outcome)
	}
	made := &modelCert{key: claim.Key, state: vetting.CertificateValid, der: string(der), held: r.model.held}
	switch {
	case want.repeat != nil:
		r.model.seen["repeated"]++
		if string(der) != want.repeat.der {
			r.Errorf("%s asked again and got another certificate", u.record.Serial)
		}
	case want.outcome == vetting.Admitted:
		d, err := r.world.Store.Device(r.ctx, u.id)
		if err != nil {
			r.Fatal(err)
		}
		made.serial = d.Certificate
	}
	r.model.settle(u, ask, want, made)
}

func (r *run) activate() {
	u, c := r.certificate()
	if c == nil {
		return
	}
	if err := r.world.Store.Activate(r.ctx, c.serial); err != nil {
		r.Fatal(err)
	}
	r.model.activate(u, c)
}

func (r *run) change() {
	m := r.model
	var c vetting.OrderChange
	ok := true
	if r.rand.IntN(2) == 0 {
		q := max(1, m.issued-1+r.rand.Int64N(5))
		c.Quantity = &q
		ok = q >= m.issued+m.wasted
	} else {
		states := []vetting.OrderState{vetting.OrderOpen, vetting.OrderOpen, vetting.OrderClosed, vetting.OrderDraft}
		s := pick(r.rand, states)
		c.State = &s
		o := vetting.Order{State: m.order}
		ok = s == m.order || o.MayBecome(s)
	}
	_, err := r.world.Store.ChangeOrder(r.ctx, storetest.By, "po-1", c)
	if (err == nil) != ok {
		r.Errorf("change %+v of a %s order with %d of %d: %v", c, m.order, m.issued, m.quantity, err)
	}
	if err != nil {
		return
	}
	if c.Quantity != nil {
		m.quantity = *c.Quantity
	}
	if c.State != nil {
		m.order = *c.State
	}
}

// decide gives a person's word on one registration that waits, if any.
func (r *run) decide() {
	waiting, err := r.world.Store.Registrations(r.ctx, vetting.RegistrationFilter{Undecided: true}, vetting.Page{})
	if err != nil {
		r.Fatal(err)
	}
	known := 0
	for _, a := range r.model.asks {
		if a.outcome == vetting.Held && !a.decided {
			known++
		}
	}
	if len(waiting) != known {
		r.Fatalf("%d registrations wait, the model has %d", len(waiting), known)
	}
	if len(waiting) == 0 {
		return
	}
	w := pick(r.rand, waiting)
	u := r.unit(w.DeviceID)
	letIn := r.rand.IntN(2) == 0
	if _, err := r.world.Store.DecideRegistration(r.ctx, storetest.By, w.ID, vetting.Decision{Admit: letIn, By: "petra", Note: "seen"}); err != nil {
		r.Fatal(err)
	}
	name := askName(u, w.Claim.Auth.Proof, w.Claim.Key)
	var presented *modelCert
	for _, c := range u.certs {
		if c.serial == w.Claim.Auth.Certificate {
			presented, name = c, renewalName(c, w.Claim.Key)
		}
	}
	a := r.model.asks[name]
	a.decided, a.letsIn = true, letIn
	r.model.seen[map[bool]string{true: "let in", false: "turned away"}[letIn]]++
	// The device comes back at once, so that the word gets used.
	claim := w.Claim
	if presented != nil {
		r.ask(u, name, claim, r.model.renewal(u, presented, claim.Key))
	} else {
		r.ask(u, name, claim, r.model.first(u, claim.Auth.Proof, claim.Key))
	}
}

func (r *run) unit(id int64) *modelUnit {
	for _, u := range r.model.units {
		if u.id == id {
			return u
		}
	}
	r.Fatalf("the model has no device %d", id)
	return nil
}

func (r *run) move() {
	u := pick(r.rand, r.model.units)
	to := pick(r.rand, vetting.DeviceStates)
	if to == vetting.DeviceScrapped && r.rand.IntN(4) > 0 {
		to = vetting.DeviceQuarantined
	}
	from := u.state
	ok := r.model.move(u, to)
	if _, err := r.world.Store.SetDeviceState(r.ctx, storetest.By, u.id, to, "by chance"); (err == nil) != ok {
		r.Errorf("%s from %s to %s: %v", u.record.Serial, from, to, err)
	}
}

func (r *run) revoke() {
	u := pick(r.rand, r.model.units)
	ok := r.model.revoke(u)
	if _, err := r.world.Store.RevokeDevice(r.ctx, storetest.By, u.id, vetting.RevokedKeyCompromise, "by chance"); (err == nil) != ok {
		r.Errorf("%s, %s, revoked: %v", u.record.Serial, u.state, err)
	}
}

func (r *run) reopen() {
	if err := r.world.Store.Close(); err != nil {
		r.Fatal(err)
	}
	r.world.Store = r.open()
	r.model.seen["reopened"]++
}

// compare holds everything against the model.
func (r *run) compare() {
	m := r.model
	o, err := r.world.Store.Order(r.ctx, "po-1")
	if err != nil || o.Issued != m.issued || o.Wasted != m.wasted || o.Quantity != m.quantity || o.State != m.order {
		r.Fatalf("order %+v, %v; the model has %d of %d, %s", o, err, m.issued, m.quantity, m.order)
	}
	if m.issued+m.wasted > m.quantity {
		r.Fatalf("%d of %d units", m.issued, m.quantity)
	}
	took := int64(0)
	for _, u := range m.units {
		if u.took {
			took++
		}
		r.compareUnit(u)
	}
	r.compareOwners()
	r.compareStatuses()
	if took != m.issued {
		r.Errorf("%d devices took %d units", took, m.issued)
	}
}

func (r *run) compareUnit(u *modelUnit) {
	h, err := r.world.Store.DeviceHistory(r.ctx, u.id)
	if err != nil {
		r.Fatal(err)
	}
	d := h.Device
	if d.State != u.state || d.Before != u.before || d.Contested != u.contested || len(h.Certificates) != len(u.certs) {
		r.Errorf("%s is %s (before: %q, contested: %v, %d certificates), the model has %+v", d.Serial, d.State, d.Before, d.Contested, len(h.Certificates), u)
		return
	}
	valid := 0
	for i, c := range h.Certificates { // newest first
		want := u.certs[len(u.certs)-1-i]
		if c.Serial != want.serial || c.State != want.state || c.Key != want.key || string(c.DER) != want.der || c.Used.IsZero() == want.used || (c.Reason == 3) != want.handedOver {
			r.Errorf("%s: certificate %s is %s, used %v; the model has %s, %s, %v", d.Serial, c.Serial, c.State, c.Used, want.serial, want.state, want.used)
		}
		if c.State == vetting.CertificateValid {
			valid++
		}
	}
	if valid > 1 {
		r.Errorf("%s has %d valid certificates", d.Serial, valid)
	}
	if c := u.current(); c != nil && (d.Certificate != c.serial || d.Key != c.key) {
		r.Errorf("%s holds %s on %s, the model has %s on %s", d.Serial, d.Certificate, d.Key, c.serial, c.key)
	}
}
