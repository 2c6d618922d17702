package storetest

import (
	"fmt"

	"github.com/touchmark/touchmark/internal/audit"
	"github.com/touchmark/touchmark/vetting"
)

var issuingCases = []conformance{
	{"issuing CAs are kept by name", issuingKept},
	{"two issuing CAs have no name, subject or key in common", issuingDiffer},
	{"the certificate of an issuing CA is replaced, not its key", issuingRenewed},
	{"an owner names an issuing CA that there is", issuingOfOwner},
	{"there are not too many issuing CAs", issuingBounded},
	{"one issuing CA is the default", issuingDefault},
	{"an issuing CA closes once nobody needs it", issuingCloses},
	{"a CA for others than devices takes the place of the founding one", issuingForOthers},
	{"an owner moves to another issuing CA", issuingMoved},
	{"what an issuing CA has in the field is counted", issuingCounted},
	{"the CAs of files are in the log when they change", authoritiesNoted},
}

// IssuingCA is an issuing CA to be, with bytes in place of a certificate: the
// store does not look into it.
func IssuingCA(name string) *vetting.IssuingCA {
	return &vetting.IssuingCA{Name: name, Certificate: []byte("certificate of " + name), Subject: []byte("CN=" + name), Key: Key("issuing CA "+name, 0)}
}

func issuingKept(t *trial) {
	leaf := t.leaves()
	made := ok(t.store.CreateIssuingCA(t.ctx, By, IssuingCA("acme")))(t)
	want := IssuingCA("acme")
	want.ID, want.Created, want.Updated = made.ID, made.Created, made.Created
	if same(t, "created", made, want); made.ID == 0 || made.Created.IsZero() {
		t.Errorf("the issuing CA is %+v", made)
	}
	if l := t.leaf(leaf); t.leaves() != leaf+1 || l.Act != "issuer.create" || l.By != "operator:test" || l.Note != "acme" || l.Objects[0].Kind != audit.KindIssuingCA || l.Objects[0].ID != made.ID {
		t.Errorf("%d leaves, %+v", t.leaves()-leaf, l)
	}
	beta := ok(t.store.CreateIssuingCA(t.ctx, By, IssuingCA("beta")))(t)
	other := t.second()
	same(t, "by name", ok(other.IssuingCA(t.ctx, "acme"))(t), made)
	same(t, "listed", ok(other.IssuingCAs(t.ctx))(t), []*vetting.IssuingCA{made, beta})
	t.refuses(vetting.NotFound)(t.store.IssuingCA(t.ctx, "none"))
}

func issuingDiffer(t *trial) {
	acme := ok(t.store.CreateIssuingCA(t.ctx, By, IssuingCA("acme")))(t)
	for what, change := range map[string]func(c *vetting.IssuingCA){
		"name":    func(c *vetting.IssuingCA) { c.Name = acme.Name },
		"subject": func(c *vetting.IssuingCA) { c.Subject = acme.Subject },
		"key":     func(c *vetting.IssuingCA) { c.Key = acme.Key },
	} {
		c := IssuingCA("other")
		change(c)
		t.Logf("the same %s", what)
		t.refuses(vetting.Exists)(t.store.CreateIssuingCA(t.ctx, By, c))
	}
	same(t, "listed", ok(t.store.IssuingCAs(t.ctx))(t), []*vetting.IssuingCA{acme})
}

func issuingRenewed(t *trial) {
	acme := ok(t.store.CreateIssuingCA(t.ctx, By, IssuingCA("acme")))(t)
	next := IssuingCA("acme")
	next.Certificate = []byte("another certificate")
	leaf := t.leaves()
	renewed := ok(t.store.RenewIssuingCA(t.ctx, By, next))(t)
	if renewed.ID != acme.ID || string(renewed.Certificate) != "another certificate" || !renewed.Created.Equal(acme.Created) || !renewed.Updated.After(acme.Updated) {
		t.Errorf("renewed it is %+v", renewed)
	}
	if l := t.leaf(leaf); t.leaves() != leaf+1 || l.Act != "issuer.renew" || l.Objects[0].ID != acme.ID {
		t.Errorf("%d leaves, %+v", t.leaves()-leaf, l)
	}
	same(t, "the same again", ok(t.store.RenewIssuingCA(t.ctx, By, next))(t), renewed)
	if t.leaves() != leaf+1 {
		t.Error("what changed nothing left a leaf")
	}
	for what, change := range map[string]func(c *vetting.IssuingCA){
		"subject": func(c *vetting.IssuingCA) { c.Subject = []byte("CN=other") },
		"key":     func(c *vetting.IssuingCA) { c.Key = Key("other", 0) },
	} {
		c := IssuingCA("acme")
		change(c)
		t.Logf("another %s", what)
		t.refuses(vetting.Conflict)(t.store.RenewIssuingCA(t.ctx, By, c))
	}
	t.refuses(vetting.NotFound)(t.store.RenewIssuingCA(t.ctx, By, IssuingCA("none")))
}

