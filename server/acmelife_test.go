package server

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/touchmark/touchmark/enroll"
	"github.com/touchmark/touchmark/internal/store/storetest"
	"github.com/touchmark/touchmark/server/api"
	"github.com/touchmark/touchmark/vetting"
	"github.com/touchmark/touchmark/vetting/vendorid/vendoridtest"
)

// ready orders for a device and meets the challenge.
func (c *acmeClient) ready(m *vendoridtest.Maker, in map[string]any, p *vendoridtest.Party) *acmeOrder {
	c.t.Helper()
	o := c.order(in)
	if a := o.attest(o.statement(p, m.Issuing.Cert)); a.status != 200 || a.json(c.t)["status"] != "valid" {
		c.t.Fatalf("challenge: %d %s", a.status, a.body)
	}
	return o
}

func (o *acmeOrder) finalize(p *vendoridtest.Party) acmeAnswer {
	o.t.Helper()
	return o.post(o.finalizeAt, requestFor(o.t, p.Key, &x509.CertificateRequest{}))
}

// wantInvalid wants an order that ended with a problem.
func (o *acmeOrder) wantInvalid(what, kind, text string) {
	o.t.Helper()
	v := o.post(o.at, nil).json(o.t)
	p, _ := v["error"].(map[string]any)
	if v["status"] != "invalid" || p["type"] != "urn:ietf:params:acme:error:"+kind || !strings.Contains(fmt.Sprint(p["detail"]), text) {
		o.t.Errorf("%s: the order is %v, want %s with %q", what, v, kind, text)
	}
}

// What is refused makes the order invalid, with the reason; nothing is issued.
func TestACMERefused(t *testing.T) {
	w := opened(t)
	m := w.attesting()
	c := w.opens()
	p := attestedKey(t, m, "stranger")
	o := c.ready(m, permanent("stranger"), p)
	o.finalize(p)
	o.wantInvalid("no record", "rejectedIdentifier", "No manufacturing record")

	w.keyless("GW-1")
	q := attestedKey(t, m, "GW-1")
	first := c.ready(m, permanent("GW-1"), q)
	first.finalize(q)
	first.certificate()
	elsewhere := w.acme()
	if _, err := w.server.store.CreateSite(t.Context(), storetest.By, &vetting.Site{Name: "tainan"}); err != nil {
		t.Fatal(err)
	}
	elsewhere.open(w.accountKey(api.AccountKeyInput{Site: "tainan"}))
	o = elsewhere.ready(m, permanent("GW-1"), q)
	o.finalize(q)
	o.wantInvalid("another site's account", "rejectedIdentifier", "site tainan")
	storetest.Verify(t, w.server.store)
}

// A device that is held leaves its order processing until a person has decided.
func TestACMEHeld(t *testing.T) {
	w := opened(t)
	m := w.attesting()
	for _, serial := range []string{"GW-1", "GW-2"} {
		w.keyless(serial)
	}
	paused := vetting.OrderPaused
	if _, err := w.server.store.ChangeOrder(t.Context(), storetest.By, "po-1", vetting.OrderChange{State: &paused}); err != nil {
		t.Fatal(err)
	}
	c := w.opens()
	orders := map[string]*acmeOrder{}
	for _, serial := range []string{"GW-1", "GW-2"} {
		p := attestedKey(t, m, serial)
		o, a := c.enrol(m, serial, p)
		v := a.json(t)
		if a.status != 200 || v["status"] != "processing" || a.header.Get("Retry-After") == "" || !strings.Contains(string(a.body), "paused") {
			t.Fatalf("%s: %d %s, Retry-After %q", serial, a.status, a.body, a.header.Get("Retry-After"))
		}
		if a := o.finalize(p); a.status != 403 || a.problem() != "orderNotReady" { // a CSR is signed anew each time
			t.Errorf("finalized with another request: %d %s", a.status, a.body)
		}
		orders[serial] = o
	}
	list, err := w.server.store.Registrations(t.Context(), vetting.RegistrationFilter{Undecided: true}, vetting.Page{})
	if err != nil || len(list) != 2 {
		t.Fatalf("%d registrations wait, %v", len(list), err)
	}
	for _, r := range list {
		admit := w.device("GW-1").ID == r.DeviceID
		if _, err := w.server.store.DecideRegistration(t.Context(), storetest.By, r.ID, vetting.Decision{Admit: admit, Note: "looked at it"}); err != nil {
			t.Fatal(err)
		}
	}
	if v := c.post(orders["GW-1"].at, nil).json(t); v["status"] != "processing" {
		t.Errorf("before its time the order is %v", v["status"])
	}
	w.ahead.Store(int64(2 * time.Minute))
	if cert := orders["GW-1"].certificate(); cert.Subject.SerialNumber != "GW-1" {
		t.Errorf("the certificate is %s's", cert.Subject)
	}
	orders["GW-2"].wantInvalid("turned away", "unauthorized", "looked at it")
	storetest.Verify(t, w.server.store)
}

