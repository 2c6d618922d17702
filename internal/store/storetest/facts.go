package storetest

import (
	"fmt"
	"slices"

	"github.com/touchmark/touchmark/vetting"
)

var factCases = []conformance{
	{"a bootstrap key tells all about its unit", factsOfBootstrapKey},
	{"a rig names a unit in any way", factsOfRig},
	{"a rig's site tells units of one serial number apart", factsOfRigSite},
	{"an official certificate tells its device", factsOfCertificate},
	{"a stranger is known by the name it uses", factsOfStranger},
	{"a disputed unit is known as disputed", factsOfDispute},
	{"a key that somebody holds is known", factsKeyHolder},
	{"a request that waits is known when it comes again", factsPending},
	{"a request for a server's key is known whatever the key", factsPendingServerKey},
	{"a successor that was never used is known", factsUnused},
	{"who proves nothing is told nothing", factsOfNobody},
}

// vouch is a rig's claim for a unit.
func vouch(site string, id vetting.Identity, label string) vetting.Claim {
	return vetting.Claim{Key: Key("official", 0), Auth: vetting.Auth{Proof: vetting.ProofRig, Operator: "rig-1", Site: site, Key: Key("rig", 1)},
		Asserted: id, Label: label, Transport: "api", Remote: "192.0.2.1"}
}

// expectNothing checks that no unit was found.
func (t *trial) expectNothing(what string, f vetting.Facts) {
	t.Helper()
	if f.Record != nil || f.Product != nil || f.Order != nil || f.Device != nil || f.Current != nil || f.Presented != nil || f.Pending != nil {
		t.Errorf("%s: the facts are %+v", what, f)
	}
}

// expectUnit checks which record the facts are about, 0 for none.
func (t *trial) expectUnit(what string, f vetting.Facts, id int64) {
	t.Helper()
	switch {
	case id == 0:
		t.expectNothing(what, f)
	case f.Record == nil || f.Record.ID != id || f.Device == nil || f.Device.ID != id || f.Order.ID != f.Record.OrderID || f.Product.ID != f.Record.ProductID:
		t.Errorf("%s: the facts are %+v, want record %d", what, f, id)
	}
}

func factsOfBootstrapKey(t *trial) {
	w := t.world(10, Unit(0), full(1))
	claim := Claim(full(1).BootstrapKey, Key("official", 1))
	f := t.facts(claim)
	same(t, "the claim", f.Claim, claim)
	same(t, "the product", f.Product, w.Product)
	same(t, "the order", f.Order, w.Order)
	if f.Now.IsZero() || f.Current != nil || f.Presented != nil || f.KeyHolder != 0 || f.Pending != nil || f.Dispute != nil || f.Named != nil {
		t.Errorf("of a unit that never came the facts are %+v", f)
	}
	device := &vetting.Device{ID: f.Record.ID, Product: "thermo", Order: "po-1", Site: "hsinchu", Identity: full(1).Identity,
		State: vetting.DeviceManufactured, BootstrapKey: full(1).BootstrapKey}
	same(t, "the device", f.Device, device)
	commit := t.propose(claim)
	ok(t.store.Commit(t.ctx, commit))(t)
	f = t.facts(claim)
	if f.Current == nil || string(f.Current.DER) != string(commit.Issued.DER) || f.Current.Key != claim.Key || f.Current.State != vetting.CertificateValid {
		t.Fatalf("the certificate is %+v", f.Current)
	}
	same(t, "the certificate", f.Current, t.cert(fmt.Sprintf("%x", commit.Issued.Serial)))
	same(t, "the device", f.Device, t.device(device.ID))
	if f.Device.State != vetting.DeviceIssued || f.Device.Revision != 1 || f.Order.Issued != 1 || f.KeyHolder != 0 {
		t.Errorf("of a unit that has a certificate the facts are %+v", f)
	}
}

