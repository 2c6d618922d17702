package vetting_test

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/touchmark/touchmark/vetting"
)

var now = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

var (
	bootstrapKey = vetting.Fingerprint{1}
	officialKey  = vetting.Fingerprint{2}
	newKey       = vetting.Fingerprint{3}
	otherKey     = vetting.Fingerprint{4}
)

// facts are those of an honest device at first power-on.
func facts() vetting.Facts {
	id := vetting.Identity{Serial: "SN-1", MAC: "00:11:22:33:44:55", UID: "beef"}
	return vetting.Facts{
		Now: now,
		Claim: vetting.Claim{
			At: now, Key: officialKey, Asserted: vetting.Identity{Serial: "SN-1"}, Label: "lamp", Transport: "est", Remote: "192.0.2.7",
			Auth: vetting.Auth{Proof: vetting.ProofBootstrapKey, Key: bootstrapKey},
		},
		Record:  &vetting.Record{ID: 11, OrderID: 7, Identity: id, BootstrapKey: bootstrapKey},
		Product: &vetting.Product{Name: "lamp", Proofs: []vetting.Proof{vetting.ProofBootstrapKey, vetting.ProofRig}},
		Order:   &vetting.Order{ID: 7, Name: "PO-1", Product: "lamp", Site: "shenzhen", Quantity: 10, Issued: 3, State: vetting.OrderOpen},
		Device:  &vetting.Device{ID: 11, State: vetting.DeviceManufactured, Identity: id},
	}
}

func byRig(f *vetting.Facts) {
	f.Claim.Auth = vetting.Auth{Proof: vetting.ProofRig, Key: otherKey, Operator: "rig-7", Site: "shenzhen"}
}

// issued: the device has a certificate that it never used.
func issued(f *vetting.Facts) {
	f.Device.State, f.Device.Revision, f.Device.Key = vetting.DeviceIssued, 1, officialKey
	f.Current = &vetting.Certificate{ID: 21, DeviceID: 11, Serial: "21", Key: officialKey, State: vetting.CertificateValid, NotAfter: now.Add(time.Hour)}
}

// renewal: the device is in service and comes with its certificate and a new
// key.
func renewal(f *vetting.Facts) {
	issued(f)
	f.Device.State = vetting.DeviceActive
	f.Current.Used = now.Add(-time.Hour)
	f.Presented = f.Current
	f.Claim.Key = newKey
	f.Claim.Auth = vetting.Auth{Proof: vetting.ProofOfficial, Key: officialKey, Certificate: "21"}
	f.Claim.Asserted = vetting.Identity{}
}

// superseded: a renewal went through, but its reply was lost, and the device
// comes again with its earlier certificate.
func superseded(f *vetting.Facts) {
	renewal(f)
	earlier := *f.Current
	earlier.State = vetting.CertificateSuperseded
	f.Presented = &earlier
	f.Current = &vetting.Certificate{ID: 22, DeviceID: 11, Serial: "22", Key: newKey, State: vetting.CertificateValid, NotAfter: now.Add(time.Hour)}
}

// vouched: a vendor's certificate names a device whose record lists no key.
func vouched(f *vetting.Facts) {
	f.Record.BootstrapKey = vetting.Fingerprint{}
	f.Product.Proofs = []vetting.Proof{vetting.ProofBootstrapKey, vetting.ProofVendor}
	f.Claim.Auth.Proof, f.Claim.Auth.Vendor = vetting.ProofVendor, "chips"
}

func limited(f *vetting.Facts) {
	f.Order.Limits = vetting.Limits{PerHour: 10, PerDay: 20, RigPerHour: 3, LinePerHour: 4}
}

// broken is a rule set that no facts meet.
type broken []vetting.BrokenRule

func (b broken) Broken(*vetting.Facts) []vetting.BrokenRule { return b }

func ruled(o vetting.Outcome) change {
	return func(f *vetting.Facts) {
		f.Rules = broken{{Rule: &vetting.Rule{Name: "tested", Expression: "record.tests.ok", Otherwise: o}, Values: map[string]string{"record.tests.ok": "false"}}}
	}
}

func failedTest(f *vetting.Facts) {
	f.Device.Test = &vetting.TestResult{At: now, Rig: "rig-7", Station: "FCT-2",
		Tests: []vetting.Test{{Name: "fw", Passed: true}, {Name: "rssi", Value: json.RawMessage("-95"), Unit: "dBm", Limit: ">= -80"}}}
}

func passedTest(f *vetting.Facts) {
	f.Device.Test = &vetting.TestResult{At: now, Rig: "rig-7", Passed: true}
}

// named: its record lists no key, and it names its identifiers at its site.
func named(f *vetting.Facts) {
	f.Claim.Auth.Proof = vetting.ProofIdentifiers
	f.Claim.Asserted = vetting.Identity{Serial: "SN-1", UID: "beef"}
	f.Record.BootstrapKey = vetting.Fingerprint{}
	f.Product.Proofs = []vetting.Proof{vetting.ProofIdentifiers}
	f.OnSite = true
}

