package vetting

import (
	"errors"
	"fmt"
	"slices"
)

// TPM is what a TPM said of itself, signed by a key that was shown to be its
// own, and what its maker's certificate says of it. The endorsement key itself
// is the claim's Auth.Key, but for a renewal: that has the certificate's.
type TPM struct {
	// EK is the endorsement key of the TPM that attests a renewal's key.
	EK Fingerprint `json:"ek,omitzero"`
	// AK is the Name of the attestation key, in hex.
	AK string `json:"ak"`
	// Manufacturer, Model and Version are those in the EK certificate's
	// subjectAltName, such as "id:49465800"; "" without one.
	Manufacturer string `json:"manufacturer,omitempty"`
	Model        string `json:"model,omitempty"`
	Version      string `json:"version,omitempty"`
	// Firmware is the firmwareVersion of the TPM's statements, in hex. TPMs
	// hide it where the attestation key is not of the endorsement hierarchy.
	Firmware string `json:"firmware,omitempty"`
	// PCRs are the values of the registers of the SHA-256 bank that were
	// quoted, in hex, by their number.
	PCRs map[string]string `json:"pcrs,omitempty"`
	// Untrue says what of the statements is not so; "" if they are good.
	// Otherwise there is no firmware version, and no register.
	Untrue string `json:"untrue,omitempty"`
}

// TPMPolicy is how a product takes TPMs.
type TPMPolicy struct {
	// Makers are those whose EK certificates count; they have no name rules.
	// With none, an endorsement key counts that the record lists, and no
	// other.
	Makers []Vendor `json:"makers,omitempty"`
	// Attested wants every key that is certified to be one that a TPM attested:
	// the proof must be tpm, and a renewal is on the same key, or on one that
	// the device's TPM attests anew.
	Attested bool `json:"attested,omitempty"`
	// PCRs are the registers of the SHA-256 bank that a quote should hold, for
	// rules to judge; with none, they are DefaultPCRs.
	PCRs []int `json:"pcrs,omitempty"`
	// AttestationCA trusts the attestation keys that this server's own
	// attestation CA certified, where the product accepts ProofAttestation.
	AttestationCA bool `json:"attestationCA,omitempty"`
}

// MostPCRs is how many registers a TPM for a PC has (TCG PC Client Platform
// TPM Profile §4.6).
const MostPCRs = 24

// DefaultPCRs are the registers that the firmware of a machine and its
// configuration are measured into (TCG PC Client Platform Firmware Profile
// §3.3.4).
func DefaultPCRs() []int { return []int{0, 1, 2, 3, 4, 5, 6, 7} }

// Quoted are the registers that a quote should hold.
func (p TPMPolicy) Quoted() []int {
	if len(p.PCRs) == 0 {
		return DefaultPCRs()
	}
	return p.PCRs
}

func (p TPMPolicy) checkPCRs() error {
	for i, n := range p.PCRs {
		if n < 0 || n >= MostPCRs {
			return fmt.Errorf("there is no register (PCR) %d: want 0 to %d", n, MostPCRs-1)
		}
		if slices.Contains(p.PCRs[:i], n) {
			return fmt.Errorf("register (PCR) %d is named twice", n)
		}
	}
	return nil
}

func (p *Product) checkTPM() error {
	switch {
	case p.TPM.Attested && !p.Accepts(ProofTPM):
		return errNotAttested
	case p.TPM.AttestationCA && !p.Accepts(ProofAttestation):
		return errNoAttestation
	}
	return p.TPM.check()
}

func (p TPMPolicy) check() error {
	if err := p.checkPCRs(); err != nil {
		return err
	}
	if err := checkVendors(p.Makers); err != nil {
		return err
	}
	for _, m := range p.Makers {
		if m.Serial != nil || m.MAC != nil || m.UID != nil {
			return fmt.Errorf("maker %q has name rules: an EK certificate names no device", m.Name)
		}
	}
	return nil
}

var (
	errNotAttested   = errors.New("attested is set, but the proof tpm is not accepted: no device could ever enrol")
	errNoAttestation = errors.New("attestationCA is set, but the proof attestation is not accepted: accept it, too")
)

