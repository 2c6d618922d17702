package vetting

import "time"

// renewal judges a request made with an official certificate.
func (j *judgement) renewal() Verdict {
	if j.Record == nil || j.Device == nil || j.Presented == nil {
		return j.refuse(ReasonCertificateEnded, "The certificate %s is not one that this server issued to a device.", j.Claim.Auth.Certificate)
	}
	if label := j.Claim.Label; label != "" && label != j.Product.Name {
		return j.refuse(ReasonWrongProduct, "The request was addressed to product %s, but the device is another product.", label)
	}
	if v, done := j.served(); done {
		return v
	}
	if v, done := j.attestedAnew(); done {
		return v
	}
	if p := j.Presented; !j.HandedOver() && (p.State == CertificateRevoked || p.State == CertificateOnHold) {
		return j.refuse(ReasonCertificateEnded, "The certificate %s is %s.", p.Serial, p.State)
	}
	if v, done := j.serverKey(); done {
		return v
	}
	switch {
	case j.HandedOver():
		return j.handedOver()
	case j.Presented.State == CertificateSuperseded:
		return j.superseded()
	}
	if v, done := j.key(); done {
		return v
	}
	if !j.Now.Before(j.Presented.NotAfter) {
		return j.overslept(j.Presented, ReasonRenewed)
	}
	if from := j.renewFrom(); j.Now.Before(from) {
		v := j.refuse(ReasonTooSoon, "The certificate %s renews from %s on: ask again then.", j.Presented.Serial, stamp(from))
		v.RetryAt = from
		return v
	}
	return j.admit(ReasonRenewed, "The device renewed with its official certificate.")
}

// overslept judges a renewal by a certificate that ran out while its device
// slept. What it may lead to is an admission of the given kind.
func (j *judgement) overslept(p *Certificate, kind Code) Verdict {
	grace, rescue := j.Product.Life.Sleep()
	late := j.Now.Sub(p.NotAfter)
	switch {
	case late >= max(grace, rescue):
		return j.refuse(ReasonCertificateEnded, "The certificate %s ran out at %s.", p.Serial, stamp(p.NotAfter))
	case j.Claim.Key != p.Key:
		return j.refuse(ReasonSameKey, "The certificate %s ran out at %s: it renews on its own key only, and that one can take a new key.", p.Serial, stamp(p.NotAfter))
	case late < grace:
		return j.admit(kind, "The device renewed in the time of grace: its certificate ran out at %s.", stamp(p.NotAfter))
	}
	return j.asked(j.reason(ReasonAsleep, "The certificate %s ran out at %s, longer ago than product %s forgives: a person must decide whether the device may come back.", p.Serial, stamp(p.NotAfter), j.Product.Name),
		func() Verdict {
			return j.admit(kind, "The device came back after its certificate ran out at %s.", stamp(p.NotAfter))
		})
}

// renewFrom is when the presented certificate may be renewed: as the product
// says, or earlier if an operator asked for it.
func (j *judgement) renewFrom() time.Time {
	from := j.Product.Life.RenewFrom(j.Presented)
	if h := j.Hint; h != nil && h.Start.Before(from) {
		return h.Start
	}
	return from
}

// superseded tells the device whose answer was lost from a second holder of
// its key, when a certificate is used that has a successor. The device asks
// for the key that it was given already.
func (j *judgement) superseded() Verdict {
	p := j.Presented
	switch current := j.Current; {
	case current == nil || current.State != CertificateValid:
		return j.refuse(ReasonSuperseded, "The certificate %s was superseded; only its successor renews.", p.Serial)
	case !j.lost():
	case !j.Now.Before(current.NotAfter):
		return j.overslept(current, ReasonRenewed)
	default:
		v := j.admit(ReasonRepeated, "The device asked again before it used its new certificate and gets the same one.")
		v.admission.repeat = current
		return v
	}
	switch {
	case !j.Unused:
		return j.cloned()
	case j.Claim.ServerKey != "":
		// A key that the server made and that was lost with its answer cannot
		// be sent again; another takes its place.
		return j.admit(ReasonReplaced, "The device asked again before it used its new certificate; it gets another on another key, and the new one is superseded.")
	}
	if v, done := j.key(); done {
		return v
	}
	// It lost its new key with the answer, or somebody else has the old one.
	j.against(EvidenceSuperseded, j.Record.ID, "The superseded certificate %s was used to renew on the key %s, from %s, while its successor on the key %s was never used.", p.Serial, j.Claim.Key, j.Claim.Remote, j.Current.Key)
	return j.asked(j.reason(ReasonTwoRenewals, "The certificate %s was renewed before, on another key, and that one was never used: a person must decide whether the device lost it or somebody copied the device.", p.Serial),
		func() Verdict {
			return j.admit(ReasonReplaced, "The device lost its new key before it used it; it gets another, and the new certificate is superseded.")
		})
}

// lost reports whether the device asks for what it was given already, because
// the answer was lost: its current certificate's key, before that was used.
// After that a key that is not the presented certificate's still proves that
// this is no copy from before: whoever holds it may have its certificate,
// which is no secret.
func (j *judgement) lost() bool {
	c, key := j.Current, j.Claim.Key
	return c.Key == key && (c.Used.IsZero() || key != j.Presented.Key)
}

// cloned refuses the use of a certificate whose successor is at work: its key
// has two holders, and which of them is the device nobody can tell from here.
func (j *judgement) cloned() Verdict {
	p := j.Presented
	j.against(EvidenceSuperseded, j.Record.ID, "The superseded certificate %s (key %s) was used to renew, from %s, while its successor %s (key %s) is in use: somebody has copied the device.",
		p.Serial, p.Key, j.Claim.Remote, j.Current.Serial, j.Current.Key)
	v := j.refuse(ReasonSuperseded, "The certificate %s was superseded, and its successor is in use: two hold the device's key.", p.Serial)
	v.Quarantine = j.Product.Life.Quarantines()
	return v
}

// asked holds a request until a person has decided; admit is the verdict if
// they let it in.
func (j *judgement) asked(why Reason, admit func() Verdict) Verdict {
	if j.Pending == nil || j.Pending.Decision == nil {
		return Verdict{Outcome: Held, Reasons: []Reason{why}, Evidence: j.evidence}
	}
	d := *j.Pending.Decision
	if !d.Admit {
		return j.turnedAway(d)
	}
	v := admit()
	v.Reasons = append(v.Reasons, j.letIn(d))
	return v
}

// readmitted lets a device in that took its unit before, and starts anew by
// an administrator's or an owner's word.
func (j *judgement) readmitted() Verdict {
	if j.Order.State == OrderCancelled {
		return j.refuse(ReasonOrderCancelled, "Order %s was cancelled.", j.Order.Name)
	}
	if refusal := j.barred(); refusal != nil {
		return *refusal
	}
	admit := func() Verdict {
		return j.admit(ReasonReadmitted, "The device was readmitted and starts anew, on the unit that it took before.")
	}
	if !j.Record.Contested {
		return admit()
	}
	return j.asked(j.contested(), admit)
}