// awaited: in no record, but its product waits an hour for one.
func awaited(f *vetting.Facts) {
	p := f.Product
	unknown(f)
	f.Product = p
	f.Product.AwaitRecords = "1h"
}

// serverKey: the device asks the server to make its key, and may.
func serverKey(f *vetting.Facts) {
	f.Claim.Key, f.Claim.ServerKey, f.Product.ServerKeys = vetting.Fingerprint{}, vetting.ServerKeysPlain, vetting.ServerKeysPlain
}

func encrypted(f *vetting.Facts) { f.Claim.ServerKey = vetting.ServerKeysEncrypted }
func unused(f *vetting.Facts)    { f.Unused = true }

func contestedNewKey(f *vetting.Facts) { f.Claim.Key, f.Record.Contested = newKey, true }

func unknown(f *vetting.Facts) {
	f.Record, f.Product, f.Order, f.Device = nil, nil, nil, nil
}

func decision(admit bool) *vetting.Registration {
	return &vetting.Registration{ID: 5, Outcome: vetting.Held, Decision: &vetting.Decision{Admit: admit, By: "petra", Note: "I looked at it."}}
}

// sign is one piece of evidence that a verdict must carry.
type sign struct {
	Kind   vetting.EvidenceKind
	Device int64
}

type change func(*vetting.Facts)

// judged is facts and what becomes of them.
type judged struct {
	name     string
	given    []change
	outcome  vetting.Outcome
	codes    []vetting.Code
	evidence []sign
	repeat   string // serial number of the certificate that is answered again

	quarantine bool
}

