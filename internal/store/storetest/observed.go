package storetest

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/touchmark/touchmark/vetting"
)

var observedCases = []conformance{
	{"what was seen of a device is kept, a bounded part", observedKept},
	{"a batch handed in again changes nothing", observedAgain},
	{"evidence of observations is counted, not repeated", observedEvidence},
	{"two servers observe one device", observedElsewhere},
	{"unknown certificates are told from other CAs'", observedUnknown},
}

var observedBy = vetting.ObservationRules{Speed: 1000, Tolerance: 300, Returns: 3, Window: 10 * time.Minute, Grace: time.Hour}

// sighting is a connection by a certificate, some minutes after a time, from
// the network of a number.
func sighting(serial string, at time.Time, network int) vetting.Observation {
	return vetting.Observation{Certificate: serial, Event: vetting.ObservedConnect, At: at, Address: netip.AddrFrom4([4]byte{192, 0, byte(network), 7}), Source: "broker"}
}

// alternating are a certificate's connections from two networks in turn, one
// a minute.
func alternating(serial string, at time.Time, n int) (list []vetting.Observation) {
	for i := range n {
		list = append(list, sighting(serial, at.Add(time.Duration(i)*time.Minute), i%2))
	}
	return list
}

func (t *trial) observe(list ...vetting.Observation) vetting.Observed {
	t.Helper()
	return *ok(t.store.Observe(t.ctx, By, observedBy, list))(t)
}

// hour is one of today, in whole seconds.
func hour() time.Time { return time.Now().Add(-time.Hour).UTC().Truncate(time.Second) }

func observedKept(t *trial) {
	t.world(10, Unit(0), Unit(1))
	a, b := t.admit(0), t.admit(1)
	at := hour()
	var list []vetting.Observation
	for i := range 500 { // over several transactions
		list = append(list, sighting(a.Certificate, at.Add(time.Duration(i)*time.Second), 0))
	}
	list = append(list, sighting(b.Certificate, at, 1))
	list[len(list)-1].Place = &vetting.Place{Lat: 52.5, Long: 13.4}
	left := list[len(list)-1]
	left.Event, left.At = vetting.ObservedDisconnect, at.Add(time.Minute)
	slices.Reverse(list)
	before := t.leaves()
	same(t, "the counts", t.observe(append(list, left)...), vetting.Observed{Taken: 502})
	if t.leaves() != before {
		t.Error("observations that show nothing left leaves")
	}
	if n := len(ok(t.store.DeviceHistory(t.ctx, a.ID))(t).Sightings); n != vetting.MaxSightings {
		t.Errorf("%d sightings are kept", n)
	}
	same(t, "the other's", ok(t.store.DeviceHistory(t.ctx, b.ID))(t).Sightings, []vetting.Sighting{
		{At: at, Certificate: b.Certificate, Address: "192.0.1.7", Source: "broker", Place: &vetting.Place{Lat: 52.5, Long: 13.4}, Left: at.Add(time.Minute)}})
	if s := t.subjects(vetting.SubjectQuery{Identity: vetting.Identity{Serial: a.Serial}})[0]; !s.Seen.Equal(at.Add(499 * time.Second)) {
		t.Errorf("seen last at %s", s.Seen)
	}
}

func observedAgain(t *trial) {
	t.world(10, Unit(0))
	d := t.admit(0)
	list := alternating(d.Certificate, hour(), 5)
	same(t, "at first", t.observe(list...), vetting.Observed{Taken: 5, Evidence: 1})
	before := t.leaves()
	same(t, "again", t.observe(list...), vetting.Observed{Repeated: 5})
	same(t, "a part of it", t.observe(list[2:4]...), vetting.Observed{Repeated: 2})
	if t.leaves() != before {
		t.Error("the same again left leaves")
	}
}

func observedEvidence(t *trial) {
	t.world(10, Unit(0))
	d := t.admit(0)
	at := hour()
	for i := range 3 {
		if n := t.observe(alternating(d.Certificate, at.Add(time.Duration(i)*15*time.Minute), 5)...); n.Evidence != 1 {
			t.Errorf("round %d: %+v", i, n)
		}
	}
	list := ok(t.store.Evidence(t.ctx, vetting.EvidenceFilter{DeviceID: d.ID}, vetting.Page{}))(t)
	if len(list) != 1 || list[0].Kind != vetting.EvidenceConcurrentUse || list[0].Repeats != 2 {
		t.Fatalf("evidence %s", show(list))
	}
	if leaf := t.leaf(list[0].Leaf); leaf.By != "operator:test" {
		t.Errorf("the leaf is %+v", leaf)
	}
	ok(t.store.ClearEvidence(t.ctx, By, list[0].ID, "a test bench"))(t)
	t.setState(t.deviceUsed(d).ID, vetting.DeviceRetired)
	if n := t.observe(sighting(d.Certificate, time.Now().Add(time.Second), 0)); n.Evidence != 1 {
		t.Errorf("a revoked certificate: %+v", n)
	}
	if list = ok(t.store.Evidence(t.ctx, vetting.EvidenceFilter{DeviceID: d.ID, Open: true}, vetting.Page{}))(t); len(list) != 1 || list[0].Kind != vetting.EvidenceRevokedInUse {
		t.Errorf("evidence %s", show(list))
	}
}

// deviceUsed is a device after it used its certificate.
func (t *trial) deviceUsed(d *vetting.Device) *vetting.Device {
	t.Helper()
	t.use(d.Certificate)
	return t.device(d.ID)
}

func observedElsewhere(t *trial) {
	t.world(10, Unit(0))
	d := t.admit(0)
	other := t.second()
	evidence := 0
	for i, one := range alternating(d.Certificate, hour(), 5) {
		s := t.store
		if i%2 == 1 {
			s = other
		}
		evidence += ok(s.Observe(t.ctx, By, observedBy, []vetting.Observation{one}))(t).Evidence
	}
	if evidence != 1 {
		t.Errorf("two servers found %d signs", evidence)
	}
}

func observedUnknown(t *trial) {
	t.world(10, Unit(0))
	ours := fmt.Sprintf("%034x", 7)
	list := []vetting.Observation{sighting(ours, hour(), 0), sighting(ours, hour().Add(time.Minute), 0), sighting("0a", hour(), 0)}
	same(t, "the counts", t.observe(list...), vetting.Observed{Unknown: 3, Evidence: 2})
	kept := ok(t.store.Evidence(t.ctx, vetting.EvidenceFilter{}, vetting.Page{}))(t)
	if len(kept) != 1 || kept[0].Kind != vetting.EvidenceUnknownCertificate || kept[0].DeviceID != 0 || kept[0].Repeats != 1 {
		t.Errorf("evidence %s", show(kept))
	}
	t.refuses(vetting.Invalid)(t.store.Observe(t.ctx, By, observedBy, []vetting.Observation{sighting("hello", hour(), 0)}))
	same(t, "nothing", t.observe(), vetting.Observed{})
}
