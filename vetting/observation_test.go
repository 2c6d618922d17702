package vetting_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/touchmark/touchmark/vetting"
)

var observedBy = vetting.ObservationRules{Speed: 1000, Tolerance: 300, Returns: 3, Window: 10 * time.Minute, Grace: 24 * time.Hour}

var (
	berlin  = &vetting.Place{Lat: 52.5, Long: 13.4}
	potsdam = &vetting.Place{Lat: 52.4, Long: 13.06}
	tokyo   = &vetting.Place{Lat: 35.7, Long: 139.7}
	suva    = &vetting.Place{Lat: -18.1, Long: 178.4}
	apia    = &vetting.Place{Lat: -13.8, Long: -171.8} // 1,150 km from Suva, over the date line
)

// seeing is one step of a story: minutes after the beginning a device comes
// from an address, or leaves it ("-" before the address).
type seeing struct {
	minutes float64
	address string
	place   *vetting.Place
}

// tell has a story judged step by step and gives the kinds of evidence.
func tell(t *testing.T, base vetting.ObservedFacts, story []seeing) (kinds []vetting.EvidenceKind) {
	t.Helper()
	var seen vetting.Seen
	for _, s := range story {
		f := base
		if f.Rules == (vetting.ObservationRules{}) {
			f.Rules = observedBy
		}
		event, address := vetting.ObservedConnect, s.address
		if address[0] == '-' {
			event, address = vetting.ObservedDisconnect, address[1:]
		}
		f.DeviceID, f.Seen = 7, seen
		f.Observation = vetting.Observation{Certificate: "0a", Event: event, At: inspected.Add(time.Duration(s.minutes * float64(time.Minute))),
			Address: netip.MustParseAddr(address), Place: s.place, Source: "broker"}
		if err := f.Observation.Check(inspected.Add(24 * time.Hour)); err != nil {
			t.Fatal(err)
		}
		before := fmt.Sprint(f.Seen)
		after, fresh, evidence := vetting.Observe(f)
		if fmt.Sprint(f.Seen) != before {
			t.Errorf("the facts were changed")
		}
		if again, fresh, ev := vetting.Observe(withSeen(f, after)); fresh || len(ev) > 0 || !reflect.DeepEqual(again, after) {
			t.Errorf("%+v handed in again: %v, %+v", s, fresh, ev)
		}
		if !fresh {
			t.Errorf("%+v is not new", s)
		}
		seen = after
		for _, e := range evidence {
			if e.DeviceID != 7 || len(e.Mark) == 0 || e.Text == "" {
				t.Errorf("evidence %+v", e)
			}
			kinds = append(kinds, e.Kind)
		}
	}
	return kinds
}

func withSeen(f vetting.ObservedFacts, s vetting.Seen) vetting.ObservedFacts {
	f.Seen = s
	return f
}

