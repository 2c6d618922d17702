package store_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"

	"github.com/touchmark/touchmark/vetting"
)

// model is a second, naive account of what a store should hold: no database,
// no revisions, no batches. The property test does the same to both.
type model struct {
	quantity, issued int64
	wasted           int64 // scrapped before power-on
	held             bool  // certificates are on hold until their first use
	order            vetting.OrderState
	units            []*modelUnit
	asks             map[string]*modelAsk
	transfers        []*modelTransfer
	seen             map[string]int // what the run met, so that a test can see that it met all
}

type modelUnit struct {
	record    vetting.Record
	id        int64
	state     vetting.DeviceState
	before    vetting.DeviceState
	contested bool
	took      bool // a unit of the quota
	certs     []*modelCert
	owner     string
	transfer  *modelTransfer // the latest
	handover  *modelCert     // the current one when it changed hands, if it counted then
}

type modelCert struct {
	serial string
	der    string
	key    vetting.Fingerprint
	state  vetting.CertificateState
	used   bool
	held   bool // issued on hold

	compromised bool // its key may never be certified again
	handedOver  bool // it ended because its device changed hands
}

// modelAsk is the last word on a request that comes again.
type modelAsk struct {
	unit            *modelUnit
	key             vetting.Fingerprint
	outcome         vetting.Outcome
	decided, letsIn bool
}

// answer is what a request should be told.
type answer struct {
	outcome vetting.Outcome
	repeat  *modelCert // this very certificate again
	clone   bool       // and the device is quarantined
	anew    bool       // on the unit that it took before
	renewed *modelCert // what the new certificate supersedes
	instead *modelCert // what the new certificate replaces
}

func (u *modelUnit) current() *modelCert {
	if len(u.certs) == 0 {
		return nil
	}
	return u.certs[len(u.certs)-1]
}

func (m *model) holder(key vetting.Fingerprint, but *modelUnit) bool {
	return slices.ContainsFunc(m.units, func(u *modelUnit) bool {
		return u != but && (u.record.BootstrapKey == key || u.current() != nil && u.current().key == key)
	})
}

func refused() answer { return answer{outcome: vetting.Refused} }

func askName(u *modelUnit, proof vetting.Proof, key vetting.Fingerprint) string {
	return fmt.Sprint(u.record.Serial, proof, key)
}

// first is a request by bootstrap key or by a rig.
func (m *model) first(u *modelUnit, proof vetting.Proof, key vetting.Fingerprint) answer {
	ask := m.asks[askName(u, proof, key)]
	switch {
	case !u.state.InService(), u.state == vetting.DeviceActive, m.holder(key, u):
		return refused()
	case u.state == vetting.DeviceIssued:
		return m.again(u, key, ask)
	case u.took:
		return m.anew(u, key, ask)
	case m.order == vetting.OrderClosed, m.order == vetting.OrderCancelled, m.issued+m.wasted >= m.quantity:
		return refused()
	}
	held := m.order == vetting.OrderDraft || u.contested
	// A device that never waited has no ask that a person could have seen.
	if u.state != vetting.DeviceRegistered || ask == nil || !ask.decided {
		if held {
			return answer{outcome: vetting.Held}
		}
		return answer{outcome: vetting.Admitted}
	}
	if !ask.letsIn {
		return refused()
	}
	return answer{outcome: vetting.Admitted}
}

// anew is the first request of a device that was readmitted.
func (m *model) anew(u *modelUnit, key vetting.Fingerprint, ask *modelAsk) answer {
	switch {
	case u.leaked(key):
		return refused()
	case m.order == vetting.OrderCancelled:
		return refused()
	case !u.contested:
		return answer{outcome: vetting.Admitted, anew: true}
	case u.state != vetting.DeviceRegistered || ask == nil || !ask.decided:
		return answer{outcome: vetting.Held}
	case !ask.letsIn:
		return refused()
	}
	return answer{outcome: vetting.Admitted, anew: true}
}

func (m *model) again(u *modelUnit, key vetting.Fingerprint, ask *modelAsk) answer {
	switch {
	case m.order == vetting.OrderCancelled, u.current().state != vetting.CertificateValid:
		return refused()
	case u.current().key == key:
		return answer{outcome: vetting.Admitted, repeat: u.current()}
	case u.leaked(key):
		return refused()
	case u.contested && (ask == nil || !ask.decided):
		return answer{outcome: vetting.Held}
	case u.contested && !ask.letsIn:
		return refused()
	}
	return answer{outcome: vetting.Admitted, instead: u.current()}
}

func (m *model) renewal(u *modelUnit, c *modelCert, key vetting.Fingerprint) answer {
	now := u.current()
	ask := m.asks[renewalName(c, key)]
	superseded := c.state == vetting.CertificateSuperseded || u.ended(c)
	switch {
	case !u.state.InService(), c.state == vetting.CertificateRevoked && !u.ended(c), c.state == vetting.CertificateOnHold:
		return refused()
	case u.ended(c) && u.startsAnew():
		return m.arrival(u, c, key)
	case now.state != vetting.CertificateValid:
		return refused()
	case superseded && now.key == key && (!now.used || key != c.key):
		return answer{outcome: vetting.Admitted, repeat: now}
	case superseded && usedSince(u, c):
		return answer{outcome: vetting.Refused, clone: true}
	case m.holder(key, u), u.leaked(key):
		return refused()
	case superseded && (ask == nil || !ask.decided):
		return answer{outcome: vetting.Held}
	case superseded && !ask.letsIn:
		return refused()
	case superseded:
		return answer{outcome: vetting.Admitted, instead: now}
	}
	return answer{outcome: vetting.Admitted, renewed: c}
}

