package vetting_test

import (
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/touchmark/touchmark/vetting"
)

var inspected = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

// lamp is a device in service, with its current certificate.
func lamp(change ...func(*vetting.Subject)) *vetting.Subject {
	s := &vetting.Subject{Device: vetting.Device{
		ID: 7, Product: "lamp", Identity: vetting.Identity{Serial: "L-1", MAC: "02:00:00:00:00:01"}, State: vetting.DeviceActive,
		Issued: inspected.Add(-time.Hour),
	}, Bootstrap: true}
	for _, f := range change {
		f(s)
	}
	return s
}

// unissued is a device that was never let in.
func unissued(s *vetting.Subject) {
	s.Device.State, s.Device.Issued = vetting.DeviceManufactured, time.Time{}
}

// startsAnew is a device whose certificates ended when it changed hands.
func startsAnew() *vetting.Subject {
	return holding(vetting.CertificateRevoked, in(vetting.DeviceManufactured), func(s *vetting.Subject) {
		s.Current = &vetting.Certificate{State: vetting.CertificateRevoked}
	})
}

func in(state vetting.DeviceState) func(*vetting.Subject) {
	return func(s *vetting.Subject) { s.Device.State = state }
}

// holding is the lamp when its own certificate was shown, in a state.
func holding(state vetting.CertificateState, change ...func(*vetting.Subject)) *vetting.Subject {
	return lamp(append(change, func(s *vetting.Subject) {
		s.Shown, s.ShownDigest = &vetting.Certificate{Serial: "0a", State: state, NotAfter: inspected.Add(time.Hour), Revoked: inspected}, [32]byte{1}
	})...)
}

// against is evidence of a kind, from before or after the device was let in.
func against(kind vetting.EvidenceKind, after time.Duration) func(*vetting.Subject) {
	return func(s *vetting.Subject) {
		s.Evidence = append(s.Evidence, &vetting.Evidence{Kind: kind, At: s.Device.Issued.Add(after)})
	}
}

func answered(o vetting.ProofOutcome) func(*vetting.Subject) {
	return func(s *vetting.Subject) {
		s.Proof = &vetting.Challenge{Result: &vetting.ProofResult{Outcome: o, Text: "So it is."}}
	}
}

func shows(o vetting.Origin, own bool) *vetting.ShownCertificate {
	return &vetting.ShownCertificate{Origin: o, Serial: "0a", OwnSerial: own, Digest: [32]byte{1}, Key: vetting.KeyFingerprint([]byte("bootstrap")), Asserted: vetting.Identity{Serial: "L-1"}}
}

