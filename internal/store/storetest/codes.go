package storetest

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/internal/audit"
	"github.com/touchmark/touchmark/vetting"
)

var codeCases = []conformance{
	{"codes are made and listed", codesMade},
	{"codes that would let nobody in are not made", codesRefused},
	{"a device has one unused code", codesOfDevice},
	{"unused codes are revoked", codesRevoked},
	{"an admission uses its code up", codeUsed},
	{"one of many devices gets in by a code", codeRace},
	{"a used code is good for asking again", codeAskedTwice},
	{"another code lets a device have another key", codeReplaced},
	{"a code of another order lets nobody in", codeForeign},
	{"a code that was revoked or used meanwhile writes nothing", codeStale},
	{"a device that comes before its record is let in by its code later", codeAwaited},
	{"a claim by a code is known to come from its site", codeOnSite},
	{"guesses fill no table", codeGuesses},
}

// Hash is that of a made-up enrolment code.
func Hash(n int) vetting.CodeHash { return sha256.Sum256(fmt.Appendf(nil, "code %d", n)) }

// ByCode is unit n's claim by code k on its official key, with no other key.
func ByCode(n, k int) vetting.Claim {
	return vetting.Claim{At: time.Now(), Key: Key("official", n), Auth: vetting.Auth{Proof: vetting.ProofCode, CodeHash: Hash(k)},
		Asserted: vetting.Identity{Serial: Unit(n).Serial}, Transport: "est", Remote: "192.0.2.1"}
}

// coded makes a world of units that come with codes.
func (t *trial) coded(units int) *World {
	t.Helper()
	w := t.world(10)
	p := *w.Product
	p.Proofs = []vetting.Proof{vetting.ProofCode}
	ok(t.store.UpdateProduct(t.ctx, By, &p))(t)
	for i := range units {
		w.Load(t, keyless(i))
	}
	return w
}

// keyless is a unit whose record lists no bootstrap key.
func keyless(n int) vetting.Record {
	r := Unit(n)
	r.BootstrapKey = vetting.Fingerprint{}
	return r
}

func inAnHour() time.Time { return time.Now().Add(time.Hour).UTC().Truncate(time.Second) }

// codes makes codes number k and on for an order.
func (t *trial) codes(order string, k, n int) []*vetting.EnrolmentCode {
	t.Helper()
	want := vetting.NewCodes{Order: order, Expires: inAnHour()}
	for i := range n {
		want.Hashes = append(want.Hashes, Hash(k+i))
	}
	return ok(t.store.CreateCodes(t.ctx, By, want))(t)
}

// codeFor makes code number k for a device.
func (t *trial) codeFor(device int64, k int) *vetting.EnrolmentCode {
	t.Helper()
	return ok(t.store.CreateCodes(t.ctx, By, vetting.NewCodes{Devices: []int64{device}, Hashes: []vetting.CodeHash{Hash(k)}, Expires: inAnHour()}))(t)[0]
}

func (t *trial) code(id int64) *vetting.EnrolmentCode {
	t.Helper()
	return ok(t.store.Code(t.ctx, id))(t)
}

// unit finds the device of a record.
func (t *trial) unit(n int) int64 {
	t.Helper()
	return ok(t.store.Devices(t.ctx, vetting.DeviceFilter{Identity: vetting.Identity{Serial: Unit(n).Serial}}, vetting.Page{}))(t)[0].ID
}

