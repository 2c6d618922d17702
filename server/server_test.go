package server

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/touchmark/touchmark/internal/store"
)

func TestServes(t *testing.T) {
	c := initialized(t, Plan{})
	s := started(t, c)
	addr := s.Addrs()
	code, body := get(t, as(t, c, "admin"), "https://"+addr["api"]+"/api/v1/whoami")
	if code != 200 {
		t.Errorf("whoami: %d", code)
	}
	wantContains(t, body, `"admin"`)
	code, body = get(t, as(t, c, ""), "https://"+addr["api"]+"/audit/checkpoint")
	if code != 200 {
		t.Errorf("checkpoint: %d", code)
	}
	wantContains(t, body, "localhost/audit\n")
	if code, _ := get(t, as(t, c, ""), "https://"+addr["est"]+"/.well-known/est/cacerts"); code != 200 {
		t.Errorf("cacerts: %d", code)
	}
	if code, _ := get(t, as(t, c, ""), "https://"+addr["api"]+"/api/v1/whoami"); code != 401 && code != 403 {
		t.Errorf("whoami without a certificate: %d", code)
	}
}

func TestOps(t *testing.T) {
	c := initialized(t, Plan{})
	s := started(t, c)
	ops := "http://" + s.Addrs()["ops"]
	if code, body := get(t, http.DefaultClient, ops+"/healthz"); code != 200 || body != "ok\n" {
		t.Errorf("healthz: %d %q", code, body)
	}
	code, body := get(t, http.DefaultClient, ops+"/readyz")
	if code != 200 {
		t.Errorf("readyz: %d", code)
	}
	wantContains(t, body, `"ready":true`, `"database":"ok"`, `"checkpoint":"ok"`, `"certificates":"ok"`)
	_, body = get(t, http.DefaultClient, ops+"/metrics")
	wantContains(t, body, `touchmark_certificate_expiry_seconds{name="device-ca"}`, `touchmark_certificate_expiry_seconds{name="server"}`,
		"touchmark_commit_batch_size_bucket", "touchmark_log_checkpoint_size ", "go_goroutines", "process_open_fds", "touchmark_open_orders 0", "touchmark_build_info")
	if strings.Contains(body, "touchmark_log_checkpoint_size 0\n") {
		t.Error("no checkpoint was published")
	}
}

// The expectation is written out: a change of TLS settings must be meant.
func TestTLS(t *testing.T) {
	c := initialized(t, Plan{})
	s := started(t, c)
	base := as(t, c, "").Transport.(*http.Transport).TLSClientConfig
	for _, door := range []string{"est", "api"} {
		dial := func(change func(*tls.Config)) (tls.ConnectionState, error) {
			cfg := base.Clone()
			change(cfg)
			conn, err := tls.Dial("tcp", s.Addrs()[door], cfg)
			if err != nil {
				return tls.ConnectionState{}, err
			}
			defer conn.Close()
			return conn.ConnectionState(), nil
		}
		if _, err := dial(func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS11 }); err == nil {
			t.Errorf("%s: TLS 1.1 was accepted", door)
		}
		if _, err := dial(func(c *tls.Config) {
			c.MaxVersion, c.CipherSuites = tls.VersionTLS12, []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA}
		}); err == nil {
			t.Errorf("%s: CBC was accepted", door)
		}
		got, err := dial(func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 })
		if err != nil || got.Version != tls.VersionTLS12 {
			t.Errorf("%s: TLS 1.2: %v", door, err)
		}
		got, err = dial(func(c *tls.Config) { c.NextProtos = []string{"h2", "http/1.1"} })
		if err != nil || got.Version != tls.VersionTLS13 || got.NegotiatedProtocol != "http/1.1" {
			t.Errorf("%s: %x %q %v", door, got.Version, got.NegotiatedProtocol, err)
		}
		cache := tls.NewLRUClientSessionCache(4)
		for range 2 {
			conn, err := tls.Dial("tcp", s.Addrs()[door], &tls.Config{RootCAs: base.RootCAs, ServerName: "localhost", ClientSessionCache: cache})
			if err != nil {
				t.Fatal(err)
			}
			io.WriteString(conn, "GET / HTTP/1.0\r\n\r\n")
			io.Copy(io.Discard, conn) // a ticket would come with the answer
			if conn.ConnectionState().DidResume {
				t.Errorf("%s: a session was resumed without the client's key", door)
			}
			conn.Close()
		}
	}
}

