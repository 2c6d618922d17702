package server

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/touchmark/touchmark/enroll/certorder"
	"github.com/touchmark/touchmark/server/api"
	"github.com/touchmark/touchmark/vetting"
)

func named(names ...string) map[string]any {
	var list []any
	for _, n := range names {
		list = append(list, map[string]any{"type": "dns", "value": n})
	}
	return map[string]any{"identifiers": list}
}

// listen serves HTTP at an address of this machine until the test ends.
func (p *portals) listen(address string, h http.HandlerFunc) {
	p.t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(address, strconv.Itoa(p.httpPort)))
	if err != nil {
		p.t.Fatal(err)
	}
	s := &http.Server{Handler: h, ReadHeaderTimeout: time.Minute}
	go func() { _ = s.Serve(l) }()
	p.t.Cleanup(func() { s.Close() })
}

// forServers is a client with an account for the order of servers.
func (p *portals) forServers() *acmeClient {
	p.t.Helper()
	c := p.acme()
	c.open(p.accountKey(api.AccountKeyInput{Order: "servers"}))
	return c
}

// by has the order be proved by another of its challenges.
func (o *acmeOrder) by(kind string) *acmeOrder {
	o.t.Helper()
	authz := o.post(strings.Replace(o.at, "order", "authz", 1), nil).json(o.t)
	for _, c := range authz["challenges"].([]any) {
		if c := c.(map[string]any); c["type"] == kind {
			o.challengeAt, o.token = c["url"].(string), c["token"].(string)
			return o
		}
	}
	o.t.Fatalf("no challenge %s in %v", kind, authz)
	return nil
}

func (o *acmeOrder) answer() acmeAnswer { return o.post(o.challengeAt, map[string]any{}) }

// wantChallenge wants a challenge with a status and problem.
func (o *acmeOrder) wantChallenge(what string, a acmeAnswer, status, kind, text string) {
	o.t.Helper()
	v := a.json(o.t)
	problem, _ := v["error"].(map[string]any)
	if a.status != 200 || v["status"] != status || problem["type"] != "urn:ietf:params:acme:error:"+kind || !strings.Contains(fmt.Sprint(problem["detail"]), text) {
		o.t.Errorf("%s: %d %s, want %s, %s with %q", what, a.status, a.body, status, kind, text)
	}
	if status == "processing" && a.header.Get("Retry-After") == "" {
		o.t.Errorf("%s: no Retry-After", what)
	}
}

// Whatever names and redirects say, the server connects to no address that its
// configuration does not allow, and tells the client nothing of what is there.
func TestACMEValidationStaysOutside(t *testing.T) {
	p := newPortals(t)
	var reached atomic.Int32
	p.listen("127.0.0.2", func(w http.ResponseWriter, r *http.Request) {
		reached.Add(1)
		fmt.Fprint(w, "a secret of the inside")
	})
	var to atomic.Value
	p.listen("127.0.0.1", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, to.Load().(string), http.StatusFound)
	})
	p.zone.is("inside.lab.example", "127.0.0.2")
	p.zone.is("metadata.lab.example", "169.254.169.254")
	p.zone.is("loop.lab.example", "127.0.0.1")
	p.zone.turns("flip.lab.example", func(asked int) string { // rebinding
		if asked == 0 {
			return "127.0.0.1"
		}
		return "127.0.0.2"
	})
	c := p.forServers()
	for _, name := range []string{"inside.lab.example", "metadata.lab.example"} {
		for _, kind := range []string{"http-01", "tls-alpn-01"} {
			o := c.order(named(name)).by(kind)
			o.wantChallenge(name+" by "+kind, o.answer(), "processing", "connection", "may not connect")
		}
	}
	for target, text := range map[string]string{
		"http://169.254.169.254/latest/meta-data/": "may not connect", "http://127.0.0.2/": "may not connect", "http://[::ffff:127.0.0.2]/": "may not connect",
		"http://inside.lab.example/": "may not connect", "https://inside.lab.example/": "may not connect", "http://metadata.lab.example/": "may not connect",
		"http://flip.lab.example/":        "may not connect",
		"http://web1.lab.example:8080/":   "another port",
		"http://web1.lab.example:443/":    "another port",
		"ftp://web1.lab.example/":         "neither http nor https",
		"file:///etc/passwd":              "neither http nor https",
		"http://a:b@web1.lab.example/":    "neither http nor https",
		"http://web1.lab.example/again":   "more than 10 redirects",
		"http://nowhere.lab.example/":     "cannot be reached",
		"https://web1.lab.example/secure": "cannot be reached",
	} {
		to.Store(target)
		name := "web1.lab.example"
		if strings.Contains(target, "flip") {
			name = "flip.lab.example"
		}
		o := c.order(named(name))
		kind := "connection"
		if strings.Contains(target, "nowhere") {
			kind = "dns"
		}
		o.wantChallenge("a redirect to "+target, o.answer(), "processing", kind, text)
	}
	if n := reached.Load(); n != 0 {
		t.Errorf("the inside was reached %d times", n)
	}
}