func issuingOfOwner(t *trial) {
	acme := &vetting.Owner{Name: "acme", Issuer: "acme-ca"}
	t.refuses(vetting.Invalid)(t.store.CreateOwner(t.ctx, By, acme))
	t.refuses(vetting.NotFound)(t.store.Owner(t.ctx, "acme"))
	ok(t.store.CreateIssuingCA(t.ctx, By, IssuingCA("acme-ca")))(t)
	if made := ok(t.store.CreateOwner(t.ctx, By, acme))(t); made.Issuer != "acme-ca" {
		t.Errorf("the owner is %+v", made)
	}
}

func issuingBounded(t *trial) {
	for n := range vetting.MaxIssuingCAs {
		ok(t.store.CreateIssuingCA(t.ctx, By, IssuingCA(fmt.Sprintf("ca-%d", n))))(t)
	}
	t.refuses(vetting.Conflict)(t.store.CreateIssuingCA(t.ctx, By, IssuingCA("more")))
}

// states are the states of the issuing CAs, in the order of their creation.
func (t *trial) issuingStates(want ...vetting.IssuingState) {
	t.Helper()
	var have []vetting.IssuingState
	for _, c := range ok(t.second().IssuingCAs(t.ctx))(t) {
		have = append(have, c.State)
	}
	same(t, "the states", have, want)
}

// logs wants one leaf of an act, or none for "".
func (t *trial) logs(act, note string, objects int, do func()) {
	t.Helper()
	before := t.leaves()
	do()
	if act == "" {
		if now := t.leaves(); now != before {
			t.Errorf("%d leaves were written for what changed nothing", now-before)
		}
		return
	}
	if l := t.leaf(before); t.leaves() != before+1 || l.Act != act || l.Note != note || l.By != "operator:test" || len(l.Objects) != objects {
		t.Errorf("%d leaves, %+v; want %s of %d objects", t.leaves()-before, l, act, objects)
	}
}

func issuingDefault(t *trial) {
	for _, name := range []string{"one", "two"} {
		ok(t.store.CreateIssuingCA(t.ctx, By, IssuingCA(name)))(t)
	}
	choose := func(name string) func() {
		return func() { t.done(t.store.SetDefaultIssuingCA(t.ctx, By, name)) }
	}
	t.logs("", "", 0, choose(vetting.DeviceCA))
	t.logs("issuer.default", "one", 1, choose("one"))
	t.issuingStates(vetting.IssuingDefault, vetting.IssuingOpen)
	t.logs("", "", 0, choose("one"))
	t.logs("issuer.default", "two", 2, choose("two"))
	t.issuingStates(vetting.IssuingOpen, vetting.IssuingDefault)
	next := IssuingCA("two")
	next.Certificate = []byte("another certificate")
	if renewed := ok(t.store.RenewIssuingCA(t.ctx, By, next))(t); renewed.State != vetting.IssuingDefault {
		t.Errorf("with another certificate it is %+v", renewed)
	}
	t.logs("issuer.default", vetting.DeviceCA, 1, choose(vetting.DeviceCA))
	t.issuingStates(vetting.IssuingOpen, vetting.IssuingOpen)
	for _, c := range []struct {
		name string
		want vetting.Problem
	}{{"none", vetting.NotFound}, {"", vetting.NotFound}} {
		t.refuses(c.want)(nil, t.store.SetDefaultIssuingCA(t.ctx, By, c.name))
	}
}

