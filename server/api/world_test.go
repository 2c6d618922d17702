package api_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/touchmark/touchmark/enroll"
	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/internal/audit"
	"github.com/touchmark/touchmark/internal/events"
	"github.com/touchmark/touchmark/server/api"
	"github.com/touchmark/touchmark/vetting"
	"github.com/touchmark/touchmark/vetting/manifest"
)

// authority is a test CA.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func newAuthority(t testing.TB, name string) *authority {
	t.Helper()
	key := newKey(t)
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: today.AddDate(-1, 0, 0), NotAfter: today.AddDate(10, 0, 0), KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{parse(t, der), key}
}

func parse(t testing.TB, der []byte) *x509.Certificate {
	t.Helper()
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// issue makes a certificate that ends at a time, for clients unless it is
// for something else.
func (a *authority) issue(t testing.TB, name string, key *ecdsa.PrivateKey, end time.Time, usages ...x509.ExtKeyUsage) tls.Certificate {
	t.Helper()
	if usages == nil {
		usages = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: today.AddDate(0, -6, 0), NotAfter: end,
		ExtKeyUsage: usages,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, a.cert, key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func (a *authority) verify(cert *x509.Certificate, at time.Time) error {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	_, err := cert.Verify(x509.VerifyOptions{Roots: pool, CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
	return err
}

// world is a server with its surroundings and one operator of each role. The
// site's operators belong to the site "near", the owner's to "acme", who has
// what is of that site; "far" is another site, whose things "beta" has.
type world struct {
	delegate      *delegate
	t             testing.TB
	store         *memory
	office, plant *authority
	certs         map[string]tls.Certificate // by operator name, which is the role
	enroller      *enroller
	importer      *importer
	prover        *prover
	desk          *desk
	feed          *events.Feed
	deliverer     *deliverer
	profileErr    error
	tuf           error // of the TUF repository
	log           *syncBuffer
	api           *api.API
	server        *httptest.Server
}

const (
	nearDevice, farDevice             = int64(11), int64(12)
	nearManifest, farManifest         = int64(21), int64(22)
	nearRegistration, farRegistration = int64(31), int64(32)
	nearCert, farCert                 = "0a11", "0a12"
)

func newWorld(t testing.TB, change ...func(*api.Config)) *world {
	t.Helper()
	w := &world{
		t: t, store: newMemory(), office: newAuthority(t, "operator CA"), plant: newAuthority(t, "factory CA"),
		certs: map[string]tls.Certificate{}, enroller: &enroller{}, prover: &prover{}, log: &syncBuffer{}, deliverer: &deliverer{},
	}
	w.delegate = &delegate{der: w.plant.cert.Raw}
	w.feed = events.NewFeed(w.store)
	w.importer = &importer{store: w.store}
	w.desk = &desk{store: w.store}
	w.furnish()
	for _, role := range access.Roles {
		w.addOperator(string(role), role)
	}
	c := api.Config{
		Store: w.store, Authorities: w, Enroller: w.enroller, Operators: w, Vouchers: w, Profiles: w, Examiner: w, Manifests: w.importer, Licenser: w.desk, LicenceKeys: w.desk, IssuingCAs: hands{w.plant.cert.Raw}, Responders: w.delegate, Offline: shelf{}, CRLs: new(lists), Firmware: armoury{w.store}, TUF: shelves{w.store, &w.tuf},
		Prover: w.prover, EST: func() string { return "est.example.com:8443" },
		ACME: func() string { return "https://acme.example.com/acme/directory" }, AccountKeys: func(id int64) []byte { return fmt.Appendf(nil, "secret of %d", id) }, Log: slog.New(slog.NewTextHandler(w.log, nil)), Now: func() time.Time { return today },
		MaxManifest: 1 << 20,
		Feed:        w.feed, Webhooks: w.deliverer, Streams: api.Streams{Max: 3},
	}
	for _, f := range change {
		f(&c)
	}
	w.api = api.New(c)
	w.server = httptest.NewUnstartedServer(w.api)
	w.server.Config.ErrorLog = slog.NewLogLogger(slog.NewTextHandler(w.log, nil), slog.LevelError)
	w.server.TLS = &tls.Config{ClientAuth: tls.RequestClientCert}
	w.server.StartTLS()
	t.Cleanup(w.server.Close)
	return w
}

// furnish puts two of everything into the store, one at each site.
func (w *world) furnish() {
	s := w.store
	s.products = []*vetting.Product{{ID: 1, Name: "lamp", Profile: vetting.Profile{Validity: "825d"}, Proofs: []vetting.Proof{vetting.ProofRig}, SiteCodes: true, Licences: &vetting.LicencePolicy{UID: "opaque", Number: 1}, Revision: 3}}
	s.issuers = []*vetting.IssuingCA{{ID: 81, Name: "acme-ca", Certificate: w.plant.cert.Raw}}
	s.webhooks = []*events.Webhook{{ID: 1, Name: "erp", Target: events.Target{URL: "https://erp.example/"}, State: events.WebhookActive, Seed: []byte("secret")},
		{ID: 2, Name: "waste", State: events.WebhookPaused, Seed: []byte("secret")}}
	for i, site := range []string{"near", "far"} {
		n, owner := int64(i+1), owners[i].Name
		s.sites = append(s.sites, &vetting.Site{ID: n, Name: site})
		s.orders = append(s.orders, &vetting.Order{ID: n, Name: "order-" + site, Product: "lamp", Site: site, Quantity: 5, State: vetting.OrderOpen, ManifestSignatures: 1, SiteID: n})
		s.manifests = append(s.manifests, &vetting.Manifest{ID: 20 + n, Order: "order-" + site, Site: site, State: vetting.ManifestUnsigned})
		s.devices = append(s.devices, &vetting.Device{ID: 10 + n, Product: "lamp", Order: "order-" + site, Site: site, Owner: owner, State: vetting.DeviceActive,
			Identity: vetting.Identity{Serial: "S-" + site, MAC: fmt.Sprintf("02:00:00:00:00:0%d", n)}})
		s.registrations = append(s.registrations, &vetting.Registration{ID: 30 + n, Site: site, Order: "order-" + site, DeviceID: 10 + n, Outcome: vetting.Held})
		s.certificates = append(s.certificates, &vetting.Certificate{ID: n, DeviceID: 10 + n, Serial: fmt.Sprintf("0a1%d", n), DER: w.office.cert.Raw, Leaf: 7})
		s.licences = append(s.licences, &vetting.Licence{ID: 60 + n, UID: fmt.Sprintf("a%d", n), Order: "order-" + site, Site: site, By: "rig", Bytes: make([]byte, 80)})
		s.accountKeys = append(s.accountKeys, &vetting.AccountKey{ID: 50 + n, Order: "order-" + site, Site: site, State: vetting.CodeUnused})
		s.codes = append(s.codes, &vetting.EnrolmentCode{ID: 50 + n, Batch: 50 + n, Order: "order-" + site, Site: site, State: vetting.CodeUnused})
		s.challenges = append(s.challenges, &vetting.Challenge{ID: 50 + n, DeviceID: 10 + n, By: "lin"})
		s.evidence = append(s.evidence, &vetting.Evidence{ID: 40 + n, DeviceID: 10 + n, Kind: vetting.EvidenceWrongKey})
		s.happen(events.Event{Type: "device.admitted", By: "operator:x", Site: site, Device: &events.DeviceNow{ID: 10 + n, Serial: "S-" + site, Site: site, Owner: owner},
			Evidence: []events.Sign{{ID: 1, Text: "of near", Site: "near"}, {ID: 2, Text: "of the OEM"}}})
	}
}

// addOperator stores an operator and makes the certificate.
func (w *world) addOperator(name string, role access.Role) *access.Operator {
	key := newKey(w.t)
	ca := w.office
	op := &access.Operator{ID: int64(len(w.store.operators) + 1), Name: name, Role: role, Created: today}
	if role.OfSite() {
		ca, op.Site, op.SiteID = w.plant, "near", 1
	}
	if role.OfOwner() {
		op.Owner = "acme"
	}
	cert := ca.issue(w.t, name, key, today.AddDate(1, 0, 0))
	op.Key = vetting.KeyFingerprint(parse(w.t, cert.Certificate[0]).RawSubjectPublicKeyInfo)
	w.store.operators = append(w.store.operators, op)
	w.certs[name] = cert
	return op
}

func (w *world) VerifyOperator(c *x509.Certificate, at time.Time) error {
	return w.office.verify(c, at)
}
func (w *world) VerifyFactory(c *x509.Certificate, at time.Time) error { return w.plant.verify(c, at) }

// Examine takes the plant for the device CA, and odd serial numbers for its own.
func (w *world) Examine(c *x509.Certificate) *vetting.ShownCertificate {
	shown := &vetting.ShownCertificate{Origin: vetting.OriginOther, Serial: fmt.Sprintf("%x", c.SerialNumber.Bytes()),
		OwnSerial: c.SerialNumber.Bit(0) == 1, Key: vetting.KeyFingerprint(c.RawSubjectPublicKeyInfo), Digest: sha256.Sum256(c.Raw), Issuer: c.Issuer.String()}
	switch {
	case bytes.Equal(c.RawIssuer, c.RawSubject):
		shown.Origin = vetting.OriginSelf
	case c.Issuer.CommonName == "factory CA" && c.CheckSignatureFrom(w.plant.cert) == nil:
		shown.Origin = vetting.OriginDeviceCA
	case c.Issuer.CommonName == "factory CA":
		shown.Origin = vetting.OriginForged
	}
	return shown
}

func (w *world) CheckProfile(context.Context, *vetting.Product) error { return w.profileErr }

func (w *world) ca(role access.Role) *authority {
	if role.OfSite() {
		return w.plant
	}
	return w.office
}

func (w *world) IssueOperator(csr *x509.CertificateRequest, op *access.Operator) (*access.Certificate, error) {
	ca := w.ca(op.Role)
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(99), Subject: pkix.Name{CommonName: op.Name}, NotBefore: today, NotAfter: today.AddDate(1, 0, 0)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, ca.cert, csr.PublicKey, ca.key)
	return &access.Certificate{DER: der, Chain: [][]byte{ca.cert.Raw}, NotAfter: tmpl.NotAfter}, err
}

func (w *world) SignVoucher(*vetting.Voucher) ([]byte, error) { return []byte("voucher"), nil }

// client connects with an operator's certificate; "" means with none.
func (w *world) client(name string) *http.Client {
	if name == "" {
		return w.with(nil)
	}
	cert, ok := w.certs[name]
	if !ok {
		w.t.Fatalf("no certificate for %q", name)
	}
	return w.with(&cert)
}

func (w *world) with(cert *tls.Certificate) *http.Client {
	pool := x509.NewCertPool()
	pool.AddCert(w.server.Certificate())
	conf := &tls.Config{RootCAs: pool}
	if cert != nil {
		conf.Certificates = []tls.Certificate{*cert}
	}
	tr := &http.Transport{TLSClientConfig: conf}
	w.t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// reply is an answer, read to its end.
type reply struct {
	status int
	header http.Header
	body   string
}

type option func(*http.Request)

func header(name string, values ...string) option {
	return func(r *http.Request) { r.Header[http.CanonicalHeaderKey(name)] = values }
}

// do sends a request; a body that is not a string or bytes goes as JSON.
func (w *world) do(c *http.Client, method, path string, body any, options ...option) reply {
	w.t.Helper()
	var r io.Reader
	switch b := body.(type) {
	case nil:
	case string:
		r = strings.NewReader(b)
	case []byte:
		r = bytes.NewReader(b)
	case io.Reader:
		r = b
	default:
		text, err := json.Marshal(body)
		if err != nil {
			w.t.Fatal(err)
		}
		r = bytes.NewReader(text)
	}
	req, err := http.NewRequest(method, w.server.URL+path, r)
	if err != nil {
		w.t.Fatal(err)
	}
	if r != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	for _, o := range options {
		o(req)
	}
	res, err := c.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return reply{res.StatusCode, res.Header, string(text)}
}

// as sends a request below the API's base as an operator.
func (w *world) as(name, method, path string, body any, options ...option) reply {
	w.t.Helper()
	return w.do(w.client(name), method, api.Base+path, body, options...)
}

// decode reads a JSON answer of the status.
func decode[T any](t testing.TB, r reply, status int) T {
	t.Helper()
	var v T
	if r.status != status {
		t.Fatalf("status %d, want %d: %s", r.status, status, r.body)
	}
	if err := json.Unmarshal([]byte(r.body), &v); err != nil {
		t.Fatalf("%v in %s", err, r.body)
	}
	return v
}

// refused checks that an answer is a problem of the status which says the
// words, and gives it.
func refused(t testing.TB, r reply, status int, words ...string) api.Problem {
	t.Helper()
	p := decode[api.Problem](t, r, status)
	if ct := r.header.Get("Content-Type"); ct != "application/problem+json" {
		t.Errorf("problem has the type %q: %s", ct, r.body)
	}
	if p.Status != status || p.Title != http.StatusText(status) || p.Detail == "" {
		t.Errorf("problem is not complete: %s", r.body)
	}
	for _, word := range words {
		if !strings.Contains(p.Detail, word) {
			t.Errorf("problem does not say %q: %s", word, p.Detail)
		}
	}
	return p
}

func newCSR(t testing.TB, name string) (pemText string, der []byte) {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: name}}, newKey(t))
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})), der
}

