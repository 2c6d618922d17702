package storetest

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/touchmark/touchmark/enroll"
	"github.com/touchmark/touchmark/internal/audit"
	"github.com/touchmark/touchmark/vetting"
)

var commitCases = []conformance{
	{"an admission writes all that belongs to it", commitAdmission},
	{"a refusal is kept with its evidence", commitRefusal},
	{"a stranger's refusal is kept, too", commitStranger},
	{"the same refusal again is counted", commitRepeated},
	{"a held request makes a registered device", commitHeld},
	{"a held request that is let in stays one registration", commitLetIn},
	{"a held request that is turned away stays so", commitTurnedAway},
	{"a held request goes on when its order opens", commitOpened},
	{"a replacement revokes what it replaces", commitReplacement},
	{"a renewal supersedes what it renews", commitRenewal},
	{"asking twice is asking once", commitAskedTwice},
	{"many commits at once are each carried out", commitMany},
}

// kinds are the kinds of a leaf's objects.
func kinds(l audit.Leaf) (list []audit.Kind) {
	for _, o := range l.Objects {
		list = append(list, o.Kind)
	}
	slices.Sort(list)
	return list
}

// expectLeaf checks the leaf that a registration names as its own.
func (t *trial) expectLeaf(r *vetting.Registration, act, by string, objects ...audit.Kind) {
	t.Helper()
	leaf := t.leaf(r.Leaf)
	if leaf.Act != act || leaf.By != by || !slices.Equal(kinds(leaf), objects) {
		t.Errorf("the leaf is %+v, want %s by %s of %v", leaf, act, by, objects)
	}
}

func commitAdmission(t *trial) {
	w := t.world(10, Unit(0))
	claim := first(0)
	claim.Label = "thermo"
	commit := t.propose(claim)
	before := t.leaves()
	id := ok(t.store.Commit(t.ctx, commit))(t).Registration
	serial := fmt.Sprintf("%x", commit.Issued.Serial)
	r := ok(t.store.Registration(t.ctx, id))(t)
	if r.Leaf != before || t.leaves() != before+1 {
		t.Errorf("the log grew from %d to %d leaves, the registration is in %d", before, t.leaves(), r.Leaf)
	}
	if !r.Claim.At.Equal(claim.At) {
		t.Errorf("the claim was made at %s, not %s", r.Claim.At, claim.At)
	}
	claim.At = r.Claim.At
	same(t, "the registration", r, &vetting.Registration{ID: id, At: r.At, Claim: claim, DeviceID: commit.Facts.Record.ID, Product: "thermo",
		Order: "po-1", Site: "hsinchu", Outcome: vetting.Admitted, Reasons: commit.Verdict.Reasons, Certificate: serial, Last: r.At, Leaf: before})
	t.expectLeaf(r, "device.admitted", "key:"+claim.Auth.Key.String(), audit.KindCertificate, audit.KindDevice, audit.KindOrder, audit.KindRegistration)
	if note := t.leaf(before).Note; !strings.Contains(note, serial) {
		t.Errorf("the leaf's note %q does not name the certificate", note)
	}
	c := t.cert(serial)
	same(t, "the certificate", c, &vetting.Certificate{ID: c.ID, DeviceID: r.DeviceID, Serial: serial, Key: claim.Key, DER: commit.Issued.DER,
		State: vetting.CertificateValid, NotAfter: commit.Issued.NotAfter.UTC().Truncate(time.Microsecond), Issued: r.At, Leaf: before})
	same(t, "the certificate in capitals", t.cert(strings.ToUpper(serial)), c)
	same(t, "the device", t.deviceOf(r), &vetting.Device{ID: r.DeviceID, Product: "thermo", Order: "po-1", Site: "hsinchu", Identity: Unit(0).Identity,
		State: vetting.DeviceIssued, BootstrapKey: Unit(0).BootstrapKey, Key: claim.Key, Certificate: serial, Issued: r.At, Updated: r.At, Revision: 1, CertificateID: c.ID})
	w.Order.Issued = 1
	same(t, "the order", ok(t.store.Order(t.ctx, "po-1"))(t), w.Order)
}

