package server

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/touchmark/touchmark/internal/audit"
	"github.com/touchmark/touchmark/internal/ca"
	"github.com/touchmark/touchmark/internal/store/storetest"
	"github.com/touchmark/touchmark/vetting"
)

// ceremony has a root sign what a CA of the configuration asks for.
func ceremony(t *testing.T, c *Config, rootKey, name string, now time.Time) *x509.Certificate {
	t.Helper()
	return ceremonyFor(t, c, rootKey, name, vetting.ForDevices, now)
}

// ceremonyFor is one for a CA of a purpose.
func ceremonyFor(t *testing.T, c *Config, rootKey, name string, purpose vetting.Purpose, now time.Time) *x509.Certificate {
	t.Helper()
	a, err := Authorities(t.Context(), c, Environment{})
	if err != nil {
		t.Fatal(err)
	}
	text, err := a.Requests(t.Context(), []string{name}, purpose)
	if err != nil {
		t.Fatal(err)
	}
	requests, err := ca.ParseRequests(text)
	if err != nil {
		t.Fatal(err)
	}
	var roots []*x509.Certificate
	for _, l := range a.List() {
		roots = append(roots, l.Certificate)
	}
	root, err := ca.OpenRoot(t.Context(), c.Dir, "file:keys/"+rootKey+".key", roots)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := root.Sign(requests[0], now)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// issuer creates an issuing CA as an administrator does.
func (w *works) issuer(name string) *x509.Certificate {
	w.t.Helper()
	cert := ceremony(w.t, w.config, "root", name, w.now())
	w.ask("/issuers", map[string]string{"name": name, "certificate": string(ca.PEM(cert.Raw))}, 201, nil)
	return cert
}

// gives transfers a device.
func (w *works) gives(serial, from, to string) {
	w.t.Helper()
	s, ctx := w.server.store, w.t.Context()
	offer, err := s.OfferTransfer(ctx, storetest.By, vetting.Offer{From: from, To: to, Serials: []string{serial}})
	if err != nil {
		w.t.Fatal(err)
	}
	if _, err := s.AcceptTransfer(ctx, storetest.By, offer.ID, ""); err != nil {
		w.t.Fatal(err)
	}
}

// issuedBy holds a certificate to its issuer: by name, key identifier and
// signature, and by the chain that a client builds of /cacerts.
func (w *works) issuedBy(p pair, issuer *x509.Certificate) {
	w.t.Helper()
	if !bytes.Equal(p.cert.AuthorityKeyId, issuer.SubjectKeyId) || !bytes.Equal(p.cert.RawIssuer, issuer.RawSubject) {
		w.t.Errorf("the certificate is %s's, want %s's", p.cert.Issuer, issuer.Subject)
	}
	_, _, body := w.est(v13, pair{}, "cacerts", nil)
	dir := w.t.TempDir()
	write := func(name string, certs ...*x509.Certificate) {
		var text []byte
		for _, c := range certs {
			text = append(text, ca.PEM(c.Raw)...)
		}
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			w.t.Fatal(err)
		}
	}
	write("device", p.cert)
	write("cas", certificates(w.t, body)...)
	out, err := exec.Command("openssl", "verify", "-x509_strict", "-purpose", "sslclient", "-CAfile", filepath.Join(w.config.Dir, "ca", "root.crt"),
		"-untrusted", filepath.Join(dir, "cas"), filepath.Join(dir, "device")).CombinedOutput()
	if err != nil {
		w.t.Errorf("openssl verify: %v %s", err, out)
	}
}

