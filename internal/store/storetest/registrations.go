package storetest

import (
	"github.com/touchmark/touchmark/vetting"
)

var registrationCases = []conformance{
	{"registrations are listed newest first", registrationLists},
	{"evidence is listed newest first", evidenceLists},
	{"a person decides once, on what is held", registrationDecided},
	{"what there is not cannot be decided", registrationUnknown},
}

func registrationLists(t *trial) {
	w := t.drafted(0, 1)
	open := w.with(ok(t.store.Order(t.ctx, "po-1"))(t))
	open.Load(t, Unit(2), Unit(3))
	t.site("gdansk")
	w.with(t.order("po-3", "thermo", "gdansk", vetting.OrderClosed)).Load(t, Unit(4))
	rs := []*vetting.Registration{
		t.enrol(first(0), vetting.ReasonOrderDraft),
		t.enrol(first(1), vetting.ReasonOrderDraft),
		t.enrol(first(2), vetting.ReasonVetted),
		t.enrol(first(3), vetting.ReasonVetted),
		t.enrol(first(4), vetting.ReasonOrderClosed),
		t.enrol(vouch("gdansk", vetting.Identity{Serial: "SN-9"}, ""), vetting.ReasonUnknownDevice),
		t.enrol(Claim(Key("stranger", 0), Key("official", 9)), vetting.ReasonUnknownDevice),
	}
	rs[1] = t.decide(rs[1].ID, true)
	for _, c := range []struct {
		filter vetting.RegistrationFilter
		want   []int
	}{
		{vetting.RegistrationFilter{}, []int{6, 5, 4, 3, 2, 1, 0}},
		{vetting.RegistrationFilter{Site: "hsinchu"}, []int{3, 2, 1, 0}},
		{vetting.RegistrationFilter{Site: "gdansk"}, []int{5, 4}},
		{vetting.RegistrationFilter{Order: "po-2"}, []int{1, 0}},
		{vetting.RegistrationFilter{Outcome: vetting.Admitted}, []int{3, 2}},
		{vetting.RegistrationFilter{Outcome: vetting.Held}, []int{1, 0}},
		{vetting.RegistrationFilter{Outcome: vetting.Refused}, []int{6, 5, 4}},
		{vetting.RegistrationFilter{Undecided: true}, []int{0}},
		{vetting.RegistrationFilter{DeviceID: rs[3].DeviceID}, []int{3}},
		{vetting.RegistrationFilter{Site: "gdansk", Order: "po-3", Outcome: vetting.Refused, DeviceID: rs[4].DeviceID}, []int{4}},
		{vetting.RegistrationFilter{Site: "hsinchu", Undecided: true}, []int{0}},
	} {
		list := func(p vetting.Page) ([]*vetting.Registration, error) {
			return t.store.Registrations(t.ctx, c.filter, p)
		}
		pages(t, len(c.want), true, list, func(r *vetting.Registration) int64 { return r.ID })
		for i, r := range ok(list(vetting.Page{}))(t) {
			same(t, "the registration", r, rs[c.want[i]])
			same(t, "by ID", ok(t.store.Registration(t.ctx, r.ID))(t), r)
		}
	}
	for _, f := range []vetting.RegistrationFilter{{Site: "lodz"}, {Order: "po-9"}, {DeviceID: 1 << 40}, {Site: "gdansk", Undecided: true}} {
		if list := ok(t.store.Registrations(t.ctx, f, vetting.Page{}))(t); len(list) != 0 {
			t.Errorf("%+v lists %+v", f, list[0])
		}
	}
}