// An order that is finalized many times at once, by one request or several,
// leads to one certificate.
func TestACMEFinalizedAtOnce(t *testing.T) {
	w := opened(t)
	m := w.attesting()
	w.keyless("GW-1")
	c := w.opens()
	p := attestedKey(t, m, "GW-1")
	o := c.ready(m, permanent("GW-1"), p)
	requests := []map[string]string{requestFor(t, p.Key, &x509.CertificateRequest{}), requestFor(t, p.Key, &x509.CertificateRequest{})}
	var wg sync.WaitGroup
	for n := range 10 {
		wg.Go(func() {
			mine := *c
			mine.nonce = ""
			a := mine.post(o.finalizeAt, requests[n%2])
			switch {
			case a.status == 200, a.status == 403 && a.problem() == "orderNotReady", a.status == 503:
			default:
				t.Errorf("%d %s", a.status, a.body)
			}
		})
	}
	wg.Wait()
	c.nonce = ""
	cert := o.certificate()
	list, err := w.server.store.Registrations(t.Context(), vetting.RegistrationFilter{Outcome: vetting.Admitted}, vetting.Page{})
	if err != nil || len(list) != 1 || list[0].Certificate != enroll.SerialHex(cert) {
		t.Errorf("%d certificates were issued, %v", len(list), err)
	}
	again := o.post(o.finalizeAt, requests[0])
	other := o.post(o.finalizeAt, requests[1])
	if (again.status == 200) == (other.status == 200) {
		t.Errorf("finalized again: %d and %d; one of the requests counted", again.status, other.status)
	}
	storetest.Verify(t, w.server.store)
}

// The account that was given a certificate renews it and says what it
// replaces, once; another account does not once the device is in service.
func TestACMERenewal(t *testing.T) {
	w := opened(t)
	m := w.attesting()
	w.keyless("GW-1")
	c := w.opens()
	p := attestedKey(t, m, "GW-1")
	o, _ := c.enrol(m, "GW-1", p)
	cert := o.certificate()
	id := b64url(cert.AuthorityKeyId) + "." + b64url(cert.SerialNumber.Bytes())
	status, body := get(t, c.http, c.base+"renewal-info/"+id)
	if status != 200 || !strings.Contains(body, "suggestedWindow") {
		t.Errorf("renewal info: %d %s", status, body)
	}
	if status, _ := get(t, c.http, c.base+"renewal-info/"+b64url(cert.AuthorityKeyId)+"."+b64url([]byte{1, 2, 3})); status != 404 {
		t.Errorf("of a certificate that there is not: %d", status)
	}
	in := permanent("GW-1")
	in["replaces"] = id
	foreign := w.opens()
	wantProblem(t, "another account's certificate", foreign.post("new-order", in), 403, "unauthorized", "not of this account")
	wrong := permanent("GW-2")
	wrong["replaces"] = id
	wantProblem(t, "for another device", c.post("new-order", wrong), 403, "unauthorized", "the order for")

	q := attestedKey(t, m, "GW-1")
	next := c.ready(m, in, q)
	wantProblem(t, "replaced twice", c.post("new-order", in), 409, "alreadyReplaced", "successor")
	if a := next.finalize(q); a.status != 200 || a.json(t)["replaces"] != id {
		t.Errorf("%d %s", a.status, a.body)
	}
	if renewed := next.certificate(); renewed.Equal(cert) || !q.Key.PublicKey.Equal(renewed.PublicKey) {
		t.Error("it was not renewed on the new key")
	}
	if d := w.device("GW-1"); d.State != vetting.DeviceActive {
		t.Errorf("the device is %s", d.State)
	}
	r := attestedKey(t, m, "GW-1")
	late := foreign.ready(m, permanent("GW-1"), r)
	late.finalize(r)
	late.wantInvalid("another account", "unauthorized", "already in service")
	orderOf, err := w.server.store.Order(t.Context(), "po-1")
	if err != nil || orderOf.Issued != 1 {
		t.Errorf("%d units, %v", orderOf.Issued, err)
	}
	storetest.Verify(t, w.server.store)
}

