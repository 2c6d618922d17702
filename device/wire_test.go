package device_test

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"net/http"
	"testing"
	"time"

	"github.com/touchmark/touchmark/device"
	"github.com/touchmark/touchmark/device/devicetest"
	"go.mozilla.org/pkcs7"
)

// hardwareName is a critical subjectAltName with nothing but a
// hardwareModuleName (RFC 4108 §5).
func hardwareName(t *testing.T) pkix.Extension {
	t.Helper()
	type module struct {
		Type   asn1.ObjectIdentifier
		Serial []byte
	}
	type other struct {
		ID    asn1.ObjectIdentifier
		Value module `asn1:"explicit,tag:0"`
	}
	name, err := asn1.MarshalWithParams(other{asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 8, 4},
		module{asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 99999, 1}, []byte("SN-1")}}, "tag:0")
	if err != nil {
		t.Fatal(err)
	}
	value, err := asn1.Marshal([]asn1.RawValue{{FullBytes: name}})
	if err != nil {
		t.Fatal(err)
	}
	return pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Critical: true, Value: value}
}

func degenerate(t testing.TB, certs ...[]byte) []byte {
	der, err := pkcs7.DegenerateCertificate(bytes.Join(certs, nil))
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func TestParseCertsOnly(t *testing.T) {
	a, b := devicetest.NewAuthority(t, "A", nil).Cert, devicetest.NewAuthority(t, "B", nil).Cert
	certs, err := device.ParseCertsOnly(degenerate(t, a.Raw, b.Raw))
	if err != nil || len(certs) != 2 || !certs[0].Equal(a) || !certs[1].Equal(b) {
		t.Errorf("two certificates: %d, %v", len(certs), err)
	}
	good := degenerate(t, a.Raw)
	content, err := pkcs7.NewSignedData([]byte("words"))
	if err != nil {
		t.Fatal(err)
	}
	content.AddCertificate(a)
	withContent, err := content.Finish()
	if err != nil {
		t.Fatal(err)
	}
	many := make([][]byte, 65)
	for i := range many {
		many[i] = a.Raw
	}
	for name, der := range map[string][]byte{
		"nothing":               {},
		"no certificates":       degenerate(t),
		"bytes after the end":   append(bytes.Clone(good), 0),
		"one byte short":        good[:len(good)-1],
		"content":               withContent,
		"a bare certificate":    a.Raw,
		"too many certificates": degenerate(t, many...),
		"nested BER":            bytes.Repeat([]byte{0x24, 0x80}, 1<<16),
	} {
		if certs, err := device.ParseCertsOnly(der); err == nil {
			t.Errorf("%s: %d certificates", name, len(certs))
		}
	}
}

func FuzzParseCertsOnly(f *testing.F) {
	store := new(device.MemoryStore)
	c, err := device.MakeBootstrap(store, "SN-1", device.P256, time.Now())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(degenerate(f, c.Leaf().Raw))
	f.Add(degenerate(f, c.Leaf().Raw, c.Leaf().Raw))
	f.Add([]byte{0x30, 0x80, 0, 0})
	f.Fuzz(func(t *testing.T, der []byte) {
		certs, err := device.ParseCertsOnly(der)
		if (err == nil) != (len(certs) > 0) {
			t.Fatalf("%d certificates and error %v", len(certs), err)
		}
		var all [][]byte
		for _, c := range certs {
			if !bytes.Contains(der, c.Raw) {
				t.Errorf("the certificate %x is not in the message", c.Raw)
			}
			all = append(all, c.Raw)
		}
		if len(all) == 0 {
			return
		}
		again, err := device.ParseCertsOnly(degenerate(t, all...))
		if err != nil || len(again) != len(certs) {
			t.Errorf("written again by another library it reads as %d certificates instead of %d: %v", len(again), len(certs), err)
		}
	})
}

var noon = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

func TestParseRetryAfter(t *testing.T) {
	const week = 7 * 24 * time.Hour
	for value, want := range map[string]time.Duration{
		"0": 0, "120": 2 * time.Minute, " 5 ": 5 * time.Second,
		"99999999999999999999999": week, "604801": week,
		"Sat, 21 Nov 2026 12:00:30 GMT": 30 * time.Second,
		"Sat, 21 Nov 2026 11:00:00 GMT": 0,
		"Sun, 21 Nov 2027 12:00:00 GMT": week,
	} {
		if got, ok := device.ParseRetryAfter(value, noon); !ok || got != want {
			t.Errorf("%q: %s, %v; want %s", value, got, ok, want)
		}
	}
	for _, value := range []string{"", " ", "-1", "1.5", "soon", "１２", "1s"} {
		if got, ok := device.ParseRetryAfter(value, noon); ok || got != 0 {
			t.Errorf("%q: %s, %v", value, got, ok)
		}
	}
}

func FuzzParseRetryAfter(f *testing.F) {
	for _, s := range []string{"", "120", "-1", "99999999999999999999", noon.Format(http.TimeFormat)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, value string) {
		got, ok := device.ParseRetryAfter(value, noon)
		if got < 0 || got > 7*24*time.Hour || !ok && got != 0 {
			t.Fatalf("%q: %s, %v", value, got, ok)
		}
		later, okLater := device.ParseRetryAfter(value, noon.Add(time.Hour))
		if ok != okLater || later > got {
			t.Errorf("%q: an hour later it is %s instead of %s", value, later, got)
		}
	})
}

func TestParseCSRAttributes(t *testing.T) {
	challenge := asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 7}
	ec, p384 := asn1.ObjectIdentifier{1, 2, 840, 10045, 2, 1}, asn1.ObjectIdentifier{1, 3, 132, 0, 34}
	type attribute struct {
		ID     asn1.ObjectIdentifier
		Values []asn1.ObjectIdentifier `asn1:"set"`
	}
	der, err := asn1.Marshal([]any{challenge, attribute{ec, []asn1.ObjectIdentifier{p384}}})
	if err != nil {
		t.Fatal(err)
	}
	attrs, err := device.ParseCSRAttributes(der)
	if err != nil || len(attrs) != 2 || !attrs[0].ID.Equal(challenge) || len(attrs[0].Values) != 0 || !attrs[1].ID.Equal(ec) || len(attrs[1].Values) != 1 {
		t.Errorf("%v, %v", attrs, err)
	}
	if attrs, err := device.ParseCSRAttributes([]byte{0x30, 0}); err != nil || len(attrs) != 0 {
		t.Errorf("an empty SEQUENCE: %v, %v", attrs, err)
	}
	for name, der := range map[string][]byte{"a SET": {0x31, 0}, "a number": {0x30, 3, 2, 1, 5}, "cut off": der[:len(der)-1]} {
		if attrs, err := device.ParseCSRAttributes(der); err == nil {
			t.Errorf("%s: %v", name, attrs)
		}
	}
}

func TestRenewAt(t *testing.T) {
	c := &x509.Certificate{NotBefore: noon, NotAfter: noon.Add(3 * time.Hour)}
	if at := device.RenewAt(c); !at.Equal(noon.Add(2 * time.Hour)) {
		t.Errorf("%s", at)
	}
	c.NotAfter = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)
	if at := device.RenewAt(c); !at.IsZero() {
		t.Errorf("a certificate without an end is renewed at %s", at)
	}
}
