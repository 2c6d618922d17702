package storetest

import (
	"time"

	"github.com/touchmark/touchmark/internal/audit"
	"github.com/touchmark/touchmark/vetting"
)

var lifeCases = []conformance{
	{"a copied device is quarantined with the refusal", lifeCloned},
	{"a verdict to quarantine gives way to what changed meanwhile", lifeCloneStale},
	{"a second renewal waits for a person", lifeTwoRenewals},
	{"a sleeper waits for a person", lifeOverslept},
	{"a readmitted device starts anew on its unit", lifeReadmitted},
	{"a compromised key gets no certificate again", lifeCompromised},
	{"only a device in service is readmitted", lifeReadmitRefused},
}

// copied is unit 0 that renewed and uses its new certificate; the result is
// the device and the certificate that somebody may have copied.
func (t *trial) copied() (*vetting.Device, string) {
	t.Helper()
	old := t.admit(0).Certificate
	r := t.enrol(Renewal(old, Key("second", 0)), vetting.ReasonRenewed)
	t.use(r.Certificate)
	return t.deviceOf(r), old
}

func lifeCloned(t *trial) {
	t.world(1, Unit(0))
	d, old := t.copied()
	claim := Renewal(old, Key("clone", 0))
	r := t.enrol(claim, vetting.ReasonSuperseded)
	t.expectLeaf(r, "device.quarantined", "certificate:"+old, audit.KindCertificate, audit.KindCertificate, audit.KindDevice, audit.KindEvidence, audit.KindRegistration)
	now := t.device(d.ID)
	if now.State != vetting.DeviceQuarantined || now.Before != vetting.DeviceActive || now.Revision != d.Revision+1 || now.Certificate != d.Certificate {
		t.Errorf("the device is %+v", now)
	}
	if c := t.cert(d.Certificate); c.State != vetting.CertificateOnHold || c.Reason != 6 || !c.Revoked.Equal(r.At) {
		t.Errorf("its certificate is %+v", c)
	}
	t.enrol(claim, vetting.ReasonNotInService)
	t.enrol(Renewal(d.Certificate, Key("third", 0)), vetting.ReasonNotInService)
	t.setState(d.ID, vetting.DeviceActive)
	t.enrol(Renewal(d.Certificate, Key("third", 0)), vetting.ReasonRenewed)
}

// lifeCloneStale commits a verdict that was reached before the device moved.
func lifeCloneStale(t *trial) {
	t.world(1, Unit(0))
	d, old := t.copied()
	c := t.propose(Renewal(old, Key("clone", 0)))
	if !c.Verdict.Quarantine {
		t.Fatalf("the verdict is %s", c.Verdict.Text())
	}
	t.setState(d.ID, vetting.DeviceRetired)
	t.refusesCommit("retired meanwhile", c, true)
}

func lifeTwoRenewals(t *trial) {
	t.world(1, Unit(0))
	old := t.admit(0).Certificate
	first := t.enrol(Renewal(old, Key("lost", 0)), vetting.ReasonRenewed)
	claim := Renewal(old, Key("found", 0))
	held := t.enrol(claim, vetting.ReasonTwoRenewals)
	if d := t.deviceOf(held); d.State != vetting.DeviceActive || d.Certificate != first.Certificate {
		t.Errorf("the device is %+v", d)
	}
	same(t, "pending", t.facts(claim).Pending, held)
	ok(t.store.DecideRegistration(t.ctx, By, held.ID, vetting.Decision{Admit: true, By: "petra", Note: "its flash was replaced"}))(t)
	r := t.enrol(claim, vetting.ReasonReplaced)
	d := t.deviceOf(r)
	if r.ID != held.ID || d.Certificate == first.Certificate || d.State != vetting.DeviceActive || t.issued("po-1") != 1 {
		t.Errorf("the device is %+v", d)
	}
	if c := t.cert(first.Certificate); c.State != vetting.CertificateRevoked || c.Reason != 4 {
		t.Errorf("the certificate that was lost is %+v", c)
	}
}

