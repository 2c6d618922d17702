package ca_test

import (
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/touchmark/touchmark/enroll"
	"github.com/touchmark/touchmark/internal/ca"
	"github.com/touchmark/touchmark/vetting"
)

// learnt makes an issuing CA and has the authorities use it.
func learnt(t *testing.T, a *ca.Authorities, p ca.Places, name string) *vetting.IssuingCA {
	t.Helper()
	cert, err := ca.MakeIssuingCA(t.Context(), p, "", name, time.Now())
	if err != nil {
		t.Fatal(err)
	}
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

// The certificate of an issuing CA is made once the root's key is there, and
// on the same key when it is asked for again.
func TestMakeIssuingCA(t *testing.T) {
	ctx, now := t.Context(), time.Now()
	a, p := initCA(t)
	safe := filepath.Join(t.TempDir(), "root.key")
	if err := os.Rename(filepath.Join(p.Dir, "keys/root.key"), safe); err != nil {
		t.Fatal(err)
	}
	if _, err := ca.MakeIssuingCA(ctx, p, "", "acme", now); err == nil || !strings.Contains(err.Error(), "lies in a safe") {
		t.Errorf("without the root's key: %v", err)
	}
	if _, err := ca.MakeIssuingCA(ctx, p, "file:keys/factory-ca.key", "acme", now); err == nil || !strings.Contains(err.Error(), "is not the key of the certificate") {
		t.Errorf("with another key: %v", err)
	}
	if _, err := os.Stat(filepath.Join(p.Dir, "keys/issuer-acme.key")); err == nil {
		t.Error("a key was left behind")
	}
	one, err := ca.MakeIssuingCA(ctx, p, "file:"+safe, "acme", now)
	if err != nil {
		t.Fatal(err)
	}
	two, err := ca.MakeIssuingCA(ctx, p, "file:"+safe, "acme", now)
	if err != nil || string(one.RawSubjectPublicKeyInfo) != string(two.RawSubjectPublicKeyInfo) || one.SerialNumber.Cmp(two.SerialNumber) == 0 {
		t.Errorf("made again: %v", err)
	}
	if one.NotAfter.After(a.Root.NotAfter) || one.Subject.String() != "CN=acme,OU=Device CA,O=Acme" {
		t.Errorf("%s until %s", one.Subject, one.NotAfter)
	}
	next, err := ca.RenewIssuingCA(ctx, p, "file:"+safe, one, now.AddDate(15, 0, 0))
	if err != nil || string(next.RawSubject) != string(one.RawSubject) || string(next.SubjectKeyId) != string(one.SubjectKeyId) ||
		string(next.RawSubjectPublicKeyInfo) != string(one.RawSubjectPublicKeyInfo) || next.NotAfter.After(a.Root.NotAfter) {
		t.Errorf("renewed: %+v, %v", next, err)
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
