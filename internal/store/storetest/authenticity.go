package storetest

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"time"

	"github.com/touchmark/touchmark/vetting"
)

var authenticityCases = []conformance{
	{"a device is found by whatever names it", subjectsFound},
	{"a subject carries what inspections look at", subjectsCarry},
	{"evidence of the same mark is counted, not repeated", evidenceMarked},
	{"evidence is cleared once, and opened again", evidenceCleared},
	{"all of a device's evidence is cleared in one act", evidenceClearedAll},
}

// evidence records one sign against nobody and returns its ID.
func (t *trial) evidence(mark string, against ...int64) int64 {
	t.Helper()
	e := vetting.Evidence{Kind: vetting.EvidenceForged, Text: "seen", Mark: []byte(mark)}
	if len(against) > 0 {
		e.DeviceID = against[0]
	}
	t.done(t.store.RecordEvidence(t.ctx, By, []vetting.Evidence{e}))
	return ok(t.store.Evidence(t.ctx, vetting.EvidenceFilter{}, vetting.Page{Limit: 1}))(t)[0].ID
}

func (t *trial) subjects(q vetting.SubjectQuery) []*vetting.Subject {
	t.Helper()
	return ok(t.store.Subjects(t.ctx, q))(t)
}

func subjectsFound(t *trial) {
	w := t.world(10, Unit(0), Unit(1))
	t.product("lamp")
	other := Unit(2)
	other.Serial, other.UID = Unit(0).Serial, "aa"
	w.with(t.order("po-2", "lamp", "hsinchu", vetting.OrderOpen)).Load(t, other)
	d := t.admit(0)
	second := t.facts(first(2)).Record.ID
	for _, c := range []struct {
		q    vetting.SubjectQuery
		want []int64
	}{
		{vetting.SubjectQuery{Identity: vetting.Identity{Serial: Unit(0).Serial}}, []int64{d.ID, second}},
		{vetting.SubjectQuery{Identity: vetting.Identity{MAC: Unit(0).MAC}}, []int64{d.ID}},
		{vetting.SubjectQuery{Identity: vetting.Identity{UID: "aa"}}, []int64{second}},
		{vetting.SubjectQuery{Identity: vetting.Identity{MAC: Unit(0).MAC, UID: "aa"}}, []int64{d.ID, second}},
		{vetting.SubjectQuery{Certificate: d.Certificate}, []int64{d.ID}},
		{vetting.SubjectQuery{Certificate: d.Certificate, Identity: vetting.Identity{MAC: Unit(0).MAC}}, []int64{d.ID}},
		{vetting.SubjectQuery{Bootstrap: Unit(2).BootstrapKey}, []int64{second}},
		{vetting.SubjectQuery{Identity: vetting.Identity{Serial: "SN-9"}, Certificate: "0a", Bootstrap: Key("no", 1)}, nil},
		{vetting.SubjectQuery{}, nil},
	} {
		var ids []int64
		for _, s := range t.subjects(c.q) {
			ids = append(ids, s.Device.ID)
			if s.Bootstrap != (!c.q.Bootstrap.IsZero() && s.Device.ID == second) {
				t.Errorf("%+v: device %d has the bootstrap key: %v", c.q, s.Device.ID, s.Bootstrap)
			}
			if (s.Shown != nil) != (c.q.Certificate != "" && s.Device.ID == d.ID) {
				t.Errorf("%+v: the shown certificate is %+v", c.q, s.Shown)
			}
		}
		if slices.Sort(ids); !slices.Equal(ids, c.want) {
			t.Errorf("%+v finds %v, want %v", c.q, ids, c.want)
		}
	}
}

func subjectsCarry(t *trial) {
	w := t.world(10, Unit(0))
	d := t.admit(0)
	t.use(d.Certificate)
	twin := Unit(5)
	twin.MAC = Unit(0).MAC
	w.Load(t, twin)
	d = t.device(d.ID)
	got := t.subjects(vetting.SubjectQuery{Certificate: d.Certificate})[0]
	cert := t.cert(d.Certificate)
	d.Revision, d.CertificateID, d.Key, d.BootstrapKey, d.Updated = 0, 0, vetting.Fingerprint{}, vetting.Fingerprint{}, time.Time{} // of no interest
	same(t, "the device", got.Device, *d)
	same(t, "the shown certificate", got.Shown, cert)
	if got.ShownDigest != sha256.Sum256(cert.DER) {
		t.Error("the shown certificate has another digest")
	}
	c := got.Current
	if c == nil || c.Serial != cert.Serial || c.State != cert.State || !c.NotAfter.Equal(cert.NotAfter) || !c.Used.Equal(cert.Used) || c.DeviceID != d.ID {
		t.Errorf("the current certificate is %+v", c)
	}
	same(t, "the evidence", got.Evidence, ok(t.store.Evidence(t.ctx, vetting.EvidenceFilter{DeviceID: d.ID}, vetting.Page{}))(t))
	if len(got.Evidence) != 1 || !got.Device.Contested {
		t.Errorf("of a contested device: %s", show(got))
	}
	ok(t.store.ClearEvidence(t.ctx, By, got.Evidence[0].ID, "misprint"))(t)
	if left := t.subjects(vetting.SubjectQuery{Identity: vetting.Identity{MAC: Unit(0).MAC}})[0].Evidence; len(left) != 0 {
		t.Errorf("cleared evidence is still open: %s", show(left))
	}
}

