package crl_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/asn1"
	"slices"
	"testing"
	"time"

	"github.com/touchmark/touchmark/ocsp"
	"github.com/touchmark/touchmark/ocsp/crl"
)

func TestListsOfEveryKindOfKey(t *testing.T) {
	keys := map[string]func() (crypto.Signer, error){
		"P-256":   func() (crypto.Signer, error) { return ecdsa.GenerateKey(elliptic.P256(), rand.Reader) },
		"P-384":   func() (crypto.Signer, error) { return ecdsa.GenerateKey(elliptic.P384(), rand.Reader) },
		"P-521":   func() (crypto.Signer, error) { return ecdsa.GenerateKey(elliptic.P521(), rand.Reader) },
		"RSA":     func() (crypto.Signer, error) { return rsa.GenerateKey(rand.Reader, 2048) },
		"Ed25519": func() (crypto.Signer, error) { _, k, err := ed25519.GenerateKey(rand.Reader); return k, err },
	}
	for name, make := range keys {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, schedule)
			key, err := make()
			if err != nil {
				t.Fatal(err)
			}
			w.issuer = newIssuer(t, key)
			w.revoke(serial(1), ocsp.KeyCompromise)
			w.round()
			for _, k := range w.maker.Directory.Of(0) {
				w.parse(k)
			}
		})
	}
}

// TestExtensions holds the extensions to the bytes of RFC 5280 §5.2.
func TestExtensions(t *testing.T) {
	s := schedule
	s.URLs = append(slices.Clone(s.URLs), "http://old.example.com/status")
	w := newWorld(t, s)
	w.round()
	base := w.read(crl.Full).Number
	w.revoke(serial(1), ocsp.CertificateHold)
	w.round()
	name := func(url string) string { return "\x86" + string(rune(len(url))) + url }
	freshest := name("http://status.example.com/crl/device-ca/delta.crl") + name("http://old.example.com/status/crl/device-ca/delta.crl")
	point := name("http://status.example.com/crl/device-ca/4/2.crl") + name("http://old.example.com/status/crl/device-ca/4/2.crl")
	wrap := func(tag byte, content string) string { return string([]byte{tag, byte(len(content))}) + content }
	number := func(s crl.Scope) string {
		der, err := asn1.Marshal(w.read(s).Number)
		if err != nil {
			t.Fatal(err)
		}
		return string(der)
	}
	indicator, err := asn1.Marshal(base)
	if err != nil {
		t.Fatal(err)
	}
	aki := wrap(0x30, wrap(0x80, string(w.issuer.Certificate.SubjectKeyId)))
	type extension struct {
		id       string
		critical bool
		value    string
	}
	partition := crl.Scope{Partitions: 4, Partition: 2}
	for scope, want := range map[crl.Scope][]extension{
		crl.Full:  {{"2.5.29.35", false, aki}, {"2.5.29.20", false, number(crl.Full)}, {"2.5.29.46", false, wrap(0x30, wrap(0x30, wrap(0xa0, wrap(0xa0, freshest))))}},
		crl.Delta: {{"2.5.29.35", false, aki}, {"2.5.29.20", false, number(crl.Delta)}, {"2.5.29.27", true, string(indicator)}},
		partition: {{"2.5.29.35", false, aki}, {"2.5.29.20", false, number(partition)}, {"2.5.29.28", true, wrap(0x30, wrap(0xa0, wrap(0xa0, point))+"\x81\x01\xff")}},
	} {
		var got []extension
		for _, e := range w.read(scope).Extensions {
			got = append(got, extension{e.Id.String(), e.Critical, string(e.Value)})
		}
		if !slices.Equal(got, want) {
			t.Errorf("list %s has the extensions\n%#v, want\n%#v", scope, got, want)
		}
	}
}

// TestEntries holds entries to the bytes of RFC 5280 §5.1.2.6 and §5.3.1.
func TestEntries(t *testing.T) {
	w := newWorld(t, schedule)
	w.round()
	if body := w.memory.bodies[w.maker.Directory.Find(0, crl.Full).Body]; !bytes.Contains(body, []byte("260305120000Z\xa0")) {
		t.Errorf("an empty list has something between nextUpdate and the extensions: %x", body)
	}
	seven := serial(7)
	number := "\x02\x11" + string(seven[:])
	for at, want := range map[time.Time]string{
		epoch: "\x17\x0d260301120000Z",
		time.Date(2049, 12, 31, 23, 59, 59, 0, time.UTC): "\x17\x0d491231235959Z",
		time.Date(2050, 1, 1, 0, 0, 0, 0, time.UTC):      "\x18\x0f20500101000000Z",
	} {
		for _, reason := range []ocsp.Reason{ocsp.Unspecified, ocsp.Superseded} {
			content := number + want
			if reason != 0 {
				content += "\x30\x0c\x30\x0a\x06\x03\x55\x1d\x15\x04\x03\x0a\x01\x04"
			}
			w := newWorld(t, schedule)
			w.now = at
			w.revoke(serial(7), reason)
			w.round()
			w.read(crl.PartitionOf(serial(7), 4))
			k := w.maker.Directory.Find(0, crl.PartitionOf(serial(7), 4))
			if body := w.memory.bodies[k.Body]; !bytes.Contains(body, []byte("\x30"+string(rune(len(content)+2))+"\x30"+string(rune(len(content)))+content)) {
				t.Errorf("reason %d at %s is not encoded as %x, but in %x", reason, at, content, body)
			}
		}
	}
}