// What the server wires in fits.
var (
	_ api.Enroller = (*enroll.Enroller)(nil)
	_ api.Importer = (*manifest.Importer)(nil)
	_ api.Prover   = api.LogProver{}
)

// enroller answers every request with the same outcome.
type enroller struct {
	mu  sync.Mutex
	got []enroll.Request
	out enroll.Outcome
	err error
}

func (e *enroller) Enroll(_ context.Context, r enroll.Request) (enroll.Outcome, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.got = append(e.got, r)
	return e.out, e.err
}

// importer takes in what it is given, in memory.
type importer struct {
	mu         sync.Mutex
	store      *memory
	order      string
	format     vetting.ManifestFormat
	file       []byte
	signatures [][]byte
	acts       []access.Act
	kept       int
	err        error
	seen       chan int // told how many bytes each read gave, if set
}

func (im *importer) Receive(_ context.Context, act access.Act, order string, format vetting.ManifestFormat, body io.Reader, sigs manifest.Signatures) (*vetting.Manifest, error) {
	var file []byte
	b := make([]byte, 4096)
	for {
		n, err := body.Read(b)
		file = append(file, b[:n]...)
		if im.seen != nil && n > 0 {
			im.seen <- n
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			// As a reader of lines may, it makes its own text of the error.
			return nil, vetting.Errorf(vetting.Invalid, "line 1: %v", err)
		}
	}
	list, err := sigs()
	if err != nil {
		return nil, err
	}
	im.mu.Lock()
	defer im.mu.Unlock()
	im.acts = append(im.acts, act)
	if im.err != nil {
		return nil, im.err
	}
	im.order, im.format, im.file, im.signatures = order, format, file, list
	im.kept++
	return &vetting.Manifest{ID: 77, Order: order, Format: format, Size: int64(len(file)), State: vetting.ManifestAccepted, Signers: []string{}}, nil
}

func (im *importer) Resume(context.Context) error { return nil }

func (im *importer) AddSignature(_ context.Context, act access.Act, id int64, sig []byte) (*vetting.Manifest, error) {
	im.mu.Lock()
	defer im.mu.Unlock()
	im.acts = append(im.acts, act)
	im.signatures = append(im.signatures, slices.Clone(sig))
	if im.err != nil {
		return nil, im.err
	}
	return &vetting.Manifest{ID: id, State: vetting.ManifestAccepted}, nil
}

type prover struct{ err error }

func (p *prover) Prove(_ context.Context, leaf int64) (*audit.Proof, error) {
	if p.err != nil {
		return nil, p.err
	}
	return &audit.Proof{Index: leaf, Leaf: "{}", Checkpoint: "log\n8\n"}, nil
}

// syncBuffer is a buffer for logs of many goroutines.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}
