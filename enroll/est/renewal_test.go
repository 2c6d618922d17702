package est_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"strings"
	"testing"

	"github.com/touchmark/touchmark/internal/store/storetest"
	"github.com/touchmark/touchmark/vetting"
)

// named makes product "sensor", whose certificates have alternative names,
// and a device of it that has enrolled.
func (d *door) named(serial string) party {
	d.t.Helper()
	ctx, s := context.Background(), d.world.Store
	template := `{"subject": {"commonName": "{{ .Serial }}"}, "keyUsage": ["digitalSignature"], "extKeyUsage": ["clientAuth"],
		"sans": [{"type": "dns", "value": "{{ .Serial | lower }}.example"}, {"type": "uri", "value": "urn:dev:{{ .Serial }}"}]}`
	_, err := s.CreateProduct(ctx, storetest.By, &vetting.Product{Name: "sensor", Profile: vetting.Profile{Validity: "825d", Template: template}, Proofs: []vetting.Proof{vetting.ProofBootstrapKey}})
	if err != nil {
		d.t.Fatal(err)
	}
	d.world.Order, err = s.CreateOrder(ctx, storetest.By, &vetting.Order{Name: "po-2", Product: "sensor", Site: "hsinchu", Quantity: 10, State: vetting.OrderOpen, ManifestSignatures: 1})
	if err != nil {
		d.t.Fatal(err)
	}
	device, key := d.build(serial), newKey(d.t)
	return party{key: key, cert: d.post(device, "sensor/simpleenroll", d.csr(key, &x509.CertificateRequest{})).certificate(d.t)}
}

// rdn is a subject name with one common name, in the string type given.
func rdn(tag byte, name string) []byte {
	return tlv(0x30, tlv(0x31, tlv(0x30, []byte{0x06, 0x03, 0x55, 0x04, 0x03}, tlv(tag, []byte(name)))))
}

// A renewal repeats the names to the byte (RFC 7030 §4.2.2); a different
// encoding of the same text is another name.
func TestRenewalRepeatsTheNames(t *testing.T) {
	d := open(t, 10)
	device := d.named("SN-1")
	subject, san := device.cert.RawSubject, names(device.cert)
	if len(san) != 1 || !bytes.Equal(subject, rdn(0x13, "SN-1")) {
		t.Fatalf("the certificate has the subject %x and %d alternative names", subject, len(san))
	}
	dns, uri := tlv(0x82, []byte("sn-1.example")), tlv(0x86, []byte("urn:dev:SN-1"))
	if !bytes.Equal(san[0].Value, tlv(0x30, dns, uri)) {
		t.Fatalf("the alternative names are %x", san[0].Value)
	}
	alt := func(value []byte) []pkix.Extension {
		return []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Value: value}}
	}
	before := d.traces()
	for name, c := range map[string]struct {
		subject []byte
		san     []pkix.Extension
		want    string
	}{
		"no subject":            {noName, san, "repeat the subject"},
		"another subject":       {rdn(0x13, "SN-2"), san, "repeat the subject"},
		"another case":          {rdn(0x13, "sn-1"), san, "repeat the subject"},
		"another string type":   {rdn(0x0c, "SN-1"), san, "other string types"},
		"a name twice":          {tlv(0x30, subject[2:], subject[2:]), san, "repeat the subject"},
		"no alternative names":  {subject, nil, "repeat the subjectAltName"},
		"one too few":           {subject, alt(tlv(0x30, dns)), "repeat the subjectAltName"},
		"one too many":          {subject, alt(tlv(0x30, dns, uri, tlv(0x82, []byte("evil.example")))), "repeat the subjectAltName"},
		"another order":         {subject, alt(tlv(0x30, uri, dns)), "repeat the subjectAltName"},
		"another alternative":   {subject, alt(tlv(0x30, tlv(0x82, []byte("sn-2.example")), uri)), "repeat the subjectAltName"},
		"another case of a DNS": {subject, alt(tlv(0x30, tlv(0x82, []byte("SN-1.example")), uri)), "repeat the subjectAltName"},
	} {
		a := d.post(device, "sensor/simplereenroll", d.csr(newKey(t), &x509.CertificateRequest{RawSubject: c.subject, ExtraExtensions: c.san}))
		if a.StatusCode != 400 || !strings.Contains(a.body, c.want) || !strings.HasPrefix(a.Header.Get("Content-Type"), "text/plain") {
			t.Errorf("%s: %d %s", name, a.StatusCode, a.body)
		}
	}
	if after := d.traces(); after != before {
		t.Errorf("there are %s, before there were %s", after, before)
	}
	same := d.csr(device.key, &x509.CertificateRequest{RawSubject: subject, ExtraExtensions: san})
	renewed := d.post(device, "sensor/simplereenroll", same).certificate(t)
	if !bytes.Equal(renewed.RawSubject, subject) || !bytes.Equal(names(renewed)[0].Value, san[0].Value) || !device.key.PublicKey.Equal(renewed.PublicKey) {
		t.Error("the renewed certificate has other names or another key")
	}
}
