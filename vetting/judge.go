package vetting

import (
	"fmt"
	"slices"
	"time"
)

// Judge decides a claim by the facts. It is pure: the same facts give the
// same verdict at any time.
func Judge(f Facts) Verdict {
	j := &judgement{Facts: f}
	switch f.Claim.Auth.Proof {
	case ProofBootstrapKey, ProofIdentifiers, ProofCode, ProofRig, ProofVendor, ProofTPM, ProofAttestation, ProofDomain:
		return j.first()
	case ProofOfficial:
		return j.renewal()
	default:
		return j.refuse(ReasonNoProof, "The request was not authenticated: present the bootstrap certificate, the official certificate or a rig's certificate in the TLS handshake, or an enrolment code.")
	}
}

// judgement is one run of Judge: the facts and the evidence found so far.
type judgement struct {
	Facts
	evidence []Evidence
}

// first judges a request for a device's first certificate, or for the same
// again before activation.
func (j *judgement) first() Verdict {
	if j.Record == nil {
		if v, done := j.code(); done {
			return v
		}
		return j.unknown()
	}
	for _, step := range []func() (Verdict, bool){
		j.place, j.identity, j.code, j.binding, j.endorsement, j.attested, j.service, j.tested, j.serverKey, j.key,
	} {
		if v, done := step(); done {
			return v
		}
	}
	switch state := j.Device.State; {
	case j.Claim.Auth.Proof == ProofDomain && (state == DeviceIssued || state == DeviceActive):
		return j.proved()
	case state == DeviceIssued:
		return j.again()
	case j.Device.Readmitted():
		return j.readmitted()
	}
	if v, done := j.entitled(); done {
		return v
	}
	return j.vetted()
}

func (j *judgement) vetted() Verdict {
	v := j.admit(ReasonVetted, "The device is in the records of order %s and within its quota.", j.Order.Name)
	j.sayRules(v.Reasons[0].Values)
	return v
}

// sayRules notes which version of the product's rules judged.
func (j *judgement) sayRules(values map[string]string) {
	if j.Rules != nil {
		values["rulesVersion"] = fmt.Sprint(j.Product.RulesVersion)
	}
}

// unknown refuses a claim for which there is no record, and says why there
// is none.
func (j *judgement) unknown() Verdict {
	auth, asserted := j.Claim.Auth, j.Claim.Asserted
	switch {
	case j.Dispute != nil:
		for _, kind := range j.Dispute.Kinds {
			j.against(kind, 0, "A second unit that claims %s asked to be let in.", j.Dispute.Record.Identity)
			j.against(kind, j.Dispute.RecordID, "A second unit that claims %s asked to be let in.", j.Dispute.Record.Identity)
		}
		return j.refuse(ReasonDisputed, "Another record already holds the identity or key of this device (%s). Set the unit aside; the planner sees both records as evidence.", j.Dispute.Record.Identity)
	case len(j.Named) > 0 && auth.Proof == ProofBootstrapKey && !slices.ContainsFunc(j.Named, func(r *Record) bool { return !r.BootstrapKey.IsZero() }):
		return j.refuse(ReasonProof, "The record of %s lists no bootstrap key, so the device cannot speak for itself: a rig has to register it.", asserted)
	case auth.Proof == ProofDomain && len(j.Named) == 0:
		return j.refuse(ReasonUnknownDevice, "There is no record of %s: the first certificate for a name takes an ACME account for the order that it belongs to.", asserted.Serial)
	case (auth.Proof == ProofAttestation || auth.Proof == ProofDomain) && len(j.Named) > 0:
		return j.refuse(ReasonWrongProduct, "Several records fit %s: use an ACME account for the order.", asserted)
	case auth.Proof == ProofVendor && auth.Vendor == "":
		return j.refuse(ReasonVendor, "The request was addressed to product %s, which trusts no vendor that the device's certificate chains to.", j.Claim.Label)
	case len(j.Named) > 1 && auth.Proof == ProofVendor && !slices.ContainsFunc(j.Named, func(r *Record) bool { return !r.BootstrapKey.IsZero() }):
		return j.refuse(ReasonWrongProduct, "Several products have a record that fits the certificate (%s): address the request to the product, by its name as the label in the path.", j.requester())
	case len(j.Named) > 0 && auth.Proof == ProofTPM:
		return j.unknownTPM()
	case len(j.Named) > 0 && (auth.Proof == ProofBootstrapKey || auth.Proof == ProofVendor):
		for _, r := range j.Named {
			j.against(EvidenceWrongKey, r.ID, "A device that calls itself %s came with the key %s instead of %s.", asserted, auth.Key, r.BootstrapKey)
		}
		return j.refuse(ReasonWrongKey, "There is a record of %s, but with another bootstrap key. Either the record is wrong or this is not the device it describes.", asserted)
	case j.awaited():
		if p := j.Pending; p != nil && p.Decision != nil && !p.Decision.Admit {
			return j.turnedAway(*p.Decision)
		}
		return Verdict{Outcome: Held, Evidence: j.evidence, Reasons: []Reason{j.reason(ReasonNoRecord,
			"No manufacturing record fits this device yet (%s). It is let in when the manifest that lists it is handed in.", j.requester())}}
	default:
		j.against(EvidenceUnknownDevice, 0, "%s is in no record.", j.requester())
		return j.refuse(ReasonUnknownDevice, "No manufacturing record fits this device (%s). Hand in the manifest that lists it, then try again.", j.requester())
	}
}

