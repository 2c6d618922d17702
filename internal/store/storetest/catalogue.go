package storetest

import (
	"fmt"

	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/internal/store"
	"github.com/touchmark/touchmark/vetting"
)

var catalogueCases = []conformance{
	{"a product is kept as it was given", productIsKept},
	{"a product changes by revision", productRevisions},
	{"another server sees a product's change at once", productSeenElsewhere},
	{"a site is kept as it was given", siteIsKept},
	{"lists come in pages", cataloguePages},
	{"a page has a bound", pageBound},
	{"an operator is found by name and key", operatorIsKept},
	{"an operator's name and key are taken once", operatorTaken},
	{"an operator gets another certificate", operatorRenewed},
	{"a revoked operator is seen as revoked at once", operatorRevoked},
	{"another server sees a revocation", operatorRevokedElsewhere},
}

func productIsKept(t *trial) {
	want := &vetting.Product{Name: "lamp", Description: "a lamp", Proofs: []vetting.Proof{vetting.ProofRig},
		ServerKeys: vetting.ServerKeysEncrypted, Profile: vetting.Profile{Template: "{}", Validity: "forever", Keys: []string{"P-256", "Ed25519"}}}
	given := *want
	made := ok(t.store.CreateProduct(t.ctx, By, &given))(t)
	same(t, "the caller's value", &given, want)
	if made.ID < 1 || made.Revision != 1 || made.Created.IsZero() || !made.Updated.Equal(made.Created) {
		t.Errorf("a new product is %+v", made)
	}
	want.ID, want.Revision, want.Created, want.Updated = made.ID, 1, made.Created, made.Created
	same(t, "created", made, want)
	same(t, "read", ok(t.store.Product(t.ctx, "lamp"))(t), want)
	same(t, "listed", ok(t.store.Products(t.ctx, vetting.Page{}))(t), []*vetting.Product{want})
	t.refuses(vetting.Exists)(t.store.CreateProduct(t.ctx, By, &vetting.Product{Name: "lamp"}))
	t.refuses(vetting.NotFound)(t.store.Product(t.ctx, "Lamp"))
	same(t, "after the refusals", ok(t.store.Product(t.ctx, "lamp"))(t), want)
}

func productRevisions(t *trial) {
	old := t.product("lamp")
	change := *old
	change.Description, change.Proofs = "brighter", []vetting.Proof{vetting.ProofRig}
	made := ok(t.store.UpdateProduct(t.ctx, By, &change))(t)
	if made.Revision != 2 || made.ID != old.ID || !made.Created.Equal(old.Created) || made.Updated.Before(old.Updated) {
		t.Errorf("from %+v came %+v", old, made)
	}
	if made.Description != "brighter" || len(made.Proofs) != 1 {
		t.Errorf("the change was not kept: %+v", made)
	}
	same(t, "read", ok(t.store.Product(t.ctx, "lamp"))(t), made)
	t.refuses(vetting.Conflict)(t.store.UpdateProduct(t.ctx, By, &change)) // it is based on revision 1
	change.Revision = 3
	t.refuses(vetting.Conflict)(t.store.UpdateProduct(t.ctx, By, &change))
	t.refuses(vetting.NotFound)(t.store.UpdateProduct(t.ctx, By, &vetting.Product{Name: "torch", Revision: 1}))
	same(t, "after the refusals", ok(t.store.Product(t.ctx, "lamp"))(t), made)
}

func productSeenElsewhere(t *trial) {
	t.world(1, Unit(0))
	servers := []*store.Store{t.store, t.second()}
	for i, changer := range []*store.Store{servers[0], servers[1], servers[0]} {
		for _, s := range servers { // so that each has it in its cache
			ok(s.Facts(t.ctx, first(0)))(t)
		}
		p := *ok(changer.Product(t.ctx, "thermo"))(t)
		p.Profile.Validity = fmt.Sprintf("%dd", i+1)
		ok(changer.UpdateProduct(t.ctx, By, &p))(t)
		for n, s := range servers {
			if got := ok(s.Product(t.ctx, "thermo"))(t); got.Profile.Validity != p.Profile.Validity {
				t.Errorf("server %d reads %+v", n, got)
			}
			if got := ok(s.Facts(t.ctx, first(0)))(t).Product; got.Profile.Validity != p.Profile.Validity || got.Revision != p.Revision+1 {
				t.Errorf("server %d judges by %+v", n, got)
			}
		}
	}
}

