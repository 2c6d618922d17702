package server

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/touchmark/touchmark/enroll"
	"github.com/touchmark/touchmark/vetting"
)

// served runs a server whose configuration and handlers are changed.
func served(t *testing.T, change func(*Config), wrap map[string]func(http.Handler) http.Handler) (*Server, *Config) {
	t.Helper()
	c := initialized(t, Plan{})
	change(c)
	if err := c.Check(); err != nil {
		t.Fatal(err)
	}
	s := made(t, c)
	for _, d := range s.doors {
		if w := wrap[d.name]; w != nil {
			d.bounds.Handler = w(d.bounds.Handler)
		}
	}
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s, c
}

// made is a server that is not started yet; it is stopped at the end.
func made(t *testing.T, c *Config) *Server {
	t.Helper()
	s, err := New(t.Context(), c, Environment{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Stop(context.WithoutCancel(t.Context())); err != nil {
			t.Errorf("stop: %v", err)
		}
	})
	return s
}

// gated lets requests for /wait begin and holds them there.
type gated struct{ begun, proceed chan struct{} }

func newGated() *gated { return &gated{make(chan struct{}, 100), make(chan struct{})} }

func (g *gated) wrap(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/wait" {
			g.begun <- struct{}{}
			<-g.proceed
			return
		}
		h.ServeHTTP(w, r)
	})
}

func (s *Server) wasShed(door, bound string) float64 {
	return testutil.ToFloat64(s.metrics.shed.WithLabelValues(door, bound))
}

// A request beyond the bound is answered at once, and those inside go on.
func TestRequestsAreBounded(t *testing.T) {
	for door, kind := range map[string]string{"est": "text/plain", "api": "application/problem+json"} {
		g := newGated()
		s, c := served(t, func(c *Config) { c.EST.MaxRequests, c.API.MaxRequests = 2, 2 },
			map[string]func(http.Handler) http.Handler{door: g.wrap})
		base := "https://" + s.Addrs()[door]
		inside := make(chan int, 2)
		for range 2 {
			go func() {
				code, _ := get(t, as(t, c, ""), base+"/wait")
				inside <- code
			}()
			<-g.begun
		}
		resp, err := as(t, c, "").Get(base + "/.well-known/est/cacerts")
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != 503 || resp.Header.Get("Retry-After") != "1" || !strings.HasPrefix(resp.Header.Get("Content-Type"), kind) {
			t.Errorf("%s: beyond the bound: %d %v %s", door, resp.StatusCode, resp.Header, body)
		}
		if door == "api" {
			var p struct{ Status int }
			if err := json.Unmarshal(body, &p); err != nil || p.Status != 503 {
				t.Errorf("problem %s: %v", body, err)
			}
		}
		if n := s.wasShed(door, shedRequests); n != 1 {
			t.Errorf("%s: %v counted", door, n)
		}
		if n := testutil.ToFloat64(s.metrics.working.WithLabelValues(door)); n != 2 {
			t.Errorf("%s: %v in progress", door, n)
		}
		close(g.proceed)
		for range 2 {
			if code := <-inside; code != 200 {
				t.Errorf("%s: inside: %d", door, code)
			}
		}
		if code, _ := get(t, as(t, c, ""), base+"/.well-known/est/cacerts"); code == 503 {
			t.Errorf("%s: afterwards: %d", door, code)
		}
	}
}

// A body that does not come takes no place from those that are there.
func TestSlowBodiesTakeNoPlace(t *testing.T) {
	w := opened(t, func(c *Config) { c.EST.MaxRequests = 1 })
	unit := w.build("S-1", w.now().Add(time.Hour))
	var slow []*tls.Conn
	for range 5 {
		conn, err := tls.Dial("tcp", w.server.Addrs()["est"], w.speaks(tls.VersionTLS13, unit).Transport.(*http.Transport).TLSClientConfig)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		// The answer "100 Continue" shows that the handler reads the body.
		io.WriteString(conn, "POST /.well-known/est/simpleenroll HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/pkcs10\r\nContent-Length: 1000\r\nExpect: 100-continue\r\n\r\n")
		if line, err := bufio.NewReader(conn).ReadString('\n'); err != nil || !strings.Contains(line, "100") {
			t.Fatalf("%q %v", line, err)
		}
		io.WriteString(conn, "MIIB")
		slow = append(slow, conn)
	}
	w.enrol(tls.VersionTLS13, unit, "simpleenroll", nil)
	if n := w.server.wasShed("est", shedRequests); n != 0 {
		t.Errorf("%v requests were turned away", n)
	}
	// Whoever comes to an end after all is answered.
	io.WriteString(slow[0], strings.Repeat("A", 996))
	resp, err := http.ReadResponse(bufio.NewReader(slow[0]), nil)
	if err != nil || resp.StatusCode != 400 {
		t.Errorf("the slow one: %v %v", resp, err)
	}
}