// requester is what a claim without a record is known by.
func (j *judgement) requester() string {
	auth := j.Claim.Auth
	if auth.Key.IsZero() {
		return fmt.Sprintf("%s, code %d", j.Claim.Asserted, auth.Code)
	}
	return fmt.Sprintf("%s, key %s", j.Claim.Asserted, auth.Key)
}

// awaited reports whether a device without a record may wait for one: for as
// long as its product says, from when it first asked.
func (j *judgement) awaited() bool {
	if j.Product == nil {
		return false
	}
	proof := j.Claim.Auth.Proof
	if !j.Product.Accepts(proof) && !(proof == ProofBootstrapKey && j.Product.Accepts(ProofIdentifiers)) {
		return false
	}
	since := j.Now
	if j.Pending != nil {
		since = j.Pending.At
	}
	return j.Now.Sub(since) < j.Product.Awaits()
}

// place checks that the claim came through the right door: the record's
// site, product and an accepted proof.
func (j *judgement) place() (Verdict, bool) {
	auth := j.Claim.Auth
	if auth.Proof == ProofRig && auth.Site != j.Order.Site {
		j.against(EvidenceWrongSite, j.Record.ID, "Rig %s of site %s tried to register %s, which was built for site %s.", auth.Operator, auth.Site, j.Record.Identity, j.Order.Site)
		v := j.refuse(ReasonWrongSite, "Rig %s belongs to site %s, but the device was built for another site.", auth.Operator, auth.Site)
		v.Reasons[0].Values = nil // another site's order is not the rig's to see
		return v, true
	}
	if v, done := j.scope(); done {
		return v, true
	}
	if label := j.Claim.Label; label != "" && label != j.Product.Name {
		return j.refuse(ReasonWrongProduct, "The request was addressed to product %s, but the device is recorded as another product.", label), true
	}
	if !j.Product.Accepts(auth.Proof) {
		return j.refuse(ReasonProof, "Product %s does not accept the proof %q.", j.Product.Name, auth.Proof), true
	}
	if auth.Proof == ProofDomain {
		if err := j.Product.Domains.Allow(j.Record.Serial); err != nil {
			return j.refuse(ReasonMismatch, "Product %s: %v.", j.Product.Name, err), true
		}
	}
	if (auth.Proof == ProofVendor || auth.Proof == ProofAttestation) && auth.Vendor == "" {
		return j.refuse(ReasonVendor, "Product %s trusts no vendor that the device's certificate chains to.", j.Product.Name), true
	}
	return Verdict{}, false
}