// works opens every door of a device with its certificate.
func (w *works) opensAll(p pair) {
	w.t.Helper()
	if code, _, body := w.own(p, "POST", "/device/v1/activation"); code != 200 {
		w.t.Errorf("activation: %d %s", code, body)
	}
	encode := base64.RawURLEncoding.EncodeToString
	if code, _, body := w.own(pair{}, "GET", "/device/v1/renewal-info/"+encode(p.cert.AuthorityKeyId)+"."+encode(p.cert.SerialNumber.Bytes())); code != 200 {
		w.t.Errorf("renewal-info: %d %s", code, body)
	}
	w.getsCACerts(v13, p, "new issuer")
	w.expect(p.cert, vetting.Genuine, vetting.ReasonCertificateGood)
	var made vetting.Challenge
	w.ask("/challenges", map[string]any{"device": w.device(p.cert.Subject.CommonName).ID}, 201, &made)
	if code, _, body := w.own(p, "POST", "/device/v1/challenges/"+made.Nonce.String()); code != 200 {
		w.t.Errorf("challenge: %d %s", code, body)
	}
}

// A device that changes hands gets certificates of its owner's issuing CA,
// and renews with it; all others stay with theirs.
func TestIssuingCAOfOwner(t *testing.T) {
	w := opened(t)
	device := w.server.authorities.Device.Certificate
	first := w.enrol(v13, w.build("A-1", w.now().Add(time.Hour)), "simpleenroll", nil)
	w.issuedBy(first, device)
	w.opensAll(first)

	acme := w.issuer("acme-ca")
	w.ask("/owners", map[string]string{"name": "acme", "issuer": "acme-ca"}, 201, nil)
	w.ask("/owners", map[string]string{"name": "plain", "issuer": "device-ca"}, 201, nil)
	w.gives("A-1", vetting.Manufacturer, "acme")
	if code, _, body := w.own(first, "POST", "/device/v1/activation"); code != 403 || !strings.Contains(body, "revoked") {
		t.Errorf("the certificate from before: %d %s", code, body)
	}
	w.expect(first.cert, vetting.Suspect, vetting.ReasonCertRevoked)

	moved := w.enrol(v13, first, "simplereenroll", first.cert)
	w.issuedBy(moved, acme)
	w.opensAll(moved)
	otherCA := pair{cert: &x509.Certificate{AuthorityKeyId: device.SubjectKeyId, SerialNumber: moved.cert.SerialNumber}}
	if code, _, body := w.own(pair{}, "GET", "/device/v1/renewal-info/"+ariName(otherCA)); code != 404 {
		t.Errorf("a serial number of another CA: %d %s", code, body)
	}
	renewed := w.enrol(0x0303, moved, "simplereenroll", moved.cert) // TLS 1.2
	w.issuedBy(renewed, acme)
	w.opensAll(renewed)

	w.issuedBy(w.enrol(v13, w.build("B-1", w.now().Add(time.Hour)), "simpleenroll", nil), device)
	unborn := w.build("C-1", w.now().Add(time.Hour))
	w.gives("C-1", vetting.Manufacturer, "acme")
	w.issuedBy(w.enrol(v13, unborn, "simpleenroll", nil), acme)

	w.gives("A-1", "acme", "plain")
	back := w.enrol(v13, renewed, "simplereenroll", renewed.cert)
	w.issuedBy(back, device)
	w.opensAll(back)
	storetest.Verify(t, w.server.store)
}

// reopened is the server after a restart.
func (w *works) reopened() {
	w.t.Helper()
	if err := w.server.Stop(context.WithoutCancel(w.t.Context())); err != nil {
		w.t.Fatal(err)
	}
	s, err := New(w.t.Context(), w.config, Environment{Now: w.now})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		if err := s.Stop(context.WithoutCancel(w.t.Context())); err != nil {
			w.t.Errorf("stop: %v", err)
		}
	})
	if err := s.Start(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
	w.server, w.world.Store = s, s.store
}

