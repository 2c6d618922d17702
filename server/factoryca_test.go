package server

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/internal/ca"
	"github.com/touchmark/touchmark/internal/store/storetest"
	"github.com/touchmark/touchmark/vetting"
)

// rig adds a rig of the site.
func (w *works) rig(name string) pair {
	w.t.Helper()
	key, csr := w.request(nil)
	var made struct {
		Operator    access.Operator
		Certificate string
	}
	w.ask("/operators", map[string]string{"name": name, "role": "rig", "site": "hsinchu", "csr": string(ca.RequestPEM(csr))}, 201, &made)
	return pair{key, fromPEM(w.t, made.Certificate)}
}

func fromPEM(t *testing.T, text string) *x509.Certificate {
	t.Helper()
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		t.Fatalf("no certificate in %q", text)
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// heard reports whether EST takes a rig for one: then it looks for the device
// that the request is about, which nobody built.
func (w *works) heard(rig pair) (bool, string) {
	w.t.Helper()
	_, csr := w.request(nil)
	code, _, body := w.est(v13, rig, "simpleenroll", csr)
	return code != http.StatusUnauthorized && !strings.Contains(body, "certificate does not count"), body
}

// The factory CA gets a successor with another key: rigs of either come in by
// EST and by the API, on each server, until the old one is closed.
func TestOtherFactoryCA(t *testing.T) {
	w := opened(t)
	before := w.rig("rig-1")
	cert := ceremonyFor(t, w.config, "root", "factory-2027", vetting.ForSites, w.now())
	w.ask("/issuers", map[string]string{"name": "factory-2027", "certificate": string(ca.PEM(cert.Raw))}, 201, nil)
	between := w.rig("rig-2") // the new one is known and does not issue yet
	w.ask("/issuers/factory-2027/default", nil, 200, nil)
	after := w.rig("rig-3")
	if founding := w.server.authorities.Factory.Certificate; between.cert.CheckSignatureFrom(founding) != nil || after.cert.CheckSignatureFrom(cert) != nil {
		t.Errorf("the rigs' certificates are of %s and %s", between.cert.Issuer, after.cert.Issuer)
	}
	other, err := New(t.Context(), w.config, Environment{Now: w.now}) // a second server on the database
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = other.Stop(context.WithoutCancel(t.Context())) })
	for name, p := range map[string]pair{"before": before, "between": between, "after": after} {
		if good, body := w.heard(p); !good {
			t.Errorf("a rig from %s: %s", name, body)
		}
		if err := other.authorities.VerifyFactory(p.cert, w.now()); err != nil {
			t.Errorf("a rig from %s at the other server: %v", name, err)
		}
	}
	_, _, body := w.est(v13, pair{}, "cacerts", nil)
	if n := len(certificates(t, body)); n != 5 { // root, device, operator, two for sites
		t.Errorf("/cacerts has %d certificates", n)
	}
	_, text := get(t, http.DefaultClient, "http://"+w.server.Addrs()["ops"]+"/metrics")
	wantContains(t, text, `touchmark_certificate_expiry_seconds{name="issuer-factory-2027"}`)

	w.ask("/issuers/factory-ca/close", nil, 200, nil)
	if err := other.issuing.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	for name, p := range map[string]pair{"before": before, "between": between} {
		if good, body := w.heard(p); good {
			t.Errorf("a rig from %s is taken for one though its CA is closed: %s", name, body)
		}
		if err := other.authorities.VerifyFactory(p.cert, w.now()); err == nil || !strings.Contains(err.Error(), "factory-ca was closed") {
			t.Errorf("a rig from %s at the other server: %v", name, err)
		}
	}
	if good, body := w.heard(after); !good {
		t.Errorf("a rig of the new CA: %s", body)
	}
	storetest.Verify(t, w.server.store)

	// A root that goes need not have signed the CA that is closed, and its key
	// may be lost; one that issues is needed.
	if err := os.Remove(filepath.Join(w.config.Dir, "keys", "factory-ca.key")); err != nil {
		t.Fatal(err)
	}
	w.reopened()
	if good, body := w.heard(after); !good {
		t.Errorf("after a restart, a rig of the new CA: %s", body)
	}
	if err := os.Remove(filepath.Join(w.config.Dir, "keys", "issuer-factory-2027.key")); err != nil {
		t.Fatal(err)
	}
	if _, err := New(context.WithoutCancel(t.Context()), w.config, Environment{Now: w.now}); err == nil || !strings.Contains(err.Error(), "factory-2027 cannot sign") {
		t.Errorf("a server without the key of the CA that issues started: %v", err)
	}
}
