package scope

import (
	"slices"

	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/vetting"
)

// mask leaves out of an object what only those may see who may read
// particulars. The object itself, which others may hold, stays as it is.
func mask[T any](v View, obj *T, hide func(*T)) *T {
	if obj == nil || v.op.May(access.ReadParticulars) {
		return obj
	}
	out := *obj
	hide(&out)
	return &out
}

// masked does the same with a list.
func masked[T any](v View, list []*T, hide func(*T)) []*T {
	if v.op.May(access.ReadParticulars) {
		return list
	}
	return each(list, hide)
}

func maskDevice(d *vetting.Device) {
	d.BootstrapKey, d.BoundKey = vetting.Fingerprint{}, vetting.Fingerprint{}
}

// maskOwner leaves out whom a device was sold to, which is no factory's
// affair.
func maskOwner(d *vetting.Device) { d.Owner, d.Transfer = "", 0 }

// maskEvidence leaves the kind, which says enough, and not the sentence, in
// which addresses, names and keys may stand.
func maskEvidence(e *vetting.Evidence) {
	e.Text = ""
	if e.Cleared != nil {
		e.Cleared = &vetting.Clearing{At: e.Cleared.At, Note: e.Cleared.Note}
	}
}

func maskChallenge(c *vetting.Challenge) { c.By = "" }

func maskRegistration(r *vetting.Registration) {
	c := &r.Claim
	r.Claim = vetting.Claim{At: c.At, Key: c.Key, ServerKey: c.ServerKey, Asserted: c.Asserted, Label: c.Label, Transport: c.Transport,
		Auth: vetting.Auth{Proof: c.Auth.Proof, Certificate: c.Auth.Certificate}}
	r.Reasons = slices.Clone(r.Reasons)
	for i := range r.Reasons {
		maskReason(&r.Reasons[i])
	}
	if r.Decision != nil {
		r.Decision = &vetting.Decision{Admit: r.Decision.Admit, At: r.Decision.At}
	}
}

// particular are the reasons in whose sentences names, addresses and keys
// stand.
var particular = []vetting.Code{
	vetting.ReasonUnknownDevice, vetting.ReasonNoRecord, vetting.ReasonWrongKey, vetting.ReasonBound, vetting.ReasonOffSite,
	vetting.ReasonWrongSite, vetting.ReasonKeyInUse, vetting.ReasonDisputed, vetting.ReasonContested,
	vetting.ReasonDecidedAdmt, vetting.ReasonDecidedRef, vetting.ReasonRule,
}

func maskReason(r *vetting.Reason) {
	if slices.Contains(particular, r.Code) {
		r.Text, r.Values = "", nil
	}
}

func maskHistory(h *vetting.History) {
	maskDevice(&h.Device)
	h.Record.BootstrapKey, h.Record.Made.Rig = vetting.Fingerprint{}, ""
	h.Registrations = each(h.Registrations, maskRegistration)
	h.Evidence = each(h.Evidence, maskEvidence)
	h.Tests = each(h.Tests, func(r *vetting.TestResult) { r.Rig = "" })
	h.Challenges = each(h.Challenges, maskChallenge)
	h.Sightings = slices.Clone(h.Sightings)
	for i := range h.Sightings {
		h.Sightings[i].Address, h.Sightings[i].Place = "", nil
	}
	h.Disputes = []*vetting.Dispute{}
}

// each hides something of copies of a list's entries.
func each[T any](list []*T, hide func(*T)) []*T {
	out := make([]*T, len(list))
	for i, obj := range list {
		c := *obj
		hide(&c)
		out[i] = &c
	}
	return out
}