func evidenceLists(t *trial) {
	w := t.world(10, Unit(0), Unit(1))
	t.site("gdansk")
	w.with(t.order("po-2", "thermo", "gdansk", vetting.OrderOpen)).Load(t, Unit(2))
	misnamed := func(n int) int64 {
		t.Helper()
		c := first(n)
		c.Asserted.MAC = "02:ff:ff:ff:ff:ff"
		return t.enrol(c, vetting.ReasonMismatch).DeviceID
	}
	ids := []int64{misnamed(0), misnamed(1), misnamed(2)}
	stranger := Claim(Key("stranger", 0), Key("official", 9))
	stranger.Asserted.Serial = Unit(0).Serial
	t.enrol(stranger, vetting.ReasonWrongKey)
	stranger.Asserted.Serial = "SN-9"
	t.enrol(stranger, vetting.ReasonUnknownDevice)
	for _, c := range []struct {
		filter vetting.EvidenceFilter
		want   []vetting.EvidenceKind
	}{
		{vetting.EvidenceFilter{}, []vetting.EvidenceKind{"unknown-device", "wrong-key", "identity-mismatch", "identity-mismatch", "identity-mismatch"}},
		{vetting.EvidenceFilter{Site: "hsinchu"}, []vetting.EvidenceKind{"wrong-key", "identity-mismatch", "identity-mismatch"}},
		{vetting.EvidenceFilter{Site: "gdansk"}, []vetting.EvidenceKind{"identity-mismatch"}},
		{vetting.EvidenceFilter{Kind: vetting.EvidenceMismatch}, []vetting.EvidenceKind{"identity-mismatch", "identity-mismatch", "identity-mismatch"}},
		{vetting.EvidenceFilter{DeviceID: ids[0]}, []vetting.EvidenceKind{"wrong-key", "identity-mismatch"}},
		{vetting.EvidenceFilter{DeviceID: ids[0], Kind: vetting.EvidenceWrongKey, Site: "hsinchu"}, []vetting.EvidenceKind{"wrong-key"}},
	} {
		list := func(p vetting.Page) ([]*vetting.Evidence, error) { return t.store.Evidence(t.ctx, c.filter, p) }
		pages(t, len(c.want), true, list, func(e *vetting.Evidence) int64 { return e.ID })
		for i, e := range ok(list(vetting.Page{}))(t) {
			if e.Kind != c.want[i] || c.filter.DeviceID != 0 && e.DeviceID != c.filter.DeviceID {
				t.Errorf("%+v lists %+v in place %d", c.filter, e, i)
			}
		}
	}
	for _, f := range []vetting.EvidenceFilter{{Site: "lodz"}, {Kind: vetting.EvidenceOverQuota}, {DeviceID: 1 << 40}, {Site: "gdansk", DeviceID: ids[0]}} {
		if list := ok(t.store.Evidence(t.ctx, f, vetting.Page{}))(t); len(list) != 0 {
			t.Errorf("%+v lists %+v", f, list[0])
		}
	}
}

func registrationDecided(t *trial) {
	w := t.drafted(0, 1)
	w.with(ok(t.store.Order(t.ctx, "po-1"))(t)).Load(t, Unit(2))
	for n, admit := range []bool{true, false} {
		held := t.enrol(first(n), vetting.ReasonOrderDraft)
		index := t.leaves()
		got := t.decide(held.ID, admit)
		if d := got.Decision; d == nil || d.Admit != admit || d.By != "petra" || d.Note != "seen" || d.At.IsZero() {
			t.Fatalf("the decision is %+v", got.Decision)
		}
		if leaf := t.leaf(index); got.Leaf != index || leaf.By != "operator:test" || leaf.Note != "seen" || !leaf.Time.Equal(got.Decision.At) {
			t.Errorf("leaf %d is %+v", got.Leaf, leaf)
		}
		held.Decision, held.Leaf = got.Decision, index
		same(t, "but for the decision", got, held)
		same(t, "read", ok(t.store.Registration(t.ctx, held.ID))(t), got)
		for _, again := range []bool{true, false} {
			t.refuses(vetting.Conflict)(t.store.DecideRegistration(t.ctx, By, held.ID, vetting.Decision{Admit: again, By: "otto"}))
		}
		same(t, "after the refusals", ok(t.store.Registration(t.ctx, held.ID))(t), got)
	}
	admitted := t.enrol(first(2), vetting.ReasonVetted)
	refused := t.enrol(Claim(Key("stranger", 0), Key("official", 9)), vetting.ReasonUnknownDevice)
	turned := t.enrol(first(1), vetting.ReasonDecidedRef)
	for _, r := range []*vetting.Registration{admitted, refused, turned} {
		t.refuses(vetting.Conflict)(t.store.DecideRegistration(t.ctx, By, r.ID, vetting.Decision{Admit: true, By: "otto"}))
	}
}

func registrationUnknown(t *trial) {
	w := t.world(10)
	for _, id := range []int64{0, -1, 1 << 40, w.Order.ID} {
		t.refuses(vetting.NotFound)(t.store.Registration(t.ctx, id))
		t.refuses(vetting.NotFound)(t.store.DecideRegistration(t.ctx, By, id, vetting.Decision{Admit: true, By: "otto"}))
	}
}
