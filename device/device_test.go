package device_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"errors"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/touchmark/touchmark/device"
	"go.mozilla.org/pkcs7"
)

// estServer is a small EST server of the test's own: it certifies whatever
// key it is asked for, the same key with the same certificate.
type estServer struct {
	t     *testing.T
	url   string
	root  *x509.Certificate
	key   *ecdsa.PrivateKey
	mu    sync.Mutex
	given map[string][]byte // certificate by SubjectPublicKeyInfo
	// answer, if set, answers enrolments instead.
	answer http.HandlerFunc
}

func newServer(t *testing.T) *estServer {
	t.Helper()
	s := &estServer{t: t, given: map[string][]byte{}}
	s.key, s.root = s.authority("Test Root")
	server := httptest.NewUnstartedServer(http.HandlerFunc(s.serve))
	own, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der := s.sign(&x509.Certificate{SerialNumber: big.NewInt(2), DNSNames: []string{"localhost"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}, &own.PublicKey)
	server.TLS = &tls.Config{ClientAuth: tls.RequestClientCert, Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: own}}}
	server.StartTLS()
	t.Cleanup(server.Close)
	s.url = strings.Replace(server.URL, "127.0.0.1", "localhost", 1)
	return s
}

func (s *estServer) authority(name string) (*ecdsa.PrivateKey, *x509.Certificate) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		s.t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	if err != nil {
		s.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		s.t.Fatal(err)
	}
	return key, cert
}

func (s *estServer) sign(c *x509.Certificate, pub any) []byte {
	der, err := x509.CreateCertificate(rand.Reader, c, s.root, pub, s.key)
	if err != nil {
		s.t.Error(err)
	}
	return der
}

func (s *estServer) serve(w http.ResponseWriter, r *http.Request) {
	if strings.HasSuffix(r.URL.Path, "/cacerts") {
		s.reply(w, s.root.Raw)
		return
	}
	if s.answer != nil {
		s.answer(w, r)
		return
	}
	if len(r.TLS.PeerCertificates) == 0 {
		http.Error(w, "no client certificate", http.StatusUnauthorized)
		return
	}
	text, _ := io.ReadAll(r.Body)
	der, err := base64.StdEncoding.DecodeString(string(text))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil || csr.CheckSignature() != nil {
		http.Error(w, "bad request", http.StatusBadRequest)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	name := string(csr.RawSubjectPublicKeyInfo)
	if strings.HasSuffix(r.URL.Path, "/simplereenroll") || s.given[name] == nil {
		s.given[name] = s.sign(&x509.Certificate{SerialNumber: big.NewInt(int64(len(s.given) + 10)), RawSubject: csr.RawSubject, NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour)}, csr.PublicKey)
	}
	s.reply(w, s.given[name])
}

func (s *estServer) reply(w http.ResponseWriter, der []byte) {
	p7, err := pkcs7.DegenerateCertificate(der)
	if err != nil {
		s.t.Error(err)
	}
	w.Header().Set("Content-Type", "application/pkcs7-mime; smime-type=certs-only")
	text := base64.StdEncoding.EncodeToString(p7)
	for len(text) > 64 { // line breaks, as many servers send them
		_, _ = io.WriteString(w, text[:64]+"\r\n")
		text = text[64:]
	}
	_, _ = io.WriteString(w, text)
}

func (s *estServer) device(store device.KeyStore) *device.Device {
	roots := x509.NewCertPool()
	roots.AddCert(s.root)
	return &device.Device{Serial: "SN-1", Store: store, Root: s.root, Client: &device.Client{URL: s.url, Roots: roots}}
}

func fileStore(t *testing.T, dir string) *device.FileStore {
	t.Helper()
	store, err := device.OpenFileStore(dir)
	if err != nil {
		t.Fatal(err)
	}
	return store
}

func TestPowerOnAndRenew(t *testing.T) {
	s, dir, ctx := newServer(t), t.TempDir(), context.Background()
	if _, err := device.MakeBootstrap(fileStore(t, dir), "SN-1", device.P256, time.Now()); err != nil {
		t.Fatal(err)
	}
	first, err := s.device(fileStore(t, dir)).PowerOn(ctx)
	if err != nil {
		t.Fatal(err)
	}
	again, err := s.device(fileStore(t, dir)).PowerOn(ctx)
	if err != nil || !again.Leaf().Equal(first.Leaf()) {
		t.Errorf("powered on again, it has another certificate: %v", err)
	}
	renewed, err := s.device(fileStore(t, dir)).Renew(ctx, false)
	if err != nil || renewed.Leaf().Equal(first.Leaf()) || !first.Leaf().PublicKey.(*ecdsa.PublicKey).Equal(renewed.Leaf().PublicKey) {
		t.Errorf("renewal: %v", err)
	}
	rekeyed, err := s.device(fileStore(t, dir)).Renew(ctx, true)
	if err != nil || first.Leaf().PublicKey.(*ecdsa.PublicKey).Equal(rekeyed.Leaf().PublicKey) {
		t.Errorf("re-key: %v", err)
	}
}

