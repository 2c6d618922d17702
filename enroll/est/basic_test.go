package est_test

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/touchmark/touchmark/internal/store/storetest"
	"github.com/touchmark/touchmark/vetting"
)

// takesCodes lets the door's product accept codes.
func (d *door) takesCodes(with ...vetting.Proof) {
	d.t.Helper()
	d.change(func(p *vetting.Product) { p.Proofs = append([]vetting.Proof{vetting.ProofCode}, with...) })
}

// record hands in a record without a key, and returns its device.
func (d *door) record(serial string) int64 {
	d.t.Helper()
	d.world.Load(d.t, vetting.Record{Row: 1, Identity: vetting.Identity{Serial: serial}})
	list, err := d.world.Store.Devices(context.Background(), vetting.DeviceFilter{Identity: vetting.Identity{Serial: serial}}, vetting.Page{})
	if err != nil {
		d.t.Fatal(err)
	}
	return list[0].ID
}

// code makes a code for a device, or for the order if there is none.
func (d *door) code(device int64) string {
	d.t.Helper()
	c, err := vetting.NewOneTimeCode(rand.Reader)
	if err != nil {
		d.t.Fatal(err)
	}
	n := vetting.NewCodes{Order: "po-1", Hashes: []vetting.CodeHash{c.Hash()}, Expires: time.Now().Add(time.Hour)}
	if device != 0 {
		n.Order, n.Devices = "", []int64{device}
	}
	if _, err := d.world.Store.CreateCodes(context.Background(), storetest.By, n); err != nil {
		d.t.Fatal(err)
	}
	return c.Label()
}

// with is who presents a code, and maybe a certificate.
func (p party) with(user, code string) party {
	p.basic = "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+code))
	return p
}

func (d *door) fresh(names pkix.Name) []byte {
	d.t.Helper()
	return d.csr(newKey(d.t), &x509.CertificateRequest{Subject: names})
}

func TestEnrolByCode(t *testing.T) {
	d := open(t, 10)
	d.takesCodes()
	d.change(func(p *vetting.Product) { p.ServerKeys = vetting.ServerKeysPlain })
	one, two, three := d.record("SN-1"), d.record("SN:2"), d.record("SN-3")
	d.record("SN-4")
	for what, by := range map[string]party{
		"of the order":                      party{}.with("SN-1", d.code(0)),
		"of the device, with a colon in it": party{}.with("SN:2", d.code(two)),
		"of the device, with no user name":  party{}.with("", strings.ToLower(strings.ReplaceAll(d.code(three), "-", ""))),
		"of the order, with a certificate":  d.bootstrap("SN-4").with("", d.code(0)),
	} {
		csr := d.fresh(pkix.Name{})
		cert := d.post(by, "simpleenroll", csr).certificate(t)
		if again := d.post(by, "thermo/simpleenroll", csr).certificate(t); !again.Equal(cert) {
			t.Errorf("%s: asking twice gave another certificate", what)
		}
		if by.cert != nil {
			continue
		}
		if a := d.post(by, "simpleenroll", d.fresh(pkix.Name{})); a.StatusCode != 403 || !strings.Contains(a.body, "was used already") {
			t.Errorf("%s: another key was answered %d: %s", what, a.StatusCode, a.body)
		}
	}
	five := d.record("SN-5")
	if a := d.post(party{}.with("", d.code(five)), "serverkeygen", d.fresh(pkix.Name{})); a.StatusCode != 200 || !strings.Contains(a.Header.Get("Content-Type"), "multipart/mixed") {
		t.Errorf("serverkeygen: %d %s", a.StatusCode, a.body)
	}
	if o, err := d.world.Store.Order(t.Context(), "po-1"); err != nil || o.Issued != 5 {
		t.Errorf("%d units were issued: %v", o.Issued, err)
	}
	h, err := d.world.Store.DeviceHistory(t.Context(), one)
	if err != nil || h.Registrations[len(h.Registrations)-1].Claim.Auth.Proof != vetting.ProofCode || len(h.Evidence) != 1 {
		t.Errorf("%+v, %v", h, err)
	}
	storetest.Verify(t, d.world.Store)
}

