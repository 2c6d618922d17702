package storetest

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/touchmark/touchmark/enroll/certorder"
	"github.com/touchmark/touchmark/internal/audit"
	"github.com/touchmark/touchmark/vetting"
)

var acmeCases = []conformance{
	{"account keys are made, listed and revoked", accountKeysMade},
	{"an account key opens one account", accountKeySpent},
	{"an account has the only key of its kind, and changes", accountChanges},
	{"orders for certificates are kept and changed", certOrdersKept},
	{"of changes to one order at the same time one counts", certOrderRace},
	{"an account's word counts as long as it is what it was", certOrderByAccount},
	{"a certificate has one successor", certOrderReplaces},
	{"open orders are bounded, old ones forgotten", certOrdersForgotten},
	{"an attestation finds the record in a product that trusts it", attestationFinds},
	{"an account speaks for its order or site", accountScope},
	{"a name that was proved makes its record, and finds it", nameFinds},
	{"names are the products' that have servers", namesAllowed},
	{"an order has a bounded number of records by names", namesBounded},
	{"a holder revokes its certificate", holderRevokes},
}

// AccountKey makes an account key for an order.
func (t *trial) accountKey(order string) *vetting.AccountKey {
	t.Helper()
	return ok(t.store.CreateAccountKey(t.ctx, By, &vetting.AccountKey{Order: order, Note: "line 2", Expires: inAnHour()}))(t)
}

// account opens an account with key k.
func (t *trial) account(k int, binding int64) *certorder.Account {
	t.Helper()
	a, opened, err := t.store.OpenAccount(t.ctx, &certorder.Account{Key: fmt.Appendf(nil, "account %d", k), Status: certorder.Valid, Contact: []string{"mailto:a@example.com"}, Binding: binding})
	if err != nil || !opened {
		t.Fatalf("opened %v: %v", opened, err)
	}
	return a
}

func accountKeysMade(t *trial) {
	t.world(10)
	t.site("tainan")
	before := t.leaves()
	k := t.accountKey("po-1")
	if l := t.leaf(before); l.Act != "account-key.create" || l.By != "operator:test" || l.Objects[0].Kind != audit.KindAccountKey {
		t.Errorf("the leaf is %+v", l)
	}
	if k.Order != "po-1" || k.Site != "hsinchu" || k.State != vetting.CodeUnused || k.Note != "line 2" || k.By != "test" || k.Product == "" {
		t.Errorf("made %+v", k)
	}
	of := ok(t.store.CreateAccountKey(t.ctx, By, &vetting.AccountKey{Site: "tainan", Expires: inAnHour()}))(t)
	if of.Order != "" || of.Site != "tainan" {
		t.Errorf("made for a site: %+v", of)
	}
	for f, want := range map[vetting.AccountKeyFilter][]int64{{}: {of.ID, k.ID}, {Site: "hsinchu"}: {k.ID}, {Order: "po-1"}: {k.ID}, {Site: "tainan", Order: "po-1"}: nil} {
		var ids []int64
		for _, k := range ok(t.store.AccountKeys(t.ctx, f, vetting.Page{}))(t) {
			ids = append(ids, k.ID)
		}
		same(t, fmt.Sprintf("account keys by %+v", f), ids, want)
	}
	again := By
	again.Key = "once"
	ok(t.store.CreateAccountKey(t.ctx, again, &vetting.AccountKey{Order: "po-1", Expires: inAnHour()}))(t)
	t.refuses(vetting.Conflict)(t.store.CreateAccountKey(t.ctx, again, &vetting.AccountKey{Order: "po-1", Expires: inAnHour()}))
	t.refuses(vetting.NotFound)(t.store.CreateAccountKey(t.ctx, By, &vetting.AccountKey{Order: "po-9", Expires: inAnHour()}))
	t.refuses(vetting.NotFound)(t.store.CreateAccountKey(t.ctx, By, &vetting.AccountKey{Site: "nowhere", Expires: inAnHour()}))
	t.refuses(vetting.NotFound)(t.store.RevokeAccountKey(t.ctx, By, 1<<40))
	revoked := ok(t.store.RevokeAccountKey(t.ctx, By, k.ID))(t)
	same(t, "the revoked key's state", revoked.State, vetting.CodeRevoked)
	same(t, "revoked again", ok(t.store.RevokeAccountKey(t.ctx, By, k.ID))(t), revoked)
}

