package vendorid_test

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/touchmark/touchmark/vetting"
	"github.com/touchmark/touchmark/vetting/vendorid"
	"github.com/touchmark/touchmark/vetting/vendorid/vendoridtest"
)

func compile(t testing.TB, v vetting.Vendor) *vendorid.Trust {
	t.Helper()
	trust, err := vendorid.Compile(v)
	if err != nil {
		t.Fatal(err)
	}
	return trust
}

// Each vendor puts the name elsewhere.
func TestNamesInVendorsShapes(t *testing.T) {
	m := vendoridtest.New(t, "Chips")
	serial, _ := new(big.Int).SetString("00f1822c38dd7a01", 16)
	for what, c := range map[string]struct {
		cert    *x509.Certificate
		serial  vetting.NameRule
		want    string
		refused string
	}{
		"Microchip, common name":           {subject("sn0123F1822C38DD7A01"), vetting.NameRule{From: "subject.commonName", Pattern: "sn([0-9A-F]{18})"}, "0123F1822C38DD7A01", ""},
		"NXP, common name":                 {subject("SE050-04005001-ECC"), vetting.NameRule{From: "subject.commonName", Pattern: "SE05[0-9]-([0-9]+)-.*"}, "04005001", ""},
		"ST, subject serial number":        {&x509.Certificate{Subject: pkix.Name{CommonName: "STSAFE-A110", SerialNumber: "0209203E82D8"}}, vetting.NameRule{From: "subject.serialNumber"}, "0209203E82D8", ""},
		"ST, by OID":                       {&x509.Certificate{Subject: pkix.Name{SerialNumber: "0209"}}, vetting.NameRule{From: "subject.2.5.4.5"}, "0209", ""},
		"Infineon, X.509 serial number":    {&x509.Certificate{SerialNumber: serial}, vetting.NameRule{From: "certificate.serialNumber"}, "f1822c38dd7a01", ""},
		"IDevID, hardwareModuleName":       {&x509.Certificate{ExtraExtensions: []pkix.Extension{vendoridtest.HardwareModule(t, []byte("HW-17"))}}, vetting.NameRule{From: "san.hardwareModuleName"}, "HW-17", ""},
		"hardwareModuleName of octets":     {&x509.Certificate{ExtraExtensions: []pkix.Extension{vendoridtest.HardwareModule(t, []byte{0xca, 0xfe})}}, vetting.NameRule{From: "san.hardwareModuleName.hex"}, "cafe", ""},
		"IDevID, permanentIdentifier":      {&x509.Certificate{ExtraExtensions: []pkix.Extension{vendoridtest.PermanentIdentifier(t, "PI-17")}}, vetting.NameRule{From: "san.permanentIdentifier"}, "PI-17", ""},
		"a DNS name":                       {&x509.Certificate{DNSNames: []string{"u17.devices.example.com"}}, vetting.NameRule{From: "san.dns", Pattern: `(\w+)\.devices\.example\.com`}, "u17", ""},
		"octets that are no text":          {&x509.Certificate{ExtraExtensions: []pkix.Extension{vendoridtest.HardwareModule(t, []byte{0xca, 0xfe})}}, vetting.NameRule{From: "san.hardwareModuleName"}, "", "character"},
		"two DNS names":                    {&x509.Certificate{DNSNames: []string{"a", "b"}}, vetting.NameRule{From: "san.dns"}, "", "2 times"},
		"no such name":                     {subject("x"), vetting.NameRule{From: "subject.serialNumber"}, "", "0 times"},
		"a pattern matches all or nothing": {subject("sn17 and more"), vetting.NameRule{From: "subject.commonName", Pattern: "sn([0-9]+)"}, "", "does not match"},
	} {
		trust := compile(t, vetting.Vendor{Name: "chips", Anchors: vendoridtest.PEM(m.Root), Serial: &c.serial})
		id, err := trust.Verify([]*x509.Certificate{m.Device(c.cert).Cert, m.Issuing.Cert}, time.Now())
		switch {
		case c.refused != "" && (err == nil || !strings.Contains(err.Error(), c.refused)):
			t.Errorf("%s: %v, %v; want an error that says %q", what, id, err, c.refused)
		case c.refused == "" && (err != nil || id != vetting.Identity{Serial: c.want}):
			t.Errorf("%s: %v, %v; want %s", what, id, err, c.want)
		}
	}
}

func subject(cn string) *x509.Certificate {
	return &x509.Certificate{Subject: pkix.Name{CommonName: cn}}
}

