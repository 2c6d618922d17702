package vetting

// code checks the enrolment code that came with a claim, if one did.
func (j *judgement) code() (Verdict, bool) {
	c := j.Code
	switch {
	case j.Claim.Auth.CodeHash.IsZero():
		return Verdict{}, false
	case c == nil:
		return j.wrongCode(), true
	case !c.Used.IsZero() && !(j.Record != nil && c.UsedBy == j.Record.ID && j.same()):
		return j.spentCode(), true
	case !c.Used.IsZero():
		return Verdict{}, false // the same device again
	case !c.Revoked.IsZero():
		j.misused("A revoked code was presented for it, from %s.", j.Claim.Remote)
		return j.refuseCode(ReasonCodeRevoked, "The enrolment code %d was revoked. Ask the planner for another.", c.ID), true
	case !j.Now.Before(c.Expires):
		return j.refuseCode(ReasonCodeExpired, "The enrolment code %d expired at %s. Ask the planner for another.", c.ID, stamp(c.Expires)), true
	case j.Record == nil && len(j.Named) > 0, j.Record != nil && !c.Opens(j.Record):
		j.misused("Code %d, which is for another device or order, was presented for it, from %s.", c.ID, j.Claim.Remote)
		return j.refuseCode(ReasonCodeForeign, "The enrolment code %d is for another device or order.", c.ID), true
	case j.Record == nil && j.Claim.Asserted.IsZero():
		return j.refuseCode(ReasonUnnamed, "The enrolment code %d is good for any device of its order and does not tell which one asks: give the device's serial number as the user name.", c.ID), true
	case j.Record != nil && c.DeviceID == 0 && j.placed() && !j.same():
		j.misused("A second device that calls itself %s came with the unused code %d of the order, from %s.", j.Record.Serial, c.ID, j.Claim.Remote)
		return j.refuseCode(ReasonBound, "A device %s was let in already, with other keys. If this is that device and it lost its key, ask the planner for a code made for it; otherwise one of the two is a copy.", j.Record.Serial), true
	}
	return Verdict{}, false
}

// placed reports whether the record's place was taken by a device already,
// which did not use its certificate, or was readmitted.
func (j *judgement) placed() bool { return j.Device.State == DeviceIssued || j.Device.Readmitted() }

// same reports whether the claim comes from the device that was let in before:
// it has proved the bootstrap key that the record lists or that was bound to
// it, or asks for a certificate on the key that was certified.
func (j *judgement) same() bool {
	key := j.Claim.Auth.Key
	return !key.IsZero() && (key == j.Record.BootstrapKey || key == j.Device.BoundKey) ||
		!j.Device.Readmitted() && j.Current != nil && j.Current.Key == j.Claim.Key
}

// barred refuses a device that comes back with a new code, which is another
// proof than the first time, if the rules do.
func (j *judgement) barred() *Verdict {
	if j.fresh() == nil {
		return nil
	}
	_, refusal := j.rules()
	return refusal
}

// fresh is the code that an admission would use up.
func (j *judgement) fresh() *EnrolmentCode {
	if j.Code == nil || !j.Code.Used.IsZero() {
		return nil
	}
	return j.Code
}

// wrongCode refuses a code that there is not. It says nothing of the records,
// or guesses at codes would find serial numbers.
func (j *judgement) wrongCode() Verdict {
	for _, r := range j.spokenOf() {
		j.against(EvidenceWrongCode, r.ID, "A code that there is not was presented for it, first from %s.", j.Claim.Remote)
	}
	return j.refuseCode(ReasonWrongCode, "There is no such enrolment code. Read it again from the label, or ask the planner for another.")
}

func (j *judgement) spentCode() Verdict {
	j.against(EvidenceMisusedCode, j.Code.UsedBy, "Code %d, by which it was let in, was used again, from %s.", j.Code.ID, j.Claim.Remote)
	for _, r := range j.spokenOf() {
		if r.ID != j.Code.UsedBy {
			j.against(EvidenceMisusedCode, r.ID, "Code %d, which another device had used, was presented for it, from %s.", j.Code.ID, j.Claim.Remote)
		}
	}
	return j.refuseCode(ReasonCodeSpent, "The enrolment code %d was used already, at %s, and the device that used it is known by its key, which this one does not have. If this is that device and it lost its key, ask the planner for a code made for it.", j.Code.ID, stamp(j.Code.Used))
}

// misused notes the misuse of a code against all that it speaks of.
func (j *judgement) misused(format string, args ...any) {
	for _, r := range j.spokenOf() {
		j.against(EvidenceMisusedCode, r.ID, format, args...)
	}
}

// spokenOf are the records that a claim speaks of.
func (j *judgement) spokenOf() []*Record {
	if j.Record != nil {
		return []*Record{j.Record}
	}
	return j.Named
}

// refuseCode refuses without values: who has no code that counts is told
// nothing of orders and devices.
func (j *judgement) refuseCode(code Code, format string, args ...any) Verdict {
	v := j.refuse(code, format, args...)
	v.Reasons[0].Values = nil
	return v
}

// CodeRefused reports whether a request was refused because of its code.
func CodeRefused(reasons []Reason) bool {
	if len(reasons) == 0 {
		return false
	}
	switch reasons[0].Code {
	case ReasonWrongCode, ReasonCodeSpent, ReasonCodeRevoked, ReasonCodeExpired, ReasonCodeForeign:
		return true
	}
	return false
}