// A device that shows a bootstrap certificate with its code has that key bound
// to its record: another with the same code is told from it, and itself may
// come with another key until activation.
func TestCodeBindsTheBootstrapKey(t *testing.T) {
	d := open(t, 10)
	d.takesCodes(vetting.ProofBootstrapKey)
	id := d.record("SN-1")
	code := d.code(0)
	device, clone := d.bootstrap("SN-1"), d.bootstrap("SN-1")
	key := newKey(t)
	csr := d.csr(key, &x509.CertificateRequest{})
	d.post(device.with("SN-1", code), "simpleenroll", csr).certificate(t)
	d.post(device.with("", code), "simpleenroll", d.fresh(pkix.Name{})).certificate(t)
	if a := d.post(clone.with("SN-1", code), "simpleenroll", d.fresh(pkix.Name{})); a.StatusCode != 403 {
		t.Errorf("the clone: %d %s", a.StatusCode, a.body)
	}
	dev, err := d.world.Store.Device(t.Context(), id)
	if err != nil || dev.BoundKey != vetting.KeyFingerprint(device.cert.RawSubjectPublicKeyInfo) {
		t.Errorf("bound is %s, %v", dev.BoundKey, err)
	}
	a := d.post(d.bootstrap("SN-9").with("SN-1", code), "simpleenroll", csr)
	if a.StatusCode != 400 || !strings.Contains(a.body, "make them agree") {
		t.Errorf("a user name that the certificate denies: %d %s", a.StatusCode, a.body)
	}
}

func TestRigWithCode(t *testing.T) {
	d := open(t, 10)
	d.takesCodes(vetting.ProofRig)
	d.record("SN-1")
	rig := d.operator("rig-1", "rig", "hsinchu")
	code := d.code(0)
	named := pkix.Name{SerialNumber: "SN-1"}
	if a := d.post(rig.with("SN-2", code), "simpleenroll", d.fresh(named)); a.StatusCode != 400 {
		t.Errorf("a user name that the request denies: %d %s", a.StatusCode, a.body)
	}
	if a := d.post(rig.with("", "0000-0000-0000-0000"), "simpleenroll", d.fresh(named)); a.StatusCode != 401 {
		t.Errorf("a wrong code: %d %s", a.StatusCode, a.body)
	}
	d.post(rig.with("SN-1", code), "simpleenroll", d.fresh(pkix.Name{})).certificate(t)
	list, err := d.world.Store.Codes(t.Context(), vetting.CodeFilter{State: vetting.CodeUsed}, vetting.Page{})
	if err != nil || len(list) != 1 {
		t.Fatalf("used codes: %v, %v", list, err)
	}
	r, err := d.world.Store.Registrations(t.Context(), vetting.RegistrationFilter{Outcome: vetting.Admitted}, vetting.Page{})
	if err != nil || r[0].Claim.Auth.Proof != vetting.ProofRig || r[0].Claim.Auth.Code != list[0].ID {
		t.Errorf("the registration is %+v, %v", r, err)
	}
}

