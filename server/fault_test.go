package server

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/internal/store/storetest"
	"github.com/touchmark/touchmark/vetting"
)

// wire is a TCP path to a database that can be cut, stopped and mended.
type wire struct {
	t       *testing.T
	to      func() (net.Conn, error)
	address string

	mu       sync.Mutex
	listener net.Listener
	conns    map[net.Conn]bool
	stopped  chan struct{} // closed when bytes flow
	until    []byte        // let through to the database, and then it stops
	fatal    []byte        // not let through: the wire is cut before it
}

// wired makes a database of PostgreSQL that is reached through a wire.
func wired(t *testing.T) (*wire, string) {
	t.Helper()
	u, err := url.Parse(storetest.Postgres(t))
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{t: t, address: "127.0.0.1:0", conns: map[net.Conn]bool{}, stopped: make(chan struct{})}
	close(w.stopped)
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
			go w.carry(to, from, true)
			go w.carry(from, to, false)
		}
	}()
}

// carry copies bytes as long as they flow.
func (w *wire) carry(to, from net.Conn, there bool) {
	defer to.Close()
	buffer := make([]byte, 64<<10)
	for {
		n, err := from.Read(buffer)
		if err != nil {
			return
		}
		w.mu.Lock()
		stopped := w.stopped
		if there && w.fatal != nil && bytes.Contains(buffer[:n], w.fatal) {
			w.fatal = nil
			w.mu.Unlock()
			w.cut()
			return
		}
		if there && w.until != nil && bytes.Contains(buffer[:n], w.until) {
			w.until, w.stopped = nil, make(chan struct{})
		}
		w.mu.Unlock()
		<-stopped
		if _, err := to.Write(buffer[:n]); err != nil {
			return
		}
	}
}

// commit is how PostgreSQL is sent it; "READ COMMITTED" is something else.
const commit = "COMMIT\x00"

// stop makes the wire swallow what is sent, and say nothing, until it flows
// again; with a text, from the first time on that the text was sent.
func (w *wire) stop(after string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.until = []byte(after); after == "" {
		w.until, w.stopped = nil, make(chan struct{})
	}
}

// cutAt cuts the wire when a text is sent, which does not arrive.
func (w *wire) cutAt(text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.fatal = []byte(text)
}

// waits reports whether the text of cutAt was not sent yet.
func (w *wire) waits() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.fatal != nil
}

// flow lets through what was held up, and all that follows.
func (w *wire) flow() {
	w.mu.Lock()
	defer w.mu.Unlock()
	close(w.stopped)
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
	w.changeFails("lyon")
}

// changeFails wants a 503 with Retry-After to an operator who makes a site.
func (w *works) changeFails(site string) {
	w.t.Helper()
	resp, err := as(w.t, w.config, "admin").Post("https://"+w.server.Addrs()["api"]+"/api/v1/sites", "application/json", strings.NewReader(`{"name":"`+site+`"}`))
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
	resp, text := w.send(tls.VersionTLS13, unit, "POST", "/.well-known/est/simpleenroll", b64(csr), "Content-Type", "application/pkcs10")
	return resp.StatusCode, resp.Header.Get("Retry-After"), text
}

// The database goes away and comes back, twice, and once more in the middle of
// an operator's change: clear refusals meanwhile, and afterwards everything
// works without a restart, nothing is missing and nothing half done.
func TestDatabaseGone(t *testing.T) {
	path, dsn := wired(t)
	w := opened(t, func(c *Config) { c.Database = dsn })
	w.enter("admin")
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
		w.again()
		w.enrol(tls.VersionTLS13, units[2*n+1], "simpleenroll", nil)
		w.enrol(tls.VersionTLS13, units[2*n+2], "simpleenroll", nil)
	}
	path.cutAt("lyon") // nothing but the change itself says that
	w.changeFails("lyon")
	if path.waits() {
		t.Error("the operator's change did not reach the database")
	}
	path.mend()
	w.again()
	send(t, as(t, w.config, "admin"), "POST", "https://"+w.server.Addrs()["api"]+"/api/v1/sites", map[string]string{"name": "lyon"}, http.StatusCreated)
	w.enrolled(5)
}

