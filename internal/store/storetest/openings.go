package storetest

import (
	"strings"
	"time"

	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/internal/approval"
	"github.com/touchmark/touchmark/internal/store"
	"github.com/touchmark/touchmark/vetting"
)

var openingCases = []conformance{
	{"an order of a product that wants approvals opens when others approve it", openingByTwo},
	{"an opening is void once its order or product changes", openingVoid},
	{"an opening expires and can be withdrawn", openingEnds},
	{"what others agreed to is not loosened by one", openingLoosened},
	{"small orders open without approvals, and grow with them", openingAbove},
	{"approvals of a product only grow", productApprovalsGrow},
	{"what needs no approval is not asked for", openingNeedless},
	{"no decision lets a device into an order that others have to approve", openingDecided},
}

// guarded makes orders of thermo above a quantity want approvals.
func (t *trial) guarded(orders int, above int64) *vetting.Product {
	t.Helper()
	p := ok(t.store.Product(t.ctx, "thermo"))(t)
	p.Approvals.Orders, p.Approvals.OrdersAbove = orders, above
	return ok(t.store.UpdateProduct(t.ctx, By, p))(t)
}

// unopened makes po-2 of thermo, for 100 units.
func (t *trial) unopened(n int, above int64) (people []*Person) {
	t.Helper()
	t.world(10)
	t.guarded(n, above)
	t.order("po-2", "thermo", "hsinchu", vetting.OrderDraft)
	t.people = map[string]*Person{"anna": t.employ(access.RolePlanner, "anna")[0]}
	return t.employ(access.RoleApprover, "berta", "carla")
}

func (t *trial) opening() *approval.Proposal {
	t.Helper()
	return ok(t.store.ProposeOpening(t.ctx, as("anna"), "po-2", "the customer ordered"))(t)
}

func (t *trial) named(order string) *vetting.Order {
	t.Helper()
	return ok(t.store.Order(t.ctx, order))(t)
}

func (t *trial) becomes(order string, s vetting.OrderState) (*vetting.Order, error) {
	return t.store.ChangeOrder(t.ctx, By, order, vetting.OrderChange{State: &s})
}

func openingByTwo(t *trial) {
	people := t.unopened(2, 0)
	t.refuses(vetting.Conflict)(t.becomes("po-2", vetting.OrderOpen))
	t.refuses(vetting.Conflict)(t.store.CreateOrder(t.ctx, By, &vetting.Order{Name: "po-3", Product: "thermo", Site: "hsinchu", State: vetting.OrderOpen, Quantity: 1, ManifestSignatures: 1}))
	ends := time.Now().Add(time.Hour).Truncate(time.Second)
	o := t.change("po-2", vetting.OrderChange{NotAfter: &ends, Limits: &vetting.Limits{PerHour: 30}})
	p := t.opening()
	var st vetting.OpenStatement
	t.done(p.Read(&st))
	same(t, "statement", st, vetting.OpenStatement{Order: "po-2", Revision: o.Revision, Product: "thermo", ProductRevision: 2, Site: "hsinchu", Quantity: 100,
		NotAfter: ends.UTC().Format(time.RFC3339), PerHour: 30, ManifestSignatures: 1})
	t.refuses(vetting.Conflict)(t.store.ProposeOpening(t.ctx, as("berta"), "po-2", "once more"))
	t.refuses(vetting.Conflict)(t.approves(t.people["anna"], p.ID)) // who asked
	sue := t.employ(access.RoleReleaseEngineer, "sue")[0]
	t.refuses(vetting.Conflict)(t.approves(sue, p.ID)) // another role
	same(t, "state", ok(t.approves(people[0], p.ID))(t).State, approval.Pending)
	same(t, "order", t.named("po-2").State, vetting.OrderDraft)
	done := ok(t.approves(people[1], p.ID))(t)
	got := t.named("po-2")
	if done.State != approval.CarriedOut || got.State != vetting.OrderOpen || !got.Approved || got.Revision != o.Revision+1 {
		t.Errorf("%+v, %+v", done, got)
	}
	if l := t.leaf(done.Leaf); l.Act != approval.ActCarryOut || len(l.Objects) != 2 || !strings.HasPrefix(l.Note, "order.open po-2, sha256:") {
		t.Errorf("%+v", l)
	}
	ok(t.becomes("po-2", vetting.OrderPaused))(t)
	ok(t.becomes("po-2", vetting.OrderOpen))(t) // as it was approved
}

func openingVoid(t *trial) {
	people := t.unopened(1, 0)
	for what, change := range map[string]func(){
		"the order":   func() { t.change("po-2", vetting.OrderChange{Limits: &vetting.Limits{PerDay: 5}}) },
		"the product": func() { t.guarded(1, 0) },
	} {
		p := t.opening()
		change()
		if got := t.proposal(p.ID); got.State != approval.Void || !strings.Contains(got.Why, "changed") {
			t.Errorf("%s changed, and the proposal is %s: %s", what, got.State, got.Why)
		}
		t.refuses(vetting.Conflict)(t.approves(people[0], p.ID))
	}
	p := t.opening()
	ok(t.becomes("po-2", vetting.OrderCancelled))(t)
	t.refuses(vetting.Conflict)(t.approves(people[0], p.ID))
	t.refuses(vetting.Conflict)(t.store.ProposeOpening(t.ctx, as("anna"), "po-2", "it cannot open"))
	t.refuses(vetting.NotFound)(t.store.ProposeOpening(t.ctx, as("anna"), "po-9", "it is not there"))
}

