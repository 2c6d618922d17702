package est_test

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/touchmark/touchmark/internal/access"
)

// tlv encodes DER by hand: what is compared with it was not made by the
// encoder under test.
func tlv(tag byte, parts ...[]byte) []byte {
	value := bytes.Join(parts, nil)
	switch n := len(value); {
	case n < 0x80:
		return append([]byte{tag, byte(n)}, value...)
	case n < 0x100:
		return append([]byte{tag, 0x81, byte(n)}, value...)
	default:
		return append([]byte{tag, 0x82, byte(n >> 8), byte(n)}, value...)
	}
}

// onlyCertificates is the one encoding of a certs-only message that every
// parser reads (RFC 5652 §5.1): no digests, no content, no CRLs, no signers.
func onlyCertificates(certs ...[]byte) []byte {
	pkcs7 := []byte{0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07}
	return tlv(0x30, append(pkcs7, 0x02), tlv(0xa0, tlv(0x30,
		[]byte{0x02, 0x01, 0x01}, tlv(0x31), tlv(0x30, append(pkcs7, 0x01)), tlv(0xa0, certs...), tlv(0x31))))
}

// response takes the bytes of an answer apart.
func response(t *testing.T, text string) (status string, header map[string]string, body string) {
	t.Helper()
	head, body, ok := strings.Cut(text, "\r\n\r\n")
	if !ok {
		t.Fatalf("not an HTTP answer: %q", text)
	}
	lines := strings.Split(head, "\r\n")
	header = map[string]string{}
	for _, l := range lines[1:] {
		name, value, _ := strings.Cut(l, ": ")
		if _, twice := header[name]; twice {
			t.Errorf("%s is sent twice", name)
		}
		header[name] = value
	}
	return lines[0], header, body
}

