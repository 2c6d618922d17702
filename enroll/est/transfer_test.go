package est_test

import (
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/touchmark/touchmark/internal/store/storetest"
	"github.com/touchmark/touchmark/vetting"
)

const enrolHead = "POST /.well-known/est/simpleenroll HTTP/1.1\r\nHost: x\r\nContent-Type: application/pkcs10\r\n"

// Embedded clients send what they make as they make it.
func TestChunkedRequest(t *testing.T) {
	d := open(t, 10)
	for name, form := range map[string]string{
		"plain":      "%x\r\n%s\r\n%x\r\n%s\r\n0\r\n\r\n",
		"extensions": "%x;a=b\r\n%s\r\n%x;c=\"d\"\r\n%s\r\n0;e\r\n\r\n",
		"trailer":    "%x\r\n%s\r\n%x\r\n%s\r\n0\r\nX-Sum: 1\r\n\r\n",
	} {
		l := d.dial(d.build(fmt.Sprintf("SN-%d", d.count)), 0)
		body := base64.StdEncoding.EncodeToString(d.csr(newKey(t), &x509.CertificateRequest{}))
		one, two := body[:101], body[101:]
		l.write(enrolHead+"Transfer-Encoding: chunked\r\n\r\n"+form, len(one), one, len(two), two)
		cert := l.read("POST").certificate(t)
		// the connection is in step behind it
		if again := l.post("simpleenroll", d.csr(newKey(t), &x509.CertificateRequest{})); again.StatusCode != 200 || again.certificate(t).Equal(cert) {
			t.Errorf("%s: the second request on the connection: %d %s", name, again.StatusCode, again.body)
		}
	}
}

// What a client does wrong is never called a fault of the server.
func TestBodiesThatDoNotArrive(t *testing.T) {
	d := open(t, 10)
	device := d.build("SN-1")
	before := d.traces()
	for name, c := range map[string]struct {
		rest   string
		status int
		want   string
	}{
		"cut off":              {"Content-Length: 900\r\n\r\nMIIB", 400, "did not arrive whole"},
		"cut off in a chunk":   {"Transfer-Encoding: chunked\r\n\r\n100\r\nMIIB", 400, "did not arrive whole"},
		"cut off before chunk": {"Transfer-Encoding: chunked\r\n\r\n4\r\nMIIB\r\n", 400, "did not arrive whole"},
		"no chunk":             {"Transfer-Encoding: chunked\r\n\r\nMIIB\r\n0\r\n\r\n", 400, "did not arrive whole"},
		"endless chunks":       {"Transfer-Encoding: chunked\r\n\r\n" + strings.Repeat("1000\r\n"+strings.Repeat("A", 0x1000)+"\r\n", 20) + "0\r\n\r\n", 413, "larger than"},
		"much too long":        {"Content-Length: 1000000\r\n\r\n" + strings.Repeat("A", 1000000), 413, "larger than"},
		"much too long, last":  {"Connection: close\r\nContent-Length: 1000000\r\n\r\n" + strings.Repeat("A", 1000000), 413, "larger than"},
	} {
		l := d.dial(device, 0)
		l.write("%s%s", enrolHead, c.rest)
		if err := l.conn.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		a := l.read("POST")
		if a.StatusCode != c.status || !strings.Contains(a.body, c.want) || !strings.HasPrefix(a.Header.Get("Content-Type"), "text/plain") {
			t.Errorf("%s: %d %s", name, a.StatusCode, a.body)
		}
	}
	if after := d.traces(); after != before {
		t.Errorf("there are %s, before there were %s", after, before)
	}
}

// A client that asks first is told to go on, or the reason why not
// (RFC 9110 §10.1.1).
func TestExpectContinue(t *testing.T) {
	d := open(t, 10)
	device := d.build("SN-1")
	body := base64.StdEncoding.EncodeToString(d.csr(newKey(t), &x509.CertificateRequest{}))
	l := d.dial(device, 0)
	l.write(enrolHead+"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n", len(body))
	interim := make([]byte, len("HTTP/1.1 100 Continue\r\n\r\n"))
	if _, err := io.ReadFull(l.in, interim); err != nil || string(interim) != "HTTP/1.1 100 Continue\r\n\r\n" {
		t.Fatalf("%q, %v", interim, err)
	}
	l.write("%s", body)
	l.read("POST").certificate(t)

	for name, c := range map[string]struct {
		by     party
		head   string
		status int
	}{
		"too long":        {device, enrolHead + "Content-Length: 1000000\r\n", 413},
		"no certificate":  {party{}, enrolHead + "Content-Length: 500\r\n", 401},
		"another type":    {device, strings.Replace(enrolHead, "pkcs10", "json", 1) + "Content-Length: 500\r\n", 415},
		"unknown product": {device, strings.Replace(enrolHead, "/simple", "/toaster/simple", 1) + "Content-Length: 500\r\n", 404},
		"not implemented": {device, strings.Replace(enrolHead, "simpleenroll", "fullcmc", 1) + "Content-Length: 500\r\n", 501},
	} {
		l := d.dial(c.by, 0)
		l.write("%sExpect: 100-continue\r\n\r\n", c.head)
		if a := l.read("POST"); a.StatusCode != c.status || !strings.HasPrefix(a.Header.Get("Content-Type"), "text/plain") {
			t.Errorf("%s: %d %s", name, a.StatusCode, a.body)
		} else if !a.Close {
			t.Errorf("%s: the connection is said to stay, though nobody knows whether the body comes", name)
		}
	}
}

