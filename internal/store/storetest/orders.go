package storetest

import (
	"time"

	"github.com/touchmark/touchmark/internal/store"
	"github.com/touchmark/touchmark/vetting"
)

var orderCases = []conformance{
	{"an order is kept as it was given", orderIsKept},
	{"an order is of a product and a site that exist", orderOfNothing},
	{"an order moves as planned", orderMoves},
	{"an order changes in part", orderChanges},
	{"a change that makes no sense changes nothing", orderInvalid},
	{"a quantity is never below what was issued", orderQuantity},
	{"a revision grows with the planner's changes only", orderRevision},
	{"another server sees an order's change at once", orderSeenElsewhere},
	{"orders are listed by site, product and state", orderLists},
}

func orderIsKept(t *trial) {
	product, site := t.product("thermo"), t.site("hsinchu")
	cet := time.FixedZone("CET", 3600)
	given := &vetting.Order{Name: "po-1", Product: "thermo", Site: "hsinchu", Quantity: 7, ManifestSignatures: 2, Waste: vetting.WasteReturns, Rework: vetting.ReworkBySite, MaxReplacements: 3,
		Identifiers: vetting.Identifiers{Serials: []string{"SN-1..SN-9"}, MACs: []string{"02:00:00:00:00:01"}, UIDs: []string{"ab"}},
		NotBefore:   time.Date(2027, 1, 1, 0, 0, 0, 0, cet), NotAfter: time.Date(2028, 1, 1, 0, 0, 0, 0, cet)}
	made := ok(t.store.CreateOrder(t.ctx, By, given))(t)
	if made.ID < 1 || made.Created.IsZero() || !made.Updated.Equal(made.Created) {
		t.Errorf("a new order is %+v", made)
	}
	want := *given
	want.ID, want.ProductID, want.SiteID, want.Revision, want.State = made.ID, product.ID, site.ID, 1, vetting.OrderDraft
	want.Created, want.Updated = made.Created, made.Created
	want.NotBefore, want.NotAfter = given.NotBefore.UTC(), given.NotAfter.UTC()
	same(t, "created", made, &want)
	same(t, "read", ok(t.store.Order(t.ctx, "po-1"))(t), &want)
	same(t, "read by another server", ok(t.second().Order(t.ctx, "po-1"))(t), &want)
	t.refuses(vetting.Exists)(t.store.CreateOrder(t.ctx, By, given))
	t.refuses(vetting.NotFound)(t.store.Order(t.ctx, "po-2"))
	if o := t.order("po-2", "thermo", "hsinchu", vetting.OrderOpen); o.State != vetting.OrderOpen || !o.NotBefore.IsZero() || !o.NotAfter.IsZero() {
		t.Errorf("an order without a window is %+v", o)
	}
}

func orderOfNothing(t *trial) {
	t.product("thermo")
	t.site("hsinchu")
	for _, o := range []*vetting.Order{
		{Name: "po-1", Product: "lamp", Site: "hsinchu", Quantity: 1, ManifestSignatures: 1},
		{Name: "po-1", Product: "thermo", Site: "gdansk", Quantity: 1, ManifestSignatures: 1},
		{Name: "po-1", Product: "hsinchu", Site: "thermo", Quantity: 1, ManifestSignatures: 1},
	} {
		t.refuses(vetting.NotFound)(t.store.CreateOrder(t.ctx, By, o))
	}
	t.refuses(vetting.NotFound)(t.store.Order(t.ctx, "po-1"))
	t.refuses(vetting.NotFound)(t.store.ChangeOrder(t.ctx, By, "po-1", vetting.OrderChange{}))
}