var errCut = errors.New("power was cut")

// cutStore loses power at its n-th operation: before it or after it.
type cutStore struct {
	device.KeyStore
	left  int
	after bool
}

func (c *cutStore) step(do func() error) error {
	c.left--
	switch {
	case c.left < -1 || c.left == -1 && !c.after:
		return errCut
	case c.left == -1:
		return errors.Join(do(), errCut)
	}
	return do()
}

func (c *cutStore) Create(s device.Slot, k device.KeyKind) (made *device.Credential, err error) {
	err = c.step(func() (err error) { made, err = c.KeyStore.Create(s, k); return err })
	return made, err
}

func (c *cutStore) Certify(s device.Slot, chain []*x509.Certificate) error {
	return c.step(func() error { return c.KeyStore.Certify(s, chain) })
}

func (c *cutStore) Promote() error { return c.step(c.KeyStore.Promote) }

func TestPowerCutAtEveryStep(t *testing.T) {
	for name, work := range map[string]func(*device.Device) error{
		"power on": func(d *device.Device) error { _, err := d.PowerOn(context.Background()); return err },
		"re-key":   func(d *device.Device) error { _, err := d.Renew(context.Background(), true); return err },
	} {
		for _, after := range []bool{false, true} {
			for step := range 3 {
				s, dir := newServer(t), t.TempDir()
				if _, err := device.MakeBootstrap(fileStore(t, dir), "SN-1", device.P256, time.Now()); err != nil {
					t.Fatal(err)
				}
				if name == "re-key" {
					if _, err := s.device(fileStore(t, dir)).PowerOn(context.Background()); err != nil {
						t.Fatal(err)
					}
				}
				before := len(s.given)
				if err := work(s.device(&cutStore{fileStore(t, dir), step, after})); !errors.Is(err, errCut) {
					t.Fatalf("%s, cut at step %d: %v", name, step, err)
				}
				// power is back
				if promoted := after && step == 2; !promoted || name == "power on" {
					if err := work(s.device(fileStore(t, dir))); err != nil {
						t.Errorf("%s, after a cut at step %d: %v", name, step, err)
					}
				}
				if n := len(s.given) - before; n != 1 {
					t.Errorf("%s, after a cut at step %d (after it: %v): %d keys were certified", name, step, after, n)
				}
				official, err := fileStore(t, dir).Load(device.Official)
				if err != nil || official.Leaf() == nil {
					t.Errorf("%s, after a cut at step %d: no official certificate: %v", name, step, err)
				}
			}
		}
	}
}

func TestAnswersThatAreNoCertificate(t *testing.T) {
	ctx := context.Background()
	s := newServer(t)
	store := new(device.MemoryStore)
	if _, err := device.MakeBootstrap(store, "SN-1", device.P256, time.Now()); err != nil {
		t.Fatal(err)
	}
	s.answer = func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "120")
		http.Error(w, "the order is a draft", http.StatusAccepted)
	}
	var held *device.PendingError
	if _, err := s.device(store).PowerOn(ctx); !errors.As(err, &held) || held.RetryAfter != 2*time.Minute || held.Text != "the order is a draft" {
		t.Errorf("202: %v", err)
	}
	s.answer = func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "over-production", http.StatusForbidden)
	}
	var refused *device.StatusError
	if _, err := s.device(store).PowerOn(ctx); !errors.As(err, &refused) || !refused.Final() || refused.Text != "over-production" {
		t.Errorf("403: %v", err)
	}
	s.answer = func(w http.ResponseWriter, _ *http.Request) { s.reply(w, s.root.Raw) }
	var bad *device.ReplyError
	if _, err := s.device(store).PowerOn(ctx); !errors.As(err, &bad) {
		t.Errorf("a certificate for another key: %v", err)
	}
	s.answer = nil
	d := s.device(store)
	_, d.Root = s.authority("Another Root")
	if _, err := d.PowerOn(ctx); !errors.As(err, &bad) {
		t.Errorf("a certificate of another root: %v", err)
	}
	d.Client.Roots = x509.NewCertPool()
	var distrusted *device.TrustError
	if _, err := d.PowerOn(ctx); !errors.As(err, &distrusted) {
		t.Errorf("a server that is not trusted: %v", err)
	}
}

func FuzzParseCertsOnly(f *testing.F) {
	f.Add([]byte{0x30, 0x80, 0, 0})
	f.Fuzz(func(t *testing.T, der []byte) {
		certs, err := device.ParseCertsOnly(der)
		if (err == nil) != (len(certs) > 0) {
			t.Errorf("%d certificates and error %v", len(certs), err)
		}
	})
}
