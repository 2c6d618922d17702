package vetting_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/touchmark/touchmark/vetting"
)

func order(change func(*vetting.Order)) *vetting.Order {
	o := &vetting.Order{Name: "PO-1", Product: "lamp", Site: "shenzhen", Quantity: 1, ManifestSignatures: 1, State: vetting.OrderDraft}
	if change != nil {
		change(o)
	}
	return o
}

func TestOrderCheck(t *testing.T) {
	for want, change := range map[string]func(*vetting.Order){
		"":                 nil,
		"needs a name":     func(o *vetting.Order) { o.Name = "" },
		"quantity of 0":    func(o *vetting.Order) { o.Quantity = 0 },
		"quantity of -1":   func(o *vetting.Order) { o.Quantity = -1 },
		"at most 10000000": func(o *vetting.Order) { o.Quantity = vetting.MaxQuantity + 1 },
		"wants 0":          func(o *vetting.Order) { o.ManifestSignatures = 0 },
		"wants 9":          func(o *vetting.Order) { o.ManifestSignatures = 9 },
		"before it begins": func(o *vetting.Order) { o.NotBefore, o.NotAfter = now, now },
		"empty on one":     func(o *vetting.Order) { o.Identifiers.Serials = []string{"A.."} },
		"ranges are listed": func(o *vetting.Order) {
			o.Identifiers.Serials = slices.Repeat([]string{"A"}, vetting.MaxIdentifierRanges+1)
		},
	} {
		err := order(change).Check()
		if (want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	if err := order(func(o *vetting.Order) { o.Quantity, o.NotAfter = vetting.MaxQuantity, now }).Check(); err != nil {
		t.Error(err)
	}
}

// TestOrderMoves: all pairs of states, those that are allowed written out.
func TestOrderMoves(t *testing.T) {
	states := []vetting.OrderState{vetting.OrderDraft, vetting.OrderOpen, vetting.OrderClosed, vetting.OrderCancelled, "", "melted"}
	allowed := map[string]bool{
		"draft open": true, "draft cancelled": true, "open closed": true, "open cancelled": true, "closed open": true, "closed cancelled": true,
	}
	for _, from := range states {
		for _, to := range states {
			o := vetting.Order{State: from}
			if got, want := o.MayBecome(to), allowed[fmt.Sprintf("%s %s", from, to)]; got != want {
				t.Errorf("%q to %q: %v", from, to, got)
			}
		}
	}
}

func TestIdentifierRangesThatAreRefused(t *testing.T) {
	for _, tt := range []struct {
		ids  vetting.Identifiers
		want string
	}{
		{vetting.Identifiers{Serials: []string{"A-1..A-10"}}, "same length"},
		{vetting.Identifiers{Serials: []string{"A-2..A-1"}}, "ends before it begins"},
		{vetting.Identifiers{Serials: []string{""}}, "empty"},
		{vetting.Identifiers{Serials: []string{".."}}, "empty"},
		{vetting.Identifiers{Serials: []string{"A 1"}}, `"A 1"`},
		{vetting.Identifiers{MACs: []string{"00:11"}}, "not a MAC address"},
		{vetting.Identifiers{MACs: []string{"001122334455..001122334455aabb"}}, "same length"},
		{vetting.Identifiers{UIDs: []string{"a/b"}}, `"a/b"`},
	} {
		if err := tt.ids.Check(); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%+v: %v, want %q", tt.ids, err, tt.want)
		}
	}
}

func TestIdentifierSet(t *testing.T) {
	ids := vetting.Identifiers{
		Serials: []string{"A-0100..A-0199", "A-0150..A-0160", "A-0500", "Z..Z"},
		MACs:    []string{"00-11-22-00-00-00..00:11:22:FF:FF:FF"},
		UIDs:    []string{"DEAD0000..DEADFFFF", "Chip_7"},
	}
	set, err := ids.Compile()
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		id   vetting.Identity
		want string
	}{
		{vetting.Identity{Serial: "A-0100", MAC: "00:11:22:00:00:00", UID: "dead0000"}, ""},
		{vetting.Identity{Serial: "A-0199", MAC: "00:11:22:ff:ff:ff", UID: "deadffff"}, ""},
		{vetting.Identity{Serial: "A-0170", MAC: "00:11:22:33:44:55", UID: "Chip_7"}, ""},
		{vetting.Identity{Serial: "A-0500", MAC: "00:11:22:33:44:55", UID: "deadbeef"}, ""},
		{vetting.Identity{Serial: "A-0200", MAC: "00:11:22:33:44:55", UID: "deadbeef"}, `serial "A-0200"`},
		{vetting.Identity{Serial: "A-01500", MAC: "00:11:22:33:44:55", UID: "deadbeef"}, `serial "A-01500"`},
		{vetting.Identity{Serial: "A-0150", MAC: "00:11:23:00:00:00", UID: "deadbeef"}, `mac "00:11:23:00:00:00"`},
		{vetting.Identity{Serial: "A-0150", UID: "deadbeef"}, `mac ""`},
		{vetting.Identity{Serial: "A-0150", MAC: "00:11:22:33:44:55", UID: "chip_7"}, `uid "chip_7"`},
	} {
		if err := set.Allows(tt.id); (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%v: %v, want %q", tt.id, err, tt.want)
		}
	}
	all, err := (vetting.Identifiers{}).Compile()
	if err != nil || all.Allows(vetting.Identity{Serial: "anything"}) != nil {
		t.Errorf("an empty list does not allow everything: %v", err)
	}
}