func orderMoves(t *trial) {
	const draft, open, closed, cancelled = vetting.OrderDraft, vetting.OrderOpen, vetting.OrderClosed, vetting.OrderCancelled
	allowed := map[vetting.OrderState][]vetting.OrderState{
		draft: {draft, open, cancelled}, open: {open, closed, cancelled}, closed: {closed, open, cancelled}, cancelled: {cancelled},
	}
	t.product("thermo")
	t.site("hsinchu")
	for from, targets := range allowed {
		may := map[vetting.OrderState]bool{}
		for _, to := range targets {
			may[to] = true
		}
		for _, to := range []vetting.OrderState{draft, open, closed, cancelled, "lost", ""} {
			name := string(from) + "-" + string(to) + "."
			t.order(name, "thermo", "hsinchu", from)
			if !may[to] {
				t.refuses(vetting.Conflict)(t.store.ChangeOrder(t.ctx, By, name, vetting.OrderChange{State: &to}))
				to = from
			} else if o := t.change(name, vetting.OrderChange{State: &to}); o.State != to {
				t.Errorf("%s: the answer is %s", name, o.State)
			}
			if o := ok(t.store.Order(t.ctx, name))(t); o.State != to {
				t.Errorf("%s: it is %s", name, o.State)
			}
		}
	}
}

func orderChanges(t *trial) {
	want := *t.world(10).Order
	expect := func(what string, c vetting.OrderChange) {
		t.Helper()
		want.Revision++
		got := t.change("po-1", c)
		if got.Updated.Before(want.Updated) {
			t.Errorf("%s: updated at %s, before that at %s", what, got.Updated, want.Updated)
		}
		want.Updated = got.Updated
		same(t, what, got, &want)
		same(t, what+", read", ok(t.store.Order(t.ctx, "po-1"))(t), &want)
	}
	expect("nothing", vetting.OrderChange{})
	want.Quantity = 20
	expect("quantity", vetting.OrderChange{Quantity: &want.Quantity})
	want.NotBefore = time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)
	expect("begin", vetting.OrderChange{NotBefore: &want.NotBefore})
	end := time.Date(2028, 1, 1, 0, 0, 0, 0, time.FixedZone("CET", 3600))
	want.NotAfter = end.UTC()
	expect("end", vetting.OrderChange{NotAfter: &end})
	want.State = vetting.OrderClosed
	expect("state", vetting.OrderChange{State: &want.State})
	want.Rework, want.MaxReplacements = vetting.ReworkBySite, 1
	expect("rework", vetting.OrderChange{Rework: &want.Rework})
	want.MaxReplacements = 5
	expect("replacements", vetting.OrderChange{MaxReplacements: &want.MaxReplacements})
	want.NotBefore = time.Time{}
	expect("no begin", vetting.OrderChange{NotBefore: new(time.Time)})
	want.NotAfter = time.Time{}
	want.State, want.Quantity = vetting.OrderOpen, 30
	expect("several", vetting.OrderChange{NotAfter: new(time.Time), State: &want.State, Quantity: &want.Quantity})
}

func orderInvalid(t *trial) {
	t.world(10)
	begin, end := time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(2028, 1, 1, 0, 0, 0, 0, time.UTC)
	want := t.change("po-1", vetting.OrderChange{NotBefore: &begin, NotAfter: &end})
	closed, none, below, many, other := vetting.OrderClosed, int64(0), int64(-1), int64(vetting.MaxQuantity+1), int64(11)
	nobody := vetting.Rework("nobody")
	late, early := end.Add(time.Hour), begin.Add(-time.Hour)
	for what, c := range map[string]vetting.OrderChange{
		"no unit":              {Quantity: &none, State: &closed},
		"fewer than none":      {Quantity: &below},
		"too many units":       {Quantity: &many},
		"begins after its end": {NotBefore: &late, Quantity: &other},
		"ends before it began": {NotAfter: &early, State: &closed},
		"rework by nobody":     {Rework: &nobody},
		"an empty window":      {NotBefore: &end},
	} {
		t.refuses(vetting.Invalid)(t.store.ChangeOrder(t.ctx, By, "po-1", c))
		same(t, what, ok(t.store.Order(t.ctx, "po-1"))(t), want)
	}
}

