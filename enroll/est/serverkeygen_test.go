package est_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/hex"
	"io"
	"mime"
	"mime/multipart"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/internal/store/storetest"
	"github.com/touchmark/touchmark/vetting"
)

// allow sets whether the product's keys may be made by the server, and of
// what kinds.
func (d *door) allow(how vetting.ServerKeys, kinds ...string) {
	d.t.Helper()
	d.change(func(p *vetting.Product) { p.ServerKeys, p.Profile.Keys = how, kinds })
}

// change changes the product.
func (d *door) change(how func(*vetting.Product)) {
	d.t.Helper()
	s := d.world.Store
	p, err := s.Product(context.Background(), "thermo")
	if err != nil {
		d.t.Fatal(err)
	}
	changed := *p
	how(&changed)
	if _, err := s.UpdateProduct(context.Background(), storetest.By, &changed); err != nil {
		d.t.Fatal(err)
	}
}

// made is a serverkeygen answer taken apart: the first part, decoded, and
// the certificate.
type made struct {
	kind string
	der  []byte
	cert *x509.Certificate
}

func (a answer) made(t testing.TB) (m made) {
	t.Helper()
	kind, params, err := mime.ParseMediaType(a.Header.Get("Content-Type"))
	if err != nil || kind != "multipart/mixed" || a.StatusCode != 200 {
		t.Fatalf("%d %s %v: %s", a.StatusCode, a.Header.Get("Content-Type"), err, a.body)
	}
	if a.ContentLength != int64(len(a.body)) || a.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("Content-Length %d of %d, Cache-Control %q", a.ContentLength, len(a.body), a.Header.Get("Cache-Control"))
	}
	r := multipart.NewReader(strings.NewReader(a.body), params["boundary"])
	part := func() (string, []byte) {
		p, err := r.NextRawPart()
		if err != nil {
			t.Fatal(err)
		}
		if got := p.Header.Get("Content-Transfer-Encoding"); got != "base64" || len(p.Header) != 2 {
			t.Errorf("the headers of a part are %v", p.Header)
		}
		text, err := io.ReadAll(p)
		if err != nil {
			t.Fatal(err)
		}
		der, err := base64.StdEncoding.DecodeString(strings.ReplaceAll(string(text), "\n", ""))
		if err != nil {
			t.Fatal(err)
		}
		return p.Header.Get("Content-Type"), der
	}
	m.kind, m.der = part()
	kind, der := part()
	if _, err := r.NextRawPart(); err != io.EOF {
		t.Errorf("after two parts comes %v", err)
	}
	if kind != "application/pkcs7-mime; smime-type=certs-only" {
		t.Errorf("the second part is %s", kind)
	}
	a.body = base64.StdEncoding.EncodeToString(der)
	m.cert = a.certificate(t)
	return m
}

// plain reads an unencrypted private key, which must be the certificate's.
func (m made) plain(t testing.TB) crypto.Signer {
	t.Helper()
	if m.kind != "application/pkcs8" {
		t.Fatalf("the first part is %s", m.kind)
	}
	return m.belongs(t, m.der)
}

func (m made) belongs(t testing.TB, pkcs8 []byte) crypto.Signer {
	t.Helper()
	key, err := x509.ParsePKCS8PrivateKey(pkcs8)
	if err != nil {
		t.Fatal(err)
	}
	signer := key.(crypto.Signer)
	if pub := signer.Public().(interface{ Equal(crypto.PublicKey) bool }); !pub.Equal(m.cert.PublicKey) {
		t.Error("the private key is not the certificate's")
	}
	return signer
}