var judgements = slices.Concat(codeJudgements, renewalJudgements, transferJudgements, tpmJudgements, attestationJudgements, domainJudgements, []judged{
	// Let in.
	{name: "first power-on", outcome: vetting.Admitted, codes: codes(vetting.ReasonVetted)},
	{name: "no label", given: with(func(f *vetting.Facts) { f.Claim.Label = "" }), outcome: vetting.Admitted, codes: codes(vetting.ReasonVetted)},
	{name: "nothing asserted", given: with(func(f *vetting.Facts) { f.Claim.Asserted = vetting.Identity{} }), outcome: vetting.Admitted, codes: codes(vetting.ReasonVetted)},
	{name: "by a rig", given: with(byRig), outcome: vetting.Admitted, codes: codes(vetting.ReasonVetted)},
	{name: "was held, now free", given: with(func(f *vetting.Facts) {
		f.Device.State = vetting.DeviceRegistered
		f.Pending = &vetting.Registration{Outcome: vetting.Held}
	}), outcome: vetting.Admitted, codes: codes(vetting.ReasonVetted)},
	{name: "the last unit", given: with(func(f *vetting.Facts) { f.Order.Issued = 9 }), outcome: vetting.Admitted, codes: codes(vetting.ReasonVetted)},
	{name: "within the window", given: with(func(f *vetting.Facts) { f.Order.NotBefore, f.Order.NotAfter = now, now.Add(1) }), outcome: vetting.Admitted, codes: codes(vetting.ReasonVetted)},

	// Again, before activation: nothing of the order matters but that it was
	// not cancelled.
	{name: "same again", given: with(issued), outcome: vetting.Admitted, codes: codes(vetting.ReasonRepeated), repeat: "21"},
	{name: "same again by a rig", given: with(issued, byRig), outcome: vetting.Admitted, codes: codes(vetting.ReasonRepeated), repeat: "21"},
	{name: "same again, quota used up", given: with(issued, func(f *vetting.Facts) { f.Order.Issued = 10 }), outcome: vetting.Admitted, codes: codes(vetting.ReasonRepeated), repeat: "21"},
	{name: "same again, order closed", given: with(issued, func(f *vetting.Facts) { f.Order.State = vetting.OrderClosed }), outcome: vetting.Admitted, codes: codes(vetting.ReasonRepeated), repeat: "21"},
	{name: "same again, window over", given: with(issued, func(f *vetting.Facts) { f.Order.NotAfter = now }), outcome: vetting.Admitted, codes: codes(vetting.ReasonRepeated), repeat: "21"},
	{name: "same again, certificate ran out", given: with(issued, func(f *vetting.Facts) { f.Current.NotAfter = now }), outcome: vetting.Admitted, codes: codes(vetting.ReasonReplaced)},
	{name: "new key before activation", given: with(issued, func(f *vetting.Facts) { f.Claim.Key = newKey }), outcome: vetting.Admitted, codes: codes(vetting.ReasonReplaced)},
	{name: "new key before activation, contested", given: with(issued, contestedNewKey), outcome: vetting.Held, codes: codes(vetting.ReasonContested)},
	{name: "new key before activation, contested, let in", given: with(issued, contestedNewKey, func(f *vetting.Facts) { f.Pending = decision(true) }), outcome: vetting.Admitted, codes: codes(vetting.ReasonReplaced, vetting.ReasonDecidedAdmt)},
	{name: "new key before activation, contested, turned away", given: with(issued, contestedNewKey, func(f *vetting.Facts) { f.Pending = decision(false) }), outcome: vetting.Refused, codes: codes(vetting.ReasonDecidedRef)},
	{name: "same key before activation, contested", given: with(issued, func(f *vetting.Facts) { f.Record.Contested = true }), outcome: vetting.Admitted, codes: codes(vetting.ReasonRepeated), repeat: "21"},
	{name: "again, order cancelled", given: with(issued, func(f *vetting.Facts) { f.Order.State = vetting.OrderCancelled }), outcome: vetting.Refused, codes: codes(vetting.ReasonOrderCancelled)},

	{name: "order paused", given: with(func(f *vetting.Facts) { f.Order.State = vetting.OrderPaused }), outcome: vetting.Held, codes: codes(vetting.ReasonOrderPaused)},
	{name: "same again, order paused", given: with(issued, func(f *vetting.Facts) { f.Order.State = vetting.OrderPaused }), outcome: vetting.Admitted, codes: codes(vetting.ReasonRepeated), repeat: "21"},
	{name: "as fast as allowed", given: with(limited, func(f *vetting.Facts) { f.Counters.OrderLastHour = 9 }), outcome: vetting.Admitted, codes: codes(vetting.ReasonVetted)},
	{name: "too many in an hour", given: with(limited, func(f *vetting.Facts) { f.Counters.OrderLastHour = 10 }), outcome: vetting.Held, codes: codes(vetting.ReasonPace)},
	{name: "too many in a day", given: with(limited, func(f *vetting.Facts) { f.Counters.OrderLastDay = 20 }), outcome: vetting.Held, codes: codes(vetting.ReasonPace)},
	{name: "too many by a rig", given: with(limited, byRig, func(f *vetting.Facts) { f.Counters.RigLastHour = 3 }), outcome: vetting.Held, codes: codes(vetting.ReasonPace)},
	{name: "too many on a line", given: with(limited, func(f *vetting.Facts) { f.Counters.LineLastHour = 4 }), outcome: vetting.Held, codes: codes(vetting.ReasonPace)},
	{name: "too many in an hour, let in", given: with(limited, func(f *vetting.Facts) { f.Counters.OrderLastHour, f.Pending = 10, decision(true) }), outcome: vetting.Admitted, codes: codes(vetting.ReasonVetted, vetting.ReasonDecidedAdmt)},
	{name: "a rule holds", given: with(ruled(vetting.Held)), outcome: vetting.Held, codes: codes(vetting.ReasonRule)},
	{name: "a rule holds, let in", given: with(ruled(vetting.Held), func(f *vetting.Facts) { f.Pending = decision(true) }), outcome: vetting.Admitted, codes: codes(vetting.ReasonVetted, vetting.ReasonDecidedAdmt)},
	{name: "a rule refuses", given: with(ruled(vetting.Refused)), outcome: vetting.Refused, codes: codes(vetting.ReasonRule)},
	{name: "a rule refuses, whatever a person said", given: with(ruled(vetting.Refused), func(f *vetting.Facts) { f.Pending = decision(true) }), outcome: vetting.Refused, codes: codes(vetting.ReasonRule)},
	{name: "rules do not touch what was issued", given: with(issued, ruled(vetting.Refused)), outcome: vetting.Admitted, codes: codes(vetting.ReasonRepeated), repeat: "21"},
	{name: "rules do not touch renewals", given: with(renewal, ruled(vetting.Refused)), outcome: vetting.Admitted, codes: codes(vetting.ReasonRenewed)},

	// Not the device that is recorded.
	{name: "nothing presented", given: with(func(f *vetting.Facts) { f.Claim.Auth = vetting.Auth{} }), outcome: vetting.Refused, codes: codes(vetting.ReasonNoProof)},
	{name: "unheard-of proof", given: with(func(f *vetting.Facts) { f.Claim.Auth.Proof = "charm" }), outcome: vetting.Refused, codes: codes(vetting.ReasonNoProof)},
	{name: "unknown device", given: with(unknown), outcome: vetting.Refused, codes: codes(vetting.ReasonUnknownDevice), evidence: signs(vetting.EvidenceUnknownDevice, 0)},
	{name: "unknown device at a rig", given: with(unknown, byRig), outcome: vetting.Refused, codes: codes(vetting.ReasonUnknownDevice), evidence: signs(vetting.EvidenceUnknownDevice, 0)},
	{name: "by identifiers, from the site", given: with(named), outcome: vetting.Admitted, codes: codes(vetting.ReasonVetted)},
	{name: "by identifiers, from elsewhere", given: with(named, func(f *vetting.Facts) { f.OnSite = false }), outcome: vetting.Refused, codes: codes(vetting.ReasonOffSite), evidence: signs(vetting.EvidenceWrongSite, 11)},
	{name: "by identifiers, a second device", given: with(named, func(f *vetting.Facts) { f.Device.BoundKey = otherKey }), outcome: vetting.Refused, codes: codes(vetting.ReasonBound), evidence: signs(vetting.EvidenceWrongKey, 11)},
	{name: "by identifiers, a second device of one in service", given: with(issued, named, func(f *vetting.Facts) { f.Device.State, f.Device.BoundKey = vetting.DeviceActive, otherKey }), outcome: vetting.Refused, codes: codes(vetting.ReasonBound), evidence: signs(vetting.EvidenceWrongKey, 11)},
	{name: "by identifiers, again from elsewhere", given: with(issued, named, func(f *vetting.Facts) { f.OnSite, f.Device.BoundKey = false, bootstrapKey }), outcome: vetting.Admitted, codes: codes(vetting.ReasonRepeated), repeat: "21"},
	{name: "by identifiers, in service", given: with(issued, named, func(f *vetting.Facts) { f.Device.State, f.Device.BoundKey = vetting.DeviceActive, bootstrapKey }), outcome: vetting.Refused, codes: codes(vetting.ReasonBootstrapSpent), evidence: signs(vetting.EvidenceSpentKey, 11)},
	{name: "by identifiers, one of them wrong", given: with(named, func(f *vetting.Facts) { f.Claim.Asserted.UID = "f00d" }), outcome: vetting.Refused, codes: codes(vetting.ReasonMismatch), evidence: signs(vetting.EvidenceMismatch, 11)},
	{name: "by identifiers, which the product does not accept", given: with(named, func(f *vetting.Facts) { f.Product.Proofs = []vetting.Proof{vetting.ProofRig} }), outcome: vetting.Refused, codes: codes(vetting.ReasonProof)},
	{name: "by a vendor's certificate, to a listed key", given: with(vouched, func(f *vetting.Facts) { f.Record.BootstrapKey = bootstrapKey }), outcome: vetting.Admitted, codes: codes(vetting.ReasonVetted)},
	{name: "by a vendor's certificate", given: with(vouched), outcome: vetting.Admitted, codes: codes(vetting.ReasonVetted)},
	{name: "by a vendor's certificate, a second device", given: with(vouched, func(f *vetting.Facts) { f.Device.BoundKey = otherKey }), outcome: vetting.Refused, codes: codes(vetting.ReasonBound), evidence: signs(vetting.EvidenceWrongKey, 11)},
	{name: "by a vendor's certificate, in service", given: with(issued, vouched, func(f *vetting.Facts) { f.Device.State, f.Device.BoundKey = vetting.DeviceActive, bootstrapKey }), outcome: vetting.Refused, codes: codes(vetting.ReasonBootstrapSpent), evidence: signs(vetting.EvidenceSpentKey, 11)},
	{name: "by a vendor's certificate with another name", given: with(vouched, func(f *vetting.Facts) { f.Claim.Asserted.UID = "f00d" }), outcome: vetting.Refused, codes: codes(vetting.ReasonMismatch), evidence: signs(vetting.EvidenceMismatch, 11)},
	{name: "by a certificate of a vendor that the product does not trust", given: with(vouched, func(f *vetting.Facts) { f.Claim.Auth.Vendor = "" }), outcome: vetting.Refused, codes: codes(vetting.ReasonVendor)},
	{name: "by a vendor's certificate, which the product does not accept", given: with(vouched, func(f *vetting.Facts) { f.Product.Proofs = f.Product.Proofs[:1] }), outcome: vetting.Refused, codes: codes(vetting.ReasonProof)},
	{name: "by a vendor's certificate, unknown", given: with(unknown, func(f *vetting.Facts) { f.Claim.Auth.Proof, f.Claim.Auth.Vendor = vetting.ProofVendor, "chips" }), outcome: vetting.Refused, codes: codes(vetting.ReasonUnknownDevice), evidence: signs(vetting.EvidenceUnknownDevice, 0)},
	{name: "unknown device, awaited", given: with(awaited), outcome: vetting.Held, codes: codes(vetting.ReasonNoRecord)},
	{name: "unknown device at a rig, awaited", given: with(awaited, byRig), outcome: vetting.Held, codes: codes(vetting.ReasonNoRecord)},
	{name: "unknown device, awaited with a proof that does not count", given: with(awaited, func(f *vetting.Facts) { f.Product.Proofs = []vetting.Proof{vetting.ProofRig} }), outcome: vetting.Refused, codes: codes(vetting.ReasonUnknownDevice), evidence: signs(vetting.EvidenceUnknownDevice, 0)},
	{name: "unknown device, awaited for long", given: with(awaited, func(f *vetting.Facts) { f.Pending = &vetting.Registration{At: now.Add(-59 * time.Minute)} }), outcome: vetting.Held, codes: codes(vetting.ReasonNoRecord)},
	{name: "unknown device, awaited for too long", given: with(awaited, func(f *vetting.Facts) { f.Pending = &vetting.Registration{At: now.Add(-time.Hour)} }), outcome: vetting.Refused, codes: codes(vetting.ReasonUnknownDevice), evidence: signs(vetting.EvidenceUnknownDevice, 0)},
	{name: "unknown device, awaited, turned away", given: with(awaited, func(f *vetting.Facts) { f.Pending = decision(false); f.Pending.At = now }), outcome: vetting.Refused, codes: codes(vetting.ReasonDecidedRef)},
	{name: "unknown device, awaited, let in", given: with(awaited, func(f *vetting.Facts) { f.Pending = decision(true); f.Pending.At = now }), outcome: vetting.Held, codes: codes(vetting.ReasonNoRecord)},
	{name: "wrong key", given: with(func(f *vetting.Facts) {
		f.Named = []*vetting.Record{f.Record, {ID: 12, Identity: f.Record.Identity}}
		f.Claim.Auth.Key = otherKey
		unknown(f)
	}), outcome: vetting.Refused, codes: codes(vetting.ReasonWrongKey), evidence: signs(vetting.EvidenceWrongKey, 11, vetting.EvidenceWrongKey, 12)},
	{name: "a record without a key", given: with(func(f *vetting.Facts) {
		f.Named = []*vetting.Record{{ID: 11, Identity: f.Record.Identity}}
		unknown(f)
	}), outcome: vetting.Refused, codes: codes(vetting.ReasonProof)},
	{name: "disputed", given: with(unknown, func(f *vetting.Facts) {
		f.Dispute = &vetting.Dispute{RecordID: 12, Record: vetting.Record{Identity: vetting.Identity{Serial: "SN-1"}}, Kinds: []vetting.EvidenceKind{
			vetting.EvidenceDuplicateSerial, vetting.EvidenceDuplicateUID, vetting.EvidenceDuplicateMAC}}
	}), outcome: vetting.Refused, codes: codes(vetting.ReasonDisputed), evidence: signs(
		vetting.EvidenceDuplicateSerial, 0, vetting.EvidenceDuplicateSerial, 12, vetting.EvidenceDuplicateUID, 0, vetting.EvidenceDuplicateUID, 12,
		vetting.EvidenceDuplicateMAC, 0, vetting.EvidenceDuplicateMAC, 12)},
	{name: "other serial", given: with(func(f *vetting.Facts) { f.Claim.Asserted.Serial = "SN-2" }), outcome: vetting.Refused, codes: codes(vetting.ReasonMismatch), evidence: signs(vetting.EvidenceMismatch, 11)},
	{name: "other MAC", given: with(byRig, func(f *vetting.Facts) { f.Claim.Asserted.MAC = "00:11:22:33:44:66" }), outcome: vetting.Refused, codes: codes(vetting.ReasonMismatch), evidence: signs(vetting.EvidenceMismatch, 11)},
	{name: "a UID that is not recorded", given: with(func(f *vetting.Facts) { f.Claim.Asserted.UID, f.Record.UID = "beef", "" }), outcome: vetting.Refused, codes: codes(vetting.ReasonMismatch), evidence: signs(vetting.EvidenceMismatch, 11)},
	{name: "key of another device", given: with(func(f *vetting.Facts) { f.KeyHolder = 12 }), outcome: vetting.Refused, codes: codes(vetting.ReasonKeyInUse), evidence: signs(vetting.EvidenceDuplicateKey, 11, vetting.EvidenceDuplicateKey, 12)},
	{name: "key of another device, again", given: with(issued, func(f *vetting.Facts) { f.KeyHolder = 12 }), outcome: vetting.Refused, codes: codes(vetting.ReasonKeyInUse), evidence: signs(vetting.EvidenceDuplicateKey, 11, vetting.EvidenceDuplicateKey, 12)},

	// Through the wrong door.
	{name: "rig of another site", given: with(byRig, func(f *vetting.Facts) { f.Claim.Auth.Site = "dresden" }), outcome: vetting.Refused, codes: codes(vetting.ReasonWrongSite), evidence: signs(vetting.EvidenceWrongSite, 11)},
	{name: "label of another product", given: with(func(f *vetting.Facts) { f.Claim.Label = "fridge" }), outcome: vetting.Refused, codes: codes(vetting.ReasonWrongProduct)},
	{name: "rig not accepted", given: with(byRig, func(f *vetting.Facts) { f.Product.Proofs = f.Product.Proofs[:1] }), outcome: vetting.Refused, codes: codes(vetting.ReasonProof)},
	{name: "bootstrap key not accepted", given: with(func(f *vetting.Facts) { f.Product.Proofs = f.Product.Proofs[1:] }), outcome: vetting.Refused, codes: codes(vetting.ReasonProof)},

	// Not in a state for it.
	{name: "spent bootstrap key", given: with(issued, active), outcome: vetting.Refused, codes: codes(vetting.ReasonBootstrapSpent), evidence: signs(vetting.EvidenceSpentKey, 11)},
	{name: "failed its test", given: with(failedTest), outcome: vetting.Refused, codes: codes(vetting.ReasonFailed)},
	{name: "failed its test, vouched for by a rig", given: with(failedTest, byRig), outcome: vetting.Refused, codes: codes(vetting.ReasonFailed)},
	{name: "passed its latest test", given: with(passedTest), outcome: vetting.Admitted, codes: codes(vetting.ReasonVetted)},
	{name: "failed a test after it was issued", given: with(issued, failedTest), outcome: vetting.Refused, codes: codes(vetting.ReasonFailed)},
	{name: "failed a test in service, renews", given: with(renewal, failedTest), outcome: vetting.Admitted, codes: codes(vetting.ReasonRenewed)},
	{name: "rig registers an active device", given: with(issued, active, byRig), outcome: vetting.Refused, codes: codes(vetting.ReasonAlreadyActive)},

	// The order's conditions.
	{name: "order closed", given: with(func(f *vetting.Facts) { f.Order.State = vetting.OrderClosed }), outcome: vetting.Refused, codes: codes(vetting.ReasonOrderClosed)},
	{name: "order cancelled", given: with(func(f *vetting.Facts) { f.Order.State = vetting.OrderCancelled }), outcome: vetting.Refused, codes: codes(vetting.ReasonOrderCancelled)},
	{name: "window over", given: with(func(f *vetting.Facts) { f.Order.NotAfter = now }), outcome: vetting.Refused, codes: codes(vetting.ReasonTooLate), evidence: signs(vetting.EvidenceOutOfWindow, 11)},
	{name: "quota used up", given: with(func(f *vetting.Facts) { f.Order.Issued = 10 }), outcome: vetting.Refused, codes: codes(vetting.ReasonQuota), evidence: signs(vetting.EvidenceOverQuota, 11)},
	{name: "no quota at all", given: with(func(f *vetting.Facts) { f.Order.Quantity, f.Order.Issued = 0, 0 }), outcome: vetting.Refused, codes: codes(vetting.ReasonQuota), evidence: signs(vetting.EvidenceOverQuota, 11)},
	{name: "draft", given: with(draft), outcome: vetting.Held, codes: codes(vetting.ReasonOrderDraft)},
	{name: "window ahead", given: with(func(f *vetting.Facts) { f.Order.NotBefore = now.Add(1) }), outcome: vetting.Held, codes: codes(vetting.ReasonTooEarly), evidence: signs(vetting.EvidenceOutOfWindow, 11)},
	{name: "contested", given: with(contested), outcome: vetting.Held, codes: codes(vetting.ReasonContested)},
	{name: "all that holds", given: with(draft, contested, func(f *vetting.Facts) { f.Order.NotBefore = now.Add(1) }), outcome: vetting.Held,
		codes: codes(vetting.ReasonOrderDraft, vetting.ReasonTooEarly, vetting.ReasonContested), evidence: signs(vetting.EvidenceOutOfWindow, 11)},

	// A person's word.
	{name: "let in", given: with(contested, func(f *vetting.Facts) { f.Pending = decision(true) }), outcome: vetting.Admitted, codes: codes(vetting.ReasonVetted, vetting.ReasonDecidedAdmt)},
	{name: "turned away", given: with(contested, func(f *vetting.Facts) { f.Pending = decision(false) }), outcome: vetting.Refused, codes: codes(vetting.ReasonDecidedRef)},
	{name: "turned away, though nothing holds it now", given: with(func(f *vetting.Facts) { f.Pending = decision(false) }), outcome: vetting.Refused, codes: codes(vetting.ReasonDecidedRef)},
	{name: "let in, though nothing held it", given: with(func(f *vetting.Facts) { f.Pending = decision(true) }), outcome: vetting.Admitted, codes: codes(vetting.ReasonVetted)},
	{name: "a word lifts no quota", given: with(contested, func(f *vetting.Facts) { f.Order.Issued, f.Pending = 10, decision(true) }), outcome: vetting.Refused, codes: codes(vetting.ReasonQuota), evidence: signs(vetting.EvidenceOverQuota, 11)},
	{name: "a word opens no closed order", given: with(func(f *vetting.Facts) { f.Order.State, f.Pending = vetting.OrderClosed, decision(true) }), outcome: vetting.Refused, codes: codes(vetting.ReasonOrderClosed)},

	// Keys that the server makes; before the first judgement there is none.
	{name: "server key", given: with(serverKey), outcome: vetting.Admitted, codes: codes(vetting.ReasonVetted)},
	{name: "server key, encrypted though plain would do", given: with(serverKey, encrypted), outcome: vetting.Admitted, codes: codes(vetting.ReasonVetted)},
	{name: "server key, again", given: with(serverKey, issued), outcome: vetting.Admitted, codes: codes(vetting.ReasonReplaced)},
	{name: "server key, off", given: with(serverKey, func(f *vetting.Facts) { f.Product.ServerKeys = vetting.ServerKeysOff }), outcome: vetting.Refused, codes: codes(vetting.ReasonServerKey)},
	{name: "server key, nothing said", given: with(serverKey, encrypted, func(f *vetting.Facts) { f.Product.ServerKeys = "" }), outcome: vetting.Refused, codes: codes(vetting.ReasonServerKey)},
	{name: "server key, not plain", given: with(serverKey, func(f *vetting.Facts) { f.Product.ServerKeys = vetting.ServerKeysEncrypted }), outcome: vetting.Refused, codes: codes(vetting.ReasonServerKey)},
	{name: "server key, of an unheard-of way", given: with(serverKey, func(f *vetting.Facts) { f.Claim.ServerKey = "by mail" }), outcome: vetting.Refused, codes: codes(vetting.ReasonServerKey)},
	{name: "server key, spent bootstrap key", given: with(serverKey, issued, active), outcome: vetting.Refused, codes: codes(vetting.ReasonBootstrapSpent), evidence: signs(vetting.EvidenceSpentKey, 11)},
	{name: "server key, contested", given: with(serverKey, issued, contested), outcome: vetting.Held, codes: codes(vetting.ReasonContested)},
	{name: "server key at renewal", given: with(renewal, serverKey), outcome: vetting.Admitted, codes: codes(vetting.ReasonRenewed)},
	{name: "server key at renewal, off", given: with(renewal, serverKey, func(f *vetting.Facts) { f.Product.ServerKeys = vetting.ServerKeysOff }), outcome: vetting.Refused, codes: codes(vetting.ReasonServerKey)},
	{name: "server key at renewal, the reply was lost", given: with(superseded, serverKey, unused), outcome: vetting.Admitted, codes: codes(vetting.ReasonReplaced)},
	{name: "server key at renewal, superseded and used", given: with(superseded, serverKey), outcome: vetting.Refused, codes: codes(vetting.ReasonSuperseded), evidence: signs(vetting.EvidenceSuperseded, 11), quarantine: true},
})