func factsOfRig(t *trial) {
	t.world(10, Unit(0), full(1))
	id := t.facts(first(1)).Record.ID
	named := full(1).Identity
	t.product("lamp")
	for what, c := range map[string]struct {
		id    vetting.Identity
		label string
		want  int64
	}{
		"serial":                {vetting.Identity{Serial: named.Serial}, "", id},
		"MAC":                   {vetting.Identity{MAC: named.MAC}, "", id},
		"UID":                   {vetting.Identity{UID: named.UID}, "", id},
		"all":                   {named, "", id},
		"serial and label":      {vetting.Identity{Serial: named.Serial}, "thermo", id},
		"MAC and label":         {vetting.Identity{MAC: named.MAC}, "thermo", id},
		"UID and label":         {vetting.Identity{UID: named.UID}, "thermo", id},
		"another product":       {vetting.Identity{Serial: named.Serial}, "lamp", 0},
		"an unknown product":    {vetting.Identity{Serial: named.Serial}, "torch", 0},
		"an unknown serial":     {vetting.Identity{Serial: "SN-9"}, "", 0},
		"an unknown MAC":        {vetting.Identity{MAC: "02:ff:ff:ff:ff:ff"}, "", 0},
		"an unknown UID":        {vetting.Identity{UID: "ff"}, "", 0},
		"a serial as UID":       {vetting.Identity{UID: named.Serial}, "", 0},
		"no identity":           {vetting.Identity{}, "", 0},
		"no identity but label": {vetting.Identity{}, "thermo", 0},
	} {
		t.expectUnit(what, t.facts(vouch("hsinchu", c.id, c.label)), c.want)
	}
	// a unit of another site is found, so that its rig can be told apart
	t.expectUnit("another site", t.facts(vouch("gdansk", named, "")), id)
	t.expectUnit("no site", t.facts(vouch("", named, "")), id)
}

// A serial number that several products have is told apart by the product,
// and else by the rig's site.
func factsOfRigSite(t *trial) {
	w := t.world(10)
	sites := []string{"hsinchu", "gdansk", "gdansk"}
	t.site("gdansk")
	for i := range 12 { // that it is in very many products does not matter
		sites = append(sites, fmt.Sprintf("s%d", i))
		t.site(fmt.Sprintf("s%d", i))
	}
	ids := make([]int64, len(sites))
	for i, site := range sites {
		product := fmt.Sprintf("p%d", i)
		t.product(product)
		r := Unit(i)
		r.Serial = "SN-1"
		w.with(t.order("po-"+product, product, site, vetting.OrderOpen)).Load(t, r)
		ids[i] = t.facts(first(i)).Record.ID
	}
	serial := vetting.Identity{Serial: "SN-1"}
	for i, site := range sites {
		t.expectUnit("by label", t.facts(vouch("gdansk", serial, fmt.Sprintf("p%d", i))), ids[i])
		if site != "gdansk" {
			t.expectUnit("by site "+site, t.facts(vouch(site, serial, "")), ids[i])
		}
	}
	t.expectUnit("two of one site", t.facts(vouch("gdansk", serial, "")), 0)
	t.expectUnit("none of the site", t.facts(vouch("lodz", serial, "")), 0)
	t.expectUnit("no site", t.facts(vouch("", serial, "")), 0)
	// a site whose unit of that number is disputed has none of its own
	t.product("lamp")
	t.site("lodz")
	disputed := Unit(99)
	disputed.Serial, disputed.MAC = "SN-1", Unit(0).MAC
	w.with(t.order("po-lamp", "lamp", "lodz", vetting.OrderOpen)).Load(t, disputed)
	f := t.facts(vouch("lodz", serial, ""))
	t.expectUnit("disputed", f, 0)
	if f.Dispute == nil || f.Dispute.Record.BootstrapKey != disputed.BootstrapKey {
		t.Errorf("the dispute is %+v", f.Dispute)
	}
}

func factsOfCertificate(t *trial) {
	t.world(10, Unit(0), Unit(1))
	t.admit(1)
	d := t.admit(0)
	old := d.Certificate
	claim := Renewal(old, Key("official", 10))
	f := t.facts(claim)
	t.expectUnit("the current certificate", f, d.ID)
	same(t, "presented", f.Presented, t.cert(old))
	same(t, "current", f.Current, f.Presented)
	same(t, "the device", f.Device, d)
	d = t.deviceOf(t.enrol(claim, vetting.ReasonRenewed))
	f = t.facts(claim)
	t.expectUnit("a superseded certificate", f, d.ID)
	same(t, "presented, superseded", f.Presented, t.cert(old))
	same(t, "current, new", f.Current, t.cert(d.Certificate))
	if f.Presented.State != vetting.CertificateSuperseded || f.Current.State != vetting.CertificateValid {
		t.Errorf("presented %s, current %s", f.Presented.State, f.Current.State)
	}
	t.expectNothing("an unknown certificate", t.facts(Renewal("00ff", Key("official", 10))))
	t.refuses(vetting.Invalid)(t.store.Facts(t.ctx, Renewal("not hex", Key("official", 10))))
}

