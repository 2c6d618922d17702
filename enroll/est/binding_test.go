package est_test

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/touchmark/touchmark/internal/access"
)

// csrWith makes a PKCS#10 request (RFC 2986) with the attributes given, which
// crypto/x509 cannot.
func csrWith(t testing.TB, key *ecdsa.PrivateKey, subject []byte, attributes ...[]byte) []byte {
	t.Helper()
	spki, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	set := asn1.RawValue{Class: asn1.ClassContextSpecific, IsCompound: true}
	for _, a := range attributes {
		set.Bytes = append(set.Bytes, a...)
	}
	info := encoded(t, struct {
		Version      int
		Subject, Key asn1.RawValue
		Attributes   asn1.RawValue
	}{0, asn1.RawValue{FullBytes: subject}, asn1.RawValue{FullBytes: spki}, set})
	digest := sha256.Sum256(info)
	signature, err := ecdsa.SignASN1(rand.Reader, key, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	return encoded(t, struct {
		Info      asn1.RawValue
		Algorithm pkix.AlgorithmIdentifier
		Signature asn1.BitString
	}{asn1.RawValue{FullBytes: info}, pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2}}, asn1.BitString{Bytes: signature, BitLength: 8 * len(signature)}})
}

func encoded(t testing.TB, v any) []byte {
	t.Helper()
	der, err := asn1.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

var noName = []byte{0x30, 0x00}

// password is a challengePassword attribute.
func password(t testing.TB, values ...asn1.RawValue) []byte {
	return encoded(t, struct {
		Type   asn1.ObjectIdentifier
		Values []asn1.RawValue `asn1:"set"`
	}{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 7}, values})
}

func printable(s string) asn1.RawValue {
	return asn1.RawValue{Tag: asn1.TagPrintableString, Bytes: []byte(s)}
}

func bmp(s string) asn1.RawValue {
	v := asn1.RawValue{Tag: asn1.TagBMPString}
	for _, u := range utf16.Encode([]rune(s)) {
		v.Bytes = append(v.Bytes, byte(u>>8), byte(u))
	}
	return v
}

// exported is tls-exporter (RFC 9266 §2) as the client computes it.
func (l *line) exported(label string, length int) []byte {
	l.t.Helper()
	state := l.conn.ConnectionState()
	value, err := state.ExportKeyingMaterial(label, nil, length)
	if err != nil {
		l.t.Fatal(err)
	}
	return value
}

const bindingLabel = "EXPORTER-Channel-Binding"

// binding is the value that belongs to the connection.
func (l *line) binding() []byte {
	l.t.Helper()
	if state := l.conn.ConnectionState(); state.Version == tls.VersionTLS12 {
		if len(state.TLSUnique) != 12 {
			l.t.Fatalf("tls-unique has %d bytes", len(state.TLSUnique))
		}
		return state.TLSUnique
	}
	return l.exported(bindingLabel, 32)
}

// endPoint is tls-server-end-point (RFC 5929 §4), which every connection to
// this server shares.
func (l *line) endPoint() []byte {
	sum := sha256.Sum256(l.conn.ConnectionState().PeerCertificates[0].Raw)
	return sum[:]
}

var versions = map[string]uint16{"TLS 1.2": tls.VersionTLS12, "TLS 1.3": tls.VersionTLS13}

func TestBindingIsAdmitted(t *testing.T) {
	b64 := base64.StdEncoding.EncodeToString
	good := map[string]func(l *line) [][]byte{
		"absent":          func(l *line) [][]byte { return nil },
		"PrintableString": func(l *line) [][]byte { return [][]byte{password(t, printable(b64(l.binding())))} },
		"UTF8String": func(l *line) [][]byte {
			return [][]byte{password(t, asn1.RawValue{Tag: asn1.TagUTF8String, Bytes: []byte(b64(l.binding()))})}
		},
		"IA5String": func(l *line) [][]byte {
			return [][]byte{password(t, asn1.RawValue{Tag: asn1.TagIA5String, Bytes: []byte(b64(l.binding()))})}
		},
		"BMPString": func(l *line) [][]byte { return [][]byte{password(t, bmp(b64(l.binding())))} },
	}
	d := open(t, 100)
	for version, v := range versions {
		for name, attributes := range good {
			device, key := d.build(fmt.Sprintf("SN-%d", d.count)), newKey(t)
			l := d.dial(device, v)
			if got := l.conn.ConnectionState().Version; got != v {
				t.Fatalf("%s: the connection has version %x", version, got)
			}
			cert := l.post("simpleenroll", csrWith(t, key, noName, attributes(l)...)).certificate(t)
			if !key.PublicKey.Equal(cert.PublicKey) {
				t.Errorf("%s, %s: the certificate is for another key", version, name)
			}
			// the connection stays, and so does its value
			if again := l.post("simpleenroll", csrWith(t, key, noName, attributes(l)...)).certificate(t); !again.Equal(cert) {
				t.Errorf("%s, %s: the second request on the connection got another certificate", version, name)
			}
			l = d.dial(party{key: key, cert: cert}, v)
			san := encoded(t, struct {
				Type   asn1.ObjectIdentifier
				Values [][]pkix.Extension `asn1:"set"`
			}{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 14}, [][]pkix.Extension{names(cert)}})
			renewal := csrWith(t, key, cert.RawSubject, append(attributes(l), san)...)
			if renewed := l.post("simplereenroll", renewal).certificate(t); renewed.Equal(cert) {
				t.Errorf("%s, %s: the renewal gave the old certificate", version, name)
			}
		}
	}
}