func accountKeySpent(t *trial) {
	t.world(10)
	k := t.accountKey("po-1")
	before := t.leaves()
	a := t.account(1, k.ID)
	if l := t.leaf(before); l.Act != "account.open" || len(l.Objects) != 2 || t.leaves() != before+1 {
		t.Errorf("the leaf is %+v", l)
	}
	same(t, "the account's scope", a.Scope, certorder.Scope{Order: "po-1", Product: k.Product})
	if used := ok(t.store.AccountKey(t.ctx, k.ID))(t); used.State != vetting.CodeUsed || used.Account != a.ID {
		t.Errorf("the key that was used is %+v", used)
	}
	open := func(n int, binding int64) (any, error) {
		a, _, err := t.store.OpenAccount(t.ctx, &certorder.Account{Key: fmt.Appendf(nil, "account %d", n), Status: certorder.Valid, Binding: binding})
		return a, err
	}
	t.refuses(vetting.Conflict)(open(2, k.ID))
	again, opened, err := t.second().OpenAccount(t.ctx, &certorder.Account{Key: a.Key, Status: certorder.Valid, Binding: k.ID})
	if err != nil || opened || again.ID != a.ID {
		t.Errorf("the same key again: %+v, opened %v, %v", again, opened, err)
	}
	revoked := t.accountKey("po-1")
	ok(t.store.RevokeAccountKey(t.ctx, By, revoked.ID))(t)
	t.refuses(vetting.Conflict)(open(3, revoked.ID))

	race, opens := t.accountKey("po-1"), atomic.Int64{}
	var wg sync.WaitGroup
	other := t.second()
	for n := range 8 {
		wg.Go(func() {
			s := t.store
			if n%2 == 1 {
				s = other
			}
			if _, opened, err := s.OpenAccount(t.ctx, &certorder.Account{Key: fmt.Appendf(nil, "racer %d", n), Status: certorder.Valid, Binding: race.ID}); err == nil && opened {
				opens.Add(1)
			}
		})
	}
	wg.Wait()
	same(t, "accounts by one key", opens.Load(), 1)

	ok(t.store.RevokeAccountKey(t.ctx, By, k.ID))(t)
	same(t, "the account after its key was revoked", ok(t.store.Account(t.ctx, a.ID))(t).Status, certorder.Deactivated)
}

func accountChanges(t *trial) {
	a, b := t.account(1, 0), t.account(2, 0)
	same(t, "by its key", ok(t.store.AccountByKey(t.ctx, vetting.KeyFingerprint(a.Key)))(t), a)
	t.refuses(vetting.NotFound)(t.store.AccountByKey(t.ctx, vetting.KeyFingerprint([]byte("nobody"))))
	t.refuses(vetting.NotFound)(t.store.Account(t.ctx, 1<<40))
	next := *a
	next.Contact, next.Agreed = []string{"mailto:b@example.com"}, inAnHour()
	before := t.leaves()
	t.done(t.store.ChangeAccount(t.ctx, &next))
	if l := t.leaf(before); l.Act != "account.change" || l.By != fmt.Sprintf("acme-account:%d", a.ID) {
		t.Errorf("the leaf is %+v", l)
	}
	same(t, "the changed account", ok(t.store.Account(t.ctx, a.ID))(t), &next)
	if err := t.store.ChangeAccount(t.ctx, a); !errors.Is(err, certorder.ErrStale) {
		t.Errorf("a change of what it was before: %v", err)
	}
	taken := next
	taken.Key = b.Key
	t.refuses(vetting.Exists)(nil, t.store.ChangeAccount(t.ctx, &taken))
	next.Key = []byte("account 3")
	t.done(t.store.ChangeAccount(t.ctx, &next))
	t.refuses(vetting.NotFound)(t.store.AccountByKey(t.ctx, vetting.KeyFingerprint(a.Key)))
	same(t, "by its new key", ok(t.store.AccountByKey(t.ctx, vetting.KeyFingerprint(next.Key)))(t), &next)
}