func issuingCloses(t *trial) {
	for _, name := range []string{"one", "two"} {
		ok(t.store.CreateIssuingCA(t.ctx, By, IssuingCA(name)))(t)
	}
	t.done(t.store.SetDefaultIssuingCA(t.ctx, By, "one"))
	ok(t.store.CreateOwner(t.ctx, By, &vetting.Owner{Name: "acme", Issuer: "two"}))(t)
	t.refuses(vetting.Conflict)(t.store.CloseIssuingCA(t.ctx, By, IssuingCA("one")))
	t.refuses(vetting.Conflict)(t.store.CloseIssuingCA(t.ctx, By, IssuingCA("two")))
	t.refuses(vetting.NotFound)(t.store.CloseIssuingCA(t.ctx, By, IssuingCA("none")))
	t.refuses(vetting.NotFound)(t.store.CloseIssuingCA(t.ctx, By, IssuingCA(vetting.DeviceCA)))
	t.done(t.store.SetDefaultIssuingCA(t.ctx, By, vetting.DeviceCA))
	t.logs("issuer.close", "one", 1, func() { ok(t.store.CloseIssuingCA(t.ctx, By, IssuingCA("one")))(t) })
	t.logs("", "", 0, func() { ok(t.store.CloseIssuingCA(t.ctx, By, IssuingCA("one")))(t) })
	t.issuingStates(vetting.IssuingClosed, vetting.IssuingOpen)
	t.refuses(vetting.Conflict)(nil, t.store.SetDefaultIssuingCA(t.ctx, By, "one"))
	t.refuses(vetting.Invalid)(t.store.CreateOwner(t.ctx, By, &vetting.Owner{Name: "beta", Issuer: "one"}))
	t.refuses(vetting.Invalid)(t.store.SetOwnerIssuer(t.ctx, By, "acme", "one"))
	t.logs("issuer.reopen", "one", 1, func() { ok(t.store.ReopenIssuingCA(t.ctx, By, "one"))(t) })
	t.logs("", "", 0, func() { ok(t.store.ReopenIssuingCA(t.ctx, By, "two"))(t) })
	t.issuingStates(vetting.IssuingOpen, vetting.IssuingOpen)
	ok(t.store.SetOwnerIssuer(t.ctx, By, "acme", "one"))(t)
}

// forSites is an issuing CA for sites to be, or the founding one.
func forSites(name string) *vetting.IssuingCA {
	c := IssuingCA(name)
	c.Purpose = vetting.ForSites
	return c
}

func issuingForOthers(t *trial) {
	made := ok(t.store.CreateIssuingCA(t.ctx, By, forSites("next")))(t)
	ok(t.store.CreateIssuingCA(t.ctx, By, IssuingCA("devices")))(t)
	if made.Purpose != vetting.ForSites {
		t.Errorf("the CA is %+v", made)
	}
	t.refuses(vetting.Invalid)(t.store.CreateOwner(t.ctx, By, &vetting.Owner{Name: "acme", Issuer: "next"}))
	closes := func(name string) func() {
		return func() { ok(t.store.CloseIssuingCA(t.ctx, By, forSites(name)))(t) }
	}
	choose := func(name string) func() {
		return func() { t.done(t.store.SetDefaultIssuingCA(t.ctx, By, name)) }
	}
	t.logs("", "", 0, choose(vetting.FactoryCA))
	t.refuses(vetting.Conflict)(t.store.CloseIssuingCA(t.ctx, By, forSites(vetting.FactoryCA))) // it issues
	t.logs("issuer.default", "devices", 1, choose("devices"))
	t.logs("issuer.default", "next", 1, choose("next"))
	t.issuingStates(vetting.IssuingDefault, vetting.IssuingDefault) // each for its purpose
	t.refuses(vetting.Conflict)(t.store.CloseIssuingCA(t.ctx, By, made))
	t.logs("issuer.default", vetting.FactoryCA, 1, choose(vetting.FactoryCA))
	t.logs("issuer.default", "next", 1, choose("next"))
	t.logs("issuer.close", vetting.FactoryCA, 1, closes(vetting.FactoryCA))
	t.logs("", "", 0, closes(vetting.FactoryCA))
	t.issuingStates(vetting.IssuingDefault, vetting.IssuingDefault, vetting.IssuingClosed)
	closed := ok(t.store.IssuingCA(t.ctx, vetting.FactoryCA))(t)
	if want := forSites(vetting.FactoryCA); closed.Key != want.Key || string(closed.Certificate) != string(want.Certificate) || closed.Purpose != vetting.ForSites {
		t.Errorf("the founding CA is kept as %+v", closed)
	}
	t.refuses(vetting.Conflict)(nil, t.store.SetDefaultIssuingCA(t.ctx, By, vetting.FactoryCA))
	t.logs("issuer.reopen", vetting.FactoryCA, 1, func() { ok(t.store.ReopenIssuingCA(t.ctx, By, vetting.FactoryCA))(t) })
	t.logs("issuer.default", vetting.FactoryCA, 1, choose(vetting.FactoryCA))
	t.issuingStates(vetting.IssuingOpen, vetting.IssuingDefault, vetting.IssuingOpen)
	t.logs("issuer.close", "next", 1, closes("next"))
}

