package vetting_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/touchmark/touchmark/vetting"
)

// coded: a code of the order is presented, with a bootstrap certificate whose
// key no record lists.
func coded(f *vetting.Facts) {
	f.Claim.Auth = vetting.Auth{Proof: vetting.ProofCode, Key: bootstrapKey, CodeHash: vetting.CodeHash{1}, Code: 31}
	f.Code = &vetting.EnrolmentCode{ID: 31, OrderID: 7, Order: "PO-1", Site: "shenzhen", Expires: now.Add(time.Hour)}
	f.Product.Proofs = []vetting.Proof{vetting.ProofCode}
	f.Record.BootstrapKey = vetting.Fingerprint{}
}

func ofDevice(f *vetting.Facts)  { f.Code.DeviceID = 11 }
func codeOnly(f *vetting.Facts)  { f.Claim.Auth.Key = vetting.Fingerprint{} }
func otherCSR(f *vetting.Facts)  { f.Claim.Key = newKey }
func boundKey(f *vetting.Facts)  { f.Device.BoundKey = bootstrapKey }
func boundElse(f *vetting.Facts) { f.Device.BoundKey = otherKey }
func listed(f *vetting.Facts)    { f.Record.BootstrapKey = bootstrapKey }

// afresh: the device was in service and is readmitted.
func afresh(f *vetting.Facts) {
	f.Device.State, f.Device.Issued = vetting.DeviceManufactured, now.Add(-time.Hour)
	f.Current.State = vetting.CertificateRevoked
}

// usedCode: the device was let in by the code before.
func usedCode(f *vetting.Facts) { f.Code.Used, f.Code.UsedBy = now.Add(-time.Minute), 11 }

// guessed: there is no such code; the user name is in a record.
func guessed(f *vetting.Facts) {
	f.Named = []*vetting.Record{f.Record}
	f.Code, f.Claim.Auth.Code = nil, 0
	unknown(f)
}

func byRigWithCode(f *vetting.Facts) {
	f.Claim.Auth.Proof, f.Claim.Auth.Key, f.Claim.Auth.Operator, f.Claim.Auth.Site = vetting.ProofRig, otherKey, "rig-7", "shenzhen"
	f.Product.Proofs = []vetting.Proof{vetting.ProofRig}
}

var (
	misused11 = signs(vetting.EvidenceMisusedCode, 11)
	wrong11   = signs(vetting.EvidenceWrongCode, 11)
	wrongKey  = signs(vetting.EvidenceWrongKey, 11)
)