// certOrder is an order for unit n's certificate.
func certOrder(account *certorder.Account, n int) *certorder.Order {
	return &certorder.Order{Account: account.ID, Status: certorder.Pending, Identifier: certorder.Identifier{Type: certorder.PermanentIdentifier, Value: Unit(n).Serial},
		Created: inAnHour().Add(-time.Hour), Expires: inAnHour(), Authorization: certorder.Authorization{Status: certorder.Pending,
			Challenges: []certorder.Challenge{{Type: certorder.DeviceAttest01, Token: "token", Status: certorder.Pending}}}}
}

func (t *trial) certOrder(a *certorder.Account, o *certorder.Order) *certorder.Order {
	t.Helper()
	t.done(t.store.OpenCertificateOrder(t.ctx, a, o))
	return o
}

func certOrdersKept(t *trial) {
	a := t.account(1, 0)
	o, other := t.certOrder(a, certOrder(a, 0)), t.certOrder(a, certOrder(a, 1))
	same(t, "the order", ok(t.second().CertificateOrder(t.ctx, o.ID))(t), o)
	t.refuses(vetting.NotFound)(t.store.CertificateOrder(t.ctx, 1<<40))
	t.refuses(vetting.NotFound)(t.store.LastCertificate(t.ctx, a.ID, o.Identifier))
	for _, serial := range []string{"0a01", "0a02"} {
		next := *o
		next.Status, next.Certificate, next.Request, next.Again = certorder.Valid, serial, []byte("request"), inAnHour()
		next.Authorization.Key, next.Authorization.Matches = "key", []vetting.VendorMatch{{Product: "p", Vendor: "v", Asserted: vetting.Identity{Serial: "S"}}}
		next.Problem = &certorder.Problem{Type: "malformed", Detail: "for the test"}
		t.done(t.store.ChangeCertificateOrder(t.ctx, nil, &next))
		same(t, "the changed order", ok(t.store.CertificateOrder(t.ctx, o.ID))(t), &next)
		same(t, "the certificate's order", ok(t.store.OrderOfCertificate(t.ctx, serial))(t), &next)
		same(t, "the last certificate", ok(t.store.LastCertificate(t.ctx, a.ID, o.Identifier))(t), serial)
		if err := t.store.ChangeCertificateOrder(t.ctx, nil, o); !errors.Is(err, certorder.ErrStale) {
			t.Errorf("a change of what it was before: %v", err)
		}
		o = t.certOrder(a, certOrder(a, 0))
	}
	t.refuses(vetting.NotFound)(t.store.LastCertificate(t.ctx, a.ID+1, o.Identifier))
	t.refuses(vetting.NotFound)(t.store.OrderOfCertificate(t.ctx, "0a03"))
	ids := ok(t.store.CertificateOrders(t.ctx, a.ID, 0, 2))(t)
	rest := ok(t.store.CertificateOrders(t.ctx, a.ID, ids[1], 10))(t)
	if len(ids) != 2 || ids[1] != other.ID || !slices.Equal(rest, []int64{o.ID - 1, o.ID}) {
		t.Errorf("the account's orders are %v and %v", ids, rest)
	}
}

func certOrderRace(t *trial) {
	a := t.account(1, 0)
	o := t.certOrder(a, certOrder(a, 0))
	var wg sync.WaitGroup
	var won, lost atomic.Int64
	other := t.second()
	for n := range 16 {
		wg.Go(func() {
			next, s := *o, t.store
			if n%2 == 1 {
				s = other
			}
			next.Request = fmt.Append(nil, n)
			switch err := s.ChangeCertificateOrder(t.ctx, nil, &next); {
			case err == nil:
				won.Add(1)
			case errors.Is(err, certorder.ErrStale):
				lost.Add(1)
			default:
				t.Errorf("%v", err)
			}
		})
	}
	wg.Wait()
	same(t, "won and lost", [2]int64{won.Load(), lost.Load()}, [2]int64{1, 15})
}