func siteIsKept(t *trial) {
	want := &vetting.Site{Name: "gdansk", Description: "on the coast"}
	made := ok(t.store.CreateSite(t.ctx, By, want))(t)
	if made.ID < 1 || made.Revision != 1 || made.Created.IsZero() {
		t.Errorf("a new site is %+v", made)
	}
	want.ID, want.Revision, want.Created = made.ID, 1, made.Created
	same(t, "created", made, want)
	same(t, "read", ok(t.store.Site(t.ctx, "gdansk"))(t), want)
	same(t, "listed", ok(t.store.Sites(t.ctx, vetting.Page{}))(t), []*vetting.Site{want})
	t.refuses(vetting.Exists)(t.store.CreateSite(t.ctx, By, &vetting.Site{Name: "gdansk"}))
	t.refuses(vetting.NotFound)(t.store.Site(t.ctx, "gdynia"))
}

func cataloguePages(t *trial) {
	for i := range 5 {
		t.product(fmt.Sprintf("p%d", i))
		t.site(fmt.Sprintf("s%d", i))
		t.operator(fmt.Sprintf("o%d", i), access.RolePlanner, "")
	}
	pages(t, 5, false, func(p vetting.Page) ([]*vetting.Product, error) { return t.store.Products(t.ctx, p) },
		func(p *vetting.Product) int64 { return p.ID })
	pages(t, 5, false, func(p vetting.Page) ([]*vetting.Site, error) { return t.store.Sites(t.ctx, p) },
		func(s *vetting.Site) int64 { return s.ID })
	pages(t, 5, false, func(p vetting.Page) ([]*access.Operator, error) { return t.store.Operators(t.ctx, p) },
		func(o *access.Operator) int64 { return o.ID })
}

// A page that names no limit, or too large a one, has 100 entries.
func pageBound(t *trial) {
	for i := range 101 {
		t.site(fmt.Sprintf("s%d", i))
	}
	for limit, want := range map[int]int{-1: 100, 0: 100, 1: 1, 1000: 101, 1001: 100} {
		if list := ok(t.store.Sites(t.ctx, vetting.Page{Limit: limit}))(t); len(list) != want {
			t.Errorf("limit %d gives %d entries, want %d", limit, len(list), want)
		}
	}
}

// operator makes an operator whose key follows from the name.
func (t *trial) operator(name string, role access.Role, site string) *access.Operator {
	t.Helper()
	return ok(t.store.CreateOperator(t.ctx, By, &access.Operator{Name: name, Role: role, Site: site, Key: Key(name, 0)}))(t)
}

func operatorIsKept(t *trial) {
	site := t.site("gdansk")
	rig := t.operator("rig-1", access.RoleRig, "gdansk")
	if rig.ID < 1 || rig.Created.IsZero() {
		t.Errorf("a new operator is %+v", rig)
	}
	want := &access.Operator{ID: rig.ID, Name: "rig-1", Role: access.RoleRig, Site: "gdansk", SiteID: site.ID, Key: Key("rig-1", 0), Created: rig.Created, Issuer: vetting.FactoryCA}
	same(t, "created", rig, want)
	anna := t.operator("anna", access.RoleAdmin, "")
	if anna.Site != "" || anna.SiteID != 0 {
		t.Errorf("an admin belongs to a site: %+v", anna)
	}
	for _, o := range []*access.Operator{want, anna} {
		same(t, "by name", ok(t.store.Operator(t.ctx, o.Name))(t), o)
		same(t, "by key", ok(t.store.OperatorByKey(t.ctx, o.Key))(t), o)
		same(t, "by key, remembered", ok(t.store.OperatorByKey(t.ctx, o.Key))(t), o)
	}
	same(t, "listed", ok(t.store.Operators(t.ctx, vetting.Page{}))(t), []*access.Operator{want, anna})
	t.refuses(vetting.NotFound)(t.store.Operator(t.ctx, "nobody"))
	t.refuses(vetting.NotFound)(t.store.OperatorByKey(t.ctx, Key("nobody", 0)))
	t.refuses(vetting.NotFound)(t.store.CreateOperator(t.ctx, By, &access.Operator{Name: "x", Role: access.RoleRig, Site: "gdynia", Key: Key("x", 0)}))
	// who was looked for in vain is found once there
	x := t.operator("nobody", access.RoleAuditor, "")
	same(t, "by key, new", ok(t.store.OperatorByKey(t.ctx, x.Key))(t), x)
}