var codeJudgements = []judged{
	{name: "by a code", given: with(coded), outcome: vetting.Admitted, codes: codes(vetting.ReasonVetted)},
	{name: "by a code alone", given: with(coded, codeOnly), outcome: vetting.Admitted, codes: codes(vetting.ReasonVetted)},
	{name: "by a code of the device", given: with(coded, ofDevice), outcome: vetting.Admitted, codes: codes(vetting.ReasonVetted)},
	{name: "by a code of the device, no user name", given: with(coded, ofDevice, codeOnly, func(f *vetting.Facts) { f.Claim.Asserted = vetting.Identity{} }), outcome: vetting.Admitted, codes: codes(vetting.ReasonVetted)},
	{name: "by a code and the listed key", given: with(coded, listed), outcome: vetting.Admitted, codes: codes(vetting.ReasonVetted)},
	{name: "by a code and a rig", given: with(coded, byRigWithCode), outcome: vetting.Admitted, codes: codes(vetting.ReasonVetted)},
	{name: "by a code in its last second", given: with(coded, func(f *vetting.Facts) { f.Code.Expires = now.Add(1) }), outcome: vetting.Admitted, codes: codes(vetting.ReasonVetted)},
	{name: "by a code, order in draft", given: with(coded, draft), outcome: vetting.Held, codes: codes(vetting.ReasonOrderDraft)},
	{name: "by a code, quota used up", given: with(coded, func(f *vetting.Facts) { f.Order.Issued = 10 }), outcome: vetting.Refused, codes: codes(vetting.ReasonQuota), evidence: signs(vetting.EvidenceOverQuota, 11)},
	{name: "by a code, a rule refuses", given: with(coded, ruled(vetting.Refused)), outcome: vetting.Refused, codes: codes(vetting.ReasonRule)},
	{name: "by a code, key of another device", given: with(coded, func(f *vetting.Facts) { f.KeyHolder = 12 }), outcome: vetting.Refused, codes: codes(vetting.ReasonKeyInUse), evidence: signs(vetting.EvidenceDuplicateKey, 11, vetting.EvidenceDuplicateKey, 12)},
	{name: "by a code, which the product does not accept", given: with(coded, func(f *vetting.Facts) { f.Product.Proofs = []vetting.Proof{vetting.ProofBootstrapKey} }), outcome: vetting.Refused, codes: codes(vetting.ReasonProof)},
	{name: "by a code, label of another product", given: with(coded, func(f *vetting.Facts) { f.Claim.Label = "fridge" }), outcome: vetting.Refused, codes: codes(vetting.ReasonWrongProduct)},
	{name: "by a code, other MAC", given: with(coded, func(f *vetting.Facts) { f.Claim.Asserted.MAC = "00:11:22:33:44:66" }), outcome: vetting.Refused, codes: codes(vetting.ReasonMismatch), evidence: signs(vetting.EvidenceMismatch, 11)},
	{name: "by a code and another key than is listed", given: with(coded, func(f *vetting.Facts) { f.Record.BootstrapKey = otherKey }), outcome: vetting.Refused, codes: codes(vetting.ReasonWrongKey), evidence: wrongKey},

	// Codes that do not count.
	{name: "a wrong code", given: with(coded, guessed), outcome: vetting.Refused, codes: codes(vetting.ReasonWrongCode), evidence: wrong11},
	{name: "a wrong code for nobody", given: with(coded, guessed, func(f *vetting.Facts) { f.Named = nil }), outcome: vetting.Refused, codes: codes(vetting.ReasonWrongCode)},
	{name: "a wrong code by a rig", given: with(coded, byRigWithCode, func(f *vetting.Facts) { f.Code = nil }), outcome: vetting.Refused, codes: codes(vetting.ReasonWrongCode), evidence: wrong11},
	{name: "a revoked code", given: with(coded, func(f *vetting.Facts) { f.Code.Revoked = now }), outcome: vetting.Refused, codes: codes(vetting.ReasonCodeRevoked), evidence: misused11},
	{name: "an expired code", given: with(coded, func(f *vetting.Facts) { f.Code.Expires = now }), outcome: vetting.Refused, codes: codes(vetting.ReasonCodeExpired)},
	{name: "a code of another order", given: with(coded, func(f *vetting.Facts) { f.Code.OrderID = 8 }), outcome: vetting.Refused, codes: codes(vetting.ReasonCodeForeign), evidence: misused11},
	{name: "a code of another device", given: with(coded, func(f *vetting.Facts) { f.Code.DeviceID = 12 }), outcome: vetting.Refused, codes: codes(vetting.ReasonCodeForeign), evidence: misused11},
	{name: "a code of another order than the named device's", given: with(coded, func(f *vetting.Facts) { f.Named = []*vetting.Record{f.Record}; unknown(f) }), outcome: vetting.Refused, codes: codes(vetting.ReasonCodeForeign), evidence: misused11},
	{name: "a code of an order for an unknown device", given: with(coded, unknown), outcome: vetting.Refused, codes: codes(vetting.ReasonUnknownDevice), evidence: signs(vetting.EvidenceUnknownDevice, 0)},
	{name: "a code of an order for an unknown device, awaited", given: with(coded, codeOnly, awaited), outcome: vetting.Held, codes: codes(vetting.ReasonNoRecord)},
	{name: "a code of an order, and no name", given: with(coded, unknown, func(f *vetting.Facts) { f.Claim.Asserted = vetting.Identity{} }), outcome: vetting.Refused, codes: codes(vetting.ReasonUnnamed)},

	// A code is used once.
	{name: "a used code for an unknown device", given: with(coded, usedCode, unknown), outcome: vetting.Refused, codes: codes(vetting.ReasonCodeSpent), evidence: misused11},
	{name: "a used code for another device", given: with(coded, usedCode, func(f *vetting.Facts) { f.Code.UsedBy = 12 }), outcome: vetting.Refused, codes: codes(vetting.ReasonCodeSpent),
		evidence: signs(vetting.EvidenceMisusedCode, 12, vetting.EvidenceMisusedCode, 11)},
	{name: "same again by a code", given: with(issued, coded, usedCode, codeOnly), outcome: vetting.Admitted, codes: codes(vetting.ReasonRepeated), repeat: "21"},
	{name: "same again by a code that has expired and been revoked", given: with(issued, coded, usedCode, codeOnly, func(f *vetting.Facts) { f.Code.Expires, f.Code.Revoked = now, now }), outcome: vetting.Admitted, codes: codes(vetting.ReasonRepeated), repeat: "21"},
	{name: "same again by a code, now without the bound key", given: with(issued, coded, usedCode, codeOnly, boundKey), outcome: vetting.Admitted, codes: codes(vetting.ReasonRepeated), repeat: "21"},
	{name: "same again by a code, with another bootstrap key", given: with(issued, coded, usedCode, boundElse), outcome: vetting.Refused, codes: codes(vetting.ReasonBound), evidence: wrongKey},
	{name: "another key with a used code", given: with(issued, coded, usedCode, codeOnly, otherCSR), outcome: vetting.Refused, codes: codes(vetting.ReasonCodeSpent), evidence: misused11},
	{name: "another key with a used code, and a bootstrap key that is not bound", given: with(issued, coded, usedCode, otherCSR), outcome: vetting.Refused, codes: codes(vetting.ReasonCodeSpent), evidence: misused11},
	{name: "another key with a used code, and another bootstrap key", given: with(issued, coded, usedCode, otherCSR, boundElse), outcome: vetting.Refused, codes: codes(vetting.ReasonCodeSpent), evidence: misused11},
	{name: "another key with a used code by the bound bootstrap key", given: with(issued, coded, usedCode, otherCSR, boundKey), outcome: vetting.Admitted, codes: codes(vetting.ReasonReplaced)},
	{name: "another key with a used code by the listed bootstrap key", given: with(issued, coded, usedCode, otherCSR, listed), outcome: vetting.Admitted, codes: codes(vetting.ReasonReplaced)},
	{name: "server key with a used code", given: with(issued, coded, usedCode, codeOnly, serverKey), outcome: vetting.Refused, codes: codes(vetting.ReasonCodeSpent), evidence: misused11},
	{name: "server key with a used code by the bound bootstrap key", given: with(issued, coded, usedCode, boundKey, serverKey), outcome: vetting.Admitted, codes: codes(vetting.ReasonReplaced)},
	{name: "another code of the order before activation, same key", given: with(issued, coded, codeOnly), outcome: vetting.Admitted, codes: codes(vetting.ReasonRepeated), repeat: "21"},
	{name: "another code of the order before activation, another key", given: with(issued, coded, codeOnly, otherCSR), outcome: vetting.Refused, codes: codes(vetting.ReasonBound), evidence: misused11},
	{name: "another code made for the device before activation", given: with(issued, coded, codeOnly, otherCSR, ofDevice), outcome: vetting.Admitted, codes: codes(vetting.ReasonReplaced)},
	{name: "another code made for the device before activation, another bootstrap key", given: with(issued, coded, otherCSR, boundElse, ofDevice), outcome: vetting.Admitted, codes: codes(vetting.ReasonReplaced)},
	{name: "another code made for the device before activation, a rule refuses", given: with(issued, coded, codeOnly, otherCSR, ofDevice, ruled(vetting.Refused)), outcome: vetting.Refused, codes: codes(vetting.ReasonRule)},
	{name: "a used code after readmission", given: with(issued, coded, usedCode, codeOnly, afresh), outcome: vetting.Refused, codes: codes(vetting.ReasonCodeSpent), evidence: misused11},
	{name: "a used code after readmission by the bound bootstrap key", given: with(issued, coded, usedCode, boundKey, otherCSR, afresh), outcome: vetting.Admitted, codes: codes(vetting.ReasonReadmitted)},
	{name: "another code of the order after readmission", given: with(issued, coded, codeOnly, otherCSR, afresh), outcome: vetting.Refused, codes: codes(vetting.ReasonBound), evidence: misused11},
	{name: "another code made for the device after readmission", given: with(issued, coded, codeOnly, otherCSR, ofDevice, afresh), outcome: vetting.Admitted, codes: codes(vetting.ReasonReadmitted)},
	{name: "another code made for the device after readmission, a rule refuses", given: with(issued, coded, codeOnly, otherCSR, ofDevice, afresh, ruled(vetting.Refused)), outcome: vetting.Refused, codes: codes(vetting.ReasonRule)},
	{name: "a used code after activation", given: with(issued, coded, usedCode, boundKey, active), outcome: vetting.Refused, codes: codes(vetting.ReasonAlreadyActive), evidence: misused11},
	{name: "another code after activation", given: with(issued, coded, ofDevice, codeOnly, otherCSR, active), outcome: vetting.Refused, codes: codes(vetting.ReasonAlreadyActive), evidence: misused11},
	{name: "another key with a used code by a rig", given: with(issued, coded, usedCode, otherCSR, byRigWithCode), outcome: vetting.Refused, codes: codes(vetting.ReasonCodeSpent), evidence: misused11},
}

