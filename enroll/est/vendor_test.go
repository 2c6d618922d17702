package est_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"strings"
	"testing"
	"time"

	"github.com/touchmark/touchmark/internal/store/storetest"
	"github.com/touchmark/touchmark/vetting"
	"github.com/touchmark/touchmark/vetting/vendorid/vendoridtest"
)

// trusting has the door's product accept the chips of a new vendor, by the
// UID in their common name.
func trusting(t *testing.T, change func(*vetting.Vendor)) (*door, *vendoridtest.Maker) {
	t.Helper()
	d, m := open(t, 10), vendoridtest.New(t, "Chips")
	v := vetting.Vendor{Name: "chips", Anchors: vendoridtest.PEM(m.Root), UID: &vetting.NameRule{From: "subject.commonName", Pattern: "sn([0-9A-F]+)"}}
	if change != nil {
		change(&v)
	}
	d.trust(d.world.Product.Name, v)
	return d, m
}

func (d *door) trust(product string, vendors ...vetting.Vendor) {
	d.t.Helper()
	ctx := context.Background()
	p, err := d.world.Store.Product(ctx, product)
	if err != nil {
		d.t.Fatal(err)
	}
	p.Proofs, p.Vendors = []vetting.Proof{vetting.ProofVendor}, vendors
	if _, err := d.world.Store.UpdateProduct(ctx, storetest.By, p); err != nil {
		d.t.Fatal(err)
	}
}

// chip makes a device of the vendor, that presents its issuing CA as well.
func chip(m *vendoridtest.Maker, cn string) party {
	p := m.Device(&x509.Certificate{Subject: pkix.Name{CommonName: cn}})
	return party{key: p.Key, cert: p.Cert, issuers: []*x509.Certificate{m.Issuing.Cert}}
}

// chips hands in records without keys, by UID.
func (d *door) chips(uids ...string) {
	d.t.Helper()
	for _, uid := range uids {
		d.world.Load(d.t, vetting.Record{Row: 1, Identity: vetting.Identity{Serial: "SN-" + uid, UID: uid}})
	}
}

func (d *door) evidence() (kinds []vetting.EvidenceKind) {
	d.t.Helper()
	list, err := d.world.Store.Evidence(context.Background(), vetting.EvidenceFilter{}, vetting.Page{Limit: 100})
	if err != nil {
		d.t.Fatal(err)
	}
	for _, e := range list {
		kinds = append(kinds, e.Kind)
	}
	return kinds
}

func want(t *testing.T, what string, a answer, status int, text string) {
	t.Helper()
	if a.StatusCode != status || !strings.Contains(a.body, text) {
		t.Errorf("%s: %d %s, want %d with %q", what, a.StatusCode, a.body, status, text)
	}
}

// A device enrols by its vendor's certificate, whose issuing CA ran out since,
// over both versions of TLS, by the name that the certificate states; once
// it is in service, the vendor's certificate is spent.
func TestVendorCertificateByName(t *testing.T) {
	d, m := trusting(t, nil)
	for uid, version := range map[string]uint16{"a1b2c3": tls.VersionTLS12, "a1b2c4": tls.VersionTLS13} {
		d.chips(uid)
		device, key := chip(m, "sn"+strings.ToUpper(uid)), newKey(t)
		csr := d.csr(key, &x509.CertificateRequest{})
		cert := d.dial(device, version).post("simpleenroll", csr).certificate(t)
		if !key.PublicKey.Equal(cert.PublicKey) || !strings.Contains(cert.Subject.String(), "SN-"+uid) {
			t.Errorf("the certificate is %q's", cert.Subject)
		}
		if again := d.post(device, "simpleenroll", csr).certificate(t); !again.Equal(cert) {
			t.Error("asking twice gave two certificates")
		}
		copied := chip(m, "sn"+strings.ToUpper(uid))
		want(t, "a second chip of the same UID", d.post(copied, "simpleenroll", d.csr(newKey(t), &x509.CertificateRequest{})), 403, "One of the two is a copy")
		if a := d.send(party{key: key, cert: cert}, "GET", "cacerts", "", ""); a.StatusCode != 200 {
			t.Fatal(a.body)
		}
		want(t, "after activation", d.post(device, "simpleenroll", csr), 403, "its vendor's certificate no longer counts")
	}
	counts := map[vetting.EvidenceKind]int{}
	for _, k := range d.evidence() {
		counts[k]++
	}
	if counts[vetting.EvidenceWrongKey] != 2 || counts[vetting.EvidenceSpentKey] != 2 || len(counts) != 2 {
		t.Errorf("evidence %v", counts)
	}
	storetest.Verify(t, d.world.Store)
}