func operatorTaken(t *trial) {
	t.operator("anna", access.RoleAdmin, "")
	for range 2 {
		t.refuses(vetting.Exists)(t.store.CreateOperator(t.ctx, By, &access.Operator{Name: "anna", Role: access.RoleAdmin, Key: Key("other", 0)}))
		t.refuses(vetting.Exists)(t.store.CreateOperator(t.ctx, By, &access.Operator{Name: "other", Role: access.RoleAdmin, Key: Key("anna", 0)}))
		// a revoked operator's name and key do not become free
		ok(t.store.RevokeOperator(t.ctx, By, "anna"))(t)
	}
}

func operatorRenewed(t *trial) {
	t.operator("anna", access.RoleAdmin, "")
	t.operator("berta", access.RoleAdmin, "")
	want := ok(t.store.OperatorByKey(t.ctx, Key("anna", 0)))(t)
	count := func(founding, next int64) {
		t.Helper()
		counts := ok(t.second().OperatorCounts(t.ctx))(t)
		if counts[vetting.OperatorCA] != founding || counts["operator-2027"] != next {
			t.Errorf("the counts are %v, want %d of the founding CA and %d of the next", counts, founding, next)
		}
	}
	count(2, 0)
	next := *want
	next.Issuer, next.NotAfter = "operator-2027", want.Created.AddDate(1, 0, 0)
	t.logs("operator.renew", "anna", 1, func() { same(t, "renewed", ok(t.store.RenewOperator(t.ctx, By, &next))(t), &next) })
	same(t, "by key", ok(t.store.OperatorByKey(t.ctx, want.Key))(t), &next)
	count(1, 1)
	back := next
	back.Issuer = vetting.OperatorCA
	same(t, "by the founding CA again", ok(t.store.RenewOperator(t.ctx, By, &back))(t), &back)
	other := next
	other.Key = Key("other", 0)
	t.refuses(vetting.Conflict)(t.store.RenewOperator(t.ctx, By, &other))
	t.refuses(vetting.NotFound)(t.store.RenewOperator(t.ctx, By, &access.Operator{Name: "none"}))
	ok(t.store.RevokeOperator(t.ctx, By, "anna"))(t)
	t.refuses(vetting.Conflict)(t.store.RenewOperator(t.ctx, By, &next))
	count(1, 0)
}

func operatorRevoked(t *trial) {
	t.operator("anna", access.RoleAdmin, "")
	t.operator("berta", access.RoleAdmin, "")
	key := Key("anna", 0)
	if o := ok(t.store.OperatorByKey(t.ctx, key))(t); !o.Revoked.IsZero() || !o.May(access.ReadAudit) {
		t.Fatalf("a new operator is %+v", o)
	}
	gone := ok(t.store.RevokeOperator(t.ctx, By, "anna"))(t)
	if gone.Revoked.IsZero() || gone.May(access.ReadAudit) {
		t.Errorf("a revoked operator is %+v", gone)
	}
	same(t, "by key", ok(t.store.OperatorByKey(t.ctx, key))(t), gone)
	same(t, "by name", ok(t.store.Operator(t.ctx, "anna"))(t), gone)
	same(t, "listed", ok(t.store.Operators(t.ctx, vetting.Page{}))(t)[0], gone)
	if o := ok(t.store.OperatorByKey(t.ctx, Key("berta", 0)))(t); !o.Revoked.IsZero() {
		t.Errorf("another operator was revoked too: %+v", o)
	}
	before := t.leaves()
	same(t, "revoked again", ok(t.store.RevokeOperator(t.ctx, By, "anna"))(t), gone)
	if t.leaves() != before {
		t.Error("revoking again left a leaf")
	}
	t.refuses(vetting.NotFound)(t.store.RevokeOperator(t.ctx, By, "nobody"))
}

func operatorRevokedElsewhere(t *trial) {
	other := t.second()
	t.operator("anna", access.RoleAdmin, "")
	gone := ok(other.RevokeOperator(t.ctx, By, "anna"))(t)
	// neither had read anna's key before, so neither may remember it
	same(t, "by key, here", ok(t.store.OperatorByKey(t.ctx, Key("anna", 0)))(t), gone)
	same(t, "by key, there", ok(other.OperatorByKey(t.ctx, Key("anna", 0)))(t), gone)
	same(t, "by name", ok(t.store.Operator(t.ctx, "anna"))(t), gone)
}