func lifeOverslept(t *trial) {
	s, set := t.clocked()
	set(time.Now())
	t.store = s
	w := t.world(1, Unit(0))
	p := *w.Product
	p.Life.Grace, p.Life.Rescue = "1d", "40d"
	ok(s.UpdateProduct(t.ctx, By, &p))(t)
	d := t.admit(0)
	end := t.cert(d.Certificate).NotAfter
	claim := Renewal(d.Certificate, d.Key)
	set(end.Add(30 * 24 * time.Hour))
	held := t.enrol(claim, vetting.ReasonAsleep)
	if held.Outcome != vetting.Held {
		t.Errorf("the registration is %+v", held)
	}
	ok(s.DecideRegistration(t.ctx, By, held.ID, vetting.Decision{Admit: true, By: "petra", Note: "it was in store"}))(t)
	r := t.enrol(claim, vetting.ReasonRenewed)
	if now := t.deviceOf(r); r.ID != held.ID || now.Certificate == d.Certificate || now.State != vetting.DeviceActive || now.Key != d.Key {
		t.Errorf("the device is %+v", now)
	}
}

func lifeReadmitted(t *trial) {
	t.world(1, Unit(0))
	d, old := t.copied()
	before := t.leaves()
	now := ok(t.store.ReadmitDevice(t.ctx, By, d.ID, "its flash was replaced"))(t)
	if now.State != vetting.DeviceManufactured || !now.Activated.IsZero() || !now.Issued.Equal(d.Issued) || !now.Readmitted() || t.leaves() != before+1 {
		t.Errorf("the device is %+v, %d new leaves", now, t.leaves()-before)
	}
	for _, serial := range []string{old, d.Certificate} {
		if c := t.cert(serial); c.State != vetting.CertificateRevoked || c.Reason != 4 || c.Revoked.IsZero() {
			t.Errorf("its certificate is %+v", c)
		}
		t.enrol(Renewal(serial, Key("third", 0)), vetting.ReasonCertificateEnded)
	}
	claim := Claim(Unit(0).BootstrapKey, Key("anew", 0))
	r := t.enrol(claim, vetting.ReasonReadmitted)
	t.expectLeaf(r, "device.admitted", "key:"+Unit(0).BootstrapKey.String(), audit.KindCertificate, audit.KindDevice, audit.KindRegistration)
	if now = t.deviceOf(r); now.State != vetting.DeviceIssued || !now.Issued.Equal(d.Issued) || t.issued("po-1") != 1 {
		t.Errorf("the device is %+v, %d units issued", now, t.issued("po-1"))
	}
	if v := t.propose(claim).Verdict; v.Reasons[0].Code != vetting.ReasonRepeated {
		t.Errorf("asked again: %s", v.Text())
	}
	t.use(r.Certificate)
	if now = t.device(d.ID); now.State != vetting.DeviceActive || now.Activated.IsZero() {
		t.Errorf("used, the device is %+v", now)
	}
}

func lifeCompromised(t *trial) {
	t.world(1, Unit(0))
	first := t.admit(0).Certificate
	leaked := Key("leaked", 0)
	second := t.enrol(Renewal(first, leaked), vetting.ReasonRenewed).Certificate
	t.use(second)
	third := t.enrol(Renewal(second, Key("third", 0)), vetting.ReasonRenewed)
	t.use(third.Certificate)
	ok(t.store.RevokeCertificate(t.ctx, By, second, vetting.RevokedKeyCompromise, "found in a firmware dump"))(t)
	t.enrol(Renewal(third.Certificate, leaked), vetting.ReasonKeyInUse)
	ok(t.store.ReadmitDevice(t.ctx, By, third.DeviceID, "repaired"))(t)
	t.enrol(Claim(Unit(0).BootstrapKey, leaked), vetting.ReasonKeyInUse)
	t.enrol(Claim(Unit(0).BootstrapKey, Key("fourth", 0)), vetting.ReasonReadmitted)
}

func lifeReadmitRefused(t *trial) {
	f := t.fleet()
	for _, s := range vetting.DeviceStates {
		d := f.unit(s)
		if d.MayBeReadmitted() {
			continue
		}
		t.refuses(vetting.Conflict)(t.store.ReadmitDevice(t.ctx, By, d.ID, "test"))
		same(t, "the device", t.device(d.ID), d)
	}
	t.refuses(vetting.NotFound)(t.store.ReadmitDevice(t.ctx, By, 1<<40, "test"))
}
