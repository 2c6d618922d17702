package storetest

import (
	"fmt"
	"sync"

	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/internal/events"
	"github.com/touchmark/touchmark/internal/store"
	"github.com/touchmark/touchmark/vetting"
)

var ownerCases = []conformance{
	{"owners are kept by name", ownersAreKept},
	{"an operator belongs to an owner", ownersOperator},
	{"what is kept of devices is found by their owner now", ownersDevices},
	{"of two who end an offer, one does", ownersAtOnce},
	{"a device goes elsewhere with a voucher, and comes back", ownersElsewhere},
}

func ownersAreKept(t *trial) {
	ok(t.store.CreateIssuingCA(t.ctx, By, IssuingCA("acme")))(t)
	made := ok(t.store.CreateOwner(t.ctx, By, &vetting.Owner{Name: "acme", Description: "Acme AG", Issuer: "acme", Profile: &vetting.Profile{Validity: "30d"}}))(t)
	if made.ID == 0 || made.Created.IsZero() {
		t.Errorf("the owner is %+v", made)
	}
	same(t, "read again", ok(t.second().Owner(t.ctx, "acme"))(t), made)
	t.refuses(vetting.Exists)(t.store.CreateOwner(t.ctx, By, &vetting.Owner{Name: "acme"}))
	t.refuses(vetting.NotFound)(t.store.Owner(t.ctx, "none"))
	t.owner("beta")
	t.owner("gamma")
	pages(t, 3, false, func(p vetting.Page) ([]*vetting.Owner, error) { return t.store.Owners(t.ctx, p) }, func(o *vetting.Owner) int64 { return o.ID })
}

func ownersOperator(t *trial) {
	owner := t.owner("acme")
	x := &access.Operator{Name: "olga", Role: access.RoleOwnerOperator, Owner: "acme", Key: Key("olga", 0)}
	made := ok(t.store.CreateOperator(t.ctx, By, x))(t)
	same(t, "created", made, &access.Operator{ID: made.ID, Name: "olga", Role: access.RoleOwnerOperator, Owner: owner.Name, Key: Key("olga", 0), Created: made.Created, Issuer: vetting.OperatorCA})
	same(t, "by key", ok(t.second().OperatorByKey(t.ctx, x.Key))(t), made)
	t.refuses(vetting.NotFound)(t.store.CreateOperator(t.ctx, By, &access.Operator{Name: "x", Role: access.RoleOwnerOperator, Owner: "none", Key: Key("x", 0)}))
	gone := ok(t.store.RevokeOperator(t.ctx, By, "olga"))(t)
	if gone.Owner != "acme" || gone.Revoked.IsZero() {
		t.Errorf("revoked: %+v", gone)
	}
}

func ownersDevices(t *trial) {
	t.world(2, Unit(0), Unit(1))
	d, _, tr := t.transferred()
	t.done(t.store.RecordEvidence(t.ctx, By, []vetting.Evidence{{Kind: vetting.EvidenceWrongKey, DeviceID: d.ID, Text: "t"}}))
	if now := t.device(d.ID); !now.Owned.Equal(tr.Steps[1].At) {
		t.Errorf("the device is acme's since %s, want %s", now.Owned, tr.Steps[1].At)
	}
	if never := t.deviceOfUnit(1); !never.Owned.IsZero() {
		t.Errorf("a device that was never transferred is the manufacturer's since %s", never.Owned)
	}
	back := t.owner("beta")
	for _, step := range []struct{ has, hasNot string }{{"acme", "beta"}, {"beta", "acme"}} {
		for owner, want := range map[string]bool{step.has: true, step.hasNot: false, "none": false} {
			found := map[string]int{
				"evidence": len(ok(t.store.Evidence(t.ctx, vetting.EvidenceFilter{Owner: owner}, vetting.Page{}))(t)),
				"devices":  len(ok(t.store.Devices(t.ctx, vetting.DeviceFilter{Owner: owner}, vetting.Page{}))(t)),
				"events":   len(ok(allEvents(t.ctx, t.store, 500, events.Filter{Owner: owner}))(t)),
			}
			for what, n := range found {
				if (n > 0) != want {
					t.Errorf("%s of %s: %d, although the device is %s's", what, owner, n, step.has)
				}
			}
		}
		s := ok(t.store.Subjects(t.ctx, vetting.SubjectQuery{Identity: Unit(0).Identity}))(t)
		if len(s) != 1 || s[0].Device.Owner != step.has {
			t.Errorf("the subjects are %+v, want one of %s", s, step.has)
		}
		if step.has == "acme" {
			ok(t.store.AcceptTransfer(t.ctx, By, t.offer("acme", back.Name, 0).ID, ""))(t)
		}
	}
}