func commitRefusal(t *trial) {
	w := t.world(10, Unit(0))
	claim := first(0)
	claim.Asserted.Serial = "SN-9"
	r := t.enrol(claim, vetting.ReasonMismatch)
	if r.Outcome != vetting.Refused || r.DeviceID != t.facts(claim).Record.ID || r.Certificate != "" || r.Decision != nil || r.Site != "hsinchu" {
		t.Errorf("the registration is %+v", r)
	}
	t.expectLeaf(r, "device.refused", "key:"+claim.Auth.Key.String(), audit.KindEvidence, audit.KindRegistration)
	e := ok(t.store.Evidence(t.ctx, vetting.EvidenceFilter{}, vetting.Page{}))(t)
	if len(e) != 1 {
		t.Fatalf("%d signs", len(e))
	}
	same(t, "the evidence", e[0], &vetting.Evidence{ID: e[0].ID, At: r.At, Kind: vetting.EvidenceMismatch, DeviceID: r.DeviceID, RegistrationID: r.ID, Text: e[0].Text, Leaf: r.Leaf})
	same(t, "the order", ok(t.store.Order(t.ctx, "po-1"))(t), w.Order)
	if d := t.deviceOf(r); d.State != vetting.DeviceManufactured || d.Revision != 0 {
		t.Errorf("the device is %+v", d)
	}
}

func commitStranger(t *trial) {
	t.world(10)
	claim := vouch("hsinchu", vetting.Identity{Serial: "SN-9"}, "thermo")
	r := t.enrol(claim, vetting.ReasonUnknownDevice)
	if r.DeviceID != 0 || r.Product != "thermo" || r.Site != "hsinchu" || r.Order != "" {
		t.Errorf("the registration is %+v", r)
	}
	t.expectLeaf(r, "device.refused", "operator:rig-1", audit.KindEvidence, audit.KindRegistration)
	claim.Auth.Site = "nowhere" // a site that there is not
	if r := t.enrol(claim, vetting.ReasonUnknownDevice); r.Site != "nowhere" && r.Repeats == 0 {
		t.Errorf("the registration is %+v", r)
	}
	r = t.enrol(Renewal("00ff", Key("official", 0)), vetting.ReasonCertificateEnded)
	t.expectLeaf(r, "device.refused", "certificate:00ff", audit.KindRegistration)
}

func commitRepeated(t *trial) {
	s, set := t.clocked()
	t.store = s
	now := time.Now().UTC().Truncate(time.Second)
	set(now)
	t.world(1, Unit(0), Unit(1))
	t.admit(0)
	claim := first(1)
	one := t.enrol(claim, vetting.ReasonQuota)
	before := t.leaves()
	for n := range int64(3) {
		now = now.Add(time.Minute)
		set(now)
		claim.At, claim.Remote = now, "192.0.2.99"
		again := t.enrol(claim, vetting.ReasonQuota)
		if again.Repeats != n+1 || !again.Last.Equal(now) {
			t.Errorf("repeated %d times, last at %s", again.Repeats, again.Last)
		}
		again.Repeats, again.Last = one.Repeats, one.Last
		same(t, "but for that", again, one)
	}
	if t.leaves() != before {
		t.Error("a repetition left a leaf")
	}
	if e := ok(t.store.Evidence(t.ctx, vetting.EvidenceFilter{}, vetting.Page{}))(t); len(e) != 1 {
		t.Errorf("%d signs of one request", len(e))
	}
	// another reason makes another registration, and so does another request
	closed := vetting.OrderClosed
	t.change("po-1", vetting.OrderChange{State: &closed})
	two := t.enrol(claim, vetting.ReasonOrderClosed)
	claim.Key = Key("other", 1)
	three := t.enrol(claim, vetting.ReasonOrderClosed)
	claim.Key = first(1).Key
	four := t.enrol(claim, vetting.ReasonOrderClosed)
	if two.ID == one.ID || three.ID == two.ID || four.ID != two.ID || four.Repeats != 1 {
		t.Errorf("the registrations are %d, %d, %d and %d", one.ID, two.ID, three.ID, four.ID)
	}
	// and so does a verdict that was given before the last one
	open, five := vetting.OrderOpen, int64(1)
	t.change("po-1", vetting.OrderChange{State: &open, Quantity: &five})
	if r := t.enrol(claim, vetting.ReasonQuota); r.ID == one.ID || r.Repeats != 0 {
		t.Errorf("the registration is %+v", r)
	}
}

