package devicesim

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/touchmark/touchmark/device"
)

// later is the demo's second act: what becomes of devices in service.
type later struct {
	*Demo
	renewing, revoked, sold []*Unit
	copied                  *Unit
	good                    bool
}

// secondAct plays it with some of the honest units, which are in service.
func (d *Demo) secondAct(ctx context.Context, honest []*Unit) (good bool, err error) {
	n := len(honest)
	l := &later{Demo: d, renewing: honest[:n/8+1], copied: honest[n/8+1], revoked: honest[n/8+2 : n/4+3], sold: honest[n/4+3 : n/4+6], good: true}
	d.say("\nLater, in service:")
	for _, scene := range []struct {
		title string
		play  func(context.Context) error
	}{
		{"Certificates are renewed", l.renew}, {"A device is copied", l.copy}, {"A batch is revoked", l.revoke},
		{"Devices are sold", l.sell}, {"Is it genuine?", l.verify}, {"Does its certificate still count?", l.status},
	} {
		d.say("\n  %s", scene.title)
		if err := scene.play(ctx); err != nil {
			return false, err
		}
	}
	d.say("")
	return l.good, nil
}

// expect marks a line that is not as it should be.
func (l *later) expect(ok bool, format string, args ...any) {
	mark := "    "
	if !ok {
		mark, l.good = "!   ", false
	}
	l.say(mark+format, args...)
}

func (l *later) device(u *Unit) *device.Device {
	return &device.Device{Serial: u.Serial, Store: u.Store, Client: l.Server.Client(), Root: l.Server.Root, CAs: l.Server.CAs}
}

// renew has some units take a new key.
func (l *later) renew(ctx context.Context) error {
	began := time.Now()
	for _, u := range l.renewing {
		dev := l.device(u)
		if _, err := dev.Renew(ctx, true); err != nil {
			return fmt.Errorf("%s renews: %w", u.Serial, err)
		}
		if err := dev.Use(ctx); err != nil {
			return fmt.Errorf("%s uses its new certificate: %w", u.Serial, err)
		}
	}
	l.say("    %s renewed on a new key, in %s", count(len(l.renewing), "device"), time.Since(began).Round(10*time.Millisecond))
	return nil
}

// copy has a thief read out a unit in service. The unit renews; when the
// copy does, its key has two holders.
func (l *later) copy(ctx context.Context) error {
	taken, err := l.copied.Store.Load(device.Official)
	if err != nil {
		return err
	}
	loot := new(device.MemoryStore)
	loot.Put(device.Official, *taken)
	l.say("    somebody reads out %s, key and all", l.copied.Serial)
	genuine := l.device(l.copied)
	if _, err := genuine.Renew(ctx, true); err != nil {
		return err
	}
	if err := genuine.Use(ctx); err != nil {
		return err
	}
	l.say("    %s renews", l.copied.Serial)
	thief := l.device(&Unit{Serial: l.copied.Serial, Store: loot})
	text := l.refusal(thief.Renew(ctx, true))
	l.expect(strings.Contains(text, "two hold the device's key"), "the copy renews: %s", text)
	text = l.refusal(genuine.Renew(ctx, true))
	l.expect(strings.Contains(text, "quarantined"), "from now on neither gets a certificate: %s", text)
	return nil
}

// refusal is what the server told a device; "admitted" if it let it in.
func (l *later) refusal(_ *device.Credential, err error) string {
	var refused *device.StatusError
	switch {
	case err == nil:
		return "admitted"
	case errors.As(err, &refused):
		return strings.TrimSpace(refused.Text)
	default:
		return err.Error()
	}
}

// revoke ends a batch, as after a leak at the factory: a dry run, then the
// job.
func (l *later) revoke(ctx context.Context) error {
	serials := serialsOf(l.revoked)
	type job struct {
		ID            int64
		State, Digest string
		Worked        struct{ Changes int64 }
	}
	var j job
	err := l.Admin.Do(ctx, http.MethodPost, "/jobs", map[string]any{"action": "revoke", "reason": "keyCompromise",
		"note": "programmer stolen from the line", "selected": map[string]any{"identifiers": map[string]any{"serials": serials}}}, &j)
	if err != nil {
		return err
	}
	at := fmt.Sprintf("/jobs/%d", j.ID)
	if err := l.Admin.Do(ctx, http.MethodPost, at+"/confirm", map[string]any{"digest": j.Digest}, &j); err != nil {
		return err
	}
	for j.State == "planned" || j.State == "running" {
		if wait(ctx, 20*time.Millisecond); ctx.Err() != nil {
			return ctx.Err()
		}
		if err := l.Admin.Do(ctx, http.MethodGet, at, nil, &j); err != nil {
			return err
		}
	}
	l.expect(j.State == "done" && j.Worked.Changes == int64(len(serials)), "job %d revokes a batch: planned for %d devices, done for %d", j.ID, len(serials), j.Worked.Changes)
	text := l.refusal(l.device(l.revoked[0]).Renew(ctx, true))
	l.expect(strings.Contains(text, "is revoked"), "%s renews: %s", serials[0], text)
	return nil
}

func serialsOf(units []*Unit) (list []string) {
	for _, u := range units {
		list = append(list, u.Serial)
	}
	return list
}

