package approval

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"math/big"
	"strings"
	"testing"
	"time"
)

var monday = time.Date(2026, 11, 2, 8, 0, 0, 123456000, time.UTC)

// office is a root with CAs below it.
type office struct {
	t                          testing.TB
	root, operators, factories *x509.Certificate
	rootKey, caKey             crypto.Signer
	serial                     int64
}

func newOffice(t testing.TB) *office {
	o := &office{t: t, rootKey: newKey(t, "P-256"), caKey: newKey(t, "P-256")}
	ca := func(unit string) *x509.Certificate {
		return &x509.Certificate{Subject: pkix.Name{CommonName: "Example " + unit, OrganizationalUnit: []string{unit}}, IsCA: true, BasicConstraintsValid: true,
			KeyUsage: x509.KeyUsageCertSign, NotBefore: monday.AddDate(-1, 0, 0), NotAfter: monday.AddDate(10, 0, 0)}
	}
	root := ca("Root CA")
	o.root = o.sign(root, root, o.rootKey.Public(), o.rootKey)
	o.operators = o.sign(ca("Operator CA"), o.root, o.caKey.Public(), o.rootKey)
	o.factories = o.sign(ca("Factory CA"), o.root, o.caKey.Public(), o.rootKey)
	return o
}

func newKey(t testing.TB, kind string) crypto.Signer {
	t.Helper()
	key, err := map[string]func() (crypto.Signer, error){
		"P-256": func() (crypto.Signer, error) { return ecdsa.GenerateKey(elliptic.P256(), rand.Reader) },
		"P-384": func() (crypto.Signer, error) { return ecdsa.GenerateKey(elliptic.P384(), rand.Reader) },
		"P-521": func() (crypto.Signer, error) { return ecdsa.GenerateKey(elliptic.P521(), rand.Reader) },
		"RSA":   func() (crypto.Signer, error) { return rsa.GenerateKey(rand.Reader, 2048) },
		"Ed25519": func() (crypto.Signer, error) {
			_, key, err := ed25519.GenerateKey(rand.Reader)
			return key, err
		},
	}[kind]()
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func (o *office) sign(template, parent *x509.Certificate, key crypto.PublicKey, by crypto.Signer) *x509.Certificate {
	o.t.Helper()
	o.serial++
	template.SerialNumber = big.NewInt(o.serial)
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key, by)
	if err != nil {
		o.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		o.t.Fatal(err)
	}
	return cert
}

// person is an operator with a certificate.
type person struct {
	name string
	key  crypto.Signer
	cert *x509.Certificate
	ca   *x509.Certificate
}

func (o *office) person(name, kind string, ca *x509.Certificate) *person {
	p := &person{name: name, key: newKey(o.t, kind), ca: ca}
	p.cert = o.sign(&x509.Certificate{Subject: pkix.Name{CommonName: name, OrganizationalUnit: []string{"approver"}}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		NotBefore: monday.AddDate(0, -1, 0), NotAfter: monday.AddDate(1, 0, 0)}, ca, p.key.Public(), o.caKey)
	return p
}

func (p *person) yes(t testing.TB, payload []byte, at time.Time) Approval {
	t.Helper()
	sig, err := Sign(payload, p.key)
	if err != nil {
		t.Fatal(err)
	}
	return Approval{By: p.name, At: at, Certificates: [][]byte{p.cert.Raw, p.ca.Raw}, Signature: sig}
}

type statement struct {
	Product string   `json:"product"`
	Counter int64    `json:"counter"`
	Digests []string `json:"digests"`
}

