package manifest_test

import (
	"archive/zip"
	"bytes"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/touchmark/touchmark/vetting"
	"github.com/touchmark/touchmark/vetting/manifest"
	"github.com/touchmark/touchmark/vetting/vendorid/vendoridtest"
)

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// chip is a secure element with its certificate.
func chip(m *vendoridtest.Maker, cn string) *vendoridtest.Party {
	return m.Device(&x509.Certificate{Subject: pkix.Name{CommonName: cn}})
}

// signEntry makes an entry as Microchip does: a flattened JWS, ES256.
func signEntry(t testing.TB, by *vendoridtest.Party, uid, protected, payload string) string {
	t.Helper()
	if protected == "" {
		sum := sha256.Sum256(by.Cert.Raw)
		protected = fmt.Sprintf(`{"typ":"JWT","alg":"ES256","kid":%q,"x5t#S256":%q}`, b64(by.Cert.SubjectKeyId), b64(sum[:]))
	}
	input := b64([]byte(protected)) + "." + b64([]byte(payload))
	digest := sha256.Sum256([]byte(input))
	r, s, err := ecdsa.Sign(rand.Reader, by.Key, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	sig := append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
	return fmt.Sprintf("{\n  \"payload\": %q,\n  \"protected\": %q,\n  \"header\": {\n    \"uniqueId\": %q\n  },\n  \"signature\": %q\n}", b64([]byte(payload)), b64([]byte(protected)), uid, b64(sig))
}

// payload is one in the shape of version 1, whose distributor is spelt as
// told.
func payload(uid, distributor, at string, version int, keys string) string {
	return fmt.Sprintf(`{"version":%d,"model":"ATECC608B","partNumber":"ATECC608B-TNGTLSS","manufacturer":{"organizationName":"Microchip Technology Inc","organizationalUnitName":"Secure Products Group"},`+
		`"provisioner":{"organizationName":"Microchip Technology Inc"},%q:{"organizationName":"Distributing Co"},"groupId":"359SCE55NV38H3CB","provisioningTimestamp":%q,"uniqueId":%q,%s}`, version, distributor, at, uid, keys)
}

func keySet(t testing.TB, p, certified *vendoridtest.Party) string {
	t.Helper()
	point, err := p.Key.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf(`"publicKeySet":{"keys":[{"kid":"0","kty":"EC","crv":"P-256","x":%q,"y":%q,"x5c":[%q]},{"kid":"1","kty":"EC","crv":"P-256","x":"","y":""}]}`,
		b64(point[1:33]), b64(point[33:]), base64.StdEncoding.EncodeToString(certified.Cert.Raw))
}

// during and after are while the issuing CA, which signs manifests here, was
// valid and later.
var (
	during = vendoridtest.Made.Format("2006-01-02T15:04:05.000Z07:00")
	after  = vendoridtest.RanOut.AddDate(0, 0, 1).Format("2006-01-02T15:04:05Z07:00")
)

// converted runs a conversion and reads the manifest.
func converted(t testing.TB, c manifest.Conversion, file []byte) ([]vetting.Record, error) {
	t.Helper()
	var out bytes.Buffer
	n, err := manifest.Convert(bytes.NewReader(file), int64(len(file)), &out, c)
	if err != nil {
		return nil, err
	}
	var list []vetting.Record
	if err := manifest.Read(&out, vetting.FormatJSONLines, manifest.Rules{}, func(_, _ int64, rec vetting.Record) error {
		list = append(list, rec)
		return nil
	}); err != nil || int64(len(list)) != n {
		t.Fatalf("the manifest has %d records, told were %d: %v", len(list), n, err)
	}
	return list, nil
}

func fingerprint(p *vendoridtest.Party) vetting.Fingerprint {
	return vetting.KeyFingerprint(p.Cert.RawSubjectPublicKeyInfo)
}

func TestConvertMicrochip(t *testing.T) {
	m := vendoridtest.New(t, "Chips")
	one := chip(m, "sn0123F1822C38DD7A01")
	list, err := converted(t, manifest.Conversion{Format: manifest.Microchip, Signers: []*x509.Certificate{m.Root.Cert, m.Issuing.Cert}, Distributor: "Distributing Co"}, []byte("[\n"+
		signEntry(t, m.Issuing, "0123F1822C38DD7A01", "", payload("0123F1822C38DD7A01", "distributer", during, 1, keySet(t, one, one)))+",\n"+
		signEntry(t, m.Issuing, "0123F1822C38DD7A02", "", payload("0123F1822C38DD7A02", "distributor", during, 2, `"secureElement":{}`))+"\n]\n"))
	if err != nil || len(list) != 2 {
		t.Fatalf("%v, %v", list, err)
	}
	if r := list[0]; r.Serial != "0123F1822C38DD7A01" || r.UID != "0123f1822c38dd7a01" || r.BootstrapKey != fingerprint(one) || r.Made.HardwareRevision != "ATECC608B-TNGTLSS" || !r.Made.Time.Equal(vendoridtest.Made) {
		t.Errorf("%+v", r)
	}
	if r := list[1]; r.UID != "0123f1822c38dd7a02" || !r.BootstrapKey.IsZero() {
		t.Errorf("%+v", r)
	}
}

// Every bad entry is told, by its line, and no manifest comes of it.
func TestConvertMicrochipRefuses(t *testing.T) {
	m, other := vendoridtest.New(t, "Chips"), vendoridtest.New(t, "Chips")
	one, two := chip(m, "1"), chip(m, "2")
	good := payload("AA01", "distributor", during, 1, keySet(t, one, one))
	signed := signEntry(t, m.Issuing, "AA01", "", good)
	var entry map[string]any
	if err := json.Unmarshal([]byte(signed), &entry); err != nil {
		t.Fatal(err)
	}
	entry["payload"] = b64([]byte(strings.Replace(good, "AA01", "AA02", 1)))
	forged, err := json.Marshal(entry)
	if err != nil {
		t.Fatal(err)
	}
	cases := []struct{ entry, says string }{
		{string(forged), "does not verify"},
		{signEntry(t, other.Issuing, "AA01", "", good), "none of those that you named"},
		{signEntry(t, m.Issuing, "AA01", `{"alg":"none"}`, good), "want ES256"},
		{signEntry(t, m.Issuing, "AA01", `{"alg":"ES256"}`, good), "none of those that you named"},
		{signEntry(t, m.Issuing, "AA09", "", good), `header says uniqueId "AA09"`},
		{signEntry(t, m.Issuing, "AA01", "", payload("AA01", "distributor", after, 1, keySet(t, one, one))), "was not valid at"},
		{signEntry(t, m.Issuing, "AA01", "", payload("AA01", "distributor", during, 1, keySet(t, one, two))), "of another key"},
		{signEntry(t, m.Issuing, "AA01", "", payload("AA01", "distributor", during, 1, `"x":1`)), "no key with the kid"},
		{signEntry(t, m.Issuing, "AA01", "", payload("AA01", "distributor", during, 3, `"x":1`)), "version 3"},
		{signEntry(t, m.Issuing, "AA01", "", payload("AA01", "sold to", during, 2, `"x":1`)), "for the distributor"},
		{`{"payload":17}`, "flattened JWS"},
		{`{"x":"` + strings.Repeat("y", manifest.MaxLine) + `"}`, "longer than"},
		{`{"x":` + strings.Repeat("[", 40) + strings.Repeat("]", 40) + `}`, "nested"},
	}
	file, lines := "[\n", []int64{}
	for i, c := range cases {
		lines = append(lines, int64(strings.Count(file, "\n"))+1)
		file += c.entry
		if i < len(cases)-1 {
			file += ",\n"
		}
	}
	how := manifest.Conversion{Format: manifest.Microchip, Signers: []*x509.Certificate{m.Issuing.Cert}, Distributor: "Distributing Co"}
	_, err = converted(t, how, []byte(file+"]"))
	le := new(manifest.LineErrors)
	if !errors.As(err, &le) || len(le.List) != len(cases) {
		t.Fatalf("%v, want %d findings", err, len(cases))
	}
	for i, c := range cases {
		if l := le.List[i]; l.Line != lines[i] || !strings.Contains(l.Text, c.says) {
			t.Errorf("%+v; want line %d, %q", l, lines[i], c.says)
		}
	}
	for file, says := range map[string]string{
		"[" + signed: "ends within", "[" + signed + "] x": "follows the array", "[" + signed + " " + signed + "]": "no comma",
		"[" + signed + ",]": "ends with a comma", "{}": "no JSON array", "[17]": "no object", "[]": "no record", "": "ends within",
	} {
		if _, err := converted(t, how, []byte(file)); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%.20s…: %v, want %q", file, err, says)
		}
	}
	if _, err := converted(t, manifest.Conversion{Format: manifest.Microchip}, []byte("[]")); vetting.ProblemOf(err) != vetting.Invalid {
		t.Errorf("without signers: %v", err)
	}
}

