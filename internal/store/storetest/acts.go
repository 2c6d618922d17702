package storetest

import (
	"fmt"
	"sync"

	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/vetting"
)

var actCases = []conformance{
	{"every act is done once under one key", actsOnce},
	{"an act is done once when asked at the same time", actsConcurrent},
	{"an operator's keys are no other's", actsOfOthers},
	{"a failed act is not remembered", actsFailed},
	{"without a key an act is repeated", actsWithoutKey},
	{"another server knows the act", actsElsewhere},
	{"the log names who acted", actsAreSigned},
}

// keyed is an act of an operator under an idempotency key.
func keyed(operator, key, request string) access.Act {
	return access.Act{Operator: operator, Key: key, Request: Key(request, 0)}
}

// acts does one thing with each method that takes an act. None of them can
// be done twice to the same effect.
func (t *trial) acts(w *World) map[string]func(a access.Act) (any, error) {
	unit := t.facts(first(0)).Record.ID
	issued, other, lost := t.admit(2), t.admit(3), t.admit(4)
	held := t.enrol(first(1), vetting.ReasonOrderDraft).ID
	noted := t.evidence("acts")
	closed, quantity := vetting.OrderClosed, int64(50)
	t.operator("berta", access.RoleAdmin, "")
	t.operator("clara", access.RoleAdmin, "")
	return map[string]func(a access.Act) (any, error){
		"CreateProduct": func(a access.Act) (any, error) {
			return t.store.CreateProduct(t.ctx, a, &vetting.Product{Name: "lamp"})
		},
		"UpdateProduct": func(a access.Act) (any, error) { return t.store.UpdateProduct(t.ctx, a, w.Product) },
		"CreateSite":    func(a access.Act) (any, error) { return t.store.CreateSite(t.ctx, a, &vetting.Site{Name: "gdansk"}) },
		"CreateOrder": func(a access.Act) (any, error) {
			return t.store.CreateOrder(t.ctx, a, &vetting.Order{Name: "po-9", Product: "thermo", Site: "hsinchu", Quantity: 1, ManifestSignatures: 1})
		},
		"ChangeOrder": func(a access.Act) (any, error) {
			return t.store.ChangeOrder(t.ctx, a, "po-1", vetting.OrderChange{State: &closed, Quantity: &quantity})
		},
		"CreateOperator": func(a access.Act) (any, error) {
			return t.store.CreateOperator(t.ctx, a, &access.Operator{Name: "anna", Role: access.RoleAdmin, Key: Key("anna", 0)})
		},
		"RenewOperator": func(a access.Act) (any, error) {
			return t.store.RenewOperator(t.ctx, a, &access.Operator{Name: "clara", Key: Key("clara", 0), Issuer: "operator-2027"})
		},
		"RevokeOperator": func(a access.Act) (any, error) { return t.store.RevokeOperator(t.ctx, a, "berta") },
		"DecideRegistration": func(a access.Act) (any, error) {
			return t.store.DecideRegistration(t.ctx, a, held, vetting.Decision{Admit: true, By: a.Operator, Note: "pilot"})
		},
		"RevokeDevice": func(a access.Act) (any, error) {
			return t.store.RevokeDevice(t.ctx, a, issued.ID, vetting.RevokedKeyCompromise, "leaked")
		},
		"RevokeCertificate": func(a access.Act) (any, error) {
			return t.store.RevokeCertificate(t.ctx, a, other.Certificate, vetting.RevokedKeyCompromise, "leaked")
		},
		"ClearEvidence": func(a access.Act) (any, error) { return t.store.ClearEvidence(t.ctx, a, noted, "test bench") },
		"SetDeviceState": func(a access.Act) (any, error) {
			return t.store.SetDeviceState(t.ctx, a, unit, vetting.DeviceQuarantined, "smells")
		},
		"ReadmitDevice": func(a access.Act) (any, error) { return t.store.ReadmitDevice(t.ctx, a, lost.ID, "flash replaced") },
	}
}

// actingWorld has unit 1 of a draft and the others of an open order.
func (t *trial) actingWorld() *World {
	t.Helper()
	w := t.world(10, Unit(0), Unit(2), Unit(3), Unit(4))
	w.with(t.order("po-2", "thermo", "hsinchu", vetting.OrderDraft)).Load(t, Unit(1))
	return w
}