func orderQuantity(t *trial) {
	t.world(3, Unit(0), Unit(1), Unit(2))
	t.admit(0)
	t.admit(1)
	one, two, closed := int64(1), int64(2), vetting.OrderClosed
	t.refuses(vetting.Conflict)(t.store.ChangeOrder(t.ctx, By, "po-1", vetting.OrderChange{Quantity: &one, State: &closed}))
	if o := t.change("po-1", vetting.OrderChange{Quantity: &two}); o.Quantity != 2 || o.Issued != 2 || o.State != vetting.OrderOpen {
		t.Errorf("the order is %+v", o)
	}
	t.enrol(first(2), vetting.ReasonQuota)
}

func orderRevision(t *trial) {
	w := t.world(3, Unit(0), Unit(1))
	for n := range int64(2) {
		d := t.admit(int(n))
		ok(t.store.SetDeviceState(t.ctx, By, d.ID, vetting.DeviceScrapped, ""))(t)
		want := *w.Order
		want.Issued = n + 1 // a scrapped device gives its unit not back
		same(t, "the order", ok(t.store.Order(t.ctx, "po-1"))(t), &want)
	}
}

func orderSeenElsewhere(t *trial) {
	t.world(3, Unit(0), Unit(1))
	servers := []*store.Store{t.store, t.second()}
	quantity := int64(3)
	for i, s := range []*store.Store{servers[0], servers[1], servers[0]} {
		for _, s := range servers { // so that each has it in its cache
			ok(s.Order(t.ctx, "po-1"))(t)
		}
		quantity++
		begin := time.Date(2020+i, 1, 1, 0, 0, 0, 0, time.UTC)
		want := ok(s.ChangeOrder(t.ctx, By, "po-1", vetting.OrderChange{Quantity: &quantity, NotBefore: &begin}))(t)
		for _, s := range servers {
			same(t, "order", ok(s.Order(t.ctx, "po-1"))(t), want)
			same(t, "facts", ok(s.Facts(t.ctx, first(0)))(t).Order, want)
		}
	}
	t.admit(0)
	for _, s := range servers {
		if o := ok(s.Facts(t.ctx, first(1)))(t).Order; o.Issued != 1 {
			t.Errorf("a server counts %d units", o.Issued)
		}
	}
}

func orderLists(t *trial) {
	for _, name := range []string{"a", "b"} {
		t.product("p" + name)
		t.site("s" + name)
	}
	t.order("1", "pa", "sa", vetting.OrderOpen)
	t.order("2", "pb", "sa", vetting.OrderOpen)
	t.order("3", "pa", "sb", vetting.OrderDraft)
	t.order("4", "pa", "sa", vetting.OrderDraft)
	t.order("5", "pb", "sb", vetting.OrderCancelled)
	for want, f := range map[string]vetting.OrderFilter{
		"12345": {},
		"124":   {Site: "sa"},
		"134":   {Product: "pa"},
		"34":    {State: vetting.OrderDraft},
		"14":    {Site: "sa", Product: "pa"},
		"4":     {Site: "sa", Product: "pa", State: vetting.OrderDraft},
		"":      {Site: "sc"},
	} {
		got := ""
		for _, o := range ok(t.store.Orders(t.ctx, f, vetting.Page{}))(t) {
			got += o.Name
		}
		if got != want {
			t.Errorf("%+v lists %q, want %q", f, got, want)
		}
	}
	id := func(o *vetting.Order) int64 { return o.ID }
	pages(t, 5, false, func(p vetting.Page) ([]*vetting.Order, error) { return t.store.Orders(t.ctx, vetting.OrderFilter{}, p) }, id)
	pages(t, 3, false, func(p vetting.Page) ([]*vetting.Order, error) {
		return t.store.Orders(t.ctx, vetting.OrderFilter{Product: "pa"}, p)
	}, id)
}