// archive makes a ZIP archive of pairs of a name and a text.
func archive(t testing.TB, files ...[2]string) []byte {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for _, f := range files {
		w, err := z.Create(f[0])
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(f[1])); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestConvertInfineon(t *testing.T) {
	m := vendoridtest.New(t, "Chips")
	one, two := chip(m, "chip CD16339401001C000500000A01BB820003"), chip(m, "chip CD17")
	how := manifest.Conversion{Format: manifest.Infineon, UID: &vetting.NameRule{From: "subject.commonName", Pattern: "chip (.*)"}}
	list, err := converted(t, how, archive(t, [2]string{"README.txt", "x"}, [2]string{"lot/ca.pem", vendoridtest.PEM(m.Issuing)},
		[2]string{"lot/1.pem", vendoridtest.PEM(one, m.Issuing)}, [2]string{"lot/2.PEM", vendoridtest.PEM(two)}))
	if err != nil || len(list) != 2 || list[0].UID != "cd16339401001c000500000a01bb820003" || list[0].BootstrapKey != fingerprint(one) || list[0].Serial != fmt.Sprintf("%x", one.Cert.SerialNumber.Bytes()) || list[1].BootstrapKey != fingerprint(two) {
		t.Fatalf("%+v, %v", list, err)
	}
	bomb := strings.Repeat("0", 8<<20)
	_, err = converted(t, how, archive(t, [2]string{"a.pem", "no PEM"}, [2]string{"b.crt", bomb}, [2]string{"c.pem", vendoridtest.PEM(chip(m, "x"))}))
	le := new(manifest.LineErrors)
	if !errors.As(err, &le) || le.Total != 3 || !strings.Contains(le.List[0].Text, `"a.pem"`) || !strings.Contains(le.List[1].Text, "longer than") || !strings.Contains(le.List[2].Text, "does not match") {
		t.Errorf("%v", err)
	}
	if _, err := converted(t, how, []byte("PK no archive")); vetting.ProblemOf(err) != vetting.Invalid {
		t.Error(err)
	}
}

func TestConvertTables(t *testing.T) {
	m := vendoridtest.New(t, "Chips")
	module := chip(m, "node-7")
	file := "MAC,cn,cert\r\n\"A4CF12000001\",node-7,\"" + vendoridtest.PEM(module) + "\"\r\n"
	list, err := converted(t, manifest.Conversion{Format: manifest.Espressif}, []byte(file))
	if err != nil || len(list) != 1 || list[0].Serial != "node-7" || list[0].MAC != "a4:cf:12:00:00:01" || list[0].BootstrapKey != fingerprint(module) {
		t.Errorf("%+v, %v", list, err)
	}
	spki := base64.StdEncoding.EncodeToString(module.Cert.RawSubjectPublicKeyInfo)
	hash := fingerprint(module).String()
	file = "Device Serial Number,Remark,ekCert,ekPub,EK public hash\nT-1,,\"" + vendoridtest.PEM(module) + "\",,\nT-2,x,," + spki + "," + hash + "\nT-3,,,," + strings.ToUpper(hash) + "\n"
	list, err = converted(t, manifest.Conversion{Format: manifest.TPM}, []byte(file))
	if err != nil || len(list) != 3 {
		t.Fatalf("%+v, %v", list, err)
	}
	for _, r := range list {
		if r.Made.EKHash != hash || !r.BootstrapKey.IsZero() {
			t.Errorf("%+v", r)
		}
	}
	for format, files := range map[manifest.VendorFormat]map[string]string{
		manifest.Espressif: {
			"MAC,cn\nx,y\n": "does not name the column cert", "MAC,mac,cn,cert\n": "twice", "": "no record",
			"MAC,cn,cert\nA4CF12000001,node-8,\"" + vendoridtest.PEM(module) + "\"\n": `"node-7"`,
			"MAC,cn,cert\nA4CF12,node-7,\"" + vendoridtest.PEM(module) + "\"\n":       "line 2: mac",
			"MAC,cn,cert\na,b\n": "2 fields", "MAC,cn,cert\n1,2,\"x\n": "not closed",
		},
		manifest.TPM: {
			"serial\nT-1\n": "no endorsement key", "serial,ekPub\nT-1,AAAA\n": "ekPublicKey",
			"serial,ekPub,ekHash\nT-1," + spki + "," + strings.Repeat("ab", 32) + "\n": "of another key",
		},
		"word": {"": "unknown format"},
	} {
		for file, says := range files {
			if _, err := converted(t, manifest.Conversion{Format: format}, []byte(file)); err == nil || !strings.Contains(err.Error(), says) {
				t.Errorf("%s %.40q: %v, want %q", format, file, err, says)
			}
		}
	}
}

// FuzzConvert: what comes of any bytes is a manifest that can be read, or
// findings; Microchip's entries never without the signer's hand.
func FuzzConvert(f *testing.F) {
	m := vendoridtest.New(f, "Chips")
	one := chip(m, "one")
	f.Add(0, []byte("["+signEntry(f, m.Issuing, "AA01", "", payload("AA01", "distributor", during, 1, keySet(f, one, one)))+"]"))
	f.Add(1, archive(f, [2]string{"1.pem", vendoridtest.PEM(one)}))
	f.Add(2, []byte("MAC,cn,cert\nA4CF12000001,one,\""+vendoridtest.PEM(one)+"\"\n"))
	f.Add(3, []byte("serial,ekHash\nT-1,"+fingerprint(one).String()+"\n"))
	f.Fuzz(func(t *testing.T, format int, data []byte) {
		if format < 0 || format >= len(manifest.VendorFormats) {
			return
		}
		c := manifest.Conversion{Format: manifest.VendorFormats[format], Signers: []*x509.Certificate{m.Issuing.Cert}}
		list, err := converted(t, c, data)
		le := new(manifest.LineErrors)
		if err != nil && !errors.As(err, &le) && vetting.ProblemOf(err) != vetting.Invalid {
			t.Fatalf("%T: %v", err, err)
		}
		for _, r := range list {
			if c.Format == manifest.Microchip && r.Serial != "AA01" {
				t.Fatalf("nobody signed %+v", r)
			}
			if c.Format == manifest.TPM && r.Made.EKHash == "" || (c.Format == manifest.Infineon || c.Format == manifest.Espressif) && r.BootstrapKey.IsZero() {
				t.Fatalf("no key: %+v", r)
			}
		}
	})
}