// drafted loads units for the draft "po-2".
func (t *trial) drafted(units ...int) *World {
	t.Helper()
	w := t.world(10)
	var records []vetting.Record
	for _, n := range units {
		records = append(records, Unit(n))
	}
	w = w.with(t.order("po-2", "thermo", "hsinchu", vetting.OrderDraft))
	w.Load(t, records...)
	return w
}

// registered are the requests of a device that were kept.
func (t *trial) registered(device int64) []*vetting.Registration {
	t.Helper()
	return ok(t.store.Registrations(t.ctx, vetting.RegistrationFilter{DeviceID: device}, vetting.Page{}))(t)
}

func commitHeld(t *trial) {
	t.drafted(0)
	r := t.enrol(first(0), vetting.ReasonOrderDraft)
	t.expectLeaf(r, "device.held", "key:"+Unit(0).BootstrapKey.String(), audit.KindDevice, audit.KindRegistration)
	d := t.deviceOf(r)
	if d.State != vetting.DeviceRegistered || d.Revision != 1 || d.Certificate != "" || !d.Key.IsZero() || !d.Issued.IsZero() {
		t.Errorf("the device is %+v", d)
	}
	if again := t.enrol(first(0), vetting.ReasonOrderDraft); again.ID != r.ID || again.Repeats != 1 {
		t.Errorf("asked again: %+v", again)
	}
	// with another key the unit waits a second time
	other := t.enrol(Claim(Unit(0).BootstrapKey, Key("other", 0)), vetting.ReasonOrderDraft)
	if other.ID == r.ID {
		t.Error("two requests are one registration")
	}
	t.expectLeaf(other, "device.held", "key:"+Unit(0).BootstrapKey.String(), audit.KindRegistration)
	same(t, "the device", t.deviceOf(other), d)
	if n := t.issued("po-2"); n != 0 {
		t.Errorf("%d units", n)
	}
}

func (t *trial) decide(id int64, admit bool) *vetting.Registration {
	t.Helper()
	return ok(t.store.DecideRegistration(t.ctx, By, id, vetting.Decision{Admit: admit, By: "petra", Note: "seen"}))(t)
}

func commitLetIn(t *trial) {
	t.drafted(0)
	held := t.enrol(first(0), vetting.ReasonOrderDraft)
	t.enrol(first(0), vetting.ReasonOrderDraft)
	decided := t.decide(held.ID, true)
	r := t.enrol(first(0), vetting.ReasonVetted)
	if r.ID != held.ID || r.Outcome != vetting.Admitted || !r.At.Equal(held.At) || r.Repeats != 1 || r.Certificate == "" || r.Last.Before(held.Last) {
		t.Errorf("the registration is %+v", r)
	}
	same(t, "the decision", r.Decision, decided.Decision)
	if len(r.Reasons) != 2 || r.Reasons[1].Code != vetting.ReasonDecidedAdmt {
		t.Errorf("the reasons are %+v", r.Reasons)
	}
	if list := t.registered(r.DeviceID); len(list) != 1 {
		t.Errorf("%d registrations", len(list))
	}
	if d := t.deviceOf(r); d.State != vetting.DeviceIssued || d.Certificate != r.Certificate || t.issued("po-2") != 1 {
		t.Errorf("the device is %+v", d)
	}
	t.expectLeaf(r, "device.admitted", "key:"+Unit(0).BootstrapKey.String(), audit.KindCertificate, audit.KindDevice, audit.KindOrder, audit.KindRegistration)
}

