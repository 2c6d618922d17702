package ocsp_test

import (
	"bytes"
	"crypto"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"math/big"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/touchmark/touchmark/ocsp"
	"github.com/touchmark/touchmark/ocsp/ocsptest"
)

// tlv encodes an element, its length as short as DER wants it.
func tlv(tag byte, parts ...[]byte) []byte {
	content := slices.Concat(parts...)
	switch n := len(content); {
	case n < 0x80:
		return slices.Concat([]byte{tag, byte(n)}, content)
	case n < 0x100:
		return slices.Concat([]byte{tag, 0x81, byte(n)}, content)
	default:
		return slices.Concat([]byte{tag, 0x82, byte(n >> 8), byte(n)}, content)
	}
}

// deep is an element within an element, and so on.
func deep(n int) []byte {
	if n == 0 {
		return null
	}
	return tlv(sequence, deep(n-1))
}

const (
	sequence = 0x30
	octets   = 0x04
	integer  = 0x02
	oidTag   = 0x06
	boolean  = 0x01
	bitstr   = 0x03
)

var null = []byte{5, 0}

// parts of a request that is right.
type parts struct{ algorithm, name, key, serial, id, request, list, tbs []byte }

func valid() (p parts) {
	p.algorithm = tlv(sequence, tlv(oidTag, []byte{0x2b, 14, 3, 2, 26}), null)
	p.name, p.key = tlv(octets, make([]byte, 20)), tlv(octets, make([]byte, 20))
	p.serial = tlv(integer, []byte{1, 2, 3})
	p.id = tlv(sequence, p.algorithm, p.name, p.key, p.serial)
	p.request = tlv(sequence, p.id)
	p.list = tlv(sequence, p.request)
	p.tbs = tlv(sequence, p.list)
	return p
}

func extension(oid []byte, parts ...[]byte) []byte {
	return tlv(sequence, append([][]byte{tlv(oidTag, oid)}, parts...)...)
}