func TestObserve(t *testing.T) {
	const home, mobile, office, same = "192.0.2.7", "198.51.100.9", "2001:db8:1::1", "192.0.2.99"
	revoked := vetting.ObservedFacts{State: vetting.CertificateRevoked, Revoked: inspected.Add(5 * time.Minute)}
	old := vetting.ObservedFacts{State: vetting.CertificateSuperseded, SuccessorUsed: inspected.Add(-24*time.Hour + 5*time.Minute)}
	for _, tt := range []struct {
		name  string
		facts vetting.ObservedFacts
		story []seeing
		want  []vetting.EvidenceKind
	}{
		{"at home", vetting.ObservedFacts{}, []seeing{{0, home, berlin}, {5, "-" + home, nil}, {6, home, berlin}}, nil},
		{"it reconnects often", vetting.ObservedFacts{}, []seeing{{0, home, nil}, {1, home, nil}, {2, same, nil}, {3, home, nil}, {4, same, nil}, {5, home, nil}}, nil},
		{"it roams and comes back, its first connection left behind", vetting.ObservedFacts{}, []seeing{{0, home, berlin}, {2, mobile, potsdam}, {7, "-" + home, nil}, {8, home, berlin}, {20, "-" + mobile, nil}}, nil},
		{"it moves between home and office all day", vetting.ObservedFacts{}, []seeing{{0, home, nil}, {60, office, nil}, {120, home, nil}, {180, office, nil}, {240, home, nil}, {300, office, nil}}, nil},
		{"it flaps, and says goodbye each time", vetting.ObservedFacts{}, []seeing{
			{0, home, nil}, {0.5, "-" + home, nil}, {1, mobile, nil}, {1.5, "-" + mobile, nil}, {2, home, nil}, {2.5, "-" + home, nil},
			{3, mobile, nil}, {3.5, "-" + mobile, nil}, {4, home, nil}, {4.5, "-" + home, nil}, {5, mobile, nil}}, nil},
		{"two holders take turns", vetting.ObservedFacts{}, []seeing{{0, home, nil}, {1, mobile, nil}, {2, home, nil}, {3, mobile, nil}, {4, home, nil}}, []vetting.EvidenceKind{vetting.EvidenceConcurrentUse}},
		{"two holders, and a broker that ends the earlier session", vetting.ObservedFacts{}, []seeing{
			{0, home, nil}, {1, mobile, nil}, {1, "-" + home, nil}, {2, home, nil}, {2, "-" + mobile, nil}, {3, mobile, nil}, {3, "-" + home, nil}, {4, home, nil}}, []vetting.EvidenceKind{vetting.EvidenceConcurrentUse}},
		{"one alarm is not told at each step", vetting.ObservedFacts{}, []seeing{{0, home, nil}, {1, mobile, nil}, {2, home, nil}, {3, mobile, nil}, {4, home, nil}, {5, mobile, nil}, {6, home, nil}}, []vetting.EvidenceKind{vetting.EvidenceConcurrentUse}},
		{"from Berlin to Tokyo in an hour", vetting.ObservedFacts{}, []seeing{{0, home, berlin}, {60, mobile, tokyo}}, []vetting.EvidenceKind{vetting.EvidenceImpossibleTravel}},
		{"from Berlin to Tokyo by air", vetting.ObservedFacts{}, []seeing{{0, home, berlin}, {13 * 60, mobile, tokyo}}, nil},
		{"a place that is a little wrong", vetting.ObservedFacts{}, []seeing{{0, home, berlin}, {0.1, mobile, potsdam}}, nil},
		{"over the date line", vetting.ObservedFacts{}, []seeing{{0, home, suva}, {60, mobile, apia}}, nil},
		{"reported late", vetting.ObservedFacts{}, []seeing{{60, home, berlin}, {0, mobile, tokyo}}, []vetting.EvidenceKind{vetting.EvidenceImpossibleTravel}},
		{"a sighting without a place between", vetting.ObservedFacts{}, []seeing{{0, home, berlin}, {30, office, nil}, {60, mobile, tokyo}}, []vetting.EvidenceKind{vetting.EvidenceImpossibleTravel}},
		{"revoked", revoked, []seeing{{1, home, nil}, {6, home, nil}}, []vetting.EvidenceKind{vetting.EvidenceRevokedInUse}},
		{"on hold", vetting.ObservedFacts{State: vetting.CertificateOnHold}, []seeing{{1, home, nil}}, nil},
		{"superseded", old, []seeing{{1, home, nil}, {6, home, nil}}, []vetting.EvidenceKind{vetting.EvidenceSuperseded}},
		{"superseded, and the new one never used", vetting.ObservedFacts{State: vetting.CertificateSuperseded}, []seeing{{1, home, nil}}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := tell(t, tt.facts, tt.story); !slices.Equal(got, tt.want) {
				t.Errorf("evidence %v, want %v", got, tt.want)
			}
		})
	}
}

