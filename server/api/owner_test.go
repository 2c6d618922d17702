package api_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/server/api"
	"github.com/touchmark/touchmark/vetting"
)

const asOwner = string(access.RoleOwnerOperator) // of acme

// TestOwnersListsAreConfined asks for lists as an owner's operator, also with
// filters that name what belongs to others.
func TestOwnersListsAreConfined(t *testing.T) {
	w := newWorld(t)
	type anything map[string]any
	for path, want := range map[string]string{
		"/devices": "[11]", "/devices?owner=acme": "[11]", "/devices?owner=beta": "[]", "/devices?owner=manufacturer": "[]",
		"/devices?serial=S-near": "[11]", "/devices?serial=S-far": "[]", "/devices?site=near": "[]", "/devices?order=order-near": "[]",
		"/evidence": "[41]", "/evidence?device=12": "[]", "/evidence?site=near": "[]",
		"/registrations": "[]", "/registrations?device=11": "[]",
		"/transfers": "[74 72]", "/transfers?owner=beta": "[74]", "/transfers?owner=manufacturer": "[72]", "/transfers?owner=zzz": "[]",
		"/transfers/74/devices": "[11 12]",
	} {
		got := []any{}
		l := decode[api.List[anything]](t, w.as(asOwner, "GET", path, nil), 200)
		for _, item := range l.Items {
			got = append(got, (*item)["id"])
		}
		if fmt.Sprint(got) != want {
			t.Errorf("%s shows an owner's operator %v, want %s", path, got, want)
		}
	}
	if l := decode[api.List[vetting.Owner]](t, w.as(asOwner, "GET", "/owners", nil), 200); len(l.Items) != 1 || l.Items[0].Name != "acme" {
		t.Errorf("an owner's operator sees the owners %v", l.Items)
	}
	for filter, want := range map[string]int{"": 1, "?type=device.*": 1, "?site=near": 0, "?site=far": 0} {
		p := decode[api.EventPage](t, w.as(asOwner, "GET", "/events"+filter, nil), 200)
		if len(p.Items) != want || want > 0 && (p.Items[0].Device.Serial != "S-near" || p.Items[0].Device.Site+p.Items[0].By != "") {
			t.Errorf("an owner's operator sees the events %+v", p.Items)
		}
	}
}

// TestOtherOwnersLookUnknown compares, byte by byte, the answers for what
// belongs to another owner and for what does not exist.
func TestOtherOwnersLookUnknown(t *testing.T) {
	w := newWorld(t)
	for _, c := range []struct {
		method, there, not string
		body               any
	}{
		{"GET", "/devices/12", "/devices/99", nil}, {"GET", "/devices/12/history", "/devices/99/history", nil},
		{"GET", "/certificates/0a12", "/certificates/0a99", nil}, {"GET", "/certificates/0a12/proof", "/certificates/0a99/proof", nil},
		{"GET", "/registrations/31", "/registrations/99", nil}, {"GET", "/challenges/52", "/challenges/99", nil},
		{"GET", "/owners/beta", "/owners/zeta", nil}, {"GET", "/transfers/75", "/transfers/99", nil},
		{"POST", "/transfers/75/accept", "/transfers/99/accept", map[string]any{}},
		{"POST", "/transfers/73/decline", "/transfers/99/decline", map[string]any{}},
		{"POST", "/transfers", "/transfers", map[string]any{"from": "beta", "to": "acme", "serials": []string{"S-far"}}},
	} {
		there, not := w.as(asOwner, c.method, c.there, c.body), w.as(asOwner, c.method, c.not, c.body)
		name := func(p string) string { return strings.Split(p+"/-", "/")[2] }
		if a, b := strings.ReplaceAll(there.body, name(c.there), "X"), strings.ReplaceAll(not.body, name(c.not), "X"); a != b || there.status != 404 || not.status != 404 {
			t.Errorf("%s: %s\n%s: %s", c.there, there.body, c.not, not.body)
		}
	}
	for _, serial := range []string{"S-far", "S-none"} {
		v := decode[api.VerifyResult](t, w.as(asOwner, "POST", "/verify", map[string]any{"serial": serial}), 200)
		if v.Verdict != vetting.Unknown || v.Device != nil {
			t.Errorf("%s: %+v", serial, v)
		}
	}
	if n := len(w.store.acted); n != 0 {
		t.Errorf("%d acts were done", n)
	}
}