func TestRequestsThatAreTaken(t *testing.T) {
	p := valid()
	arc := []byte{0x2b, 6, 1, 5, 5, 7, 48, 1}
	known := func(n byte) []byte { return append(slices.Clone(arc), n) }
	critical := tlv(boolean, []byte{0xff})
	extended := func(e ...[]byte) []byte {
		return tlv(sequence, tlv(sequence, p.list, tlv(0xa2, tlv(sequence, e...))))
	}
	huge := append(bytes.Repeat([]byte{0xff}, 19), 0x7f)
	for name, der := range map[string][]byte{
		"plain":                    tlv(sequence, p.tbs),
		"explicit version 1":       tlv(sequence, tlv(sequence, tlv(0xa0, tlv(integer, []byte{0})), p.list)),
		"requestorName":            tlv(sequence, tlv(sequence, tlv(0xa1, tlv(0x82, []byte("example.com"))), p.list)),
		"signed":                   tlv(sequence, p.tbs, tlv(0xa0, tlv(sequence, p.algorithm, tlv(bitstr, []byte{0, 1})))),
		"signed with certificates": tlv(sequence, p.tbs, tlv(0xa0, tlv(sequence, p.algorithm, tlv(bitstr, []byte{0, 1}), tlv(0xa0, tlv(sequence))))),
		"an unknown extension":     extended(extension([]byte{0x2a, 3}, tlv(octets))),
		"its number is huge":       extended(extension(append([]byte{0x69}, huge...), tlv(octets))),
		"critical, but known":      extended(extension(known(8), critical, tlv(octets)), extension(known(4), critical, tlv(octets))),
		"serviceLocator":           tlv(sequence, tlv(sequence, tlv(sequence, tlv(sequence, p.id, tlv(0xa0, tlv(sequence, extension(known(7), tlv(octets)))))))),
		"an odd algorithm":         bytes.Replace(tlv(sequence, p.tbs), []byte{0x2b, 14, 3, 2, 26}, []byte{0x69, 0xff, 0xff, 0xff, 0x7f}, 1),
		"a negative serial number": bytes.Replace(tlv(sequence, p.tbs), []byte{1, 2, 3}, []byte{0xf1, 2, 3}, 1),
	} {
		r, err := ocsp.ParseRequest(der)
		if err != nil || len(r.CertIDs) != 1 {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestRequestsThatAreMalformed(t *testing.T) {
	p := valid()
	good := tlv(sequence, p.tbs)
	list := func(requests ...[]byte) []byte { return tlv(sequence, tlv(sequence, tlv(sequence, requests...))) }
	id := func(parts ...[]byte) []byte { return list(tlv(sequence, tlv(sequence, parts...))) }
	after := func(b ...[]byte) []byte {
		return tlv(sequence, tlv(sequence, append([][]byte{p.list}, b...)...))
	}
	nonce := extension([]byte{0x2b, 6, 1, 5, 5, 7, 48, 1, 2}, tlv(octets, tlv(octets, []byte{1})))
	extensions := func(e ...[]byte) []byte { return after(tlv(0xa2, tlv(sequence, e...))) }
	bad := map[string][]byte{
		"nothing":                    nil,
		"a letter":                   []byte("a"),
		"an HTML page":               []byte("<!doctype html><p>?"),
		"one byte more":              append(slices.Clone(good), 0),
		"indefinite length":          slices.Concat([]byte{0x30, 0x80}, p.tbs, []byte{0, 0}),
		"a length that is too long":  slices.Concat([]byte{0x30, 0x82, 0, byte(len(p.tbs))}, p.tbs),
		"a length beyond everything": {0x30, 0x84, 0xff, 0xff, 0xff, 0xff},
		"no list":                    tlv(sequence, tlv(sequence)),
		"an empty list":              list(),
		"an empty Request":           list(tlv(sequence)),
		"version 2":                  tlv(sequence, tlv(sequence, tlv(0xa0, tlv(integer, []byte{1})), p.list)),
		"an empty requestorName":     tlv(sequence, tlv(sequence, tlv(0xa1), p.list)),
		"two requestorNames in one":  tlv(sequence, tlv(sequence, tlv(0xa1, null, null), p.list)),
		"a signature without bits":   tlv(sequence, p.tbs, tlv(0xa0, tlv(sequence, p.algorithm))),
		"a signature under [1]":      tlv(sequence, p.tbs, tlv(0xa1, tlv(sequence, p.algorithm, tlv(bitstr, []byte{0})))),
		"no algorithm":               id(tlv(sequence), p.name, p.key, p.serial),
		"an empty OID":               id(tlv(sequence, tlv(oidTag)), p.name, p.key, p.serial),
		"an OID that breaks off":     id(tlv(sequence, tlv(oidTag, []byte{0x2b, 0x81})), p.name, p.key, p.serial),
		"an OID that is too long":    id(tlv(sequence, tlv(oidTag, []byte{0x2b, 0x80, 1})), p.name, p.key, p.serial),
		"two parameters":             id(tlv(sequence, tlv(oidTag, []byte{0x2b}), null, null), p.name, p.key, p.serial),
		"no hashes":                  id(p.algorithm, p.serial),
		"no serial number":           id(p.algorithm, p.name, p.key),
		"an empty serial number":     id(p.algorithm, p.name, p.key, tlv(integer)),
		"a long serial number":       id(p.algorithm, p.name, p.key, tlv(integer, []byte{0, 1})),
		"a long negative one":        id(p.algorithm, p.name, p.key, tlv(integer, []byte{0xff, 0x81})),
		"more after it":              id(p.algorithm, p.name, p.key, p.serial, null),
		"no extensions in their tag": after(tlv(0xa2)),
		"an empty list of them":      extensions(),
		"extensions under [3]":       after(tlv(0xa3, tlv(sequence, nonce))),
		"an extension of nothing":    extensions(tlv(sequence)),
		"critical is 1":              extensions(extension([]byte{0x2a}, tlv(boolean, []byte{1}), tlv(octets))),
		"critical and unknown":       extensions(extension([]byte{0x2a, 3}, tlv(boolean, []byte{0xff}), tlv(octets))),
		"two nonces":                 extensions(nonce, nonce),
		"a bare nonce":               extensions(extension([]byte{0x2b, 6, 1, 5, 5, 7, 48, 1, 2}, tlv(octets, bytes.Repeat([]byte{7}, 16)))),
		"a critical one on a Request": list(tlv(sequence, p.id, tlv(0xa0, tlv(sequence,
			extension([]byte{0x2a, 3}, tlv(boolean, []byte{0xff}), tlv(octets)))))),
		"deep nesting":  id(tlv(sequence, tlv(oidTag, []byte{0x2b}), deep(20)), p.name, p.key, p.serial),
		"broken inside": id(tlv(sequence, tlv(oidTag, []byte{0x2b}), tlv(sequence, []byte{4, 9})), p.name, p.key, p.serial),
		"BER":           bytes.Repeat([]byte{0x30, 0x80}, 5000),
		"too large":     tlv(sequence, tlv(sequence, p.list, make([]byte, ocsp.MaxRequest))),
	}
	for n := range good {
		bad["broken off"] = good[:n]
		refused(t, bad)
	}
}

func refused(t *testing.T, bad map[string][]byte) {
	t.Helper()
	for name, der := range bad {
		if _, err := ocsp.ParseRequest(der); err == nil {
			t.Errorf("%s was taken: %x", name, der)
		}
	}
}

// TestPaths looks at what becomes of a request on its way through a URL.
func TestPaths(t *testing.T) {
	p := newPKI(t)
	plain := base64.StdEncoding.EncodeToString(ocsptest.Question{CertIDs: []ocsptest.CertID{p.id(issue())}}.DER())
	for !strings.Contains(plain, "//") || !strings.Contains(plain, "+") || !strings.HasSuffix(plain, "=") {
		q := ocsptest.Question{CertIDs: []ocsptest.CertID{p.id(issue())}, Requestor: asn1.RawValue{Class: 2, Tag: 2, Bytes: []byte("a??>>o~???ÿÿÿÿ" + issue().String()[:1+int(issue()[1])%5])}}
		plain = base64.StdEncoding.EncodeToString(q.DER())
	}
	upper := strings.NewReplacer("+", "%2B", "/", "%2F", "=", "%3D")
	lower := strings.NewReplacer("+", "%2b", "/", "%2f", "=", "%3d")
	for name, path := range map[string]string{
		"as it is":         "/ocsp/" + plain,
		"escaped":          "/ocsp/" + upper.Replace(plain),
		"in small letters": "/ocsp/" + lower.Replace(plain),
		"a slash too many": "/ocsp//" + plain,
		"escaped slashes":  "/ocsp/%2F" + upper.Replace(plain),
		"in lines":         "/ocsp/" + plain[:64] + "%0A" + plain[64:] + "%0A",
		"with a query":     "/ocsp/" + plain + "?x=y",
	} {
		if r := p.read(p.do(http.MethodGet, path, nil, nil)); r.Status != 0 || r.Data.Responses[0].Says() != "good" {
			t.Errorf("%s: status %d", name, r.Status)
		}
	}
	for name, path := range map[string]string{
		"nothing": "/ocsp", "a slash": "/ocsp/", "not base64": "/ocsp/a*b", "no padding": "/ocsp/" + strings.TrimRight(plain, "="),
		"escaped twice": "/ocsp/" + strings.ReplaceAll(upper.Replace(plain), "%", "%25"), "cut off": "/ocsp/" + plain[:40],
		"8 KiB": "/ocsp/" + strings.Repeat("M", 8<<10),
	} {
		if r := p.read(p.do(http.MethodGet, path, nil, nil)); r.Status != 1 {
			t.Errorf("%s: status %d, want malformedRequest", name, r.Status)
		}
	}
	for name, c := range map[string]struct {
		method, path string
		body         int
		want         int
	}{
		"10 kB":                {"GET", "/ocsp/" + strings.Repeat("M", 10_000), 0, 414},
		"HEAD":                 {"HEAD", "/ocsp/" + plain, 0, 405},
		"PUT":                  {"PUT", "/ocsp", 10, 405},
		"POST below":           {"POST", "/ocsp/x", 10, 404},
		"a body that is large": {"POST", "/ocsp", ocsp.MaxRequest + 1, 413},
	} {
		rec := p.do(c.method, c.path, make([]byte, c.body), nil)
		if rec.Code != c.want || c.want == 405 && rec.Header().Get("Allow") != "GET, POST" {
			t.Errorf("%s: %d %v, want %d", name, rec.Code, rec.Header(), c.want)
		}
	}
}

// FuzzRespond sends anything to a responder. What comes back is one of OCSP's
// errors, or an answer to exactly what another codec reads in the request, and
// that codec finds it right.
func FuzzRespond(f *testing.F) {
	p := newPKI(&testing.T{})
	p.t = nil
	lost := ocsp.Serial{1: 9}
	copy(lost[9:], authenticator(lost))
	p.source.add(ocsp.Change{Serial: lost, Reason: ocsp.KeyCompromise, Revoked: time.Unix(1e9, 0)})
	for _, q := range []ocsptest.Question{
		{CertIDs: []ocsptest.CertID{p.id(lost)}},
		{CertIDs: []ocsptest.CertID{ocsptest.ID(crypto.SHA1, p.issuer, big.NewInt(-5)), p.id(lost)}, Extensions: []pkix.Extension{ocsptest.Nonce([]byte("0123456789abcdef"))}},
		{CertIDs: []ocsptest.CertID{p.id(lost)}, Requestor: asn1.RawValue{Class: 2, Tag: 2, Bytes: []byte("me")}},
	} {
		f.Add(q.DER())
	}
	f.Add(tlv(sequence, valid().tbs, tlv(0xa0, tlv(sequence, valid().algorithm, tlv(bitstr, []byte{0, 1})))))
	f.Fuzz(func(t *testing.T, der []byte) {
		p.t = t
		p.follow()
		rec := p.do(http.MethodPost, ocsp.Path, der, nil)
		if len(der) > ocsp.MaxRequest {
			return
		}
		r := p.read(rec)
		asked, err := ocsptest.Read(der)
		if r.Status != 0 {
			if r.Status != 1 || err == nil && asked.Plain(der) && len(asked.CertIDs) <= ocsp.MaxCertIDs {
				t.Fatalf("status %d for a request that is right", r.Status)
			}
			return
		}
		if err != nil {
			t.Fatalf("an answer to what another codec cannot read: %v", err)
		}
		if len(asked.CertIDs) != len(r.Data.Responses) || !bytes.Equal(asked.Nonce(), r.Nonce) {
			t.Fatalf("asked about %d with nonce %x, answered about %d with %x", len(asked.CertIDs), asked.Nonce(), len(r.Data.Responses), r.Nonce)
		}
		for i, id := range asked.CertIDs {
			if s := r.Data.Responses[i]; !bytes.Equal(s.CertID.Raw, id.Raw) {
				t.Fatalf("asked about %x, answered about %x", id.Raw, s.CertID.Raw)
			}
		}
	})
}

// sealed is an answer that says several things.
func (p *pki) sealed() []byte {
	lost := issue()
	p.set.Apply([]ocsp.Change{{Serial: lost, Reason: ocsp.KeyCompromise, Revoked: p.now}})
	return p.post(ocsptest.Question{CertIDs: []ocsptest.CertID{p.id(lost), p.id(issue())}, Extensions: []pkix.Extension{ocsptest.Nonce([]byte("0123456789abcdef"))}}.DER()).Body.Bytes()
}

func TestAnswersAreSealed(t *testing.T) {
	p := newPKI(t)
	der := p.sealed()
	for at := range der {
		altered := slices.Clone(der)
		altered[at] ^= 1 << (at % 8)
		if _, err := ocsptest.Decode(altered, p.issuer, p.now); err == nil {
			t.Errorf("byte %d was changed", at)
		}
	}
}

// FuzzAnswersAreSealed changes a byte of an answer: a client must see that.
func FuzzAnswersAreSealed(f *testing.F) {
	p := newPKI(&testing.T{})
	der := p.sealed()
	for i := range 8 {
		f.Add(uint16(i*len(der)/8), byte(1<<i))
	}
	f.Fuzz(func(t *testing.T, at uint16, change byte) {
		altered := slices.Clone(der)
		altered[int(at)%len(altered)] ^= change
		if _, err := ocsptest.Decode(altered, p.issuer, p.now); (err == nil) != (change == 0) {
			t.Fatalf("byte %d changed by %02x: %v", int(at)%len(der), change, err)
		}
	})
}