// names are the extensions that a renewal repeats.
func names(cert *x509.Certificate) (list []pkix.Extension) {
	for _, x := range cert.Extensions {
		if x.Id.Equal(asn1.ObjectIdentifier{2, 5, 29, 17}) {
			list = append(list, x)
		}
	}
	return list
}

func TestBindingIsRefused(t *testing.T) {
	b64 := base64.StdEncoding.EncodeToString
	text := func(value func(l *line) string) func(l *line) [][]byte {
		return func(l *line) [][]byte { return [][]byte{password(t, printable(value(l)))} }
	}
	d := open(t, 100)
	device := d.build("SN-1")
	bad := map[string]func(l *line) [][]byte{
		"zeros":          text(func(l *line) string { return b64(make([]byte, len(l.binding()))) }),
		"one bit wrong":  text(func(l *line) string { v := append([]byte(nil), l.binding()...); v[len(v)-1] ^= 1; return b64(v) }),
		"a part":         text(func(l *line) string { return b64(l.binding()[:9]) }),
		"more":           text(func(l *line) string { return b64(append(append([]byte(nil), l.binding()...), 0)) }),
		"empty":          text(func(l *line) string { return "" }),
		"hexadecimal":    text(func(l *line) string { return hex.EncodeToString(l.binding()) }),
		"base64 of that": text(func(l *line) string { return b64([]byte(b64(l.binding()))) }),
		"a secret":       text(func(l *line) string { return "correct horse" }),
		"another connection": text(func(l *line) string {
			return b64(d.dial(device, l.conn.ConnectionState().Version).binding())
		}),
		"tls-server-end-point": text(func(l *line) string { return b64(l.endPoint()) }),
		"another label":        text(func(l *line) string { return b64(l.exported("EXPERIMENTAL binding", 32)) }),
		"the other version's kind": text(func(l *line) string {
			if l.conn.ConnectionState().Version == tls.VersionTLS12 {
				return b64(l.exported(bindingLabel, 32))
			}
			// TLS 1.3 has no tls-unique; its length is all that can be imitated.
			return b64(l.exported(bindingLabel, 12))
		}),
		"the other version's value": text(func(l *line) string {
			other := uint16(tls.VersionTLS12 + tls.VersionTLS13 - l.conn.ConnectionState().Version)
			return b64(d.dial(device, other).binding())
		}),
		"not a string": func(l *line) [][]byte {
			return [][]byte{password(t, asn1.RawValue{Tag: asn1.TagInteger, Bytes: []byte{1}})}
		},
		"octets": func(l *line) [][]byte {
			return [][]byte{password(t, asn1.RawValue{Tag: asn1.TagOctetString, Bytes: []byte(b64(l.binding()))})}
		},
		"no value": func(l *line) [][]byte { return [][]byte{password(t)} },
		"two values": func(l *line) [][]byte {
			return [][]byte{password(t, printable(b64(l.binding())), printable("x"))}
		},
		"right and wrong": func(l *line) [][]byte {
			return [][]byte{password(t, printable(b64(l.binding()))), password(t, printable("x"))}
		},
		"wrong and right": func(l *line) [][]byte {
			return [][]byte{password(t, printable("x")), password(t, printable(b64(l.binding())))}
		},
	}
	before := d.traces()
	for version, v := range versions {
		for name, attributes := range bad {
			l := d.dial(device, v)
			a := l.post("simpleenroll", csrWith(t, newKey(t), noName, attributes(l)...))
			if a.StatusCode != 400 || !strings.Contains(a.body, "challengePassword") || !strings.HasPrefix(a.Header.Get("Content-Type"), "text/plain") {
				t.Errorf("%s, %s: %d %s", version, name, a.StatusCode, a.body)
			}
		}
	}
	if after := d.traces(); after != before {
		t.Errorf("refused requests left %s, before there were %s", after, before)
	}
	d.dial(device, 0).post("simpleenroll", csrWith(t, newKey(t), noName)).certificate(t)
	if after := d.traces(); after == before {
		t.Error("an enrolment leaves no traces either: the comparison proves nothing")
	}
}

// A rig passes on what the device made; a link to the device's own session
// with the rig is not one to this (RFC 7030 §3.7 lets a server choose).
func TestRigsBindingIsItsOwn(t *testing.T) {
	d := open(t, 10)
	device := d.build("SN-1")
	rig := d.operator("rig-1", access.RoleRig, "hsinchu")
	name := encoded(t, pkix.Name{SerialNumber: "SN-1"}.ToRDNSequence())
	b64 := base64.StdEncoding.EncodeToString
	l, before := d.dial(rig, 0), d.traces()
	if a := l.post("simpleenroll", csrWith(t, newKey(t), name, password(t, printable(b64(d.dial(device, 0).binding()))))); a.StatusCode != 400 {
		t.Errorf("the device's session with another server: %d %s", a.StatusCode, a.body)
	}
	if after := d.traces(); after != before {
		t.Errorf("the refused request left %s, before there were %s", after, before)
	}
	l.post("simpleenroll", csrWith(t, newKey(t), name, password(t, printable(b64(l.binding()))))).certificate(t)
}
