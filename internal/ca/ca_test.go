package ca_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/touchmark/touchmark/enroll"
	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/internal/ca"
	"github.com/touchmark/touchmark/vetting"
)

func initCA(t testing.TB) (*ca.Authorities, ca.Places) {
	t.Helper()
	p := ca.Places{Dir: t.TempDir()}
	a, err := ca.Init(context.Background(), p, "Acme", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return a, p
}

// admission lets vetting admit a device with the given product and key.
func admission(t testing.TB, product *vetting.Product, rec vetting.Record, key vetting.Fingerprint) vetting.Admission {
	t.Helper()
	return ownedAdmission(t, product, rec, key, nil)
}

// ownedAdmission lets it admit a device of an owner.
func ownedAdmission(t testing.TB, product *vetting.Product, rec vetting.Record, key vetting.Fingerprint, o *vetting.Owner) vetting.Admission {
	t.Helper()
	rec.BootstrapKey = vetting.KeyFingerprint([]byte("bootstrap"))
	product.Name, product.Proofs = "thermo", []vetting.Proof{vetting.ProofBootstrapKey}
	v := vetting.Judge(vetting.Facts{
		Now: time.Now(), Record: &rec, Product: product, Owner: o,
		Claim:  vetting.Claim{Key: key, Auth: vetting.Auth{Proof: vetting.ProofBootstrapKey, Key: rec.BootstrapKey}},
		Order:  &vetting.Order{Name: "po-1", Site: "hsinchu", Quantity: 1, State: vetting.OrderOpen},
		Device: &vetting.Device{State: vetting.DeviceManufactured},
	})
	a, ok := v.Admission()
	if !ok {
		t.Fatalf("not admitted: %s", v.Text())
	}
	return a
}

func request(t testing.TB, template *x509.CertificateRequest) *x509.CertificateRequest {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, template, key)
	if err != nil {
		t.Fatal(err)
	}
	csr, err := enroll.ParseCSR(der)
	if err != nil {
		t.Fatal(err)
	}
	return csr
}

func issue(t testing.TB, a *ca.Authorities, profile vetting.Profile, rec vetting.Record, template *x509.CertificateRequest) (*x509.Certificate, error) {
	t.Helper()
	csr := request(t, template)
	product := &vetting.Product{ID: 1, Revision: 1, Profile: profile}
	adm := admission(t, product, rec, vetting.KeyFingerprint(csr.RawSubjectPublicKeyInfo))
	out, err := ca.NewDeviceIssuer(a, time.Now).Issue(context.Background(), adm, csr)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(out.DER)
}

var unit = vetting.Record{Identity: vetting.Identity{Serial: "SN-1", MAC: "02:00:5e:10:00:01", UID: "00112233"}}