// The key is the server's own, whatever the request says about its own, and
// a repetition gets another on the same unit (RFC 7030 §4.4.1).
func TestServerKeyPlain(t *testing.T) {
	d := open(t, 1)
	d.allow(vetting.ServerKeysPlain)
	device := d.build("SN-1")
	own := newKey(t)
	csr := d.csr(own, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "SN-1"}})
	broken := bytes.Clone(csr)
	broken[len(broken)-1] ^= 1
	first := d.post(device, "serverkeygen", broken).made(t)
	lost := first.plain(t)
	if own.PublicKey.Equal(lost.Public()) || d.cas.VerifyDevice(first.cert, time.Now()) != nil || first.cert.Subject.CommonName != "SN-1" {
		t.Errorf("got %s on %v", first.cert.Subject, lost.Public())
	}
	again := d.post(device, "thermo/serverkeygen", csr).made(t)
	key := again.plain(t).(*ecdsa.PrivateKey)
	if again.cert.Equal(first.cert) || key.PublicKey.Equal(lost.Public()) {
		t.Error("asking again got the same key")
	}
	if c := d.certificate(first.cert); c.State != vetting.CertificateRevoked || c.Reason != 4 {
		t.Errorf("the lost certificate is %s, reason %d", c.State, c.Reason)
	}
	if o := d.order(); o.Issued != 1 {
		t.Errorf("%d units were taken", o.Issued)
	}
	// the key works, and using it ends the bootstrap key's time
	d.send(party{key: key, cert: again.cert}, "GET", "cacerts", "", "")
	if a := d.post(device, "serverkeygen", csr); a.StatusCode != 403 || !strings.Contains(a.body, "no longer counts") {
		t.Errorf("after activation: %d %s", a.StatusCode, a.body)
	}
	d.nowhere(key)
	storetest.Verify(t, d.world.Store)
}

