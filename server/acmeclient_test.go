package server

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"
	"github.com/go-jose/go-jose/v4"

	"github.com/touchmark/touchmark/internal/store/storetest"
	"github.com/touchmark/touchmark/server/api"
	"github.com/touchmark/touchmark/vetting"
	"github.com/touchmark/touchmark/vetting/vendorid/vendoridtest"
)

// b64url is base64url without padding.
func b64url(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// attesting has the world's product accept keys that hardware of a new vendor
// attests.
func (w *works) attesting() *vendoridtest.Maker {
	w.t.Helper()
	m := vendoridtest.New(w.t, "Chips")
	w.product(func(p *vetting.Product) {
		p.Proofs = append(p.Proofs, vetting.ProofAttestation)
		p.Vendors = []vetting.Vendor{{Name: "chips", Anchors: vendoridtest.PEM(m.Root)}}
	})
	return m
}

func (w *works) product(change func(*vetting.Product)) {
	w.t.Helper()
	p, err := w.server.store.Product(w.t.Context(), "thermo")
	if err != nil {
		w.t.Fatal(err)
	}
	changed := *p
	change(&changed)
	if _, err := w.server.store.UpdateProduct(w.t.Context(), storetest.By, &changed); err != nil {
		w.t.Fatal(err)
	}
}

// keyless hands in the record of a device without a bootstrap key.
func (w *works) keyless(serial string) {
	w.t.Helper()
	w.world.Load(w.t, vetting.Record{Row: 1, Identity: vetting.Identity{Serial: serial}})
}

// accountKey makes an account key over the API.
func (w *works) accountKey(in api.AccountKeyInput) (made api.AccountKeyCreated) {
	w.t.Helper()
	if in.Expires.IsZero() {
		in.Expires = time.Now().Add(time.Hour)
	}
	if err := json.Unmarshal(send(w.t, as(w.t, w.config, "admin"), "POST", "https://"+w.server.Addrs()["api"]+"/api/v1/account-keys", in, 201), &made); err != nil {
		w.t.Fatal(err)
	}
	return made
}

// acmeClient is an ACME client that can also do wrong.
type acmeClient struct {
	t     *testing.T
	http  *http.Client
	base  string
	key   *ecdsa.PrivateKey
	kid   string // the account's URL
	nonce string
}

// acmeAnswer is what a server answered.
type acmeAnswer struct {
	status int
	header http.Header
	body   []byte
}

func (a acmeAnswer) json(t *testing.T) (v map[string]any) {
	t.Helper()
	if err := json.Unmarshal(a.body, &v); err != nil {
		t.Fatalf("%d %s: %v", a.status, a.body, err)
	}
	return v
}

// problem is the type of a problem, "" if the answer is none.
func (a acmeAnswer) problem() string {
	var p struct {
		Type   string
		Detail string
		Status int
	}
	if a.header.Get("Content-Type") != "application/problem+json" || json.Unmarshal(a.body, &p) != nil || p.Detail == "" || p.Status != a.status {
		return ""
	}
	return strings.TrimPrefix(p.Type, "urn:ietf:params:acme:error:")
}

func wantProblem(t *testing.T, what string, a acmeAnswer, status int, kind, text string) {
	t.Helper()
	if a.status != status || a.problem() != kind || !strings.Contains(string(a.body), text) {
		t.Errorf("%s: %d %s, want %d %s with %q", what, a.status, a.body, status, kind, text)
	}
	if a.header.Get("Replay-Nonce") == "" {
		t.Errorf("%s: no nonce to go on with", what)
	}
}

func newP256(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// acme is a client without an account yet.
func (w *works) acme() *acmeClient {
	w.t.Helper()
	return w.acmeAt(w.server)
}

func (w *works) acmeAt(s *Server) *acmeClient {
	w.t.Helper()
	return &acmeClient{t: w.t, http: as(w.t, w.config, ""), base: "https://" + s.Addrs()["acme"] + "/acme/", key: newP256(w.t)}
}

// opens is a client with an account by a new account key for the world's
// order.
func (w *works) opens() *acmeClient {
	w.t.Helper()
	c := w.acme()
	c.open(w.accountKey(api.AccountKeyInput{Order: "po-1"}))
	return c
}

func (c *acmeClient) open(k api.AccountKeyCreated) {
	c.t.Helper()
	a := c.newAccount(map[string]any{"termsOfServiceAgreed": true, "externalAccountBinding": c.binding(k.KeyID, k.Secret)})
	if a.status != 201 {
		c.t.Fatalf("new account: %d %s", a.status, a.body)
	}
}

func (c *acmeClient) newAccount(in map[string]any) acmeAnswer {
	c.t.Helper()
	a := c.post("new-account", in)
	if a.status < 300 {
		c.kid = a.header.Get("Location")
	}
	return a
}

// binding is an external account binding.
func (c *acmeClient) binding(kid, secret string) json.RawMessage {
	c.t.Helper()
	key, err := base64.RawURLEncoding.DecodeString(secret)
	if err != nil {
		c.t.Fatal(err)
	}
	jwk, err := json.Marshal(jose.JSONWebKey{Key: c.key.Public()})
	if err != nil {
		c.t.Fatal(err)
	}
	return json.RawMessage(signJWS(c.t, jose.HS256, key, jwk, map[string]any{"url": c.base + "new-account", "kid": kid}))
}

// signJWS makes a flattened JWS with a protected header.
func signJWS(t *testing.T, alg jose.SignatureAlgorithm, key any, payload []byte, header map[string]any) string {
	t.Helper()
	o := new(jose.SignerOptions)
	for name, value := range header {
		o.WithHeader(jose.HeaderKey(name), value)
	}
	s, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: key}, o)
	if err != nil {
		t.Fatal(err)
	}
	jws, err := s.Sign(payload)
	if err != nil {
		t.Fatal(err)
	}
	return jws.FullSerialize()
}