// ownersAtOnce lets both parties end the same offers at once, on two servers:
// of the steps that are tried, one is taken.
func ownersAtOnce(t *trial) {
	t.world(3, Unit(0), Unit(1), Unit(2))
	t.owner("acme")
	other := t.second()
	for n := range 3 {
		id := t.offer(vetting.Manufacturer, "acme", n).ID
		steps := map[vetting.TransferState]func(*store.Store) (*vetting.Transfer, error){
			vetting.TransferAccepted:  func(s *store.Store) (*vetting.Transfer, error) { return s.AcceptTransfer(t.ctx, By, id, "") },
			vetting.TransferWithdrawn: func(s *store.Store) (*vetting.Transfer, error) { return s.WithdrawTransfer(t.ctx, By, id, "") },
			vetting.TransferDeclined:  func(s *store.Store) (*vetting.Transfer, error) { return s.DeclineTransfer(t.ctx, By, id, "") },
		}
		var mu sync.Mutex
		taken := []vetting.TransferState{}
		var wg sync.WaitGroup
		for state, step := range steps {
			for _, s := range []*store.Store{t.store, other} {
				wg.Go(func() {
					_, err := step(s)
					mu.Lock()
					defer mu.Unlock()
					if err == nil {
						taken = append(taken, state)
					} else if vetting.ProblemOf(err) != vetting.Conflict {
						t.Errorf("%s: %v", state, err)
					}
				})
			}
		}
		wg.Wait()
		now := ok(t.store.Transfer(t.ctx, id))(t)
		if fmt.Sprint(taken) != fmt.Sprint([]vetting.TransferState{now.State}) || len(now.Steps) != 2 {
			t.Errorf("taken were %v, and the transfer is %+v", taken, now)
		}
		if d := t.deviceOfUnit(n); (d.Owner == "acme") != (now.State == vetting.TransferAccepted) {
			t.Errorf("of a transfer that is %s the device is %+v", now.State, d)
		}
	}
}

func ownersElsewhere(t *trial) {
	t.world(2, Unit(0), Unit(1))
	d, _ := t.copied()
	h := vetting.Handout{DeviceID: d.ID, Terms: [32]byte{1}, Voucher: []byte("voucher"), Note: "sold"}
	leaf := t.leaves()
	tr := ok(t.store.HandOut(t.ctx, By, h))(t)
	if tr.State != vetting.TransferHandedOut || tr.From != vetting.Manufacturer || tr.To != vetting.Elsewhere || tr.Steps[0].Note != "sold" || t.leaves() != leaf+1 {
		t.Errorf("handed out: %+v, %d leaves", tr, t.leaves()-leaf)
	}
	other := h
	other.Voucher = []byte("another")
	same(t, "asked again", ok(t.second().HandOut(t.ctx, By, other))(t), tr)
	same(t, "the voucher", string(ok(t.store.Voucher(t.ctx, tr.ID))(t)), "voucher")
	other.Terms[0]++
	t.refuses(vetting.Conflict)(t.store.HandOut(t.ctx, By, other))
	t.refuses(vetting.NotFound)(t.store.HandOut(t.ctx, By, vetting.Handout{DeviceID: 1 << 40}))
	t.refuses(vetting.Invalid)(t.store.OfferTransfer(t.ctx, By, offerOf(vetting.Elsewhere, vetting.Manufacturer, 0)))
	if now := t.device(d.ID); now.Owner != vetting.Elsewhere || now.Transfer != tr.ID {
		t.Errorf("the device is %+v", now)
	}
	if c := t.cert(d.Certificate); c.State != vetting.CertificateRevoked || c.Reason != 3 {
		t.Errorf("its certificate is %+v", c)
	}
	same(t, "devices elsewhere", len(ok(t.store.Devices(t.ctx, vetting.DeviceFilter{Owner: vetting.Elsewhere}, vetting.Page{}))(t)), 1)
	t.enrol(Renewal(d.Certificate, Key("anew", 0)), vetting.ReasonNotInService)
	t.enrol(first(0), vetting.ReasonNotInService)
	back := ok(t.store.ReverseTransfer(t.ctx, By, tr.ID, "never arrived"))(t)
	if now := t.device(d.ID); back.State != vetting.TransferReversed || now.Owner != "" {
		t.Errorf("reversed: %+v, the device is %+v", back, now)
	}
	t.enrol(Renewal(d.Certificate, Key("anew", 0)), vetting.ReasonReadmitted)
	open := t.offerTo("acme", 1)
	t.refuses(vetting.Conflict)(t.store.HandOut(t.ctx, By, vetting.Handout{DeviceID: t.deviceOfUnit(1).ID}))
	t.refuses(vetting.NotFound)(t.store.Voucher(t.ctx, open.ID))
}

// offerTo offers a unit of the manufacturer's to a new owner.
func (t *trial) offerTo(owner string, unit int) *vetting.Transfer {
	t.Helper()
	t.owner(owner)
	return t.offer(vetting.Manufacturer, owner, unit)
}
