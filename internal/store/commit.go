package store

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/touchmark/touchmark/enroll"
	"github.com/touchmark/touchmark/internal/audit"
	"github.com/touchmark/touchmark/vetting"
)

// Commit implements enroll.Ledger.
func (s *Store) Commit(ctx context.Context, c enroll.Commit) (enroll.Committed, error) {
	e := &enrolment{facts: c.Facts, verdict: c.Verdict, issued: c.Issued}
	e.admission, e.admitted = c.Verdict.Admission()
	if e.admitted != (c.Issued != nil) {
		return enroll.Committed{}, fmt.Errorf("a commit carries a certificate exactly when its verdict admits: admitted %v, certificate %v", e.admitted, c.Issued != nil)
	}
	if err := e.prepare(ctx, s); err != nil {
		return enroll.Committed{}, err
	}
	if err := s.submit(&job{ctx: ctx, load: e.load, apply: e.apply}); err != nil {
		return enroll.Committed{}, err
	}
	return enroll.Committed{Registration: e.row.ID}, nil
}

// enrolment is one commit on its way through the writer. A batch that is
// tried again loads and applies it anew.
type enrolment struct {
	facts     vetting.Facts
	verdict   vetting.Verdict
	admission vetting.Admission
	admitted  bool
	issued    *enroll.Issued

	siteID int64
	body   registrationBody
	ask    []byte

	earlier *registrationRow  // what load found
	former  []*certificateRow // of a device to be quarantined, but for the current one

	row registrationRow
}

// prepare does what needs no transaction.
func (e *enrolment) prepare(ctx context.Context, s *Store) error {
	c := e.facts.Claim
	e.ask = askOf(&e.facts)
	e.body = registrationBody{Claim: c, Reasons: e.verdict.Reasons, Product: c.Label, Site: c.Auth.Site}
	if r := e.facts.Record; r != nil {
		e.siteID = r.SiteID
		e.body.Product, e.body.Order, e.body.Site = e.facts.Product.Name, e.facts.Order.Name, e.facts.Order.Site
	} else if c.Auth.Site != "" {
		if _, err := one(ctx, s.db, `SELECT id FROM sites WHERE name = $1`, []any{c.Auth.Site}, &e.siteID); err != nil {
			return err
		}
	}
	if e.issued != nil {
		e.body.Certificate = fmt.Sprintf("%x", e.issued.Serial)
	}
	return nil
}

func (e *enrolment) load(w *writing) {
	e.earlier, e.former = nil, nil
	if m := e.facts.Claim.Message; m != [32]byte{} {
		w.wantMessages = append(w.wantMessages, m[:])
	}
	if r := e.facts.Record; r != nil {
		w.loadDevice(r.ID)
		w.loadOrder(r.OrderID)
	}
	if !e.admitted || e.facts.Pending != nil {
		e.loadEarlier(w)
	}
	if id := e.currentID(); id != 0 && (e.admitted || e.verdict.Quarantine) {
		w.loadCertificate(id)
	}
	if e.verdict.Quarantine {
		e.loadFormer(w)
	}
	if !e.admitted {
		return
	}
	w.loadKey(e.facts.Claim.Key)
	if auth := e.facts.Claim.Auth; auth.Proof == vetting.ProofTPM {
		w.loadEK(auth.Key)
	}
	if e.facts.Order.Limits.Any() && e.admission.TakesUnit() {
		w.loadPace(e.facts.Order.ID, w.store.now())
	}
	if e.admission.Kind() != vetting.ReasonRenewed && !e.facts.Record.Contested {
		w.wantContested = append(w.wantContested, e.facts.Record.ID)
	}
	if c := e.admission.Code(); c != nil {
		w.loadCode(c.ID)
	}
}

// currentID is the ID of the device's current certificate, 0 if there is none.
func (e *enrolment) currentID() int64 {
	if e.facts.Device == nil {
		return 0
	}
	return e.facts.Device.CertificateID
}

func (e *enrolment) loadEarlier(w *writing) {
	w.fetch(`SELECT `+registrationColumns+` FROM registrations r WHERE r.ask = $1`, []any{e.ask}, func(r row) error {
		e.earlier = &registrationRow{ask: e.ask}
		return r.Scan(e.earlier.dest()...)
	})
}

