package vetting_test

import (
	"time"

	"github.com/touchmark/touchmark/vetting"
)

// copied: the device renewed and uses its new certificate; whoever copied it
// before comes with the old one.
func copied(f *vetting.Facts) {
	superseded(f)
	another(f)
	f.Current.Used = now
}

// sameKey: it renews without taking a new key.
func sameKey(f *vetting.Facts) { f.Claim.Key, f.Current.Key = officialKey, officialKey }

func another(f *vetting.Facts) { f.Claim.Key = otherKey }

// asleep: all its certificates ran out so long ago, and it comes with its key;
// its product gives an hour or two of grace, and holds for one more.
func asleep(d time.Duration) change {
	return func(f *vetting.Facts) {
		if f.Presented == nil {
			renewal(f)
			f.Claim.Key = officialKey
		}
		f.Product.Life.Grace, f.Product.Life.Rescue = "2h", "3h"
		f.Presented.NotAfter, f.Current.NotAfter = now.Add(-d), now.Add(-d)
	}
}

func readmittedState(f *vetting.Facts) {
	f.Device.State, f.Device.Revision, f.Device.Issued = vetting.DeviceManufactured, 4, now.Add(-time.Hour)
}

// readmitted: the device took its unit long ago, and an administrator lets it
// start anew.
func readmitted(f *vetting.Facts) {
	issued(f)
	readmittedState(f)
	f.Current.State = vetting.CertificateRevoked
	f.Claim.Key = newKey
}

