package vetting_test

import (
	"testing"

	"github.com/touchmark/touchmark/vetting"
)

// byTPM: the device comes with the TPM that its record lists.
func byTPM(f *vetting.Facts) {
	f.Record.BootstrapKey, f.Record.Made.EKHash = vetting.Fingerprint{}, bootstrapKey.String()
	f.Product.Proofs = []vetting.Proof{vetting.ProofRig, vetting.ProofTPM}
	f.Claim.Auth.Proof, f.Claim.TPM = vetting.ProofTPM, &vetting.TPM{AK: "000b"}
}

// certified: the record lists no TPM, but it is one of a maker's, and comes
// from the site.
func certified(f *vetting.Facts) {
	byTPM(f)
	f.Record.Made.EKHash = ""
	f.Product.TPM.Makers = []vetting.Vendor{{Name: "maker"}}
	f.Claim.Auth.Vendor, f.OnSite = "maker", true
}

// namedTPM: records were found by the name alone, or several by the TPM.
func namedTPM(ekHashes ...string) change {
	return func(f *vetting.Facts) {
		byTPM(f)
		for i, hash := range ekHashes {
			f.Named = append(f.Named, &vetting.Record{ID: 11 + int64(i), Identity: f.Record.Identity, Made: vetting.Manufacturing{EKHash: hash}})
		}
		unknown(f)
	}
}

func onlyAttested(f *vetting.Facts) {
	f.Product.TPM.Attested = true
	f.Product.Proofs = append(f.Product.Proofs, vetting.ProofTPM)
}

var tpmJudgements = []judged{
	{name: "by the TPM that the record lists", given: with(byTPM), outcome: vetting.Admitted, codes: codes(vetting.ReasonVetted)},
	{name: "by a listed TPM with a maker's certificate", given: with(byTPM, func(f *vetting.Facts) {
		f.Product.TPM.Makers, f.Claim.Auth.Vendor = []vetting.Vendor{{Name: "maker"}}, "maker"
	}), outcome: vetting.Admitted, codes: codes(vetting.ReasonVetted)},
	{name: "by a listed TPM of an unknown maker", given: with(byTPM, func(f *vetting.Facts) {
		f.Product.TPM.Makers = []vetting.Vendor{{Name: "maker"}}
	}), outcome: vetting.Refused, codes: codes(vetting.ReasonVendor)},
	{name: "by a TPM, which the product does not accept", given: with(byTPM, func(f *vetting.Facts) {
		f.Product.Proofs = []vetting.Proof{vetting.ProofBootstrapKey}
	}), outcome: vetting.Refused, codes: codes(vetting.ReasonProof)},
	{name: "by a TPM, with another name", given: with(byTPM, func(f *vetting.Facts) { f.Claim.Asserted.Serial = "SN-9" }),
		outcome: vetting.Refused, codes: codes(vetting.ReasonMismatch), evidence: signs(vetting.EvidenceMismatch, 11)},
	{name: "by a maker's TPM from the site", given: with(certified), outcome: vetting.Admitted, codes: codes(vetting.ReasonVetted)},
	{name: "by a maker's TPM from elsewhere", given: with(certified, func(f *vetting.Facts) { f.OnSite = false }),
		outcome: vetting.Refused, codes: codes(vetting.ReasonOffSite), evidence: signs(vetting.EvidenceWrongSite, 11)},
	{name: "by the TPM that it came with before, from elsewhere", given: with(certified, issued, func(f *vetting.Facts) {
		f.OnSite, f.DeviceEK, f.EKHolder = false, bootstrapKey, 11
	}), outcome: vetting.Admitted, codes: codes(vetting.ReasonRepeated), repeat: "21"},
	{name: "by another TPM than before", given: with(certified, func(f *vetting.Facts) { f.DeviceEK = otherKey }),
		outcome: vetting.Refused, codes: codes(vetting.ReasonBound), evidence: signs(vetting.EvidenceWrongKey, 11)},
	{name: "by another device's TPM", given: with(byTPM, func(f *vetting.Facts) { f.EKHolder = 12 }),
		outcome: vetting.Refused, codes: codes(vetting.ReasonBound), evidence: signs(vetting.EvidenceDuplicateEK, 11, vetting.EvidenceDuplicateEK, 12)},
	{name: "by a TPM that neither the record nor a maker knows", given: with(certified, func(f *vetting.Facts) {
		f.Product.TPM.Makers = nil
	}), outcome: vetting.Refused, codes: codes(vetting.ReasonProof)},
	{name: "by a TPM that two records list", given: with(namedTPM(bootstrapKey.String(), bootstrapKey.String())),
		outcome: vetting.Refused, codes: codes(vetting.ReasonDisputed), evidence: signs(vetting.EvidenceDuplicateEK, 11, vetting.EvidenceDuplicateEK, 12)},
	{name: "by another TPM than the record lists", given: with(namedTPM(otherKey.String())),
		outcome: vetting.Refused, codes: codes(vetting.ReasonWrongKey), evidence: signs(vetting.EvidenceWrongKey, 11)},
	{name: "by a TPM, with a name in two products", given: with(namedTPM("", "")), outcome: vetting.Refused, codes: codes(vetting.ReasonWrongProduct)},
	{name: "by an unknown TPM", given: with(byTPM, unknown), outcome: vetting.Refused, codes: codes(vetting.ReasonUnknownDevice), evidence: signs(vetting.EvidenceUnknownDevice, 0)},
	{name: "a TPM that says what is not so", given: with(byTPM, func(f *vetting.Facts) { f.Claim.TPM.Untrue = "key.attestation is about another key" }),
		outcome: vetting.Refused, codes: codes(vetting.ReasonAttestation), evidence: signs(vetting.EvidenceAttestation, 11)},
	{name: "by a TPM, in service", given: with(byTPM, issued, func(f *vetting.Facts) { f.Device.State = vetting.DeviceActive }),
		outcome: vetting.Refused, codes: codes(vetting.ReasonBootstrapSpent), evidence: signs(vetting.EvidenceSpentKey, 11)},
	{name: "no TPM where only attested keys count", given: with(onlyAttested), outcome: vetting.Refused, codes: codes(vetting.ReasonNotAttested)},
	{name: "a TPM where only attested keys count", given: with(byTPM, onlyAttested), outcome: vetting.Admitted, codes: codes(vetting.ReasonVetted)},
	{name: "renewal on another key where only attested keys count", given: with(renewal, onlyAttested), outcome: vetting.Refused, codes: codes(vetting.ReasonNotAttested)},
	{name: "renewal on its key where only attested keys count", given: with(renewal, onlyAttested, func(f *vetting.Facts) { f.Claim.Key = officialKey }),
		outcome: vetting.Admitted, codes: codes(vetting.ReasonRenewed)},
	{name: "renewal on a key of the listed TPM", given: with(renewal, onlyAttested, anew(otherKey), listedTPM(otherKey)), outcome: vetting.Admitted, codes: codes(vetting.ReasonRenewed)},
	{name: "renewal on a key of the TPM that enrolled", given: with(renewal, onlyAttested, anew(otherKey), boundTPM(otherKey)), outcome: vetting.Admitted, codes: codes(vetting.ReasonRenewed)},
	{name: "renewal on a key of another TPM than is listed", given: with(renewal, onlyAttested, anew(otherKey), listedTPM(bootstrapKey)),
		outcome: vetting.Refused, codes: codes(vetting.ReasonBound), evidence: signs(vetting.EvidenceWrongKey, 11)},
	{name: "renewal on a key of another TPM than enrolled, where no TPM is wanted", given: with(renewal, anew(otherKey), boundTPM(bootstrapKey)),
		outcome: vetting.Refused, codes: codes(vetting.ReasonBound), evidence: signs(vetting.EvidenceWrongKey, 11)},
	{name: "renewal on a key of a TPM that nobody knows", given: with(renewal, onlyAttested, anew(otherKey)), outcome: vetting.Refused, codes: codes(vetting.ReasonProof)},
	{name: "renewal on a key that the TPM attests falsely", given: with(renewal, onlyAttested, anew(otherKey), listedTPM(otherKey), func(f *vetting.Facts) { f.Claim.TPM.Untrue = "it is another key" }),
		outcome: vetting.Refused, codes: codes(vetting.ReasonAttestation), evidence: signs(vetting.EvidenceAttestation, 11)},
	{name: "renewal of a revoked certificate on a key of its TPM", given: with(renewal, onlyAttested, anew(otherKey), listedTPM(otherKey), func(f *vetting.Facts) { f.Presented.State = vetting.CertificateRevoked }),
		outcome: vetting.Refused, codes: codes(vetting.ReasonCertificateEnded)},
}