func factsOfStranger(t *trial) {
	w := t.world(10, full(0))
	t.product("lamp")
	lamp := full(1)
	lamp.Serial = full(0).Serial
	w.with(t.order("po-2", "lamp", "hsinchu", vetting.OrderOpen)).Load(t, lamp)
	thermo, other := t.facts(first(0)).Record, t.facts(first(1)).Record
	for what, c := range map[string]struct {
		id    vetting.Identity
		label string
		want  []*vetting.Record
	}{
		"no name":           {vetting.Identity{}, "", nil},
		"an unknown serial": {vetting.Identity{Serial: "SN-9"}, "", nil},
		"serial":            {vetting.Identity{Serial: lamp.Serial}, "", []*vetting.Record{thermo, other}},
		"serial and label":  {vetting.Identity{Serial: lamp.Serial}, "lamp", []*vetting.Record{other}},
		"MAC":               {vetting.Identity{MAC: thermo.MAC}, "", []*vetting.Record{thermo}},
		"UID":               {vetting.Identity{UID: other.UID}, "", []*vetting.Record{other}},
	} {
		claim := Claim(Key("stranger", 0), Key("official", 9))
		claim.Asserted, claim.Label = c.id, c.label
		f := t.facts(claim)
		t.expectNothing(what, f)
		slices.SortFunc(f.Named, func(a, b *vetting.Record) int { return int(a.ID - b.ID) })
		same(t, what, f.Named, c.want)
	}
}

func factsOfDispute(t *trial) {
	w := t.world(10, full(0))
	claim := full(1)
	claim.MAC = full(0).MAC
	w.Load(t, claim)
	holder := t.facts(first(0)).Record.ID
	byKey, byName := t.facts(first(1)), t.facts(vouch("hsinchu", vetting.Identity{Serial: claim.Serial}, ""))
	for what, f := range map[string]vetting.Facts{"by key": byKey, "by serial": byName} {
		t.expectNothing(what, f)
		d := f.Dispute
		if d == nil || d.RecordID != holder || d.Record.Serial != claim.Serial || d.Record.BootstrapKey != claim.BootstrapKey || d.Record.SiteID != w.Site.ID {
			t.Errorf("%s: the dispute is %+v", what, d)
		}
		if f.Named != nil {
			t.Errorf("%s: named are %+v", what, f.Named)
		}
	}
	// the record that was there first is found, contested
	f := t.facts(vouch("hsinchu", vetting.Identity{MAC: claim.MAC}, ""))
	t.expectUnit("the holder", f, holder)
	if f.Dispute != nil || !f.Record.Contested || !f.Device.Contested {
		t.Errorf("of the holder the facts are %+v", f)
	}
}

func factsKeyHolder(t *trial) {
	t.world(10, Unit(0), Unit(1), Unit(2))
	zero := t.admit(0)
	one := t.facts(first(1)).Record
	for what, c := range map[string]struct {
		claim vetting.Claim
		want  int64
	}{
		"nobody's":                  {first(2), 0},
		"a device's official key":   {Claim(Unit(2).BootstrapKey, zero.Key), zero.ID},
		"a unit's bootstrap key":    {Claim(Unit(2).BootstrapKey, one.BootstrapKey), one.ID},
		"its own bootstrap key":     {Claim(Unit(2).BootstrapKey, Unit(2).BootstrapKey), 0},
		"its own official key":      {first(0), 0},
		"its own key, renewing":     {Renewal(zero.Certificate, zero.Key), 0},
		"another's key, renewing":   {Renewal(zero.Certificate, one.BootstrapKey), one.ID},
		"a rig for another's key":   {vouch("hsinchu", Unit(2).Identity, ""), zero.ID},
		"a rig for the holder":      {vouch("hsinchu", Unit(0).Identity, ""), 0},
		"a device's bootstrap key":  {Claim(Unit(2).BootstrapKey, Unit(0).BootstrapKey), zero.ID},
		"an official key, renewing": {Renewal(zero.Certificate, Key("official", 7)), 0},
	} {
		if got := t.facts(c.claim).KeyHolder; got != c.want {
			t.Errorf("%s: held by %d, want %d", what, got, c.want)
		}
	}
}