// TestIdentifierSetProperty compares the search with the definition, over
// random ranges that overlap and nest.
func TestIdentifierSetProperty(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	name := func(width int) string { return fmt.Sprintf("%0*d", width, rnd.IntN([]int{10, 100, 1000}[width-1])) }
	for range 500 {
		var ids vetting.Identifiers
		type span struct{ from, to string }
		var spans []span
		for range 1 + rnd.IntN(8) {
			width := 1 + rnd.IntN(3)
			a, b := name(width), name(width)
			if a > b {
				a, b = b, a
			}
			spans = append(spans, span{a, b})
			ids.Serials = append(ids.Serials, a+".."+b)
		}
		set, err := ids.Compile()
		if err != nil {
			t.Fatalf("%v: %v", ids.Serials, err)
		}
		for range 50 {
			v := name(1 + rnd.IntN(3))
			want := slices.ContainsFunc(spans, func(s span) bool { return len(s.from) == len(v) && s.from <= v && v <= s.to })
			if got := set.Allows(vetting.Identity{Serial: v}) == nil; got != want {
				t.Fatalf("%v allow %q: %v, want %v", ids.Serials, v, got, want)
			}
		}
	}
}

// FuzzIdentifiers: a range that compiles allows both its ends.
func FuzzIdentifiers(f *testing.F) {
	f.Add("A-1", "A-9")
	f.Add("DE:AD", "de-ae")
	f.Fuzz(func(t *testing.T, from, to string) {
		set, err := vetting.Identifiers{Serials: []string{from + ".." + to}}.Compile()
		if err != nil {
			return
		}
		// The first ".." divides; both sides are normalized like identities.
		a, b, _ := strings.Cut(from+".."+to, "..")
		for _, end := range []string{a, b} {
			id, err := vetting.Identity{Serial: end}.Normalize()
			if err != nil || set.Allows(id) != nil {
				t.Fatalf("the range %q..%q does not allow %q: %v", a, b, end, err)
			}
		}
	})
}

func TestDeviceMoves(t *testing.T) {
	allowed := map[string]bool{
		"manufactured quarantined": true, "manufactured scrapped": true,
		"registered quarantined": true, "registered scrapped": true,
		"issued quarantined": true, "issued scrapped": true,
		"active suspended": true, "active retired": true, "active quarantined": true, "active scrapped": true,
		"suspended active": true, "suspended retired": true, "suspended quarantined": true, "suspended scrapped": true,
		"retired quarantined": true, "retired scrapped": true,
		"quarantined scrapped": true,
	}
	for _, from := range append(slices.Clone(vetting.DeviceStates), "") {
		for _, to := range append(slices.Clone(vetting.DeviceStates), "") {
			d := vetting.Device{State: from}
			if got, want := d.MayBecome(to), allowed[fmt.Sprintf("%s %s", from, to)]; got != want {
				t.Errorf("%q to %q: %v", from, to, got)
			}
			// Only a quarantined device goes back, and only where it came from.
			d.Before = vetting.DeviceRetired
			want := allowed[fmt.Sprintf("%s %s", from, to)] || from == vetting.DeviceQuarantined && to == vetting.DeviceRetired
			if got := d.MayBecome(to); got != want {
				t.Errorf("%q (before: retired) to %q: %v", from, to, got)
			}
		}
	}
}

