package api_test

import (
	"encoding/base64"
	"encoding/pem"
	"strings"
	"testing"

	"github.com/touchmark/touchmark/server/api"
	"github.com/touchmark/touchmark/vetting"
)

func (w *world) verify(who string, in api.VerifyInput) api.VerifyResult {
	w.t.Helper()
	return decode[api.VerifyResult](w.t, w.as(who, "POST", "/verify", in), 200)
}

// TestVerifyByRole asks about the same device in every role: what a support
// agent is told holds no names, addresses, bootstrap keys and disputes.
func TestVerifyByRole(t *testing.T) {
	w := newWorld(t)
	secret := vetting.KeyFingerprint([]byte("bootstrap"))
	d := w.store.devices[0]
	d.BootstrapKey, d.BoundKey = secret, secret
	w.store.evidence[0].Text = "lin came from 192.0.2.7"
	w.store.histories[d.ID] = &vetting.History{
		Device: *d, Record: vetting.Record{ID: d.ID, BootstrapKey: secret, Made: vetting.Manufacturing{Rig: "lin"}},
		Registrations: []*vetting.Registration{{ID: 31, Site: "near", Claim: vetting.Claim{Remote: "192.0.2.7", Auth: vetting.Auth{Key: secret, Operator: "lin"}},
			Reasons: []vetting.Reason{{Code: vetting.ReasonWrongKey, Text: "key " + secret.String()}}, Decision: &vetting.Decision{By: "lin", Note: "192.0.2.7"}}},
		Evidence: []*vetting.Evidence{{ID: 41, Text: "lin came from 192.0.2.7", Cleared: &vetting.Clearing{By: "lin", Note: "test"}}},
		Tests:    []*vetting.TestResult{{ID: 1, Rig: "lin"}},
		Disputes: []*vetting.Dispute{{ID: 1, RecordID: d.ID, Record: vetting.Record{SiteID: 2, Identity: vetting.Identity{Serial: "of-far"}}}},
	}
	secrets := []string{secret.String(), "192.0.2.7", "lin", "of-far"}
	in := map[string]any{"serial": d.Serial, "history": true}
	for _, role := range []string{"admin", "planner", "auditor", "support", "site-operator", "rig"} {
		got := w.as(role, "POST", "/verify", in)
		r := decode[api.VerifyResult](t, got, 200)
		if r.Verdict != vetting.Suspect || r.Device == nil || r.Device.Serial != d.Serial || len(r.Evidence) != 1 || r.History == nil {
			t.Errorf("%s is told %+v", role, r)
		}
		for _, s := range secrets {
			want := role != "support" && (s != "of-far" || role != "site-operator" && role != "rig")
			if strings.Contains(got.body, s) != want {
				t.Errorf("%s is told %q: %v, want %v", role, s, !want, want)
			}
		}
	}
	// Nor do they stand in any other list that a support agent may read.
	w.store.registrations[0] = w.store.histories[d.ID].Registrations[0]
	for _, path := range []string{"/devices", "/devices/11", "/devices/11/history", "/evidence", "/registrations", "/registrations/31"} {
		got := w.as("support", "GET", path, nil)
		decode[any](t, got, 200)
		for _, s := range secrets {
			if strings.Contains(got.body, s) {
				t.Errorf("%s tells support %q", path, s)
			}
		}
	}
	if w.store.devices[0].BootstrapKey != secret {
		t.Error("what was left out of an answer is gone from the store")
	}
}

// TestVerifyOtherSites: a device of another site looks like one that does not
// exist, whatever it is asked by.
func TestVerifyOtherSites(t *testing.T) {
	w := newWorld(t)
	far, none := w.store.devices[1], api.VerifyInput{Serial: "S-none"}
	kept := w.plant.issue(t, "far lamp", newKey(t), today.AddDate(1, 0, 0))
	cert := parse(t, kept.Certificate[0])
	w.store.certificates[1].Serial, w.store.certificates[1].DER = w.Examine(cert).Serial, cert.Raw
	text := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw}))
	want := w.verify("rig", none)
	for _, in := range []api.VerifyInput{{Serial: far.Serial}, {MAC: far.MAC}, {Scan: "SN:" + far.Serial}, {Certificate: text}} {
		got := w.verify("rig", in)
		if got.Verdict != vetting.Unknown || got.Device != nil || got.Reasons[0].Text != want.Reasons[0].Text {
			t.Errorf("%+v: %+v", in, got)
		}
		if seen := w.verify("support", in); seen.Device == nil || seen.Device.ID != far.ID {
			t.Errorf("headquarters find %+v", seen)
		}
	}
	if n := len(w.store.evidence); n != 2 {
		t.Errorf("%d signs of misuse were recorded", n-2)
	}
}

// TestVerifyCertificates: forged ones are kept as evidence, whoever asks.
func TestVerifyCertificates(t *testing.T) {
	w := newWorld(t)
	forger := newAuthority(t, "factory CA")
	forged := forger.issue(t, "S-near", newKey(t), today.AddDate(1, 0, 0)).Certificate[0]
	other := newAuthority(t, "somebody's CA").issue(t, "S-near", newKey(t), today.AddDate(1, 0, 0)).Certificate[0]
	if r := w.verify("support", api.VerifyInput{Certificate: base64.StdEncoding.EncodeToString(other)}); r.Verdict != vetting.Unknown || r.Reasons[0].Code != vetting.ReasonForeign {
		t.Errorf("another CA's: %+v", r)
	}
	before := len(w.store.evidence)
	r := w.verify("rig", api.VerifyInput{Certificate: base64.StdEncoding.EncodeToString(forged), Serial: "S-near"})
	if r.Verdict != vetting.Counterfeit || r.Reasons[0].Code != vetting.ReasonForged || r.Device != nil {
		t.Errorf("a forged one: %+v", r)
	}
	if e := w.store.evidence[before:]; len(e) != 1 || e[0].Kind != vetting.EvidenceForged || e[0].DeviceID != 0 {
		t.Errorf("evidence %+v", e)
	}
}

func TestVerifyRefuses(t *testing.T) {
	w := newWorld(t)
	for name, c := range map[string]struct {
		body any
		word string
	}{
		"nothing":                 {map[string]any{}, "nothing is said"},
		"a product alone":         {map[string]any{"product": "lamp"}, "nothing is said"},
		"a damaged MAC":           {map[string]any{"mac": "12"}, "not a MAC address"},
		"no certificate":          {map[string]any{"certificate": "hello"}, "base64"},
		"a key":                   {map[string]any{"certificate": "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"}, "CERTIFICATE"},
		"DER of something else":   {map[string]any{"certificate": "MAA="}, "X.509"},
		"an enrolment code":       {map[string]any{"scan": "EHQQ-ARV8-DNGQ-4TS6"}, "one-time enrolment code"},
		"a code that contradicts": {map[string]any{"scan": "SN:A", "serial": "B"}, "given beside"},
		"a code that is too long": {map[string]any{"scan": strings.Repeat("x", 3000)}, "scan"},
	} {
		t.Run(name, func(t *testing.T) {
			p := refused(t, w.as("support", "POST", "/verify", c.body), 422, c.word)
			if strings.Contains(p.Detail, "ARV8") {
				t.Errorf("a secret is repeated: %s", p.Detail)
			}
		})
	}
}
