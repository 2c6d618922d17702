package storetest

import (
	"strings"
	"time"

	"github.com/touchmark/touchmark/internal/store"
	"github.com/touchmark/touchmark/vetting"
)

var revokeCases = []conformance{
	{"a revoked device has no way to a certificate", revokedDevice},
	{"revoking twice says when and why it was done", revokedTwice},
	{"one certificate is revoked by its serial number", revokedCertificate},
	{"superseded certificates follow their device, and are superseded again", supersededFollow},
	{"a certificate that ran out stays as it was, but for the current one", expiredFollow},
	{"a verdict that rests on a revoked certificate is stale", revokedMeanwhile},
}

func (t *trial) revoke(id int64, reason vetting.RevocationReason) *vetting.Device {
	t.Helper()
	return ok(t.store.RevokeDevice(t.ctx, By, id, reason, "test"))(t)
}

// states are those of a device's certificates, oldest first.
func (t *trial) states(id int64) (list []vetting.CertificateState) {
	t.Helper()
	for _, c := range ok(t.store.DeviceHistory(t.ctx, id))(t).Certificates {
		list = append([]vetting.CertificateState{c.State}, list...)
	}
	return list
}

func revokedDevice(t *trial) {
	f := t.fleet()
	for _, s := range []vetting.DeviceState{vetting.DeviceIssued, vetting.DeviceActive} {
		n := f.next
		d := f.unit(s)
		before := t.leaves()
		after := t.revoke(d.ID, vetting.RevokedKeyCompromise)
		d.Revision, d.Updated = d.Revision+1, after.Updated
		same(t, "the device", after, d)
		c := t.cert(d.Certificate)
		if c.State != vetting.CertificateRevoked || c.Reason != 1 || !c.Revoked.Equal(after.Updated) {
			t.Errorf("the certificate is %+v", c)
		}
		if leaf := t.leaf(before); t.leaves() != before+1 || leaf.Act != "device.revoke" || leaf.Note != "keyCompromise: test" || len(leaf.Objects) != 2 {
			t.Errorf("%d leaves, %+v", t.leaves()-before, leaf)
		}
		again := map[vetting.DeviceState]vetting.Code{vetting.DeviceIssued: vetting.ReasonCertificateEnded, vetting.DeviceActive: vetting.ReasonBootstrapSpent}
		sameKey := again[s]
		if s == vetting.DeviceIssued { // its key is named first
			sameKey = vetting.ReasonKeyInUse
		}
		t.enrol(first(n), sameKey)
		t.enrol(Claim(Unit(n).BootstrapKey, Key("other", n)), again[s])
		t.enrol(Renewal(d.Certificate, Key("other", n)), vetting.ReasonCertificateEnded)
		t.done(t.store.Activate(t.ctx, d.Certificate))
		same(t, "after all that", t.device(d.ID), after)
	}
	unharmed := f.unit(vetting.DeviceActive).ID
	for _, reason := range []vetting.RevocationReason{"cACompromise", "certificateHold", "removeFromCRL", "", "because"} {
		t.refuses(vetting.Invalid)(t.store.RevokeDevice(t.ctx, By, unharmed, reason, "test"))
	}
	t.refuses(vetting.NotFound)(t.store.RevokeDevice(t.ctx, By, 1<<40, vetting.RevokedUnspecified, "test"))
}

func revokedTwice(t *trial) {
	f := t.fleet()
	d := f.unit(vetting.DeviceActive)
	revoked := t.revoke(d.ID, vetting.RevokedPrivilegeWithdrawn).Updated.Format(time.RFC3339)
	for _, again := range []func() (any, error){
		func() (any, error) { return t.store.RevokeDevice(t.ctx, By, d.ID, vetting.RevokedUnspecified, "test") },
		func() (any, error) {
			return t.store.RevokeCertificate(t.ctx, By, d.Certificate, vetting.RevokedUnspecified, "test")
		},
		func() (any, error) { return t.store.SetDeviceState(t.ctx, By, d.ID, vetting.DeviceActive, "test") }, // no hold to end
	} {
		_, err := again()
		t.refuses(vetting.Conflict)(again())
		if err == nil || !strings.Contains(err.Error(), revoked) || !strings.Contains(err.Error(), "privilegeWithdrawn") {
			t.Errorf("%v: it does not say that it was revoked at %s, privilegeWithdrawn", err, revoked)
		}
	}
	for _, s := range []vetting.DeviceState{vetting.DeviceManufactured, vetting.DeviceRegistered, vetting.DeviceRetired} {
		d := f.unit(s)
		t.refuses(vetting.Conflict)(t.store.RevokeDevice(t.ctx, By, d.ID, vetting.RevokedUnspecified, "test"))
	}
	q := f.unit(vetting.DeviceQuarantined) // on hold can still be revoked, and does not come back
	t.revoke(q.ID, vetting.RevokedKeyCompromise)
	t.setState(q.ID, q.Before)
	if c := t.cert(q.Certificate); c.State != vetting.CertificateRevoked || c.Reason != 1 {
		t.Errorf("a release made a revoked certificate %+v", c)
	}
}