// impatient makes a server that soon gives a database up.
func impatient(dsn string) func(*Config) {
	return func(c *Config) {
		c.Database, c.DatabaseTimeout = dsn, Duration(3*time.Second)
		c.EST.RequestTimeout = Duration(5 * time.Second)
		c.Status.CRL.Interval, c.Status.Offline.Every = 0, 0 // which would write when they please
	}
}

// unreadable wants a 503 with Retry-After to an operator's question.
func (w *works) unreadable() {
	w.t.Helper()
	resp, err := as(w.t, w.config, "admin").Get("https://" + w.server.Addrs()["api"] + "/api/v1/orders")
	if err != nil {
		w.t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 503 || resp.Header.Get("Retry-After") == "" {
		w.t.Errorf("an operator's question: %d %v", resp.StatusCode, resp.Header)
	}
}

// enter makes an operator known whom init told another database of.
func (w *works) enter(name string) {
	w.t.Helper()
	pair, err := tls.LoadX509KeyPair(filepath.Join(w.config.Dir, name+".crt"), filepath.Join(w.config.Dir, name+".key"))
	if err != nil {
		w.t.Fatal(err)
	}
	o := &access.Operator{Name: name, Role: access.RoleAdmin, Key: vetting.KeyFingerprint(pair.Leaf.RawSubjectPublicKeyInfo)}
	if _, err := w.server.store.CreateOperator(w.t.Context(), storetest.By, o); err != nil {
		w.t.Fatal(err)
	}
}

// again waits until the server is ready.
func (w *works) again() {
	w.t.Helper()
	for code, body := w.ready(); code != 200; code, body = w.ready() {
		if w.t.Context().Err() != nil {
			w.t.Fatalf("not ready again: %d %s", code, body)
		}
	}
}

// The database, or the network before it, hangs: no connection ends, and
// nothing is answered. That is refused as clearly as if it were gone, and
// ends when it goes on, whether the old connections come back or not.
func TestDatabaseHangs(t *testing.T) {
	path, dsn := wired(t)
	w := opened(t, impatient(dsn))
	var units []pair
	for n := range 5 {
		units = append(units, w.build(fmt.Sprintf("S-%d", n), w.now().Add(time.Hour)))
	}
	w.enrol(tls.VersionTLS13, units[0], "simpleenroll", nil)
	for n, goesOn := range []func(){path.flow, func() { path.cut(); path.flow(); path.mend() }} {
		path.stop("")
		w.unavailable(units[2*n+1])
		if n == 0 {
			w.unreadable()
		}
		if code, body := w.ready(); code != 503 || !strings.Contains(body, `"database":"`) {
			t.Errorf("readyz with a database that hangs: %d %s", code, body)
		}
		goesOn()
		w.again()
		w.enrol(tls.VersionTLS13, units[2*n+1], "simpleenroll", nil)
		w.enrol(tls.VersionTLS13, units[2*n+2], "simpleenroll", nil)
	}
	w.enrolled(5)
}

// The commit was sent and its answer never came: who asked is told to come
// again, and finds what is in the database.
func TestCommitIsNotConfirmed(t *testing.T) {
	path, dsn := wired(t)
	w := opened(t, impatient(dsn), func(c *Config) { c.Audit.Interval = Duration(time.Hour) }) // nobody else commits
	unit := w.build("S-0", w.now().Add(time.Hour))
	_, csr := w.request(nil)
	path.stop(commit)
	if code, retry, body := w.post(unit, csr); code != 503 || retry == "" {
		t.Errorf("%d, Retry-After %q, %s", code, retry, body)
	}
	path.cut()
	path.flow()
	path.mend()
	w.again()
	w.enrolled(1)
	code, _, body := w.post(unit, csr)
	if code != 200 {
		t.Fatalf("asked again: %d %s", code, body)
	}
	w.enrolled(1)

	w.enter("admin")
	path.stop(commit)
	w.changeFails("lyon")
	path.flow()
	w.again()
	admin, sites := as(t, w.config, "admin"), "https://"+w.server.Addrs()["api"]+"/api/v1/sites"
	send(t, admin, "POST", sites, map[string]string{"name": "lyon"}, http.StatusConflict)
	send(t, admin, "POST", sites, map[string]string{"name": "porto"}, http.StatusCreated)
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
