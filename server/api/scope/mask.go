package scope

import (
	"slices"
	"time"

	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/vetting"
)

// mask leaves out of an object what only those may see who may read
// particulars. The object itself, which others may hold, stays as it is.
func mask[T any](v View, obj *T, hide func(*T)) *T {
	if v.op.May(access.ReadParticulars) {
		return obj
	}
	return hiding(obj, hide)
}

// hiding hides something of a copy.
func hiding[T any](obj *T, hide func(*T)) *T {
	if obj == nil {
		return nil
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

// device is a device as the operator sees it.
func (v View) device(d *vetting.Device) *vetting.Device { return hiding(d, v.maskDevice) }

// maskDevice leaves out whom a device was sold to, which is no factory's
// affair, and how it was made, which is no owner's.
func (v View) maskDevice(d *vetting.Device) {
	if !v.op.May(access.ReadParticulars) {
		d.BootstrapKey, d.BoundKey = vetting.Fingerprint{}, vetting.Fingerprint{}
	}
	if v.op.Role.OfSite() {
		d.Owner, d.Owned, d.Transfer = "", time.Time{}, 0
	}
	if v.op.Role.OfOwner() {
		d.Order, d.Site, d.Test, d.Replaces, d.ReplacedBy = "", "", nil, 0, 0
	}
}

func (v View) maskEvidence(e *vetting.Evidence) {
	if !v.op.May(access.ReadParticulars) {
		maskEvidence(e)
	}
	if v.op.Role.OfOwner() {
		ownersEvidence(e)
	}
}

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
		out[i] = hiding(obj, hide)
	}
	return out
}