// scope checks that the ACME account speaks for the device's order and site.
func (j *judgement) scope() (Verdict, bool) {
	auth := j.Claim.Auth
	code, what, mine := ReasonWrongOrder, "order", auth.Order
	switch {
	case auth.Account == 0:
		return Verdict{}, false
	case auth.Order != "" && auth.Order != j.Order.Name:
	case auth.Site != "" && auth.Site != j.Order.Site:
		code, what, mine = ReasonWrongSite, "site", auth.Site
	default:
		return Verdict{}, false
	}
	j.against(EvidenceWrongSite, j.Record.ID, "ACME account %d, which is for %s %s, asked for a certificate for %s of order %s, which was built for site %s.", auth.Account, what, mine, j.Record.Identity, j.Order.Name, j.Order.Site)
	v := j.refuse(code, "The ACME account is for the devices of %s %s, and this is none of them.", what, mine)
	v.Reasons[0].Values = nil // another order is not the account's to see
	return v, true
}

// identity checks that what the requester calls the device fits its record.
func (j *judgement) identity() (Verdict, bool) {
	for _, f := range [...]struct{ field, claimed, recorded string }{
		{"serial", j.Claim.Asserted.Serial, j.Record.Serial},
		{"mac", j.Claim.Asserted.MAC, j.Record.MAC},
		{"uid", j.Claim.Asserted.UID, j.Record.UID},
	} {
		if f.claimed != "" && f.claimed != f.recorded {
			j.against(EvidenceMismatch, j.Record.ID, "The request names %s %q, the record %q.", f.field, f.claimed, f.recorded)
			return j.refuse(ReasonMismatch, "The request names %s %q, but the record of this device has %q.", f.field, f.claimed, f.recorded), true
		}
	}
	return Verdict{}, false
}

// binding checks a claim that does not rest on the bootstrap key alone. One by
// identifiers must first come from the site, later ones by the same key. So
// must one by a vendor's certificate, which may come from anywhere. One
// by a code may come with no bootstrap key, but not with a wrong one; only a
// new code made for this very device lets it have another than before.
func (j *judgement) binding() (Verdict, bool) {
	auth := j.Claim.Auth
	switch listed, bound := j.Record.BootstrapKey, j.Device.BoundKey; {
	case auth.Proof != ProofIdentifiers && auth.Proof != ProofCode && auth.Proof != ProofVendor, bound == auth.Key:
		return Verdict{}, false
	case auth.Proof == ProofVendor && (auth.Key == listed || bound.IsZero()):
		return Verdict{}, false
	case auth.Proof == ProofCode && !listed.IsZero() && !auth.Key.IsZero() && auth.Key != listed:
		j.against(EvidenceWrongKey, j.Record.ID, "A device that calls itself %s came with the key %s instead of %s.", j.Record.Identity, auth.Key, listed)
		return j.refuse(ReasonWrongKey, "There is a record of %s, but with another bootstrap key. Either the record is wrong or this is not the device it describes.", j.Record.Identity), true
	case auth.Proof == ProofCode && (bound.IsZero() || auth.Key.IsZero() || j.fresh() != nil && j.fresh().DeviceID != 0):
		return Verdict{}, false
	case !bound.IsZero():
		j.against(EvidenceWrongKey, j.Record.ID, "A second device that calls itself %s came with the key %s; the first had %s.", j.Record.Identity, auth.Key, bound)
		return j.refuse(ReasonBound, "Another device has claimed the identity %s already, with another bootstrap key. One of the two is a copy.", j.Record.Identity), true
	case !j.OnSite:
		j.against(EvidenceWrongSite, j.Record.ID, "It asked from %s, which is not in the networks of site %s.", j.Claim.Remote, j.Order.Site)
		return j.refuse(ReasonOffSite, "The device may first enrol from the networks of its site only, and %s is not one of them.", j.Claim.Remote), true
	}
	return Verdict{}, false
}