// endorsement checks that the claim's endorsement key is this device's: the
// record lists it, or it is a trusted maker's and was bound to the device when
// that came first, from its site. One endorsement key is one device.
func (j *judgement) endorsement() (Verdict, bool) {
	auth := j.Claim.Auth
	if auth.Proof != ProofTPM {
		return Verdict{}, false
	}
	listed, bound := j.Record.Made.EKHash, j.DeviceEK
	switch {
	case len(j.Product.TPM.Makers) > 0 && auth.Vendor == "":
		return j.refuse(ReasonVendor, "Product %s trusts no maker that the TPM's EK certificate chains to. The device must send the certificate of its endorsement key, and the planner must trust its maker.", j.Product.Name), true
	case j.EKHolder != 0 && j.EKHolder != j.Record.ID:
		j.against(EvidenceDuplicateEK, j.Record.ID, "It came with the TPM of device %d (endorsement key %s).", j.EKHolder, auth.Key)
		j.against(EvidenceDuplicateEK, j.EKHolder, "Device %d (%s) came with this device's TPM (endorsement key %s).", j.Record.ID, j.Record.Identity, auth.Key)
		return j.refuse(ReasonBound, "The TPM with the endorsement key %s belongs to another device already.", auth.Key), true
	case !bound.IsZero() && bound != auth.Key:
		j.against(EvidenceWrongKey, j.Record.ID, "A second device that calls itself %s came with the endorsement key %s; the first had %s.", j.Record.Identity, auth.Key, bound)
		return j.refuse(ReasonBound, "Another device has claimed the identity %s already, with another TPM. One of the two is a copy.", j.Record.Identity), true
	case listed != "" || !bound.IsZero():
		return Verdict{}, false // found by it, or bound to it
	case len(j.Product.TPM.Makers) == 0:
		return j.refuse(ReasonProof, "The record of %s lists no endorsement key, and product %s trusts no maker of TPMs: nothing tells that this is the device's TPM.", j.Record.Identity, j.Product.Name), true
	case !j.OnSite:
		j.against(EvidenceWrongSite, j.Record.ID, "It asked from %s, which is not in the networks of site %s.", j.Claim.Remote, j.Order.Site)
		return j.refuse(ReasonOffSite, "A device whose record lists no endorsement key may first enrol from the networks of its site only, and %s is not one of them.", j.Claim.Remote), true
	}
	return Verdict{}, false
}

// attested checks that the TPM's statements are true, and that there are some
// where the product wants them.
func (j *judgement) attested() (Verdict, bool) {
	switch tpm := j.Claim.TPM; {
	case tpm == nil && j.Product.TPM.Attested:
		return j.refuse(ReasonNotAttested, "Product %s certifies only keys that a TPM attested: enrol with the proof tpm.", j.Product.Name), true
	case tpm != nil && tpm.Untrue != "":
		return j.untrue(j.Claim.Auth.Key), true
	}
	return Verdict{}, false
}

// attestedAnew holds a renewal to its key, or to one that the device's TPM
// attests with it, where keys must be attested; and what a TPM says with a
// renewal must be true, and that TPM the device's, wherever it is said.
func (j *judgement) attestedAnew() (Verdict, bool) {
	tpm := j.Claim.TPM
	switch listed, bound := j.Record.Made.EKHash, j.DeviceEK; {
	case tpm == nil && (!j.Product.TPM.Attested || j.Claim.Key == j.Presented.Key):
		return Verdict{}, false
	case tpm == nil:
		return j.refuse(ReasonNotAttested, "Product %s certifies only keys that a TPM attested, so the certificate %s renews on its own key only, or by the exchange in which the TPM attests the new one.", j.Product.Name, j.Presented.Serial), true
	case bound.IsZero() && listed == "":
		return j.refuse(ReasonProof, "No endorsement key is known of %s: nothing tells that this is the device's TPM. Renew without it.", j.Record.Identity), true
	case !bound.IsZero() && bound != tpm.EK, listed != "" && listed != tpm.EK.String():
		j.against(EvidenceWrongKey, j.Record.ID, "It came to renew with its official key and the TPM of another device (endorsement key %s), from %s.", tpm.EK, j.Claim.Remote)
		return j.refuse(ReasonBound, "The TPM with the endorsement key %s is not the device's.", tpm.EK), true
	case tpm.Untrue != "":
		return j.untrue(tpm.EK), true
	}
	return Verdict{}, false
}

// untrue refuses what a TPM said.
func (j *judgement) untrue(ek Fingerprint) Verdict {
	said := j.Claim.TPM.Untrue
	j.against(EvidenceAttestation, j.Record.ID, "Its TPM (endorsement key %s) came with a statement that is not true, from %s: %s.", ek, j.Claim.Remote, said)
	return j.refuse(ReasonAttestation, "The TPM's statement is not true: %s.", said)
}

// unknownTPM refuses a TPM that no one record is found by.
func (j *judgement) unknownTPM() Verdict {
	key := j.Claim.Auth.Key
	for _, r := range j.Named {
		switch r.Made.EKHash {
		case "":
			return j.refuse(ReasonWrongProduct, "Several products have a record of %s: address the request to the product by its name.", j.Claim.Asserted)
		case key.String():
			j.against(EvidenceDuplicateEK, r.ID, "Its TPM (endorsement key %s) is listed for %d devices.", key, len(j.Named))
		default:
			j.against(EvidenceWrongKey, r.ID, "A device that calls itself %s came with the endorsement key %s instead of %s.", j.Claim.Asserted, key, r.Made.EKHash)
		}
	}
	if j.Named[0].Made.EKHash == key.String() {
		return j.refuse(ReasonDisputed, "Several records list the TPM with the endorsement key %s: one of them is wrong. Set the unit aside; the planner sees the records as evidence.", key)
	}
	return j.refuse(ReasonWrongKey, "There is a record of %s, but with another TPM. Either the record is wrong or this is not the device it describes.", j.Claim.Asserted)
}
