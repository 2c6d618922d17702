package vetting_test

import "github.com/touchmark/touchmark/vetting"

// byAttestation: the device's hardware attested its key over ACME, by an
// account for its order.
func byAttestation(f *vetting.Facts) {
	f.Record.BootstrapKey = vetting.Fingerprint{}
	f.Product.Proofs = []vetting.Proof{vetting.ProofAttestation}
	f.Claim.Auth.Proof, f.Claim.Auth.Vendor, f.Claim.Auth.Account, f.Claim.Auth.Order = vetting.ProofAttestation, "chips", 7, f.Order.Name
}

var attestationJudgements = []judged{
	{name: "by an attestation", given: with(byAttestation), outcome: vetting.Admitted, codes: codes(vetting.ReasonVetted)},
	{name: "by an attestation that the product does not trust", given: with(byAttestation, func(f *vetting.Facts) { f.Claim.Auth.Vendor = "" }),
		outcome: vetting.Refused, codes: codes(vetting.ReasonVendor)},
	{name: "by an account for another order", given: with(byAttestation, func(f *vetting.Facts) { f.Claim.Auth.Order = "PO-9" }),
		outcome: vetting.Refused, codes: codes(vetting.ReasonWrongOrder), evidence: signs(vetting.EvidenceWrongSite, 11)},
	{name: "by an account for another site", given: with(byAttestation, func(f *vetting.Facts) { f.Claim.Auth.Order, f.Claim.Auth.Site = "", "elsewhere" }),
		outcome: vetting.Refused, codes: codes(vetting.ReasonWrongSite), evidence: signs(vetting.EvidenceWrongSite, 11)},
	{name: "by an attestation, in service", given: with(byAttestation, issued, func(f *vetting.Facts) { f.Device.State = vetting.DeviceActive }),
		outcome: vetting.Refused, codes: codes(vetting.ReasonBootstrapSpent), evidence: signs(vetting.EvidenceSpentKey, 11)},
}
