package server

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/touchmark/touchmark/internal/ca"
	"github.com/touchmark/touchmark/internal/store/storetest"
	"github.com/touchmark/touchmark/ocsp"
	"github.com/touchmark/touchmark/ocsp/ocsptest"
	"github.com/touchmark/touchmark/vetting"
)

// asked is what a server says of a certificate over OCSP; "later" as long as
// it cannot say, and "unknown" as long as it does not know the CA.
func asked(t *testing.T, s *Server, issuer *x509.Certificate, cert *x509.Certificate, clock func() time.Time) (says string, reason int) {
	t.Helper()
	q := ocsptest.Question{CertIDs: []ocsptest.CertID{ocsptest.ID(crypto.SHA1, issuer, cert.SerialNumber)}}
	resp, err := http.Post("http://"+s.Addrs()["status"]+ocsp.Path, "application/ocsp-request", bytes.NewReader(q.DER()))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	der, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	now := clock()
	r, err := ocsptest.Decode(der, issuer, now)
	if err != nil && issuer != s.authorities.Device.Certificate {
		r, err = ocsptest.Decode(der, s.authorities.Device.Certificate, now) // who signs what is unknown
		if err == nil && r.Data.Responses[0].Says() != "unknown" {
			t.Fatalf("the device CA's responder says %s of another CA's certificate", r.Data.Responses[0].Says())
		}
	}
	if err != nil {
		t.Fatalf("%v in %x", err, der)
	}
	if r.Status == 3 {
		return "later", 0
	}
	if r.Status != 0 {
		t.Fatalf("status %d", r.Status)
	}
	single := r.Data.Responses[0]
	return single.Says(), int(single.Revoked.Reason)
}

// comes waits until a certificate is said to be something.
func (w *works) comes(s *Server, issuer, cert *x509.Certificate, want string, reason int) {
	w.t.Helper()
	deadline := time.Now().Add(time.Minute)
	for {
		says, why := asked(w.t, s, issuer, cert, w.now)
		if says == want && why == reason {
			return
		}
		if time.Now().After(deadline) {
			w.t.Fatalf("the certificate of %s is %s (%d), want %s (%d)", cert.Subject, says, why, want, reason)
		}
	}
}

// TestStatusOfIssued: a certificate says where to ask, and there it is told
// what it is, by the CA that issued it.
func TestStatusOfIssued(t *testing.T) {
	w := opened(t, func(c *Config) { c.Status.URL = "http://status.test" })
	s := w.server
	acme := w.issuer("acme-ca")
	w.ask("/owners", map[string]string{"name": "acme", "issuer": "acme-ca"}, 201, nil)
	device := s.authorities.Device.Certificate
	first := w.enrol(v13, w.build("A-1", w.now().Add(time.Hour)), "simpleenroll", nil)
	if got := first.cert.OCSPServer; len(got) != 1 || got[0] != "http://status.test/ocsp" {
		t.Errorf("ask at %q", got)
	}
	if got := first.cert.CRLDistributionPoints; len(got) != 1 || !strings.HasPrefix(got[0], "http://status.test/crl/device-ca/16/") {
		t.Errorf("listed at %q", got)
	}
	if got := first.cert.IssuingCertificateURL; len(got) != 1 || got[0] != "http://status.test/cacerts/device-ca.crt" {
		t.Errorf("issuer at %q", got)
	}
	at := "http://" + s.Addrs()["status"]
	if code, der := get(t, http.DefaultClient, at+"/cacerts/device-ca.crt"); code != 200 || der != string(device.Raw) {
		t.Errorf("the CA's certificate: %d, %d bytes", code, len(der))
	}
	for _, path := range []string{"/cacerts/", "/cacerts/nobody.crt", "/cacerts/device-ca", "/cacerts/root.crt"} {
		if code, _ := get(t, http.DefaultClient, at+path); code != 404 {
			t.Errorf("%s: %d", path, code)
		}
	}
	w.comes(s, device, first.cert, "good", 0)
	w.gives("A-1", vetting.Manufacturer, "acme")
	w.comes(s, device, first.cert, "revoked", 3)
	moved := w.enrol(v13, first, "simplereenroll", first.cert)
	w.comes(s, acme, moved.cert, "good", 0)
	if says, why := asked(t, s, device, moved.cert, w.now); says != "revoked" || why != 6 { // RFC 6960 §2.2
		t.Errorf("a serial number of another CA is %s (%d)", says, why)
	}
	// Half a week later the credentials are other ones, and hold.
	w.ahead.Store(int64(ca.ResponderValidity))
	s.status.credentials.refresh(t.Context())
	w.comes(s, acme, moved.cert, "good", 0)
	storetest.Verify(t, s.store)
}

// keyring makes credentials without a server: for one CA, which may fail.
type keyring struct {
	credentials
	authorities *ca.Authorities
	time        time.Time
	fails       error
	asked       int
	told        int
}

func newKeyring(t *testing.T) *keyring {
	a, err := ca.Init(t.Context(), ca.Places{Dir: t.TempDir()}, "Test Works", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	k := &keyring{authorities: a, time: time.Now()}
	k.credentials = credentials{issuing: a.Issuing, log: slog.New(slog.DiscardHandler), now: func() time.Time { return k.time },
		tell: func([]ocsp.Issuer) error { k.told++; return nil },
		certify: func(_ context.Context, issuer string, key crypto.Signer) ([]byte, error) {
			if k.asked++; k.fails != nil {
				return nil, k.fails
			}
			return a.IssueResponder(issuer, key.Public(), k.time)
		}}
	return k
}

// later refreshes after a time and checks how often the CA was asked by then.
func (k *keyring) later(t *testing.T, d time.Duration, asked int) *ocsp.Credential {
	t.Helper()
	k.time = k.time.Add(d)
	k.refresh(t.Context())
	if k.asked != asked {
		t.Fatalf("the CA was asked %d times, want %d", k.asked, asked)
	}
	c, _ := k.held[0].get()
	return c
}

func TestCredentialsAreRenewedAtHalfOfTheirLife(t *testing.T) {
	k := newKeyring(t)
	first := k.later(t, 0, 1)
	if k.later(t, ca.ResponderValidity/2-2*time.Minute, 1) != first {
		t.Error("it was replaced before its time")
	}
	second := k.later(t, 4*time.Minute, 2)
	if second == first {
		t.Error("it was not replaced at half of its life")
	}
	k.later(t, -30*24*time.Hour, 3) // the clock was set back: nobody would accept what the second signs
	if k.told != 1 {
		t.Errorf("the responder was told of the same CA %d times", k.told)
	}
}

func TestCredentialsOutliveFailures(t *testing.T) {
	k := newKeyring(t)
	k.fails = errors.New("the HSM is away")
	if k.later(t, 0, 1) != nil || k.told != 1 {
		t.Error("a CA that cannot sign is not told, or has a credential")
	}
	if _, err := k.held[0].get(); !errors.Is(err, errNoCredential) {
		t.Errorf("error %v", err)
	}
	k.later(t, retryAfter/2, 1)
	k.later(t, retryAfter, 2)
	k.fails = nil
	first := k.later(t, retryAfter+1, 3)
	k.fails = errors.New("away again")
	if k.later(t, ca.ResponderValidity*3/4, 4) != first {
		t.Error("a credential that still counts was dropped when the next one failed")
	}
	k.fails = nil
	if k.later(t, retryAfter+1, 5) == first {
		t.Error("it was not replaced after the failure")
	}
}
