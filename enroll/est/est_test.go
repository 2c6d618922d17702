package est_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"io"
	"log/slog"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/touchmark/touchmark/enroll"
	"github.com/touchmark/touchmark/enroll/est"
	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/internal/ca"
	"github.com/touchmark/touchmark/internal/cms"
	"github.com/touchmark/touchmark/internal/store"
	"github.com/touchmark/touchmark/internal/store/storetest"
	"github.com/touchmark/touchmark/vetting"
	"github.com/touchmark/touchmark/vetting/vendorid"
	"go.mozilla.org/pkcs7"
)

// door is an EST server on a real store and CA, with one product, site and
// order, whose records are added by the tests.
type door struct {
	t     testing.TB
	url   string
	world *storetest.World
	cas   *ca.Authorities
	count int
	data  string        // the database's directory
	log   *bytes.Buffer // what the server logged; read it when nobody asks
}

func open(t testing.TB, quantity int64) *door {
	t.Helper()
	data, log := t.TempDir(), new(bytes.Buffer)
	s, err := store.Open(context.Background(), store.Options{DSN: "sqlite:" + data + "/touchmark.db"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	cas, err := ca.Init(context.Background(), ca.Places{Dir: t.TempDir()}, "Acme", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	logger := slog.New(slog.NewJSONHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	issuer := ca.NewDeviceIssuer(cas, time.Now)
	h := &est.Handler{
		Forms: issuer, Enroller: &enroll.Enroller{Ledger: s, Issuer: issuer, Log: logger, Now: time.Now, RetryAfter: 90 * time.Second},
		Clients: &enroll.Authenticator{Authorities: cas, Operators: s, Vendors: &vendorid.Book{Products: s, Vendors: vendorid.ByCertificate, Now: time.Now}, Now: time.Now},
		Active:  s, Products: s, CACerts: cas.CACerts, Log: logger, Now: time.Now,
	}
	cert, err := ca.NewServerCertificate(cas, []string{"127.0.0.1"}, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	own, err := cert.Get(nil)
	if err != nil {
		t.Fatal(err)
	}
	h.Signatory = func() (cms.Signatory, error) {
		return cms.Signatory{Certificate: own.Leaf, Chain: []*x509.Certificate{cas.Operator.Certificate}, Key: own.PrivateKey.(crypto.Signer)}, nil
	}
	srv := httptest.NewUnstartedServer(h)
	srv.TLS = &tls.Config{ClientAuth: tls.RequestClientCert, Certificates: []tls.Certificate{*own}, NextProtos: []string{"http/1.1"}}
	srv.StartTLS()
	t.Cleanup(srv.Close)
	return &door{t: t, url: srv.URL + est.Prefix, world: storetest.NewWorld(t, s, quantity), cas: cas, data: data, log: log}
}

// party is a client: a key, the certificate it shows and those above it, and its
// Authorization header.
type party struct {
	key     *ecdsa.PrivateKey
	cert    *x509.Certificate
	issuers []*x509.Certificate
	basic   string
}

// pair is what the client brings to the TLS handshake.
func (p party) pair() []tls.Certificate {
	if p.cert == nil {
		return nil
	}
	chain := [][]byte{p.cert.Raw}
	for _, c := range p.issuers {
		chain = append(chain, c.Raw)
	}
	return []tls.Certificate{{Certificate: chain, PrivateKey: p.key}}
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// bootstrap makes a device's bootstrap key and self-signed certificate.
func (d *door) bootstrap(serial string) party {
	d.t.Helper()
	return d.bootstrapFor(serial, newKey(d.t), nil)
}

func (d *door) bootstrapFor(serial string, key *ecdsa.PrivateKey, change func(*x509.Certificate)) party {
	d.t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: serial, SerialNumber: serial},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	if change != nil {
		change(template)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		d.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		d.t.Fatal(err)
	}
	return party{key: key, cert: cert}
}

// build makes a device whose record is handed in.
func (d *door) build(serial string) party {
	d.t.Helper()
	return d.built(serial, d.bootstrap(serial))
}

// built hands in the record of a device.
func (d *door) built(serial string, p party) party {
	d.t.Helper()
	d.count++
	d.world.Load(d.t, vetting.Record{Row: 1, Identity: vetting.Identity{Serial: serial}, BootstrapKey: vetting.KeyFingerprint(p.cert.RawSubjectPublicKeyInfo)})
	return p
}

// operator makes a client with a certificate of the factory or operator CA.
func (d *door) operator(name string, role access.Role, site string) party {
	d.t.Helper()
	key := newKey(d.t)
	csr, err := enroll.ParseCSR(d.csr(key, &x509.CertificateRequest{}))
	if err != nil {
		d.t.Fatal(err)
	}
	made, err := ca.OperatorIssuer{Authorities: d.cas, Now: time.Now}.IssueOperator(csr, &access.Operator{Name: name, Role: role, Site: site})
	if err != nil {
		d.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(made.DER)
	if err != nil {
		d.t.Fatal(err)
	}
	if _, err := d.world.Store.CreateOperator(context.Background(), storetest.By, &access.Operator{Name: name, Role: role, Site: site, Key: vetting.KeyFingerprint(cert.RawSubjectPublicKeyInfo)}); err != nil {
		d.t.Fatal(err)
	}
	return party{key: key, cert: cert}
}

func (d *door) csr(key any, template *x509.CertificateRequest) []byte {
	d.t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, template, key)
	if err != nil {
		d.t.Fatal(err)
	}
	return der
}

// answer is what came back, read to the end.
type answer struct {
	*http.Response
	body string
}

// send makes one request on a new connection. by may be empty.
func (d *door) send(by party, method, path, contentType, body string) answer {
	d.t.Helper()
	roots := x509.NewCertPool()
	roots.AddCert(d.cas.Root)
	cfg := &tls.Config{RootCAs: roots, Certificates: by.pair()}
	transport := &http.Transport{TLSClientConfig: cfg, DisableKeepAlives: true}
	defer transport.CloseIdleConnections()
	req, err := http.NewRequest(method, d.url+path, strings.NewReader(body))
	if err != nil {
		d.t.Fatal(err)
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	if by.basic != "" {
		req.Header.Set("Authorization", by.basic)
	}
	res, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		d.t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		d.t.Fatal(err)
	}
	return answer{res, string(b)}
}

func (d *door) post(by party, path string, csr []byte) answer {
	d.t.Helper()
	return d.send(by, "POST", path, "application/pkcs10", base64.StdEncoding.EncodeToString(csr))
}

// certificate reads a certs-only answer with exactly one certificate.
func (a answer) certificate(t testing.TB) *x509.Certificate {
	t.Helper()
	if a.StatusCode != 200 {
		t.Fatalf("status %d: %s", a.StatusCode, a.body)
	}
	certs := a.certificates(t)
	if len(certs) != 1 {
		t.Fatalf("%d certificates in the answer", len(certs))
	}
	return certs[0]
}

func (a answer) certificates(t testing.TB) []*x509.Certificate {
	t.Helper()
	der, err := base64.StdEncoding.DecodeString(strings.NewReplacer("\r", "", "\n", "").Replace(a.body))
	if err != nil {
		t.Fatalf("the body is not base64: %v", err)
	}
	p7, err := pkcs7.Parse(der)
	if err != nil {
		t.Fatal(err)
	}
	return p7.Certificates
}

func TestFirstEnrolmentAndRenewal(t *testing.T) {
	d := open(t, 10)
	device := d.build("SN-1")
	key := newKey(t)
	csr := d.csr(key, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "SN-1"}})
	a := d.post(device, "simpleenroll", csr)
	cert := a.certificate(t)
	for header, want := range map[string]string{
		"Content-Type":              "application/pkcs7-mime; smime-type=certs-only",
		"Content-Transfer-Encoding": "base64",
	} {
		if got := a.Header.Get(header); got != want {
			t.Errorf("%s: %q, want %q", header, got, want)
		}
	}
	if a.ContentLength != int64(len(a.body)) || len(a.TransferEncoding) > 0 {
		t.Errorf("Content-Length %d of %d, Transfer-Encoding %v", a.ContentLength, len(a.body), a.TransferEncoding)
	}
	if !key.PublicKey.Equal(cert.PublicKey) || d.cas.VerifyDevice(cert, time.Now()) != nil {
		t.Error("the certificate is not the device CA's for the device's key")
	}
	if again := d.post(device, "simpleenroll", csr).certificate(t); !again.Equal(cert) {
		t.Error("asking twice gave another certificate")
	}
	official := party{key: key, cert: cert}
	renewed := d.post(official, "simplereenroll", d.csr(key, &x509.CertificateRequest{RawSubject: cert.RawSubject})).certificate(t)
	if renewed.Equal(cert) || !bytes.Equal(renewed.RawSubject, cert.RawSubject) {
		t.Error("the renewal is not a new certificate of the same name")
	}
	next := newKey(t)
	rekeyed := d.post(party{key: key, cert: renewed}, "simplereenroll", d.csr(next, &x509.CertificateRequest{RawSubject: cert.RawSubject})).certificate(t)
	if !next.PublicKey.Equal(rekeyed.PublicKey) {
		t.Error("the re-key did not certify the new key")
	}
	// the device is active: its bootstrap key is spent, earlier certificates too
	if a := d.post(device, "simpleenroll", csr); a.StatusCode != 403 || !strings.Contains(a.body, "no longer counts") {
		t.Errorf("spent bootstrap key: %d %s", a.StatusCode, a.body)
	}
	if a := d.post(official, "simplereenroll", d.csr(newKey(t), &x509.CertificateRequest{RawSubject: cert.RawSubject})); a.StatusCode != 403 || !strings.Contains(a.body, "superseded") {
		t.Errorf("superseded certificate: %d %s", a.StatusCode, a.body)
	}
	o, err := d.world.Store.Order(context.Background(), "po-1")
	if err != nil || o.Issued != 1 {
		t.Errorf("issued %d units: %v", o.Issued, err)
	}
}

func TestVerdictsOnTheWire(t *testing.T) {
	d := open(t, 1)
	first, second := d.build("SN-1"), d.build("SN-2")
	stranger := d.bootstrap("SN-9")
	impostor := d.bootstrap("SN-1")
	d.post(first, "simpleenroll", d.csr(newKey(t), &x509.CertificateRequest{})).certificate(t)
	for name, c := range map[string]struct {
		by   party
		want string
	}{
		"over the quota": {second, "over-production"},
		"unknown device": {stranger, "No manufacturing record"},
		"wrong key":      {impostor, "another bootstrap key"},
	} {
		a := d.post(c.by, "simpleenroll", d.csr(newKey(t), &x509.CertificateRequest{}))
		if a.StatusCode != 403 || !strings.Contains(a.body, c.want) || !strings.HasPrefix(a.Header.Get("Content-Type"), "text/plain") {
			t.Errorf("%s: %d %s", name, a.StatusCode, a.body)
		}
	}
}

func TestHeldIs202AndLaterAdmitted(t *testing.T) {
	d := open(t, 10)
	ctx := context.Background()
	device := d.build("SN-1")
	after := time.Now().Add(time.Hour)
	if _, err := d.world.Store.ChangeOrder(ctx, storetest.By, "po-1", vetting.OrderChange{NotBefore: &after}); err != nil {
		t.Fatal(err)
	}
	key := newKey(t)
	a := d.post(device, "simpleenroll", d.csr(key, &x509.CertificateRequest{}))
	if a.StatusCode != 202 || a.Header.Get("Retry-After") != "90" {
		t.Fatalf("%d, Retry-After %q: %s", a.StatusCode, a.Header.Get("Retry-After"), a.body)
	}
	// signed anew, it is the same request (RFC 7030 §4.2.3)
	d.post(device, "simpleenroll", d.csr(key, &x509.CertificateRequest{}))
	held, err := d.world.Store.Registrations(ctx, vetting.RegistrationFilter{Undecided: true}, vetting.Page{})
	if err != nil || len(held) != 1 || held[0].Repeats != 1 {
		t.Fatalf("held registrations %+v, %v", held, err)
	}
	if _, err := d.world.Store.DecideRegistration(ctx, storetest.By, held[0].ID, vetting.Decision{Admit: true, By: "anna", Note: "pilot"}); err != nil {
		t.Fatal(err)
	}
	d.post(device, "simpleenroll", d.csr(key, &x509.CertificateRequest{})).certificate(t)
}

func TestRig(t *testing.T) {
	d := open(t, 10)
	d.build("SN-1")
	d.build("SN-2")
	rig := d.operator("rig-1", access.RoleRig, "hsinchu")
	csr := d.csr(newKey(t), &x509.CertificateRequest{Subject: pkix.Name{SerialNumber: "SN-1"}})
	d.post(rig, "simpleenroll", csr).certificate(t)
	if a := d.post(rig, "simpleenroll", d.csr(newKey(t), &x509.CertificateRequest{})); a.StatusCode != 400 || !strings.Contains(a.body, "must name the device") {
		t.Errorf("a rig that names no device: %d %s", a.StatusCode, a.body)
	}
	if a := d.post(rig, "simplereenroll", csr); a.StatusCode != 403 {
		t.Errorf("a rig that renews: %d %s", a.StatusCode, a.body)
	}
	if _, err := d.world.Store.CreateSite(context.Background(), storetest.By, &vetting.Site{Name: "gdansk"}); err != nil {
		t.Fatal(err)
	}
	other := d.operator("rig-2", access.RoleRig, "gdansk")
	if a := d.post(other, "simpleenroll", d.csr(newKey(t), &x509.CertificateRequest{Subject: pkix.Name{SerialNumber: "SN-2"}})); a.StatusCode != 403 || !strings.Contains(a.body, "another site") {
		t.Errorf("another site's rig: %d %s", a.StatusCode, a.body)
	}
	for _, p := range []party{d.operator("lin", access.RoleSiteOperator, "hsinchu"), d.operator("anna", access.RoleAdmin, "")} {
		if a := d.post(p, "simpleenroll", csr); a.StatusCode != 403 {
			t.Errorf("%s: %d %s", p.cert.Subject, a.StatusCode, a.body)
		}
	}
	if _, err := d.world.Store.RevokeOperator(context.Background(), storetest.By, "rig-1"); err != nil {
		t.Fatal(err)
	}
	if a := d.post(rig, "simpleenroll", csr); a.StatusCode != 403 || !strings.Contains(a.body, "not an active rig") {
		t.Errorf("a revoked rig: %d %s", a.StatusCode, a.body)
	}
}

func TestCACertsAndCSRAttrs(t *testing.T) {
	d := open(t, 10)
	a := d.send(party{}, "GET", "cacerts", "", "")
	if got := a.certificates(t); len(got) < 2 || !got[0].Equal(d.cas.Root) {
		t.Errorf("cacerts: %d certificates", len(got))
	}
	if !strings.Contains(a.body, "\n") {
		t.Error("a long body is not wrapped")
	}
	for line := range strings.SplitSeq(a.body, "\n") {
		if len(line) > 76 {
			t.Errorf("a line of %d characters", len(line))
		}
	}
	if a := d.send(party{}, "GET", "csrattrs", "", ""); a.StatusCode != 204 {
		t.Errorf("csrattrs without a label: %d", a.StatusCode)
	}
}

// TestUseActivates: any authenticated use of the official certificate.
func TestUseActivates(t *testing.T) {
	d := open(t, 10)
	device, key := d.build("SN-1"), newKey(t)
	cert := d.post(device, "simpleenroll", d.csr(key, &x509.CertificateRequest{})).certificate(t)
	d.send(party{key: key, cert: cert}, "GET", "cacerts", "", "")
	list, err := d.world.Store.Devices(context.Background(), vetting.DeviceFilter{}, vetting.Page{})
	if err != nil || len(list) != 1 || list[0].State != vetting.DeviceActive {
		t.Fatalf("%+v %v", list, err)
	}
}

func TestBadRequests(t *testing.T) {
	d := open(t, 10)
	device := d.build("SN-1")
	good := d.csr(newKey(t), &x509.CertificateRequest{})
	b64 := base64.StdEncoding.EncodeToString
	tampered := bytes.Clone(good)
	tampered[len(tampered)-1] ^= 1
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	p224, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	caTrue, _ := asn1.Marshal(struct{ IsCA bool }{true})
	const p10 = "application/pkcs10"
	for name, c := range map[string]struct {
		by                       party
		method, path, kind, body string
		status                   int
		want                     string
	}{
		"no certificate":       {party{}, "POST", "simpleenroll", p10, b64(good), 401, "no client certificate"},
		"empty body":           {device, "POST", "simpleenroll", p10, "", 400, "no body"},
		"not base64":           {device, "POST", "simpleenroll", p10, "%%%%", 400, "not base64"},
		"PEM":                  {device, "POST", "simpleenroll", p10, "-----BEGIN CERTIFICATE REQUEST-----", 400, "BEGIN"},
		"truncated":            {device, "POST", "simpleenroll", p10, b64(good[:len(good)/2]), 400, "PKCS#10"},
		"oversized":            {device, "POST", "simpleenroll", p10, strings.Repeat("A", 1<<20), 413, "larger than"},
		"bad signature":        {device, "POST", "simpleenroll", p10, b64(tampered), 400, "signature"},
		"weak key":             {device, "POST", "simpleenroll", p10, b64(d.csr(weak, &x509.CertificateRequest{})), 400, "1024 bits"},
		"foreign curve":        {device, "POST", "simpleenroll", p10, b64(d.csr(p224, &x509.CertificateRequest{})), 400, "P-224"},
		"other names":          {device, "POST", "simpleenroll", p10, b64(d.csr(newKey(t), &x509.CertificateRequest{DNSNames: []string{"evil.example"}})), 400, "subjectAltName"},
		"CA:true":              {device, "POST", "simpleenroll", p10, b64(d.csr(newKey(t), &x509.CertificateRequest{ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 19}, Value: caTrue}}})), 400, "CA certificate"},
		"wrong type":           {device, "POST", "simpleenroll", "text/plain", b64(good), 415, "application/pkcs10"},
		"wrong method":         {device, "GET", "simpleenroll", "", "", 405, "takes POST"},
		"unknown operation":    {device, "POST", "enroll", p10, b64(good), 404, "no EST operation"},
		"unknown label":        {device, "POST", "toaster/simpleenroll", p10, b64(good), 404, "no product"},
		"two labels":           {device, "POST", "a/b/simpleenroll", p10, b64(good), 404, "form"},
		"fullcmc":              {device, "POST", "fullcmc", "application/pkcs7-mime", "", 501, "not implemented"},
		"no server keys":       {device, "POST", "serverkeygen", p10, b64(good), 403, "makes no private keys"},
		"renew with bootstrap": {device, "POST", "simplereenroll", p10, b64(good), 403, "simpleenroll first"},
		"nested base64 spaces": {device, "POST", "simpleenroll", p10, strings.Join(strings.Split(b64(good)[:20], ""), "\r\n\t "), 400, "PKCS#10"},
	} {
		a := d.send(c.by, c.method, c.path, c.kind, c.body)
		if a.StatusCode != c.status || !strings.Contains(a.body, c.want) {
			t.Errorf("%s: %d %q, want %d with %q", name, a.StatusCode, a.body, c.status, c.want)
		}
		if !strings.HasPrefix(a.Header.Get("Content-Type"), "text/plain") {
			t.Errorf("%s: Content-Type %q", name, a.Header.Get("Content-Type"))
		}
	}
	if o, err := d.world.Store.Order(context.Background(), "po-1"); err != nil || o.Issued != 0 {
		t.Errorf("bad requests took %d units: %v", o.Issued, err)
	}
	// white space anywhere in the base64 is fine (RFC 8951 §3.1)
	spaced := strings.Join(strings.Split(b64(good), ""), " \r\n\t")
	d.send(device, "POST", "thermo/simpleenroll", "Application/PKCS10; charset=x", spaced).certificate(t)
}

func TestForeignCertificates(t *testing.T) {
	d, other := open(t, 10), open(t, 10)
	good := d.csr(newKey(t), &x509.CertificateRequest{})
	device, key := other.build("SN-1"), newKey(t)
	cert := other.post(device, "simpleenroll", other.csr(key, &x509.CertificateRequest{})).certificate(t)
	if a := d.post(party{key: key, cert: cert}, "simplereenroll", good); a.StatusCode != 403 {
		t.Errorf("another server's device of the same CA name: %d %s", a.StatusCode, a.body)
	}
	// signed by a stranger's CA
	parent := d.bootstrap("Stranger CA")
	leafKey := newKey(t)
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "x"}, NotAfter: time.Now().Add(time.Hour)}, parent.cert, &leafKey.PublicKey, parent.key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	if a := d.post(party{key: leafKey, cert: leaf}, "simpleenroll", good); a.StatusCode != 403 || !strings.Contains(a.body, "no CA of this server") {
		t.Errorf("a stranger's certificate: %d %s", a.StatusCode, a.body)
	}
}