// header is the protected header of a request, by the account if there is one.
func (c *acmeClient) header(path string) map[string]any {
	h := map[string]any{"url": c.url(path), "nonce": c.fresh()}
	if c.kid != "" {
		h["kid"] = c.kid
	} else {
		h["jwk"] = jose.JSONWebKey{Key: c.key.Public()}
	}
	return h
}

// url takes a path below the base, or a URL.
func (c *acmeClient) url(path string) string {
	if strings.HasPrefix(path, "https://") {
		return path
	}
	return c.base + path
}

// fresh is a nonce.
func (c *acmeClient) fresh() string {
	c.t.Helper()
	if c.nonce == "" {
		resp, err := c.http.Head(c.base + "new-nonce")
		if err != nil {
			c.t.Fatal(err)
		}
		resp.Body.Close()
		c.nonce = resp.Header.Get("Replay-Nonce")
	}
	nonce := c.nonce
	c.nonce = ""
	return nonce
}

// post signs and sends; a nil payload is a POST-as-GET.
func (c *acmeClient) post(path string, payload any) acmeAnswer {
	c.t.Helper()
	text := []byte{}
	if payload != nil {
		var err error
		if text, err = json.Marshal(payload); err != nil {
			c.t.Fatal(err)
		}
	}
	return c.send(path, []byte(signJWS(c.t, jose.ES256, c.key, text, c.header(path))))
}

// send sends bytes.
func (c *acmeClient) send(path string, body []byte) acmeAnswer {
	c.t.Helper()
	resp, err := c.http.Post(c.url(path), "application/jose+json", bytes.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	c.nonce = resp.Header.Get("Replay-Nonce")
	return acmeAnswer{resp.StatusCode, resp.Header, text}
}

// acmeOrder is an order as the client knows it.
type acmeOrder struct {
	*acmeClient
	at, finalizeAt string
	challengeAt    string
	token          string
}

func permanent(serial string) map[string]any {
	return map[string]any{"identifiers": []any{map[string]any{"type": "permanent-identifier", "value": serial}}}
}

// order opens an order and fetches its authorization.
func (c *acmeClient) order(in map[string]any) *acmeOrder {
	c.t.Helper()
	a := c.post("new-order", in)
	if a.status != 201 {
		c.t.Fatalf("new order: %d %s", a.status, a.body)
	}
	return c.authorized(a)
}

// authorized fetches the authorization of an order that was opened.
func (c *acmeClient) authorized(a acmeAnswer) *acmeOrder {
	c.t.Helper()
	o := &acmeOrder{acmeClient: c, at: a.header.Get("Location")}
	v := a.json(c.t)
	o.finalizeAt = v["finalize"].(string)
	authz := c.post(v["authorizations"].([]any)[0].(string), nil)
	if authz.status != 200 {
		c.t.Fatalf("authorization: %d %s", authz.status, authz.body)
	}
	challenge := authz.json(c.t)["challenges"].([]any)[0].(map[string]any)
	o.challengeAt, o.token = challenge["url"].(string), challenge["token"].(string)
	return o
}

// keyAuthorization is what a challenge's answer is about (RFC 8555 §8.1).
func (o *acmeOrder) keyAuthorization() string {
	o.t.Helper()
	print, err := (&jose.JSONWebKey{Key: o.key.Public()}).Thumbprint(5) // SHA-256
	if err != nil {
		o.t.Fatal(err)
	}
	return o.token + "." + b64url(print)
}

var oidManagedDevice = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 37476, 9000, 64, 4}