func with(c ...change) []change { return c }

func codes(c ...vetting.Code) []vetting.Code { return c }

// signs takes pairs of kind and device.
func signs(pairs ...any) (out []sign) {
	for i := 0; i < len(pairs); i += 2 {
		out = append(out, sign{pairs[i].(vetting.EvidenceKind), int64(pairs[i+1].(int))})
	}
	return out
}

func revoked(f *vetting.Facts)   { f.Current.State = vetting.CertificateRevoked }
func active(f *vetting.Facts)    { f.Device.State = vetting.DeviceActive }
func draft(f *vetting.Facts)     { f.Order.State = vetting.OrderDraft }
func contested(f *vetting.Facts) { f.Record.Contested = true }

func build(changes []change) vetting.Facts {
	f := facts()
	for _, c := range changes {
		c(&f)
	}
	return f
}

func TestJudge(t *testing.T) {
	for _, tt := range judgements {
		t.Run(tt.name, func(t *testing.T) {
			f := build(tt.given)
			v := vetting.Judge(f)
			var got []vetting.Code
			for _, r := range v.Reasons {
				got = append(got, r.Code)
				if r.Text == "" || strings.Contains(r.Text, "%!") || !strings.Contains(v.Text(), r.Text) {
					t.Errorf("reason %s reads %q", r.Code, r.Text)
				}
			}
			if v.Outcome != tt.outcome || !reflect.DeepEqual(got, tt.codes) {
				t.Fatalf("verdict %s %v (%s), want %s %v", v.Outcome, got, v.Text(), tt.outcome, tt.codes)
			}
			var found []sign
			for _, e := range v.Evidence {
				found = append(found, sign{e.Kind, e.DeviceID})
				if !e.At.Equal(f.Now) || e.Text == "" || strings.Contains(e.Text, "%!") {
					t.Errorf("evidence %+v", e)
				}
			}
			if !reflect.DeepEqual(found, tt.evidence) {
				t.Errorf("evidence %v, want %v", found, tt.evidence)
			}
			if v.Quarantine != tt.quarantine {
				t.Errorf("quarantine: %v", v.Quarantine)
			}
			checkAdmission(t, f, v, tt.repeat)
			if again := vetting.Judge(build(tt.given)); !reflect.DeepEqual(again, v) {
				t.Errorf("the same facts gave another verdict: %+v and %+v", v, again)
			}
			if untouched := build(tt.given); !reflect.DeepEqual(f, untouched) {
				t.Errorf("Judge changed the facts: %+v, were %+v", f, untouched)
			}
		})
	}
}