// renewalJudgements are those of devices that were let in before.
var renewalJudgements = []judged{
	// Renewal.
	{name: "re-key", given: with(renewal), outcome: vetting.Admitted, codes: codes(vetting.ReasonRenewed)},
	{name: "renewal with the same key", given: with(renewal, func(f *vetting.Facts) { f.Claim.Key = officialKey }), outcome: vetting.Admitted, codes: codes(vetting.ReasonRenewed)},
	{name: "renewal is no matter of the order", given: with(renewal, func(f *vetting.Facts) {
		f.Order.State, f.Order.Issued, f.Order.NotAfter = vetting.OrderClosed, 10, now
	}), outcome: vetting.Admitted, codes: codes(vetting.ReasonRenewed)},
	{name: "renewal as first use", given: with(renewal, func(f *vetting.Facts) { f.Device.State = vetting.DeviceIssued }), outcome: vetting.Admitted, codes: codes(vetting.ReasonRenewed)},
	{name: "renewal, label of another product", given: with(renewal, func(f *vetting.Facts) { f.Claim.Label = "fridge" }), outcome: vetting.Refused, codes: codes(vetting.ReasonWrongProduct)},
	{name: "certificate of nobody", given: with(renewal, unknown, func(f *vetting.Facts) { f.Presented = nil }), outcome: vetting.Refused, codes: codes(vetting.ReasonCertificateEnded)},
	{name: "certificate ran out", given: with(renewal, func(f *vetting.Facts) { f.Presented.NotAfter = now }), outcome: vetting.Refused, codes: codes(vetting.ReasonCertificateEnded)},
	{name: "certificate revoked", given: with(renewal, func(f *vetting.Facts) { f.Presented.State = vetting.CertificateRevoked }), outcome: vetting.Refused, codes: codes(vetting.ReasonCertificateEnded)},
	{name: "certificate on hold", given: with(renewal, func(f *vetting.Facts) { f.Presented.State = vetting.CertificateOnHold }), outcome: vetting.Refused, codes: codes(vetting.ReasonCertificateEnded)},
	{name: "re-key to a key of another device", given: with(renewal, func(f *vetting.Facts) { f.KeyHolder = 12 }), outcome: vetting.Refused, codes: codes(vetting.ReasonKeyInUse), evidence: signs(vetting.EvidenceDuplicateKey, 11, vetting.EvidenceDuplicateKey, 12)},
	{name: "the reply was lost", given: with(superseded), outcome: vetting.Admitted, codes: codes(vetting.ReasonRepeated), repeat: "22"},
	{name: "the reply was lost, the successor was used", given: with(superseded, func(f *vetting.Facts) { f.Current.Used = now }), outcome: vetting.Admitted, codes: codes(vetting.ReasonRepeated), repeat: "22"},
	{name: "asked again, revoked", given: with(issued, revoked), outcome: vetting.Refused, codes: codes(vetting.ReasonCertificateEnded)},
	{name: "asked again by a rig, revoked", given: with(issued, byRig, revoked), outcome: vetting.Refused, codes: codes(vetting.ReasonCertificateEnded)},
	{name: "another key, revoked", given: with(issued, revoked, func(f *vetting.Facts) { f.Claim.Key = otherKey }), outcome: vetting.Refused, codes: codes(vetting.ReasonCertificateEnded)},
	{name: "superseded, the successor is revoked", given: with(superseded, revoked), outcome: vetting.Refused, codes: codes(vetting.ReasonSuperseded)},
	{name: "server key at renewal, the successor is revoked", given: with(superseded, serverKey, unused, revoked), outcome: vetting.Refused, codes: codes(vetting.ReasonSuperseded)},
	{name: "superseded on the same key, the reply was lost", given: with(superseded, sameKey), outcome: vetting.Admitted, codes: codes(vetting.ReasonRepeated), repeat: "22"},
	{name: "superseded on the same key, and copied", given: with(superseded, sameKey, func(f *vetting.Facts) { f.Current.Used = now }), outcome: vetting.Refused, codes: codes(vetting.ReasonSuperseded), evidence: signs(vetting.EvidenceSuperseded, 11), quarantine: true},
	{name: "superseded and copied", given: with(copied), outcome: vetting.Refused, codes: codes(vetting.ReasonSuperseded), evidence: signs(vetting.EvidenceSuperseded, 11), quarantine: true},
	{name: "superseded and copied, only noted", given: with(copied, func(f *vetting.Facts) { f.Product.Life.OnClone = vetting.CloneNote }), outcome: vetting.Refused, codes: codes(vetting.ReasonSuperseded), evidence: signs(vetting.EvidenceSuperseded, 11)},
	{name: "superseded, run out and copied", given: with(copied, func(f *vetting.Facts) { f.Presented.NotAfter = now }), outcome: vetting.Refused, codes: codes(vetting.ReasonSuperseded), evidence: signs(vetting.EvidenceSuperseded, 11), quarantine: true},
	{name: "superseded, on another key than the unused one", given: with(superseded, unused, another), outcome: vetting.Held, codes: codes(vetting.ReasonTwoRenewals), evidence: signs(vetting.EvidenceSuperseded, 11)},
	{name: "superseded, on another key, let in", given: with(superseded, unused, another, func(f *vetting.Facts) { f.Pending = decision(true) }), outcome: vetting.Admitted, codes: codes(vetting.ReasonReplaced, vetting.ReasonDecidedAdmt), evidence: signs(vetting.EvidenceSuperseded, 11)},
	{name: "superseded, on another key, turned away", given: with(superseded, unused, another, func(f *vetting.Facts) { f.Pending = decision(false) }), outcome: vetting.Refused, codes: codes(vetting.ReasonDecidedRef), evidence: signs(vetting.EvidenceSuperseded, 11)},
	{name: "superseded, on the key of another device", given: with(superseded, unused, another, func(f *vetting.Facts) { f.KeyHolder = 12 }), outcome: vetting.Refused, codes: codes(vetting.ReasonKeyInUse), evidence: signs(vetting.EvidenceDuplicateKey, 11, vetting.EvidenceDuplicateKey, 12)},

	// The window, and those who slept through their certificate's end.
	{name: "renewal before the window", given: with(renewal, func(f *vetting.Facts) { f.Product.Life.RenewWindow = "59m" }), outcome: vetting.Refused, codes: codes(vetting.ReasonTooSoon)},
	{name: "renewal in the window", given: with(renewal, func(f *vetting.Facts) { f.Product.Life.RenewWindow = "60m" }), outcome: vetting.Admitted, codes: codes(vetting.ReasonRenewed)},
	{name: "renewal before the window, as an operator asked", given: with(renewal, func(f *vetting.Facts) {
		f.Product.Life.RenewWindow, f.Hint = "1m", &vetting.Window{Start: now, End: now}
	}), outcome: vetting.Admitted, codes: codes(vetting.ReasonRenewed)},
	{name: "the last third, before it", given: with(renewal, func(f *vetting.Facts) {
		f.Product.Life.RenewWindow, f.Current.Issued = "33%", now.Add(-time.Hour)
	}), outcome: vetting.Refused, codes: codes(vetting.ReasonTooSoon)},
	{name: "the last third, in it", given: with(renewal, func(f *vetting.Facts) {
		f.Product.Life.RenewWindow, f.Current.Issued = "33%", now.Add(-3*time.Hour)
	}), outcome: vetting.Admitted, codes: codes(vetting.ReasonRenewed)},
	{name: "slept an hour, with grace", given: with(asleep(time.Hour)), outcome: vetting.Admitted, codes: codes(vetting.ReasonRenewed)},
	{name: "slept an hour, with grace, on a new key", given: with(asleep(time.Hour), func(f *vetting.Facts) { f.Claim.Key = newKey }), outcome: vetting.Refused, codes: codes(vetting.ReasonSameKey)},
	{name: "slept beyond the grace", given: with(asleep(2 * time.Hour)), outcome: vetting.Held, codes: codes(vetting.ReasonAsleep)},
	{name: "slept beyond the grace, let in", given: with(asleep(2*time.Hour), func(f *vetting.Facts) { f.Pending = decision(true) }), outcome: vetting.Admitted, codes: codes(vetting.ReasonRenewed, vetting.ReasonDecidedAdmt)},
	{name: "slept beyond the grace, turned away", given: with(asleep(2*time.Hour), func(f *vetting.Facts) { f.Pending = decision(false) }), outcome: vetting.Refused, codes: codes(vetting.ReasonDecidedRef)},
	{name: "slept beyond all", given: with(asleep(3 * time.Hour)), outcome: vetting.Refused, codes: codes(vetting.ReasonCertificateEnded)},
	{name: "the reply was lost, then it slept", given: with(superseded, asleep(time.Hour), func(f *vetting.Facts) { f.Claim.Key = newKey }), outcome: vetting.Admitted, codes: codes(vetting.ReasonRenewed)},

	// Once more from the start.
	{name: "readmitted", given: with(readmitted), outcome: vetting.Admitted, codes: codes(vetting.ReasonReadmitted)},
	{name: "readmitted, by a rig, the order full and closed", given: with(readmitted, byRig, func(f *vetting.Facts) {
		f.Order.Issued, f.Order.State = 10, vetting.OrderClosed
	}), outcome: vetting.Admitted, codes: codes(vetting.ReasonReadmitted)},
	{name: "readmitted, order cancelled", given: with(readmitted, func(f *vetting.Facts) { f.Order.State = vetting.OrderCancelled }), outcome: vetting.Refused, codes: codes(vetting.ReasonOrderCancelled)},
	{name: "readmitted, on the key of before", given: with(readmitted, func(f *vetting.Facts) { f.Claim.Key = officialKey }), outcome: vetting.Admitted, codes: codes(vetting.ReasonReadmitted)},
	{name: "readmitted, on a compromised key", given: with(readmitted, func(f *vetting.Facts) { f.Claim.Key, f.KeyCompromised = officialKey, true }), outcome: vetting.Refused, codes: codes(vetting.ReasonKeyInUse)},
	{name: "readmitted, contested", given: with(readmitted, contested), outcome: vetting.Held, codes: codes(vetting.ReasonContested)},
	{name: "readmitted, contested, let in", given: with(readmitted, contested, func(f *vetting.Facts) {
		f.Device.State, f.Pending = vetting.DeviceRegistered, decision(true)
	}), outcome: vetting.Admitted, codes: codes(vetting.ReasonReadmitted, vetting.ReasonDecidedAdmt)},
	{name: "readmitted, with the official certificate of before", given: with(renewal, readmittedState, func(f *vetting.Facts) {
		f.Presented.State = vetting.CertificateRevoked
	}), outcome: vetting.Refused, codes: codes(vetting.ReasonCertificateEnded)},
}