func codesMade(t *trial) {
	t.coded(2)
	before := t.leaves()
	list := t.codes("po-1", 0, 250)
	if len(list) != 250 || t.leaves() != before+3 {
		t.Fatalf("%d codes in %d leaves", len(list), t.leaves()-before)
	}
	if leaf := t.leaf(before); leaf.Act != "code.create" || leaf.By != "operator:test" || len(leaf.Objects) != 100 || leaf.Objects[0].Kind != audit.KindCode {
		t.Errorf("the leaf is %s by %s of %d", leaf.Act, leaf.By, len(leaf.Objects))
	}
	c := list[0]
	same(t, "the first code", c, &vetting.EnrolmentCode{ID: c.Batch, Batch: list[249].Batch, Order: "po-1", Site: "hsinchu", By: "test",
		Created: c.Created, Expires: c.Expires, State: vetting.CodeUnused, OrderID: c.OrderID, SiteID: c.SiteID})
	same(t, "the last code", t.code(c.ID+249), list[249])
	made := t.codeFor(t.unit(1), 999)
	if made.Serial != Unit(1).Serial || made.DeviceID != t.unit(1) || made.Order != "po-1" || made.Batch != made.ID {
		t.Errorf("the code of a device is %+v", made)
	}
	listed := func(f vetting.CodeFilter) (ids []int64) {
		for _, c := range ok(t.store.Codes(t.ctx, f, vetting.Page{}))(t) {
			ids = append(ids, c.ID)
		}
		return ids
	}
	for what, f := range map[string]vetting.CodeFilter{
		"the device": {DeviceID: made.DeviceID}, "its batch": {Batch: made.ID}, "its site": {DeviceID: made.DeviceID, Site: "hsinchu"},
		"all of it": {DeviceID: made.DeviceID, Site: "hsinchu", Order: "po-1", Batch: made.ID, State: vetting.CodeUnused},
	} {
		same(t, "codes by "+what, listed(f), []int64{made.ID})
	}
	for what, f := range map[string]vetting.CodeFilter{
		"another site": {Site: "gdansk"}, "another order": {Order: "po-2"}, "another batch": {Batch: made.ID + 1},
		"used": {State: vetting.CodeUsed}, "expired": {State: vetting.CodeExpired}, "revoked": {State: vetting.CodeRevoked},
	} {
		same(t, "codes by "+what, listed(f), nil)
	}
	few := t.codes("po-1", 5000, 7)
	pages(t, 7, true, func(p vetting.Page) ([]*vetting.EnrolmentCode, error) {
		return t.store.Codes(t.ctx, vetting.CodeFilter{Batch: few[0].ID}, p)
	}, func(c *vetting.EnrolmentCode) int64 { return c.ID })
	t.refuses(vetting.NotFound)(t.store.Code(t.ctx, few[6].ID+1))
}

func codesRefused(t *trial) {
	w := t.coded(1)
	t.product("lamp")
	lamp := w.with(t.order("po-lamp", "lamp", "hsinchu", vetting.OrderOpen))
	lamp.Load(t, Unit(1))
	w.with(t.order("po-2", "thermo", "hsinchu", vetting.OrderDraft)).Load(t, keyless(2))
	t.codes("po-2", 50, 1) // a draft may have its labels printed
	refuse := func(want vetting.Problem, order string, devices ...int64) {
		t.Helper()
		n := vetting.NewCodes{Order: order, Devices: devices, Expires: inAnHour()}
		for i := range max(1, len(devices)) {
			n.Hashes = append(n.Hashes, Hash(i))
		}
		t.refuses(want)(t.store.CreateCodes(t.ctx, By, n))
	}
	refuse(vetting.NotFound, "po-9")
	refuse(vetting.NotFound, "", 987654)
	refuse(vetting.Conflict, "", t.unit(0), t.unit(2)) // of two orders
	refuse(vetting.Conflict, "po-lamp")                // its product accepts no codes
	refuse(vetting.Conflict, "", t.unit(1))
	t.setState(t.unit(2), vetting.DeviceScrapped)
	refuse(vetting.Conflict, "", t.unit(2))
	cancelled := vetting.OrderCancelled
	t.change("po-2", vetting.OrderChange{State: &cancelled})
	refuse(vetting.Conflict, "po-2")
	act := access.Act{Operator: "anna", Key: "k1", Request: [32]byte{1}}
	made := vetting.NewCodes{Order: "po-lamp", Hashes: []vetting.CodeHash{Hash(7)}, Expires: inAnHour()}
	p := *ok(t.store.Product(t.ctx, "lamp"))(t)
	p.Proofs = append(p.Proofs, vetting.ProofCode)
	ok(t.store.UpdateProduct(t.ctx, By, &p))(t)
	ok(t.store.CreateCodes(t.ctx, act, made))(t)
	made.Hashes = []vetting.CodeHash{Hash(8)} // the server that repeats an act has other codes at hand
	t.refuses(vetting.Conflict)(t.store.CreateCodes(t.ctx, act, made))
	same(t, "codes", len(ok(t.store.Codes(t.ctx, vetting.CodeFilter{Order: "po-lamp"}, vetting.Page{}))(t)), 1)
}