// served checks that the device may be given certificates at all.
func (j *judgement) served() (Verdict, bool) {
	switch state := j.Device.State; {
	case !state.InService():
		return j.refuse(ReasonNotInService, "The device is %s and gets no certificate.", state), true
	case j.Owner != nil && j.Owner.Name == Elsewhere:
		return j.refuse(ReasonNotInService, "The device belongs to an owner elsewhere and gets no certificate here."), true
	}
	return Verdict{}, false
}

// service checks the device's state.
func (j *judgement) service() (Verdict, bool) {
	if v, done := j.served(); done {
		return v, true
	}
	switch {
	case j.Device.State != DeviceActive, j.Claim.Auth.Proof == ProofDomain:
		return Verdict{}, false
	case j.Claim.Auth.Proof == ProofCode:
		j.against(EvidenceMisusedCode, j.Record.ID, "Code %d was presented for it when it was in service, from %s.", j.Code.ID, j.Claim.Remote)
		return j.refuse(ReasonAlreadyActive, "The device %s is already in service, and a code is for the first enrolment only; it renews with its own certificate. If the device lost its official key, ask the OEM.", j.Record.Serial), true
	case j.Claim.Auth.Proof == ProofRig:
		return j.refuse(ReasonAlreadyActive, "The device %s is already in service; it renews with its own certificate.", j.Record.Serial), true
	default:
		what := "bootstrap key"
		switch j.Claim.Auth.Proof {
		case ProofVendor:
			what = "vendor's certificate"
		case ProofTPM:
			what = "TPM's word"
		case ProofAttestation:
			what = "attestation"
		}
		j.against(EvidenceSpentKey, j.Record.ID, "The %s of %s was used after activation, from %s.", what, j.Record.Identity, j.Claim.Remote)
		return j.refuse(ReasonBootstrapSpent, "The device %s is already in service, so its %s no longer counts. If the device lost its official key, ask the OEM.", j.Record.Serial, what), true
	}
}

// tested checks that a rig has not found the unit bad.
func (j *judgement) tested() (Verdict, bool) {
	if !j.Device.Failed() {
		return Verdict{}, false
	}
	next := "It is let in when it passes a later test."
	if j.Device.State == DeviceIssued {
		next = "It has a certificate already: replace the unit, or let it pass a later test."
	}
	return j.refuse(ReasonFailed, "The unit %s. %s", j.Device.Test.Text(), next), true
}

// serverKey checks that the server may make the key, if it is asked to.
func (j *judgement) serverKey() (Verdict, bool) {
	asked := j.Claim.ServerKey
	switch {
	case asked == "" || j.Product.MakesKeys(asked):
		return Verdict{}, false
	case j.Product.MakesKeys(ServerKeysEncrypted):
		return j.refuse(ReasonServerKey, "For product %s the server sends a private key only encrypted: name the key to encrypt it to by an AsymmetricDecryptKeyIdentifier in the request (RFC 7030 §4.4.1.2).", j.Product.Name), true
	default:
		return j.refuse(ReasonServerKey, "For product %s the server makes no private keys: make the key on the device, or ask the planner.", j.Product.Name), true
	}
}

// key checks that the key to be certified is nobody else's, and known to none.
func (j *judgement) key() (Verdict, bool) {
	if j.KeyCompromised {
		return j.refuse(ReasonKeyInUse, "The key %s was revoked as compromised: the device has to make another.", j.Claim.Key), true
	}
	if j.KeyHolder == 0 {
		return Verdict{}, false
	}
	j.against(EvidenceDuplicateKey, j.Record.ID, "It asked for a certificate on the key %s, which device %d holds.", j.Claim.Key, j.KeyHolder)
	j.against(EvidenceDuplicateKey, j.KeyHolder, "Device %d (%s) asked for a certificate on this device's key %s.", j.Record.ID, j.Record.Identity, j.Claim.Key)
	return j.refuse(ReasonKeyInUse, "The key %s already belongs to another device: each device needs a key of its own.", j.Claim.Key), true
}