func TestRefusesToStart(t *testing.T) {
	refusal := func(t *testing.T, c *Config) error {
		t.Helper()
		s, err := New(t.Context(), c, Environment{})
		if err == nil {
			s.Stop(t.Context())
			t.Fatal("it started")
		}
		bad := false
		for _, f := range Check(t.Context(), c, Environment{}) {
			bad = bad || f.Err != nil
		}
		if !bad {
			t.Errorf("Check found nothing, though the server would not start: %v", err)
		}
		return err
	}
	t.Run("database of another CA", func(t *testing.T) {
		a, b := initialized(t, Plan{}), initialized(t, Plan{})
		a.Database = b.DSN()
		wantContains(t, refusal(t, a).Error(), "belongs to another CA")
	})
	t.Run("key of another certificate", func(t *testing.T) {
		c := initialized(t, Plan{})
		key := func(name string) string { return filepath.Join(c.Dir, "keys", name+".key") }
		if err := os.Rename(key("factory-ca"), key("device-ca")); err != nil {
			t.Fatal(err)
		}
		wantContains(t, refusal(t, c).Error(), "is not the key of the certificate")
	})
	t.Run("log behind its checkpoint", func(t *testing.T) {
		c := initialized(t, Plan{})
		before, err := os.ReadFile(strings.TrimPrefix(c.DSN(), "sqlite:"))
		if err != nil {
			t.Fatal(err)
		}
		s := started(t, c)
		send(t, as(t, c, "admin"), "POST", "https://"+s.Addrs()["api"]+"/api/v1/sites", map[string]string{"name": "lyon"}, 201)
		if err := s.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
		for _, end := range []string{"-wal", "-shm"} {
			if err := os.Remove(strings.TrimPrefix(c.DSN(), "sqlite:") + end); err != nil && !errors.Is(err, fs.ErrNotExist) {
				t.Fatal(err)
			}
		}
		if err := os.WriteFile(strings.TrimPrefix(c.DSN(), "sqlite:"), before, 0o600); err != nil {
			t.Fatal(err)
		}
		wantContains(t, refusal(t, c).Error(), "rolled back")
	})
	t.Run("another log name", func(t *testing.T) {
		c := initialized(t, Plan{})
		if err := started(t, c).Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
		c.Audit.Origin = "elsewhere.test/audit"
		refusal(t, c)
	})
}

func TestPortInUse(t *testing.T) {
	c := initialized(t, Plan{})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c.API.Listen = l.Addr().String()
	err = Run(t.Context(), c, Environment{})
	if err == nil || !strings.Contains(err.Error(), "api.listen") {
		t.Errorf("error %v", err)
	}
}

func TestCheckOfAGoodDirectory(t *testing.T) {
	c := initialized(t, Plan{})
	for _, f := range Check(t.Context(), c, Environment{}) {
		if f.Err != nil {
			t.Errorf("%s: %v", f.Part, f.Err)
		}
	}
	c.Database = "sqlite:nowhere.db"
	for _, f := range Check(t.Context(), c, Environment{}) {
		if f.Err != nil {
			t.Errorf("without a database: %s: %v", f.Part, f.Err)
		}
	}
	if _, err := os.Stat(filepath.Join(c.Dir, "nowhere.db")); err == nil {
		t.Error("Check made a database")
	}
}

// A request that is being worked on when the stop begins gets its answer;
// one that comes later gets none; readiness says so first.
func TestStopDrains(t *testing.T) {
	c := initialized(t, Plan{})
	s, err := New(t.Context(), c, Environment{})
	if err != nil {
		t.Fatal(err)
	}
	entered, proceed := make(chan struct{}), make(chan struct{})
	inner := s.doors[1].service.(*http.Server).Handler
	s.doors[1].service.(*http.Server).Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			close(entered)
			<-proceed
			io.WriteString(w, "whole")
			return
		}
		inner.ServeHTTP(w, r)
	})
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	api := "https://" + s.Addrs()["api"]
	answer := make(chan string, 1)
	client := as(t, c, "admin")
	go func() {
		resp, err := client.Get(api + "/slow")
		if err != nil {
			answer <- err.Error()
			return
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			b = []byte(err.Error())
		}
		answer <- string(b)
	}()
	<-entered
	stopped := make(chan error, 1)
	go func() { stopped <- s.Stop(t.Context()) }()
	for { // the doors close one after the other; readiness goes before any
		conn, err := net.Dial("tcp", s.Addrs()["api"])
		if err != nil {
			break
		}
		conn.Close()
	}
	if code, body := get(t, http.DefaultClient, "http://"+s.Addrs()["ops"]+"/readyz"); code != 503 || !strings.Contains(body, "stopping") {
		t.Errorf("readyz while stopping: %d %s", code, body)
	}
	close(proceed)
	if got := <-answer; got != "whole" {
		t.Errorf("the request under way got %q", got)
	}
	if err := <-stopped; err != nil {
		t.Errorf("stop: %v", err)
	}
	if err := s.Stop(t.Context()); err != nil {
		t.Errorf("second stop: %v", err)
	}
}

// A request that does not end holds the stop up to its deadline, and the log
// is published all the same.
func TestStopCutsOff(t *testing.T) {
	c := initialized(t, Plan{})
	c.Audit.Interval = Duration(time.Hour)
	s, err := New(t.Context(), c, Environment{})
	if err != nil {
		t.Fatal(err)
	}
	entered, release := make(chan struct{}), make(chan struct{})
	defer close(release)
	inner := s.doors[1].service.(*http.Server).Handler
	s.doors[1].service.(*http.Server).Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/never" {
			close(entered)
			<-release
			return
		}
		inner.ServeHTTP(w, r)
	})
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	api := "https://" + s.Addrs()["api"]
	client := as(t, c, "admin")
	send(t, client, "POST", api+"/api/v1/sites", map[string]string{"name": "lyon"}, 201)
	go client.Get(api + "/never")
	<-entered
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Stop(over); err == nil || !strings.Contains(err.Error(), "cut off") {
		t.Errorf("stop: %v", err)
	}
	db, err := store.OpenReader(t.Context(), c.DSN())
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	head, err := db.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if head.Size() != 3 { // the first operator, the responder, the site
		t.Errorf("head of %d leaves", head.Size())
	}
	checkpoint, err := db.LastCheckpoint(t.Context())
	if err != nil || !strings.Contains(string(checkpoint), "\n3\n") {
		t.Errorf("last checkpoint %q, %v", checkpoint, err)
	}
}