func codesOfDevice(t *trial) {
	t.coded(1)
	earlier := t.codeFor(t.unit(0), 1)
	later := t.codeFor(t.unit(0), 2)
	same(t, "the earlier code", t.code(earlier.ID).State, vetting.CodeRevoked)
	same(t, "the later code", t.code(later.ID).State, vetting.CodeUnused)
	t.enrol(ByCode(0, 1), vetting.ReasonCodeRevoked)
	claim := ByCode(0, 2)
	claim.Asserted = vetting.Identity{} // the code tells which device it is
	t.enrol(claim, vetting.ReasonVetted)
}

func codesRevoked(t *trial) {
	t.coded(1)
	list := t.codes("po-1", 0, 3)
	t.enrol(ByCode(0, 0), vetting.ReasonVetted)
	c := ok(t.store.RevokeCode(t.ctx, By, list[1].ID))(t)
	if c.State != vetting.CodeRevoked || c.Revoked.IsZero() {
		t.Errorf("the code is %+v", c)
	}
	before := t.leaves()
	same(t, "revoked again", ok(t.store.RevokeCode(t.ctx, By, c.ID))(t), c)
	same(t, "leaves", t.leaves(), before)
	t.refuses(vetting.Conflict)(t.store.RevokeCode(t.ctx, By, list[0].ID))
	t.refuses(vetting.NotFound)(t.store.RevokeCode(t.ctx, By, 987654))
	t.refuses(vetting.NotFound)(t.store.RevokeBatch(t.ctx, By, list[1].ID))
	same(t, "revoked of the batch", ok(t.store.RevokeBatch(t.ctx, By, list[0].Batch))(t), 1)
	same(t, "revoked of the batch again", ok(t.store.RevokeBatch(t.ctx, By, list[0].Batch))(t), 0)
	var states []vetting.CodeState
	for _, c := range list {
		states = append(states, t.code(c.ID).State)
	}
	same(t, "the batch", states, []vetting.CodeState{vetting.CodeUsed, vetting.CodeRevoked, vetting.CodeRevoked})
	for state, n := range map[vetting.CodeState]int{vetting.CodeUsed: 1, vetting.CodeRevoked: 2, vetting.CodeUnused: 0} {
		same(t, "codes "+string(state), len(ok(t.store.Codes(t.ctx, vetting.CodeFilter{State: state}, vetting.Page{}))(t)), n)
	}
}

func codeUsed(t *trial) {
	t.coded(1)
	c := t.codes("po-1", 0, 1)[0]
	claim := ByCode(0, 0)
	claim.Auth.Key = Key("found", 0)
	r := t.enrol(claim, vetting.ReasonVetted)
	same(t, "the proof", r.Claim.Auth.Proof, vetting.ProofCode)
	same(t, "the code that the registration names", r.Claim.Auth.Code, c.ID)
	t.expectLeaf(r, "device.admitted", fmt.Sprintf("code:%d", c.ID), audit.KindCertificate, audit.KindCode, audit.KindDevice, audit.KindOrder, audit.KindRegistration)
	used := t.code(c.ID)
	if used.State != vetting.CodeUsed || used.UsedBy != r.DeviceID || !used.Used.Equal(r.At) {
		t.Errorf("the code is %+v", used)
	}
	same(t, "the bound key", t.deviceOf(r).BoundKey, Key("found", 0))
}

