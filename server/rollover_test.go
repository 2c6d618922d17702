package server

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/touchmark/touchmark/internal/ca"
	"github.com/touchmark/touchmark/internal/keys"
	"github.com/touchmark/touchmark/internal/store/storetest"
	"github.com/touchmark/touchmark/vetting"
)

// rollover takes one step of a change of the root's key, and starts the server
// anew. The new key is keys/root-new.key.
func (w *works) rollover(step string) {
	w.t.Helper()
	ctx := w.t.Context()
	a, err := Authorities(ctx, w.config, Environment{Now: w.now})
	if err != nil {
		w.t.Fatal(err)
	}
	switch step {
	case "begin":
		err = w.begin(a)
	case "sign":
		for _, name := range []string{ca.DeviceName, ca.FactoryName, ca.OperatorName, ca.CodeSignName} {
			if err := a.Replace(name, ceremony(w.t, w.config, "root-new", name, w.now())); err != nil {
				w.t.Fatal(err)
			}
		}
	case "switch":
		err = a.SwitchRoot()
	case "finish":
		err = FinishRollover(ctx, w.config, a)
	}
	if err != nil {
		w.t.Fatalf("%s: %v", step, err)
	}
	for _, f := range Check(ctx, w.config, Environment{Now: w.now}) {
		if f.Err != nil {
			w.t.Errorf("%s: check of %s: %v", step, f.Part, f.Err)
		}
	}
	w.reopened()
}

func (w *works) begin(a *ca.Authorities) error {
	key, err := (keys.Ring{Dir: w.config.Dir}).Create(w.t.Context(), "file:keys/root-new.key", keys.P384)
	if err != nil {
		return err
	}
	old, err := ca.OpenRoot(w.t.Context(), w.config.Dir, "file:keys/root.key", []*x509.Certificate{a.Root})
	if err != nil {
		return err
	}
	r, err := ca.NewRollover(old, key, w.now())
	if err != nil {
		return err
	}
	return a.BeginRollover(r)
}

// opinions is what openssl says of device certificates, from the viewpoint of
// who trusts one root only and has what /cacerts gave it.
func (w *works) opinions(step string, roots map[string]*x509.Certificate, devices map[string]*x509.Certificate) {
	w.t.Helper()
	for name, root := range roots {
		cas := certificates(w.t, w.trusting(step, name, root))
		for age, cert := range devices {
			if out, err := opensslVerify(w.t, root, cas, cert); err != nil {
				w.t.Errorf("%s: who trusts the %s root alone does not trust a device's certificate of %s: %s", step, name, age, out)
			}
		}
	}
}

// trusting asks for /cacerts as a client that trusts one root only.
func (w *works) trusting(step, name string, root *x509.Certificate) string {
	w.t.Helper()
	pool := x509.NewCertPool()
	pool.AddCert(root)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, ServerName: "localhost"}}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}
	code, body := get(w.t, client, "https://"+w.server.Addrs()["est"]+"/.well-known/est/cacerts")
	if code != 200 {
		w.t.Errorf("%s: who trusts the %s root alone gets %d from /cacerts", step, name, code)
	}
	return body
}

