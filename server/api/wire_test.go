package api_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"crypto/x509"

	"github.com/touchmark/touchmark/server/api"
)

// raw sends bytes over a connection of the operator's, then closes its
// sending side, and gives the answer.
func (w *world) raw(name, request string) reply {
	w.t.Helper()
	conf := w.client(name).Transport.(*http.Transport).TLSClientConfig
	conn, err := tls.Dial("tcp", w.server.Listener.Addr().String(), &tls.Config{RootCAs: conf.RootCAs, Certificates: conf.Certificates, ServerName: "example.com"})
	if err != nil {
		w.t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprint(conn, request)
	if err := conn.CloseWrite(); err != nil {
		w.t.Fatal(err)
	}
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		w.t.Fatal(err)
	}
	defer res.Body.Close()
	var b strings.Builder
	if _, err := bufio.NewReader(res.Body).WriteTo(&b); err != nil {
		w.t.Fatal(err)
	}
	return reply{res.StatusCode, res.Header, b.String()}
}

// TestBodiesThatBreakOff promises more bytes than come.
func TestBodiesThatBreakOff(t *testing.T) {
	w := newWorld(t)
	got := w.raw("planner", "POST /api/v1/sites HTTP/1.1\r\nHost: example.com\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{\"name\":\"x\"}")
	refused(t, got, 400, "broke off")
	got = w.raw("site-operator", "POST /api/v1"+near+" HTTP/1.1\r\nHost: example.com\r\nContent-Type: multipart/form-data; boundary=b\r\nContent-Length: 1000\r\n\r\n"+
		"--b\r\nContent-Disposition: form-data; name=\"manifest\"; filename=\"m.csv\"\r\n\r\nserial\n1\n\r\n--b--\r\n")
	refused(t, got, 400, "broke off")
	if len(w.store.acted)+w.importer.kept != 0 {
		t.Error("something was done")
	}
}

// TestChunkedBodies: a body of unknown length is bounded all the same.
func TestChunkedBodies(t *testing.T) {
	w := newWorld(t)
	chunk := strings.Repeat(" ", 1<<16)
	head := "POST /api/v1/sites HTTP/1.1\r\nHost: example.com\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
	refused(t, w.raw("planner", head+"10000\r\n"+chunk+"\r\n10000\r\n"+chunk+"\r\n0\r\n\r\n"), 413, "65536")
	if got := w.raw("planner", head+"c\r\n{\"name\":\"x\"}\r\n0\r\n\r\n"); got.status != 201 {
		t.Errorf("status %d: %s", got.status, got.body)
	}
	refused(t, w.raw("planner", head+"zz\r\n"), 400)
}

// TestCancelledRequests: what fails because the client went away is no
// failure of the server's.
func TestCancelledRequests(t *testing.T) {
	w := newWorld(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	w.importer.err = context.Canceled
	r := httptest.NewRequestWithContext(ctx, "POST", api.Base+"/manifests/21/signatures", strings.NewReader("sig"))
	r.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{parse(t, w.certs["admin"].Certificate[0])}}
	rec := httptest.NewRecorder()
	w.api.ServeHTTP(rec, r)
	refused(t, reply{rec.Code, rec.Header(), rec.Body.String()}, 503, "again")
	if log := w.log.String(); log != "" {
		t.Errorf("the log complains: %s", log)
	}
}

// TestWithoutTLS: a server that was wired wrongly lets nobody in.
func TestWithoutTLS(t *testing.T) {
	w := newWorld(t)
	rec := httptest.NewRecorder()
	w.api.ServeHTTP(rec, httptest.NewRequest("GET", api.Base+"/whoami", nil))
	refused(t, reply{rec.Code, rec.Header(), rec.Body.String()}, 401, "no client certificate")
}