// What is kept is bounded and in order, whatever comes in which order.
func TestObserveKeepsFew(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var seen vetting.Seen
	for range 2000 {
		f := vetting.ObservedFacts{Rules: observedBy, Seen: seen, Observation: vetting.Observation{Certificate: fmt.Sprintf("%02x", r.IntN(3)), Event: vetting.ObservedConnect,
			At: inspected.Add(time.Duration(r.IntN(1000)) * time.Minute), Address: netip.AddrFrom4([4]byte{192, 0, 2, byte(r.IntN(4))}), Source: "broker"}}
		seen, _, _ = vetting.Observe(f)
		if len(seen.Sightings) > vetting.MaxSightings || !slices.IsSortedFunc(seen.Sightings, func(a, b vetting.Sighting) int { return a.At.Compare(b.At) }) {
			t.Fatalf("kept: %+v", seen.Sightings)
		}
	}
	f := vetting.ObservedFacts{Rules: observedBy, Seen: seen, Observation: vetting.Observation{Certificate: "0a", Event: vetting.ObservedConnect, At: inspected.Add(-time.Hour), Address: netip.MustParseAddr("192.0.2.1"), Source: "broker"}}
	if after, fresh, _ := vetting.Observe(f); fresh || !reflect.DeepEqual(after, seen) {
		t.Error("what is older than all that is kept was taken")
	}
}

func TestObservationCheck(t *testing.T) {
	good := vetting.Observation{Certificate: "0a", Event: vetting.ObservedConnect, At: inspected, Address: netip.MustParseAddr("192.0.2.1"), Source: "broker", Place: berlin}
	if err := good.Check(inspected); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*vetting.Observation){
		"no serial number":      func(o *vetting.Observation) { o.Certificate = "" },
		"an odd serial number":  func(o *vetting.Observation) { o.Certificate = "abc" },
		"a long serial number":  func(o *vetting.Observation) { o.Certificate = fmt.Sprintf("%042x", 1) },
		"another event":         func(o *vetting.Observation) { o.Event = "ping" },
		"the future":            func(o *vetting.Observation) { o.At = inspected.Add(6 * time.Minute) },
		"long ago":              func(o *vetting.Observation) { o.At = inspected.Add(-31 * 24 * time.Hour) },
		"no time":               func(o *vetting.Observation) { o.At = time.Time{} },
		"no address":            func(o *vetting.Observation) { o.Address = netip.Addr{} },
		"beyond the pole":       func(o *vetting.Observation) { o.Place = &vetting.Place{Lat: 91} },
		"beyond the date line":  func(o *vetting.Observation) { o.Place = &vetting.Place{Long: -180.5} },
		"a source with a slash": func(o *vetting.Observation) { o.Source = "a/b" },
	} {
		o := good
		if change(&o); o.Check(inspected) == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}

func TestObserveUnknown(t *testing.T) {
	ours := fmt.Sprintf("%034x", 7)
	for name, tt := range map[string]struct {
		o    vetting.Observation
		want vetting.EvidenceKind
	}{
		"a number like ours":  {vetting.Observation{Certificate: ours}, vetting.EvidenceUnknownCertificate},
		"another CA's number": {vetting.Observation{Certificate: "0a"}, ""},
		"our CA's, lost":      {vetting.Observation{Certificate: ours, Origin: vetting.OriginDeviceCA}, vetting.EvidenceUnknownCertificate},
		"forged":              {vetting.Observation{Certificate: "0a", Origin: vetting.OriginForged}, vetting.EvidenceForged},
		"another CA's":        {vetting.Observation{Certificate: ours, Origin: vetting.OriginOther}, ""},
		"it only left":        {vetting.Observation{Certificate: ours, Event: vetting.ObservedDisconnect}, ""},
	} {
		if tt.o.Event == "" {
			tt.o.Event = vetting.ObservedConnect
		}
		got := vetting.ObserveUnknown(tt.o)
		if (tt.want == "") != (len(got) == 0) || len(got) > 0 && (got[0].Kind != tt.want || got[0].DeviceID != 0 || len(got[0].Mark) == 0) {
			t.Errorf("%s: %+v", name, got)
		}
	}
}