// A record that lists the key of the vendor's certificate is found by it, and
// another chip of the same name is not that device.
func TestVendorCertificateByKey(t *testing.T) {
	d, m := trusting(t, nil)
	device := d.built("SN-1", chip(m, "snAA01"))
	csr := d.csr(newKey(t), &x509.CertificateRequest{})
	want(t, "the name differs from the record's", d.post(device, "simpleenroll", csr), 403, `names uid "aa01"`)
	listed := chip(m, "snAA02")
	d.world.Load(t, vetting.Record{Row: 1, Identity: vetting.Identity{Serial: "SN-2", UID: "aa02"}, BootstrapKey: vetting.KeyFingerprint(listed.cert.RawSubjectPublicKeyInfo)})
	want(t, "another key", d.post(chip(m, "snAA02"), "simpleenroll", csr), 403, "with another bootstrap key")
	d.post(listed, "simpleenroll", csr).certificate(t)
	self := d.bootstrapFor("SN-2", listed.key, nil)
	want(t, "the key without the vendor's word", d.post(self, "simpleenroll", csr), 403, `does not accept the proof "bootstrap-key"`)
}

func TestVendorChainsThatDoNotCount(t *testing.T) {
	var revoked *vendoridtest.Party
	maker := vendoridtest.New(t, "Chips")
	revoked = maker.Device(&x509.Certificate{Subject: pkix.Name{CommonName: "snAA01"}})
	d, _ := trusting(t, func(v *vetting.Vendor) { v.Anchors, v.CRLs = vendoridtest.PEM(maker.Root), maker.CRL(revoked) })
	d.chips("aa01", "aa02")
	csr := d.csr(newKey(t), &x509.CertificateRequest{})
	good := chip(maker, "snAA02")
	with := func(p party, issuers ...*x509.Certificate) party { p.issuers = issuers; return p }
	made := func(template *x509.Certificate) party {
		p := maker.Device(template)
		return party{key: p.Key, cert: p.Cert, issuers: []*x509.Certificate{maker.Issuing.Cert}}
	}
	forger := vendoridtest.New(t, "Chips") // the same names, other keys
	many := make([]*x509.Certificate, 5)
	for i := range many {
		many[i] = maker.Issuing.Cert
	}
	before := d.traces()
	for what, c := range map[string]struct {
		party
		says string
	}{
		"a forged chain":              {chip(forger, "snAA02"), "does not chain"},
		"no issuing CA":               {with(good), "neither"},
		"too long":                    {with(good, many...), "at most 5"},
		"on the vendor's CRL":         {party{key: revoked.Key, cert: revoked.Cert, issuers: good.issuers}, "revocation list"},
		"expired":                     {made(&x509.Certificate{Subject: pkix.Name{CommonName: "snAA02"}, NotBefore: vendoridtest.Made, NotAfter: vendoridtest.RanOut}), "is valid from"},
		"made after its CA ran out":   {made(&x509.Certificate{Subject: pkix.Name{CommonName: "snAA02"}, NotBefore: vendoridtest.RanOut.Add(time.Hour), NotAfter: vendoridtest.Forever}), "does not chain"},
		"no UID":                      {chip(maker, "AA02"), "does not match"},
		"two common names":            {made(&x509.Certificate{Subject: pkix.Name{ExtraNames: []pkix.AttributeTypeAndValue{{Type: []int{2, 5, 4, 3}, Value: "snAA02"}, {Type: []int{2, 5, 4, 3}, Value: "snAA03"}}}}), "2 times"},
		"the vendor's CA as a device": {party{key: maker.Issuing.Key, cert: maker.Issuing.Cert}, "is a CA's"},
	} {
		want(t, what, d.post(c.party, "simpleenroll", csr), 403, c.says)
	}
	if after := d.traces(); after != before {
		t.Errorf("they left traces: %s, before %s", after, before)
	}
	d.post(good, "simpleenroll", csr).certificate(t)
}

// What one product trusts opens no other.
func TestVendorIsTrustedByProduct(t *testing.T) {
	d, m := trusting(t, nil)
	d.chips("aa01")
	other := *d.world.Product
	other.Name, other.Proofs, other.Vendors = "lamp", []vetting.Proof{vetting.ProofVendor}, nil
	if _, err := d.world.Store.CreateProduct(context.Background(), storetest.By, &other); err != nil {
		t.Fatal(err)
	}
	stranger := vendoridtest.New(t, "Others")
	d.trust("lamp", vetting.Vendor{Name: "others", Anchors: vendoridtest.PEM(stranger.Root), UID: &vetting.NameRule{From: "subject.commonName", Pattern: "sn([0-9A-F]+)"}})
	csr := d.csr(newKey(t), &x509.CertificateRequest{})
	want(t, "another product's vendor", d.post(chip(stranger, "snAA01"), "simpleenroll", csr), 403, "trusts no vendor")
	want(t, "another product's label", d.post(chip(m, "snAA01"), "lamp/simpleenroll", csr), 403, "trusts no vendor")
	want(t, "an unknown chip", d.post(chip(m, "snAA09"), "simpleenroll", csr), 403, "No manufacturing record fits this device (UID aa09")
	d.post(chip(m, "snAA01"), d.world.Product.Name+"/simpleenroll", csr).certificate(t)
}