func TestInspect(t *testing.T) {
	type inspection = vetting.Inspection
	name := vetting.Identity{Serial: "L-1"}
	found := func(s ...*vetting.Subject) []*vetting.Subject { return s }
	contested := func(s *vetting.Subject) { s.Device.Contested = true }
	for _, tt := range []struct {
		name     string
		facts    inspection
		verdict  vetting.Authenticity
		reason   vetting.Code // one of them
		evidence vetting.EvidenceKind
	}{
		{"a name in the records", inspection{Asked: name, Subjects: found(lamp())}, vetting.Genuine, vetting.ReasonByName, ""},
		{"a name in no record", inspection{Asked: name}, vetting.Unknown, vetting.ReasonNotRecorded, ""},
		{"a name of several products", inspection{Asked: name, Subjects: found(lamp(), lamp(func(s *vetting.Subject) { s.Device.Product = "fan" }))}, vetting.Unknown, vetting.ReasonSeveral, ""},
		{"the same, with its product", inspection{Asked: name, Product: "lamp", Subjects: found(lamp(), lamp(func(s *vetting.Subject) { s.Device.Product = "fan" }))}, vetting.Genuine, vetting.ReasonRecorded, ""},
		{"a name of another product", inspection{Asked: name, Product: "fan", Subjects: found(lamp())}, vetting.Suspect, vetting.ReasonMismatch, ""},
		{"a name and another's MAC", inspection{Asked: vetting.Identity{Serial: "L-1", MAC: "02:00:00:00:00:02"}, Subjects: found(lamp())}, vetting.Suspect, vetting.ReasonMismatch, ""},
		{"new from the factory", inspection{Asked: name, Subjects: found(lamp(unissued))}, vetting.Genuine, vetting.ReasonNotLetIn, ""},
		{"changed hands and did not come yet", inspection{Asked: name, Subjects: found(startsAnew())}, vetting.Genuine, vetting.ReasonStartsAnew, ""},
		{"its certificate was revoked", inspection{Asked: name, Subjects: found(lamp(func(s *vetting.Subject) { s.Current = &vetting.Certificate{State: vetting.CertificateRevoked} }))}, vetting.Suspect, vetting.ReasonCertRevoked, ""},
		{"proved", inspection{Asked: name, Subjects: found(lamp(answered(vetting.Proved)))}, vetting.Genuine, vetting.ReasonProved, ""},
		{"failed to prove itself", inspection{Asked: name, Subjects: found(lamp(answered(vetting.ProofFailed)))}, vetting.Suspect, vetting.ReasonProofFailed, ""},
		{"suspended", inspection{Asked: name, Subjects: found(lamp(in(vetting.DeviceSuspended)))}, vetting.Suspect, vetting.ReasonSuspended, ""},
		{"quarantined", inspection{Asked: name, Subjects: found(lamp(in(vetting.DeviceQuarantined)))}, vetting.Suspect, vetting.ReasonQuarantined, ""},
		{"retired", inspection{Asked: name, Subjects: found(lamp(in(vetting.DeviceRetired)))}, vetting.Suspect, vetting.ReasonRetired, ""},
		{"scrapped", inspection{Asked: name, Subjects: found(lamp(in(vetting.DeviceScrapped)))}, vetting.Counterfeit, vetting.ReasonScrapped, ""},
		{"scrapped, with open evidence", inspection{Asked: name, Subjects: found(lamp(in(vetting.DeviceScrapped), against(vetting.EvidenceSpentKey, 1)))}, vetting.Counterfeit, vetting.ReasonEvidence, ""},
		{"open evidence", inspection{Asked: name, Subjects: found(lamp(against(vetting.EvidenceSpentKey, 1)))}, vetting.Suspect, vetting.ReasonEvidence, ""},
		{"evidence that letting it in settled", inspection{Asked: name, Subjects: found(lamp(against(vetting.EvidenceOutOfWindow, -1)))}, vetting.Genuine, vetting.ReasonRecorded, ""},
		{"the same kind since", inspection{Asked: name, Subjects: found(lamp(against(vetting.EvidenceWrongSite, 1)))}, vetting.Suspect, vetting.ReasonEvidence, ""},
		{"guessed at", inspection{Asked: name, Subjects: found(lamp(against(vetting.EvidenceWrongCode, 1)))}, vetting.Genuine, vetting.ReasonRecorded, ""},
		{"its code was used again", inspection{Asked: name, Subjects: found(lamp(against(vetting.EvidenceMisusedCode, 1)))}, vetting.Suspect, vetting.ReasonEvidence, ""},
		{"contested", inspection{Asked: name, Subjects: found(lamp(contested, against(vetting.EvidenceDuplicateMAC, -1)))}, vetting.Suspect, vetting.ReasonContested, ""},
		{"contested, and cleared", inspection{Asked: name, Subjects: found(lamp(contested))}, vetting.Genuine, vetting.ReasonRecorded, ""},

		{"its certificate", inspection{Shown: shows(vetting.OriginDeviceCA, true), Kept: true, Subjects: found(holding(vetting.CertificateValid))}, vetting.Genuine, vetting.ReasonCertificateGood, ""},
		{"its certificate, which ran out", inspection{Now: inspected.Add(2 * time.Hour), Shown: shows(vetting.OriginDeviceCA, true), Kept: true, Subjects: found(holding(vetting.CertificateValid))}, vetting.Genuine, vetting.ReasonRanOut, ""},
		{"a revoked certificate", inspection{Shown: shows(vetting.OriginDeviceCA, true), Kept: true, Subjects: found(holding(vetting.CertificateRevoked))}, vetting.Suspect, vetting.ReasonCertRevoked, ""},
		{"the one from before it changed hands", inspection{Shown: shows(vetting.OriginDeviceCA, true), Kept: true, Subjects: found(startsAnew())}, vetting.Suspect, vetting.ReasonCertRevoked, ""},
		{"one on hold", inspection{Shown: shows(vetting.OriginDeviceCA, true), Kept: true, Subjects: found(holding(vetting.CertificateOnHold))}, vetting.Suspect, vetting.ReasonCertOnHold, ""},
		{"an earlier one", inspection{Shown: shows(vetting.OriginDeviceCA, true), Kept: true, Subjects: found(holding(vetting.CertificateSuperseded))}, vetting.Suspect, vetting.ReasonSuperseded, ""},
		{"a certificate and another's name", inspection{Asked: vetting.Identity{Serial: "L-2"}, Shown: shows(vetting.OriginDeviceCA, true), Kept: true, Subjects: found(holding(vetting.CertificateValid))}, vetting.Suspect, vetting.ReasonMismatch, ""},
		{"one of another site's device", inspection{Shown: shows(vetting.OriginDeviceCA, true), Kept: true}, vetting.Unknown, vetting.ReasonNotRecorded, ""},
		{"one that was never issued", inspection{Shown: shows(vetting.OriginDeviceCA, false)}, vetting.Counterfeit, vetting.ReasonForged, vetting.EvidenceForged},
		{"one that the database lost", inspection{Shown: shows(vetting.OriginDeviceCA, true)}, vetting.Suspect, vetting.ReasonNotKept, vetting.EvidenceUnknownCertificate},
		{"a forged one", inspection{Asked: name, Shown: shows(vetting.OriginForged, false), Subjects: found(lamp())}, vetting.Counterfeit, vetting.ReasonForged, vetting.EvidenceForged},
		{"another CA's", inspection{Shown: shows(vetting.OriginOther, false)}, vetting.Unknown, vetting.ReasonForeign, ""},
		{"its bootstrap certificate, in service", inspection{Shown: shows(vetting.OriginSelf, false), Subjects: found(lamp())}, vetting.Suspect, vetting.ReasonBootstrapSpent, ""},
		{"its bootstrap certificate, new", inspection{Shown: shows(vetting.OriginSelf, false), Subjects: found(lamp(unissued))}, vetting.Genuine, vetting.ReasonNotLetIn, ""},
		{"a bootstrap certificate on another key", inspection{Shown: shows(vetting.OriginSelf, false), Subjects: found(lamp(func(s *vetting.Subject) { s.Bootstrap = false }))}, vetting.Counterfeit, vetting.ReasonWrongKey, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.facts.Now.IsZero() {
				tt.facts.Now = inspected
			}
			f := vetting.Inspect(tt.facts)
			if f.Verdict != tt.verdict || !slices.ContainsFunc(f.Reasons, func(r vetting.Reason) bool { return r.Code == tt.reason && r.Text != "" }) {
				t.Errorf("the verdict is %s for %+v, want %s for %s", f.Verdict, f.Reasons, tt.verdict, tt.reason)
			}
			switch {
			case tt.evidence == "" && len(f.Evidence) > 0:
				t.Errorf("unexpected evidence %+v", f.Evidence)
			case tt.evidence != "" && (len(f.Evidence) != 1 || f.Evidence[0].Kind != tt.evidence || f.Evidence[0].DeviceID != 0 || len(f.Evidence[0].Mark) == 0):
				t.Errorf("evidence %+v, want one of kind %s, against nobody", f.Evidence, tt.evidence)
			}
			if again := vetting.Inspect(tt.facts); !reflect.DeepEqual(again, f) {
				t.Errorf("asked again: %+v", again)
			}
		})
	}
}