// A certificate is revoked by its account or its own key, and by nobody else.
func TestACMERevocation(t *testing.T) {
	w := opened(t)
	m := w.attesting()
	c, other := w.opens(), w.opens()
	certs := map[string]*x509.Certificate{}
	keys := map[string]*vendoridtest.Party{}
	for _, serial := range []string{"GW-1", "GW-2"} {
		w.keyless(serial)
		keys[serial] = attestedKey(t, m, serial)
		o, _ := c.enrol(m, serial, keys[serial])
		certs[serial] = o.certificate()
	}
	in := func(serial string, reason int) map[string]any {
		return map[string]any{"certificate": b64url(certs[serial].Raw), "reason": reason}
	}
	wantProblem(t, "another account", other.post("revoke-cert", in("GW-1", 1)), 403, "unauthorized", "neither")
	wantProblem(t, "a hold", c.post("revoke-cert", in("GW-1", 6)), 400, "badRevocationReason", "hold")
	wantProblem(t, "no such reason", c.post("revoke-cert", in("GW-1", 7)), 400, "badRevocationReason", "")
	wantProblem(t, "no certificate", c.post("revoke-cert", map[string]any{"certificate": "AAAA"}), 400, "malformed", "")
	wantProblem(t, "another CA's", c.post("revoke-cert", map[string]any{"certificate": b64url(m.Root.Cert.Raw)}), 404, "malformed", "not one that this server issued")
	if a := c.post("revoke-cert", in("GW-1", 4)); a.status != 200 {
		t.Errorf("by the account: %d %s", a.status, a.body)
	}
	wantProblem(t, "again", c.post("revoke-cert", in("GW-1", 4)), 400, "alreadyRevoked", "")

	byKey := w.acme()
	wantProblem(t, "by any key", byKey.post("revoke-cert", in("GW-2", 1)), 403, "unauthorized", "neither")
	byKey.key = keys["GW-2"].Key
	if a := byKey.post("revoke-cert", in("GW-2", 1)); a.status != 200 {
		t.Errorf("by its key: %d %s", a.status, a.body)
	}
	for serial, reason := range map[string]int{"GW-1": 4, "GW-2": 1} {
		kept, err := w.server.store.Certificate(t.Context(), enroll.SerialHex(certs[serial]))
		if err != nil || kept.State != vetting.CertificateRevoked || kept.Reason != reason {
			t.Errorf("%s: %+v, %v", serial, kept, err)
		}
	}
	storetest.Verify(t, w.server.store)
}

// attestsBadly sends an attestation that ends the challenge; the order cannot
// be finalized after that.
func (o *acmeOrder) attestsBadly(what string, statement any, text string, csr []byte) {
	o.t.Helper()
	a := o.attest(statement)
	problem, _ := a.json(o.t)["error"].(map[string]any)
	if a.status != 200 || problem["type"] != "urn:ietf:params:acme:error:badAttestationStatement" || !strings.Contains(fmt.Sprint(problem["detail"]), text) {
		o.t.Errorf("%s: %d %s, want %q", what, a.status, a.body, text)
	}
	wantProblem(o.t, what+", finalized all the same", o.post(o.finalizeAt, map[string]string{"csr": b64url(csr)}), 403, "orderNotReady", "invalid")
}