// Whoever waited for its body when its time ran out gives no place back that
// it does not have.
func TestPlaceIsGivenBackOnce(t *testing.T) {
	m := testMetrics()
	ctx, cancel := context.WithCancel(t.Context())
	b := bounded(door{name: "est", limits: Limits{MaxRequests: 1}}, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, err := r.Body.Read(make([]byte, 1))
		if !errors.Is(err, context.Canceled) {
			t.Errorf("read: %v", err)
		}
	}), m)
	body := readerFunc(func([]byte) (int, error) {
		b.places <- struct{}{} // somebody else came
		cancel()
		return 1, nil
	})
	b.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("POST", "/", body).WithContext(ctx))
	if len(b.places) != 1 {
		t.Errorf("%d places are taken, want the other's", len(b.places))
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(b []byte) (int, error) { return f(b) }

func TestRequestRate(t *testing.T) {
	served := 0
	b := bounded(door{name: "est", limits: Limits{MaxRequests: 1, RequestRate: 2}, exempt: networks{neighbourhoodOf(t, "198.51.100.1")}},
		http.HandlerFunc(func(http.ResponseWriter, *http.Request) { served++ }), testMetrics())
	limiter, pass := frozen[neighbour](2)
	b.rates = limiter
	ask := func(from string) *httptest.ResponseRecorder {
		r, w := httptest.NewRequest("GET", "/", nil), httptest.NewRecorder()
		r.RemoteAddr = from
		b.ServeHTTP(w, r)
		return w
	}
	for n := range leastBurst {
		if w := ask("[2001:db8::1]:99"); w.Code != 200 {
			t.Fatalf("request %d: %d", n, w.Code)
		}
	}
	w := ask("[2001:db8::2]:100") // another address of the same /64
	if w.Code != 429 || w.Header().Get("Retry-After") != "1" || w.Header().Get("Connection") != "close" {
		t.Errorf("too many: %d %v", w.Code, w.Header())
	}
	if w := ask("[2001:db8:0:1::2]:100"); w.Code != 200 {
		t.Errorf("another network: %d", w.Code)
	}
	for range 3 * leastBurst {
		if w := ask("198.51.100.1:5"); w.Code != 200 {
			t.Fatalf("exempt: %d", w.Code)
		}
	}
	pass(time.Second)
	if w := ask("[2001:db8::1]:99"); w.Code != 200 {
		t.Errorf("a second later: %d", w.Code)
	}
	if want := leastBurst + 1 + 3*leastBurst + 1; served != want {
		t.Errorf("%d requests were served, want %d", served, want)
	}
}

// Keys have their rate, and the rigs of a site have theirs together.
func TestFairEnroller(t *testing.T) {
	m := testMetrics()
	f := newFairEnroller(Enrol{}, nil, m, fixed{out: enroll.Outcome{Verdict: vetting.Admitted}})
	f.devices, _ = frozen[vetting.Fingerprint](1)
	f.sites, _ = frozen[string](15)
	ask := func(auth vetting.Auth) error {
		_, err := f.Enroll(t.Context(), enroll.Request{Claim: vetting.Claim{Transport: "est", Auth: auth}})
		return err
	}
	until := func(auths ...vetting.Auth) (n int, err error) {
		for ; err == nil && n < 1000; n++ {
			err = ask(auths[n%len(auths)])
		}
		return n - 1, err
	}
	var busy *enroll.BusyError
	n, err := until(vetting.Auth{Proof: vetting.ProofBootstrapKey, Key: vetting.Fingerprint{1}})
	if n != 20 || !errors.As(err, &busy) || !busy.Share || busy.RetryAfter != time.Second {
		t.Errorf("a device: %d, %v", n, err)
	}
	if err := ask(vetting.Auth{Proof: vetting.ProofOfficial, Key: vetting.Fingerprint{2}}); err != nil {
		t.Errorf("another device: %v", err)
	}
	n, err = until(vetting.Auth{Proof: vetting.ProofRig, Key: vetting.Fingerprint{1}, Site: "lyon"}, vetting.Auth{Proof: vetting.ProofRig, Key: vetting.Fingerprint{3}, Site: "lyon"})
	if n != 30 || !errors.As(err, &busy) || !strings.Contains(err.Error(), "lyon") {
		t.Errorf("two rigs of a site: %d, %v", n, err)
	}
	if err := ask(vetting.Auth{Proof: vetting.ProofRig, Key: vetting.Fingerprint{1}, Site: "penang"}); err != nil {
		t.Errorf("another site: %v", err)
	}
	f.enroller = fixed{err: &enroll.BusyError{Reason: "full"}}
	if err := ask(vetting.Auth{Key: vetting.Fingerprint{4}}); !errors.As(err, &busy) || busy.Reason != "full" {
		t.Errorf("the store's refusal: %v", err)
	}
	for bound, want := range map[string]float64{shedDeviceRate: 1, shedSiteRate: 1, shedQueue: 1} {
		if n := testutil.ToFloat64(m.shed.WithLabelValues("est", bound)); n != want {
			t.Errorf("%s: %v counted", bound, n)
		}
	}
}
