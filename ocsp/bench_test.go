package ocsp_test

import (
	"crypto/x509/pkix"
	"encoding/base64"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"

	"github.com/touchmark/touchmark/ocsp"
	"github.com/touchmark/touchmark/ocsp/ocsptest"
)

// sink is an http.ResponseWriter that forgets.
type sink struct{ header http.Header }

func (s *sink) Header() http.Header         { return s.header }
func (s *sink) Write(b []byte) (int, error) { return len(b), nil }
func (s *sink) WriteHeader(int)             {}

func BenchmarkGetFromCache(b *testing.B) {
	p := newPKI(&testing.T{})
	der := ocsptest.Question{CertIDs: []ocsptest.CertID{p.id(issue())}}.DER()
	req := httptest.NewRequest(http.MethodGet, ocsp.Path+"/"+url.PathEscape(base64.StdEncoding.EncodeToString(der)), nil)
	w := &sink{http.Header{}}
	b.ReportAllocs()
	for b.Loop() {
		clear(w.header)
		p.responder.ServeHTTP(w, req)
	}
}

func BenchmarkParseRequest(b *testing.B) {
	p := newPKI(&testing.T{})
	der := ocsptest.Question{CertIDs: []ocsptest.CertID{p.id(issue())}}.DER()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ocsp.ParseRequest(der); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSign(b *testing.B) {
	p := newPKI(&testing.T{})
	der := ocsptest.Question{CertIDs: []ocsptest.CertID{p.id(issue())}, Extensions: []pkix.Extension{ocsptest.Nonce(make([]byte, 16))}}.DER()
	req := httptest.NewRequest(http.MethodGet, ocsp.Path+"/"+url.PathEscape(base64.StdEncoding.EncodeToString(der)), nil)
	w := &sink{http.Header{}}
	for b.Loop() {
		clear(w.header)
		p.responder.ServeHTTP(w, req)
	}
}
