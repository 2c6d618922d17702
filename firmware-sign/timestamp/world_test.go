package timestamp

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"log/slog"
	"math/big"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/touchmark/touchmark/firmware-sign/internal/signtest"
	"github.com/touchmark/touchmark/internal/cms"
)

var policy = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 99999, 3161}

// memory is a log in memory that behaves as the store's.
type memory struct {
	mu    sync.Mutex
	now   func() time.Time
	last  time.Time
	notes []string
}

func (m *memory) NoteTimeStamp(_ context.Context, note string, latest time.Time) (time.Time, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	at := m.now()
	if at.Before(m.last) {
		at = m.last
	}
	if !at.After(latest) {
		m.last, m.notes = at, append(m.notes, note)
	}
	return at, nil
}

// world is an authority with its certificates.
type world struct {
	*Authority
	root, cert *x509.Certificate
	roots      *x509.CertPool
	log        *memory
	now        time.Time
	room       bool
}

// certificate makes one for time stamps.
func certificate(t testing.TB, key crypto.Signer, issuer *x509.Certificate, by crypto.Signer, change func(*x509.Certificate)) *x509.Certificate {
	t.Helper()
	usage, err := asn1.Marshal([]asn1.ObjectIdentifier{{1, 3, 6, 1, 5, 5, 7, 3, 8}})
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: "TSA"}, NotBefore: signtest.Now.AddDate(-1, 0, 0), NotAfter: signtest.Now.AddDate(9, 0, 0),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtraExtensions: []pkix.Extension{{Id: oidExtKeyUsage, Critical: true, Value: usage}}}
	change(template)
	der, err := x509.CreateCertificate(rand.Reader, template, issuer, key.Public(), by)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func newWorld(t testing.TB, kind string) *world {
	t.Helper()
	ca, key := signtest.Key(t, "p256"), signtest.Key(t, kind)
	w := &world{root: signtest.Certificate(t, "root", ca, nil, nil), roots: x509.NewCertPool(), now: signtest.Now, room: true}
	w.roots.AddCert(w.root)
	w.cert = certificate(t, key, w.root, ca, func(*x509.Certificate) {})
	now := func() time.Time { return w.now }
	w.log = &memory{now: now}
	w.Authority = &Authority{Log: w.log, Policy: policy, Accuracy: time.Second, Now: now,
		Signatory: func(context.Context) (cms.Signatory, error) {
			return cms.Signatory{Certificate: w.cert, Key: signtest.Opaque{Signer: key}}, nil
		}}
	return w
}

// serve serves the authority over HTTP.
func (w *world) serve(t testing.TB) (url string) {
	t.Helper()
	s := httptest.NewServer(&Handler{Authority: w.Authority, Take: func() bool { return w.room }, Log: slog.New(slog.DiscardHandler)})
	t.Cleanup(s.Close)
	return s.URL + Path
}

// question asks for a time stamp over bytes.
func question(t testing.TB, hash crypto.Hash, content []byte, change func(*Request)) []byte {
	t.Helper()
	h := hash.New()
	h.Write(content)
	r := &Request{Hash: hash, Digest: h.Sum(nil), Certificates: true}
	change(r)
	der, err := r.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func plain(*Request) {}