// An attestation that is not what it should be ends the challenge, is kept as
// evidence, and gives nobody a certificate.
func TestACMEBadAttestations(t *testing.T) {
	w := opened(t)
	m, stranger := w.attesting(), vendoridtest.New(t, "Strangers")
	w.keyless("GW-1")
	c := w.opens()
	p, other := attestedKey(t, m, "GW-1"), attestedKey(t, m, "GW-2")
	forged := attestedKey(t, stranger, "GW-1")
	old := c.order(permanent("GW-1"))
	apple, err := asn1.Marshal("GW-1")
	if err != nil {
		t.Fatal(err)
	}
	noNonce := m.Device(&x509.Certificate{ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 840, 113635, 100, 8, 9, 1}, Value: apple}}})
	change := func(s map[string]any, name string, value any) map[string]any {
		s["attStmt"].(map[string]any)[name] = value
		return s
	}
	ak := m.Device(&x509.Certificate{Subject: pkix.Name{CommonName: "AK"}, UnknownExtKeyUsage: []asn1.ObjectIdentifier{{2, 23, 133, 8, 3}}})
	tpm := func(o *acmeOrder, more map[string]any) any {
		stmt := map[string]any{"ver": "2.0", "x5c": [][]byte{ak.Cert.Raw, m.Issuing.Cert.Raw}, "alg": -257, "sig": []byte{1}, "certInfo": []byte{1}, "pubArea": []byte{1}}
		for name, v := range more {
			stmt[name] = v
		}
		return map[string]any{"fmt": "tpm", "attStmt": stmt}
	}
	for what, r := range map[string]struct {
		statement func(o *acmeOrder) any
		text      string
	}{
		"another device's hardware":   {func(o *acmeOrder) any { return o.statement(other, m.Issuing.Cert) }, "identifier"},
		"a vendor that nobody trusts": {func(o *acmeOrder) any { return o.statement(forged, stranger.Issuing.Cert) }, "issued by"},
		"no issuing CA":               {func(o *acmeOrder) any { return o.statement(p) }, "issued by"},
		"for another challenge":       {func(o *acmeOrder) any { return old.statement(p, m.Issuing.Cert) }, "signature"},
		"another key's signature": {func(o *acmeOrder) any {
			s := o.statement(other, m.Issuing.Cert)
			return change(s, "x5c", [][]byte{p.Cert.Raw, m.Issuing.Cert.Raw})
		}, "signature"},
		"a signature that is none":    {func(o *acmeOrder) any { return change(o.statement(p, m.Issuing.Cert), "sig", []byte{1, 2, 3}) }, ""},
		"no certificates":             {func(o *acmeOrder) any { return change(o.statement(p), "x5c", [][]byte{}) }, "x5c"},
		"certificates that are none":  {func(o *acmeOrder) any { return change(o.statement(p), "x5c", [][]byte{{1}}) }, "x5c"},
		"x5c of another type":         {func(o *acmeOrder) any { return change(o.statement(p), "x5c", "text") }, "CBOR"},
		"a format that is not served": {func(o *acmeOrder) any { s := o.statement(p, m.Issuing.Cert); s["fmt"] = "packed"; return s }, "packed"},
		"no format":                   {func(o *acmeOrder) any { return map[string]any{} }, ""},
		"not a map":                   {func(o *acmeOrder) any { return []int{1} }, "CBOR"},
		"Apple's without a nonce": {func(o *acmeOrder) any {
			return map[string]any{"fmt": "apple", "attStmt": map[string]any{"x5c": [][]byte{noNonce.Cert.Raw, m.Issuing.Cert.Raw}}}
		}, "nonce"},
		"an AK that names no device": {func(o *acmeOrder) any { return tpm(o, nil) }, "permanent-identifier"},
		"RS1":                        {func(o *acmeOrder) any { return tpm(o, map[string]any{"alg": -65535}) }, "SHA-1"},
	} {
		o := c.order(permanent("GW-1"))
		o.attestsBadly(what, r.statement(o), r.text, certificateRequest(t, p.Key, &x509.CertificateRequest{}))
	}
	for what, payload := range map[string]any{"no base64": map[string]string{"attObj": "!"}, "nothing": map[string]string{}, "no CBOR": map[string]string{"attObj": "AAAA"}} {
		o := c.order(permanent("GW-1"))
		if a := o.post(o.challengeAt, payload); a.status != 200 || a.json(t)["status"] != "invalid" {
			t.Errorf("%s: %d %s", what, a.status, a.body)
		}
	}
	o := c.ready(m, permanent("GW-1"), p)
	wantProblem(t, "a swapped key", o.post(o.finalizeAt, requestFor(t, other.Key, &x509.CertificateRequest{})), 400, "badCSR", "not the one that was attested")
	wantProblem(t, "another's name", o.post(o.finalizeAt, requestFor(t, p.Key, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "GW-2"}})), 400, "badCSR", "GW-2")
	wantProblem(t, "a DNS name", o.post(o.finalizeAt, requestFor(t, p.Key, &x509.CertificateRequest{DNSNames: []string{"example.com"}})), 400, "badCSR", "subjectAltName")
	wantProblem(t, "no request", o.post(o.finalizeAt, map[string]string{"csr": "AAAA"}), 400, "badCSR", "PKCS#10")
	if a := o.finalize(p); a.status != 200 {
		t.Errorf("the device itself: %d %s", a.status, a.body)
	}
	o.certificate()
	evidence, err := w.server.store.Evidence(t.Context(), vetting.EvidenceFilter{Kind: vetting.EvidenceBadAttestation}, vetting.Page{})
	if err != nil || len(evidence) != 1 || evidence[0].DeviceID != w.device("GW-1").ID || evidence[0].Stands(w.device("GW-1")) {
		t.Errorf("evidence %+v, %v", evidence, err)
	}
	storetest.Verify(t, w.server.store)
}
