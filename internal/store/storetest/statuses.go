package storetest

import (
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/touchmark/touchmark/internal/store"
	"github.com/touchmark/touchmark/ocsp"
	"github.com/touchmark/touchmark/vetting"
)

var statusCases = []conformance{
	{"a revocation is told once, as it was", statusRevoked},
	{"a hold and its end are told, and who stays as it was is not", statusHeld},
	{"a superseded certificate is good until its successor is used", statusSuperseded},
	{"what is replaced ends, and who it superseded ends with the replacement's use", statusReplaced},
	{"a certificate is on hold until its first use, if its product wants that", statusHeldUntilActive},
	{"a transfer ends what the device had", statusTransferred},
	{"a job tells of each certificate", statusOfJob},
	{"the CA that issued is told", statusIssuer},
	{"changes come in order, from where the reader was", statusOrder},
	{"who ended long ago is left out, but for the newest change", statusEnded},
	{"who follows is called when there are changes, and only then", statusCalls},
}

// ofStore is a follower: what it was told since it looked last, and what all
// of that comes to.
type ofStore struct {
	*trial
	last int64
	now  map[string]ocsp.Reason
}

func (t *trial) follow() *ofStore {
	return &ofStore{trial: t, now: map[string]ocsp.Reason{}}
}

// changes are those since the last call.
func (f *ofStore) changes() (list []ocsp.Change) {
	f.Helper()
	last, err := f.store.Changes(f.ctx, f.last, func(portion []ocsp.Change) error {
		list = append(list, portion...)
		return nil
	})
	f.done(err)
	for _, c := range list {
		if c.Seq <= f.last {
			f.Errorf("change %d comes after %d", c.Seq, f.last)
		}
		f.last, f.now[c.Serial.String()] = c.Seq, c.Reason
	}
	if last != f.last {
		f.Errorf("the last change is said to be %d, but %d was handed over", last, f.last)
	}
	return list
}

// says checks what was told since the last call: certificates' serial numbers
// with reasons.
func (f *ofStore) says(what string, want ...any) []ocsp.Change {
	f.Helper()
	var have, wanted []string
	list := f.changes()
	for _, c := range list {
		have = append(have, fmt.Sprint(c.Serial, " ", c.Reason))
	}
	for i := 0; i < len(want); i += 2 {
		wanted = append(wanted, fmt.Sprint(want[i], " ", want[i+1]))
	}
	slices.Sort(have)
	slices.Sort(wanted)
	same(f.trial, what, have, wanted)
	return list
}

func statusRevoked(t *trial) {
	f, told := t.fleet(), t.follow()
	d := f.unit(vetting.DeviceActive)
	told.says("enrolment and first use")
	at := t.revoke(d.ID, vetting.RevokedKeyCompromise).Updated
	c := told.says("a revocation", d.Certificate, ocsp.KeyCompromise)[0]
	if cert := t.cert(d.Certificate); !c.Revoked.Equal(at) || !c.NotAfter.Equal(cert.NotAfter) || c.Issuer != 0 {
		t.Errorf("told %+v of %+v", c, cert)
	}
	_, err := t.store.RevokeDevice(t.ctx, By, d.ID, vetting.RevokedUnspecified, "test")
	t.refuses(vetting.Conflict)(nil, err)
	told.says("a refused act")
	again := f.unit(vetting.DeviceIssued)
	ok(t.store.RevokeCertificate(t.ctx, By, again.Certificate, vetting.RevokedUnspecified, "test"))(t)
	told.says("one certificate", again.Certificate, ocsp.Unspecified)
	ok(t.store.ReadmitDevice(t.ctx, By, f.unit(vetting.DeviceActive).ID, "test"))(t)
	if list := told.changes(); len(list) != 1 || list[0].Reason != ocsp.Superseded {
		t.Errorf("readmitted: told %+v", list)
	}
	retired := f.unit(vetting.DeviceActive)
	t.setState(retired.ID, vetting.DeviceRetired)
	told.says("retired", retired.Certificate, ocsp.CessationOfOperation)
}

