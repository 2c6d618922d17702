package storetest

import (
	"sync"
	"sync/atomic"

	"github.com/touchmark/touchmark/vetting"
)

var identifierCases = []conformance{
	{"a site's networks change by revision", siteUpdate},
	{"the first device at the site binds its key", identifiersBind},
	{"one of many that claim an identity is let in", identifiersRace},
	{"the first device by a vendor's certificate binds its key", vendorBinds},
	{"a vendor's certificate finds a record by its key, or a name in a product that trusts it", vendorFinds},
}

func siteUpdate(t *trial) {
	w := t.world(10)
	s := *w.Site
	s.Networks = []string{"203.0.113.0/24"}
	made := ok(t.store.UpdateSite(t.ctx, By, &s))(t)
	same(t, "the networks", made.Networks, s.Networks)
	same(t, "the revision", made.Revision, s.Revision+1)
	same(t, "the creation", made.Created, w.Site.Created)
	t.refuses(vetting.Conflict)(t.store.UpdateSite(t.ctx, By, &s))
	s.Name = "nowhere"
	t.refuses(vetting.NotFound)(t.store.UpdateSite(t.ctx, By, &s))
	same(t, "the site at another server", ok(t.second().Site(t.ctx, "hsinchu"))(t), made)
}

// keyless makes a world whose product rests on identifiers and whose records
// list no keys. Claims come from 192.0.2.1.
func (t *trial) keyless(n int) *World {
	w := t.world(10)
	p := *w.Product
	p.Proofs = []vetting.Proof{vetting.ProofIdentifiers}
	ok(t.store.UpdateProduct(t.ctx, By, &p))(t)
	s := *w.Site
	s.Networks = []string{"2001:db8::/32", "192.0.2.0/24"}
	ok(t.store.UpdateSite(t.ctx, By, &s))(t)
	for i := range n {
		r := Unit(i)
		r.BootstrapKey = vetting.Fingerprint{}
		w.Load(t, r)
	}
	return w
}

// calling is a claim by the identifiers of unit n, with bootstrap key k.
func calling(n, k int) vetting.Claim {
	c := Claim(Key("found", k), Key("official", k))
	c.Asserted = Unit(n).Identity
	return c
}

func identifiersBind(t *trial) {
	t.keyless(2)
	away := calling(0, 0)
	away.Remote = "198.51.100.9"
	t.enrol(away, vetting.ReasonOffSite)
	serialOnly := calling(0, 0)
	serialOnly.Asserted.MAC = ""
	t.enrol(serialOnly, vetting.ReasonProof) // a serial number alone is no proof
	r := t.enrol(calling(0, 0), vetting.ReasonVetted)
	same(t, "the proof", r.Claim.Auth.Proof, vetting.ProofIdentifiers)
	d := t.deviceOf(r)
	same(t, "the bound key", d.BoundKey, Key("found", 0))
	t.again(calling(0, 0))
	t.enrol(calling(0, 1), vetting.ReasonBound)
	again := calling(0, 0)
	again.Key, again.Remote = Key("official", 9), "198.51.100.9"
	t.enrol(again, vetting.ReasonReplaced) // the bound key counts anywhere
	same(t, "units", t.issued("po-1"), 1)
	h := ok(t.store.DeviceHistory(t.ctx, d.ID))(t)
	if len(h.Evidence) != 2 || h.Evidence[0].Kind != vetting.EvidenceWrongKey || h.Evidence[1].Kind != vetting.EvidenceWrongSite {
		t.Errorf("evidence %+v", h.Evidence)
	}
}

func identifiersRace(t *trial) {
	t.keyless(1)
	var admitted, refused atomic.Int64
	var wg sync.WaitGroup
	for k := range 20 {
		wg.Go(func() {
			v, _, err := Enrol(t.ctx, t.store, calling(0, k))
			switch {
			case err == nil && v.Outcome == vetting.Admitted:
				admitted.Add(1)
			case err == nil && v.Reasons[0].Code == vetting.ReasonBound:
				refused.Add(1)
			default:
				t.Errorf("%s, %v", v.Text(), err)
			}
		})
	}
	wg.Wait()
	same(t, "admitted and refused", [2]int64{admitted.Load(), refused.Load()}, [2]int64{1, 19})
	same(t, "units", t.issued("po-1"), 1)
}

// vouching changes the world's product to rest on vendors' certificates, and
// makes another that does, too.
func (t *trial) vouching(n int) *World {
	w := t.keyless(n)
	p := *ok(t.store.Product(t.ctx, w.Product.Name))(t)
	p.Proofs = []vetting.Proof{vetting.ProofVendor}
	ok(t.store.UpdateProduct(t.ctx, By, &p))(t)
	p.Name = "fridge"
	ok(t.store.CreateProduct(t.ctx, By, &p))(t)
	return w
}

// presenting is a claim by a vendor's certificate of key k, which one product
// trusts, and in which it finds the identity.
func presenting(product string, id vetting.Identity, k int) vetting.Claim {
	c := Claim(Key("found", k), Key("official", k))
	c.Auth.Proof, c.Vendors = vetting.ProofVendor, []vetting.VendorMatch{{Product: product, Vendor: "chips", Asserted: id}}
	return c
}

func vendorBinds(t *trial) {
	w := t.vouching(2)
	mac := vetting.Identity{MAC: Unit(0).MAC}
	r := t.enrol(presenting(w.Product.Name, mac, 0), vetting.ReasonVetted)
	same(t, "the vendor", r.Claim.Auth.Vendor, "chips")
	same(t, "the name", r.Claim.Asserted, mac)
	d := t.deviceOf(r)
	same(t, "the bound key", d.BoundKey, Key("found", 0))
	t.again(presenting(w.Product.Name, mac, 0))
	t.enrol(presenting(w.Product.Name, mac, 1), vetting.ReasonBound)
	same(t, "units", t.issued("po-1"), 1)
	h := ok(t.store.DeviceHistory(t.ctx, d.ID))(t)
	if len(h.Evidence) != 1 || h.Evidence[0].Kind != vetting.EvidenceWrongKey {
		t.Errorf("evidence %+v", h.Evidence)
	}
}

func vendorFinds(t *trial) {
	w := t.vouching(1)
	listed := Unit(7)
	w.Load(t, listed)
	byKey := presenting(w.Product.Name, vetting.Identity{}, 0)
	byKey.Auth.Key = listed.BootstrapKey
	t.enrol(byKey, vetting.ReasonVetted)
	t.enrol(presenting(w.Product.Name, listed.Identity, 8), vetting.ReasonWrongKey)
	t.enrol(presenting("fridge", vetting.Identity{Serial: Unit(0).Serial}, 1), vetting.ReasonUnknownDevice)
	t.enrol(presenting("fridge", vetting.Identity{MAC: Unit(0).MAC}, 2), vetting.ReasonVendor)
	elsewhere := presenting(w.Product.Name, Unit(0).Identity, 3)
	elsewhere.Label = "fridge"
	t.enrol(elsewhere, vetting.ReasonVendor)
	both := presenting(w.Product.Name, Unit(0).Identity, 4)
	both.Vendors = append(both.Vendors, vetting.VendorMatch{Product: "fridge", Vendor: "chips", Asserted: vetting.Identity{MAC: Unit(0).MAC}})
	t.enrol(both, vetting.ReasonVetted)
}