// anew: a TPM attests the key of a renewal.
func anew(ek vetting.Fingerprint) change {
	return func(f *vetting.Facts) { f.Claim.TPM = &vetting.TPM{AK: "000b", EK: ek} }
}

func listedTPM(ek vetting.Fingerprint) change {
	return func(f *vetting.Facts) { f.Record.Made.EKHash = ek.String() }
}

func boundTPM(ek vetting.Fingerprint) change {
	return func(f *vetting.Facts) { f.DeviceEK = ek }
}

func TestTPMPolicyIsChecked(t *testing.T) {
	good := func() *vetting.Product {
		return &vetting.Product{Name: "lamp", Proofs: []vetting.Proof{vetting.ProofTPM}, TPM: vetting.TPMPolicy{Attested: true, PCRs: []int{0, 23}, Makers: []vetting.Vendor{{Name: "maker"}}}}
	}
	if err := good().Check(); err != nil {
		t.Errorf("a good policy: %v", err)
	}
	for name, spoil := range map[string]func(*vetting.Product){
		"attested without the proof": func(p *vetting.Product) { p.Proofs = []vetting.Proof{vetting.ProofRig} },
		"a register that is none":    func(p *vetting.Product) { p.TPM.PCRs = []int{0, 24} },
		"a negative register":        func(p *vetting.Product) { p.TPM.PCRs = []int{-1} },
		"a register twice":           func(p *vetting.Product) { p.TPM.PCRs = []int{7, 0, 7} },
		"a maker twice":              func(p *vetting.Product) { p.TPM.Makers = append(p.TPM.Makers, p.TPM.Makers[0]) },
		"a maker with name rules":    func(p *vetting.Product) { p.TPM.Makers[0].Serial = &vetting.NameRule{From: "subject.commonName"} },
		"a maker without a name":     func(p *vetting.Product) { p.TPM.Makers[0].Name = "" },
	} {
		p := good()
		spoil(p)
		if err := p.Check(); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
}