func opensslVerify(t *testing.T, root *x509.Certificate, untrusted []*x509.Certificate, cert *x509.Certificate) (string, error) {
	t.Helper()
	dir := t.TempDir()
	write := func(name string, certs ...*x509.Certificate) string {
		var text []byte
		for _, c := range certs {
			text = append(text, ca.PEM(c.Raw)...)
		}
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	out, err := exec.Command("openssl", "verify", "-x509_strict", "-purpose", "sslclient", "-no-CApath", "-no-CAstore", "-CAfile", write("root", root),
		"-untrusted", write("cas", untrusted...), write("device", cert)).CombinedOutput()
	return string(out), err
}

// The root's key and then the issuing CA change under a running installation:
// at every step devices enrol and renew, clients of either root get in, old
// and new certificates verify from either root, and the database goes along.
func TestRootRollover(t *testing.T) {
	w := opened(t)
	acme := w.issuer("acme-ca")
	w.ask("/owners", map[string]string{"name": "acme", "issuer": "acme-ca"}, 201, nil)
	fleet := map[string]pair{"before": w.enrol(v13, w.build("A-0", w.now().Add(time.Hour)), "simpleenroll", nil)}
	owned := w.build("B-0", w.now().Add(time.Hour))
	w.gives("B-0", vetting.Manufacturer, "acme")
	fleet["before, of acme"] = w.enrol(v13, owned, "simpleenroll", nil)
	roots := map[string]*x509.Certificate{"old": w.server.authorities.Root}
	devices := map[string]*x509.Certificate{}
	for i, step := range []string{"begin", "sign", "issuing", "switch", "default", "finish"} {
		switch step {
		case "issuing": // an issuing CA, signed by the new root, to the running server
			w.renewIssuer("acme-ca", "root-new")
		case "default":
			w.ask("/issuers/acme-ca/default", nil, 200, nil)
		default:
			w.rollover(step)
		}
		switch step {
		case "begin":
			roots["new"] = w.newRoot()
		case "finish":
			delete(roots, "old")
		}
		for age, p := range fleet {
			devices[age] = p.cert // and what it had before
			fleet[age] = w.enrol(v13, p, "simplereenroll", p.cert)
			devices[age+", renewed at "+step] = fleet[age].cert
		}
		devices[step] = w.enrol(v13, w.build("A-"+string(rune('1'+i)), w.now().Add(time.Hour)), "simpleenroll", nil).cert
		w.opinions(step, roots, devices)
	}
	if !bytes.Equal(devices["finish"].AuthorityKeyId, acme.SubjectKeyId) {
		t.Error("the last device is not of the new default")
	}
	if acts := w.acts("ca.", "issuer.d", "issuer.r"); !slices.Equal(acts, []string{"ca.change", "ca.change", "issuer.renew", "ca.change", "issuer.default", "ca.change"}) {
		t.Errorf("the log has %v", acts)
	}
	storetest.Verify(t, w.server.store)
}

func (w *works) newRoot() *x509.Certificate {
	w.t.Helper()
	for _, c := range w.server.authorities.List() {
		if c.Name == "root-new" {
			return c.Certificate
		}
	}
	w.t.Fatal("there is no new root")
	return nil
}

// renewIssuer hands the server a certificate of an issuing CA by a root.
func (w *works) renewIssuer(name, rootKey string) {
	w.t.Helper()
	url := "https://" + w.server.Addrs()["api"] + "/api/v1/issuers/" + name + "/certificate"
	send(w.t, as(w.t, w.config, "admin"), "PUT", url, map[string]string{"certificate": string(ca.PEM(ceremony(w.t, w.config, rootKey, name, w.now()).Raw))}, 200)
}

// Nothing may be left below a root that goes, and no server that starts with
// the database may still be on it; a certificate of another CA does not take
// an issuing CA's place.
func TestRolloverIsNotFinishedEarly(t *testing.T) {
	w := opened(t)
	w.issuer("acme-ca")
	other := w.issuer("beta")
	w.rollover("begin")
	w.rollover("sign")
	finish := func(want string) {
		t.Helper()
		a, err := Authorities(t.Context(), w.config, Environment{Now: w.now})
		if err != nil {
			t.Fatal(err)
		}
		if err := FinishRollover(t.Context(), w.config, a); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("finished: %v, want %q", err, want)
		}
	}
	finish("factory-ca is signed by the root that would go")
	a, err := Authorities(t.Context(), w.config, Environment{Now: w.now})
	if err != nil {
		t.Fatal(err)
	}
	if err := a.SwitchRoot(); err != nil {
		t.Fatal(err)
	}
	finish("start every server with the root in force first")
	w.reopened()
	finish("acme-ca is signed by the root that would go")
	url := "https://" + w.server.Addrs()["api"] + "/api/v1/issuers/acme-ca/certificate"
	wantContains(t, string(send(t, as(t, w.config, "admin"), "PUT", url, map[string]string{"certificate": string(ca.PEM(other.Raw))}, 422)), "another key")
	w.renewIssuer("acme-ca", "root-new")
	finish("beta is signed by the root that would go")
	if err := os.Remove(filepath.Join(w.config.Dir, "ca/root-rollover.crt")); err != nil { // by hand, against all advice
		t.Fatal(err)
	}
	if _, err := New(context.WithoutCancel(t.Context()), w.config, Environment{}); err == nil || !strings.Contains(err.Error(), "touchmark ca request") {
		t.Errorf("without a certificate of the new root's: %v", err)
	}
}