// A certificate that the CA's key signed twice under one serial number means
// that the key has another user.
func TestInspectFindsASecondCertificate(t *testing.T) {
	s := holding(vetting.CertificateValid)
	s.ShownDigest = [32]byte{2}
	f := vetting.Inspect(vetting.Inspection{Now: inspected, Shown: shows(vetting.OriginDeviceCA, true), Kept: true, Subjects: []*vetting.Subject{s}})
	if f.Verdict != vetting.Counterfeit || len(f.Evidence) != 1 || f.Evidence[0].DeviceID != 7 {
		t.Errorf("%+v", f)
	}
}

// TestEvidenceKindsAreListed: what EvidenceKinds leaves out can be neither
// asked for nor described.
func TestEvidenceKindsAreListed(t *testing.T) {
	declared := append(constants(t, "verdict.go", "EvidenceKind"), constants(t, "evidence.go", "EvidenceKind")...)
	if len(declared) != len(vetting.EvidenceKinds) {
		t.Errorf("%d kinds are declared, %d listed", len(declared), len(vetting.EvidenceKinds))
	}
	for _, name := range declared {
		if kind := vetting.EvidenceKind(strings.TrimPrefix(name, "EvidenceKind ")); !slices.Contains(vetting.EvidenceKinds, kind) {
			t.Errorf("EvidenceKinds lacks %s", kind)
		}
	}
}
