package vetting_test

import (
	"time"

	"github.com/touchmark/touchmark/vetting"
)

// transferred: the device belongs to another owner since, and comes with the
// certificate that it had until then.
func transferred(f *vetting.Facts) {
	renewal(f)
	handedOver(f)
}

// handedOver ends the certificates that the device has.
func handedOver(f *vetting.Facts) {
	readmittedState(f)
	for _, c := range []*vetting.Certificate{f.Presented, f.Current} {
		c.State, c.Reason = vetting.CertificateRevoked, 3
	}
	f.Device.HandoverID = f.Current.ID
}

// arrived: the device came to its owner, and uses what it got there.
func arrived(f *vetting.Facts) {
	former := *f.Current
	f.Presented = &former
	f.Device.State = vetting.DeviceActive
	f.Current = &vetting.Certificate{ID: 23, DeviceID: 11, Serial: "23", Key: newKey, State: vetting.CertificateValid, NotAfter: now.Add(time.Hour), Used: now}
}

// transferJudgements are those of devices that changed hands.
var transferJudgements = []judged{
	{name: "transferred", given: with(transferred), outcome: vetting.Admitted, codes: codes(vetting.ReasonReadmitted)},
	{name: "transferred, on its own key", given: with(transferred, func(f *vetting.Facts) { f.Claim.Key = officialKey }), outcome: vetting.Admitted, codes: codes(vetting.ReasonReadmitted)},
	{name: "transferred, and out of service", given: with(transferred, func(f *vetting.Facts) { f.Device.State = vetting.DeviceQuarantined }), outcome: vetting.Refused, codes: codes(vetting.ReasonNotInService)},
	{name: "transferred, to the key of another device", given: with(transferred, func(f *vetting.Facts) { f.KeyHolder = 12 }), outcome: vetting.Refused, codes: codes(vetting.ReasonKeyInUse), evidence: signs(vetting.EvidenceDuplicateKey, 11, vetting.EvidenceDuplicateKey, 12)},
	{name: "transferred, then asleep", given: with(transferred, asleep(time.Hour)), outcome: vetting.Refused, codes: codes(vetting.ReasonSameKey)},
	{name: "transferred, then asleep, on its own key", given: with(transferred, func(f *vetting.Facts) { f.Claim.Key = officialKey }, asleep(time.Hour)), outcome: vetting.Admitted, codes: codes(vetting.ReasonReadmitted)},
	{name: "transferred, then asleep for long", given: with(transferred, func(f *vetting.Facts) { f.Claim.Key = officialKey }, asleep(2*time.Hour)), outcome: vetting.Held, codes: codes(vetting.ReasonAsleep)},
	{name: "revoked, then transferred", given: with(transferred, func(f *vetting.Facts) { f.Presented.Reason, f.Device.HandoverID = 1, 0 }), outcome: vetting.Refused, codes: codes(vetting.ReasonCertificateEnded)},
	{name: "revoked as if transferred", given: with(transferred, func(f *vetting.Facts) { f.Device.HandoverID = 0 }), outcome: vetting.Refused, codes: codes(vetting.ReasonCertificateEnded)},
	{name: "revoked after it came to its owner", given: with(transferred, func(f *vetting.Facts) { f.Device.HandoverID = f.Presented.ID - 1 }), outcome: vetting.Refused, codes: codes(vetting.ReasonCertificateEnded)},

	// The certificate before the one that was handed over.
	{name: "the reply was lost, then transferred", given: with(superseded, handedOver, unused), outcome: vetting.Admitted, codes: codes(vetting.ReasonReadmitted)},
	{name: "the reply was lost, then transferred, then asleep", given: with(superseded, handedOver, unused, asleep(time.Hour)), outcome: vetting.Admitted, codes: codes(vetting.ReasonReadmitted)},
	{name: "the reply was lost and with it the key, then transferred", given: with(superseded, handedOver, unused, another), outcome: vetting.Refused, codes: codes(vetting.ReasonSuperseded)},
	{name: "copied, then transferred", given: with(copied, handedOver), outcome: vetting.Refused, codes: codes(vetting.ReasonSuperseded), evidence: signs(vetting.EvidenceSuperseded, 11), quarantine: true},
	{name: "copied on the same key, then transferred", given: with(superseded, sameKey, handedOver, func(f *vetting.Facts) { f.Current.Used = now }), outcome: vetting.Refused, codes: codes(vetting.ReasonSuperseded), evidence: signs(vetting.EvidenceSuperseded, 11), quarantine: true},

	// Once more, after the device came to its owner.
	{name: "transferred, the reply was lost", given: with(transferred, arrived, unused, func(f *vetting.Facts) {
		f.Device.State, f.Current.Used = vetting.DeviceIssued, time.Time{}
	}), outcome: vetting.Admitted, codes: codes(vetting.ReasonRepeated), repeat: "23"},
	{name: "transferred and copied", given: with(transferred, arrived, another), outcome: vetting.Refused, codes: codes(vetting.ReasonSuperseded), evidence: signs(vetting.EvidenceSuperseded, 11), quarantine: true},
	{name: "copied long before it was transferred", given: with(copied, handedOver, func(f *vetting.Facts) {
		early := f.Presented
		arrived(f)
		f.Presented = early
	}), outcome: vetting.Refused, codes: codes(vetting.ReasonSuperseded), evidence: signs(vetting.EvidenceSuperseded, 11), quarantine: true},
	{name: "transferred and come, the new certificate is revoked", given: with(transferred, arrived, revoked), outcome: vetting.Refused, codes: codes(vetting.ReasonSuperseded)},
}