func propose(t testing.TB, wanted int) *Proposal {
	t.Helper()
	p, err := New(4711, Act{Kind: ReleaseApprove, Subject: "gateway 1.4.2", Statement: statement{"gateway", 7, []string{"aa", "bb"}}, Note: "fixes <CVE> & more", Wanted: wanted}, "anna", monday)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestApprove(t *testing.T) {
	o := newOffice(t)
	berta, carla := o.person("berta", "P-256", o.operators), o.person("carla", "P-256", o.operators)
	p := propose(t, 2)
	later := monday.Add(time.Hour)
	refused := func(what, says string, a Approval) {
		t.Helper()
		have := len(p.Approvals)
		if _, err := p.Approve(a); err == nil || !strings.Contains(err.Error(), says) || len(p.Approvals) != have {
			t.Errorf("%s: %v, %d approvals", what, err, len(p.Approvals))
		}
	}
	refused("who asked", "somebody else", o.person("anna", "P-256", o.operators).yes(t, p.Payload, later))
	refused("another's payload", "not over this proposal", berta.yes(t, propose(t, 1).Payload, later))
	refused("too late", "expired", berta.yes(t, p.Payload, p.Expires))
	mixed := berta.yes(t, p.Payload, later)
	mixed.Certificates = [][]byte{carla.cert.Raw}
	refused("another's certificate", "not over this proposal", mixed)
	mixed.Certificates = nil
	refused("no certificate", "has no certificate", mixed)

	if done, err := p.Approve(berta.yes(t, p.Payload, later)); done || err != nil || p.Missing() != 1 {
		t.Fatalf("%v, %v", done, err)
	}
	refused("twice", "already", berta.yes(t, p.Payload, later))
	if err := p.Retract("carla", later); err == nil {
		t.Error("carla's approval was taken back, which she never gave")
	}
	if err := p.Retract("berta", later); err != nil || p.Missing() != 2 {
		t.Fatal(err)
	}
	for i, who := range []*person{berta, carla} {
		if done, err := p.Approve(who.yes(t, p.Payload, later)); done != (i == 1) || err != nil {
			t.Fatalf("%v, %v", done, err)
		}
	}
	refused("after the end", "was carried out", o.person("dora", "P-256", o.operators).yes(t, p.Payload, later))
	if p.Retract("berta", later) == nil || p.Withdraw("anna", "no", later) == nil || p.State != CarriedOut {
		t.Error("what was carried out was taken back")
	}
	withdrawn := propose(t, 1)
	if err := withdrawn.Withdraw("anna", "wrong build", later); err != nil {
		t.Fatal(err)
	}
	if _, err := withdrawn.Approve(berta.yes(t, withdrawn.Payload, later)); err == nil || !strings.Contains(err.Error(), "anna: wrong build") {
		t.Errorf("a withdrawn proposal: %v", err)
	}
}

// The payload's form is fixed: programs of others may build and read it.
func TestPayload(t *testing.T) {
	p := propose(t, 2)
	const want = `{"at":"2026-11-02T08:00:00.123456Z","by":"anna","digest":"38988ca777c76527048944d6fbd5c356d878a6175be0ce2fcd24852349b561bf","expires":"2026-11-09T08:00:00.123456Z","id":4711,"kind":"release.approve","note":"fixes <CVE> & more","statement":{"counter":7,"digests":["aa","bb"],"product":"gateway"},"subject":"gateway 1.4.2","wanted":2}`
	if string(p.Payload) != want {
		t.Errorf("the payload is\n%s\nwant\n%s", p.Payload, want)
	}
	if s := `{"counter":7,"digests":["aa","bb"],"product":"gateway"}`; digestOf([]byte(s)) != p.Digest {
		t.Errorf("the digest is %s", p.Digest)
	}
	var st statement
	if terms, err := ReadTerms(p.Payload); err != nil || terms.Read(&st) != nil || st.Counter != 7 || !terms.At.Equal(monday) {
		t.Errorf("read again: %+v, %v", terms, err)
	}
	if err := p.Read(new(struct{ Product string })); err == nil {
		t.Error("a statement with more than the reader knows was read")
	}
	for what, change := range map[string][2]string{
		"a space":         {`"by":"anna"`, `"by": "anna"`},
		"another order":   {`"at":"2026-11-02T08:00:00.123456Z","by":"anna"`, `"by":"anna","at":"2026-11-02T08:00:00.123456Z"`},
		"twice":           {`"by":"anna"`, `"by":"berta","by":"anna"`},
		"another case":    {`"by":"anna"`, `"By":"anna"`},
		"an unknown one":  {`"by":"anna"`, `"by":"anna","byy":1`},
		"another digest":  {p.Digest, digestOf(nil)},
		"other statement": {`"counter":7`, `"counter":8`},
		"a fraction":      {`"counter":7`, `"counter":7.0`},
		"another zone":    {`08:00:00.123456Z","by"`, `09:00:00.123456+01:00","by"`},
		"an escape":       {`<CVE>`, `\u003cCVE>`},
		"none wanted":     {`"wanted":2`, `"wanted":0`},
		"too many wanted": {`"wanted":2`, `"wanted":9`},
		"something after": {`"wanted":2}`, `"wanted":2}{}`},
	} {
		changed := strings.Replace(string(p.Payload), change[0], change[1], 1)
		if changed == string(p.Payload) {
			t.Errorf("%s: nothing was changed", what)
		}
		if terms, err := ReadTerms([]byte(changed)); err == nil {
			t.Errorf("%s was read: %+v", what, terms)
		}
	}
}

func TestCanonical(t *testing.T) {
	for in, want := range map[string]string{
		`{"b":1,"a":[true,null,"x"],"c":{}}`:     `{"a":[true,null,"x"],"b":1,"c":{}}`,
		`{"s":"\u20ac$\u000f\nA'B\"\\\\\"/<>&"}`: `{"s":"€$\u000f\nA'B\"\\\\\"/<>&"}`, // RFC 8785 §3.2.2
		`[9007199254740992,-9007199254740992,0]`: `[9007199254740992,-9007199254740992,0]`,
	} {
		if got, err := Canonical(json.RawMessage(in)); err != nil || string(got) != want {
			t.Errorf("%s: %s, %v; want %s", in, got, err, want)
		}
	}
	for _, in := range []string{`1.5`, `1e3`, `-0`, `9007199254740993`, `{"ä":1}`, `"\u2028"`} {
		if got, err := Canonical(json.RawMessage(in)); err == nil {
			t.Errorf("%s became %s", in, got)
		}
	}
	if _, err := New(1, Act{Wanted: 1, Statement: statement{Product: strings.Repeat("x", MaxPayload)}}, "anna", monday); err == nil {
		t.Error("a statement of any length can be proposed")
	}
}
