package storetest

import (
	"strings"
	"sync"
	"time"

	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/internal/approval"
	"github.com/touchmark/touchmark/internal/store"
	"github.com/touchmark/touchmark/vetting"
)

var raiseCases = []conformance{
	{"an order is raised when enough others approve", raiseByTwo},
	{"a raise is approved by others, each once", raiseDuties},
	{"a raise is void once its order changes", raiseVoid},
	{"a raise expires", raiseExpires},
	{"a raise can be withdrawn", raiseWithdrawn},
	{"what wants approvals cannot do without", raiseBypassed},
	{"approvals at the same time raise an order once", raiseConcurrent},
}

func as(operator string) access.Act { return access.Act{Operator: operator} }

// staffed is wanting, with planners to approve.
func (t *trial) staffed(approvals int) *vetting.Order {
	t.Helper()
	t.people = map[string]*Person{}
	for _, p := range t.employ(access.RolePlanner, "anna", "berta", "carla", "dora", "emma", "fritzi", "gerda") {
		t.people[p.Name] = p
	}
	return t.wanting(approvals)
}

// wanting makes po-1 want approvals.
func (t *trial) wanting(approvals int) *vetting.Order {
	t.Helper()
	t.world(10)
	return t.change("po-1", vetting.OrderChange{RaiseApprovals: &approvals})
}

func (t *trial) ask(to int64) *vetting.Raise {
	t.Helper()
	return ok(t.store.ProposeRaise(t.ctx, as("anna"), "po-1", to, "more"))(t)
}

// raises is a planner's yes to a raise of po-1.
func (t *trial) raises(name string, id, to int64) (*vetting.Raise, error) {
	t.Helper()
	return t.store.ApproveRaise(t.ctx, as(name), "po-1", id, to, t.people[name].Yes(t, t.proposal(id).Payload))
}

func (t *trial) quantity() int64 {
	t.Helper()
	return ok(t.store.Order(t.ctx, "po-1"))(t).Quantity
}

func raiseByTwo(t *trial) {
	o := t.staffed(2)
	leaf := t.leaves()
	r := t.ask(15)
	want := &vetting.Raise{ID: r.ID, Order: "po-1", State: vetting.RaisePending, From: 10, To: 15, Revision: o.Revision, By: "anna", Note: "more",
		At: r.At, Expires: r.At.Add(approval.Life), Wanted: 2, Approvals: []vetting.Approval{}}
	same(t, "asked for", r, want)
	r = ok(t.raises("berta", r.ID, 15))(t)
	same(t, "state", r.State, vetting.RaisePending)
	same(t, "quantity", t.quantity(), 10)
	r = ok(t.second().ApproveRaise(t.ctx, as("carla"), "po-1", r.ID, 15, t.people["carla"].Yes(t, t.proposal(r.ID).Payload)))(t)
	if r.State != vetting.RaiseApplied || len(r.Approvals) != 2 || r.Approvals[1].By != "carla" || r.Approvals[1].At.IsZero() {
		t.Errorf("approved: %+v", r)
	}
	raised := ok(t.store.Order(t.ctx, "po-1"))(t)
	if raised.Quantity != 15 || raised.Revision != o.Revision+1 {
		t.Errorf("the order is %+v", raised)
	}
	for i, act := range []string{"proposal.create", "proposal.approve", "proposal.carry-out"} {
		l := t.leaf(leaf + int64(i))
		if l.Act != act || l.By != "operator:"+[]string{"anna", "berta", "carla"}[i] || !strings.HasPrefix(l.Note, "order.raise po-1, sha256:") {
			t.Errorf("leaf %d: %+v", i, l)
		}
	}
	same(t, "leaves", t.leaves(), leaf+3)
	same(t, "listed", ok(t.store.Raises(t.ctx, "po-1", vetting.Page{}))(t), []*vetting.Raise{r})
	t.ask(20)
	t.refuses(vetting.Conflict)(t.raises("dora", r.ID, 15)) // it was carried out
}

func raiseDuties(t *trial) {
	t.staffed(2)
	r := t.ask(15)
	t.refuses(vetting.Conflict)(t.raises("anna", r.ID, 15)) // who asked
	t.refuses(vetting.Conflict)(t.raises("berta", r.ID, 16))
	ok(t.raises("berta", r.ID, 15))(t)
	t.refuses(vetting.Conflict)(t.raises("berta", r.ID, 15))                                 // twice
	t.refuses(vetting.Conflict)(t.store.ProposeRaise(t.ctx, as("dora"), "po-1", 12, "less")) // one at a time
	t.order("po-2", "thermo", "hsinchu", vetting.OrderOpen)
	carla := t.people["carla"].Yes(t, t.proposal(r.ID).Payload)
	t.refuses(vetting.NotFound)(t.store.ApproveRaise(t.ctx, as("carla"), "po-2", r.ID, 15, carla))
	t.refuses(vetting.NotFound)(t.store.ApproveRaise(t.ctx, as("carla"), "po-9", r.ID, 15, carla))
	t.refuses(vetting.NotFound)(t.store.ApproveRaise(t.ctx, as("carla"), "po-1", r.ID+1000, 15, carla))
	same(t, "quantity", t.quantity(), 10)
}