func codeRace(t *trial) {
	t.coded(20)
	t.codes("po-1", 0, 1)
	var admitted, refused atomic.Int64
	var wg sync.WaitGroup
	for n := range 20 {
		wg.Go(func() {
			v, _, err := Enrol(t.ctx, t.store, ByCode(n, 0))
			switch {
			case err == nil && v.Outcome == vetting.Admitted:
				admitted.Add(1)
			case err == nil && v.Reasons[0].Code == vetting.ReasonCodeSpent:
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

func codeAskedTwice(t *trial) {
	t.coded(2)
	t.codes("po-1", 0, 1)
	r := t.enrol(ByCode(0, 0), vetting.ReasonVetted)
	t.again(ByCode(0, 0))
	other := ByCode(0, 0)
	other.Key = Key("other", 0)
	t.enrol(other, vetting.ReasonCodeSpent)
	t.enrol(ByCode(1, 0), vetting.ReasonCodeSpent)
	same(t, "units", t.issued("po-1"), 1)
	h := ok(t.store.DeviceHistory(t.ctx, r.DeviceID))(t)
	if len(h.Evidence) != 2 || h.Evidence[0].Kind != vetting.EvidenceMisusedCode || h.Evidence[1].Kind != vetting.EvidenceMisusedCode {
		t.Errorf("evidence %+v", h.Evidence)
	}
	of := ok(t.store.Evidence(t.ctx, vetting.EvidenceFilter{Site: "hsinchu"}, vetting.Page{}))(t)
	same(t, "evidence that the site sees", len(of), 3)
	t.use(r.Certificate)
	t.enrol(ByCode(0, 0), vetting.ReasonAlreadyActive)
}

func codeReplaced(t *trial) {
	t.coded(1)
	t.codes("po-1", 0, 2)
	claim := ByCode(0, 0)
	claim.Auth.Key = Key("found", 0)
	first := t.enrol(claim, vetting.ReasonVetted)
	claim.Key = Key("other", 0) // the bound key makes it the same device
	t.enrol(claim, vetting.ReasonReplaced)
	same(t, "the bound key", t.deviceOf(first).BoundKey, Key("found", 0))
	stranger := ByCode(0, 1)
	stranger.Key = Key("third", 0)
	t.enrol(stranger, vetting.ReasonBound) // a code of the order is for devices that have nothing yet
	c := t.codeFor(first.DeviceID, 9)
	claim = ByCode(0, 9)
	claim.Key = Key("third", 0)
	t.enrol(claim, vetting.ReasonReplaced)
	same(t, "the code", t.code(c.ID).State, vetting.CodeUsed)
	same(t, "the bound key", t.deviceOf(first).BoundKey, vetting.Fingerprint{})
	same(t, "units", t.issued("po-1"), 1)
}

func codeForeign(t *trial) {
	w := t.coded(1)
	t.site("gdansk")
	w.with(t.order("po-2", "thermo", "gdansk", vetting.OrderOpen)).Load(t, keyless(1))
	t.codes("po-1", 0, 1)
	r := t.enrol(ByCode(1, 0), vetting.ReasonCodeForeign)
	same(t, "units", t.issued("po-2"), 0)
	e := ok(t.store.Evidence(t.ctx, vetting.EvidenceFilter{Site: "gdansk"}, vetting.Page{}))(t)
	if len(e) != 1 || e[0].Kind != vetting.EvidenceMisusedCode || e[0].DeviceID != t.unit(1) || e[0].RegistrationID != r.ID {
		t.Errorf("evidence %+v", e)
	}
	t.codeFor(t.unit(0), 5)
	r = t.enrol(ByCode(1, 5), vetting.ReasonMismatch) // the code says unit 0, the name unit 1
	same(t, "the device", r.DeviceID, t.unit(0))
	t.enrol(ByCode(0, 0), vetting.ReasonVetted)
}

func codeStale(t *trial) {
	t.coded(3)
	list := t.codes("po-1", 0, 2)
	revoked := t.propose(ByCode(0, 0))
	ok(t.store.RevokeCode(t.ctx, By, list[0].ID))(t)
	t.refusesCommit("the code was revoked", revoked, true)
	used := t.propose(ByCode(1, 1))
	t.enrol(ByCode(2, 1), vetting.ReasonVetted)
	t.refusesCommit("the code was used", used, true)
	same(t, "units", t.issued("po-1"), 1)
}

func codeAwaited(t *trial) {
	w := t.coded(0)
	p := *ok(t.store.Product(t.ctx, "thermo"))(t)
	p.AwaitRecords = "1h"
	ok(t.store.UpdateProduct(t.ctx, By, &p))(t)
	t.codes("po-1", 0, 1)
	held := t.enrol(ByCode(0, 0), vetting.ReasonNoRecord)
	same(t, "the verdict", held.Outcome, vetting.Held)
	w.Load(t, keyless(0))
	admitted := t.enrol(ByCode(0, 0), vetting.ReasonVetted)
	same(t, "the registration", admitted.ID, held.ID)
}

func codeOnSite(t *trial) {
	w := t.coded(2)
	s := *w.Site
	s.Networks = []string{"2001:db8::/32", "192.0.2.0/24"}
	ok(t.store.UpdateSite(t.ctx, By, &s))(t)
	t.codes("po-1", 0, 2)
	away := ByCode(1, 1)
	away.Remote = "198.51.100.9"
	for _, c := range []vetting.Claim{ByCode(0, 0), away} {
		f := t.facts(c)
		same(t, "on site", ok(t.store.OnSite(t.ctx, &f))(t), c.Remote == "192.0.2.1")
		t.enrol(c, vetting.ReasonVetted)
	}
	var past []bool
	t.done(t.store.PastRegistrations(t.ctx, "thermo", time.Time{}, 10, func(p vetting.Past) error {
		past = append(past, p.OnSite)
		same(t, "the code", p.Registration.Claim.Auth.Code != 0, true)
		return nil
	}))
	same(t, "on site, long ago", past, []bool{true, false})
}

func codeGuesses(t *trial) {
	t.coded(3)
	t.codes("po-1", 0, 1)
	guess := func(n, k int) vetting.Claim {
		c := ByCode(n, 1000+k)
		c.Key, c.Auth.Key, c.Subject = Key("guess", k), Key("found", k), []byte{byte(k)}
		return c
	}
	for k := range 20 {
		t.enrol(guess(0, k), vetting.ReasonWrongCode)
		t.enrol(guess(1, k), vetting.ReasonWrongCode)
		t.enrol(guess(5000+k, k), vetting.ReasonWrongCode) // in no record
		nameless := guess(0, k)
		nameless.Asserted = vetting.Identity{}
		t.enrol(nameless, vetting.ReasonWrongCode)
	}
	list := ok(t.store.Registrations(t.ctx, vetting.RegistrationFilter{}, vetting.Page{}))(t)
	var repeats []int64
	for _, r := range list {
		repeats = append(repeats, r.Repeats)
	}
	slices.Sort(repeats)
	same(t, "registrations by their repetitions", repeats, []int64{19, 19, 39})
	for n, want := range []int{1, 1, 0} {
		h := ok(t.store.DeviceHistory(t.ctx, t.unit(n)))(t)
		if len(h.Evidence) != want || want > 0 && h.Evidence[0].Kind != vetting.EvidenceWrongCode {
			t.Errorf("evidence against unit %d: %+v", n, h.Evidence)
		}
	}
	t.enrol(ByCode(0, 0), vetting.ReasonVetted) // guesses do no harm
}
