package attest_test

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"

	"github.com/touchmark/touchmark/enroll"
	"github.com/touchmark/touchmark/enroll/attest"
	"github.com/touchmark/touchmark/enroll/attest/attesttest"
	"github.com/touchmark/touchmark/internal/swtpm"
	"github.com/touchmark/touchmark/vetting"
)

// makers trusts every EK certificate for one product.
type makers struct{ calls int }

func (m *makers) Matches(context.Context, []*x509.Certificate) ([]vetting.VendorMatch, error) {
	m.calls++
	return []vetting.VendorMatch{{Product: "gateway", Vendor: "maker"}}, nil
}

// gateways are products that want registers 0 and 9 quoted.
type gateways struct{}

func (gateways) Product(_ context.Context, name string) (*vetting.Product, error) {
	if name != "gateway" {
		return nil, vetting.Errorf(vetting.NotFound, "no product %s", name)
	}
	return &vetting.Product{Name: name, TPM: vetting.TPMPolicy{PCRs: []int{0, 9}}}, nil
}

func (gateways) ProductOfEK(context.Context, vetting.Fingerprint) (*vetting.Product, error) {
	return nil, nil
}

func attestor() *attest.Attestor {
	return &attest.Attestor{Secret: []byte("known to the servers"), Makers: new(makers), Products: gateways{}, Now: time.Now}
}

// prove runs the exchange to its second message.
func prove(t *testing.T, a *attest.Attestor, d *attesttest.Device) *attest.Proof {
	t.Helper()
	c, err := a.Challenge(t.Context(), d.Hello)
	if err != nil {
		t.Fatal(err)
	}
	return d.Prove(c)
}

func TestExchange(t *testing.T) {
	tpm := swtpm.New(t)
	for name, d := range map[string]func(*testing.T) *attesttest.Device{
		"RSA-2048":              func(t *testing.T) *attesttest.Device { return attesttest.New(t, tpm, attesttest.RSA) },
		"P-384":                 func(t *testing.T) *attesttest.Device { return attesttest.New(t, tpm, attesttest.P384) },
		"P-256, no certificate": func(t *testing.T) *attesttest.Device { return attesttest.New(t, tpm, attesttest.P256) },
		"RSA AK": func(t *testing.T) *attesttest.Device {
			return attesttest.NewWith(t, tpm, attesttest.P384, attesttest.SigningRSA(tpm2.TPMAlgSHA384))
		},
	} {
		t.Run(name, func(t *testing.T) {
			a, d := attestor(), d(t)
			d.Hello.Serial = "SN-1"
			r, err := a.Request(t.Context(), prove(t, a, d), d.Key.CSR(), vetting.Claim{Transport: "est"})
			if err != nil {
				t.Fatal(err)
			}
			c := r.Claim
			if c.Auth != (vetting.Auth{Proof: vetting.ProofTPM, Key: d.EK()}) || c.Asserted.Serial != "SN-1" || c.Transport != "est" || c.TPM.Untrue != "" {
				t.Errorf("claim %+v, TPM %+v", c, c.TPM)
			}
			certified := len(d.Hello.EK.Certificates) > 0
			if len(c.TPM.PCRs["7"]) != 64 || (c.TPM.Manufacturer != "") != certified || (len(c.Vendors) == 1) != certified {
				t.Errorf("TPM %+v, makers %+v", c.TPM, c.Vendors)
			}
		})
	}
}

// vector is a second message, as testdata/proof.json keeps one of a software
// TPM; testdata/hello.json is the first.
type vector struct {
	attest.Proof
	CSR []byte `json:"csr"`
}

// record makes the messages in testdata anew.
var record = flag.Bool("record", false, "record the messages in testdata with a software TPM")

// recorded is the attestor that the messages in testdata were made for, at
// their time.
func recorded() *attest.Attestor {
	a := attestor()
	a.Now = func() time.Time { return time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC) }
	return a
}

// The messages in testdata are what docs/tpm.md describes, for who writes the
// device's side.
func TestVectors(t *testing.T) {
	a := recorded()
	if *record {
		d := attesttest.New(t, swtpm.New(t), attesttest.P384)
		d.Hello.Serial = "A-0001"
		p := prove(t, a, d)
		write(t, "hello.json", d.Hello)
		write(t, "proof.json", vector{*p, d.Key.CSR()})
	}
	var h attest.Hello
	var v vector
	read(t, "hello.json", &h)
	read(t, "proof.json", &v)
	if _, err := a.Challenge(t.Context(), h); err != nil {
		t.Errorf("the first message: %v", err)
	}
	r, err := a.Request(t.Context(), &v.Proof, v.CSR, vetting.Claim{})
	if err != nil || r.Claim.TPM.Untrue != "" || r.Claim.Asserted.Serial != "A-0001" || len(r.Claim.TPM.PCRs) != 1 {
		t.Errorf("the second message: %+v, %v", r.Claim, err)
	}
}

func write(t *testing.T, name string, v any) {
	text, err := json.MarshalIndent(v, "", " ")
	if err == nil {
		err = os.WriteFile(filepath.Join("testdata", name), append(text, '\n'), 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, name string, into any) {
	text, err := os.ReadFile(filepath.Join("testdata", name))
	if err == nil {
		err = enroll.DecodeJSON(name, text, into)
	}
	if err != nil {
		t.Fatal(err)
	}
}
