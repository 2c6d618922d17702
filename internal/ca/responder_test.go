package ca_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/touchmark/touchmark/enroll"
	"github.com/touchmark/touchmark/internal/ca"
	"github.com/touchmark/touchmark/vetting"
)

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// withIssuer is an authority that has learnt of a further issuing CA, with ID
// 7.
func withIssuer(t testing.TB, name string) (*ca.Authorities, ca.Places) {
	t.Helper()
	a, p := initCA(t)
	cert := signedFor(t, a, p, name)
	if err := a.Learn(t.Context(), []*vetting.IssuingCA{{ID: 7, Name: name, Certificate: cert.Raw}}); err != nil {
		t.Fatal(err)
	}
	return a, p
}

func TestResponderCertificate(t *testing.T) {
	a, p := withIssuer(t, "acme")
	for _, i := range a.Issuing() {
		key, now := newKey(t), time.Now()
		der, err := a.IssueResponder(i.Name, &key.PublicKey, now)
		if err != nil {
			t.Fatal(err)
		}
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		if err := cert.CheckSignatureFrom(i.Certificate); err != nil {
			t.Errorf("%s: not by the key that signs devices' certificates: %v", i.Name, err)
		}
		if !slices.Equal(cert.ExtKeyUsage, []x509.ExtKeyUsage{x509.ExtKeyUsageOCSPSigning}) || cert.KeyUsage != x509.KeyUsageDigitalSignature || cert.IsCA {
			t.Errorf("%s: usages %v, %v", i.Name, cert.ExtKeyUsage, cert.KeyUsage)
		}
		noCheck := slices.ContainsFunc(cert.Extensions, func(x pkix.Extension) bool {
			return x.Id.Equal(asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 5}) && !x.Critical && string(x.Value) == "\x05\x00"
		})
		if !noCheck || len(cert.OCSPServer)+len(cert.CRLDistributionPoints)+len(cert.IssuingCertificateURL) > 0 {
			t.Errorf("%s: id-pkix-ocsp-nocheck %v, and URLs %v %v", i.Name, noCheck, cert.OCSPServer, cert.CRLDistributionPoints)
		}
		if life := cert.NotAfter.Sub(now); life > ca.ResponderValidity || life < ca.ResponderValidity-2*time.Second {
			t.Errorf("%s: valid for %s", i.Name, life)
		}
		if !i.Serials.Genuine(cert.SerialNumber) {
			t.Errorf("%s: its own serial number seems forged", i.Name)
		}
		if err := ca.Lint(der); err != nil {
			t.Errorf("%s: %v", i.Name, err)
		}
		verifyResponder(t, p, i.Certificate, der)
		if err := a.VerifyDevice(cert, now); err == nil {
			t.Errorf("%s: a responder passes for a device", i.Name)
		}
	}
	if _, err := a.IssueResponder("", &newKey(t).PublicKey, time.Now()); err == nil {
		t.Error("a certificate for the default CA, under no name")
	}
	if _, err := a.IssueResponder("nobody", &newKey(t).PublicKey, time.Now()); err == nil {
		t.Error("a certificate of a CA that does not exist")
	}
}

