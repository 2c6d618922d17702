package server

import (
	"bytes"
	"crypto"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"io"
	"math/big"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/touchmark/touchmark/ocsp/ocsptest"
)

// answeredBy is what the status door says to a request, by POST, and by GET
// where a URL is long enough for it.
func (w *works) answeredBy(method string, der []byte) (code int, header http.Header, body []byte) {
	w.t.Helper()
	url := "http://" + w.server.Addrs()["status"] + "/ocsp"
	var content io.Reader
	if method == http.MethodGet {
		url += "/" + strings.NewReplacer("+", "%2B", "/", "%2F", "=", "%3D").Replace(base64.StdEncoding.EncodeToString(der))
	} else {
		content = bytes.NewReader(der)
	}
	req, err := http.NewRequestWithContext(w.t.Context(), method, url, content)
	if err != nil {
		w.t.Fatal(err)
	}
	if content != nil {
		req.Header.Set("Content-Type", "application/ocsp-request")
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, err = io.ReadAll(resp.Body); err != nil {
		w.t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, body
}

// What nobody should ask is answered by a running server as the standards say,
// and no cache keeps it. The last is a good question: nothing was lost.
func TestOCSPBadInput(t *testing.T) {
	w := opened(t)
	device := w.server.authorities.Device.Certificate
	unit := w.enrol(v13, w.build("A-1", w.now().Add(time.Hour)), "simpleenroll", nil)
	w.comes(w.server, device, unit.cert, "good", 0)
	id := ocsptest.ID(crypto.SHA256, device, unit.cert.SerialNumber)
	ask := func(ids ...ocsptest.CertID) []byte { return ocsptest.Question{CertIDs: ids}.DER() }
	nonce := func(n int) []byte {
		return ocsptest.Question{CertIDs: []ocsptest.CertID{id}, Extensions: []pkix.Extension{ocsptest.Nonce(bytes.Repeat([]byte{7}, n))}}.DER()
	}
	unknown, foreign := id, ocsptest.ID(crypto.SHA256, w.server.authorities.Factory.Certificate, unit.cert.SerialNumber)
	unknown.Algorithm.OID = ocsptest.OID(asn1.ObjectIdentifier{1, 2, 3, 4})
	const malformed, unanswered = 1, -1
	for name, c := range map[string]struct {
		request []byte
		code    int
		status  int
		says    string // of each certificate
	}{
		"nothing":                      {nil, 200, malformed, ""},
		"text":                         {[]byte("is it good?"), 200, malformed, ""},
		"broken off":                   {ask(id)[:40], 200, malformed, ""},
		"a byte more":                  {append(ask(id), 0), 200, malformed, ""},
		"about nothing":                {ask(), 200, malformed, ""},
		"an unknown hash algorithm":    {ask(unknown), 200, 0, "unknown"},
		"a foreign issuer":             {ask(foreign), 200, 0, "unknown"},
		"a serial never issued":        {ask(ocsptest.ID(crypto.SHA256, device, big.NewInt(0x1234))), 200, 0, "revoked"},
		"a nonce of 0 bytes":           {nonce(0), 200, malformed, ""},
		"a nonce of 1 byte":            {nonce(1), 200, 0, "good"},
		"a nonce of 32 bytes":          {nonce(32), 200, 0, "good"},
		"a nonce of 128 bytes":         {nonce(128), 200, 0, "good"},
		"a nonce of 129 bytes":         {nonce(129), 200, malformed, ""},
		"a thousand in one":            {ask(slices.Repeat([]ocsptest.CertID{id}, 1000)...), 200, 0, "good"},
		"a thousand and one":           {ask(slices.Repeat([]ocsptest.CertID{id}, 1001)...), 200, malformed, ""},
		"more than can be read at all": {ask(slices.Repeat([]ocsptest.CertID{id}, 5000)...), 413, unanswered, ""},
	} {
		for _, method := range []string{http.MethodPost, http.MethodGet} {
			if method == http.MethodGet && len(c.request) > 1000 {
				continue // the path of 10 kB is TestOCSPByOthers'
			}
			code, header, body := w.answeredBy(method, c.request)
			if cache := header.Get("Cache-Control"); code != c.code || cache != "no-store" {
				t.Errorf("%s by %s: %d, Cache-Control %q", name, method, code, cache)
			}
			if c.status == unanswered {
				continue
			}
			r, err := ocsptest.Decode(body, device, w.now())
			if err != nil || r.Status != c.status {
				t.Errorf("%s by %s: %+v, %v; want status %d", name, method, r, err, c.status)
				continue
			}
			if c.says == "" {
				continue
			}
			for _, s := range r.Data.Responses {
				if s.Says() != c.says {
					t.Errorf("%s by %s: it is %s, want %s", name, method, s.Says(), c.says)
				}
			}
		}
	}
	for _, path := range []string{"/crl/device-ca/16/16.crl", "/crl/device-ca/17/0.crl", "/crl/nobody/16/0.crl", "/crl/device-ca/16/x.crl"} {
		resp, err := http.Get("http://" + w.server.Addrs()["status"] + path)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if cache := resp.Header.Get("Cache-Control"); resp.StatusCode != 404 || cache != "no-store" {
			t.Errorf("%s: %d, Cache-Control %q", path, resp.StatusCode, cache)
		}
	}
	w.ahead.Store(int64(-365 * 24 * time.Hour)) // the server's clock is wrong
	if code, header, body := w.answeredBy(http.MethodPost, nonce(16)); code != 200 || header.Get("Cache-Control") != "no-store" || !bytes.Equal(body, []byte{0x30, 3, 0x0a, 1, 3}) {
		t.Errorf("with a clock of last year: %d %x, %v", code, body, header)
	}
	w.ahead.Store(0)
	w.comes(w.server, device, unit.cert, "good", 0)
}