// mute wants the owner's device to be turned away for now, all others to be
// served, and the operator to be told.
func (w *works) mute(unit pair, other, why string) {
	w.t.Helper()
	before := w.registrations()
	_, csr := w.request(nil)
	if code, retry, body := w.post(unit, csr); code != 503 || retry == "" || !strings.Contains(body, "issuing CA acme-ca cannot sign") || strings.Contains(body, w.config.Dir) {
		w.t.Errorf("enrolment: %d, Retry-After %q, %s", code, retry, body)
	}
	if after := w.registrations(); after != before {
		w.t.Errorf("there are %d registrations, there were %d", after, before)
	}
	w.enrol(v13, w.build(other, w.now().Add(time.Hour)), "simpleenroll", nil)
	code, body := w.ready()
	var r report
	if err := json.Unmarshal([]byte(body), &r); err != nil || code != 200 || !r.Ready || !strings.Contains(r.Checks["issuers"], "acme-ca cannot sign") || !strings.Contains(r.Checks["issuers"], why) {
		w.t.Errorf("/readyz: %d %s", code, body)
	}
	_, text := get(w.t, http.DefaultClient, "http://"+w.server.Addrs()["ops"]+"/metrics")
	wantContains(w.t, text, `touchmark_ready{check="issuers"} 0`, `touchmark_certificate_expiry_seconds{name="issuer-acme-ca"}`)
	var list struct {
		Items []struct{ Name, Problem string }
	}
	_, text = get(w.t, as(w.t, w.config, "admin"), "https://"+w.server.Addrs()["api"]+"/api/v1/issuers")
	if err := json.Unmarshal([]byte(text), &list); err != nil || len(list.Items) != 5 || list.Items[0].Problem != "" || !strings.Contains(list.Items[4].Problem, why) {
		w.t.Errorf("the list is %s (%v)", text, err)
	}
}

func (w *works) registrations() int {
	w.t.Helper()
	list, err := w.server.store.Registrations(w.t.Context(), vetting.RegistrationFilter{}, vetting.Page{Limit: 100})
	if err != nil {
		w.t.Fatal(err)
	}
	return len(list)
}