// attestedKey is a key with its vendor's word of which device it is in.
func attestedKey(t *testing.T, m *vendoridtest.Maker, serial string) *vendoridtest.Party {
	t.Helper()
	return m.Device(attestingCertificate(t, serial))
}

// attestingCertificate is that of an attested key of a device, before it is
// signed.
func attestingCertificate(t *testing.T, serial string) *x509.Certificate {
	t.Helper()
	id, err := asn1.Marshal(struct{ DeviceID string }{serial})
	if err != nil {
		t.Fatal(err)
	}
	return &x509.Certificate{Subject: pkix.Name{CommonName: "attested"}, ExtraExtensions: []pkix.Extension{{Id: oidManagedDevice, Value: id}}, NotBefore: vendoridtest.Made, NotAfter: vendoridtest.Forever}
}

// statement is an attestation of format step.
func (o *acmeOrder) statement(p *vendoridtest.Party, above ...*x509.Certificate) map[string]any {
	o.t.Helper()
	sum := sha256.Sum256([]byte(o.keyAuthorization()))
	sig, err := ecdsa.SignASN1(rand.Reader, p.Key, sum[:])
	if err != nil {
		o.t.Fatal(err)
	}
	wrapped, err := cbor.Marshal(sig)
	if err != nil {
		o.t.Fatal(err)
	}
	x5c := [][]byte{p.Cert.Raw}
	for _, c := range above {
		x5c = append(x5c, c.Raw)
	}
	return map[string]any{"fmt": "step", "attStmt": map[string]any{"x5c": x5c, "alg": -7, "sig": wrapped}}
}

func (o *acmeOrder) attest(statement any) acmeAnswer {
	o.t.Helper()
	obj, err := cbor.Marshal(statement)
	if err != nil {
		o.t.Fatal(err)
	}
	return o.post(o.challengeAt, map[string]string{"attObj": b64url(obj)})
}

func requestFor(t *testing.T, key *ecdsa.PrivateKey, template *x509.CertificateRequest) map[string]string {
	t.Helper()
	return map[string]string{"csr": b64url(certificateRequest(t, key, template))}
}

func certificateRequest(t *testing.T, key *ecdsa.PrivateKey, template *x509.CertificateRequest) []byte {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, template, key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// certificate downloads what an order led to.
func (o *acmeOrder) certificate() *x509.Certificate {
	o.t.Helper()
	v := o.post(o.at, nil).json(o.t)
	at, _ := v["certificate"].(string)
	if v["status"] != "valid" || at == "" {
		o.t.Fatalf("the order is %v", v)
	}
	a := o.post(at, nil)
	block, rest := pem.Decode(a.body)
	if a.status != 200 || block == nil || a.header.Get("Content-Type") != "application/pem-certificate-chain" {
		o.t.Fatalf("certificate: %d %s", a.status, a.body)
	}
	if above, _ := pem.Decode(rest); above == nil {
		o.t.Fatalf("no issuing CA in %s", a.body)
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		o.t.Fatal(err)
	}
	return cert
}

// enrol orders, attests and finalizes.
func (c *acmeClient) enrol(m *vendoridtest.Maker, serial string, p *vendoridtest.Party) (*acmeOrder, acmeAnswer) {
	c.t.Helper()
	o := c.order(permanent(serial))
	if a := o.attest(o.statement(p, m.Issuing.Cert)); a.status != 200 || a.json(c.t)["status"] != "valid" {
		c.t.Fatalf("challenge: %d %s", a.status, a.body)
	}
	return o, o.post(o.finalizeAt, requestFor(c.t, p.Key, &x509.CertificateRequest{}))
}