// HTTP/1.0 has no Host, no chunks and closes by itself.
func TestHTTP10(t *testing.T) {
	d := open(t, 10)
	device := d.build("SN-1")
	body := base64.StdEncoding.EncodeToString(d.csr(newKey(t), &x509.CertificateRequest{}))
	for request, want := range map[string]string{
		"GET /.well-known/est/cacerts HTTP/1.0\r\n\r\n":         "200",
		"GET /.well-known/est/thermo/csrattrs HTTP/1.0\r\n\r\n": "200",
		"GET /.well-known/est/csrattrs HTTP/1.0\r\n\r\n":        "204",
		"GET /.well-known/est/nothing HTTP/1.0\r\n\r\n":         "404",
		fmt.Sprintf("POST /.well-known/est/simpleenroll HTTP/1.0\r\nContent-Type: application/pkcs10\r\nContent-Length: %d\r\n\r\n%s", len(body), body): "200",
	} {
		l := d.dial(device, 0)
		l.write("%s", request)
		status, header, reply := response(t, l.text())
		if !strings.HasPrefix(status, "HTTP/1.0 "+want+" ") || header["Transfer-Encoding"] != "" {
			t.Errorf("%.40q: %s %v", request, status, header)
		}
		if length := fmt.Sprint(len(reply)); want != "204" && header["Content-Length"] != length {
			t.Errorf("%.40q: Content-Length %q of %s", request, header["Content-Length"], length)
		}
	}
}

func TestHeldByteForByte(t *testing.T) {
	d := open(t, 10)
	l := d.dial(d.build("SN-1"), 0)
	after := time.Now().Add(time.Hour)
	if _, err := d.world.Store.ChangeOrder(t.Context(), storetest.By, "po-1", vetting.OrderChange{NotBefore: &after}); err != nil {
		t.Fatal(err)
	}
	body := base64.StdEncoding.EncodeToString(d.csr(newKey(t), &x509.CertificateRequest{}))
	l.write("%sConnection: close\r\nContent-Length: %d\r\n\r\n%s", enrolHead, len(body), body)
	status, header, reply := response(t, l.text())
	if status != "HTTP/1.1 202 Accepted" || header["Retry-After"] != "90" || header["Content-Type"] != "text/plain; charset=utf-8" ||
		header["Content-Length"] != fmt.Sprint(len(reply)) || len(reply) < 20 || header["Content-Transfer-Encoding"] != "" {
		t.Errorf("%s %v %q", status, header, reply)
	}
}

// Where no code can be used HTTP Basic is not offered, so nothing invites a
// client to send one, and one that comes counts for nothing
// (docs/divergences.md).
func TestPasswordsCountForNothing(t *testing.T) {
	d := open(t, 10)
	l := d.dial(party{}, 0)
	before := d.traces()
	body := base64.StdEncoding.EncodeToString(d.csr(newKey(t), &x509.CertificateRequest{}))
	for _, operation := range []string{"simplereenroll", "thermo/simpleenroll", "thermo/serverkeygen", "thermo/simplereenroll"} {
		for _, password := range []string{"", "Authorization: Basic YWRtaW46YWRtaW4=\r\n", "Authorization: Basic Og==\r\n"} {
			l.write("%s%sContent-Length: %d\r\n\r\n%s", strings.Replace(enrolHead, "simpleenroll", operation, 1), password, len(body), body)
			a := l.read("POST")
			if a.StatusCode != 401 || a.Header.Get("WWW-Authenticate") != "" || !strings.Contains(a.body, "no client certificate") {
				t.Errorf("%s, %q: %d %v %s", operation, password, a.StatusCode, a.Header, a.body)
			}
		}
	}
	if after := d.traces(); after != before {
		t.Errorf("there are %s, before there were %s", after, before)
	}
}