// An issuing CA whose key is lost, or another's, or whose time is over, keeps
// nobody waiting but its owner's devices.
func TestIssuingCAThatCannotSign(t *testing.T) {
	w := opened(t)
	w.issuer("acme-ca")
	w.ask("/owners", map[string]string{"name": "acme", "issuer": "acme-ca"}, 201, nil)
	unit, old := w.build("A-1", w.now().Add(time.Hour)), w.build("A-2", w.now().Add(time.Hour))
	w.gives("A-1", vetting.Manufacturer, "acme")
	w.gives("A-2", vetting.Manufacturer, "acme")
	earlier := w.enrol(v13, old, "simpleenroll", nil)
	key := filepath.Join(w.config.Dir, "keys", "issuer-acme-ca.key")
	if err := os.Rename(key, key+".away"); err != nil {
		t.Fatal(err)
	}
	w.reopened()
	w.mute(unit, "B-1", "issuer-acme-ca.key")
	if code, _, body := w.own(earlier, "POST", "/device/v1/activation"); code != 200 { // what it issued counts
		t.Errorf("activation: %d %s", code, body)
	}
	text, err := os.ReadFile(filepath.Join(w.config.Dir, "keys", "factory-ca.key"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(key, text, 0o600); err != nil {
		t.Fatal(err)
	}
	w.reopened()
	w.mute(unit, "B-2", "is not the key of the certificate")
	if err := os.Rename(key+".away", key); err != nil {
		t.Fatal(err)
	}
	if err := w.server.issuing.Refresh(t.Context()); err != nil { // which comes by itself every second
		t.Fatal(err)
	}
	w.enrol(v13, unit, "simpleenroll", nil)
	if _, body := w.ready(); !strings.Contains(body, `"issuers":"ok"`) {
		t.Errorf("/readyz: %s", body)
	}
	storetest.Verify(t, w.server.store)
}

// What is no issuing CA's certificate, or not on a key that the server has,
// is refused, and changes nothing.
func TestBadIssuingCAs(t *testing.T) {
	w := opened(t)
	acme := w.issuer("acme-ca")
	ctx := t.Context()
	made := func(name string) string { return string(ca.PEM(ceremony(t, w.config, "root", name, w.now()).Raw)) }
	device, factory := w.server.authorities.Device, w.server.authorities.Factory
	stranger := opened(t).issuer("acme-ca")
	late := ceremony(t, w.config, "root", "late", w.now().AddDate(-21, 0, 0))
	for name, c := range map[string]struct {
		name, certificate, want string
		status                  int
	}{
		"the name is taken":       {"acme-ca", string(ca.PEM(acme.Raw)), "exists already", 409},
		"another's certificate":   {"beta", string(ca.PEM(acme.Raw)), "cannot use the key", 422},
		"no key":                  {"nokey", string(ca.PEM(acme.Raw)), "cannot use the key", 422},
		"the device CA":           {"device-ca", string(ca.PEM(device.Certificate.Raw)), "choose another name", 422},
		"the factory CA":          {"factory", string(ca.PEM(factory.Certificate.Raw)), "name or the key of", 422},
		"the root":                {"root", string(ca.PEM(w.server.authorities.Root.Raw)), "pathlen:0", 422},
		"a device":                {"leaf", string(ca.PEM(w.enrol(v13, w.build("A-1", w.now().Add(time.Hour)), "simpleenroll", nil).cert.Raw)), "not a CA's", 422},
		"another root's":          {"acme2", string(ca.PEM(stranger.Raw)), "not signed by the root", 422},
		"one that ran out":        {"late", string(ca.PEM(late.Raw)), "is valid from", 422},
		"capitals":                {"ACME", made("gamma"), "capital letters", 422},
		"a path":                  {"../root", made("gamma"), "allowed are letters", 422},
		"no PEM":                  {"gamma", "certificate", "PEM", 422},
		"two":                     {"gamma", made("gamma") + made("gamma"), "PEM", 422},
		"a private key":           {"gamma", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "PEM", 422},
		"no certificate but PEM":  {"gamma", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "certificate", 422},
		"a second key to rename":  {"acme3", string(ca.PEM(acme.Raw)), "cannot use the key", 422},
		"an empty certificate":    {"gamma", "", "length", 422},
		"the longest of all":      {"gamma", strings.Repeat("A", 40_000), "length", 422},
		"a name without an owner": {"", made("gamma"), "length", 422},
	} {
		t.Run(name, func(t *testing.T) {
			answer := send(t, as(t, w.config, "admin"), "POST", "https://"+w.server.Addrs()["api"]+"/api/v1/issuers", map[string]string{"name": c.name, "certificate": c.certificate}, c.status)
			wantContains(t, string(answer), c.want)
		})
	}
	w.ask("/owners", map[string]string{"name": "acme", "issuer": "gamma"}, 422, nil)
	if list, err := w.server.store.IssuingCAs(ctx); err != nil || len(list) != 1 {
		t.Errorf("%d issuing CAs, %v", len(list), err)
	}
	if acts := w.acts("issuer.", "owner."); !slices.Equal(acts, []string{"issuer.create"}) {
		t.Errorf("the log has %v", acts)
	}
}

// acts are those in the log that begin with one of some prefixes.
func (w *works) acts(prefixes ...string) (acts []string) {
	w.t.Helper()
	head, err := w.server.store.Head(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	err = w.server.store.Leaves(w.t.Context(), 0, head.Size(), func(_ int64, body []byte) error {
		l, err := audit.ParseLeaf(body)
		if slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(l.Act, p) }) {
			acts = append(acts, l.Act)
		}
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return acts
}

// Another issuing CA takes the device CA's place while devices come: new ones
// and renewals get certificates of it on every server, what the device CA
// signed stays in use, and there is a way back.
func TestDefaultIssuingCA(t *testing.T) {
	w := opened(t)
	device := w.server.authorities.Device.Certificate
	w.ask("/owners", map[string]string{"name": "pinned", "issuer": "device-ca"}, 201, nil)
	w.ask("/owners", map[string]string{"name": "plain"}, 201, nil)
	old := w.enrol(v13, w.build("A-1", w.now().Add(time.Hour)), "simpleenroll", nil)
	pinned, plain := w.build("B-1", w.now().Add(time.Hour)), w.build("C-1", w.now().Add(time.Hour))
	w.gives("B-1", vetting.Manufacturer, "pinned")
	w.gives("C-1", vetting.Manufacturer, "plain")
	next := w.issuer("devices-2027")
	other, err := New(t.Context(), w.config, Environment{Now: w.now}) // a second server on the database
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = other.Stop(context.WithoutCancel(t.Context())) })

	w.ask("/issuers/devices-2027/default", nil, 200, nil)
	if err := other.issuing.Refresh(t.Context()); err != nil || other.authorities.Default() != "devices-2027" {
		t.Errorf("the other server issues with %s, %v", other.authorities.Default(), err)
	}
	w.opensAll(old)
	w.drains("device-ca", 1, 1)
	w.issuedBy(w.enrol(v13, w.build("A-2", w.now().Add(time.Hour)), "simpleenroll", nil), next)
	w.issuedBy(w.enrol(v13, plain, "simpleenroll", nil), next)
	w.issuedBy(w.enrol(v13, pinned, "simpleenroll", nil), device)
	renewed := w.enrol(v13, old, "simplereenroll", old.cert)
	w.issuedBy(renewed, next)
	w.opensAll(renewed)
	w.drains("device-ca", 2, 1) // A-1 had one before, and pinned stays
	w.drains("devices-2027", 3, 3)
	w.ask("/issuers/devices-2027/close", nil, 409, nil)

	w.reopened() // the choice is in the database
	w.issuedBy(w.enrol(v13, w.build("A-3", w.now().Add(time.Hour)), "simpleenroll", nil), next)
	w.ask("/issuers/device-ca/default", nil, 200, nil)
	w.ask("/issuers/devices-2027/close", nil, 200, nil)
	w.ask("/issuers/devices-2027/default", nil, 409, nil)
	back := w.enrol(v13, renewed, "simplereenroll", renewed.cert)
	w.issuedBy(back, device)
	if _, body := w.ready(); !strings.Contains(body, `"issuers":"ok"`) || !strings.Contains(body, `"default-issuer":"ok"`) {
		t.Errorf("/readyz: %s", body)
	}
	w.ask("/issuers/devices-2027/reopen", nil, 200, nil)
	w.ask("/issuers/devices-2027/default", nil, 200, nil)
	w.issuedBy(w.enrol(v13, back, "simplereenroll", back.cert), next)
	storetest.Verify(t, w.server.store)
}

// drains wants so many certificates of a CA in the field, and so many devices
// that would be asked to renew.
func (w *works) drains(issuer string, certificates, devices int64) {
	w.t.Helper()
	_, text := get(w.t, as(w.t, w.config, "admin"), "https://"+w.server.Addrs()["api"]+"/api/v1/issuers/"+issuer)
	var have struct{ Certificates int64 }
	if err := json.Unmarshal([]byte(text), &have); err != nil || have.Certificates != certificates {
		w.t.Errorf("%s has %d certificates in the field, want %d (%v)", issuer, have.Certificates, certificates, err)
	}
	var plan vetting.Job
	w.ask("/jobs", map[string]any{"action": "renew", "spreadSeconds": 3600, "note": "drain", "selected": map[string]string{"issuer": issuer}}, 201, &plan)
	if plan.Found.Devices != devices || plan.Found.Changes != devices {
		w.t.Errorf("%s: a job would ask %d devices and change %d, want %d", issuer, plan.Found.Devices, plan.Found.Changes, devices)
	}
}