// renewed is a device with two superseded certificates and a valid one.
func (f *fleet) renewed() *vetting.Device {
	f.Helper()
	n := f.next
	d := f.unit(vetting.DeviceActive)
	for _, key := range []string{"second", "third"} {
		f.enrol(Renewal(f.device(d.ID).Certificate, Key(key, n)), vetting.ReasonRenewed)
	}
	return f.device(d.ID)
}

func revokedCertificate(t *trial) {
	const valid, superseded, revoked = vetting.CertificateValid, vetting.CertificateSuperseded, vetting.CertificateRevoked
	d := t.fleet().renewed()
	n := 0
	oldest := ok(t.store.DeviceHistory(t.ctx, d.ID))(t).Certificates[2]
	c := ok(t.store.RevokeCertificate(t.ctx, By, oldest.Serial, vetting.RevokedKeyCompromise, "test"))(t)
	same(t, "the certificate", t.cert(oldest.Serial), c)
	same(t, "the oldest revoked", t.states(d.ID), []vetting.CertificateState{revoked, superseded, valid})
	ok(t.store.RevokeCertificate(t.ctx, By, d.Certificate, vetting.RevokedKeyCompromise, "test"))(t)
	same(t, "the current revoked", t.states(d.ID), []vetting.CertificateState{revoked, superseded, revoked})
	// an earlier certificate is no way around the current one
	second := ok(t.store.DeviceHistory(t.ctx, d.ID))(t).Certificates[1]
	t.enrol(Renewal(second.Serial, Key("third", n)), vetting.ReasonSuperseded)
	t.refuses(vetting.NotFound)(t.store.RevokeCertificate(t.ctx, By, "00ff", vetting.RevokedUnspecified, "test"))
	t.refuses(vetting.Invalid)(t.store.RevokeCertificate(t.ctx, By, second.Serial, "certificateHold", "test"))
	t.revoke(d.ID, vetting.RevokedKeyCompromise) // what is left
	same(t, "the device revoked", t.states(d.ID), []vetting.CertificateState{revoked, revoked, revoked})
}

func supersededFollow(t *trial) {
	const (
		valid, superseded = vetting.CertificateValid, vetting.CertificateSuperseded
		hold, revoked     = vetting.CertificateOnHold, vetting.CertificateRevoked
	)
	f := t.fleet()
	d := f.renewed()
	was := ok(t.store.DeviceHistory(t.ctx, d.ID))(t).Certificates
	expect := func(what string, want vetting.CertificateState, current vetting.CertificateState) {
		t.Helper()
		same(t, what, t.states(d.ID), []vetting.CertificateState{want, want, current})
	}
	for _, to := range []vetting.DeviceState{vetting.DeviceSuspended, vetting.DeviceQuarantined} {
		t.setState(d.ID, to)
		expect(string(to), hold, hold)
		t.setState(d.ID, vetting.DeviceActive)
		expect("back from "+string(to), superseded, valid)
	}
	same(t, "the certificates after it all", ok(t.store.DeviceHistory(t.ctx, d.ID))(t).Certificates, was)
	t.setState(d.ID, vetting.DeviceSuspended)
	t.setState(d.ID, vetting.DeviceRetired)
	expect("retired", revoked, revoked)
	d = f.renewed()
	t.revoke(d.ID, vetting.RevokedKeyCompromise)
	expect("revoked", revoked, revoked)
	d = f.renewed()
	t.setState(d.ID, vetting.DeviceScrapped)
	expect("scrapped", revoked, revoked)
}

// The certificates of this suite run out after a year.
func expiredFollow(t *trial) {
	const superseded, hold, revoked = vetting.CertificateSuperseded, vetting.CertificateOnHold, vetting.CertificateRevoked
	f := t.fleet()
	asleep, held := f.renewed(), f.renewed()
	t.setState(held.ID, vetting.DeviceSuspended)
	t.later(367 * 24 * time.Hour)
	t.revoke(asleep.ID, vetting.RevokedKeyCompromise)
	same(t, "revoked", t.states(asleep.ID), []vetting.CertificateState{superseded, superseded, revoked})
	same(t, "on hold", t.states(held.ID), []vetting.CertificateState{hold, hold, hold})
	t.setState(held.ID, vetting.DeviceActive) // what is on hold comes back, however old
	same(t, "resumed", t.states(held.ID), []vetting.CertificateState{superseded, superseded, vetting.CertificateValid})
}

// later opens the store anew, with a clock that is ahead.
func (t *trial) later(d time.Duration) {
	t.Helper()
	t.done(t.store.Close())
	t.store = OpenWith(t, store.Options{DSN: t.dsn, Now: func() time.Time { return time.Now().Add(d) }})
}

func revokedMeanwhile(t *trial) {
	f := t.fleet()
	n := f.next
	d := f.unit(vetting.DeviceActive)
	renewal := t.propose(Renewal(d.Certificate, Key("other", n)))
	t.revoke(d.ID, vetting.RevokedKeyCompromise)
	t.refusesCommit("a renewal", renewal, true)
	n = f.next
	d = f.unit(vetting.DeviceIssued)
	again := t.propose(Claim(Unit(n).BootstrapKey, Key("other", n)))
	ok(t.store.RevokeCertificate(t.ctx, By, d.Certificate, vetting.RevokedKeyCompromise, "test"))(t)
	t.refusesCommit("a replacement", again, true)
}