func commitTurnedAway(t *trial) {
	t.drafted(0)
	held := t.enrol(first(0), vetting.ReasonOrderDraft)
	t.decide(held.ID, false)
	open := vetting.OrderOpen
	t.change("po-2", vetting.OrderChange{State: &open})
	r := t.enrol(first(0), vetting.ReasonDecidedRef)
	if r.ID != held.ID || r.Outcome != vetting.Refused || r.Decision == nil || r.Decision.Admit {
		t.Errorf("the registration is %+v", r)
	}
	if again := t.enrol(first(0), vetting.ReasonDecidedRef); again.ID != held.ID || again.Repeats != 1 {
		t.Errorf("asked again: %+v", again)
	}
	if list := t.registered(r.DeviceID); len(list) != 1 || t.issued("po-2") != 0 {
		t.Errorf("%d registrations, %d units", len(list), t.issued("po-2"))
	}
}

func commitOpened(t *trial) {
	t.drafted(0)
	held := t.enrol(first(0), vetting.ReasonOrderDraft)
	open := vetting.OrderOpen
	t.change("po-2", vetting.OrderChange{State: &open})
	r := t.enrol(first(0), vetting.ReasonVetted)
	if r.ID != held.ID || r.Outcome != vetting.Admitted || r.Decision != nil {
		t.Errorf("the registration is %+v", r)
	}
	if list := t.registered(r.DeviceID); len(list) != 1 {
		t.Errorf("%d registrations", len(list))
	}
}

func commitReplacement(t *trial) {
	t.world(1, Unit(0))
	old := t.admit(0)
	r := t.enrol(Claim(Unit(0).BootstrapKey, Key("other", 0)), vetting.ReasonReplaced)
	t.expectLeaf(r, "device.admitted", "key:"+Unit(0).BootstrapKey.String(), audit.KindCertificate, audit.KindCertificate, audit.KindDevice, audit.KindRegistration)
	d := t.deviceOf(r)
	if d.State != vetting.DeviceIssued || d.Certificate == old.Certificate || d.Key != Key("other", 0) || d.Revision != 2 || !d.Issued.Equal(old.Issued) || t.issued("po-1") != 1 {
		t.Errorf("the device is %+v", d)
	}
	c := t.cert(old.Certificate)
	if c.State != vetting.CertificateRevoked || c.Reason != 4 || !c.Revoked.Equal(r.At) || !c.Used.IsZero() {
		t.Errorf("the earlier certificate is %+v", c)
	}
	if c := t.cert(d.Certificate); c.State != vetting.CertificateValid || !c.Revoked.IsZero() || c.Leaf != r.Leaf {
		t.Errorf("the new certificate is %+v", c)
	}
	// the first key is free again, for this unit and for others
	t.enrol(first(0), vetting.ReasonReplaced)
}