func TestInService(t *testing.T) {
	in := []vetting.DeviceState{vetting.DeviceManufactured, vetting.DeviceRegistered, vetting.DeviceIssued, vetting.DeviceActive}
	for _, s := range append(slices.Clone(vetting.DeviceStates), "", "melted") {
		if s.InService() != slices.Contains(in, s) {
			t.Errorf("%q in service: %v", s, s.InService())
		}
	}
}

func TestProductSiteAndRecordChecks(t *testing.T) {
	rig := []vetting.Proof{vetting.ProofRig}
	long := strings.Repeat("x", 2000)
	for i, tt := range []struct {
		check func() error
		want  string
	}{
		{(&vetting.Product{Name: "lamp", Proofs: rig}).Check, ""},
		{(&vetting.Product{Name: "la mp", Proofs: rig}).Check, "la mp"},
		{(&vetting.Product{Name: "lamp"}).Check, "accepts no proof"},
		{(&vetting.Product{Name: "lamp", Proofs: []vetting.Proof{vetting.ProofOfficial}}).Check, "unknown proof"},
		{(&vetting.Product{Name: "lamp", Proofs: rig, Description: long}).Check, "2000 bytes"},
		{(&vetting.Site{Name: "shenzhen"}).Check, ""},
		{(&vetting.Site{Name: "cacerts"}).Check, "EST operation"},
		{(&vetting.Site{Name: "shenzhen", Description: long}).Check, "2000 bytes"},
		{(&vetting.Record{Identity: vetting.Identity{Serial: "A"}}).Check, ""},
		{(&vetting.Record{Identity: vetting.Identity{MAC: "001122334455"}}).Check, "no serial"},
		{(&vetting.Record{Identity: vetting.Identity{Serial: "A", MAC: "x"}}).Check, "not a MAC"},
		{(&vetting.Record{Identity: vetting.Identity{Serial: "A"}, Made: vetting.Manufacturing{Line: "a\nb"}}).Check, "control character"},
		{(&vetting.Record{Identity: vetting.Identity{Serial: "A"}, Made: vetting.Manufacturing{Rig: "a\xffb"}}).Check, "UTF-8"},
		{(&vetting.Record{Identity: vetting.Identity{Serial: "A"}, Made: vetting.Manufacturing{HardwareRevision: long}}).Check, "2000 bytes"},
		{(&vetting.Record{Identity: vetting.Identity{Serial: "A"}, Made: vetting.Manufacturing{EKHash: "ab"}}).Check, "ekHash"},
		{(&vetting.Record{Identity: vetting.Identity{Serial: "A"}, Made: vetting.Manufacturing{Tests: []byte(strings.Repeat("1", vetting.MaxRecordTests+1))}}).Check, "tests hold"},
	} {
		if err := tt.check(); (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%d: %v, want %q", i, err, tt.want)
		}
	}
	r := vetting.Record{Identity: vetting.Identity{Serial: " A ", MAC: "001122334455", UID: "AB"}}
	if err := r.Check(); err != nil || r.Identity != (vetting.Identity{Serial: "A", MAC: "00:11:22:33:44:55", UID: "ab"}) {
		t.Errorf("%+v, %v", r.Identity, err)
	}
}

func TestErrors(t *testing.T) {
	err := fmt.Errorf("outside: %w", vetting.Errorf(vetting.Conflict, "order %q is closed", "PO-1"))
	if vetting.ProblemOf(err) != vetting.Conflict || vetting.ProblemOf(fmt.Errorf("plain")) != 0 || vetting.ProblemOf(nil) != 0 {
		t.Error("problems are not found")
	}
	if err.Error() != `outside: order "PO-1" is closed` {
		t.Error(err)
	}
}

// TestRegistrationText: what a person reads is all reasons in order.
func TestRegistrationText(t *testing.T) {
	r := vetting.Registration{At: time.Time{}, Reasons: []vetting.Reason{{Text: "One."}, {Text: "Two."}}}
	if r.Text() != "One. Two." {
		t.Error(r.Text())
	}
}
