package storetest

import (
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/touchmark/touchmark/internal/store"
	"github.com/touchmark/touchmark/vetting"
)

var recordCases = []conformance{
	{"a record is kept as it was given", recordIsKept},
	{"records are loaded in order", recordOrder},
	{"two servers load one manifest once", recordLoaders},
	{"the same record again is a repetition", recordRepeated},
	{"what another record holds is disputed", recordDisputed},
	{"a device's official key is disputed", recordOfficialKey},
	{"a record that clashes with two is disputed with both", recordDisputedTwice},
	{"nearly the same record is disputed", recordNearlySame},
	{"in a large chunk each record is looked at by itself", recordLargeChunk},
	{"a serial number is a product's own", recordOtherProduct},
	{"what is not stated does not clash", recordUnstated},
	{"a chunk that contradicts itself changes nothing", recordTwiceInChunk},
}

// full is a record that states everything.
func full(n int) vetting.Record {
	r := Unit(n)
	r.UID = fmt.Sprintf("uid%d", n)
	return r
}

func recordIsKept(t *trial) {
	w := t.world(1)
	given := full(0)
	given.Made = vetting.Manufacturing{EKHash: Key("ek", 0).String(), HardwareRevision: "C", Line: "4", Rig: "rig-1",
		Time: time.Date(2026, 10, 1, 8, 0, 0, 123000, time.UTC), Tests: json.RawMessage(`{"volts":3.3}`)}
	m := w.Load(t, given)
	d := ok(t.store.Devices(t.ctx, vetting.DeviceFilter{}, vetting.Page{}))(t)
	if len(d) != 1 {
		t.Fatalf("%d devices", len(d))
	}
	want := given
	want.ID, want.ManifestID, want.OrderID, want.ProductID, want.SiteID = d[0].ID, m.ID, w.Order.ID, w.Product.ID, w.Site.ID
	same(t, "in the history", ok(t.store.DeviceHistory(t.ctx, d[0].ID))(t).Record, want)
	same(t, "in the facts", t.facts(first(0)).Record, &want)
	same(t, "the device", d[0], &vetting.Device{ID: d[0].ID, Product: "thermo", Order: "po-1", Site: "hsinchu",
		Identity: given.Identity, State: vetting.DeviceManufactured, BootstrapKey: given.BootstrapKey})
}

func recordOrder(t *trial) {
	w := t.world(1)
	m := w.begin(t, "file")
	m.Records = 3
	m = ok(t.store.AcceptManifest(t.ctx, By, m, signed("lin")))(t)
	load := func(after int64, units ...int) func() (*vetting.Manifest, error) {
		return func() (*vetting.Manifest, error) {
			var records []vetting.Record
			for _, n := range units {
				records = append(records, Unit(n))
			}
			return t.store.LoadRecords(t.ctx, m.ID, after, records)
		}
	}
	devices := func(n int) {
		t.Helper()
		if have := len(ok(t.store.Devices(t.ctx, vetting.DeviceFilter{}, vetting.Page{}))(t)); have != n {
			t.Errorf("%d devices, want %d", have, n)
		}
	}
	t.refuses(vetting.Conflict)(load(1, 0)())
	devices(0)
	before := t.leaves()
	got := ok(load(0, 0, 1)())(t)
	if got.Loaded != 2 || got.Fresh != 2 || got.State != vetting.ManifestAccepted || t.leaves() != before+1 {
		t.Errorf("after two of three records: %+v", got)
	}
	same(t, "to be loaded", ok(t.store.ManifestsToLoad(t.ctx))(t), []*vetting.Manifest{got})
	t.refuses(vetting.Conflict)(load(0, 0, 1)())
	t.refuses(vetting.Conflict)(load(1, 2)())
	t.refuses(vetting.Conflict)(load(3, 2)())
	devices(2)
	same(t, "after the refusals", ok(t.store.Manifest(t.ctx, m.ID))(t), got)
	got = ok(load(2, 2)())(t)
	if got.Loaded != 3 || got.Fresh != 3 || got.Repeated != 0 || got.Disputed != 0 || got.State != vetting.ManifestLoaded {
		t.Errorf("after all records: %+v", got)
	}
	if list := ok(t.store.ManifestsToLoad(t.ctx))(t); len(list) != 0 {
		t.Errorf("to be loaded: %+v", list[0])
	}
	t.refuses(vetting.Conflict)(load(3, 3)())
	devices(3)
	t.refuses(vetting.NotFound)(t.store.LoadRecords(t.ctx, m.ID+1000, 0, []vetting.Record{Unit(5)}))
}

