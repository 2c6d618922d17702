// Package devicetest is a small EST server for tests of the device side, as
// net/http/httptest is for HTTP. It is written from RFC 7030 with the
// standard library and a foreign CMS library, and shares no code with
// Touchmark's server or client.
package devicetest

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"go.mozilla.org/pkcs7"
)

// Server certifies whatever key it is asked for; the same key gets the same
// certificate until it is renewed. Its fields are set before the first
// request, or later through [Server.Set].
type Server struct {
	URL  string
	Root *x509.Certificate
	// Answer, if set, is asked first at an enrolment; it returns true if it
	// answered. peer is the client certificate or nil.
	Answer func(w http.ResponseWriter, peer *x509.Certificate, csr *x509.CertificateRequest) bool
	// Window, if set, says when a certificate should be renewed, of which it
	// is told the name (RFC 9773 §4.1).
	Window func(name string) (start, end time.Time)
	// Code, if set, is a password (HTTP Basic) that does for a client
	// certificate, whatever the user name; and without it no certificate does.
	Code string
	// Template, if set, changes a certificate before it is signed.
	Template func(*x509.Certificate)

	t            *testing.T
	root, issuer *Authority
	next         *Authority      // the root that follows, while there are two
	cross        [][]byte        // certificates of theirs, by each other
	own          tls.Certificate // for TLS
	mu           sync.Mutex
	given        map[string][]byte // certificate by SubjectPublicKeyInfo
	used         map[string]bool   // SubjectPublicKeyInfos that authenticated a GET
	seen         map[string]int    // requests by operation
	serial       int64
}

// Authority is a CA of a test.
type Authority struct {
	Cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// New starts a server that ends with the test.
func New(t *testing.T) *Server {
	t.Helper()
	s := &Server{t: t, given: map[string][]byte{}, used: map[string]bool{}, seen: map[string]int{}, serial: 10}
	s.root = NewAuthority(t, "Test Root", nil)
	s.Root = s.root.Cert
	s.issuer = NewAuthority(t, "Test Device CA", s.root)
	s.own = s.serverCertificate()
	server := httptest.NewUnstartedServer(http.HandlerFunc(s.serve))
	server.TLS = &tls.Config{ClientAuth: tls.RequestClientCert, GetCertificate: s.certificate}
	server.StartTLS()
	t.Cleanup(server.Close)
	s.URL = strings.Replace(server.URL, "127.0.0.1", "localhost", 1)
	return s
}

// NewAuthority makes a CA under another, or a root if that is nil.
func NewAuthority(t *testing.T, name string, parent *Authority) *Authority {
	t.Helper()
	a := &Authority{key: newKey(t)}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name},
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	if parent == nil {
		a.Cert = c // signs itself
		parent = a
	}
	cert, err := x509.ParseCertificate(parent.sign(t, c, &a.key.PublicKey))
	if err != nil {
		t.Fatal(err)
	}
	a.Cert = cert
	return a
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func (a *Authority) sign(t *testing.T, c *x509.Certificate, pub any) []byte {
	if c.NotBefore.IsZero() {
		c.NotBefore = time.Now().Add(-2 * time.Hour)
	}
	if c.NotAfter.IsZero() {
		c.NotAfter = time.Now().Add(24 * time.Hour)
	}
	der, err := x509.CreateCertificate(rand.Reader, c, a.Cert, pub, a.key)
	if err != nil {
		t.Error(err)
	}
	return der
}

// serverCertificate makes one of the root, which the server shows.
func (s *Server) serverCertificate() tls.Certificate {
	key := newKey(s.t)
	der := s.root.sign(s.t, &x509.Certificate{SerialNumber: big.NewInt(2), DNSNames: []string{"localhost"}}, &key.PublicKey)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func (s *Server) certificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	own := s.own
	return &own, nil
}

// NewRoot shows a second root beside the first, and that each vouches for the
// other (RFC 4210 §4.4).
func (s *Server) NewRoot() {
	next := NewAuthority(s.t, s.Root.Subject.CommonName, nil)
	s.Set(func(s *Server) {
		s.next, s.cross = next, [][]byte{s.root.vouch(s.t, next), next.vouch(s.t, s.root)}
	})
}

// OldRootEnds has nothing left but what the second root signs.
func (s *Server) OldRootEnds() {
	issuer := NewAuthority(s.t, "Third Device CA", s.next)
	s.Set(func(s *Server) {
		s.root, s.Root, s.next, s.cross, s.issuer = s.next, s.next.Cert, nil, nil, issuer
		s.own = s.serverCertificate()
	})
}

// vouch signs a certificate for another root's key.
func (a *Authority) vouch(t *testing.T, other *Authority) []byte {
	return a.sign(t, &x509.Certificate{SerialNumber: big.NewInt(5), Subject: other.Cert.Subject, SubjectKeyId: other.Cert.SubjectKeyId,
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}, &other.key.PublicKey)
}

// cas are the CA certificates.
func (s *Server) cas() [][]byte {
	list := append([][]byte{s.Root.Raw, s.issuer.Cert.Raw}, s.cross...)
	if s.next != nil {
		list = append(list, s.next.Cert.Raw)
	}
	return list
}

// Set changes the server while it runs.
func (s *Server) Set(change func(*Server)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(s)
}

// NewIssuer replaces the issuing CA, as a roll-over does.
func (s *Server) NewIssuer() {
	issuer := NewAuthority(s.t, "Second Device CA", s.root)
	s.Set(func(s *Server) { s.issuer = issuer })
}

// Keys is how many keys were certified.
func (s *Server) Keys() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.given)
}

