package e2e

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/touchmark/touchmark/enroll/acme/acmetest"
	"github.com/touchmark/touchmark/internal/store/storetest"
	"github.com/touchmark/touchmark/server"
	"github.com/touchmark/touchmark/vetting"
)

// TestACMEKill kills servers again and again in the middle of what ACME clients
// ask, TOUCHMARK_KILL_ROUNDS times or a few: one server on SQLite, two on
// PostgreSQL, which each client asks in turns, request by request. The order is
// smaller than the fleet.
func TestACMEKill(t *testing.T) {
	kills := number(t, "TOUCHMARK_KILL_ROUNDS", 1, 6)
	for name, dsn := range storetest.Databases(t) {
		t.Run(name, func(t *testing.T) {
			n := 4 * (kills + 1)
			servers := []*installation{install(t, dsn)}
			if name == "postgres" {
				servers = append(servers, servers[0].sibling())
			}
			l := &balanced{t: t}
			for _, i := range servers {
				l.add(i)
				i.start()
			}
			devices := servers[0].attesting(n, n*3/4)
			answers, ended := make(chan struct{}, 100*n), make(chan map[string]*x509.Certificate, 1)
			go func() { ended <- l.enrol(devices, answers) }()
			for k := range kills {
				for range 1 + rand.IntN(3*n/kills) {
					<-answers
				}
				i := servers[k%len(servers)]
				i.kill()
				i.start()
			}
			given := <-ended
			for _, i := range servers {
				i.stop()
			}
			checkGiven(t, servers[0], given, n*3/4)
		})
	}
}

// checkGiven: the order is full, to the unit, and whoever was given a
// certificate has that one and no other.
func checkGiven(t *testing.T, i *installation, given map[string]*x509.Certificate, quantity int) {
	t.Helper()
	s := i.store()
	o, err := s.Order(t.Context(), "po-1")
	if err != nil || o.Issued != int64(quantity) || len(given) != quantity {
		t.Errorf("%d certificates were given and %d units counted of %d: %v", len(given), o.Issued, quantity, err)
	}
	eachDevice(t, s, func(d *vetting.Device) {
		cert := given[d.Serial]
		if n := oneValid(t, s, d); (n == 1) != (cert != nil) {
			t.Errorf("%s has %d certificates and was given one: %v", d.Serial, n, cert != nil)
		}
		if cert == nil {
			return
		}
		if c, err := s.Certificate(t.Context(), hex.EncodeToString(cert.SerialNumber.Bytes())); err != nil || c.State != vetting.CertificateValid || c.DeviceID != d.ID {
			t.Errorf("%s was given %x: %+v, %v", d.Serial, cert.SerialNumber, c, err)
		}
	})
	verifyLog(t, s)
}

// attesting makes an order, "po-1", for devices whose chips attest.
func (i *installation) attesting(n, quantity int) []acmetest.Device {
	i.t.Helper()
	m, err := acmetest.NewMaker()
	if err != nil {
		i.t.Fatal(err)
	}
	devices, err := m.Devices(n)
	if err != nil {
		i.t.Fatal(err)
	}
	i.manifest(quantity, acmetest.Manifest(devices), n, "attestation")
	i.changeProduct("thermo", func(p map[string]any) { p["vendors"] = []any{map[string]any{"name": "chips", "anchors": m.PEM()}} })
	return devices
}

// changeProduct replaces a product.
func (i *installation) changeProduct(name string, change func(map[string]any)) {
	i.t.Helper()
	var p map[string]any
	admin := i.admin()
	if err := admin.Do(i.t.Context(), "GET", "/products/"+name, nil, &p); err != nil {
		i.t.Fatal(err)
	}
	for field := range p {
		if !slices.Contains([]string{"revision", "profile", "proofs"}, field) {
			delete(p, field)
		}
	}
	change(p)
	if err := admin.Do(i.t.Context(), "PUT", "/products/"+name, p, nil); err != nil {
		i.t.Fatal(err)
	}
}

// balanced are servers that clients know by one name, connection by connection
// another one.
type balanced struct {
	t     *testing.T
	doors []string
	root  *x509.Certificate
	next  atomic.Int64
}

const balancedURL = "https://127.0.0.1:9"

func (b *balanced) add(i *installation) {
	door := freePort(b.t)
	i.reconfigure(func(c *server.Config) { c.ACME.Listen, c.ACME.Bound, c.ACME.URL = door, false, balancedURL })
	b.doors, b.root = append(b.doors, door), i.server().Root
}

func (b *balanced) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, "tcp", b.doors[int(b.next.Add(1))%len(b.doors)])
}

// client is one whose every request is a connection of its own, and who asks
// until it is answered.
func (b *balanced) client(answers chan<- struct{}) *acmetest.Client {
	roots := x509.NewCertPool()
	roots.AddCert(b.root)
	transport := &http.Transport{DialContext: b.dial, TLSClientConfig: &tls.Config{RootCAs: roots}, DisableKeepAlives: true}
	return &acmetest.Client{Directory: balancedURL + "/acme/directory", HTTP: &http.Client{Transport: noted{transport, answers}}, Again: func(err error) bool {
		refused := new(acmetest.Refused)
		if errors.As(err, &refused) && refused.Status < 500 {
			return false
		}
		time.Sleep(10 * time.Millisecond) // between attempts, as a client does
		return true
	}}
}

// noted tells of answers, as long as somebody listens.
type noted struct {
	http.RoundTripper
	answers chan<- struct{}
}

func (n noted) RoundTrip(r *http.Request) (*http.Response, error) {
	response, err := n.RoundTripper.RoundTrip(r)
	if err == nil {
		select {
		case n.answers <- struct{}{}:
		default:
		}
	}
	return response, err
}

// enrol enrols devices, several at a time, and gives the certificates of those
// that were let in, by serial number.
func (b *balanced) enrol(devices []acmetest.Device, answers chan<- struct{}) map[string]*x509.Certificate {
	type result struct {
		serial string
		cert   *x509.Certificate
	}
	results := make(chan result, len(devices))
	for chunk := range slices.Chunk(devices, (len(devices)+3)/4) {
		go func() {
			c := b.client(answers)
			err := c.Open(b.t.Context())
			for _, d := range chunk {
				var cert *x509.Certificate
				if err == nil {
					cert = b.enrolOne(c, d)
				}
				results <- result{d.Serial, cert}
			}
			if err != nil {
				b.t.Errorf("open an account: %v", err)
			}
		}()
	}
	given := map[string]*x509.Certificate{}
	for range devices {
		if r := <-results; r.cert != nil {
			given[r.serial] = r.cert
		}
	}
	return given
}

func (b *balanced) enrolOne(c *acmetest.Client, d acmetest.Device) *x509.Certificate {
	chain, err := c.Enrol(b.t.Context(), d)
	if invalid := new(acmetest.Invalid); errors.As(err, &invalid) {
		return nil // the order is full
	}
	block, _ := pem.Decode(chain)
	if err != nil || block == nil {
		b.t.Errorf("%s: %v: %s", d.Serial, err, chain)
		return nil
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		b.t.Error(err)
	}
	return cert
}