// Any other critical extension than the subjectAltName stays in the way, and
// an issuing CA does as an anchor.
func TestChains(t *testing.T) {
	m := vendoridtest.New(t, "Chips")
	odd := m.Device(&x509.Certificate{ExtraExtensions: []pkix.Extension{{Id: []int{1, 2, 3, 4}, Critical: true, Value: []byte{5, 0}}}})
	plain := m.Device(subject("sn1"))
	byIssuing := compile(t, vetting.Vendor{Name: "chips", Anchors: "Issuing CA\n" + vendoridtest.PEM(m.Issuing)})
	if _, err := byIssuing.Verify([]*x509.Certificate{odd.Cert}, time.Now()); err == nil {
		t.Error("an unknown critical extension was passed over")
	}
	if id, err := byIssuing.Verify([]*x509.Certificate{plain.Cert}, time.Now()); err != nil || !id.IsZero() {
		t.Errorf("%v, %v", id, err)
	}
	listed := compile(t, vetting.Vendor{Name: "chips", Anchors: vendoridtest.PEM(m.Root), CRLs: vendoridtest.New(t, "Chips").CRL(plain)})
	if _, err := listed.Verify([]*x509.Certificate{plain.Cert, m.Issuing.Cert}, time.Now()); err != nil {
		t.Errorf("a list that another key of the same name signed counts: %v", err)
	}
}

// The server's own attestation CA attests for products that say so, beside
// their vendors.
func TestByAttestation(t *testing.T) {
	own := vetting.Vendor{Name: "own"}
	p := &vetting.Product{Vendors: []vetting.Vendor{{Name: "chips"}}, TPM: vetting.TPMPolicy{AttestationCA: true}}
	for want, proofs := range map[string][]vetting.Proof{"": {vetting.ProofVendor}, "chips own": {vetting.ProofAttestation}} {
		p.Proofs = proofs
		var got []string
		for _, v := range vendorid.ByAttestation(own)(p) {
			got = append(got, v.Name)
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%v: %q, want %q", proofs, got, want)
		}
	}
	p.TPM.AttestationCA, p.Proofs = false, []vetting.Proof{vetting.ProofAttestation}
	if got := vendorid.ByAttestation(own)(p); len(got) != 1 {
		t.Errorf("without saying so: %v", got)
	}
}

func TestVendorsThatCannotBeSaved(t *testing.T) {
	m := vendoridtest.New(t, "Chips")
	good := vendoridtest.PEM(m.Root)
	for what, c := range map[string]struct {
		v    vetting.Vendor
		says string
	}{
		"no anchors":         {vetting.Vendor{}, "no certificate"},
		"a device as anchor": {vetting.Vendor{Anchors: vendoridtest.PEM(m.Device(subject("x")))}, "no CA's certificate"},
		"an anchor twice":    {vetting.Vendor{Anchors: good + good}, "given twice"},
		"a key":              {vetting.Vendor{Anchors: strings.ReplaceAll(good, "CERTIFICATE", "PRIVATE KEY")}, "PRIVATE KEY"},
		"broken PEM":         {vetting.Vendor{Anchors: good + good[:200]}, "cannot be read"},
		"too long":           {vetting.Vendor{Anchors: strings.Repeat(good, 100)}, "at most"},
		"a CRL as anchor":    {vetting.Vendor{Anchors: m.CRL()}, "X509 CRL"},
		"no such place":      {vetting.Vendor{Anchors: good, Serial: &vetting.NameRule{From: "subject.cn"}}, "unknown place"},
		"a broken pattern":   {vetting.Vendor{Anchors: good, UID: &vetting.NameRule{From: "san.dns", Pattern: "("}}, "uid"},
		"no group":           {vetting.Vendor{Anchors: good, MAC: &vetting.NameRule{From: "san.dns", Pattern: "x"}}, "0 groups"},
	} {
		if _, err := vendorid.Compile(c.v); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want one that says %q", what, err, c.says)
		}
	}
}

// FuzzVerify: whatever a client presents beside a good or a forged
// certificate, only the good one counts, with the name that is in it; and what
// fails is a Rejection.
func FuzzVerify(f *testing.F) {
	m, forger := vendoridtest.New(f, "Chips"), vendoridtest.New(f, "Chips")
	trust := compile(f, vetting.Vendor{Name: "chips", Anchors: vendoridtest.PEM(m.Root), Serial: &vetting.NameRule{From: "subject.commonName"}})
	good, forged := m.Device(subject("A-1")), forger.Device(subject("A-1"))
	f.Add(m.Issuing.Cert.Raw, true)
	f.Add(forger.Issuing.Cert.Raw, false)
	f.Add(forged.Cert.Raw, true)
	f.Fuzz(func(t *testing.T, der []byte, genuine bool) {
		other, err := x509.ParseCertificate(der)
		if err != nil {
			return
		}
		first := forged
		if genuine {
			first = good
		}
		for _, chain := range [][]*x509.Certificate{{first.Cert, other, m.Issuing.Cert}, {other, m.Issuing.Cert}} {
			id, err := trust.Verify(chain, time.Now())
			rejection := new(vendorid.Rejection)
			switch {
			case err != nil && !errors.As(err, &rejection):
				t.Fatalf("%T: %v", err, err)
			case err == nil && (!chain[0].Equal(good.Cert) || !reflect.DeepEqual(id, vetting.Identity{Serial: "A-1"})):
				t.Fatalf("%v counts for %x", id, chain[0].Raw)
			case err != nil && chain[0] == good.Cert && other.PublicKeyAlgorithm == x509.ECDSA:
				t.Fatal(err)
			}
		}
	})
}