func checkAdmission(t *testing.T, f vetting.Facts, v vetting.Verdict, repeat string) {
	t.Helper()
	a, ok := v.Admission()
	if ok != (v.Outcome == vetting.Admitted) || ok != a.Granted() {
		t.Fatalf("outcome %s, admission granted: %v", v.Outcome, a.Granted())
	}
	if !ok {
		if !reflect.DeepEqual(a, vetting.Admission{}) {
			t.Errorf("a refused verdict carries %+v", a)
		}
		return
	}
	if a.Key() != f.Claim.Key || a.Product() != f.Product || a.Order() != f.Order || a.Record() != f.Record || a.Device() != f.Device {
		t.Errorf("the admission is not for what was claimed: %+v", a)
	}
	if a.Kind() != v.Reasons[0].Code || a.TakesUnit() != (a.Kind() == vetting.ReasonVetted) {
		t.Errorf("admission of kind %s takes a unit: %v", a.Kind(), a.TakesUnit())
	}
	switch r := a.Repeat(); {
	case repeat == "" && r != nil:
		t.Errorf("certificate %s would be answered again", r.Serial)
	case repeat != "" && (r == nil || r.Serial != repeat || r.Key != f.Claim.Key):
		t.Errorf("certificate %+v would be answered again, want %s", r, repeat)
	}
}