func TestInitRefusesAndOpenChecks(t *testing.T) {
	ctx := context.Background()
	a, p := initCA(t)
	if _, err := ca.Init(ctx, p, "Acme", time.Now()); err == nil || !strings.Contains(err.Error(), "never overwritten") {
		t.Errorf("initialised twice: %v", err)
	}
	again, err := ca.Open(ctx, p, time.Now())
	if err != nil || again.Name() != a.Name() {
		t.Fatalf("open: %v", err)
	}
	if _, err := ca.Open(ctx, p, time.Now().AddDate(25, 0, 0)); err == nil || !strings.Contains(err.Error(), "ran out") {
		t.Errorf("opened an expired CA: %v", err)
	}
	// the factory CA's key in place of the device CA's
	key, err := os.ReadFile(filepath.Join(p.Dir, "keys/factory-ca.key"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(p.Dir, "keys/device-ca.key"), key, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ca.Open(ctx, p, time.Now()); err == nil || !strings.Contains(err.Error(), "is not the key of the certificate") {
		t.Errorf("opened with a foreign key: %v", err)
	}
}

func TestDeviceCertificateVerifiesWithOpenSSL(t *testing.T) {
	a, p := initCA(t)
	for _, validity := range []string{"825d", "forever"} {
		cert, err := issue(t, a, vetting.Profile{Validity: validity}, unit, &x509.CertificateRequest{})
		if err != nil {
			t.Fatal(err)
		}
		if cert.Subject.CommonName != "SN-1" || cert.Subject.SerialNumber != "SN-1" {
			t.Errorf("subject %s", cert.Subject)
		}
		if !a.Serials.Genuine(cert.SerialNumber) || a.Serials.Genuine(new(big.Int).Add(cert.SerialNumber, big.NewInt(1))) {
			t.Error("the serial number does not authenticate itself")
		}
		if err := a.VerifyDevice(cert, time.Now()); err != nil {
			t.Error(err)
		}
		if err := a.VerifyFactory(cert, time.Now()); err == nil {
			t.Error("a device certificate passes for the factory's")
		}
		file := filepath.Join(t.TempDir(), "device.crt")
		if err := os.WriteFile(file, ca.PEM(cert.Raw), 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command("openssl", "verify", "-x509_strict", "-CAfile", p.Dir+"/ca/root.crt", "-untrusted", p.Dir+"/ca/device-ca.crt", file).CombinedOutput()
		if err != nil {
			t.Errorf("openssl verify: %s", out)
		}
		text, err := exec.Command("openssl", "x509", "-in", file, "-noout", "-enddate", "-dateopt", "iso_8601").CombinedOutput()
		if err != nil {
			t.Fatal(err)
		}
		if forever := strings.Contains(string(text), "9999-12-31 23:59:59Z"); forever != (validity == "forever") {
			t.Errorf("validity %s: %s", validity, text)
		}
	}
}

const richTemplate = `{
  "subject": {"commonName": "{{ .Serial }}", "organizationalUnit": "{{ .Line }}"},
  "sans": [
    {"type": "uri", "value": "urn:dev:mac:{{ .MAC }}"},
    {"type": "dns", "value": "{{ .Serial | lower }}.devices.example.com"},
    {"type": "permanentIdentifier", "value": "{{ .UID }}"},
    {"type": "hardwareModuleName", "asn1Value": {"type": "1.3.6.1.4.1.99999.1", "serialNumber": "{{ .Serial | b64enc }}"}}
  ],
  "keyUsage": ["digitalSignature"], "extKeyUsage": ["clientAuth"]
}`

func TestProfileNames(t *testing.T) {
	a, _ := initCA(t)
	profile := vetting.Profile{Validity: "1d", Template: richTemplate}
	if err := a.CheckProfile(context.Background(), &vetting.Product{Name: "thermo", Profile: profile}); err != nil {
		t.Fatal(err)
	}
	rec := unit
	rec.Made.Line = `L1", "commonName": "evil`
	cert, err := issue(t, a, profile, rec, &x509.CertificateRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if cert.Subject.CommonName != "SN-1" || cert.Subject.OrganizationalUnit[0] != rec.Made.Line {
		t.Errorf("a record's text broke out of its place: %s", cert.Subject)
	}
	if len(cert.DNSNames) != 1 || cert.DNSNames[0] != "sn-1.devices.example.com" || len(cert.URIs) != 1 || cert.URIs[0].String() != "urn:dev:mac:02:00:5e:10:00:01" {
		t.Errorf("names %v %v", cert.DNSNames, cert.URIs)
	}
	var san []byte
	for _, x := range cert.Extensions {
		if x.Id.Equal(asn1.ObjectIdentifier{2, 5, 29, 17}) {
			san = x.Value
		}
	}
	for name, oid := range map[string]asn1.ObjectIdentifier{"permanentIdentifier": {1, 3, 6, 1, 5, 5, 7, 8, 3}, "hardwareModuleName": {1, 3, 6, 1, 5, 5, 7, 8, 4}} {
		der, _ := asn1.Marshal(oid)
		if !strings.Contains(string(san), string(der)) {
			t.Errorf("no %s in %x", name, san)
		}
	}
}

func TestCheckProfileRefuses(t *testing.T) {
	a, _ := initCA(t)
	for want, p := range map[string]vetting.Profile{
		"does not parse":        {Validity: "1d", Template: `{{ .Serial`},
		"template fails":        {Validity: "1d", Template: `{"subject": "{{ .Nonsense }}"}`},
		"no certificate":        {Validity: "1d", Template: `{"subject": `},
		"unknown field":         {Validity: "1d", Template: `{"sbuject": "x"}`},
		"CA certificate":        {Validity: "1d", Template: `{"subject": "x", "keyUsage": ["digitalSignature"], "basicConstraints": {"isCA": true}}`},
		"certSign":              {Validity: "1d", Template: `{"subject": "x", "keyUsage": ["certSign"]}`},
		"may not have":          {Validity: "1d", Template: `{"subject": "x", "keyUsage": ["digitalSignature"], "extKeyUsage": ["ocspSigning"]}`},
		"validity":              {Validity: "soon"},
		"unknown kind of key":   {Validity: "1d", Keys: []string{"DSA"}},
		"no keyUsage":           {Validity: "1d", Template: `{"subject": "x"}`},
		"e_subject_common_name": {Validity: "1d", Template: `{"subject": {"commonName": "` + strings.Repeat("x", 65) + `"}, "keyUsage": ["digitalSignature"]}`},
	} {
		err := a.CheckProfile(context.Background(), &vetting.Product{Name: "thermo", Profile: p})
		if vetting.ProblemOf(err) != vetting.Invalid || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q: %v", want, err)
		}
	}
}

func TestRequestThatAsksForMoreIsRefused(t *testing.T) {
	a, _ := initCA(t)
	ext := func(oid asn1.ObjectIdentifier, v any) pkix.Extension {
		der, err := asn1.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return pkix.Extension{Id: oid, Value: der}
	}
	type constraints struct{ IsCA bool }
	bad := map[string]*x509.CertificateRequest{
		"subject":            {Subject: pkix.Name{CommonName: "router.example.com"}},
		"subjectAltName":     {DNSNames: []string{"www.example.com"}},
		"CA:TRUE":            {ExtraExtensions: []pkix.Extension{ext(asn1.ObjectIdentifier{2, 5, 29, 19}, constraints{true})}},
		"extKeyUsage":        {ExtraExtensions: []pkix.Extension{ext(asn1.ObjectIdentifier{2, 5, 29, 37}, []asn1.ObjectIdentifier{{1, 3, 6, 1, 5, 5, 7, 3, 1}})}},
		"bit 5 of keyUsage":  {ExtraExtensions: []pkix.Extension{ext(asn1.ObjectIdentifier{2, 5, 29, 15}, asn1.BitString{Bytes: []byte{0x04}, BitLength: 6})}},
		"extension 1.2.3.4,": {ExtraExtensions: []pkix.Extension{ext(asn1.ObjectIdentifier{1, 2, 3, 4}, "x")}},
	}
	for want, template := range bad {
		_, err := issue(t, a, vetting.Profile{Validity: "1d"}, unit, template)
		if _, ok := err.(*enroll.RequestError); !ok || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q: %v", want, err)
		}
	}
	good := map[string]*x509.CertificateRequest{
		"serial as CN": {Subject: pkix.Name{CommonName: "SN-1", SerialNumber: "SN-1"}},
		"CA:FALSE":     {ExtraExtensions: []pkix.Extension{ext(asn1.ObjectIdentifier{2, 5, 29, 19}, constraints{false})}},
		"same EKU":     {ExtraExtensions: []pkix.Extension{ext(asn1.ObjectIdentifier{2, 5, 29, 37}, []asn1.ObjectIdentifier{{1, 3, 6, 1, 5, 5, 7, 3, 2}})}},
	}
	for name, template := range good {
		if _, err := issue(t, a, vetting.Profile{Validity: "1d"}, unit, template); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestNothingIsIssuedWithoutAdmission(t *testing.T) {
	a, _ := initCA(t)
	issuer, csr := ca.NewDeviceIssuer(a, time.Now), request(t, &x509.CertificateRequest{})
	if _, err := issuer.Issue(context.Background(), vetting.Admission{}, csr); err == nil {
		t.Error("issued on the zero admission")
	}
	other := admission(t, &vetting.Product{Profile: vetting.Profile{Validity: "1d"}}, unit, vetting.KeyFingerprint([]byte("another key")))
	if _, err := issuer.Issue(context.Background(), other, csr); err == nil {
		t.Error("issued to a key that was not admitted")
	}
	own := admission(t, &vetting.Product{Profile: vetting.Profile{Validity: "1d"}}, unit, vetting.KeyFingerprint(csr.RawSubjectPublicKeyInfo))
	p, err := issuer.Prepare(own, csr)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Issue(); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Issue(); err == nil {
		t.Error("a prepared certificate was signed twice")
	}
}

func TestServerCertificateRenewsItself(t *testing.T) {
	a, _ := initCA(t)
	now := time.Now()
	s, err := ca.NewServerCertificate(a, []string{"localhost", "127.0.0.1"}, func() time.Time { return now })
	if err != nil {
		t.Fatal(err)
	}
	first, _ := s.Get(nil)
	now = now.Add(59 * 24 * time.Hour)
	if same, _ := s.Get(nil); same != first {
		t.Error("renewed before two thirds of its life")
	}
	now = now.Add(2 * 24 * time.Hour)
	next, err := s.Get(nil)
	if err != nil || next == first || !next.Leaf.NotAfter.After(first.Leaf.NotAfter) {
		t.Errorf("did not renew after two thirds of its life: %v", err)
	}
	if err := next.Leaf.VerifyHostname("127.0.0.1"); err != nil {
		t.Error(err)
	}
}

func TestOperatorCertificates(t *testing.T) {
	a, _ := initCA(t)
	i := ca.OperatorIssuer{Authorities: a, Now: time.Now}
	for _, role := range access.Roles {
		site := ""
		if role.OfSite() {
			site = "hsinchu"
		}
		made, err := i.IssueOperator(request(t, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "ignored"}}), &access.Operator{Name: "lin", Role: role, Site: site})
		if err != nil {
			t.Fatal(err)
		}
		cert, err := x509.ParseCertificate(made.DER)
		if err != nil {
			t.Fatal(err)
		}
		if cert.Subject.CommonName != "lin" || ca.IsRA(cert) != (role == access.RoleRig) {
			t.Errorf("%s: subject %s, RA %v", role, cert.Subject, ca.IsRA(cert))
		}
		if (a.VerifyFactory(cert, time.Now()) == nil) != role.OfSite() || (a.VerifyOperator(cert, time.Now()) == nil) == role.OfSite() {
			t.Errorf("%s: issued by %s", role, cert.Issuer)
		}
	}
}

func BenchmarkIssue(b *testing.B) {
	a, _ := initCA(b)
	csr := request(b, &x509.CertificateRequest{})
	adm := admission(b, &vetting.Product{ID: 1, Revision: 1, Profile: vetting.Profile{Validity: "825d"}}, unit, vetting.KeyFingerprint(csr.RawSubjectPublicKeyInfo))
	issuer := ca.NewDeviceIssuer(a, time.Now)
	for b.Loop() {
		if _, err := issuer.Issue(context.Background(), adm, csr); err != nil {
			b.Fatal(err)
		}
	}
}