func (e *enrolment) apply(w *writing) error {
	if w.messages[e.facts.Claim.Message] {
		return enroll.ErrRepeated
	}
	if e.earlier != nil && w.rewritten[e.earlier.ID] { // by an earlier job of the batch
		e.earlier = nil
		e.loadEarlier(w)
		if err := w.flush(); err != nil {
			return err
		}
	}
	if e.admitted && e.stale(w) || e.verdict.Quarantine && w.devices[e.facts.Record.ID].Revision != e.facts.Device.Revision {
		return enroll.ErrStale
	}
	e.countMessage(w)
	if e.repeats() && !e.registers(w) {
		e.row = *e.earlier
		w.exec(`UPDATE registrations SET repeats = repeats + 1, last = $2 WHERE id = $1`, e.row.ID, micros(w.now))
		return nil
	}
	e.register(w)
	objects, act := []audit.Object{e.row.object()}, "device."+string(e.verdict.Outcome)
	switch {
	case e.admitted:
		objects = append(objects, e.admit(w)...)
	case e.verdict.Outcome == vetting.Held:
		objects = append(objects, e.hold(w)...)
	case e.verdict.Quarantine:
		act = "device." + string(vetting.DeviceQuarantined)
		objects = append(objects, e.quarantine(w)...)
	}
	evidence := e.evidence(w)
	for _, row := range evidence {
		objects = append(objects, row.object())
	}
	leaf := w.leaf(act, by(e.facts.Claim), e.note(), objects...)
	e.save(w, leaf, evidence)
	return nil
}

// stale reports whether what an admission rested on changed since.
func (e *enrolment) stale(w *writing) bool {
	d, o := w.devices[e.facts.Record.ID], w.orders[e.facts.Record.OrderID]
	key := e.facts.Claim.Key
	if holder, taken := w.keys[key]; taken && holder != d.ID {
		return true
	}
	if holder, taken := w.eks[e.facts.Claim.Auth.Key]; taken && e.facts.Claim.Auth.Proof == vetting.ProofTPM && holder != d.ID {
		return true
	}
	switch {
	case d.Revision != e.facts.Device.Revision || o.Revision != e.facts.Order.Revision:
		return true
	case e.admission.TakesUnit() && o.Issued+o.Wasted >= o.Quantity:
		return true
	case e.tooFast(w) || e.gone(w):
		return true
	case w.contested[d.ID] && !e.facts.Record.Contested && e.admission.Kind() != vetting.ReasonRenewed:
		return true
	case e.facts.Pending != nil:
		return e.earlier == nil || e.earlier.ID != e.facts.Pending.ID || (e.earlier.Decision != "") != (e.facts.Pending.Decision != nil)
	}
	return false
}

// repeats reports whether the same request got the same verdict before.
func (e *enrolment) repeats() bool {
	if e.admitted || e.earlier == nil || e.earlier.Outcome != string(e.verdict.Outcome) {
		return false
	}
	earlier, err := e.earlier.registration()
	return err == nil && slices.EqualFunc(earlier.Reasons, e.verdict.Reasons, func(a, b vetting.Reason) bool { return a.Code == b.Code })
}

func (e *enrolment) loadFormer(w *writing) {
	w.fetch(certificateQuery+`WHERE c.device_id = $1 AND c.id <> $2`, []any{e.facts.Record.ID, e.currentID()}, func(r row) error {
		c := new(certificateRow)
		e.former = append(e.former, c)
		return r.Scan(c.dest()...)
	})
}

// quarantine moves the device, which is as the verdict found it, and its
// certificates.
func (e *enrolment) quarantine(w *writing) []audit.Object {
	h := &held{device: w.devices[e.facts.Record.ID], certificates: append(e.former, w.certificates[e.currentID()])}
	h.sort(micros(w.now))
	x := newChanges(w)
	if err := x.move(h, vetting.DeviceQuarantined); err != nil { // only scrapping can fail
		panic(fmt.Sprintf("store: quarantine: %v", err))
	}
	return x.write()
}

// registers reports whether the device becomes registered by being held. It
// may have asked the same before it was readmitted.
func (e *enrolment) registers(w *writing) bool {
	return e.facts.Record != nil && e.verdict.Outcome == vetting.Held && w.devices[e.facts.Record.ID].State == string(vetting.DeviceManufactured)
}