func recordLoaders(t *trial) {
	w := t.world(1)
	m := w.begin(t, "file")
	m.Records = 20
	m = ok(t.store.AcceptManifest(t.ctx, By, m, signed("lin")))(t)
	servers := []*store.Store{t.store, t.second()}
	for from := range 10 {
		var won atomic.Int64
		var wg sync.WaitGroup
		for _, s := range servers {
			wg.Go(func() {
				_, err := s.LoadRecords(t.ctx, m.ID, int64(2*from), []vetting.Record{Unit(2 * from), Unit(2*from + 1)})
				switch {
				case err == nil:
					won.Add(1)
				case vetting.ProblemOf(err) != vetting.Conflict:
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if won.Load() != 1 {
			t.Fatalf("%d servers loaded the same records", won.Load())
		}
	}
	if m = ok(t.store.Manifest(t.ctx, m.ID))(t); m.State != vetting.ManifestLoaded || m.Fresh != 20 {
		t.Errorf("the manifest is %+v", m)
	}
}

func recordRepeated(t *trial) {
	w := t.world(10, full(0))
	t.admit(0) // what became of the device does not matter
	if m := w.Load(t, full(1), full(0)); m.Loaded != 2 || m.Fresh != 1 || m.Repeated != 1 || m.Disputed != 0 {
		t.Errorf("the manifest is %+v", m)
	}
	if t.facts(first(0)).Record.Contested {
		t.Error("a repetition contests the record")
	}
	if e := ok(t.store.Evidence(t.ctx, vetting.EvidenceFilter{}, vetting.Page{}))(t); len(e) != 0 {
		t.Errorf("a repetition is evidence: %+v", e[0])
	}
}

func recordDisputed(t *trial) {
	w := t.world(10, full(0), full(1), full(2), full(3), full(4))
	for n, c := range []struct {
		kind vetting.EvidenceKind
		take func(r *vetting.Record, from vetting.Record)
	}{
		{vetting.EvidenceDuplicateSerial, func(r *vetting.Record, from vetting.Record) { r.Serial = from.Serial }},
		{vetting.EvidenceDuplicateMAC, func(r *vetting.Record, from vetting.Record) { r.MAC = from.MAC }},
		{vetting.EvidenceDuplicateUID, func(r *vetting.Record, from vetting.Record) { r.UID = from.UID }},
		{vetting.EvidenceDuplicateKey, func(r *vetting.Record, from vetting.Record) { r.BootstrapKey = from.BootstrapKey }},
	} {
		claim := full(100 + n)
		c.take(&claim, full(n))
		t.expectDispute(w, full(n), claim, c.kind)
	}
	if t.facts(first(4)).Record.Contested {
		t.Error("a record that nobody claims is contested")
	}
	all := full(4)
	all.Row = 7
	all.Made.Line = "2"
	t.expectDispute(w, full(4), all, vetting.EvidenceDuplicateSerial, vetting.EvidenceDuplicateMAC, vetting.EvidenceDuplicateUID, vetting.EvidenceDuplicateKey)
}

// expectDispute loads a record that claims what another holds.
func (t *trial) expectDispute(w *World, holder, claim vetting.Record, kinds ...vetting.EvidenceKind) {
	t.Helper()
	before := t.leaves()
	m := w.Load(t, claim)
	if m.Disputed != 1 || m.Fresh != 0 || m.Repeated != 0 || m.State != vetting.ManifestLoaded {
		t.Errorf("%v: the manifest is %+v", kinds, m)
	}
	if n := t.leaves() - before; n != 2 { // it was accepted, and it was loaded
		t.Errorf("%v: %d leaves", kinds, n)
	}
	r := t.facts(Claim(holder.BootstrapKey, Key("official", 0))).Record
	if r == nil || r.Serial != holder.Serial || !r.Contested {
		t.Fatalf("%v: the record that was there is %+v", kinds, r)
	}
	h := ok(t.store.DeviceHistory(t.ctx, r.ID))(t)
	if !h.Device.Contested || !h.Record.Contested {
		t.Errorf("%v: the history tells nothing: %+v", kinds, h)
	}
	claim.ManifestID, claim.OrderID, claim.ProductID, claim.SiteID = m.ID, 0, 0, w.Site.ID // the IDs of order and product stay inside
	if len(h.Disputes) != 1 {
		t.Fatalf("%v: %d disputes", kinds, len(h.Disputes))
	}
	same(t, "the dispute", *h.Disputes[0], vetting.Dispute{ID: h.Disputes[0].ID, RecordID: r.ID, Record: claim, Kinds: kinds})
	t.expectEvidence(w, h, m, kinds)
}

func (t *trial) expectEvidence(w *World, h *vetting.History, m *vetting.Manifest, kinds []vetting.EvidenceKind) {
	t.Helper()
	var have []vetting.EvidenceKind
	for _, e := range slices.Backward(h.Evidence) { // which is newest first
		have = append(have, e.Kind)
		if e.DeviceID != h.Device.ID || e.ManifestID != m.ID || e.RegistrationID != 0 || e.Text == "" || e.At.IsZero() || e.Leaf != t.leaves()-1 {
			t.Errorf("evidence %+v", e)
		}
	}
	if !slices.Equal(have, kinds) {
		t.Errorf("evidence %v, want %v", have, kinds)
	}
	for _, e := range h.Evidence {
		of := ok(t.store.Evidence(t.ctx, vetting.EvidenceFilter{Site: w.Site.Name, DeviceID: h.Device.ID, Kind: e.Kind}, vetting.Page{}))(t)
		same(t, "the site's evidence", of, []*vetting.Evidence{e})
	}
}

func recordOfficialKey(t *trial) {
	w := t.world(10, full(0), full(1))
	d := t.admit(0)
	claim := full(2)
	claim.BootstrapKey = d.Key
	if m := w.Load(t, claim); m.Disputed != 1 || m.Fresh != 0 {
		t.Errorf("the manifest is %+v", m)
	}
	h := ok(t.store.DeviceHistory(t.ctx, d.ID))(t)
	if !h.Record.Contested || len(h.Disputes) != 1 || !slices.Equal(h.Disputes[0].Kinds, []vetting.EvidenceKind{vetting.EvidenceDuplicateKey}) {
		t.Errorf("the device whose key it is: %+v", h)
	}
	if len(h.Evidence) != 1 || h.Evidence[0].Kind != vetting.EvidenceDuplicateKey {
		t.Errorf("evidence %+v", h.Evidence)
	}
	// the record of a device that enrolled on its bootstrap key repeats
	own := Claim(full(1).BootstrapKey, full(1).BootstrapKey)
	t.enrol(own, vetting.ReasonVetted)
	if m := w.Load(t, full(1)); m.Repeated != 1 {
		t.Errorf("the manifest is %+v", m)
	}
}

func recordDisputedTwice(t *trial) {
	w := t.world(10, full(0), full(1))
	claim := full(2)
	claim.Serial, claim.MAC = full(0).Serial, full(1).MAC
	if m := w.Load(t, claim); m.Disputed != 1 || m.Fresh != 0 || m.Loaded != 1 {
		t.Errorf("the manifest is %+v", m)
	}
	for n, kind := range []vetting.EvidenceKind{vetting.EvidenceDuplicateSerial, vetting.EvidenceDuplicateMAC} {
		h := ok(t.store.DeviceHistory(t.ctx, t.facts(first(n)).Record.ID))(t)
		if !h.Record.Contested || len(h.Disputes) != 1 || len(h.Evidence) != 1 || h.Evidence[0].Kind != kind {
			t.Errorf("record %d: %+v", n, h)
		}
	}
	// the same claim once more is disputed once more
	if m := w.Load(t, claim); m.Disputed != 1 {
		t.Errorf("again the manifest is %+v", m)
	}
	if h := ok(t.store.DeviceHistory(t.ctx, t.facts(first(0)).Record.ID))(t); len(h.Disputes) != 2 {
		t.Errorf("%d disputes", len(h.Disputes))
	}
}

func recordNearlySame(t *trial) {
	w := t.world(10, full(0), full(1), full(2))
	made := full(0)
	made.Made.HardwareRevision = "D"
	less := full(1)
	less.UID = ""
	elsewhere := w.with(t.order("po-2", "thermo", "hsinchu", vetting.OrderOpen))
	for what, m := range map[string]*vetting.Manifest{
		"made otherwise":    w.Load(t, made),
		"with less":         w.Load(t, less),
		"for another order": elsewhere.Load(t, full(2)),
	} {
		if m.Disputed != 1 || m.Repeated != 0 || m.Fresh != 0 {
			t.Errorf("%s: %+v", what, m)
		}
	}
}

// A chunk's records travel many to a statement: none may be taken for
// another.
func recordLargeChunk(t *trial) {
	const known, all = 150, 480
	w := t.world(10)
	var records []vetting.Record
	for n := range all {
		records = append(records, full(n))
	}
	w.Load(t, records[:known]...)
	for n := 7; n < known; n += 10 {
		records[n].UID = fmt.Sprintf("other%d", n)
	}
	records[70].Serial = full(80).Serial // two at once
	m := w.Load(t, records...)
	if m.Fresh != all-known || m.Repeated != known-15-1 || m.Disputed != 15+1 {
		t.Errorf("the manifest is %+v", m)
	}
	for _, d := range ok(t.store.Devices(t.ctx, vetting.DeviceFilter{}, vetting.Page{Limit: 1000}))(t) {
		var n, disputes int
		if _, err := fmt.Sscanf(d.Identity.Serial, "SN-%d", &n); err != nil {
			t.Fatal(err)
		}
		switch {
		case n >= known:
		case n%10 == 7, n == 80, n == 70:
			disputes = 1
		}
		h := ok(t.store.DeviceHistory(t.ctx, d.ID))(t)
		if d.Contested != (disputes == 1) || len(h.Disputes) != disputes || d.UID != fmt.Sprintf("uid%d", n) {
			t.Errorf("record %d: contested %v, %d disputes, UID %s", n, d.Contested, len(h.Disputes), d.UID)
		}
	}
}

func recordOtherProduct(t *trial) {
	w := t.world(10, full(0))
	t.product("lamp")
	lamps := w.with(t.order("po-2", "lamp", "hsinchu", vetting.OrderOpen))
	lamp := full(1)
	lamp.Serial = full(0).Serial
	if m := lamps.Load(t, lamp); m.Fresh != 1 || m.Disputed != 0 {
		t.Errorf("the same serial number in another product: %+v", m)
	}
	if t.facts(first(0)).Record.Contested || t.facts(first(1)).Record.Contested {
		t.Error("the same serial number in another product contests a record")
	}
	for what, take := range map[string]func(r *vetting.Record){
		"MAC": func(r *vetting.Record) { r.MAC = full(0).MAC },
		"UID": func(r *vetting.Record) { r.UID = full(0).UID },
		"key": func(r *vetting.Record) { r.BootstrapKey = full(0).BootstrapKey },
	} {
		claim := full(2)
		take(&claim)
		if m := lamps.Load(t, claim); m.Fresh != 0 || m.Disputed != 1 {
			t.Errorf("the same %s in another product: %+v", what, m)
		}
	}
}

func recordUnstated(t *trial) {
	w := t.world(10)
	var records []vetting.Record
	for n := range 3 {
		records = append(records, vetting.Record{Row: int64(n + 1), Identity: vetting.Identity{Serial: fmt.Sprintf("S%d", n)}})
	}
	if m := w.Load(t, records...); m.Fresh != 3 {
		t.Errorf("together: %+v", m)
	}
	if m := w.Load(t, vetting.Record{Row: 1, Identity: vetting.Identity{Serial: "S9"}}); m.Fresh != 1 {
		t.Errorf("after them: %+v", m)
	}
	// and nobody finds them by what they do not have
	if f := t.facts(Claim(vetting.Fingerprint{}, Key("official", 0))); f.Record != nil {
		t.Errorf("no key finds %+v", f.Record)
	}
}

func recordTwiceInChunk(t *trial) {
	w := t.world(10)
	m := w.accept(t, "file", "lin")
	before := t.leaves()
	again := full(1)
	again.Serial = full(0).Serial
	if _, err := t.store.LoadRecords(t.ctx, m.ID, 0, []vetting.Record{full(0), again}); err == nil {
		t.Error("a chunk was loaded that names a unit twice")
	}
	if t.leaves() != before {
		t.Error("it left a leaf")
	}
	same(t, "the manifest", ok(t.store.Manifest(t.ctx, m.ID))(t), m)
	if got := ok(t.store.LoadRecords(t.ctx, m.ID, 0, []vetting.Record{full(0), full(1)}))(t); got.Fresh != 2 {
		t.Errorf("a good chunk afterwards: %+v", got)
	}
}