// A change of an account at another server takes effect on the next order that
// is opened or changed by its word, at any server.
func certOrderByAccount(t *trial) {
	a, other := t.account(1, 0), t.account(2, 0)
	o := t.certOrder(a, certOrder(a, 0))
	next := *o
	next.Status = certorder.Ready
	wants := func(what string, err, want error) {
		if !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", what, err, want)
		}
	}
	wants("another account's word", t.store.ChangeCertificateOrder(t.ctx, other, &next), certorder.ErrAccountChanged)
	ended := *a
	ended.Status = certorder.Deactivated
	t.done(t.second().ChangeAccount(t.ctx, &ended))
	wants("an order by an account that was ended", t.store.OpenCertificateOrder(t.ctx, a, certOrder(a, 1)), certorder.ErrAccountChanged)
	wants("a change by its word", t.store.ChangeCertificateOrder(t.ctx, a, &next), certorder.ErrAccountChanged)
	same(t, "the order", ok(t.store.CertificateOrder(t.ctx, o.ID))(t), o)
	t.done(t.store.ChangeCertificateOrder(t.ctx, nil, &next))
	k := t.accountKey(t.world(10).Order.Name)
	bound := t.account(3, k.ID)
	ok(t.second().RevokeAccountKey(t.ctx, By, k.ID))(t)
	wants("an order by an account whose key was revoked", t.store.OpenCertificateOrder(t.ctx, bound, certOrder(bound, 2)), certorder.ErrAccountChanged)
	wants("an order by an account that there is not", t.store.OpenCertificateOrder(t.ctx, &certorder.Account{ID: 1 << 40, Revision: 1}, certOrder(bound, 2)), certorder.ErrAccountChanged)
}

func certOrderReplaces(t *trial) {
	a := t.account(1, 0)
	successor := func() *certorder.Order {
		o := certOrder(a, 0)
		o.Replaces = "0a01"
		return o
	}
	first := t.certOrder(a, successor())
	t.refuses(vetting.Exists)(nil, t.store.OpenCertificateOrder(t.ctx, a, successor()))
	first.Status = certorder.Invalid
	t.done(t.store.ChangeCertificateOrder(t.ctx, nil, first))
	var wg sync.WaitGroup
	var opened atomic.Int64
	for range 8 {
		wg.Go(func() {
			if err := t.store.OpenCertificateOrder(t.ctx, a, successor()); err == nil {
				opened.Add(1)
			} else if vetting.ProblemOf(err) != vetting.Exists {
				t.Errorf("%v", err)
			}
		})
	}
	wg.Wait()
	same(t, "successors after the first came to nothing", opened.Load(), 1)
}

func certOrdersForgotten(t *trial) {
	t.world(10, Unit(0))
	a := t.account(1, 0)
	old, kept := t.certOrder(a, certOrder(a, 0)), t.certOrder(a, certOrder(a, 1))
	d := t.admit(0)
	kept.Status, kept.Certificate = certorder.Valid, d.Certificate
	t.done(t.store.ChangeCertificateOrder(t.ctx, nil, kept))
	same(t, "forgotten too soon", ok(t.store.ForgetCertificateOrders(t.ctx, time.Now()))(t), 0)
	same(t, "forgotten", ok(t.store.ForgetCertificateOrders(t.ctx, inAnHour().Add(time.Second)))(t), 1)
	t.refuses(vetting.NotFound)(t.store.CertificateOrder(t.ctx, old.ID))
	ok(t.store.CertificateOrder(t.ctx, kept.ID))(t)

	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for {
				err := t.store.OpenCertificateOrder(t.ctx, a, certOrder(a, 2))
				if vetting.ProblemOf(err) == vetting.Conflict {
					return
				}
				if err != nil {
					t.Errorf("%v", err)
					return
				}
			}
		})
	}
	wg.Wait()
	// A batch is looked at as a whole, so it may go beyond by what is in it.
	if n := len(ok(t.store.CertificateOrders(t.ctx, a.ID, 0, 1000))(t)) - 1; n < 300 || n > 316 {
		t.Errorf("%d orders are open", n)
	}
}