func statusHeld(t *trial) {
	told := t.follow()
	d := t.fleet().renewed() // two superseded ones, the second of which is good yet
	certs := ok(t.store.DeviceHistory(t.ctx, d.ID))(t).Certificates
	valid, second, oldest := certs[0].Serial, certs[1].Serial, certs[2].Serial
	ended := told.says("renewed twice", oldest, ocsp.Superseded)[0].Revoked
	t.setState(d.ID, vetting.DeviceSuspended)
	told.says("suspended", valid, ocsp.CertificateHold, second, ocsp.CertificateHold, oldest, ocsp.CertificateHold)
	t.setState(d.ID, vetting.DeviceQuarantined)
	for _, c := range told.says("quarantined, too", valid, ocsp.CertificateHold, second, ocsp.CertificateHold, oldest, ocsp.CertificateHold) {
		if c.Revoked.Before(ended) {
			t.Errorf("told %+v, but on hold it is since %s", c, ended)
		}
	}
	t.setState(d.ID, vetting.DeviceSuspended)
	told.changes()
	t.setState(d.ID, vetting.DeviceActive)
	for _, c := range told.says("resumed", valid, ocsp.RemoveFromCRL, second, ocsp.RemoveFromCRL, oldest, ocsp.Superseded) {
		if c.Reason == ocsp.Superseded && !c.Revoked.Equal(ended) {
			t.Errorf("superseded since %s, before the hold it was since %s", c.Revoked, ended)
		}
	}
	t.setState(d.ID, vetting.DeviceSuspended)
	told.changes()
	t.revoke(d.ID, vetting.RevokedKeyCompromise)
	told.says("revoked on hold", valid, ocsp.KeyCompromise, second, ocsp.KeyCompromise, oldest, ocsp.KeyCompromise)
	t.setState(d.ID, vetting.DeviceActive)
	told.says("a release that gives nothing back")
}

func statusSuperseded(t *trial) {
	t.world(1, Unit(0))
	told := t.follow()
	first := t.admit(0).Certificate
	second := t.enrol(Renewal(first, Key("second", 0)), vetting.ReasonRenewed).Certificate
	told.says("a renewal")
	t.use(second)
	c := told.says("the successor's first use", first, ocsp.Superseded)[0]
	if used := t.cert(second).Used; !c.Revoked.Equal(used) {
		t.Errorf("superseded at %s, but its successor was used at %s", c.Revoked, used)
	}
	t.use(second)
	t.done(t.second().Activate(t.ctx, second))
	told.says("further uses")
	third := t.enrol(Renewal(second, Key("third", 0)), vetting.ReasonRenewed).Certificate
	told.says("a renewal by one that was used")
	fourth := t.enrol(Renewal(third, Key("fourth", 0)), vetting.ReasonRenewed).Certificate
	told.says("a renewal that is the first use", second, ocsp.Superseded)
	t.use(fourth)
	told.says("the last", third, ocsp.Superseded)
}

func statusReplaced(t *trial) {
	t.world(1, Unit(0))
	told := t.follow()
	old := t.admit(0).Certificate
	lost := t.enrol(Renewal(old, Key("lost", 0)), vetting.ReasonRenewed).Certificate
	claim := Renewal(old, Key("found", 0))
	held := t.enrol(claim, vetting.ReasonTwoRenewals)
	ok(t.store.DecideRegistration(t.ctx, By, held.ID, vetting.Decision{Admit: true, By: "petra", Note: "its flash was replaced"}))(t)
	found := t.enrol(claim, vetting.ReasonReplaced).Certificate
	told.says("a replacement", lost, ocsp.Superseded)
	t.use(found)
	told.says("its first use", old, ocsp.Superseded)
}

func statusHeldUntilActive(t *trial) {
	w := t.world(2, Unit(0), Unit(1))
	told := t.follow()
	before := t.admit(0)
	w.Product.Life.HoldUntilActive = true
	ok(t.store.UpdateProduct(t.ctx, By, w.Product))(t)
	told.says("a change of the product")
	t.use(before.Certificate)
	told.says("first use of one that was issued before")
	d := t.admit(1)
	told.says("an enrolment", d.Certificate, ocsp.CertificateHold)
	if c := t.cert(d.Certificate); c.Status() != vetting.CertificateOnHold || c.State != vetting.CertificateValid {
		t.Errorf("the certificate is %+v", c)
	}
	t.setState(d.ID, vetting.DeviceQuarantined)
	t.setState(d.ID, vetting.DeviceIssued)
	told.changes()
	if told.now[d.Certificate] != ocsp.CertificateHold {
		t.Errorf("an unused certificate came back from a hold as %d", told.now[d.Certificate])
	}
	t.use(d.Certificate)
	told.says("its first use", d.Certificate, ocsp.RemoveFromCRL)
	next := t.enrol(Renewal(d.Certificate, Key("second", 1)), vetting.ReasonRenewed).Certificate
	told.says("its renewal", next, ocsp.CertificateHold)
	last := t.enrol(Renewal(next, Key("third", 1)), vetting.ReasonRenewed).Certificate
	told.says("a renewal that is the first use", next, ocsp.RemoveFromCRL, d.Certificate, ocsp.Superseded, last, ocsp.CertificateHold)
}