func raiseVoid(t *trial) {
	t.staffed(1)
	r := t.ask(15)
	nine := int64(9)
	t.change("po-1", vetting.OrderChange{Quantity: &nine}) // lowering wants nobody
	same(t, "state", ok(t.store.Raises(t.ctx, "po-1", vetting.Page{}))(t)[0].State, vetting.RaiseVoid)
	t.refuses(vetting.Conflict)(t.raises("berta", r.ID, 15))
	t.refuses(vetting.Conflict)(t.store.WithdrawRaise(t.ctx, as("anna"), "po-1", r.ID, "void"))
	again := t.ask(15) // another one may wait now
	ok(t.raises("berta", again.ID, 15))(t)
	same(t, "quantity", t.quantity(), 15)
}

func raiseExpires(t *trial) {
	t.staffed(1)
	r := t.ask(15)
	later, err := store.Open(t.ctx, store.Options{DSN: t.dsn, Now: func() time.Time { return time.Now().Add(approval.Life) }})
	t.done(err)
	defer later.Close()
	same(t, "state", ok(later.Raises(t.ctx, "po-1", vetting.Page{}))(t)[0].State, vetting.RaiseExpired)
	t.refuses(vetting.Conflict)(later.ApproveRaise(t.ctx, as("berta"), "po-1", r.ID, 15, t.people["berta"].Yes(t, t.proposal(r.ID).Payload)))
	ok(later.ProposeRaise(t.ctx, as("anna"), "po-1", 15, "more"))(t)
	same(t, "quantity", t.quantity(), 10)
}

func raiseWithdrawn(t *trial) {
	t.staffed(2)
	for _, operator := range []string{"anna", "berta"} { // who asked, and another
		r := t.ask(15)
		ok(t.raises("carla", r.ID, 15))(t)
		before := t.leaves()
		r = ok(t.store.WithdrawRaise(t.ctx, as(operator), "po-1", r.ID, "a mistake"))(t)
		same(t, "state", r.State, vetting.RaiseWithdrawn)
		if l := t.leaf(before); l.Act != "proposal.withdraw" || l.Note != "a mistake" {
			t.Errorf("the leaf is %+v", l)
		}
		t.refuses(vetting.Conflict)(t.raises("berta", r.ID, 15))
	}
	pages(t, 2, true, func(p vetting.Page) ([]*vetting.Raise, error) { return t.store.Raises(t.ctx, "po-1", p) }, func(r *vetting.Raise) int64 { return r.ID })
}

func raiseBypassed(t *trial) {
	t.staffed(2)
	more, none, one, three := int64(11), 0, 1, 3
	t.refuses(vetting.Conflict)(t.store.ChangeOrder(t.ctx, By, "po-1", vetting.OrderChange{Quantity: &more}))
	for _, n := range []*int{&none, &one} {
		t.refuses(vetting.Conflict)(t.store.ChangeOrder(t.ctx, By, "po-1", vetting.OrderChange{RaiseApprovals: n}))
		t.refuses(vetting.Conflict)(t.store.ChangeOrder(t.ctx, By, "po-1", vetting.OrderChange{RaiseApprovals: n, Quantity: &more}))
	}
	same(t, "approvals", t.change("po-1", vetting.OrderChange{RaiseApprovals: &three}).RaiseApprovals, 3)
	for _, to := range []int64{10, 9, 0, -1} {
		t.refuses(vetting.Conflict)(t.store.ProposeRaise(t.ctx, as("anna"), "po-1", to, "no raise"))
	}
	t.refuses(vetting.Invalid)(t.store.ProposeRaise(t.ctx, as("anna"), "po-1", vetting.MaxQuantity+1, "too much"))
	t.order("po-2", "thermo", "hsinchu", vetting.OrderOpen)
	t.refuses(vetting.Conflict)(t.store.ProposeRaise(t.ctx, as("anna"), "po-2", 1000, "wants none"))
	t.refuses(vetting.NotFound)(t.store.ProposeRaise(t.ctx, as("anna"), "po-9", 1000, "is not there"))
	t.refuses(vetting.NotFound)(t.store.Raises(t.ctx, "po-9", vetting.Page{}))
	same(t, "quantity", t.quantity(), 10)
}

func raiseConcurrent(t *trial) {
	o := t.staffed(3)
	r := t.ask(15)
	servers, payload := []*store.Store{t.store, t.second()}, t.proposal(r.ID).Payload
	var wg sync.WaitGroup
	for i, operator := range []string{"berta", "carla", "dora", "emma", "fritzi", "gerda"} {
		yes := t.people[operator].Yes(t, payload)
		wg.Go(func() {
			_, err := servers[i%2].ApproveRaise(t.ctx, as(operator), "po-1", r.ID, 15, yes)
			if err != nil && vetting.ProblemOf(err) != vetting.Conflict {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	done := ok(t.store.Raises(t.ctx, "po-1", vetting.Page{}))(t)[0]
	if raised := ok(t.store.Order(t.ctx, "po-1"))(t); raised.Quantity != 15 || raised.Revision != o.Revision+1 || len(done.Approvals) != 3 {
		t.Errorf("the order is %+v, the raise %+v", raised, done)
	}
}
