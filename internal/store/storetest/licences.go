package storetest

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/internal/audit"
	"github.com/touchmark/touchmark/internal/store"
	"github.com/touchmark/touchmark/vetting"
)

var licenceCases = []conformance{
	{"a chip is licensed once", licensedOnce},
	{"an order licenses no more chips than its quantity", licensedQuota},
	{"a chip belongs to one product and site", licensedForeign},
	{"only an open order licenses chips", licensedState},
	{"a grant is signed once", signedOnce},
	{"licences are confirmed by their site", licenceConfirmed},
	{"requests at the same time license each chip once", licensedConcurrent},
	{"many chips in one request", licensedMany},
	{"licences are listed", licencesListed},
	{"lots are numbered", lotsNumbered},
	{"products are numbered, and keep what licences rest on", licencePolicies},
	{"a product's keys follow each other", licenceKeys},
}

// Licensed makes a product declare licences.
func Licensed(t testing.TB, s *store.Store, product string) {
	t.Helper()
	ctx := context.Background()
	p, err := s.Product(ctx, product)
	if err == nil {
		p.Licences = &vetting.LicencePolicy{UID: "uid64"}
		_, err = s.UpdateProduct(ctx, By, p)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// Chip is the UID of a made-up chip.
func Chip(n int) []byte { return fmt.Appendf(nil, "chip%04d", n) }

// Chips are several.
func Chips(from, to int) (list [][]byte) {
	for n := from; n < to; n++ {
		list = append(list, Chip(n))
	}
	return list
}

var rig = access.Act{Operator: "rig-1"}

func (t *trial) reserve(order string, uids ...[]byte) *vetting.LicenceClaims {
	t.Helper()
	o := ok(t.store.Order(t.ctx, order))(t)
	return ok(t.store.ReserveLicences(t.ctx, rig, vetting.LicenceRequest{Order: o, UIDs: uids}))(t)
}

// signatures are made up for a grant of n chips.
func signatures(grant int64, n int) vetting.LicenceSignatures {
	return vetting.LicenceSignatures{Grant: grant, KeyID: 7, Header: [16]byte{'T', 1}, Signatures: random(64 * n)}
}

func (t *trial) licensed(order string) int64 {
	t.Helper()
	return ok(t.store.Order(t.ctx, order))(t).Licensed
}

func (t *trial) licenceOf(uid []byte) *vetting.Licence {
	t.Helper()
	list := ok(t.store.LicencesOf(t.ctx, [][]byte{uid}))(t)
	if len(list) != 1 {
		t.Fatalf("%d licences for %x", len(list), uid)
	}
	return list[0]
}

func (t *trial) refused(c *vetting.LicenceClaims, want ...vetting.LicenceRefusalCode) {
	t.Helper()
	for i, claim := range c.Claims {
		got := vetting.LicenceRefusalCode("")
		if claim.Refused != nil {
			got = claim.Refused.Code
		}
		if got != want[i] {
			t.Errorf("chip %d: refused as %q, want %q", i, got, want[i])
		}
	}
}

func licensedOnce(t *trial) {
	t.world(10)
	before := t.leaves()
	c := t.reserve("po-1", Chip(1), Chip(2))
	grant := c.Claims[0].Grant
	same(t, "claims", *c, vetting.LicenceClaims{Lot: 1, Left: 8, Claims: []vetting.LicenceClaim{{Grant: grant, Fresh: true}, {Grant: grant, Fresh: true}}})
	if l := t.leaf(before); l.Act != "licence.reserve" || l.By != "operator:rig-1" || len(l.Objects) != 3 || l.Objects[0].Kind != audit.KindLicences {
		t.Errorf("%+v", l)
	}
	l := t.licenceOf(Chip(2))
	if l.State != vetting.LicenceReserved || l.Bytes != nil || l.Order != "po-1" || l.Product != "thermo" || l.Site != "hsinchu" || l.By != "rig-1" || l.Lot != 1 {
		t.Errorf("reserved: %+v", l)
	}
	same(t, "unsigned", ok(t.store.UnsignedGrant(t.ctx, grant))(t), &vetting.LicenceGrant{ID: grant, Lot: 1, UIDs: Chips(1, 3)})
	// Asked for again before it is signed, it takes nothing.
	c = t.reserve("po-1", Chip(2), Chip(3))
	same(t, "again", c.Claims[0], vetting.LicenceClaim{Grant: grant})
	same(t, "left", c.Left, 7)
	sigs := signatures(grant, 2)
	same(t, "first", ok(t.store.SignLicences(t.ctx, rig, sigs))(t), true)
	l = t.licenceOf(Chip(2))
	want := append(append([]byte{'T', 1, 0, 0, 8}, make([]byte, 11)...), sigs.Signatures[64:]...)
	if l.State != vetting.LicenceSigned || !bytes.Equal(l.Bytes, want) || l.Signed.IsZero() {
		t.Errorf("signed: %+v", l)
	}
	before = t.leaves()
	same(t, "repeated", t.reserve("po-1", Chip(1)).Claims[0], vetting.LicenceClaim{Grant: grant, Signed: true})
	if l := t.leaf(before); l.Act != "licence.repeat" || l.Note != "order po-1: again for "+hex.EncodeToString(Chip(1)) {
		t.Errorf("%+v", l)
	}
	same(t, "licensed", t.licensed("po-1"), 3)
}

func licensedQuota(t *trial) {
	t.world(3)
	t.reserve("po-1", Chip(1))
	t.refused(t.reserve("po-1", Chips(1, 6)...), "", "", "", vetting.RefusedQuota, vetting.RefusedQuota)
	same(t, "licensed", t.licensed("po-1"), 3)
	t.refused(t.reserve("po-1", Chip(9)), vetting.RefusedQuota)
	evidence := ok(t.store.Evidence(t.ctx, vetting.EvidenceFilter{Kind: vetting.EvidenceOverLicensed}, vetting.Page{}))(t)
	if len(evidence) != 1 || evidence[0].Repeats != 2 {
		t.Errorf("evidence: %s", show(evidence))
	}
	t.site("tainan")
	for site, want := range map[string]int{"hsinchu": 1, "tainan": 0} { // it is the site's affair
		same(t, site, len(ok(t.store.Evidence(t.ctx, vetting.EvidenceFilter{Site: site}, vetting.Page{}))(t)), want)
	}
	two, four := int64(2), int64(4)
	t.refuses(vetting.Conflict)(t.store.ChangeOrder(t.ctx, By, "po-1", vetting.OrderChange{Quantity: &two}))
	t.change("po-1", vetting.OrderChange{Quantity: &four})
	t.refused(t.reserve("po-1", Chip(4), Chip(5)), "", vetting.RefusedQuota)
}

func licensedForeign(t *trial) {
	record := Unit(0)
	record.Identity.UID = hex.EncodeToString(Chip(5))
	t.world(10, record)
	t.product("lamp")
	t.site("tainan")
	t.order("lamps", "lamp", "hsinchu", vetting.OrderOpen)
	t.order("far", "thermo", "tainan", vetting.OrderOpen)
	t.order("po-2", "thermo", "hsinchu", vetting.OrderOpen)
	t.reserve("po-1", Chip(1))
	t.refused(t.reserve("lamps", Chip(1), Chip(5), Chip(2)), vetting.RefusedOtherProduct, vetting.RefusedOtherProduct, "")
	t.refused(t.reserve("far", Chip(1), Chip(5), Chip(3)), vetting.RefusedOtherSite, vetting.RefusedOtherSite, "")
	same(t, "licensed", t.licensed("lamps")+t.licensed("far"), 2)
	// Another order of the same product and site gets what the first gave.
	t.refused(t.reserve("po-2", Chip(1), Chip(5)), "", "")
	same(t, "licensed", []int64{t.licensed("po-1"), t.licensed("po-2")}, []int64{1, 1})
	evidence := ok(t.store.Evidence(t.ctx, vetting.EvidenceFilter{Kind: vetting.EvidenceForeignChip}, vetting.Page{}))(t)
	if len(evidence) != 4 || evidence[0].DeviceID == 0 || evidence[1].DeviceID != 0 {
		t.Errorf("evidence: %s", show(evidence))
	}
	same(t, "device", t.licenceOf(Chip(5)).DeviceID, evidence[0].DeviceID)
}

func licensedState(t *trial) {
	t.world(10)
	t.reserve("po-1", Chip(1))
	for _, state := range []vetting.OrderState{vetting.OrderPaused, vetting.OrderClosed} {
		t.change("po-1", vetting.OrderChange{State: &state})
		t.refused(t.reserve("po-1", Chip(1), Chip(2)), "", vetting.RefusedOrder)
	}
	open, past := vetting.OrderOpen, time.Now().Add(-time.Hour)
	stale := ok(t.store.Order(t.ctx, "po-1"))(t)
	t.change("po-1", vetting.OrderChange{State: &open, NotAfter: &past})
	t.refused(ok(t.store.ReserveLicences(t.ctx, rig, vetting.LicenceRequest{Order: stale, UIDs: Chips(1, 3)}))(t), "", vetting.RefusedOrder)
	cancelled := vetting.OrderCancelled
	t.change("po-1", vetting.OrderChange{State: &cancelled})
	t.refused(t.reserve("po-1", Chip(1)), vetting.RefusedOrder)
	same(t, "licensed", t.licensed("po-1"), 1)
	_, err := t.store.ReserveLicences(t.ctx, rig, vetting.LicenceRequest{Order: &vetting.Order{ID: 9999, Name: "none"}, UIDs: Chips(1, 2)})
	same(t, "no order", vetting.ProblemOf(err), vetting.NotFound)
}

func signedOnce(t *trial) {
	t.world(10)
	grant := t.reserve("po-1", Chip(1)).Claims[0].Grant
	sigs := signatures(grant, 1)
	before := t.leaves()
	var wg sync.WaitGroup
	first := make([]bool, 4)
	other := t.second()
	for i := range first {
		wg.Go(func() {
			s := t.store
			if i%2 == 1 {
				s = other
			}
			first[i] = ok(s.SignLicences(t.ctx, rig, signatures(grant, 1)))(t)
		})
	}
	wg.Wait()
	n := 0
	for _, f := range first {
		if f {
			n++
		}
	}
	same(t, "first", n, 1)
	same(t, "leaves", t.leaves(), before+1)
	kept := t.licenceOf(Chip(1)).Bytes
	same(t, "late", ok(t.store.SignLicences(t.ctx, rig, sigs))(t), false)
	same(t, "kept", t.licenceOf(Chip(1)).Bytes, kept)
	if _, err := t.store.SignLicences(t.ctx, rig, signatures(grant, 2)); err == nil {
		t.Error("more signatures than chips")
	}
	t.refuses(vetting.NotFound)(t.store.SignLicences(t.ctx, rig, signatures(grant+100, 1)))
	t.refuses(vetting.NotFound)(t.store.UnsignedGrant(t.ctx, grant+100))
}

func licenceConfirmed(t *trial) {
	t.world(10)
	t.site("tainan")
	grant := t.reserve("po-1", Chip(1), Chip(2)).Claims[0].Grant
	t.reserve("po-1", Chip(3))
	ok(t.store.SignLicences(t.ctx, rig, signatures(grant, 2)))(t)
	before := t.leaves()
	out := ok(t.store.ConfirmLicences(t.ctx, rig, "hsinchu", [][]byte{Chip(1), Chip(1), Chip(3), Chip(4)}))(t)
	if out[0] != nil || out[1] != nil || out[2] == nil || out[3] == nil || out[3].Code != vetting.RefusedUnknown {
		t.Errorf("confirmed: %s", show(out))
	}
	if l := t.leaf(before); l.Act != "licence.programmed" || len(l.Objects) != 1 {
		t.Errorf("%+v", l)
	}
	l := t.licenceOf(Chip(1))
	if l.State != vetting.LicenceProgrammed || l.Programmed.IsZero() || t.licenceOf(Chip(2)).State != vetting.LicenceSigned {
		t.Errorf("%+v", l)
	}
	before = t.leaves()
	same(t, "again", ok(t.store.ConfirmLicences(t.ctx, rig, "hsinchu", Chips(1, 2)))(t), []*vetting.LicenceRefusal{nil})
	if out := ok(t.store.ConfirmLicences(t.ctx, rig, "tainan", Chips(1, 2)))(t); out[0] == nil {
		t.Error("another site confirmed it")
	}
	same(t, "leaves", t.leaves(), before)
}

func licensedConcurrent(t *trial) {
	t.world(20)
	other := t.second()
	var wg sync.WaitGroup
	for i := range 6 {
		s := []*store.Store{t.store, other}[i%2]
		wg.Go(func() {
			for n := range 30 {
				o := ok(s.Order(t.ctx, "po-1"))(t)
				uids := Chips(n, n+1+i%3)
				c := ok(s.ReserveLicences(t.ctx, rig, vetting.LicenceRequest{Order: o, UIDs: uids}))(t)
				for _, claim := range c.Claims {
					if claim.Fresh && claim.Grant == 0 {
						t.Errorf("%+v", claim)
					}
				}
			}
		})
	}
	wg.Wait()
	same(t, "licensed", t.licensed("po-1"), 20)
	same(t, "kept", len(ok(t.store.Licences(t.ctx, vetting.LicenceFilter{}, vetting.Page{Limit: 1000}))(t)), 20)
}

func licensedMany(t *trial) {
	t.world(700)
	c := t.reserve("po-1", Chips(0, 1000)...)
	if c.Left != 0 || c.Claims[699].Refused != nil || c.Claims[700].Refused == nil {
		t.Errorf("left %d", c.Left)
	}
	sigs := signatures(c.Claims[0].Grant, 700)
	ok(t.store.SignLicences(t.ctx, rig, sigs))(t)
	list := ok(t.store.LicencesOf(t.ctx, Chips(0, 1000)))(t)
	same(t, "licences", len(list), 700)
	same(t, "signature", t.licenceOf(Chip(650)).Bytes[16:], sigs.Signatures[650*64:651*64])
	for i, r := range ok(t.store.ConfirmLicences(t.ctx, rig, "hsinchu", Chips(0, 1000)))(t) {
		if (r == nil) != (i < 700) {
			t.Errorf("chip %d: %+v", i, r)
		}
	}
}

func licencesListed(t *trial) {
	t.world(10)
	t.order("po-2", "thermo", "hsinchu", vetting.OrderOpen)
	grant := t.reserve("po-1", Chips(0, 3)...).Claims[0].Grant
	t.reserve("po-2", Chip(5))
	ok(t.store.SignLicences(t.ctx, rig, signatures(grant, 3)))(t)
	ok(t.store.ConfirmLicences(t.ctx, rig, "hsinchu", Chips(0, 1)))(t)
	for want, f := range map[int]vetting.LicenceFilter{
		4: {Site: "hsinchu", Product: "thermo"}, 3: {Order: "po-1"}, 2: {State: vetting.LicenceSigned}, 0: {Site: "tainan"},
	} {
		same(t, fmt.Sprintf("%+v", f), len(ok(t.store.Licences(t.ctx, f, vetting.Page{}))(t)), want)
	}
	same(t, "reserved", ok(t.store.Licences(t.ctx, vetting.LicenceFilter{State: vetting.LicenceReserved}, vetting.Page{}))(t)[0].UID, hex.EncodeToString(Chip(5)))
	same(t, "programmed", ok(t.store.Licences(t.ctx, vetting.LicenceFilter{State: vetting.LicenceProgrammed}, vetting.Page{}))(t)[0].UID, hex.EncodeToString(Chip(0)))
	pages(t, 4, true, func(p vetting.Page) ([]*vetting.Licence, error) {
		return t.store.Licences(t.ctx, vetting.LicenceFilter{}, p)
	}, func(l *vetting.Licence) int64 { return l.ID })
}

func lotsNumbered(t *trial) {
	t.world(10)
	t.order("po-2", "thermo", "hsinchu", vetting.OrderOpen)
	same(t, "second order", t.reserve("po-2", Chip(1)).Lot, 1)
	same(t, "first order", t.reserve("po-1", Chip(2)).Lot, 2)
	same(t, "kept", t.reserve("po-2", Chip(3)).Lot, 1)
	same(t, "shown", ok(t.store.Order(t.ctx, "po-1"))(t).Lot, 2)
}

func licencePolicies(t *trial) {
	t.world(10)
	t.product("lamp")
	Licensed(t, t.store, "thermo")
	Licensed(t, t.store, "lamp")
	thermo, lamp := ok(t.store.Product(t.ctx, "thermo"))(t), ok(t.store.Product(t.ctx, "lamp"))(t)
	same(t, "numbers", []uint32{thermo.Licences.Number, lamp.Licences.Number}, []uint32{1, 2})
	changed := func(p *vetting.Product, l *vetting.LicencePolicy) *vetting.Product {
		c := *p
		c.Licences = l
		return &c
	}
	t.refuses(vetting.Conflict)(t.store.UpdateProduct(t.ctx, By, changed(lamp, &vetting.LicencePolicy{UID: "uid64", Number: 1})))
	// While nothing was given, all may change.
	thermo = ok(t.store.UpdateProduct(t.ctx, By, changed(thermo, &vetting.LicencePolicy{UID: "stm32", Number: 9, Epoch: 4})))(t)
	t.reserve("po-1", Chip(1))
	for _, l := range []*vetting.LicencePolicy{nil, {UID: "uid64", Number: 9, Epoch: 4}, {UID: "stm32", Number: 8, Epoch: 4}, {UID: "stm32", Epoch: 3}} {
		t.refuses(vetting.Conflict)(t.store.UpdateProduct(t.ctx, By, changed(thermo, l)))
	}
	thermo = ok(t.store.UpdateProduct(t.ctx, By, changed(thermo, &vetting.LicencePolicy{UID: "stm32", Epoch: 5})))(t)
	same(t, "raised", *thermo.Licences, vetting.LicencePolicy{UID: "stm32", Number: 9, Epoch: 5})
}

// licenceKey makes a key for the world's product.
func licenceKey(t *trial, number uint8) *vetting.LicenceKey {
	t.Helper()
	public, _, err := ed25519.GenerateKey(nil)
	t.done(err)
	spki := ok(x509.MarshalPKIXPublicKey(public))(t)
	return &vetting.LicenceKey{Product: "thermo", Number: number, Algorithm: "Ed25519", Public: spki}
}

func licenceKeys(t *trial) {
	w := t.world(10)
	t.refuses(vetting.Conflict)(t.store.CreateLicenceKey(t.ctx, By, licenceKey(t, 1))) // nothing is declared
	t.refuses(vetting.Conflict)(t.store.LicenceTerms(t.ctx, w.Order))
	Licensed(t, t.store, "thermo")
	t.refuses(vetting.Conflict)(t.store.LicenceTerms(t.ctx, w.Order)) // no key
	t.refuses(vetting.Conflict)(t.store.CreateLicenceKey(t.ctx, By, licenceKey(t, 2)))
	one := ok(t.store.CreateLicenceKey(t.ctx, By, licenceKey(t, 1)))(t)
	same(t, "terms", ok(t.store.LicenceTerms(t.ctx, w.Order))(t), &vetting.LicenceTerms{Policy: vetting.LicencePolicy{UID: "uid64", Number: 1}, Key: one})
	two := ok(t.store.CreateLicenceKey(t.ctx, By, licenceKey(t, 2)))(t)
	if !one.Signing || two.Signing || one.Name() != "licence-thermo-1" || two.By != "test" {
		t.Errorf("%+v, %+v", one, two)
	}
	ok(t.store.UseLicenceKey(t.ctx, By, "thermo", 2))(t)
	before := t.leaves()
	ok(t.store.UseLicenceKey(t.ctx, By, "thermo", 2))(t)
	same(t, "leaves", t.leaves(), before)
	same(t, "signs", ok(t.store.LicenceTerms(t.ctx, w.Order))(t).Key.Number, 2)
	t.refuses(vetting.NotFound)(t.store.UseLicenceKey(t.ctx, By, "thermo", 3))
	t.refuses(vetting.NotFound)(t.store.UseLicenceKey(t.ctx, By, "none", 1))
	same(t, "still signs", ok(t.store.LicenceTerms(t.ctx, w.Order))(t).Key.Number, 2)
	same(t, "keys", len(ok(t.store.LicenceKeys(t.ctx, "thermo"))(t)), 2)
}

// licenceCalls are the store's methods about licences.
func licenceCalls(ctx context.Context, s *store.Store) map[string]func() error {
	order := &vetting.Order{ID: 1, Name: "po-1"}
	return map[string]func() error{
		"ConfirmLicences": call(func() (any, error) { return s.ConfirmLicences(ctx, By, "hsinchu", Chips(1, 2)) }),
		"LicenceKeyMade": call(func() (any, error) {
			return s.LicenceKeyMade(ctx, access.Act{Operator: "anna", Key: "1"}, "thermo")
		}),
		"CreateLicenceKey": call(func() (any, error) { return s.CreateLicenceKey(ctx, By, &vetting.LicenceKey{Product: "thermo"}) }),
		"LicenceKeys":      call(func() (any, error) { return s.LicenceKeys(ctx, "thermo") }),
		"LicenceTerms":     call(func() (any, error) { return s.LicenceTerms(ctx, order) }),
		"Licences":         call(func() (any, error) { return s.Licences(ctx, vetting.LicenceFilter{}, vetting.Page{}) }),
		"LicencesOf":       call(func() (any, error) { return s.LicencesOf(ctx, Chips(1, 2)) }),
		"ReserveLicences": call(func() (any, error) {
			return s.ReserveLicences(ctx, By, vetting.LicenceRequest{Order: order, UIDs: Chips(1, 2)})
		}),
		"SignLicences":  call(func() (any, error) { return s.SignLicences(ctx, By, signatures(1, 1)) }),
		"UnsignedGrant": call(func() (any, error) { return s.UnsignedGrant(ctx, 1) }),
		"UseLicenceKey": call(func() (any, error) { return s.UseLicenceKey(ctx, By, "thermo", 1) }),
	}
}
