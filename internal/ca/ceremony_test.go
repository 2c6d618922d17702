package ca_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/touchmark/touchmark/internal/ca"
	"github.com/touchmark/touchmark/vetting"
)

// The certificate of an issuing CA is made once the root's key is there, and
// on the same key when it is asked for again.
func TestCeremonyOfIssuingCA(t *testing.T) {
	a, p := initCA(t)
	safe := filepath.Join(t.TempDir(), "root.key")
	if err := os.Rename(filepath.Join(p.Dir, "keys/root.key"), safe); err != nil {
		t.Fatal(err)
	}
	text := must(a.Requests(t.Context(), []string{"acme"}, vetting.ForDevices)) // without the root's key
	again := must(a.Requests(t.Context(), []string{"acme"}, vetting.ForDevices))
	requests := must(ca.ParseRequests(append(text, again...)))
	if !bytes.Equal(requests[0].RawSubjectPublicKeyInfo, requests[1].RawSubjectPublicKeyInfo) {
		t.Error("asked again, there is another key")
	}
	root := must(ca.OpenRoot(t.Context(), "", "file:"+safe, []*x509.Certificate{a.Device.Certificate, a.Root}))
	one, two := must(root.Sign(requests[0], time.Now())), must(root.Sign(requests[1], time.Now()))
	if one.SerialNumber.Cmp(two.SerialNumber) == 0 || one.NotAfter.After(a.Root.NotAfter) || one.Subject.String() != "CN=acme,OU=Device CA,O=Acme" {
		t.Errorf("%s until %s", one.Subject, one.NotAfter)
	}
	if _, err := a.CheckIssuingCA(t.Context(), "acme", one.Raw, time.Now()); err != nil {
		t.Error(err)
	}
	late := must(root.Sign(requests[0], time.Now().AddDate(15, 0, 0)))
	if !late.NotAfter.Equal(a.Root.NotAfter) {
		t.Errorf("it ends at %s, the root at %s", late.NotAfter, a.Root.NotAfter)
	}
	if _, err := a.Requests(t.Context(), []string{"root"}, vetting.ForDevices); err == nil || !strings.Contains(err.Error(), "signs itself") {
		t.Errorf("the root's request: %v", err)
	}
	for _, name := range []string{"ACME", "", "../x"} {
		if _, err := a.Requests(t.Context(), []string{name}, vetting.ForDevices); err == nil {
			t.Errorf("a key was made for %q", name)
		}
	}
	for uri, want := range map[string]string{"file:keys/root.key": "lies in a safe", "file:keys/factory-ca.key": "is not the key of a root certificate"} {
		if _, err := ca.OpenRoot(t.Context(), p.Dir, uri, []*x509.Certificate{a.Root, a.Factory.Certificate}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", uri, err)
		}
	}
}

// Other software reads the requests and finds in them what a CA needs, and
// its certificate is taken.
func TestCeremonyByOpenSSL(t *testing.T) {
	a, p := initCA(t)
	request := file(t, "request.pem", must(a.Requests(t.Context(), []string{ca.DeviceName}, vetting.ForDevices)))
	out := filepath.Join(t.TempDir(), "out.crt")
	if text, err := exec.Command("openssl", "x509", "-req", "-in", request, "-CA", filepath.Join(p.Dir, "ca/root.crt"), "-CAkey", filepath.Join(p.Dir, "keys/root.key"),
		"-copy_extensions", "copyall", "-days", "3000", "-sha384", "-out", out).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	cert := must(ca.ParseCertificates(must(os.ReadFile(out))))[0]
	if name, err := a.CheckReplacement(cert, time.Now()); err != nil || name != ca.DeviceName {
		t.Errorf("%q, %v", name, err)
	}
}

func requestOf(t *testing.T, key crypto.Signer, csr *x509.CertificateRequest) *x509.CertificateRequest {
	t.Helper()
	return must(x509.ParseCertificateRequest(must(x509.CreateCertificateRequest(rand.Reader, csr, key))))
}

