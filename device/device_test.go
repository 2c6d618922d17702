package device_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/touchmark/touchmark/device"
	"github.com/touchmark/touchmark/device/devicetest"
)

func newDevice(s *devicetest.Server, store device.KeyStore) *device.Device {
	roots := x509.NewCertPool()
	roots.AddCert(s.Root)
	return &device.Device{Serial: "SN-1", Store: store, Root: s.Root, Client: &device.Client{URL: s.URL, Roots: roots}}
}

func fileStore(t *testing.T, dir string) *device.FileStore {
	t.Helper()
	store, err := device.OpenFileStore(dir)
	if err != nil {
		t.Fatal(err)
	}
	return store
}

// built is the store of a unit fresh from the line.
func built(t *testing.T) *device.MemoryStore {
	t.Helper()
	store := new(device.MemoryStore)
	if _, err := device.MakeBootstrap(store, "SN-1", device.P256, time.Now()); err != nil {
		t.Fatal(err)
	}
	return store
}

func TestPowerOnAndRenew(t *testing.T) {
	s, dir, ctx := devicetest.New(t), t.TempDir(), context.Background()
	if _, err := device.MakeBootstrap(fileStore(t, dir), "SN-1", device.P256, time.Now()); err != nil {
		t.Fatal(err)
	}
	first, err := newDevice(s, fileStore(t, dir)).PowerOn(ctx)
	if err != nil {
		t.Fatal(err)
	}
	again, err := newDevice(s, fileStore(t, dir)).PowerOn(ctx)
	if err != nil || !again.Leaf().Equal(first.Leaf()) {
		t.Errorf("powered on again, it has another certificate: %v", err)
	}
	renewed, err := newDevice(s, fileStore(t, dir)).Renew(ctx, false)
	if err != nil || renewed.Leaf().Equal(first.Leaf()) || !first.Leaf().PublicKey.(*ecdsa.PublicKey).Equal(renewed.Leaf().PublicKey) {
		t.Errorf("renewal: %v", err)
	}
	rekeyed, err := newDevice(s, fileStore(t, dir)).Renew(ctx, true)
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
				s, dir := devicetest.New(t), t.TempDir()
				if _, err := device.MakeBootstrap(fileStore(t, dir), "SN-1", device.P256, time.Now()); err != nil {
					t.Fatal(err)
				}
				if name == "re-key" {
					if _, err := newDevice(s, fileStore(t, dir)).PowerOn(context.Background()); err != nil {
						t.Fatal(err)
					}
				}
				before := s.Keys()
				if err := work(newDevice(s, &cutStore{fileStore(t, dir), step, after})); !errors.Is(err, errCut) {
					t.Fatalf("%s, cut at step %d: %v", name, step, err)
				}
				// power is back
				if promoted := after && step == 2; !promoted || name == "power on" {
					if err := work(newDevice(s, fileStore(t, dir))); err != nil {
						t.Errorf("%s, after a cut at step %d: %v", name, step, err)
					}
				}
				if n := s.Keys() - before; n != 1 {
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

// respond makes a server answer every enrolment in one way.
func respond(status int, retryAfter, text string) func(http.ResponseWriter, *x509.Certificate, *x509.CertificateRequest) bool {
	return func(w http.ResponseWriter, _ *x509.Certificate, _ *x509.CertificateRequest) bool {
		if retryAfter != "" {
			w.Header().Set("Retry-After", retryAfter)
		}
		http.Error(w, text, status)
		return true
	}
}

func TestAnswersThatGrantNothing(t *testing.T) {
	for _, c := range []struct {
		status           int
		retryAfter, text string
		held, final      bool
		wait             time.Duration
	}{
		{202, "120", "the order is a draft", true, false, 2 * time.Minute},
		{202, "", "", true, false, 30 * time.Second},
		{403, "", "over-production", false, true, 0},
		{400, "", "not a request", false, true, 0},
		{501, "", "not here", false, true, 0},
		{403, "3600", "too early", false, false, time.Hour},
		{503, "7", "busy", false, false, 7 * time.Second},
		{429, "nonsense", "slower", false, false, 0},
		{500, "", "", false, false, 0},
		{302, "", "elsewhere", false, true, 0},
	} {
		s, store := devicetest.New(t), built(t)
		s.Answer = respond(c.status, c.retryAfter, c.text)
		_, err := newDevice(s, store).PowerOn(context.Background())
		var held *device.PendingError
		var status *device.StatusError
		switch {
		case c.held:
			if !errors.As(err, &held) || held.RetryAfter != c.wait || held.Text != c.text {
				t.Errorf("%d: %v", c.status, err)
			}
		case !errors.As(err, &status) || status.Status != c.status || status.Final() != c.final || status.RetryAfter != c.wait || status.Text != c.text:
			t.Errorf("%d: %#v", c.status, err)
		}
		if _, err := store.Load(device.Official); !errors.Is(err, device.ErrEmpty) {
			t.Errorf("%d: an official slot: %v", c.status, err)
		}
	}
}

func TestCertificatesThatAreRefused(t *testing.T) {
	other := built(t)
	foreign, err := other.Load(device.Bootstrap)
	if err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(*devicetest.Server){
		"for another key": func(s *devicetest.Server) {
			s.Answer = func(w http.ResponseWriter, _ *x509.Certificate, _ *x509.CertificateRequest) bool {
				s.Reply(w, foreign.Leaf().Raw)
				return true
			}
		},
		"two at once": func(s *devicetest.Server) {
			s.Answer = func(w http.ResponseWriter, _ *x509.Certificate, csr *x509.CertificateRequest) bool {
				s.Reply(w, s.Certify(csr), s.Root.Raw)
				return true
			}
		},
		"expired": func(s *devicetest.Server) {
			s.Template = func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }
		},
		"not base64": func(s *devicetest.Server) { s.Answer = respond(200, "", "%%%") },
		"not CMS":    func(s *devicetest.Server) { s.Answer = respond(200, "", "AAAA") },
		"empty":      func(s *devicetest.Server) { s.Answer = respond(200, "", "") },
		"endless":    func(s *devicetest.Server) { s.Answer = respond(200, "", strings.Repeat("A", 300<<10)) },
	} {
		s, store := devicetest.New(t), built(t)
		spoil(s)
		_, err := newDevice(s, store).PowerOn(context.Background())
		var bad *device.ReplyError
		if !errors.As(err, &bad) {
			t.Errorf("a certificate %s: %v", name, err)
		}
		if _, err := store.Load(device.Official); !errors.Is(err, device.ErrEmpty) {
			t.Errorf("a certificate %s was kept: %v", name, err)
		}
	}
}

func TestForeignRoots(t *testing.T) {
	s, store := devicetest.New(t), built(t)
	d := newDevice(s, store)
	d.Root = devicetest.NewAuthority(t, "Another Root", nil).Cert
	var bad *device.ReplyError
	if _, err := d.PowerOn(context.Background()); !errors.As(err, &bad) {
		t.Errorf("a certificate of another root: %v", err)
	}
	d.Client.Roots = x509.NewCertPool()
	var distrusted *device.TrustError
	if _, err := d.PowerOn(context.Background()); !errors.As(err, &distrusted) {
		t.Errorf("a server that is not trusted: %v", err)
	}
	n := s.Seen("simpleenroll")
	if n != 1 {
		t.Errorf("the server saw %d requests: one went to a server that is not trusted", n)
	}
}

// TestIssuerRollOver: the device was built with the CAs of its day, and the
// server has a new one.
func TestIssuerRollOver(t *testing.T) {
	s := devicetest.New(t)
	d := newDevice(s, built(t))
	cas, err := d.Client.CACerts(context.Background(), nil)
	if err != nil {
		t.Fatal(err)
	}
	d.CAs = cas
	s.NewIssuer()
	c, err := d.PowerOn(context.Background())
	if err != nil || len(c.Chain) != 2 || c.Chain[1].Subject.CommonName != "Second Device CA" {
		t.Errorf("the certificate of a CA that the device did not know: %v", err)
	}
}

// TestRepeatedNames: a renewal repeats subject and subjectAltName as they
// stand in the certificate, even critical ones that no library knows.
func TestRepeatedNames(t *testing.T) {
	s := devicetest.New(t)
	san := hardwareName(t)
	s.Template = func(c *x509.Certificate) {
		if len(c.ExtraExtensions) == 0 {
			c.ExtraExtensions = append(c.ExtraExtensions, san)
		}
	}
	d := newDevice(s, built(t))
	first, err := d.PowerOn(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	var asked *x509.CertificateRequest
	s.Set(func(s *devicetest.Server) {
		s.Answer = func(_ http.ResponseWriter, _ *x509.Certificate, csr *x509.CertificateRequest) bool {
			asked = csr
			return false
		}
	})
	if _, err := d.Renew(context.Background(), true); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(asked.RawSubject, first.Leaf().RawSubject) {
		t.Errorf("the renewal asks for %s instead of %s", asked.Subject, first.Leaf().Subject)
	}
	if len(asked.Extensions) != 1 || !slices.Equal(asked.Extensions[0].Value, san.Value) || !asked.Extensions[0].Critical {
		t.Errorf("the renewal asks for the extensions %v", asked.Extensions)
	}
}

// lossy loses the answer of the first n requests.
type lossy struct {
	next http.RoundTripper
	left *int
}

func (l lossy) RoundTrip(r *http.Request) (*http.Response, error) {
	response, err := l.next.RoundTrip(r)
	if *l.left--; err == nil && *l.left >= 0 {
		_ = response.Body.Close()
		return nil, errors.New("the answer was lost")
	}
	return response, err
}

// TestLostReply: after a lost answer the same key is asked for again, over
// first enrolment and re-key.
func TestLostReply(t *testing.T) {
	s, left := devicetest.New(t), 2
	d := newDevice(s, fileStore(t, t.TempDir()))
	if _, err := device.MakeBootstrap(d.Store, "SN-1", device.P256, time.Now()); err != nil {
		t.Fatal(err)
	}
	d.Client.Transport = func(cfg *tls.Config) http.RoundTripper {
		return lossy{&http.Transport{TLSClientConfig: cfg, DisableKeepAlives: true}, &left}
	}
	work := []func() error{
		func() error { _, err := d.PowerOn(context.Background()); return err },
		func() error { _, err := d.Renew(context.Background(), true); return err },
	}
	for i, do := range work {
		left = 2
		var broken *device.LineError
		for range 2 {
			if err := do(); !errors.As(err, &broken) {
				t.Fatalf("a lost answer: %v", err)
			}
		}
		if err := do(); err != nil {
			t.Fatal(err)
		}
		if n := s.Keys(); n != i+1 {
			t.Errorf("step %d: %d keys were certified", i, n)
		}
	}
}

func TestTLSVersions(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		s := devicetest.New(t)
		d := newDevice(s, built(t))
		d.Client.Transport = func(cfg *tls.Config) http.RoundTripper {
			cfg.MaxVersion = version
			return &http.Transport{TLSClientConfig: cfg, DisableKeepAlives: true}
		}
		if _, err := d.PowerOn(context.Background()); err != nil {
			t.Errorf("%s: %v", tls.VersionName(version), err)
		}
	}
}

func TestHangingServer(t *testing.T) {
	hang := make(chan struct{})
	server := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-hang }))
	defer server.Close()
	defer close(hang)
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	client := &device.Client{URL: server.URL, Roots: roots, Timeout: time.Millisecond}
	var broken *device.LineError
	if _, err := client.CACerts(context.Background(), nil); !errors.As(err, &broken) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a server that hangs: %v", err)
	}
}

func TestEveryKindOfKey(t *testing.T) {
	for _, kind := range []device.KeyKind{device.P256, device.P384, device.Ed25519, device.RSA2048} {
		s, store := devicetest.New(t), fileStore(t, t.TempDir())
		if _, err := device.MakeBootstrap(store, "SN-1", kind, time.Now()); err != nil {
			t.Fatal(err)
		}
		d := newDevice(s, store)
		d.Kind = kind
		c, err := d.PowerOn(context.Background())
		if err != nil {
			t.Fatalf("%s: %v", kind, err)
		}
		if err := d.Use(context.Background()); err != nil || !s.Used(c.Leaf()) {
			t.Errorf("%s: used: %v", kind, err)
		}
	}
	if _, err := new(device.MemoryStore).Create(device.Pending, "DSA-512"); err == nil {
		t.Error("a key of an unknown kind was made")
	}
}