// again handles a device that has a certificate it never used: the same key
// gets the same certificate, a new key replaces it. Neither takes a unit.
func (j *judgement) again() Verdict {
	if j.Order.State == OrderCancelled {
		return j.refuse(ReasonOrderCancelled, "Order %s was cancelled.", j.Order.Name)
	}
	switch {
	case j.Current != nil && j.Current.State != CertificateValid:
		return j.refuse(ReasonCertificateEnded, "The device's certificate %s is %s: it gets another when an administrator readmits it.", j.Current.Serial, j.Current.State)
	case j.Current == nil || j.Current.Key != j.Claim.Key:
		return j.replace()
	case !j.Now.Before(j.Current.NotAfter):
		return j.admit(ReasonReplaced, "The device came back after its first certificate ran out unused, at %s; it gets another.", stamp(j.Current.NotAfter))
	}
	v := j.admit(ReasonRepeated, "The device asked again before activation and gets the same certificate.")
	v.admission.repeat = j.Current
	return v
}

// replace gives a device that has not used its certificate another on a new
// key. If another record claims the same identity by now, whose new key that
// is takes a person to tell.
func (j *judgement) replace() Verdict {
	if refusal := j.barred(); refusal != nil {
		return *refusal
	}
	admit := func() Verdict {
		return j.admit(ReasonReplaced, "The device came back with a new key before activation; its earlier certificate is superseded.")
	}
	if !j.Record.Contested {
		return admit()
	}
	return j.asked(j.contested(), admit)
}

// entitled checks what a new unit needs: an open order, its window, its
// quota, an uncontested record, or a person's word where that is enough.
func (j *judgement) entitled() (Verdict, bool) {
	switch o := j.Order; o.State {
	case OrderClosed:
		return j.refuse(ReasonOrderClosed, "Order %s is closed.", o.Name), true
	case OrderCancelled:
		return j.refuse(ReasonOrderCancelled, "Order %s was cancelled.", o.Name), true
	}
	if end := j.Order.NotAfter; !end.IsZero() && !j.Now.Before(end) {
		j.against(EvidenceOutOfWindow, j.Record.ID, "It asked to be let in after the window of order %s ended at %s.", j.Order.Name, stamp(end))
		return j.refuse(ReasonTooLate, "The window of order %s ended at %s.", j.Order.Name, stamp(end)), true
	}
	if j.Order.Left() <= 0 {
		j.against(EvidenceOverQuota, j.Record.ID, "It is one more than the %d units of order %s%s.", j.Order.Quantity, j.Order.Name, j.Order.wasted())
		return j.refuse(ReasonQuota, "All %d units of order %s are used up%s: this device is over-production unless the planner raises the order.", j.Order.Quantity, j.Order.Name, j.Order.wasted()), true
	}
	reasons, refusal := j.rules()
	if refusal != nil {
		return *refusal, true
	}
	reasons = append(j.holds(), reasons...)
	decided := j.Pending != nil && j.Pending.Decision != nil
	if decided && j.Pending.Decision.Admit && j.unopened() {
		decided = false // one person's word does not take the place of others' approvals
	}
	switch {
	case decided && (len(reasons) > 0 || !j.Pending.Decision.Admit):
		// A refusal stands even when what held the device is gone.
		return j.decided(*j.Pending.Decision)
	case len(reasons) == 0:
		return Verdict{}, false
	}
	return Verdict{Outcome: Held, Reasons: reasons, Evidence: j.evidence}, true
}

// rules collects the rules that hold the device, or refuses by those that
// refuse. A person's word lifts what holds, never what refuses.
func (j *judgement) rules() (holds []Reason, refusal *Verdict) {
	if j.Rules == nil {
		return nil, nil
	}
	var refuses []Reason
	for _, b := range j.Rules.Broken(&j.Facts) {
		r := j.ruled(b)
		if b.Rule.Otherwise == Refused {
			refuses = append(refuses, r)
		} else {
			holds = append(holds, r)
		}
	}
	if len(refuses) == 0 {
		return holds, nil
	}
	return nil, &Verdict{Outcome: Refused, Reasons: refuses, Evidence: j.evidence}
}