func factsPending(t *trial) {
	w := t.world(10, Unit(9))
	w.with(t.order("po-2", "thermo", "hsinchu", vetting.OrderDraft)).Load(t, Unit(0), Unit(1))
	claim := first(0)
	if f := t.facts(claim); f.Pending != nil {
		t.Errorf("before anybody asked waits %+v", f.Pending)
	}
	held := t.enrol(claim, vetting.ReasonOrderDraft)
	same(t, "pending", t.facts(claim).Pending, held)
	again := claim
	again.Remote, again.Transport, again.At = "192.0.2.99", "api", claim.At.Add(1)
	same(t, "from elsewhere, later", t.facts(again).Pending, held)
	for what, other := range map[string]func(c *vetting.Claim){
		"another key":      func(c *vetting.Claim) { c.Key = Key("official", 5) },
		"another subject":  func(c *vetting.Claim) { c.Subject = []byte{1} },
		"another name":     func(c *vetting.Claim) { c.Asserted = Unit(0).Identity },
		"another address":  func(c *vetting.Claim) { c.Label = "thermo" },
		"another unit":     func(c *vetting.Claim) { c.Auth.Key = Unit(1).BootstrapKey },
		"another requirer": func(c *vetting.Claim) { *c = vouch("hsinchu", Unit(0).Identity, "") },
	} {
		c := claim
		other(&c)
		if f := t.facts(c); f.Record == nil || f.Pending != nil {
			t.Errorf("%s: %+v waits", what, f.Pending)
		}
	}
	decided := ok(t.store.DecideRegistration(t.ctx, By, held.ID, vetting.Decision{By: "petra", Note: "a fake"}))(t)
	same(t, "decided", t.facts(claim).Pending, decided)
	turned := t.enrol(claim, vetting.ReasonDecidedRef)
	same(t, "turned away", t.facts(claim).Pending, turned)
}

func factsPendingServerKey(t *trial) {
	w := t.world(10)
	w.with(t.order("po-2", "thermo", "hsinchu", vetting.OrderDraft)).Load(t, Unit(0))
	p := *w.Product
	p.ServerKeys = vetting.ServerKeysPlain
	ok(t.store.UpdateProduct(t.ctx, By, &p))(t)
	claim := first(0)
	claim.Key, claim.ServerKey = vetting.Fingerprint{}, vetting.ServerKeysPlain
	held := t.enrol(claim, vetting.ReasonOrderDraft)
	claim.Key = Key("made", 1)
	same(t, "with a key made", t.facts(claim).Pending, held)
	claim.Subject = []byte{1}
	if f := t.facts(claim); f.Pending != nil {
		t.Errorf("another subject: %+v waits", f.Pending)
	}
	claim.Subject, claim.ServerKey = nil, ""
	if f := t.facts(claim); f.Pending != nil {
		t.Errorf("with a key of its own: %+v waits", f.Pending)
	}
}

// factsUnused renews twice: the certificate between was used to renew, the
// last never.
func factsUnused(t *trial) {
	t.world(10, Unit(0))
	serials := []string{t.admit(0).Certificate}
	for n := range 2 {
		t.enrol(Renewal(serials[n], Key("next", n)), vetting.ReasonRenewed)
		serials = append(serials, t.facts(first(0)).Current.Serial)
	}
	unused := func(n int, how vetting.ServerKeys) bool {
		claim := Renewal(serials[n], vetting.Fingerprint{})
		claim.ServerKey = how
		return t.facts(claim).Unused
	}
	for n, want := range []bool{false, true, false} {
		if unused(n, vetting.ServerKeysPlain) != want {
			t.Errorf("of certificate %d the successors are unused: %v, want %v", n, !want, want)
		}
	}
	if !unused(1, "") {
		t.Error("who brings a key is not told about unused successors")
	}
	t.done(t.store.Activate(t.ctx, serials[2]))
	if unused(1, vetting.ServerKeysPlain) {
		t.Error("a successor that was used is called unused")
	}
}

func factsOfNobody(t *trial) {
	t.world(10, Unit(0))
	claim := first(0)
	claim.Auth.Proof, claim.Asserted = vetting.ProofNone, Unit(0).Identity
	f := t.facts(claim)
	t.expectNothing("no proof", f)
	if f.Named != nil || f.Dispute != nil {
		t.Errorf("the facts are %+v", f)
	}
}