// register makes the registration's row: a new one, or the one that was held
// or decided by a person, whose word stays with the request whatever else
// becomes of it.
func (e *enrolment) register(w *writing) {
	body, err := json.Marshal(e.body)
	if err != nil { // cannot happen: it is made of strings and numbers
		panic(fmt.Sprintf("store: registration: %v", err))
	}
	follows := e.earlier != nil && (e.earlier.Outcome == string(vetting.Held) || e.earlier.Decision != "")
	e.row = registrationRow{At: micros(w.now), last: micros(w.now), SiteID: e.siteID, Outcome: string(e.verdict.Outcome), Body: string(body)}
	if follows {
		e.row.ID, e.row.At, e.row.Decision, e.row.repeats = e.earlier.ID, e.earlier.At, e.earlier.Decision, e.earlier.repeats
	} else {
		e.row.ID = w.ids(1)
	}
	if r := e.facts.Record; r != nil {
		e.row.DeviceID, e.row.OrderID = r.ID, r.OrderID
	}
	if !e.admitted {
		e.row.ask = e.ask
	}
}

// admit changes the device, the order and the certificates in memory and
// queues their rows but for the registration.
func (e *enrolment) admit(w *writing) []audit.Object {
	d, o := w.devices[e.facts.Record.ID], w.orders[e.facts.Record.OrderID]
	current := w.certificates[e.currentID()]
	key := e.facts.Claim.Key
	var objects []audit.Object
	var supersedes int64
	switch e.admission.Kind() {
	case vetting.ReasonVetted:
		d.State, d.Issued = string(vetting.DeviceIssued), micros(w.now)
		o.Issued++
		o.dirty = true
		e.countUnit(w)
		objects = append(objects, o.object())
	case vetting.ReasonReadmitted:
		d.State = string(vetting.DeviceIssued)
	case vetting.ReasonReplaced:
		if current != nil {
			objects = append(objects, w.end(current, vetting.CertificateRevoked, reasonSuperseded))
			supersedes = current.Supersedes
		}
	case vetting.ReasonRenewed:
		d.State = string(vetting.DeviceActive)
		if d.Activated == 0 {
			d.Activated = micros(w.now)
		}
		if current != nil {
			objects = append(objects, w.end(current, vetting.CertificateSuperseded, 0))
			w.use(current)
			supersedes = current.ID
		}
	}
	e.bind(w, d)
	if c := e.useCode(w); c != nil {
		objects = append(objects, c.object())
	}
	cert := &certificateRow{
		ID: w.ids(1), DeviceID: d.ID, Serial: e.issued.Serial, Key: key[:], DER: e.issued.DER,
		State: string(vetting.CertificateValid), NotAfter: micros(e.issued.NotAfter), Issued: micros(w.now),
		Leaf:   w.tree.Size(), // the leaf that is about to be appended
		Issuer: e.issued.Issuer, Supersedes: supersedes,
	}
	if e.facts.Product.Life.HoldUntilActive {
		cert.Held = 1
	}
	w.insert(`certificates (id, device_id, serial, key, der, state, not_after, issued, revoked, reason, leaf, issuer, held, supersedes)`,
		cert.ID, cert.DeviceID, cert.Serial, cert.Key, cert.DER, cert.State, cert.NotAfter, cert.Issued, cert.Revoked, cert.Reason, cert.Leaf, cert.Issuer, cert.Held, cert.Supersedes)
	w.certified[certifiedKey{cert.Issuer, endsOn(cert.NotAfter)}]++
	w.tell(cert, good)
	d.Key, d.CertificateID = key[:], cert.ID
	w.keys[key] = d.ID
	w.save(d)
	return append(objects, d.object(), cert.object())
}

// reasonSuperseded is the CRLReason superseded (RFC 5280 §5.3.1).
const reasonSuperseded = 4

// end takes a certificate out of use.
func (w *writing) end(c *certificateRow, state vetting.CertificateState, reason int64) audit.Object {
	before := c.status()
	c.State, c.Reason = string(state), reason
	if state == vetting.CertificateRevoked || state == vetting.CertificateOnHold {
		c.Revoked = micros(w.now)
	}
	w.exec(`UPDATE certificates SET state = $2, revoked = $3, reason = $4 WHERE id = $1`, c.ID, c.State, c.Revoked, c.Reason)
	w.tell(c, before)
	return c.object()
}

// use notes a certificate's first use, with which the one that it supersedes
// ends.
func (w *writing) use(c *certificateRow) {
	if c.Used != 0 {
		return
	}
	before := c.status()
	c.Used = micros(w.now)
	w.insert(`first_uses (certificate_id, at)`, c.ID, c.Used)
	w.tell(c, before)
	if f := c.former; f != nil {
		before = f.status()
		f.ended = c.Used
		w.tell(f, before)
	}
}

// hold makes a device that asked for the first time a registered one.
func (e *enrolment) hold(w *writing) []audit.Object {
	if !e.registers(w) {
		return nil
	}
	d := w.devices[e.facts.Record.ID]
	d.State = string(vetting.DeviceRegistered)
	w.save(d)
	return []audit.Object{d.object()}
}