// verifyResponder has openssl accept a certificate for signing OCSP answers.
func verifyResponder(t *testing.T, p ca.Places, issuer *x509.Certificate, der []byte) {
	t.Helper()
	dir := t.TempDir()
	for name, der := range map[string][]byte{"issuer": issuer.Raw, "responder": der} {
		if err := os.WriteFile(filepath.Join(dir, name), ca.PEM(der), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	out, err := exec.Command("openssl", "verify", "-x509_strict", "-purpose", "ocsphelper", "-CAfile", p.Dir+"/ca/root.crt", "-untrusted", filepath.Join(dir, "issuer"), filepath.Join(dir, "responder")).CombinedOutput()
	if err != nil {
		t.Errorf("openssl verify: %s", out)
	}
}

func TestResponderCertificateEndsWithItsCA(t *testing.T) {
	a, _ := initCA(t)
	end := a.Device.Certificate.NotAfter
	der, err := a.IssueResponder(ca.DeviceName, &newKey(t).PublicKey, end.Add(-time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	if cert, err := x509.ParseCertificate(der); err != nil || !cert.NotAfter.Equal(end) {
		t.Errorf("it ends at %v, the CA at %s", cert, end)
	}
	var cannot *enroll.IssuerError
	if _, err := a.IssueResponder(ca.DeviceName, &newKey(t).PublicKey, end.Add(time.Second)); !errors.As(err, &cannot) {
		t.Errorf("after its end: %v", err)
	}
}

// Each CA has serial numbers of its own.
func TestSerialsTellTheCA(t *testing.T) {
	a, p := withIssuer(t, "acme")
	list := a.Issuing()
	if len(list) != 2 || list[0].ID != 0 || list[0].Name != ca.DeviceName || list[1].ID != 7 {
		t.Fatalf("%+v", list)
	}
	keyless, err := ca.OpenKeyless(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	if err := keyless.Learn(t.Context(), []*vetting.IssuingCA{{ID: 7, Name: "acme", Certificate: list[1].Certificate.Raw}}); err != nil {
		t.Fatal(err)
	}
	for n, i := range list {
		serial := i.Serials.New()
		if len(serial.Bytes()) != ca.SerialLength {
			t.Errorf("%x", serial)
		}
		for m, other := range list {
			if other.Serials.Genuine(serial) != (n == m) {
				t.Errorf("%s says of a serial number of %s: %v", other.Name, i.Name, n != m)
			}
		}
		if k := keyless.Issuing()[n]; !k.Serials.Genuine(serial) || k.Signer != nil || k.ID != i.ID || !k.Certificate.Equal(i.Certificate) {
			t.Errorf("a node without keys has %+v", k)
		}
	}
	if _, err := keyless.IssueResponder(ca.DeviceName, &newKey(t).PublicKey, time.Now()); err == nil {
		t.Error("a node without keys issued a certificate")
	}
}

// statusPoints are those of a test.
func statusPoints(issuer string, serial *big.Int) ca.Points {
	return ca.Points{OCSP: "http://status.example/ocsp", CRL: fmt.Sprintf("http://status.example/crl/%s/16/%d.crl", issuer, serial.Bit(0)), Issuer: "http://status.example/cacerts/" + issuer + ".crt"}
}

const noRevAvail = `{"subject": {"commonName": "{{ .Serial }}"}, "keyUsage": ["digitalSignature"], "extensions": [{"id": "2.5.29.56", "value": "BQA="}]}`

func TestCertificatesSayWhereToAsk(t *testing.T) {
	a, _ := initCA(t)
	a.StatusPoints = statusPoints
	for _, tt := range []struct {
		name             string
		profile          vetting.Profile
		asked, lists, ca bool
	}{
		{"default", vetting.Profile{Validity: "825d"}, true, true, true},
		{"short", vetting.Profile{Validity: "12h"}, true, true, true},
		{"left out", vetting.Profile{Validity: "825d", NoStatusURLs: true}, false, false, false},
		{"noRevAvail", vetting.Profile{Validity: "10d", Template: noRevAvail}, false, false, true},
		{"set by the template", vetting.Profile{Validity: "825d", Template: `{"subject": {"commonName": "{{ .Serial }}"}, "keyUsage": ["digitalSignature"], "ocspServer": ["http://elsewhere.example"]}`}, true, true, true},
	} {
		cert, err := issue(t, a, tt.profile, unit, &x509.CertificateRequest{})
		if err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		p := statusPoints(ca.DeviceName, cert.SerialNumber)
		want := func(on bool, url string) []string {
			if on {
				return []string{url}
			}
			return nil
		}
		if !slices.Equal(cert.OCSPServer, want(tt.asked, p.OCSP)) || !slices.Equal(cert.CRLDistributionPoints, want(tt.lists, p.CRL)) || !slices.Equal(cert.IssuingCertificateURL, want(tt.ca, p.Issuer)) {
			t.Errorf("%s: %v, %v, %v", tt.name, cert.OCSPServer, cert.CRLDistributionPoints, cert.IssuingCertificateURL)
		}
		if err := ca.Lint(cert.Raw); err != nil {
			t.Errorf("%s: %v", tt.name, err)
		}
		if err := a.CheckProfile(t.Context(), &vetting.Product{Name: "thermo", Profile: tt.profile}); err != nil {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}

func TestNoRevAvailIsForTheShortLived(t *testing.T) {
	a, _ := initCA(t)
	points := `, {"id": "2.5.29.31", "value": "MAA="}]}`
	for name, tt := range map[string]struct {
		profile vetting.Profile
		why     string
	}{
		"a year":            {vetting.Profile{Validity: "365d", Template: noRevAvail}, "10d at most"},
		"forever":           {vetting.Profile{Validity: "forever", Template: noRevAvail}, "10d at most"},
		"with a list":       {vetting.Profile{Validity: "1d", Template: strings.Replace(noRevAvail, "}]}", "}"+points, 1)}, "leave one of them out"},
		"a second and more": {vetting.Profile{Validity: "10d1m", Template: noRevAvail}, "10d at most"},
	} {
		if err := a.CheckProfile(t.Context(), &vetting.Product{Name: "thermo", Profile: tt.profile}); vetting.ProblemOf(err) != vetting.Invalid || !strings.Contains(fmt.Sprint(err), tt.why) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := issue(t, a, tt.profile, unit, &x509.CertificateRequest{}); err == nil {
			t.Errorf("%s: it was issued", name)
		}
	}
}