// An admission names the code that it uses up, and none where nothing is
// issued or the code was used before.
func TestAdmissionNamesTheCode(t *testing.T) {
	for _, tt := range codeJudgements {
		f := build(tt.given)
		a, ok := vetting.Judge(f).Admission()
		want := f.Code
		if !ok || f.Code != nil && !f.Code.Used.IsZero() {
			want = nil
		}
		if a.Code() != want {
			t.Errorf("%s: the admission names code %v, want %v", tt.name, a.Code(), want)
		}
	}
}

// Who guesses at codes is told the same whether the serial number is in a
// record or not; and who has no code that counts learns nothing of orders.
func TestCodesTellNothing(t *testing.T) {
	known := vetting.Judge(build(with(coded, guessed)))
	unknown := vetting.Judge(build(with(coded, guessed, func(f *vetting.Facts) { f.Named = nil })))
	if fmt.Sprint(known.Reasons) != fmt.Sprint(unknown.Reasons) {
		t.Errorf("a guess for a known device is told %v, for an unknown one %v", known.Reasons, unknown.Reasons)
	}
	for _, tt := range codeJudgements {
		v := vetting.Judge(build(tt.given))
		if vetting.CodeRefused(v.Reasons) && (len(v.Reasons[0].Values) > 0 || strings.Contains(v.Text(), "PO-1") || strings.Contains(v.Text(), "SN-1")) {
			t.Errorf("%s: %+v", tt.name, v.Reasons)
		}
	}
}