func (e *enrolment) evidence(w *writing) []*evidenceRow {
	var rows []*evidenceRow
	for _, ev := range e.verdict.Evidence {
		rows = append(rows, &evidenceRow{
			ID: w.ids(1), At: micros(w.now), Kind: string(ev.Kind), DeviceID: ev.DeviceID,
			RegistrationID: e.row.ID, SiteID: e.siteOf(ev.DeviceID), Text: ev.Text,
		})
	}
	return rows
}

// siteOf is the site of the device that evidence speaks against, as far as
// the facts tell; 0 is shown to the OEM only.
func (e *enrolment) siteOf(deviceID int64) int64 {
	if r := e.facts.Record; r != nil && r.ID == deviceID {
		return r.SiteID
	}
	for _, r := range e.facts.Named {
		if r.ID == deviceID {
			return r.SiteID
		}
	}
	if c := e.facts.Code; c != nil && c.UsedBy == deviceID {
		return c.SiteID
	}
	return 0
}

func (e *enrolment) save(w *writing, leaf int64, evidence []*evidenceRow) {
	r := &e.row
	if e.earlier != nil {
		w.rewritten[e.earlier.ID] = true
	}
	switch {
	case e.earlier != nil && e.earlier.ID == r.ID:
		w.exec(`UPDATE registrations SET outcome = $2, body = $3, decision = $4, ask = $5, last = $6, leaf = $7, device_id = $8, order_id = $9, site_id = $10 WHERE id = $1`,
			r.ID, r.Outcome, r.Body, r.Decision, bytesOrNull(r.ask, r.ask == nil), r.last, leaf, r.DeviceID, r.OrderID, r.SiteID)
	default:
		if e.earlier != nil { // another verdict than before: the newer one answers repetitions
			w.exec(`UPDATE registrations SET ask = NULL WHERE id = $1`, e.earlier.ID)
		}
		w.insert(`registrations (id, at, device_id, order_id, site_id, outcome, body, decision, ask, repeats, last, leaf)`,
			r.ID, r.At, r.DeviceID, r.OrderID, r.SiteID, r.Outcome, r.Body, r.Decision, bytesOrNull(r.ask, r.ask == nil), r.repeats, r.last, leaf)
	}
	for _, row := range evidence {
		row.leaf = leaf
		w.insertEvidence(row)
	}
}

// note tells a reader of the log what happened.
func (e *enrolment) note() string {
	if len(e.verdict.Reasons) == 0 {
		return ""
	}
	note := string(e.verdict.Reasons[0].Code)
	if e.issued != nil {
		note += " " + e.body.Certificate
	}
	return note
}

// by names the requester in the log.
func by(c vetting.Claim) string {
	switch c.Auth.Proof {
	case vetting.ProofRig:
		return "operator:" + c.Auth.Operator
	case vetting.ProofOfficial:
		return "certificate:" + c.Auth.Certificate
	case vetting.ProofDomain:
		return accountName(c.Auth.Account)
	case vetting.ProofCode:
		if c.Auth.Code == 0 {
			return "code:unknown"
		}
		return fmt.Sprintf("code:%d", c.Auth.Code)
	default:
		return "key:" + c.Auth.Key.String()
	}
}

// Activate implements enroll.Ledger.
func (s *Store) Activate(ctx context.Context, serial string) error {
	cert, err := s.Certificate(ctx, serial)
	if err != nil {
		return err
	}
	if !cert.Used.IsZero() || cert.State != vetting.CertificateValid {
		return nil
	}
	return s.submit(&job{ctx: ctx,
		load: func(w *writing) {
			w.loadDevice(cert.DeviceID)
			w.loadCertificate(cert.ID)
		},
		apply: func(w *writing) error { return w.activate(w.certificates[cert.ID]) },
	})
}

func (w *writing) activate(c *certificateRow) error {
	d := w.devices[c.DeviceID]
	if c.Used != 0 || c.State != string(vetting.CertificateValid) {
		return nil
	}
	objects := []audit.Object{c.object()}
	if d.State == string(vetting.DeviceIssued) && d.CertificateID == c.ID {
		d.State, d.Activated = string(vetting.DeviceActive), micros(w.now)
		w.save(d)
		objects = append(objects, d.object())
	}
	w.use(c)
	// The log is public, so it does not say from where.
	w.leaf("certificate.first-use", fmt.Sprintf("certificate:%x", c.Serial), "", objects...)
	return nil
}