func statusTransferred(t *trial) {
	t.world(1, Unit(0))
	told := t.follow()
	before, after, _ := t.transferred()
	if told.changes(); told.now[before.Certificate] != ocsp.AffiliationChanged {
		t.Errorf("told %v", told.now)
	}
	t.revoke(after.ID, vetting.RevokedKeyCompromise)
	told.says("revoked on its way", before.Certificate, ocsp.KeyCompromise)
}

func statusOfJob(t *trial) {
	ids := t.many(300) // more than go into one statement
	told := t.follow()
	t.work(t.confirm(t.plan(task(vetting.JobRevoke))).ID)
	list := told.changes()
	for _, c := range list {
		if c.Reason != ocsp.KeyCompromise || c.Revoked.IsZero() {
			t.Fatalf("told %+v", c)
		}
	}
	if len(list) != len(ids) || len(told.now) != len(ids) {
		t.Errorf("%d changes of %d certificates, want %d", len(list), len(told.now), len(ids))
	}
}

func statusIssuer(t *trial) {
	t.world(1, Unit(0))
	told := t.follow()
	c := t.propose(first(0))
	c.Issued.Issuer = 4711
	id := ok(t.store.Commit(t.ctx, c))(t).Registration
	d := t.deviceOf(ok(t.store.Registration(t.ctx, id))(t))
	t.revoke(d.ID, vetting.RevokedUnspecified)
	if list := told.changes(); len(list) != 1 || list[0].Issuer != 4711 || list[0].Serial.String() != hex.EncodeToString(c.Issued.Serial) {
		t.Errorf("told %+v", list)
	}
}

func statusOrder(t *trial) {
	ids := t.many(3)
	told := t.follow()
	for _, id := range ids {
		t.revoke(id, vetting.RevokedUnspecified)
	}
	enough := errors.New("enough")
	last, err := t.store.Changes(t.ctx, 0, func([]ocsp.Change) error { return enough })
	if !errors.Is(err, enough) || last != 0 {
		t.Errorf("a reader that stops gets %d, %v", last, err)
	}
	all := told.changes()
	if len(all) != 3 {
		t.Fatalf("%d changes", len(all))
	}
	var rest []ocsp.Change
	last, err = t.second().Changes(t.ctx, all[0].Seq, func(portion []ocsp.Change) error {
		rest = append(rest, portion...)
		return nil
	})
	same(t, "after the first", rest, all[1:])
	if err != nil || last != all[2].Seq {
		t.Errorf("%d, %v", last, err)
	}
	told.says("nothing new")
	t.later(time.Hour)
	told.says("nothing new after a restart")
}

func statusCalls(t *trial) {
	var calls atomic.Int32
	t.store = OpenWith(t, store.Options{DSN: t.dsn, Told: func() { calls.Add(1) }})
	d := t.fleet().unit(vetting.DeviceActive)
	same(t, "calls after enrolment and first use", calls.Load(), 0)
	t.revoke(d.ID, vetting.RevokedKeyCompromise)
	same(t, "calls after a revocation", calls.Load(), 1)
}

// statusEnded reads what is told long after certificates ended.
func statusEnded(t *trial) {
	f := t.fleet()
	var serials []string
	for range 3 {
		d := f.unit(vetting.DeviceActive)
		serials = append(serials, d.Certificate)
		t.revoke(d.ID, vetting.RevokedKeyCompromise)
	}
	end := t.cert(serials[0]).NotAfter
	for after, want := range map[time.Duration][]string{
		ocsp.Retention - time.Hour: serials,
		ocsp.Retention + time.Hour: serials[2:], // so that it is known how far changes have come
	} {
		later := *t
		later.store = OpenWith(t, store.Options{DSN: t.dsn, Now: func() time.Time { return end.Add(after) }})
		var have []string
		for _, c := range later.follow().changes() {
			have = append(have, c.Serial.String())
		}
		same(t, "told "+after.String()+" after the end", have, want)
	}
}