func issuingMoved(t *trial) {
	ok(t.store.CreateIssuingCA(t.ctx, By, IssuingCA("acme-ca")))(t)
	made := ok(t.store.CreateOwner(t.ctx, By, &vetting.Owner{Name: "acme", Description: "Acme AG", Profile: &vetting.Profile{Validity: "30d"}}))(t)
	for _, issuer := range []string{"acme-ca", vetting.DeviceCA, ""} {
		t.logs("owner.issuer", "acme: "+issuer, 1, func() { made.Issuer = ok(t.store.SetOwnerIssuer(t.ctx, By, "acme", issuer))(t).Issuer })
		same(t, "moved", ok(t.second().Owner(t.ctx, "acme"))(t), made)
		t.logs("", "", 0, func() { ok(t.store.SetOwnerIssuer(t.ctx, By, "acme", issuer))(t) })
		if made.Issuer != issuer {
			t.Errorf("the owner's issuing CA is %q, want %q", made.Issuer, issuer)
		}
	}
	t.refuses(vetting.Invalid)(t.store.SetOwnerIssuer(t.ctx, By, "acme", "none"))
	t.refuses(vetting.NotFound)(t.store.SetOwnerIssuer(t.ctx, By, "none", "acme-ca"))
}

// enrolBy lets a unit in, with a certificate of an issuing CA.
func (t *trial) enrolBy(n int, issuer int64) {
	t.Helper()
	c := t.propose(first(n))
	c.Issued.Issuer = issuer
	ok(t.store.Commit(t.ctx, c))(t)
}

func issuingCounted(t *trial) {
	t.world(4, Unit(0), Unit(1), Unit(2), Unit(3))
	one := ok(t.store.CreateIssuingCA(t.ctx, By, IssuingCA("one")))(t)
	counts := func(want map[int64]int64) {
		t.Helper()
		same(t, "the counts", ok(t.second().CertificateCounts(t.ctx))(t), want)
	}
	counts(map[int64]int64{})
	t.admit(0)
	t.enrolBy(1, one.ID)
	t.enrolBy(2, one.ID)
	counts(map[int64]int64{0: 1, one.ID: 2})
	c := t.propose(first(3))
	c.Issued.Issuer, c.Issued.NotAfter = one.ID, c.Issued.NotAfter.AddDate(-20, 0, 0)
	ok(t.store.Commit(t.ctx, c))(t)
	counts(map[int64]int64{0: 1, one.ID: 2}) // it has run out
}

func authoritiesNoted(t *trial) {
	for _, step := range []struct {
		lines []string
		note  string // "" is no leaf
	}{
		{[]string{"root aa", "device-ca bb"}, ""}, // the first start
		{[]string{"root aa", "device-ca bb"}, ""},
		{[]string{"root aa", "root-new cc", "device-ca dd"}, "root-new cc, device-ca dd"},
		{[]string{"root cc", "device-ca dd"}, "root cc"},
		{[]string{"root cc"}, "a root is no longer there"},
		{[]string{"root cc"}, ""},
	} {
		before := t.leaves()
		t.done(t.second().NoteAuthorities(t.ctx, step.lines))
		if step.note == "" {
			if now := t.leaves(); now != before {
				t.Errorf("%v left %d leaves", step.lines, now-before)
			}
			continue
		}
		if l := t.leaf(before); t.leaves() != before+1 || l.Act != "ca.change" || l.By != "server" || l.Note != step.note {
			t.Errorf("%v: %d leaves, %+v", step.lines, t.leaves()-before, l)
		}
	}
}