func evidenceMarked(t *trial) {
	t.world(10, Unit(0))
	d := t.admit(0)
	one := vetting.Evidence{Kind: vetting.EvidenceForged, Text: "one", Mark: []byte("one"), DeviceID: d.ID}
	other := vetting.Evidence{Kind: vetting.EvidenceForged, Text: "other", Mark: []byte("other")}
	none := vetting.Evidence{Kind: vetting.EvidenceForged, Text: "none"}
	before := t.leaves()
	t.done(t.store.RecordEvidence(t.ctx, By, []vetting.Evidence{one, other, none, one}))
	t.done(t.store.RecordEvidence(t.ctx, By, []vetting.Evidence{one}))
	if n := t.leaves() - before; n != 1 {
		t.Errorf("%d leaves", n)
	}
	t.done(t.store.RecordEvidence(t.ctx, By, []vetting.Evidence{none}))
	list := ok(t.store.Evidence(t.ctx, vetting.EvidenceFilter{}, vetting.Page{}))(t)
	var told []string
	for _, e := range list {
		told = append(told, fmt.Sprint(e.Text, " ", e.Repeats, " ", !e.Last.IsZero()))
	}
	if want := []string{"none 0 false", "none 0 false", "other 0 false", "one 2 true"}; !slices.Equal(told, want) {
		t.Errorf("evidence %q, want %q", told, want)
	}
	bySite := ok(t.store.Evidence(t.ctx, vetting.EvidenceFilter{Site: "hsinchu"}, vetting.Page{}))(t)
	if len(bySite) != 1 || bySite[0].DeviceID != d.ID {
		t.Errorf("the site's evidence is %s", show(bySite))
	}
	if leaf := t.leaf(list[0].Leaf); leaf.Act != "evidence.record" || leaf.By != "operator:test" {
		t.Errorf("the leaf is %+v", leaf)
	}
	t.done(t.store.WitnessEvidence(t.ctx, []vetting.Evidence{{Kind: vetting.EvidenceReplayed, DeviceID: d.ID, Text: "t"}}))
	seen := ok(t.store.Evidence(t.ctx, vetting.EvidenceFilter{Kind: vetting.EvidenceReplayed}, vetting.Page{}))(t)
	if leaf := t.leaf(seen[0].Leaf); leaf.By != "server" {
		t.Errorf("the leaf of what the server saw is %+v", leaf)
	}
}

func evidenceCleared(t *trial) {
	id := t.evidence("m")
	t.refuses(vetting.Conflict)(t.store.ReopenEvidence(t.ctx, By, id, "x"))
	index := t.leaves()
	e := ok(t.store.ClearEvidence(t.ctx, By, id, "test bench"))(t)
	if c := e.Cleared; c == nil || c.By != "test" || c.Note != "test bench" || c.At.IsZero() || e.Leaf != index {
		t.Fatalf("cleared: %s", show(e))
	}
	if leaf := t.leaf(index); leaf.Act != "evidence.clear" || leaf.By != "operator:test" || leaf.Note != "test bench" {
		t.Errorf("the leaf is %+v", leaf)
	}
	t.refuses(vetting.Conflict)(t.store.ClearEvidence(t.ctx, By, id, "again"))
	t.refuses(vetting.NotFound)(t.store.ClearEvidence(t.ctx, By, 1<<40, "x"))
	t.refuses(vetting.NotFound)(t.store.ReopenEvidence(t.ctx, By, 1<<40, "x"))
	open := func() int {
		t.Helper()
		return len(ok(t.store.Evidence(t.ctx, vetting.EvidenceFilter{Open: true}, vetting.Page{}))(t))
	}
	if n := open(); n != 0 {
		t.Errorf("%d are open", n)
	}
	if again := t.evidence("m"); again == id || open() != 1 {
		t.Errorf("what was cleared and is seen again is evidence %d, as before", again)
	}
	if e = ok(t.store.ReopenEvidence(t.ctx, By, id, "it was one"))(t); e.Cleared != nil || open() != 2 {
		t.Errorf("opened again: %s", show(e))
	}
}

func evidenceClearedAll(t *trial) {
	t.world(10, Unit(0), Unit(1))
	a, b := t.admit(0).ID, t.admit(1).ID
	t.refuses(vetting.Conflict)(t.store.ClearDeviceEvidence(t.ctx, By, a, "x"))
	t.refuses(vetting.NotFound)(t.store.ClearDeviceEvidence(t.ctx, By, 1<<40, "x"))
	ids := []int64{t.evidence("1", a), t.evidence("2", a), t.evidence("3", b)}
	ok(t.store.ClearEvidence(t.ctx, By, ids[0], "first"))(t)
	before := t.leaves()
	list := ok(t.store.ClearDeviceEvidence(t.ctx, By, a, "all"))(t)
	if t.leaves() != before+1 || len(list) != 2 || list[0].Cleared.Note != "all" || list[1].Cleared.Note != "first" {
		t.Errorf("cleared: %s", show(list))
	}
	if left := ok(t.store.Evidence(t.ctx, vetting.EvidenceFilter{Open: true}, vetting.Page{}))(t); len(left) != 1 || left[0].ID != ids[2] {
		t.Errorf("open is %s", show(left))
	}
}