// A challenge that is answered wrongly ends its order, and the problem does not
// tell what was answered.
func TestACMEServerAnswersWrongly(t *testing.T) {
	p := newPortals(t)
	body, status := "a secret of the inside", http.StatusOK
	p.listen("127.0.0.1", func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(status)
		fmt.Fprint(w, body)
	})
	c := p.forServers()
	wrong := func(what string, o *acmeOrder) {
		t.Helper()
		a := o.answer()
		o.wantChallenge(what, a, "invalid", "incorrectResponse", "")
		if strings.Contains(string(a.body), "secret") {
			t.Errorf("%s: the problem tells what was answered: %s", what, a.body)
		}
		o.wantInvalid(what, "incorrectResponse", "")
		wantProblem(t, what+", finalized", o.post(o.finalizeAt, requestFor(t, newP256(t), &x509.CertificateRequest{DNSNames: []string{"web1.lab.example"}})), 403, "orderNotReady", "invalid")
	}
	wrong("another answer", c.order(named("web1.lab.example")))
	wrong("another account's", func() *acmeOrder {
		o, other := c.order(named("web1.lab.example")), p.forServers()
		body = (&acmeOrder{acmeClient: other, token: o.token}).keyAuthorization()
		return o
	}())
	o := c.order(named("web1.lab.example"))
	body = o.keyAuthorization() + strings.Repeat(" ", 5000)
	wrong("a long answer", o)
	o = c.order(named("web1.lab.example"))
	body, status = o.keyAuthorization(), http.StatusNotFound
	wrong("not found", o)
	o = c.order(named("web1.lab.example")).by("dns-01")
	if err := os.WriteFile(filepath.Join(p.zone.dir, "_acme-challenge.web1.lab.example"), []byte("secret\n"+o.keyAuthorization()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	wrong("another record", o)
	o = c.order(named("web2.lab.example")).by("dns-01")
	o.wantChallenge("no record", o.answer(), "processing", "dns", "no such name")
	o = c.order(named("web1.lab.example")).by("tls-alpn-01")
	o.wantChallenge("nobody speaks TLS", o.answer(), "processing", "connection", "refused")
}

// A server that cannot be reached is looked at again when the client asks, not
// before it is time, and three times.
func TestACMEServerLookedAtAgain(t *testing.T) {
	p := newPortals(t)
	c := p.forServers()
	late, never := c.order(named("web1.lab.example")), c.order(named("web2.lab.example"))
	late.wantChallenge("nobody is there", late.answer(), "processing", "connection", "refused")
	never.wantChallenge("nobody is there", never.answer(), "processing", "connection", "refused")
	if v := late.post(late.at, nil).json(t); v["status"] != "pending" {
		t.Errorf("meanwhile the order is %v", v)
	}
	var asked atomic.Int32
	p.listen("127.0.0.1", func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		fmt.Fprintln(w, late.keyAuthorization())
	})
	p.zone.is("web2.lab.example", "127.0.0.9")
	authz := strings.Replace(late.at, "order", "authz", 1)
	if v := c.post(authz, nil).json(t); v["status"] != "pending" || asked.Load() != 0 {
		t.Errorf("before it is time: %v, asked %d times", v, asked.Load())
	}
	p.ahead.Store(int64(6 * time.Second))
	if v := c.post(authz, nil).json(t); v["status"] != "valid" || asked.Load() != 1 {
		t.Errorf("when it is time: %v, asked %d times", v, asked.Load())
	}
	never.wantChallenge("the second time, at once", never.answer(), "processing", "connection", "")
	never.wantChallenge("the third time", never.answer(), "invalid", "connection", "")
	never.wantInvalid("three times", "connection", "")
}