func openingEnds(t *trial) {
	people := t.unopened(1, 0)
	p := t.opening()
	later := OpenWith(t, store.Options{DSN: t.dsn, Now: func() time.Time { return time.Now().Add(approval.Life) }})
	yes := people[0].Yes(t, p.Payload)
	t.refuses(vetting.Conflict)(later.ApproveProposal(t.ctx, as("berta"), p.ID, yes))
	ok(t.store.WithdrawProposal(t.ctx, as("anna"), p.ID, "a mistake"))(t)
	t.refuses(vetting.Conflict)(t.store.ApproveProposal(t.ctx, as("berta"), p.ID, yes))
	again := t.opening()
	t.refuses(vetting.Invalid)(t.store.ApproveProposal(t.ctx, as("berta"), again.ID, yes)) // it is of the proposal before
	same(t, "order", t.named("po-2").State, vetting.OrderDraft)
}

func openingLoosened(t *trial) {
	people := t.unopened(1, 0)
	ends, later, more, less := time.Now().Add(time.Hour), time.Now().Add(2*time.Hour), int64(101), int64(99)
	t.change("po-2", vetting.OrderChange{NotAfter: &ends, Limits: &vetting.Limits{PerHour: 30}})
	ok(t.approves(people[0], t.opening().ID))(t)
	rework := vetting.ReworkBySite
	for _, c := range []vetting.OrderChange{{NotAfter: &later}, {NotAfter: new(time.Time)}, {Limits: &vetting.Limits{}}, {Rework: &rework}, {Quantity: &more}} {
		t.refuses(vetting.Conflict)(t.store.ChangeOrder(t.ctx, By, "po-2", c))
	}
	if o := t.change("po-2", vetting.OrderChange{Quantity: &less}); !o.Approved {
		t.Error("fewer units are not what was approved")
	}
	raise := ok(t.store.ProposeRaise(t.ctx, as("anna"), "po-2", 120, "more"))(t)
	same(t, "wanted", raise.Wanted, 1)
	ok(t.approves(people[1], raise.ID))(t)
	if o := t.named("po-2"); o.Quantity != 120 || !o.Approved || o.State != vetting.OrderOpen {
		t.Errorf("after the raise: %+v", o)
	}
	ok(t.becomes("po-2", vetting.OrderPaused))(t)
	t.change("po-2", vetting.OrderChange{NotAfter: &later})
	t.refuses(vetting.Conflict)(t.becomes("po-2", vetting.OrderOpen))
	ok(t.approves(people[1], t.opening().ID))(t)
	same(t, "order", t.named("po-2").State, vetting.OrderOpen)

	// po-1 was open before approvals were wanted: it stays so, and is not
	// loosened, nor opened again, by one.
	one := 1
	t.change("po-1", vetting.OrderChange{RaiseApprovals: &one})
	t.refuses(vetting.Conflict)(t.store.ChangeOrder(t.ctx, By, "po-1", vetting.OrderChange{NotAfter: &later}))
	ok(t.becomes("po-1", vetting.OrderPaused))(t)
	t.refuses(vetting.Conflict)(t.becomes("po-1", vetting.OrderOpen))
}

func openingAbove(t *trial) {
	t.unopened(1, 100)
	ok(t.becomes("po-2", vetting.OrderOpen))(t)
	more := int64(101)
	t.refuses(vetting.Conflict)(t.store.ChangeOrder(t.ctx, By, "po-2", vetting.OrderChange{Quantity: &more}))
	same(t, "wanted", ok(t.store.ProposeRaise(t.ctx, as("anna"), "po-2", more, "more"))(t).Wanted, 1)
	ok(t.becomes("po-2", vetting.OrderPaused))(t)
	t.change("po-2", vetting.OrderChange{Quantity: &more})
	t.refuses(vetting.Conflict)(t.becomes("po-2", vetting.OrderOpen))
}

func productApprovalsGrow(t *trial) {
	t.unopened(2, 100)
	p := ok(t.store.Product(t.ctx, "thermo"))(t)
	for _, a := range []vetting.ProductApprovals{{}, {Orders: 1, OrdersAbove: 100}, {Orders: 2, OrdersAbove: 101}} {
		weaker := *p
		weaker.Approvals = a
		t.refuses(vetting.Conflict)(t.store.UpdateProduct(t.ctx, By, &weaker))
	}
	p = t.guarded(3, 0)
	p.Approvals.Manifests = 1
	ok(t.store.UpdateProduct(t.ctx, By, p))(t)
	t.refuses(vetting.Conflict)(t.store.UpdateProduct(t.ctx, By, func() *vetting.Product { p.Revision++; p.Approvals.Manifests = 0; return p }()))
}

func openingNeedless(t *trial) {
	people := t.unopened(1, 0)
	t.order("po-3", t.product("other").Name, "hsinchu", vetting.OrderDraft)
	t.refuses(vetting.Conflict)(t.store.ProposeOpening(t.ctx, as("anna"), "po-3", "it wants none"))
	ok(t.approves(people[0], t.opening().ID))(t)
	t.refuses(vetting.Conflict)(t.store.ProposeOpening(t.ctx, as("anna"), "po-2", "it is open"))
}

func openingDecided(t *trial) {
	w := t.world(10, Unit(0))
	t.employ(access.RolePlanner, "anna")
	berta := t.employ(access.RoleApprover, "berta")[0]
	ok(t.becomes("po-1", vetting.OrderPaused))(t)
	held := t.enrol(first(0), vetting.ReasonOrderPaused)
	t.decide(held.ID, true)
	t.guarded(1, 0)
	t.enrol(first(0), vetting.ReasonOrderPaused)
	p := ok(t.store.ProposeOpening(t.ctx, as("anna"), w.Order.Name, "go on"))(t)
	ok(t.approves(berta, p.ID))(t)
	t.enrol(first(0), vetting.ReasonVetted)
}