func (j *judgement) ruled(b BrokenRule) Reason {
	r := j.reason(ReasonRule, "%s", b.Text(j.Product.Name, j.Product.RulesVersion))
	r.Values["rule"], r.Values["expression"] = b.Rule.Name, b.Rule.Expression
	for name, value := range b.Values {
		r.Values[name] = value
	}
	j.sayRules(r.Values)
	return r
}

// unopened reports whether the order waits until others agree to it.
func (j *judgement) unopened() bool {
	return j.Order.State != OrderOpen && j.Order.Unapproved(j.Product.Approvals) > 0
}

// holds collects what keeps an entitled device waiting.
func (j *judgement) holds() (reasons []Reason) {
	o := j.Order
	switch {
	case o.State == OrderDraft && j.unopened():
		reasons = append(reasons, j.reason(ReasonOrderDraft, "Order %s is still a draft: the device is let in when others have approved that it opens.", o.Name))
	case o.State == OrderDraft:
		reasons = append(reasons, j.reason(ReasonOrderDraft, "Order %s is still a draft: the device is let in when the planner opens it.", o.Name))
	case o.State == OrderPaused:
		reasons = append(reasons, j.reason(ReasonOrderPaused, "Order %s is paused: the device is let in when the planner opens it again.", o.Name))
	}
	if limit := o.Limits.Exceeded(j.Counters); limit != "" {
		reasons = append(reasons, j.reason(ReasonPace, "Order %s issues at most %s, and they are used up for now: the device is let in later.", o.Name, limit))
	}
	if begin := o.NotBefore; !begin.IsZero() && j.Now.Before(begin) {
		j.against(EvidenceOutOfWindow, j.Record.ID, "It asked to be let in before the window of order %s begins at %s.", o.Name, stamp(begin))
		reasons = append(reasons, j.reason(ReasonTooEarly, "The window of order %s begins at %s.", o.Name, stamp(begin)))
	}
	if j.Record.Contested {
		reasons = append(reasons, j.contested())
	}
	return reasons
}

func (j *judgement) contested() Reason {
	return j.reason(ReasonContested, "Another record claims the same identity or key (%s): a person must decide which unit is genuine.", j.Record.Identity)
}

// decided applies a person's word. It lifts a hold, never a quota.
func (j *judgement) decided(d Decision) (Verdict, bool) {
	if !d.Admit {
		return j.turnedAway(d), true
	}
	v := j.vetted()
	v.Reasons = append(v.Reasons, j.letIn(d))
	return v, true
}

func (j *judgement) turnedAway(d Decision) Verdict {
	return j.refuse(ReasonDecidedRef, "%s refused this device: %s", d.By, d.Note)
}

func (j *judgement) letIn(d Decision) Reason {
	return j.reason(ReasonDecidedAdmt, "%s let it in: %s", d.By, d.Note)
}

func (j *judgement) admit(kind Code, format string, args ...any) Verdict {
	return Verdict{
		Outcome:  Admitted,
		Reasons:  []Reason{j.reason(kind, format, args...)},
		Evidence: j.evidence,
		admission: Admission{
			granted: true, kind: kind, key: j.Claim.Key,
			product: j.Product, order: j.Order, record: j.Record, device: j.Device, code: j.fresh(), owner: j.Owner,
		},
	}
}

func (j *judgement) refuse(code Code, format string, args ...any) Verdict {
	return Verdict{Outcome: Refused, Reasons: []Reason{j.reason(code, format, args...)}, Evidence: j.evidence}
}

// reason makes a reason with the values that a program may want.
func (j *judgement) reason(code Code, format string, args ...any) Reason {
	values := map[string]string{}
	if o := j.Order; o != nil {
		values["order"] = o.Name
		values["quantity"] = fmt.Sprint(o.Quantity)
	}
	if r := j.Record; r != nil {
		values["serial"] = r.Serial
	}
	return Reason{Code: code, Text: fmt.Sprintf(format, args...), Values: values}
}

func (j *judgement) against(kind EvidenceKind, deviceID int64, format string, args ...any) {
	j.evidence = append(j.evidence, Evidence{At: j.Now, Kind: kind, DeviceID: deviceID, Text: fmt.Sprintf(format, args...)})
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