// prove has a server answer as the client wants, and finalizes.
func (p *portals) prove(c *acmeClient, name string) *acmeOrder {
	p.t.Helper()
	o := c.order(named(name))
	p.expected.Store(o.keyAuthorization())
	if a := o.answer(); a.json(p.t)["status"] != "valid" {
		p.t.Fatalf("%s: %s", name, a.body)
	}
	return o
}

func TestACMEServerNames(t *testing.T) {
	p := newPortals(t)
	p.listen("127.0.0.1", func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, p.expected.Load()) })
	c := p.forServers()
	for name, kind := range map[string]string{"web1.other.example": "rejectedIdentifier", "lab.example": "rejectedIdentifier", "web1.lab.example.": "malformed", "WEB1.lab.example": "malformed", "127.0.0.1": "malformed"} {
		status := map[string]int{"rejectedIdentifier": 403, "malformed": 400}[kind]
		wantProblem(t, name, c.post("new-order", named(name)), status, kind, "")
	}
	wantProblem(t, "two names", c.post("new-order", named("web1.lab.example", "web2.lab.example")), 400, "malformed", "each by itself")
	wild := c.order(named("*.lab.example"))
	v := c.post(strings.Replace(wild.at, "order", "authz", 1), nil).json(t)
	if id := fmt.Sprint(v["identifier"]); v["wildcard"] != true || strings.Contains(id, "*") || len(v["challenges"].([]any)) != 1 {
		t.Errorf("the authorization of a wildcard: %v", v)
	}

	o := p.prove(c, "web1.lab.example")
	for what, r := range map[string]x509.CertificateRequest{
		"no name": {}, "another name": {DNSNames: []string{"web2.lab.example"}}, "one name more": {DNSNames: []string{"web1.lab.example", "web2.lab.example"}},
		"another subject": {DNSNames: []string{"web1.lab.example"}, Subject: pkix.Name{CommonName: "web2.lab.example"}},
		"an address":      {DNSNames: []string{"web1.lab.example"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}},
	} {
		wantProblem(t, what, o.post(o.finalizeAt, requestFor(t, newP256(t), &r)), 400, "badCSR", "web1.lab.example")
	}
	key := newP256(t)
	request := requestFor(t, key, &x509.CertificateRequest{DNSNames: []string{"web1.lab.example"}})

	k := p.accountKey(api.AccountKeyInput{Site: "hsinchu"})
	site := p.acme()
	site.open(k)
	q := p.prove(site, "web1.lab.example")
	q.post(q.finalizeAt, request)
	q.wantInvalid("a name of no record by an account for the site", "rejectedIdentifier", "account for the order")

	if a := o.post(o.finalizeAt, request); a.status != 200 {
		t.Fatalf("finalize: %s", a.body)
	}
	cert := o.certificate()
	q = p.prove(site, "web1.lab.example")
	q.post(q.finalizeAt, request)
	if again := q.certificate(); !again.Equal(cert) {
		t.Errorf("the same key by another account: serial numbers %x and %x", again.SerialNumber, cert.SerialNumber)
	}
	p.filled("servers", 1)
	d := p.device("web1.lab.example")
	if d.Product != "portal" || d.Order != "servers" {
		t.Errorf("the device is %+v", d)
	}

	m := p.attesting()
	anybody := p.acme()
	anybody.open(p.accountKey(api.AccountKeyInput{Site: "hsinchu"}))
	gw := attestedKey(t, m, "web1.lab.example")
	attested := anybody.ready(m, permanent("web1.lab.example"), gw)
	attested.finalize(gw)
	attested.wantInvalid("a server's name attested", "rejectedIdentifier", "does not accept the proof")
	if d := p.device("web1.lab.example"); d.State != vetting.DeviceIssued {
		t.Errorf("after that it is %s", d.State)
	}
	if _, err := p.server.store.LastCertificate(t.Context(), 1, certorder.Identifier{Type: certorder.DNS, Value: "web2.lab.example"}); vetting.ProblemOf(err) != vetting.NotFound {
		t.Errorf("a certificate for another name: %v", err)
	}
}