// What does not count is answered 401 with a challenge, 400 if it is no
// credentials at all, 403 if the code is real; and without a trace unless the
// code is.
func TestCodesThatDoNotCount(t *testing.T) {
	d := open(t, 10)
	d.takesCodes()
	d.record("SN-1")
	other := d.record("SN-2")
	good, foreign := d.code(0), d.code(other)
	last := map[byte]string{'0': "1"}[good[len(good)-1]]
	if last == "" {
		last = "0"
	}
	before := d.traces()
	for what, c := range map[string]struct {
		basic  string
		status int
		want   string
	}{
		"none":             {"", 401, "no enrolment code"},
		"mistyped":         {party{}.with("SN-1", good[:len(good)-1]+last).basic, 401, "mistyped"},
		"too short":        {party{}.with("SN-1", good[:15]).basic, 401, "characters"},
		"empty":            {party{}.with("", "").basic, 401, "characters"},
		"no colon":         {"Basic " + base64.StdEncoding.EncodeToString([]byte("SN-1")), 401, "USER:CODE"},
		"no base64":        {"Basic " + good, 401, "USER:CODE"},
		"another scheme":   {"Bearer " + good, 401, "HTTP Basic"},
		"the scheme alone": {"Basic", 401, "USER:CODE"},
		"a long user name": {party{}.with(strings.Repeat("x", 65), good).basic, 400, "user name"},
		"a user of two":    {party{}.with("SN-1\nSN-2", good).basic, 400, "user name"},
	} {
		a := d.post(party{basic: c.basic}, "simpleenroll", d.fresh(pkix.Name{}))
		if a.StatusCode != c.status || !strings.Contains(a.body, c.want) || (a.Header.Get("WWW-Authenticate") != "") != (c.status == 401) {
			t.Errorf("%s: %d %v %s", what, a.StatusCode, a.Header, a.body)
		}
		if strings.Contains(a.body, good[:9]) {
			t.Errorf("%s: the answer repeats the code: %s", what, a.body)
		}
	}
	if after := d.traces(); after != before {
		t.Errorf("there are %s, before there were %s", after, before)
	}
	if a := d.post(party{}.with("SN-1", "0000-0000-0000-0000"), "simpleenroll", d.fresh(pkix.Name{})); a.StatusCode != 401 || !strings.HasPrefix(a.Header.Get("WWW-Authenticate"), "Basic realm=") {
		t.Errorf("a wrong code: %d %v %s", a.StatusCode, a.Header, a.body)
	}
	if a := d.post(party{}.with("SN-1", foreign), "simpleenroll", d.fresh(pkix.Name{})); a.StatusCode != 403 {
		t.Errorf("another device's code: %d %s", a.StatusCode, a.body)
	}
	if a := d.post(party{}.with("", good), "simpleenroll", d.fresh(pkix.Name{})); a.StatusCode != 403 || !strings.Contains(a.body, "as the user name") {
		t.Errorf("no name: %d %s", a.StatusCode, a.body)
	}
	// a code renews nothing, and an official certificate needs none
	key := newKey(t)
	cert := d.post(party{}.with("SN-1", good), "simpleenroll", d.csr(key, &x509.CertificateRequest{})).certificate(t)
	d.change(func(p *vetting.Product) { p.ServerKeys = vetting.ServerKeysPlain })
	if a := d.post(party{key: key, cert: cert, basic: "Bearer x"}, "serverkeygen", d.csr(newKey(t), &x509.CertificateRequest{RawSubject: cert.RawSubject})); a.StatusCode != 200 {
		t.Errorf("an official certificate and another scheme: %d %s", a.StatusCode, a.body)
	}
	if a := d.post(party{}.with("SN-1", good), "simplereenroll", d.csr(newKey(t), &x509.CertificateRequest{RawSubject: cert.RawSubject})); a.StatusCode != 401 || a.Header.Get("WWW-Authenticate") != "" {
		t.Errorf("renewal by code: %d %v %s", a.StatusCode, a.Header, a.body)
	}
}

// No code, and no hash of one, is in the log, in a leaf, in what the
// operators' API can read, or in clear in the database.
func TestCodesAreNowhere(t *testing.T) {
	d := open(t, 10)
	d.takesCodes()
	d.record("SN-1")
	used, left := d.code(0), d.code(0)
	wrong, err := vetting.NewOneTimeCode(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	d.post(party{}.with("SN-1", used), "simpleenroll", d.fresh(pkix.Name{})).certificate(t)
	answers := ""
	for _, by := range []party{party{}.with("SN-1", used), party{}.with("SN-2", left), party{}.with("SN-1", wrong.Label())} {
		answers += d.post(by, "simpleenroll", d.fresh(pkix.Name{})).body
	}
	ctx := context.Background()
	list, err := d.world.Store.Registrations(ctx, vetting.RegistrationFilter{}, vetting.Page{})
	if err != nil || len(list) != 4 {
		t.Fatalf("%d registrations, %v", len(list), err)
	}
	codes, err := d.world.Store.Codes(ctx, vetting.CodeFilter{}, vetting.Page{})
	if err != nil {
		t.Fatal(err)
	}
	texts := map[string]string{"log": d.log.String(), "answers": answers, "registrations": asJSON(t, list), "codes": asJSON(t, codes)}
	if err := d.world.Store.Leaves(ctx, 0, 1<<40, func(_ int64, body []byte) error { texts["leaves"] += string(body); return nil }); err != nil {
		t.Fatal(err)
	}
	err = filepath.WalkDir(d.data, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		texts["database "+e.Name()] = string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, label := range []string{used, left, wrong.Label()} {
		c, err := vetting.ParseOneTimeCode(label)
		if err != nil {
			t.Fatal(err)
		}
		hash := c.Hash()
		for where, text := range texts {
			if text == "" {
				t.Errorf("%s: nothing to look at", where)
			}
			for _, secret := range []string{label, strings.ReplaceAll(label, "-", ""), party{}.with("SN-1", label).basic} {
				if strings.Contains(text, secret) {
					t.Errorf("%s: the code is in it", where)
				}
			}
			if !strings.HasPrefix(where, "database") && (strings.Contains(text, fmt.Sprintf("%x", hash)) || strings.Contains(text, base64.StdEncoding.EncodeToString(hash[:]))) {
				t.Errorf("%s: the code's hash is in it", where)
			}
		}
	}
}

func asJSON(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