func commitRenewal(t *trial) {
	t.world(1, Unit(0))
	old := t.admit(0)
	r := t.enrol(Renewal(old.Certificate, Key("second", 0)), vetting.ReasonRenewed)
	t.expectLeaf(r, "device.admitted", "certificate:"+old.Certificate, audit.KindCertificate, audit.KindCertificate, audit.KindDevice, audit.KindRegistration)
	d := t.deviceOf(r)
	if d.State != vetting.DeviceActive || !d.Activated.Equal(r.At) || d.Key != Key("second", 0) || d.Certificate != r.Certificate || t.issued("po-1") != 1 {
		t.Errorf("the device is %+v", d)
	}
	c := t.cert(old.Certificate)
	if c.State != vetting.CertificateSuperseded || c.Reason != 0 || !c.Revoked.IsZero() || !c.Used.Equal(r.At) {
		t.Errorf("the earlier certificate is %+v", c)
	}
	if c := t.cert(d.Certificate); c.State != vetting.CertificateValid || !c.Used.IsZero() {
		t.Errorf("the new certificate is %+v", c)
	}
	again := t.deviceOf(t.enrol(Renewal(d.Certificate, Key("third", 0)), vetting.ReasonRenewed))
	if !again.Activated.Equal(d.Activated) || again.State != vetting.DeviceActive {
		t.Errorf("renewed again it is %+v", again)
	}
	spent := t.enrol(Renewal(old.Certificate, Key("fourth", 0)), vetting.ReasonSuperseded)
	if now := t.deviceOf(spent); now.State != vetting.DeviceQuarantined || now.Certificate != again.Certificate {
		t.Errorf("after its key was used twice the device is %+v", now)
	}
}

func commitAskedTwice(t *trial) {
	w := t.world(5, Unit(0))
	d := t.admit(0)
	for what, claim := range map[string]vetting.Claim{
		"before activation":  first(0),
		"vouched for by rig": {Key: first(0).Key, Auth: vetting.Auth{Proof: vetting.ProofRig, Site: w.Site.Name}, Asserted: Unit(0).Identity},
	} {
		commit := t.propose(claim)
		a, _ := commit.Verdict.Admission()
		if commit.Verdict.Reasons[0].Code != vetting.ReasonRepeated || a.Repeat() == nil || a.Repeat().Serial != d.Certificate {
			t.Errorf("%s: the verdict is %s", what, commit.Verdict.Text())
		}
	}
	d = t.deviceOf(t.enrol(Renewal(d.Certificate, Key("second", 0)), vetting.ReasonRenewed))
	f := t.facts(Renewal(t.facts(first(0)).Current.Serial, Key("second", 0)))
	if f.Current.Serial != d.Certificate {
		t.Errorf("the renewal's answer was lost, and the facts name %s", f.Current.Serial)
	}
}

// Admitted, refused and held requests that come at once, some of them twice,
// each get what they would have got alone.
func commitMany(t *trial) {
	const units = 60
	w := t.drafted()
	held := w // the draft's units wait
	open := *w
	open.Order = ok(t.store.Order(t.ctx, "po-1"))(t)
	var admit, hold []vetting.Record
	for n := range units {
		admit, hold = append(admit, Unit(n)), append(hold, Unit(units+n))
	}
	quantity := int64(units - 10)
	t.change("po-1", vetting.OrderChange{Quantity: &quantity})
	open.Load(t, admit...)
	held.Load(t, hold...)
	servers := []enroll.Ledger{t.store, t.second()}
	var mu sync.Mutex
	outcomes := map[vetting.Outcome]int{}
	var wg sync.WaitGroup
	for n := range 3 * units {
		for i, s := range servers { // the last third is in no record
			wg.Go(func() {
				v, _, err := Enrol(t.ctx, s, first(n))
				if err != nil {
					t.Errorf("unit %d, server %d: %v", n, i, err)
				}
				mu.Lock()
				defer mu.Unlock()
				outcomes[v.Outcome]++
			})
		}
	}
	wg.Wait()
	want := map[vetting.Outcome]int{vetting.Admitted: 2 * (units - 10), vetting.Held: 2 * units, vetting.Refused: 2 * (10 + units)}
	same(t, "the answers", outcomes, want)
	tally := ok(t.store.Tally(t.ctx))(t)
	same(t, "the registrations", tally.Registrations, map[vetting.Outcome]int64{vetting.Admitted: units - 10, vetting.Held: units, vetting.Refused: 10 + units})
	same(t, "the devices", tally.Devices, map[vetting.DeviceState]int64{vetting.DeviceIssued: units - 10, vetting.DeviceRegistered: units})
	if n := t.issued("po-1"); n != units-10 {
		t.Errorf("%d units were issued", n)
	}
}