func TestEnrolReplyByteForByte(t *testing.T) {
	d := open(t, 10)
	l := d.dial(d.build("SN-1"), 0)
	body := base64.StdEncoding.EncodeToString(d.csr(newKey(t), &x509.CertificateRequest{}))
	l.write("POST /.well-known/est/simpleenroll HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/pkcs10\r\nContent-Transfer-Encoding: base64\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	status, header, reply := response(t, l.text())
	if status != "HTTP/1.1 200 OK" {
		t.Fatalf("%s\n%s", status, reply)
	}
	delete(header, "Date")
	want := map[string]string{"Content-Type": "application/pkcs7-mime; smime-type=certs-only", "Content-Transfer-Encoding": "base64",
		"Content-Length": fmt.Sprint(len(reply)), "X-Content-Type-Options": "nosniff", "Connection": "close"}
	if !maps.Equal(header, want) {
		t.Errorf("header %v, want %v", header, want)
	}
	lines := strings.SplitAfter(strings.TrimSuffix(reply, "\n"), "\n")
	for i, line := range lines {
		if line = strings.TrimSuffix(line, "\n"); len(line) > 76 || len(line) < 76 && i < len(lines)-1 || strings.ContainsAny(line, "\r \t") {
			t.Errorf("line %d is %q", i+1, line)
		}
	}
	der, err := base64.StdEncoding.DecodeString(reply)
	if err != nil {
		t.Fatal(err)
	}
	cert := answer{&http.Response{StatusCode: 200}, reply}.certificate(t)
	if !bytes.Equal(der, onlyCertificates(cert.Raw)) {
		t.Errorf("the message is\n%x\nwant\n%x", der, onlyCertificates(cert.Raw))
	}
}

func TestCACertsByteForByte(t *testing.T) {
	d := open(t, 10)
	for _, path := range []string{"cacerts", "thermo/cacerts"} {
		a := d.send(party{}, "GET", path, "", "")
		for name, want := range map[string]string{"Content-Type": "application/pkcs7-mime", "Content-Transfer-Encoding": "base64", "Content-Length": fmt.Sprint(len(a.body))} {
			if got := a.Header.Values(name); len(got) != 1 || got[0] != want {
				t.Errorf("%s: %s %q, want %q", path, name, got, want)
			}
		}
		der, err := base64.StdEncoding.DecodeString(a.body)
		if err != nil || !bytes.Equal(der, onlyCertificates(d.cas.CACerts()...)) {
			t.Errorf("%s: %x, %v", path, der, err)
		}
	}
}

// With nothing but /cacerts a device can verify everything it meets.
func TestCACertsAreEnough(t *testing.T) {
	d := open(t, 10)
	roots, intermediates := x509.NewCertPool(), x509.NewCertPool()
	all, anchors := d.send(party{}, "GET", "cacerts", "", "").certificates(t), 0
	for i, c := range all {
		if !c.IsCA || slices.ContainsFunc(all[:i], c.Equal) {
			t.Errorf("%s is no CA or stands there twice", c.Subject)
		}
		if bytes.Equal(c.RawSubject, c.RawIssuer) {
			roots.AddCert(c)
			anchors++
		} else {
			intermediates.AddCert(c)
		}
	}
	if anchors != 1 {
		t.Errorf("%d roots", anchors)
	}
	l, key := d.dial(d.build("SN-1"), 0), newKey(t)
	for name, c := range map[string]*x509.Certificate{
		"the device's": l.post("simpleenroll", d.csr(key, &x509.CertificateRequest{})).certificate(t),
		"the server's": l.conn.ConnectionState().PeerCertificates[0],
		"a rig's":      d.operator("rig-1", access.RoleRig, "hsinchu").cert,
		"an admin's":   d.operator("anna", access.RoleAdmin, "").cert,
	} {
		if _, err := c.Verify(x509.VerifyOptions{Roots: roots, Intermediates: intermediates, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}); err != nil {
			t.Errorf("%s certificate: %v", name, err)
		}
	}
}

func TestCSRAttrsByteForByte(t *testing.T) {
	l := open(t, 10).dial(party{}, 0)
	l.write("GET /.well-known/est/csrattrs HTTP/1.1\r\nHost: x\r\n\r\n")
	if a := l.read("GET"); a.StatusCode != 204 || a.body != "" || a.Header.Get("Content-Length") != "" || a.Header.Get("Content-Type") != "" {
		t.Errorf("without a label: %d %v %q", a.StatusCode, a.Header, a.body)
	}
	l.write("GET /.well-known/est/thermo/csrattrs HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
	status, header, body := response(t, l.text())
	// SEQUENCE { SEQUENCE { ecPublicKey, SET { secp256r1 } }, ecdsa-with-SHA256,
	//   SEQUENCE { certificationRequestInfoTemplate, SET { SEQUENCE { 0,
	//     SEQUENCE { SET { SEQUENCE { commonName } }, SET { SEQUENCE { serialNumber } } },
	//     [0] { SEQUENCE { ecPublicKey, secp256r1 } }, [1] {} } } } }
	if status != "HTTP/1.1 200 OK" || header["Content-Type"] != "application/csrattrs" || header["Content-Transfer-Encoding"] != "base64" ||
		header["Content-Length"] != "136" || body != "MGQwFQYHKoZIzj0CATEKBggqhkjOPQMBBwYIKoZIzj0EAwIwQQYLKoZIhvcNAQkQAj0xMjAwAgEAMBIxBzAFBgNVBAMxBzAFBgNVBAWgFTATBgcqhkjOPQIBBggqhkjOPQMBB6EA" {
		t.Errorf("%s %v %q", status, header, body)
	}
}

func TestMethods(t *testing.T) {
	d := open(t, 10)
	l := d.dial(d.build("SN-1"), 0)
	before := d.traces()
	for _, label := range []string{"", "thermo/"} {
		for op, allow := range map[string]string{"cacerts": "GET, HEAD", "csrattrs": "GET, HEAD", "simpleenroll": "POST", "simplereenroll": "POST", "fullcmc": "POST", "serverkeygen": "POST"} {
			for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "get", "ENROL"} {
				if slices.Contains(strings.Split(allow, ", "), method) {
					continue
				}
				l.write("%s /.well-known/est/%s%s HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", method, label, op)
				a := l.read(method)
				if a.StatusCode != 405 || a.Header.Get("Allow") != allow || !strings.HasPrefix(a.Header.Get("Content-Type"), "text/plain") {
					t.Errorf("%s %s: %d, Allow %q", method, op, a.StatusCode, a.Header.Get("Allow"))
				}
				if (a.body == "") != (method == "HEAD") {
					t.Errorf("%s %s: body %q", method, op, a.body)
				}
			}
		}
	}
	if after := d.traces(); after != before {
		t.Errorf("there are %s, before there were %s", after, before)
	}
}

// HEAD is GET without the body; the connection goes on behind it.
func TestHead(t *testing.T) {
	l := open(t, 10).dial(party{}, 0)
	for path, status := range map[string]int{"cacerts": 200, "thermo/csrattrs": 200, "csrattrs": 204, "nothing": 404, "toaster/cacerts": 404} {
		l.write("GET /.well-known/est/%s HTTP/1.1\r\nHost: x\r\n\r\n", path)
		get := l.read("GET")
		l.write("HEAD /.well-known/est/%s HTTP/1.1\r\nHost: x\r\n\r\n", path)
		head := l.read("HEAD")
		if get.StatusCode != status || head.StatusCode != status || head.body != "" {
			t.Errorf("%s: GET %d, HEAD %d %q", path, get.StatusCode, head.StatusCode, head.body)
		}
		for _, h := range []string{"Content-Type", "Content-Length", "Content-Transfer-Encoding"} {
			if get.Header.Get(h) != head.Header.Get(h) {
				t.Errorf("%s: %s is %q for GET, %q for HEAD", path, h, get.Header.Get(h), head.Header.Get(h))
			}
		}
	}
}

func TestPaths(t *testing.T) {
	l := open(t, 10).dial(party{}, 0)
	for path, status := range map[string]int{
		"/.well-known/est/cacerts":                     200,
		"/.well-known/est/thermo/cacerts":              200,
		"/.well-known/est/cacerts?x=y":                 200,
		"/.well-known/est/cacerts/":                    404,
		"/.well-known/est/thermo/cacerts/":             404,
		"/.well-known/est/":                            404,
		"/.well-known/est":                             404,
		"/.well-known/est//cacerts":                    404,
		"/.well-known//est/cacerts":                    404,
		"/.well-known/est/x/../cacerts":                404,
		"/.well-known/est/./cacerts":                   404,
		"/.well-known/est/cacerts/cacerts":             404,
		"/.well-known/est/thermo/thermo/cacerts":       404,
		"/.well-known/est/toaster/cacerts":             404,
		"/.well-known/est/THERMO/cacerts":              404,
		"/.well-known/est/thermo%2Fcacerts":            404,
		"/.well-known/est/thermo%00/cacerts":           404,
		"/.well-known/est/%ff/cacerts":                 404,
		"/.well-known/est/CACERTS":                     404,
		"/.well-known/est/thermo/thermo":               404,
		"/.well-known/est/simpleenroll/cacerts":        404,
		"/est/cacerts":                                 404,
		"/":                                            404,
		"/.well-known/est/" + long(4000) + "/csrattrs": 404,
	} {
		l.write("GET %s HTTP/1.1\r\nHost: x\r\n\r\n", path)
		if a := l.read("GET"); a.StatusCode != status || status == 404 && (!strings.HasPrefix(a.Header.Get("Content-Type"), "text/plain") || len(a.body) < 20) {
			t.Errorf("%.60s: %d %s %s", path, a.StatusCode, a.Header.Get("Content-Type"), a.body)
		}
	}
}

func long(n int) string { return strings.Repeat("a", n) }

func TestNotImplemented(t *testing.T) {
	d := open(t, 10)
	device := d.build("SN-1")
	before := d.traces()
	for _, by := range []party{{}, device} {
		for _, path := range []string{"fullcmc", "thermo/fullcmc"} {
			a := d.send(by, "POST", path, "application/pkcs7-mime; smime-type=CMC-request", "MAA=")
			if a.StatusCode != 501 || !strings.HasPrefix(a.Header.Get("Content-Type"), "text/plain") || !strings.Contains(a.body, "/simpleenroll") {
				t.Errorf("%s: %d %s %s", path, a.StatusCode, a.Header.Get("Content-Type"), a.body)
			}
		}
	}
	if after := d.traces(); after != before {
		t.Errorf("there are %s, before there were %s", after, before)
	}
}

// What the headers may say, and what the base64 may look like.
func TestFormsOfRequest(t *testing.T) {
	d := open(t, 1000)
	b64 := base64.StdEncoding.EncodeToString
	wrap := func(text, end string, n int) (s string) {
		for chunk := range slices.Chunk([]byte(text), n) {
			s += string(chunk) + end
		}
		return s
	}
	same := func(der []byte) string { return b64(der) }
	unfit := bytes.Repeat([]byte{0x30}, 3)
	type form struct {
		kind, encoding string
		body           func(der []byte) string
		status         int
		want           string
	}
	for name, c := range map[string]form{
		"plain":                   {"application/pkcs10", "base64", same, 200, ""},
		"no transfer encoding":    {"application/pkcs10", "", same, 200, ""},
		"binary, says the header": {"application/pkcs10", "binary", same, 200, ""},
		"8bit, says the header":   {"application/pkcs10", "8BIT", same, 200, ""},
		"other case":              {"APPLICATION/Pkcs10", "BASE64", same, 200, ""},
		"a parameter":             {"application/pkcs10; charset=utf-8", "base64", same, 200, ""},
		"parameters":              {`application/pkcs10;name="smime.p10" ; smime-type=x`, "base64", same, 200, ""},
		"a bare semicolon":        {"application/pkcs10;", "base64", same, 200, ""},
		"a broken parameter":      {`application/pkcs10; name="smime`, "base64", same, 200, ""},
		"a doubled parameter":     {"application/pkcs10; a=1; a=2", "base64", same, 200, ""},
		"spaces":                  {"  application/pkcs10 \t", "base64", same, 200, ""},
		"lines of 64, CRLF":       {"application/pkcs10", "base64", func(der []byte) string { return wrap(b64(der), "\r\n", 64) }, 200, ""},
		"lines of 76, LF":         {"application/pkcs10", "base64", func(der []byte) string { return wrap(b64(der), "\n", 76) }, 200, ""},
		"lines of 1, CR":          {"application/pkcs10", "base64", func(der []byte) string { return wrap(b64(der), "\r", 1) }, 200, ""},
		"white space around":      {"application/pkcs10", "base64", func(der []byte) string { return "\r\n\t " + b64(der) + " \r\n\r\n" }, 200, ""},
		"up to the limit":         {"application/pkcs10", "base64", func(der []byte) string { return fmt.Sprintf("%-32768s", b64(der)) }, 200, ""},
		"over the limit":          {"application/pkcs10", "base64", func(der []byte) string { return fmt.Sprintf("%-32769s", b64(der)) }, 413, "32768 bytes"},
		"no type":                 {"", "base64", same, 415, "application/pkcs10"},
		"CMC's type":              {"application/pkcs7-mime", "base64", same, 415, "application/pkcs10"},
		"a form's type":           {"application/x-www-form-urlencoded", "base64", same, 415, "application/pkcs10"},
		"a longer type":           {"application/pkcs10x", "base64", same, 415, "application/pkcs10"},
		"DER":                     {"application/pkcs10", "binary", func(der []byte) string { return string(der) }, 400, "not base64"},
		"PEM": {"application/pkcs10", "base64", func(der []byte) string {
			return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
		}, 400, "BEGIN and END"},
		"base64url":        {"application/pkcs10", "base64", func(der []byte) string { return base64.URLEncoding.EncodeToString(append(der, 0xff, 0xff, 0xfe)) }, 400, "not base64"},
		"no padding":       {"application/pkcs10", "base64", func([]byte) string { return "MAMCAQ" }, 400, "not base64"},
		"bits in padding":  {"application/pkcs10", "base64", func([]byte) string { return "MAMCAR==" }, 400, "not base64"},
		"NUL":              {"application/pkcs10", "base64", func(der []byte) string { return b64(der) + "\x00" }, 400, "not base64"},
		"two messages":     {"application/pkcs10", "base64", func(der []byte) string { return b64(slices.Concat(der, der)) }, 400, "PKCS#10"},
		"a byte behind it": {"application/pkcs10", "base64", func(der []byte) string { return b64(append(der, 0)) }, 400, "PKCS#10"},
		"base64 twice":     {"application/pkcs10", "base64", func(der []byte) string { return b64([]byte(b64(der))) }, 400, "PKCS#10"},
		"rubbish":          {"application/pkcs10", "base64", func([]byte) string { return b64(unfit) }, 400, "PKCS#10"},
		"white space only": {"application/pkcs10", "base64", func([]byte) string { return " \r\n" }, 400, "no body"},
		"nothing":          {"application/pkcs10", "base64", func([]byte) string { return "" }, 400, "no body"},
	} {
		l, before := d.dial(d.build(fmt.Sprintf("SN-%d", d.count)), 0), d.traces()
		body := c.body(d.csr(newKey(t), &x509.CertificateRequest{Subject: pkix.Name{}}))
		l.write("POST /.well-known/est/simpleenroll HTTP/1.1\r\nHost: x\r\n")
		for header, value := range map[string]string{"Content-Type": c.kind, "Content-Transfer-Encoding": c.encoding} {
			if value != "" {
				l.write("%s: %s\r\n", header, value)
			}
		}
		l.write("Content-Length: %d\r\n\r\n%s", len(body), body)
		a := l.read("POST")
		if c.status == 200 {
			a.certificate(t)
			continue
		}
		if a.StatusCode != c.status || !strings.Contains(a.body, c.want) || !strings.HasPrefix(a.Header.Get("Content-Type"), "text/plain") {
			t.Errorf("%s: %d %s %q, want %d with %q", name, a.StatusCode, a.Header.Get("Content-Type"), a.body, c.status, c.want)
		}
		if after := d.traces(); after != before {
			t.Errorf("%s: there are %s, before there were %s", name, after, before)
		}
	}
}