// TestNoWayOutOfService: invariant 6 for every state and every way in.
func TestNoWayOutOfService(t *testing.T) {
	for _, state := range vetting.DeviceStates {
		for name, ways := range map[string][]change{
			"bootstrap key": nil, "rig": with(byRig), "repetition": with(issued), "repetition by a rig": with(issued, byRig),
			"a person's word": with(contested, func(f *vetting.Facts) { f.Pending = decision(true) }),
			"renewal":         with(renewal), "lost reply": with(superseded),
			"code": with(coded), "code of the device": with(coded, ofDevice), "used code": with(issued, coded, usedCode), "rig with a code": with(coded, byRigWithCode), "TPM": with(byTPM),
		} {
			v := vetting.Judge(build(append(ways, func(f *vetting.Facts) { f.Device.State = state })))
			if _, ok := v.Admission(); ok && !state.InService() {
				t.Errorf("a device that is %s got in by %s", state, name)
			}
			if !state.InService() && (len(v.Reasons) != 1 || v.Reasons[0].Code != vetting.ReasonNotInService) {
				t.Errorf("a device that is %s was told %v by %s", state, v.Reasons, name)
			}
		}
	}
}

func TestAForeignSiteLearnsNothing(t *testing.T) {
	v := vetting.Judge(build(with(byRig, func(f *vetting.Facts) { f.Claim.Auth.Site = "dresden" })))
	for _, r := range v.Reasons {
		if len(r.Values) > 0 || strings.Contains(r.Text, "PO-1") || strings.Contains(r.Text, "shenzhen") {
			t.Errorf("the rig of another site is told %+v", r)
		}
	}
}