// Seen is how many requests came for an operation.
func (s *Server) Seen(op string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.seen[op]
}

// Used reports whether a certificate's key authenticated a GET.
func (s *Server) Used(c *x509.Certificate) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.used[string(c.RawSubjectPublicKeyInfo)]
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the client is gone
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var peer *x509.Certificate
	if len(r.TLS.PeerCertificates) > 0 {
		peer = r.TLS.PeerCertificates[0]
	}
	if name, ok := strings.CutPrefix(r.URL.Path, "/device/v1/renewal-info/"); ok && s.Window != nil {
		start, end := s.Window(name)
		w.Header().Set("Retry-After", "1800")
		fmt.Fprintf(w, `{"suggestedWindow": {"start": %q, "end": %q}}`, start.Format(time.RFC3339), end.Format(time.RFC3339))
		return
	}
	op := r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:]
	s.seen[op]++
	switch r.Method + " " + op {
	case "GET cacerts":
		if peer != nil {
			s.used[string(peer.RawSubjectPublicKeyInfo)] = true
		}
		s.Reply(w, s.cas()...)
	case "POST simpleenroll", "POST simplereenroll":
		s.enrol(w, r, body, peer)
	default:
		http.Error(w, "no such operation", http.StatusNotFound)
	}
}

func (s *Server) enrol(w http.ResponseWriter, r *http.Request, body []byte, peer *x509.Certificate) {
	der, err := base64.StdEncoding.DecodeString(string(body))
	if err != nil || r.Header.Get("Content-Type") != "application/pkcs10" {
		http.Error(w, "want base64 of application/pkcs10", http.StatusBadRequest)
		return
	}
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil || csr.CheckSignature() != nil {
		http.Error(w, "not a signed PKCS#10 request", http.StatusBadRequest)
		return
	}
	if s.Answer != nil && s.Answer(w, peer, csr) {
		return
	}
	first := strings.HasSuffix(r.URL.Path, "/simpleenroll")
	if _, password, ok := r.BasicAuth(); ok && (!first || password != s.Code) || first && s.Code != "" && !ok || peer == nil && !ok {
		http.Error(w, "no client certificate or code", http.StatusUnauthorized)
		return
	}
	name := string(csr.RawSubjectPublicKeyInfo)
	if strings.HasSuffix(r.URL.Path, "/simplereenroll") || s.given[name] == nil {
		s.given[name] = s.Certify(csr)
	}
	s.Reply(w, s.given[name])
}

// Certify signs a certificate for a request's key and subject. It is for use
// in Answer.
func (s *Server) Certify(csr *x509.CertificateRequest) []byte {
	s.serial++
	c := &x509.Certificate{SerialNumber: big.NewInt(s.serial), RawSubject: csr.RawSubject, ExtraExtensions: csr.Extensions}
	if s.Template != nil {
		s.Template(c)
	}
	return s.issuer.sign(s.t, c, csr.PublicKey)
}

// Reply writes a certs-only answer in base64 with line breaks, as many
// servers send it.
func (s *Server) Reply(w http.ResponseWriter, certs ...[]byte) {
	p7, err := pkcs7.DegenerateCertificate(bytes.Join(certs, nil))
	if err != nil {
		s.t.Error(err)
	}
	w.Header().Set("Content-Type", "application/pkcs7-mime; smime-type=certs-only")
	text := base64.StdEncoding.EncodeToString(p7)
	for len(text) > 64 {
		_, _ = io.WriteString(w, text[:64]+"\r\n")
		text = text[64:]
	}
	_, _ = io.WriteString(w, text)
}