// TestStepsOfAnOwner takes each step of a transfer as the party whose step it
// is not.
func TestStepsOfAnOwner(t *testing.T) {
	w := newWorld(t)
	for _, step := range []string{"/transfers/74/accept", "/transfers/74/decline", "/transfers/72/withdraw"} {
		refused(t, w.as(asOwner, "POST", step, map[string]any{}), 409, "is for")
	}
	refused(t, w.as(asOwner, "POST", "/transfers/72/reverse", map[string]any{"note": "n"}), 403)
	if n := len(w.store.acted); n != 0 {
		t.Errorf("%d acts were done", n)
	}
	offer := decode[vetting.Transfer](t, w.as(asOwner, "POST", "/transfers", map[string]any{"to": "beta", "serials": []string{"S-near"}}), 201)
	if offer.From != "acme" || w.store.acted[0].Owner != "acme" {
		t.Errorf("offered: %+v by %+v", offer, w.store.acted[0])
	}
	for id, by := range map[int]string{72: "", 74: "anna"} {
		if tr := decode[vetting.Transfer](t, w.as(asOwner, "GET", fmt.Sprintf("/transfers/%d", id), nil), 200); tr.Steps[0].By != by {
			t.Errorf("of transfer %d an owner's operator sees the steps %+v", id, tr.Steps)
		}
	}
}

// TestWhatOwnersSeeOfDevices is about what is kept with a device, but is the
// manufacturer's affair, or that of whoever had it before.
func TestWhatOwnersSeeOfDevices(t *testing.T) {
	w := newWorld(t)
	d := w.store.devices[0]
	d.Owned, d.Transfer, d.Test, d.BootstrapKey = today, 72, &vetting.TestResult{Rig: "rig"}, vetting.Fingerprint{1}
	before, since := today.Add(-time.Hour), today.Add(time.Hour)
	w.store.certificates[0].Issued = since
	w.store.certificates = append(w.store.certificates, &vetting.Certificate{ID: 9, DeviceID: d.ID, Serial: "0a09", DER: []byte("beta's"), Issued: before})
	w.store.histories[nearDevice] = &vetting.History{
		Device:        *d,
		Record:        vetting.Record{ID: d.ID, ManifestID: 21, Identity: d.Identity, Made: vetting.Manufacturing{Line: "secret line"}},
		Certificates:  []*vetting.Certificate{w.store.certificates[0], w.store.certificates[2]},
		Registrations: []*vetting.Registration{w.store.registrations[0]},
		Tests:         []*vetting.TestResult{d.Test},
		Evidence:      []*vetting.Evidence{{ID: 1, Kind: vetting.EvidenceWrongKey, RegistrationID: 31, ManifestID: 21, Text: "secret", Cleared: &vetting.Clearing{By: "planner", Note: "secret"}}},
		Sightings:     []vetting.Sighting{{At: before, Source: "beta's broker"}, {At: since, Source: "ours"}},
		Disputes:      []*vetting.Dispute{{ID: 1}},
	}
	got := w.as(asOwner, "GET", "/devices/11/history", nil)
	h := decode[vetting.History](t, got, 200)
	if len(h.Registrations)+len(h.Tests)+len(h.Disputes) != 0 || len(h.Sightings) != 1 || len(h.Evidence) != 1 || h.Evidence[0].RegistrationID+h.Evidence[0].ManifestID != 0 {
		t.Errorf("an owner's operator sees %s", got.body)
	}
	if i := slices.IndexFunc([]string{"secret", "planner", "order-near", `"near"`, "rig", "beta", "bootstrapKey"}, func(s string) bool { return strings.Contains(got.body, s) }); i >= 0 {
		t.Errorf("an owner's operator sees %d of %s", i, got.body)
	}
	if len(h.Certificates) != 2 || len(h.Certificates[0].DER) == 0 || len(h.Certificates[1].DER) != 0 {
		t.Errorf("an owner's operator sees the certificates %+v", h.Certificates)
	}
	for serial, want := range map[string]bool{nearCert: true, "0a09": false} {
		if c := decode[api.IssuedCertificate](t, w.as(asOwner, "GET", "/certificates/"+serial, nil), 200); (c.PEM != "") != want {
			t.Errorf("of certificate %s an owner's operator sees %+v", serial, c)
		}
	}
	other := decode[api.List[vetting.Device]](t, w.as(asOwner, "GET", "/transfers/74/devices", nil), 200).Items[1]
	if want := (vetting.Device{ID: 12, Product: "lamp", Identity: vetting.Identity{Serial: "S-far"}}); *other != want {
		t.Errorf("of a device that is another's an owner's operator sees %+v", other)
	}
	full := decode[vetting.History](t, w.as("planner", "GET", "/devices/11/history", nil), 200)
	if len(full.Registrations) != 1 || len(full.Sightings) != 2 || full.Evidence[0].Cleared.By != "planner" || full.Device.Order == "" {
		t.Errorf("a planner sees %+v", full)
	}
}
