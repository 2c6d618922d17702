package ocsp_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"log/slog"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
	"time"

	"github.com/touchmark/touchmark/ocsp"
	"github.com/touchmark/touchmark/ocsp/ocsptest"
)

// pki is a CA with a delegated responder, and what is known of its
// certificates.
type pki struct {
	t          *testing.T
	now        time.Time
	issuer     *x509.Certificate
	key        *ecdsa.PrivateKey
	credential *ocsp.Credential
	unable     error // why there is no credential
	source     memorySource
	follower   *ocsp.Follower
	set        ocsp.Set
	forged     ocsp.Forgeries
	responder  *ocsp.Responder
}

func newPKI(t *testing.T) *pki {
	t.Helper()
	p := &pki{t: t, now: time.Date(2026, 3, 4, 5, 6, 7, 890_000_000, time.UTC)}
	p.issuer, p.key = p.newCA("Device CA")
	p.follower = &ocsp.Follower{Source: &p.source, Sinks: []ocsp.Sink{&p.set}, Log: slog.New(slog.DiscardHandler), Now: p.clock}
	p.follow()
	p.renew(p.now.Add(-time.Hour), p.now.Add(7*24*time.Hour))
	p.responder = ocsp.New(ocsp.Config{
		Revoked: &p.set, Known: p.follower.Known, MaxStale: 5 * time.Minute, Validity: time.Hour, CacheBytes: 1 << 20,
		Forged: &p.forged, Log: slog.New(slog.DiscardHandler), Now: p.clock,
	})
	if err := p.responder.SetIssuers([]ocsp.Issuer{p.asIssuer()}); err != nil {
		t.Fatal(err)
	}
	return p
}

func (p *pki) asIssuer() ocsp.Issuer {
	return ocsp.Issuer{ID: 7, Certificate: p.issuer, Genuine: genuine, Credential: func() (*ocsp.Credential, error) { return p.credential, p.unable }}
}

func (p *pki) clock() time.Time { return p.now }

func (p *pki) follow() {
	if err := p.follower.Load(p.t.Context()); err != nil {
		p.t.Fatal(err)
	}
}

func (p *pki) newCA(name string) (*x509.Certificate, *ecdsa.PrivateKey) {
	key := newKey(p.t, elliptic.P256())
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: p.now.AddDate(-1, 0, 0), NotAfter: p.now.AddDate(10, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign, SubjectKeyId: []byte(name),
	}
	return certificate(p.t, tmpl, tmpl, key.Public(), key), key
}

func newKey(t *testing.T, c elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(c, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func certificate(t *testing.T, tmpl, parent *x509.Certificate, public crypto.PublicKey, key crypto.Signer) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, public, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func responderTemplate(from, until time.Time) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "Responder"}, NotBefore: from, NotAfter: until,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageOCSPSigning},
		ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 5}, Value: asn1.NullBytes}},
	}
}

// renew gives the responder another certificate.
func (p *pki) renew(from, until time.Time) {
	key := newKey(p.t, elliptic.P256())
	cert := certificate(p.t, responderTemplate(from, until), p.issuer, key.Public(), p.key)
	c, err := ocsp.NewCredential(p.issuer, cert, key)
	if err != nil {
		p.t.Fatal(err)
	}
	p.credential = c
}

var serialKey = []byte("the test's own serial number key")

// issue makes a serial number as internal/ca does.
func issue() ocsp.Serial {
	var s ocsp.Serial
	rand.Read(s[:9])
	s[0] = max(1, s[0]&0x7f)
	copy(s[9:], authenticator(s))
	return s
}

func authenticator(s ocsp.Serial) []byte {
	m := hmac.New(sha256.New, serialKey)
	m.Write(s[:9])
	return m.Sum(nil)[:8]
}

func genuine(s ocsp.Serial) bool { return hmac.Equal(authenticator(s), s[9:]) }

func (p *pki) id(s ocsp.Serial) ocsptest.CertID {
	return ocsptest.ID(crypto.SHA256, p.issuer, s.Int())
}

func (p *pki) becomes(s ocsp.Serial, r ocsp.Reason) {
	p.source.add(ocsp.Change{Serial: s, Reason: r, Revoked: p.now.Add(-time.Minute)})
	p.follow()
}

func (p *pki) post(der []byte) *httptest.ResponseRecorder {
	p.t.Helper()
	return p.do(http.MethodPost, ocsp.Path, der, nil)
}

func (p *pki) get(der []byte, header http.Header) *httptest.ResponseRecorder {
	return p.do(http.MethodGet, ocsp.Path+"/"+url.PathEscape(base64.StdEncoding.EncodeToString(der)), nil, header)
}

func (p *pki) do(method, path string, body []byte, header http.Header) *httptest.ResponseRecorder {
	req := httptest.NewRequest(method, path, bytes.NewReader(body))
	for k, v := range header {
		req.Header[k] = v
	}
	rec := httptest.NewRecorder()
	p.responder.ServeHTTP(rec, req)
	return rec
}

// read decodes an answer that must be right by all rules.
func (p *pki) read(rec *httptest.ResponseRecorder) *ocsptest.Response {
	p.t.Helper()
	if rec.Code != 200 || rec.Header().Get("Content-Type") != "application/ocsp-response" {
		p.t.Fatalf("%d %v\n%s", rec.Code, rec.Header(), rec.Body)
	}
	r, err := ocsptest.Decode(rec.Body.Bytes(), p.issuer, p.now)
	if err != nil {
		p.t.Fatalf("%v\n%x", err, rec.Body.Bytes())
	}
	if r.Status != 0 && rec.Header().Get("Cache-Control") != "no-store" {
		p.t.Errorf("error %d may be cached: %v", r.Status, rec.Header())
	}
	return r
}

func (p *pki) ask(ids ...ocsptest.CertID) *ocsptest.Response {
	p.t.Helper()
	return p.read(p.post(ocsptest.Question{CertIDs: ids}.DER()))
}

// says wants an answer about one certificate.
func (p *pki) says(what string, id ocsptest.CertID, want string) ocsptest.Single {
	p.t.Helper()
	for _, rec := range []*httptest.ResponseRecorder{p.post(ocsptest.Question{CertIDs: []ocsptest.CertID{id}}.DER()), p.get(ocsptest.Question{CertIDs: []ocsptest.CertID{id}}.DER(), nil)} {
		r := p.read(rec)
		if r.Status != 0 || len(r.Data.Responses) != 1 {
			p.t.Fatalf("%s: status %d, %d answers", what, r.Status, len(r.Data.Responses))
		}
		if got := r.Data.Responses[0].Says(); got != want {
			p.t.Fatalf("%s: %s, want %s", what, got, want)
		}
	}
	return p.ask(id).Data.Responses[0]
}
