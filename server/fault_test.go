package server

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/touchmark/touchmark/internal/store/storetest"
)

// wire is a TCP path to a database that can be cut and mended.
type wire struct {
	t       *testing.T
	to      func() (net.Conn, error)
	address string

	mu       sync.Mutex
	listener net.Listener
	conns    map[net.Conn]bool
}

// wired makes a database of PostgreSQL that is reached through a wire, or
// skips the test where there is none.
func wired(t *testing.T) (*wire, string) {
	t.Helper()
	if len(storetest.Kinds(t)) < 2 {
		t.Skip("TOUCHMARK_TEST_POSTGRES is not set")
	}
	u, err := url.Parse(storetest.Database(t, "postgres"))
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{t: t, address: "127.0.0.1:0", conns: map[net.Conn]bool{}}
	w.to = func() (net.Conn, error) { return net.Dial("tcp", u.Host) }
	if dir := u.Query().Get("host"); dir != "" {
		w.to = func() (net.Conn, error) { return net.Dial("unix", dir+"/.s.PGSQL.5432") }
	}
	w.mend()
	t.Cleanup(w.cut)
	u.Host, u.RawQuery = w.address, "sslmode=disable"
	return w, u.String()
}

// mend lets connections through from now on.
func (w *wire) mend() {
	w.t.Helper()
	l, err := net.Listen("tcp", w.address)
	if err != nil {
		w.t.Fatal(err)
	}
	w.listener, w.address = l, l.Addr().String()
	go func() {
		for {
			from, err := l.Accept()
			if err != nil {
				return
			}
			to, err := w.to()
			if err != nil {
				from.Close()
				continue
			}
			w.mu.Lock()
			w.conns[from], w.conns[to] = true, true
			w.mu.Unlock()
			go func() { io.Copy(to, from); to.Close() }()
			go func() { io.Copy(from, to); from.Close() }()
		}
	}()
}

// cut ends every connection and refuses new ones.
func (w *wire) cut() {
	w.listener.Close()
	w.mu.Lock()
	defer w.mu.Unlock()
	for c := range w.conns {
		c.Close()
	}
	clear(w.conns)
}

// ready reads /readyz.
func (w *works) ready() (code int, body string) {
	w.t.Helper()
	return get(w.t, http.DefaultClient, "http://"+w.server.Addrs()["ops"]+"/readyz")
}

// unavailable wants a 503 with Retry-After to an enrolment and to an
// operator's change.
func (w *works) unavailable(unit pair) {
	w.t.Helper()
	_, csr := w.request(nil)
	code, retry, body := w.post(unit, csr)
	if code != 503 || retry == "" || strings.Contains(body, "SQL") {
		w.t.Errorf("enrolment: %d, Retry-After %q, %s", code, retry, body)
	}
	resp, err := as(w.t, w.config, "admin").Post("https://"+w.server.Addrs()["api"]+"/api/v1/sites", "application/json", strings.NewReader(`{"name":"lyon"}`))
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(resp.Body)
	if resp.StatusCode != 503 || resp.Header.Get("Retry-After") == "" || resp.Header.Get("Content-Type") != "application/problem+json" {
		w.t.Errorf("an operator's change: %d %v %s", resp.StatusCode, resp.Header, text)
	}
}

func (w *works) post(unit pair, csr []byte) (code int, retry, body string) {
	w.t.Helper()
	req, err := http.NewRequestWithContext(w.t.Context(), "POST", "https://"+w.server.Addrs()["est"]+"/.well-known/est/simpleenroll", strings.NewReader(b64(csr)))
	if err != nil {
		w.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/pkcs10")
	client := w.speaks(tls.VersionTLS13, unit)
	defer client.CloseIdleConnections()
	resp, err := client.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return resp.StatusCode, resp.Header.Get("Retry-After"), string(text)
}

// The database goes away and comes back, twice: clear refusals meanwhile, and
// afterwards everything works without a restart and nothing is missing.
func TestDatabaseGone(t *testing.T) {
	path, dsn := wired(t)
	w := opened(t, func(c *Config) { c.Database = dsn })
	var units []pair
	for n := range 5 {
		units = append(units, w.build(fmt.Sprintf("S-%d", n), w.now().Add(time.Hour)))
	}
	w.enrol(tls.VersionTLS13, units[0], "simpleenroll", nil)
	for n := range 2 {
		path.cut()
		w.unavailable(units[2*n+1])
		if code, body := w.ready(); code != 503 || !strings.Contains(body, `"database":"`) {
			t.Errorf("readyz without a database: %d %s", code, body)
		}
		if code, _ := get(t, http.DefaultClient, "http://"+w.server.Addrs()["ops"]+"/healthz"); code != 200 {
			t.Errorf("healthz: %d", code)
		}
		path.mend()
		for code, body := w.ready(); code != 200; code, body = w.ready() {
			if t.Context().Err() != nil {
				t.Fatalf("not ready again: %d %s", code, body)
			}
		}
		w.enrol(tls.VersionTLS13, units[2*n+1], "simpleenroll", nil)
		w.enrol(tls.VersionTLS13, units[2*n+2], "simpleenroll", nil)
	}
	w.enrolled(5)
}

// enrolled wants so many units to be out, and a clean log.
func (w *works) enrolled(n int64) {
	w.t.Helper()
	o, err := w.server.store.Order(context.WithoutCancel(w.t.Context()), "po-1")
	if err != nil || o.Issued != n {
		w.t.Errorf("%d units issued, want %d: %v", o.Issued, n, err)
	}
	storetest.Verify(w.t, w.server.store)
}

// The clock is set back before the CA was made, back within its life, and
// forward: the first is refused until it is right, and the log's order is
// kept through all of it.
func TestClockIsSet(t *testing.T) {
	w := opened(t)
	var units []pair
	for n := range 4 {
		units = append(units, w.build(fmt.Sprintf("S-%d", n), time.Now().Add(time.Hour)))
	}
	set := func(d time.Duration) { w.ahead.Store(int64(d)) }
	w.enrol(tls.VersionTLS13, units[0], "simpleenroll", nil)

	set(-10 * 365 * 24 * time.Hour)
	_, csr := w.request(nil)
	client := w.speaks(tls.VersionTLS13, units[1])
	client.Transport.(*http.Transport).TLSClientConfig.Time = time.Now // the device's clock is right
	resp, err := client.Post("https://"+w.server.Addrs()["est"]+"/.well-known/est/simpleenroll", "application/pkcs10", strings.NewReader(b64(csr)))
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	if resp.StatusCode != 503 || resp.Header.Get("Retry-After") == "" || !strings.Contains(string(body), "clock") {
		t.Errorf("ten years back: %d %s", resp.StatusCode, body)
	}
	if code, body := w.ready(); code != 503 || !strings.Contains(body, "set the clock") {
		t.Errorf("readyz ten years back: %d %s", code, body)
	}

	set(30 * 24 * time.Hour)
	w.enrol(tls.VersionTLS13, units[1], "simpleenroll", nil)
	set(0) // back by a month
	w.enrol(tls.VersionTLS13, units[2], "simpleenroll", nil)
	w.enrol(tls.VersionTLS13, units[3], "simpleenroll", nil)
	if code, body := w.ready(); code != 200 {
		t.Errorf("readyz: %d %s", code, body)
	}
	w.enrolled(4)
}
