package ca_test

import (
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/touchmark/touchmark/enroll"
	"github.com/touchmark/touchmark/internal/ca"
	"github.com/touchmark/touchmark/vetting"
)

// signedFor has the root sign a CA's request.
func signedFor(t testing.TB, a *ca.Authorities, p ca.Places, name string) *x509.Certificate {
	t.Helper()
	requests := must(ca.ParseRequests(must(a.Requests(t.Context(), []string{name}, vetting.ForDevices))))
	return must(rootOf(t, p, "root", a.Root).Sign(requests[0], time.Now()))
}

// learnt makes an issuing CA and has the authorities use it.
func learnt(t *testing.T, a *ca.Authorities, p ca.Places, name string) *vetting.IssuingCA {
	t.Helper()
	cert := signedFor(t, a, p, name)
	c, err := a.CheckIssuingCA(t.Context(), name, cert.Raw, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Learn(t.Context(), []*vetting.IssuingCA{c}); err != nil {
		t.Fatal(err)
	}
	return c
}

func issueFor(t *testing.T, i *ca.DeviceIssuer, o *vetting.Owner) (*x509.Certificate, error) {
	t.Helper()
	csr := request(t, &x509.CertificateRequest{})
	product := &vetting.Product{ID: 1, Revision: 1, Profile: vetting.Profile{Validity: "30d"}}
	out, err := i.Issue(t.Context(), ownedAdmission(t, product, unit, vetting.KeyFingerprint(csr.RawSubjectPublicKeyInfo), o), csr)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(out.DER)
}

func wantIssuerError(t *testing.T, err error, why string) {
	t.Helper()
	var mute *enroll.IssuerError
	if !errors.As(err, &mute) || mute.Issuer != "acme" || !strings.Contains(mute.Error(), why) || strings.Contains(mute.Text(), why) {
		t.Errorf("%v, want an IssuerError about acme: %s", err, why)
	}
}

// An owner's issuing CA that another server made is looked up when it is
// wanted, and one that nobody made cannot sign.
func TestIssuingCAIsLookedUp(t *testing.T) {
	a, p := initCA(t)
	other, err := ca.Open(t.Context(), p, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	c := learnt(t, other, p, "acme")
	issuer := ca.NewDeviceIssuer(a, time.Now)
	acme, beta := &vetting.Owner{ID: 1, Name: "acme", Issuer: "acme"}, &vetting.Owner{ID: 2, Name: "beta"}
	_, err = issueFor(t, issuer, acme)
	wantIssuerError(t, err, "none of that name")
	asked := 0
	issuer.Refresh = func(ctx context.Context) error {
		asked++
		return a.Learn(ctx, []*vetting.IssuingCA{c})
	}
	for range 2 {
		cert, err := issueFor(t, issuer, acme)
		if err != nil {
			t.Fatal(err)
		}
		if err := a.VerifyDevice(cert, time.Now()); err != nil || !a.OfDevice(cert) || string(cert.RawIssuer) != string(c.Subject) {
			t.Errorf("issued by %s, %v", cert.Issuer, err)
		}
	}
	if _, err := issueFor(t, issuer, beta); err != nil || asked != 1 {
		t.Errorf("%v, asked %d times", err, asked)
	}
	issuer.Refresh = func(context.Context) error { return errors.New("no database") }
	if _, err := issueFor(t, issuer, &vetting.Owner{Issuer: "gamma"}); err == nil || err.Error() != "no database" {
		t.Errorf("%v", err)
	}
}

// broken is a key that fails while it is switched off.
type broken struct {
	crypto.Signer
	off *bool
}

func (b broken) Sign(random io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	if *b.off {
		return nil, errors.New("the token was pulled out: pin-value=1234")
	}
	return b.Signer.Sign(random, digest, opts)
}

// A key that fails to sign is told of until it signs again, without secrets.
func TestIssuingCAFails(t *testing.T) {
	a, p := initCA(t)
	learnt(t, a, p, "acme")
	off := false
	ca.ReplaceSigner(a, "acme", func(s crypto.Signer) crypto.Signer { return broken{s, &off} })
	issuer, acme := ca.NewDeviceIssuer(a, time.Now), &vetting.Owner{ID: 1, Issuer: "acme"}
	for _, off = range []bool{false, true, false} {
		_, err := issueFor(t, issuer, acme)
		unable := a.Unable(time.Now())
		if !off {
			if err != nil || len(unable) > 0 {
				t.Errorf("%v, %v", err, unable)
			}
			continue
		}
		wantIssuerError(t, err, "pulled out")
		if len(unable) != 1 || unable["acme"] == nil || strings.Contains(unable["acme"].Error()+err.Error(), "1234") {
			t.Errorf("unable are %v", unable)
		}
	}
	if _, err := issueFor(t, ca.NewDeviceIssuer(a, func() time.Time { return time.Now().AddDate(21, 0, 0) }), acme); true {
		wantIssuerError(t, err, "ran out")
	}
}

// A template shows an owner's name, and nothing for the manufacturer's devices.
func TestOwnerInTemplate(t *testing.T) {
	a, _ := initCA(t)
	issuer := ca.NewDeviceIssuer(a, time.Now)
	profile := vetting.Profile{Validity: "30d", Template: `{"subject": {"commonName": "{{ .Serial }}", "organization": "for {{ .Owner }}"}, "keyUsage": ["digitalSignature"], "extKeyUsage": ["clientAuth"]}`}
	product := &vetting.Product{ID: 1, Revision: 1, Profile: profile}
	for want, o := range map[string]*vetting.Owner{"for ": nil, "for acme": {ID: 1, Name: "acme"}, "for beta": {ID: 2, Name: "beta", Profile: &profile}} {
		csr := request(t, &x509.CertificateRequest{})
		out, err := issuer.Issue(t.Context(), ownedAdmission(t, product, unit, vetting.KeyFingerprint(csr.RawSubjectPublicKeyInfo), o), csr)
		if err != nil {
			t.Fatal(err)
		}
		cert, err := x509.ParseCertificate(out.DER)
		if err != nil {
			t.Fatal(err)
		}
		if got := cert.Subject.Organization; len(got) != 1 || got[0] != want {
			t.Errorf("the organization is %q, want %q", got, want)
		}
	}
}
