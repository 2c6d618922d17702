package storetest

import (
	"context"
	"fmt"
	"sync"

	"github.com/touchmark/touchmark/internal/audit"
	"github.com/touchmark/touchmark/internal/store"
	"github.com/touchmark/touchmark/vetting"
)

var activateCases = []conformance{
	{"the first use of a certificate activates its device", activateOnce},
	{"the first use of a renewed certificate is noted", activateRenewed},
	{"a certificate that does not count is not used", activateEnded},
	{"no certificate, no use", activateUnknown},
	{"first uses that come at once are one", activateConcurrent},
}

// activate notes a use of a certificate.
func activate(ctx context.Context, s *store.Store, serial string) error {
	return s.Activate(ctx, serial)
}

func (t *trial) use(serial string) {
	t.Helper()
	t.done(activate(t.ctx, t.store, serial))
}

func activateOnce(t *trial) {
	t.world(10, Unit(0))
	was := t.admit(0)
	before := t.leaves()
	t.use(was.Certificate)
	leaf := t.leaf(before)
	if leaf.By != "certificate:"+was.Certificate || fmt.Sprint(kinds(leaf)) != fmt.Sprint([]audit.Kind{audit.KindCertificate, audit.KindDevice}) {
		t.Errorf("the leaf is %+v", leaf)
	}
	d, c := t.device(was.ID), t.cert(was.Certificate)
	if c.Used.IsZero() || c.State != vetting.CertificateValid {
		t.Errorf("the certificate is %+v", c)
	}
	was.State, was.Activated, was.Updated, was.Revision = vetting.DeviceActive, c.Used, c.Used, 2
	same(t, "the device", d, was)
	for range 2 {
		t.use(was.Certificate)
	}
	t.done(activate(t.ctx, t.second(), was.Certificate))
	same(t, "the device, used again", t.device(was.ID), d)
	same(t, "the certificate, used again", t.cert(was.Certificate), c)
	if n := t.leaves() - before; n != 1 {
		t.Errorf("%d leaves", n)
	}
	t.enrol(first(0), vetting.ReasonBootstrapSpent)
}

func activateRenewed(t *trial) {
	t.world(10, Unit(0))
	d := t.admit(0)
	d = t.deviceOf(t.enrol(Renewal(d.Certificate, Key("second", 0)), vetting.ReasonRenewed))
	before := t.leaves()
	t.use(d.Certificate)
	if c := t.cert(d.Certificate); c.Used.IsZero() || t.leaves() != before+1 {
		t.Errorf("the certificate is %+v", c)
	}
	same(t, "the device", t.device(d.ID), d)
}

func activateEnded(t *trial) {
	t.world(10, Unit(0), Unit(1), Unit(2), Unit(3))
	replaced := t.admit(0).Certificate
	t.enrol(Claim(Unit(0).BootstrapKey, Key("other", 0)), vetting.ReasonReplaced)
	renewed := t.admit(1).Certificate
	t.enrol(Renewal(renewed, Key("other", 1)), vetting.ReasonRenewed)
	onHold, scrapped := t.admit(2), t.admit(3)
	t.setState(onHold.ID, vetting.DeviceQuarantined)
	t.setState(scrapped.ID, vetting.DeviceScrapped)
	for what, serial := range map[string]string{"revoked": replaced, "superseded": renewed, "on hold": onHold.Certificate, "scrapped": scrapped.Certificate} {
		c := t.cert(serial)
		d, before := t.device(c.DeviceID), t.leaves()
		t.use(serial)
		same(t, what+": the certificate", t.cert(serial), c)
		same(t, what+": the device", t.device(c.DeviceID), d)
		if t.leaves() != before {
			t.Errorf("%s: it left a leaf", what)
		}
	}
	// what was on hold counts again afterwards
	t.setState(onHold.ID, vetting.DeviceIssued)
	t.use(onHold.Certificate)
	if d := t.device(onHold.ID); d.State != vetting.DeviceActive {
		t.Errorf("the device is %+v", d)
	}
}

func activateUnknown(t *trial) {
	t.refuses(vetting.NotFound)(nil, activate(t.ctx, t.store, "00ff"))
	t.refuses(vetting.Invalid)(nil, activate(t.ctx, t.store, "not hex"))
	t.refuses(vetting.NotFound)(t.store.Certificate(t.ctx, "00ff"))
	t.refuses(vetting.NotFound)(t.store.Certificate(t.ctx, ""))
	t.refuses(vetting.Invalid)(t.store.Certificate(t.ctx, "abc"))
}

func activateConcurrent(t *trial) {
	t.world(40, Unit(0), Unit(1), Unit(2), Unit(3))
	other := t.second()
	var serials []string
	for n := range 4 {
		serials = append(serials, t.admit(n).Certificate)
	}
	before := t.leaves()
	var wg sync.WaitGroup
	for i := range 64 {
		s := t.store
		if i%2 == 1 {
			s = other
		}
		wg.Go(func() {
			if err := activate(t.ctx, s, serials[i/2%4]); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := t.leaves() - before; n != 4 {
		t.Errorf("4 first uses left %d leaves", n)
	}
}