// nowhere looks for a private key in the database's files and in the log.
func (d *door) nowhere(key *ecdsa.PrivateKey) {
	d.t.Helper()
	secret, err := key.Bytes()
	if err != nil {
		d.t.Fatal(err)
	}
	places := map[string][]byte{"the log": d.log.Bytes()}
	files, err := filepath.Glob(filepath.Join(d.data, "*"))
	if err != nil || len(files) == 0 {
		d.t.Fatalf("the database's files: %v, %v", files, err)
	}
	public := sha256.Sum256(must(x509.MarshalPKIXPublicKey(&key.PublicKey)))
	seen := false
	for _, f := range files {
		places[f] = must(os.ReadFile(f))
		seen = seen || bytes.Contains(places[f], public[:])
	}
	if !seen || !bytes.Contains(places["the log"], []byte(hex.EncodeToString(public[:]))) {
		d.t.Error("not even the public key is there: this test looks in the wrong place")
	}
	for place, b := range places {
		for form, s := range map[string][]byte{"bytes": secret, "hex": []byte(hex.EncodeToString(secret)),
			"base64": []byte(base64.StdEncoding.EncodeToString(must(x509.MarshalPKCS8PrivateKey(key))))} {
			if bytes.Contains(b, s) {
				d.t.Errorf("%s holds the private key as %s", place, form)
			}
		}
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func (d *door) certificate(cert *x509.Certificate) *vetting.Certificate {
	d.t.Helper()
	c, err := d.world.Store.Certificate(context.Background(), hex.EncodeToString(cert.SerialNumber.Bytes()))
	if err != nil {
		d.t.Fatal(err)
	}
	return c
}

func (d *door) order() *vetting.Order {
	d.t.Helper()
	o, err := d.world.Store.Order(context.Background(), "po-1")
	if err != nil {
		d.t.Fatal(err)
	}
	return o
}

// The request's key says what kind is wanted, if the product accepts that.
func TestServerKeyKinds(t *testing.T) {
	d := open(t, 10)
	d.allow(vetting.ServerKeysPlain, "P-384", "Ed25519", "RSA-2048")
	_, edward, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for n, c := range []struct {
		asks any
		want string
	}{
		{must(rsa.GenerateKey(rand.Reader, 2048)), "RSA"}, {must(rsa.GenerateKey(rand.Reader, 1024)), "ECDSA"}, {edward, "Ed25519"},
		{newKey(t), "ECDSA"}, {must(ecdsa.GenerateKey(elliptic.P224(), rand.Reader)), "ECDSA"},
	} {
		m := d.post(d.build("SN-"+strconv.Itoa(n)), "serverkeygen", d.csr(c.asks, &x509.CertificateRequest{})).made(t)
		key := m.plain(t)
		if got := m.cert.PublicKeyAlgorithm.String(); got != c.want {
			t.Errorf("%T: got %s", c.asks, got)
		}
		if ec, ok := key.(*ecdsa.PrivateKey); ok && ec.Curve != elliptic.P384() {
			t.Errorf("%T: got %s", c.asks, ec.Params().Name)
		}
	}
}

// A device that waits is known again, though its key is not made yet.
func TestServerKeyHeld(t *testing.T) {
	d := open(t, 10)
	d.allow(vetting.ServerKeysPlain)
	device := d.build("SN-1")
	after := time.Now().Add(time.Hour)
	if _, err := d.world.Store.ChangeOrder(context.Background(), storetest.By, "po-1", vetting.OrderChange{NotBefore: &after}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if a := d.post(device, "serverkeygen", d.csr(newKey(t), &x509.CertificateRequest{})); a.StatusCode != 202 || a.Header.Get("Retry-After") == "" {
			t.Fatalf("%d %s", a.StatusCode, a.body)
		}
	}
	held, err := d.world.Store.Registrations(context.Background(), vetting.RegistrationFilter{Undecided: true}, vetting.Page{})
	if err != nil || len(held) != 1 || held[0].Repeats != 1 || held[0].Claim.ServerKey != vetting.ServerKeysPlain {
		t.Fatalf("held registrations %+v, %v", held, err)
	}
	if _, err := d.world.Store.DecideRegistration(context.Background(), storetest.By, held[0].ID, vetting.Decision{Admit: true, By: "anna", Note: "pilot"}); err != nil {
		t.Fatal(err)
	}
	d.post(device, "serverkeygen", d.csr(newKey(t), &x509.CertificateRequest{})).made(t).plain(t)
}

func TestServerKeyThroughARig(t *testing.T) {
	d := open(t, 10)
	d.allow(vetting.ServerKeysPlain)
	d.build("SN-1")
	rig := d.operator("rig-1", access.RoleRig, "hsinchu")
	m := d.post(rig, "serverkeygen", d.csr(newKey(t), &x509.CertificateRequest{Subject: pkix.Name{SerialNumber: "SN-1"}})).made(t)
	if m.plain(t); m.cert.Subject.SerialNumber != "SN-1" {
		t.Errorf("got %s", m.cert.Subject)
	}
}

// An active device may have its next key made, too. If the answer is lost it
// asks again with the certificate that it still has; once a later one was
// used, that is a copied key.
func TestServerKeyRenewal(t *testing.T) {
	d := open(t, 1)
	d.allow(vetting.ServerKeysPlain)
	subject := func(s string) func(*vetting.Product) {
		return func(p *vetting.Product) {
			p.Profile.Template = `{"subject": ` + s + `, "keyUsage": ["digitalSignature"]}`
		}
	}
	d.change(subject(`{"commonName": "{{ .Serial }}", "organization": "Acme"}`))
	first := d.post(d.build("SN-1"), "serverkeygen", d.csr(newKey(t), &x509.CertificateRequest{})).made(t)
	old := party{key: first.plain(t).(*ecdsa.PrivateKey), cert: first.cert}
	csr := d.csr(newKey(t), &x509.CertificateRequest{RawSubject: first.cert.RawSubject})
	lost := d.post(old, "serverkeygen", csr).made(t)
	d.change(subject(`{"commonName": "other"}`))
	next := d.post(old, "serverkeygen", csr).made(t) // whose names are those of its certificate still
	if c := d.certificate(lost.cert); c.State != vetting.CertificateRevoked {
		t.Errorf("the lost certificate is %s", c.State)
	}
	if lost.cert.Equal(next.cert) || d.certificate(next.cert).State != vetting.CertificateValid || d.order().Issued != 1 {
		t.Errorf("the third certificate is %+v, %d units", d.certificate(next.cert), d.order().Issued)
	}
	if a := d.post(old, "serverkeygen", d.csr(newKey(t), &x509.CertificateRequest{Subject: pkix.Name{CommonName: "SN-2"}})); a.StatusCode != 400 || !strings.Contains(a.body, "repeat the subject") {
		t.Errorf("another name: %d %s", a.StatusCode, a.body)
	}
	d.send(party{key: next.plain(t).(*ecdsa.PrivateKey), cert: next.cert}, "GET", "cacerts", "", "")
	if a := d.post(old, "serverkeygen", csr); a.StatusCode != 403 || !strings.Contains(a.body, "was superseded") {
		t.Errorf("after the successor's first use: %d %s", a.StatusCode, a.body)
	}
	evidence, err := d.world.Store.Evidence(context.Background(), vetting.EvidenceFilter{}, vetting.Page{})
	if err != nil || len(evidence) != 1 || evidence[0].Kind != vetting.EvidenceSuperseded {
		t.Errorf("evidence %+v, %v", evidence, err)
	}
	storetest.Verify(t, d.world.Store)
}

// What the product does not allow, or cannot be done, is refused with the
// reason, and takes no unit.
func TestServerKeyRefused(t *testing.T) {
	d := open(t, 10)
	device := d.build("SN-1")
	own, edward := newKey(t), must2(ed25519.GenerateKey(rand.Reader))
	id := sha1.Sum(bits(own))
	signs := d.bootstrapFor("SN-1", device.key, func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageDigitalSignature })
	broken := asking(t, "SN-1", own, decryptKeyID(54, id[:]))
	broken[len(broken)-1] ^= 1
	edID := sha256.Sum256(bits(edward))
	for name, c := range map[string]struct {
		allowed vetting.ServerKeys
		by      party
		csr     []byte
		status  int
		want    string
	}{
		"never set":           {"", device, asking(t, "SN-1", own), 403, "makes no private keys"},
		"off":                 {vetting.ServerKeysOff, device, asking(t, "SN-1", own), 403, "makes no private keys"},
		"off, encrypted":      {vetting.ServerKeysOff, device, asking(t, "SN-1", own, decryptKeyID(54, id[:])), 403, "makes no private keys"},
		"not plain":           {vetting.ServerKeysEncrypted, device, asking(t, "SN-1", own), 403, "AsymmetricDecryptKeyIdentifier"},
		"a secret key":        {vetting.ServerKeysPlain, device, asking(t, "SN-1", own, decryptKeyID(37, id[:])), 400, "shared secret"},
		"an unknown key":      {vetting.ServerKeysPlain, device, asking(t, "SN-1", own, decryptKeyID(54, []byte("whatever"))), 400, "7768617465766572"},
		"two keys":            {vetting.ServerKeysPlain, device, asking(t, "SN-1", own, decryptKeyID(54, id[:], id[:])), 400, "exactly one value"},
		"no OCTET STRING":     {vetting.ServerKeysPlain, device, asking(t, "SN-1", own, bytes.Replace(decryptKeyID(54, id[:]), tlv(4, id[:]), tlv(12, id[:]), 1)), 400, "one OCTET STRING"},
		"a key that signs":    {vetting.ServerKeysPlain, signs, asking(t, "SN-1", own, decryptKeyID(54, sha1of(device.key))), 400, "keyUsage"},
		"an unproven key":     {vetting.ServerKeysPlain, device, broken, 400, "does not verify"},
		"a key without crypt": {vetting.ServerKeysPlain, device, asking(t, "SN-1", edward, decryptKeyID(54, edID[:])), 400, "nothing can be encrypted"},
	} {
		d.allow(c.allowed)
		a := d.post(c.by, "serverkeygen", c.csr)
		if a.StatusCode != c.status || !strings.Contains(a.body, c.want) || !strings.HasPrefix(a.Header.Get("Content-Type"), "text/plain") {
			t.Errorf("%s: %d %s", name, a.StatusCode, a.body)
		}
	}
	if o := d.order(); o.Issued != 0 {
		t.Errorf("%d units were taken", o.Issued)
	}
	if a := d.post(party{}, "serverkeygen", asking(t, "SN-1", own)); a.StatusCode != 401 {
		t.Errorf("nobody: %d %s", a.StatusCode, a.body)
	}
}
