package est_test

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/touchmark/touchmark/vetting"
)

func oid(text string) []byte {
	id := must(x509.ParseOID(text))
	return must(id.MarshalBinary())
}

// object is an OBJECT IDENTIFIER in DER.
func object(text string) []byte { return tlv(6, oid(text)) }

const (
	ecPublicKey = "1.2.840.10045.2.1"
	secp256r1   = "1.2.840.10045.3.1.7"
	rsaKey      = "1.2.840.113549.1.1.1"
	edwards     = "1.3.101.112"
	template61  = "1.2.840.113549.1.9.16.2.61"
	commonName  = "2.5.4.3"
	altName     = "2.5.29.17"
)

// The list of old clients, and beside it the template of RFC 9908 §3.4, byte
// for byte, for every form that a profile may give to names and keys.
func TestCSRAttrsOfProfiles(t *testing.T) {
	d := open(t, 10)
	open := tlv(0x30, tlv(0x31, tlv(0x30, object(commonName))))
	ec := tlv(0x30, object(ecPublicKey), object(secp256r1))
	ecList := [][]byte{tlv(0x30, object(ecPublicKey), tlv(0x31, object(secp256r1))), object("1.2.840.10045.4.3.2")}
	modulus := append([]byte{0, 0x80}, make([]byte, 255)...)
	fixedSAN := tlv(0x30, object(altName), tlv(4, tlv(0x30, tlv(0x82, []byte("a.example")))))
	for name, c := range map[string]struct {
		keys    []string
		subject string // of the profile's template
		sans    string
		list    [][]byte // for old clients
		want    []byte   // subject, key and attributes of the template
	}{
		"a name to fill in": {[]string{"P-256", "Ed25519"}, `"commonName": "{{ .Serial }}"`, "", ecList, cat(open, tlv(0xa0, ec), tlv(0xa1))},
		"a name that is given": {[]string{"P-256"}, `"commonName": "{{ .Serial }}", "organization": "Acme"`, "", ecList, cat(
			tlv(0x30, tlv(0x31, tlv(0x30, object("2.5.4.10"), tlv(0x13, []byte("Acme")))), tlv(0x31, tlv(0x30, object(commonName)))), tlv(0xa0, ec), tlv(0xa1))},
		"no name, but a SAN to fill in": {[]string{"P-256"}, "", `{"type": "dns", "value": "{{ .Serial | lower }}.example"}`, ecList, cat(
			tlv(0xa0, ec), tlv(0xa1, tlv(0x30, object("1.2.840.113549.1.9.16.2.62"), tlv(0x31, tlv(0x30, tlv(0x30, object(altName), []byte{1, 1, 0xff}))))))},
		"a SAN that is given": {[]string{"P-256"}, `"commonName": "{{ .Serial }}"`, `{"type": "dns", "value": "a.example"}`, ecList, cat(open,
			tlv(0xa0, ec), tlv(0xa1, tlv(0x30, object("1.2.840.113549.1.9.14"), tlv(0x31, tlv(0x30, fixedSAN)))))},
		"Ed25519": {[]string{"Ed25519"}, `"commonName": "{{ .Serial }}"`, "", [][]byte{object(edwards)}, cat(open, tlv(0xa0, tlv(0x30, object(edwards))), tlv(0xa1))},
		"RSA": {[]string{"RSA-2048"}, `"commonName": "{{ .Serial }}"`, "",
			[][]byte{tlv(0x30, object(rsaKey), tlv(0x31, []byte{2, 2, 8, 0})), object("1.2.840.113549.1.1.11")},
			cat(open, tlv(0xa0, tlv(0x30, object(rsaKey), []byte{5, 0}), tlv(3, []byte{0}, tlv(0x30, tlv(2, modulus), []byte{2, 3, 1, 0, 1}))), tlv(0xa1))},
	} {
		d.change(func(p *vetting.Product) {
			p.Profile.Keys = c.keys
			p.Profile.Template = `{"subject": {` + c.subject + `}, "sans": [` + c.sans + `], "keyUsage": ["digitalSignature"]}`
		})
		want := tlv(0x30, cat(c.list...), tlv(0x30, object(template61), tlv(0x31, tlv(0x30, []byte{2, 1, 0}, c.want))))
		a := d.send(party{}, "GET", "thermo/csrattrs", "", "")
		got, err := base64.StdEncoding.DecodeString(strings.ReplaceAll(a.body, "\n", ""))
		if err != nil || a.StatusCode != 200 || !bytes.Equal(got, want) {
			t.Errorf("%s: %d %x %v, want %x", name, a.StatusCode, got, err, want)
			continue
		}
		file := filepath.Join(t.TempDir(), "attrs")
		if err := os.WriteFile(file, got, 0o600); err != nil {
			t.Fatal(err)
		}
		text := string(run(t, "openssl", "asn1parse", "-inform", "DER", "-in", file))
		if !strings.Contains(text, template61) || strings.Contains(text, "rror") {
			t.Errorf("%s: openssl reads\n%s", name, text)
		}
	}
}

func cat(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

// Who fills the template in gets in, with what it was told to name.
func TestFilledInTemplateIsAccepted(t *testing.T) {
	d := open(t, 10)
	d.change(func(p *vetting.Product) {
		p.Profile.Template = `{"subject": {"commonName": "{{ .Serial }}", "organization": "Acme"}, "keyUsage": ["digitalSignature"],
			"sans": [{"type": "dns", "value": "{{ .Serial | lower }}.example"}]}`
	})
	csr := d.csr(newKey(t), &x509.CertificateRequest{Subject: pkix.Name{Organization: []string{"Acme"}, CommonName: "SN-1"},
		ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Value: tlv(0x30, tlv(0x82, []byte("sn-1.example")))}}})
	if cert := d.post(d.build("SN-1"), "simpleenroll", csr).certificate(t); len(cert.DNSNames) != 1 || cert.Subject.Organization[0] != "Acme" {
		t.Errorf("got %s, %v", cert.Subject, cert.DNSNames)
	}
}
