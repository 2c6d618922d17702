package server

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// local is a configuration whose doors are on free local ports.
func local() *Config {
	c := Default()
	c.EST.Listen, c.MQTT.Listen, c.API.Listen, c.Status.Listen, c.Ops.Listen = "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"
	c.ACME.Listen = "127.0.0.1:0"
	c.Audit.Interval = Duration(20 * time.Millisecond)
	c.Stop = Duration(5 * time.Second)
	return c
}

// initialized makes a data directory and reads its configuration back.
func initialized(t *testing.T, p Plan) *Config {
	t.Helper()
	if p.Dir == "" {
		p.Dir = filepath.Join(t.TempDir(), "data")
	}
	p.Organization, p.Admin = "Test Works", "admin"
	if p.Config == nil {
		p.Config = local()
	}
	if _, err := Init(t.Context(), p, Environment{}); err != nil {
		t.Fatal(err)
	}
	c, err := LoadConfig(filepath.Join(p.Dir, ConfigFile))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// started runs a server until the test ends.
func started(t *testing.T, c *Config) *Server {
	t.Helper()
	s, err := New(t.Context(), c, Environment{Log: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 20*time.Second)
		defer cancel()
		if err := s.Stop(ctx); err != nil {
			t.Errorf("stop: %v", err)
		}
	})
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s
}

// as gives a client that speaks with the key pair DIR/NAME.crt and .key; ""
// for one without.
func as(t *testing.T, c *Config, name string) *http.Client {
	t.Helper()
	roots := x509.NewCertPool()
	text, err := os.ReadFile(filepath.Join(c.Dir, "ca", "root.crt"))
	if err != nil {
		t.Fatal(err)
	}
	roots.AppendCertsFromPEM(text)
	config := &tls.Config{RootCAs: roots, ServerName: "localhost"}
	if name != "" {
		pair, err := tls.LoadX509KeyPair(filepath.Join(c.Dir, name+".crt"), filepath.Join(c.Dir, name+".key"))
		if err != nil {
			t.Fatal(err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	transport := &http.Transport{TLSClientConfig: config}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// get returns status and body.
func get(t *testing.T, client *http.Client, url string) (int, string) {
	t.Helper()
	resp, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

// send posts JSON and wants the status.
func send(t *testing.T, client *http.Client, method, url string, body any, want int) []byte {
	t.Helper()
	text, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), method, url, bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != want {
		t.Fatalf("%s %s: %s\n%s", method, url, resp.Status, answer)
	}
	return answer
}

func wantContains(t *testing.T, text string, parts ...string) {
	t.Helper()
	for _, p := range parts {
		if !strings.Contains(text, p) {
			t.Errorf("no %q in\n%s", p, text)
		}
	}
}

func textLog(w io.Writer) *slog.Logger { return slog.New(slog.NewTextHandler(w, nil)) }