// leaked reports whether a key was revoked as compromised.
func (u *modelUnit) leaked(key vetting.Fingerprint) bool {
	return slices.ContainsFunc(u.certs, func(c *modelCert) bool { return c.compromised && c.key == key })
}

func renewalName(c *modelCert, key vetting.Fingerprint) string { return fmt.Sprint(c.serial, key) }

// usedSince reports whether any certificate after this one was used.
func usedSince(u *modelUnit, c *modelCert) bool {
	return slices.ContainsFunc(u.certs[slices.Index(u.certs, c)+1:], func(c *modelCert) bool { return c.used })
}

// readmit lets a device start anew, if it may.
func (m *model) readmit(u *modelUnit) bool {
	if u.state != vetting.DeviceIssued && u.state != vetting.DeviceActive {
		return false
	}
	u.state, u.handover = vetting.DeviceManufactured, nil
	for _, c := range u.certs {
		c.state = vetting.CertificateRevoked
	}
	return true
}

// settle carries an answer out.
func (m *model) settle(u *modelUnit, ask string, a answer, made *modelCert) {
	m.seen[string(a.outcome)]++
	if a.outcome != vetting.Admitted {
		if ask != "" {
			m.note(u, ask, made.key, a.outcome)
		}
		if a.outcome == vetting.Held && u.state == vetting.DeviceManufactured {
			u.state = vetting.DeviceRegistered
		}
		if a.clone {
			m.seen["cloned"]++
			m.move(u, vetting.DeviceQuarantined)
		}
		return
	}
	switch {
	case a.repeat != nil:
		return
	case a.renewed != nil:
		m.seen["renewed"]++
		a.renewed.state, a.renewed.used = vetting.CertificateSuperseded, true
		u.state = vetting.DeviceActive
	case a.instead != nil:
		m.seen["replaced"]++
		a.instead.state = vetting.CertificateRevoked
		m.forget(ask)
	case a.anew:
		m.seen["readmitted"]++
		u.state = vetting.DeviceIssued
		m.forget(ask)
	default:
		m.issued++
		u.took = true
		u.state = vetting.DeviceIssued
		m.forget(ask)
	}
	u.certs = append(u.certs, made)
}

// note keeps a person's word with the request for good, and otherwise the
// newest outcome.
func (m *model) note(u *modelUnit, name string, key vetting.Fingerprint, o vetting.Outcome) {
	if have := m.asks[name]; have != nil {
		have.outcome = o
		return
	}
	m.asks[name] = &modelAsk{unit: u, key: key, outcome: o}
}

// waiting is a request that was held or refused, or nil.
func (m *model) waiting(r *rand.Rand) *modelAsk {
	if len(m.asks) == 0 {
		return nil
	}
	return m.asks[pick(r, slices.Sorted(maps.Keys(m.asks)))]
}

// forget drops a request that waited and now got in.
func (m *model) forget(name string) {
	if a := m.asks[name]; a != nil && (a.decided || a.outcome == vetting.Held) {
		delete(m.asks, name)
	}
}

func (m *model) activate(u *modelUnit, c *modelCert) {
	if c.state != vetting.CertificateValid || c.used {
		return
	}
	c.used = true
	if u.state == vetting.DeviceIssued && c == u.current() {
		u.state = vetting.DeviceActive
	}
}

// move reports whether the device may become what an operator wants.
func (m *model) move(u *modelUnit, to vetting.DeviceState) bool {
	d := vetting.Device{State: u.state, Before: u.before}
	if !d.MayBecome(to) {
		return false
	}
	if to == vetting.DeviceScrapped && u.state == vetting.DeviceManufactured && !u.took && m.issued+m.wasted < m.quantity {
		m.wasted++
	}
	u.before = ""
	if to == vetting.DeviceQuarantined {
		u.before = u.state
	}
	u.state = to
	for _, c := range u.certs {
		switch {
		case c.state == vetting.CertificateRevoked:
		case to == vetting.DeviceSuspended || to == vetting.DeviceQuarantined:
			c.state = vetting.CertificateOnHold
		case to == vetting.DeviceRetired || to == vetting.DeviceScrapped:
			c.state = vetting.CertificateRevoked
		case c == u.current():
			c.state = vetting.CertificateValid
		default:
			c.state = vetting.CertificateSuperseded
		}
	}
	return true
}

// revoke reports whether the device has a certificate left to revoke.
func (m *model) revoke(u *modelUnit) (left bool) {
	for _, c := range u.certs {
		if c.state == vetting.CertificateRevoked {
			continue
		}
		left, c.compromised = true, true
		c.state = vetting.CertificateRevoked
	}
	if left {
		m.seen["revoked"]++
	}
	return left
}

func pick[T any](r *rand.Rand, from []T) T { return from[r.IntN(len(from))] }