// sell hands some devices over to another owner, and has one of them come
// for its new certificate.
func (l *later) sell(ctx context.Context) error {
	const owner, name = "acme-buildings", "Acme Buildings AG"
	type object = map[string]any
	profile := object{"validity": "365d", "template": `{"subject": {"commonName": "{{ .Serial }}", "organization": "` + name + `"}, "keyUsage": ["digitalSignature"], "extKeyUsage": ["clientAuth"]}`}
	if err := l.Admin.Do(ctx, http.MethodPost, "/owners", object{"name": owner, "description": name, "profile": profile}, nil); err != nil {
		return err
	}
	u := l.sold[0]
	before, err := u.Store.Load(device.Official)
	if err != nil {
		return err
	}
	if err := l.transfer(ctx, owner, name); err != nil {
		return err
	}
	verdict, why, err := l.ask(ctx, object{"serial": u.Serial})
	if err != nil {
		return err
	}
	l.expect(verdict == "genuine", "verify says of %s: %s. %s", u.Serial, verdict, why)
	after, err := l.device(u).Renew(ctx, true)
	if err != nil {
		return fmt.Errorf("%s comes to its new owner: %w", u.Serial, err)
	}
	subject, life := after.Leaf().Subject, after.Leaf().NotAfter.Sub(after.Leaf().NotBefore)
	l.expect(slices.Contains(subject.Organization, name), "%s renews with the one that was revoked, and gets what its owner wants: %s, for %d days", u.Serial, subject, life/(24*time.Hour))
	if verdict, why, err = l.ask(ctx, object{"certificate": certificatePEM(before.Leaf().Raw)}); err != nil {
		return err
	}
	l.expect(verdict == "suspect", "verify says of its certificate from before: %s. %s", verdict, why)
	return nil
}

// transfer offers the devices that are sold, and accepts them.
func (l *later) transfer(ctx context.Context, owner, name string) error {
	var t struct {
		ID      int64
		State   string
		Devices int
	}
	offer := map[string]any{"to": owner, "serials": serialsOf(l.sold), "note": "delivery 4711"}
	if err := l.Admin.Do(ctx, http.MethodPost, "/transfers", offer, &t); err != nil {
		return err
	}
	l.expect(t.State == "offered", "the manufacturer offers %s %s, %s among them, as transfer %d", name, count(t.Devices, "device"), l.sold[0].Serial, t.ID)
	if err := l.Admin.Do(ctx, http.MethodPost, fmt.Sprintf("/transfers/%d/accept", t.ID), map[string]any{"note": "received"}, &t); err != nil {
		return err
	}
	l.expect(t.State == "accepted", "the buyer accepts: the devices are theirs, and the certificates that they had are revoked")
	return nil
}

// verify asks about things that look alike.
func (l *later) verify(ctx context.Context) error {
	forged, err := l.forge()
	if err != nil {
		return err
	}
	for _, q := range []struct {
		what string
		ask  map[string]any
		want string
	}{
		{"a device in service, " + l.renewing[0].Serial, map[string]any{"serial": l.renewing[0].Serial}, "genuine"},
		{"one that was sold, " + l.sold[0].Serial, map[string]any{"serial": l.sold[0].Serial}, "genuine"},
		{"the one that was copied, " + l.copied.Serial, map[string]any{"serial": l.copied.Serial}, "suspect"},
		{"one of the batch, " + l.revoked[0].Serial, map[string]any{"serial": l.revoked[0].Serial}, "suspect"},
		{"a forged certificate of " + l.renewing[0].Serial, map[string]any{"certificate": forged}, "counterfeit"},
		{"a label that says TH-999999", map[string]any{"scan": "SN:TH-999999"}, "unknown"},
	} {
		verdict, why, err := l.ask(ctx, q.ask)
		if err != nil {
			return err
		}
		l.expect(verdict == q.want, "%-38s %-12s %s", q.what, verdict, why)
	}
	return nil
}

// ask asks whether something is genuine; why is the last reason that says
// more than how it was asked.
func (l *later) ask(ctx context.Context, what map[string]any) (verdict, why string, err error) {
	var a struct {
		Verdict string
		Reasons []struct{ Code, Text string }
	}
	err = l.Admin.Do(ctx, http.MethodPost, "/verify", what, &a)
	for _, r := range a.Reasons {
		if why == "" || r.Code != "by-name" {
			why = r.Text
		}
	}
	return a.Verdict, why, err
}

// forge makes a certificate that names the device CA, signed by somebody
// else.
func (l *later) forge() (string, error) {
	c, err := l.renewing[0].Store.Load(device.Official)
	if err != nil {
		return "", err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", err
	}
	issuer := *c.Chain[1]
	issuer.PublicKey = key.Public()
	t := &x509.Certificate{SerialNumber: new(big.Int).Add(c.Leaf().SerialNumber, big.NewInt(1)), RawSubject: c.Leaf().RawSubject,
		NotBefore: c.Leaf().NotBefore, NotAfter: c.Leaf().NotAfter}
	der, err := x509.CreateCertificate(rand.Reader, t, &issuer, key.Public(), key)
	if err != nil {
		return "", err
	}
	return certificatePEM(der), nil
}