func actsOnce(t *trial) {
	for name, act := range t.acts(t.actingWorld()) {
		before := t.leaves()
		once := ok(act(keyed("anna", name, "this")))(t)
		if n := t.leaves() - before; n != 1 {
			t.Errorf("%s left %d leaves", name, n)
		}
		same(t, name+" again", ok(act(keyed("anna", name, "this")))(t), once)
		if n := t.leaves() - before; n != 1 {
			t.Errorf("%s twice left %d leaves", name, n)
		}
		t.refuses(vetting.Conflict)(act(keyed("anna", name, "that")))
	}
}

func actsConcurrent(t *trial) {
	other := t.second()
	before := t.leaves()
	var wg sync.WaitGroup
	var ids [16]int64
	for i := range ids {
		s := t.store
		if i%2 == 1 {
			s = other
		}
		wg.Go(func() {
			p, err := s.CreateProduct(t.ctx, keyed("anna", "k", "this"), &vetting.Product{Name: "lamp"})
			if err != nil {
				t.Error(err)
				return
			}
			ids[i] = p.ID
		})
	}
	wg.Wait()
	for _, id := range ids {
		if id != ids[0] || id == 0 {
			t.Errorf("one act made the products %v", ids)
			break
		}
	}
	if n := t.leaves() - before; n != 1 {
		t.Errorf("one act left %d leaves", n)
	}
}

func actsOfOthers(t *trial) {
	for i, operator := range []string{"anna", "berta"} {
		// the same key stands for another request with another operator
		ok(t.store.CreateSite(t.ctx, keyed(operator, "k", operator), &vetting.Site{Name: fmt.Sprintf("s%d", i)}))(t)
	}
	// and the same request is another act
	t.refuses(vetting.Exists)(t.store.CreateSite(t.ctx, keyed("carla", "k", "anna"), &vetting.Site{Name: "s0"}))
	if n := len(ok(t.store.Sites(t.ctx, vetting.Page{}))(t)); n != 2 {
		t.Errorf("%d sites", n)
	}
}

func actsFailed(t *trial) {
	t.site("hsinchu")
	order := &vetting.Order{Name: "po-1", Product: "thermo", Site: "hsinchu", Quantity: 1, ManifestSignatures: 1}
	t.refuses(vetting.NotFound)(t.store.CreateOrder(t.ctx, keyed("anna", "k", "this"), order))
	t.refuses(vetting.NotFound)(t.store.CreateOrder(t.ctx, keyed("anna", "l", "this"), order))
	t.product("thermo")
	made := ok(t.store.CreateOrder(t.ctx, keyed("anna", "k", "this"), order))(t)
	same(t, "again", ok(t.store.CreateOrder(t.ctx, keyed("anna", "k", "this"), order))(t), made)
	// a key whose act failed is free for another request
	ok(t.store.CreateSite(t.ctx, keyed("anna", "l", "that"), &vetting.Site{Name: "gdansk"}))(t)
}

func actsWithoutKey(t *trial) {
	w := t.world(10)
	revision := w.Order.Revision
	for range 2 {
		a := access.Act{Operator: "anna", Request: Key("this", 0)}
		revision++
		if o := ok(t.store.ChangeOrder(t.ctx, a, "po-1", vetting.OrderChange{}))(t); o.Revision != revision {
			t.Errorf("revision %d, want %d", o.Revision, revision)
		}
	}
}

func actsElsewhere(t *trial) {
	made := ok(t.store.CreateSite(t.ctx, keyed("anna", "k", "this"), &vetting.Site{Name: "gdansk"}))(t)
	other := t.second()
	same(t, "on another server", ok(other.CreateSite(t.ctx, keyed("anna", "k", "this"), &vetting.Site{Name: "gdansk"}))(t), made)
	t.refuses(vetting.Conflict)(other.CreateSite(t.ctx, keyed("anna", "k", "that"), &vetting.Site{Name: "gdynia"}))
}

func actsAreSigned(t *trial) {
	for name, act := range t.acts(t.actingWorld()) {
		index := t.leaves()
		ok(act(access.Act{Operator: name}))(t)
		leaf := t.leaf(index)
		if leaf.By != "operator:"+name || leaf.Act == "" || len(leaf.Objects) == 0 || leaf.Time.IsZero() {
			t.Errorf("%s left the leaf %+v", name, leaf)
		}
	}
}