func TestReasonsCarryValues(t *testing.T) {
	v := vetting.Judge(build(with(func(f *vetting.Facts) { f.Order.Issued = 10 })))
	want := map[string]string{"order": "PO-1", "quantity": "10", "serial": "SN-1"}
	if got := v.Reasons[0].Values; !reflect.DeepEqual(got, want) {
		t.Errorf("values %v, want %v", got, want)
	}
}

func TestTheZeroAdmissionPermitsNothing(t *testing.T) {
	var a vetting.Admission
	if a.Granted() || a.TakesUnit() || a.Key() != (vetting.Fingerprint{}) || a.Product() != nil || a.Order() != nil || a.Record() != nil || a.Device() != nil || a.Repeat() != nil || a.Kind() != "" {
		t.Errorf("the zero admission: %+v", a)
	}
	if a, ok := (vetting.Verdict{Outcome: vetting.Admitted}).Admission(); ok || a.Granted() {
		t.Error("a verdict that Judge did not make grants an admission")
	}
}

// TestTheTableIsComplete: every reason and every kind of evidence that the
// package knows is in the table above.
func TestTheTableIsComplete(t *testing.T) {
	seen := map[string]bool{}
	for _, tt := range judgements {
		v := vetting.Judge(build(tt.given))
		for _, r := range v.Reasons {
			seen["Code "+string(r.Code)] = true
		}
		for _, e := range v.Evidence {
			seen["EvidenceKind "+string(e.Kind)] = true
		}
	}
	seen["Code "+string(vetting.ReasonNotInService)] = true // TestNoWayOutOfService
	for _, name := range constants(t, "verdict.go", "Code", "EvidenceKind") {
		if !seen[name] {
			t.Errorf("no judgement in the table gives %s", name)
		}
	}
}

// constants lists the constants of some types in a source file as "Type
// value".
func constants(t *testing.T, file string, types ...string) (out []string) {
	t.Helper()
	parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(parsed, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		for _, typ := range types {
			if id, ok := spec.Type.(*ast.Ident); ok && id.Name == typ {
				value, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
				if err != nil {
					t.Fatal(err)
				}
				out = append(out, typ+" "+value)
			}
		}
		return true
	})
	if len(out) == 0 {
		t.Fatalf("%s has no constants of %v", file, types)
	}
	return out
}