// What is no proper request for a CA below the root is not signed.
func TestRequestsThatAreRefused(t *testing.T) {
	a, p := initCA(t)
	root := rootOf(t, p, "root", a.Root)
	good := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	name := &x509.CertificateRequest{Subject: pkix.Name{CommonName: "acme"}}
	_, ed, _ := ed25519.GenerateKey(rand.Reader)
	for what, c := range map[string]struct {
		key  crypto.Signer
		csr  *x509.CertificateRequest
		want string
	}{
		"no subject":           {good, &x509.CertificateRequest{}, "names no subject"},
		"the root's name":      {good, &x509.CertificateRequest{RawSubject: a.Root.RawSubject}, "the root's own name"},
		"the root's key":       {root.Key, name, "the root's own key"},
		"a weak curve":         {must(ecdsa.GenerateKey(elliptic.P224(), rand.Reader)), name, "curve of 224 bits"},
		"a weak RSA key":       {must(rsa.GenerateKey(rand.Reader, 2048)), name, "2048 bits"},
		"another kind of key":  {ed, name, "want ECDSA or RSA"},
		"a strange identifier": {good, &x509.CertificateRequest{Subject: name.Subject, ExtraExtensions: []pkix.Extension{{Id: []int{2, 5, 29, 14}, Value: []byte{4, 2, 1, 2}}}}, "8 to 32 bytes"},
		"not even a string":    {good, &x509.CertificateRequest{Subject: name.Subject, ExtraExtensions: []pkix.Extension{{Id: []int{2, 5, 29, 14}, Value: []byte{5, 0}}}}, "8 to 32 bytes"},
	} {
		if cert, err := root.Sign(requestOf(t, c.key, c.csr), time.Now()); err == nil || cert != nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", what, err)
		}
	}
	// what a request asks for beyond that has no say
	greedy := requestOf(t, good, &x509.CertificateRequest{Subject: name.Subject, DNSNames: []string{"evil.example"}, ExtraExtensions: []pkix.Extension{
		{Id: []int{2, 5, 29, 19}, Critical: true, Value: []byte{0x30, 3, 1, 1, 0xff}}, {Id: []int{2, 5, 29, 37}, Value: []byte{0x30, 6, 6, 4, 0x55, 0x1d, 0x25, 0}}}})
	cert := must(root.Sign(greedy, time.Now()))
	if !cert.MaxPathLenZero || len(cert.DNSNames)+len(cert.ExtKeyUsage) > 0 || cert.KeyUsage != x509.KeyUsageCertSign|x509.KeyUsageCRLSign {
		t.Errorf("signed was pathlen %d, names %v, usages %v", cert.MaxPathLen, cert.DNSNames, cert.ExtKeyUsage)
	}
}

// A certificate takes a CA's place only if all that the CA has signed stays
// below it.
func TestReplacementsThatAreRefused(t *testing.T) {
	a, p := initCA(t)
	other, q := initCA(t)
	root, foreign := rootOf(t, p, "root", a.Root), rootOf(t, q, "root", other.Root)
	request := func(a *ca.Authorities) *x509.CertificateRequest {
		return must(ca.ParseRequests(must(a.Requests(t.Context(), []string{ca.DeviceName}, vetting.ForDevices))))[0]
	}
	now := time.Now()
	for what, c := range map[string]struct {
		cert *x509.Certificate
		want string
	}{
		"another key":        {must(root.Sign(request(other), now)), "another key"},
		"another root's":     {must(foreign.Sign(request(a), now)), "not signed by the root"},
		"not yet":            {must(root.Sign(request(a), now.AddDate(1, 0, 0))), "is valid from"},
		"no longer":          {must(root.Sign(request(a), now.AddDate(-21, 0, 0))), "is valid from"},
		"another identifier": {must(root.Sign(withIdentifier(t, p, a.Device.Certificate), now)), "subjectKeyIdentifier"},
	} {
		if name, err := a.CheckReplacement(c.cert, now); err == nil || name != ca.DeviceName || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %s, %v", what, name, err)
		}
	}
	if name, err := a.CheckReplacement(a.Root, now); name != "" || err != nil {
		t.Errorf("the root is taken for %q, %v", name, err)
	}
}

// withIdentifier is a request of the device CA that names its key otherwise.
func withIdentifier(t *testing.T, p ca.Places, have *x509.Certificate) *x509.CertificateRequest {
	t.Helper()
	changed := *have
	changed.SubjectKeyId = []byte("another name")
	return must(x509.ParseCertificateRequest(must(p.Request(t.Context(), ca.DeviceName, &changed))))
}

// FuzzParseRequests: what is read is whole, signed with its own key, and the
// same when it is written and read again; the root never signs what is no
// request for a CA below it.
func FuzzParseRequests(f *testing.F) {
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	der := must(x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "acme"}}, key))
	f.Add(ca.RequestPEM(der))
	f.Add(append(ca.RequestPEM(der), ca.RequestPEM(der)...))
	f.Add(append([]byte("text\n"), ca.RequestPEM(der)...))
	f.Add(ca.PEM(der))
	f.Add([]byte("-----BEGIN CERTIFICATE REQUEST-----\n-----END CERTIFICATE REQUEST-----\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		list, err := ca.ParseRequests(text)
		if err != nil {
			return
		}
		if len(list) == 0 || len(list) > ca.MaxRequests {
			t.Fatalf("%d requests", len(list))
		}
		var again []byte
		for _, r := range list {
			if r.CheckSignature() != nil {
				t.Error("a request was not signed with its own key")
			}
			again = append(again, ca.RequestPEM(r.Raw)...)
		}
		if back, err := ca.ParseRequests(again); err != nil || len(back) != len(list) {
			t.Errorf("read again: %d of %d, %v", len(back), len(list), err)
		}
	})
}