// attested is a claim for unit n by an attestation that a product trusts.
func attested(product string, id vetting.Identity, k int) vetting.Claim {
	key := Key("official", k)
	c := Claim(key, key)
	c.Auth.Proof, c.Asserted, c.Transport, c.Auth.Account = vetting.ProofAttestation, id, "acme", 1
	c.Vendors = []vetting.VendorMatch{{Product: product, Vendor: "chips", Asserted: id}}
	return c
}

// attesting has the world's product rest on attestation.
func (t *trial) attesting(n int) *World {
	w := t.vouching(n)
	p := *ok(t.store.Product(t.ctx, w.Product.Name))(t)
	p.Proofs = []vetting.Proof{vetting.ProofAttestation}
	ok(t.store.UpdateProduct(t.ctx, By, &p))(t)
	return w
}

func attestationFinds(t *trial) {
	w := t.attesting(2)
	id := vetting.Identity{Serial: Unit(0).Serial}
	r := t.enrol(attested(w.Product.Name, id, 0), vetting.ReasonVetted)
	same(t, "the vendor", r.Claim.Auth.Vendor, "chips")
	same(t, "the bound key", t.deviceOf(r).BoundKey, vetting.Fingerprint{})
	t.again(attested(w.Product.Name, id, 0))
	t.enrol(attested(w.Product.Name, id, 7), vetting.ReasonReplaced)
	same(t, "units", t.issued("po-1"), 1)
	t.enrol(attested("fridge", vetting.Identity{Serial: Unit(1).Serial}, 1), vetting.ReasonVendor)
	w.Load(t, vetting.Record{Row: 1, Identity: vetting.Identity{Serial: "chip", UID: "a1b2"}})
	t.enrol(attested(w.Product.Name, vetting.Identity{UID: "a1b2"}, 1), vetting.ReasonVetted)
	t.enrol(attested(w.Product.Name, vetting.Identity{Serial: "nobody"}, 2), vetting.ReasonUnknownDevice)
}

func accountScope(t *trial) {
	w := t.attesting(1)
	claim := func(order, site string) vetting.Claim {
		c := attested(w.Product.Name, vetting.Identity{Serial: Unit(0).Serial}, 0)
		c.Auth.Order, c.Auth.Site = order, site
		return c
	}
	r := t.enrol(claim("po-2", ""), vetting.ReasonWrongOrder)
	if len(r.Reasons[0].Values) != 0 {
		t.Errorf("another order is told: %v", r.Reasons[0].Values)
	}
	t.enrol(claim("", "tainan"), vetting.ReasonWrongSite)
	t.enrol(claim("po-1", ""), vetting.ReasonVetted)
	t.again(claim("", "hsinchu"))
	h := ok(t.store.DeviceHistory(t.ctx, r.DeviceID))(t)
	if len(h.Evidence) != 2 || h.Evidence[0].Kind != vetting.EvidenceWrongSite {
		t.Errorf("evidence %+v", h.Evidence)
	}
}

func holderRevokes(t *trial) {
	t.world(10, Unit(0))
	d := t.admit(0)
	before := t.leaves()
	t.done(t.store.RevokeByHolder(t.ctx, "acme-account:7", d.Certificate, vetting.RevokedKeyCompromise))
	if l := t.leaf(before); l.Act != "certificate.revoke" || l.By != "acme-account:7" {
		t.Errorf("the leaf is %+v", l)
	}
	if c := t.cert(d.Certificate); c.State != vetting.CertificateRevoked || c.Reason != 1 {
		t.Errorf("the certificate is %+v", c)
	}
	t.refuses(vetting.Conflict)(nil, t.store.RevokeByHolder(t.ctx, "acme-account:7", d.Certificate, vetting.RevokedUnspecified))
	t.refuses(vetting.NotFound)(nil, t.store.RevokeByHolder(t.ctx, "acme-account:7", "0a01", vetting.RevokedUnspecified))
	t.refuses(vetting.Invalid)(nil, t.store.RevokeByHolder(t.ctx, "acme-account:7", d.Certificate, "certificateHold"))
}
