package main

import (
	"crypto/x509"
	"encoding/pem"
	"io/fs"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/touchmark/touchmark/device/agent"
	"github.com/touchmark/touchmark/device/devicetest"
)

// hooked has the agent deliver files and run a hook, which writes down what it
// is told.
var hooked = []string{
	"files: {certificate: out/tls.crt, chain: out/chain.crt, roots: out/roots.crt, bundle: out/tls.pem, mode: 0640}",
	"hook: {command: [./hook], timeout: 20s}",
}

func withHook(t *testing.T, s *devicetest.Server, script string, more ...string) *machine {
	t.Helper()
	m := newMachine(t, s, append(more, hooked...)...)
	text := strings.Replace(m.read("agent.yaml"), "./hook", m.path("hook"), 1)
	m.write("agent.yaml", text)
	m.write("hook", "#!/bin/sh\n"+script+"\n")
	if err := os.Mkdir(m.path("out"), 0o700); err != nil {
		t.Fatal(err)
	}
	return m
}

func TestLife(t *testing.T) {
	s := devicetest.New(t)
	m := withHook(t, s, `env | grep ^TOUCHMARK_ | sort >> "$(dirname "$0")/said"; echo . >> "$(dirname "$0")/runs"`)
	line := m.must("bootstrap")
	if again := m.must("bootstrap"); again != line || !strings.Contains(line, `"serial":"SN-1","bootstrapKey":"`) {
		t.Errorf("the manifest's line is %q, and then %q", line, again)
	}
	m.fails("no agent has worked", "status")
	if out := m.must("once"); !strings.HasPrefix(out, "active, certificate until ") {
		t.Errorf("once said %q", out)
	}
	first := m.status()
	if first.State != agent.StateActive || first.Certificate == nil || first.Problem != "" || first.Running != 0 {
		t.Errorf("after once: %+v", first)
	}
	checkFiles(t, m, first)
	m.must("once")
	if n := strings.Count(m.read("runs"), "."); n != 1 || m.status().Certificate.Number != first.Certificate.Number {
		t.Errorf("once more: the hook ran %d times; %+v", n, m.status())
	}
	m.must("renew")
	second := m.status()
	if second.Certificate.Number == first.Certificate.Number || second.Certificate.Key != first.Certificate.Key || strings.Count(m.read("runs"), ".") != 2 {
		t.Errorf("after renew: %+v; the hook ran: %s", second, m.read("runs"))
	}
	checkFiles(t, m, second)
	if s.Keys() != 1 {
		t.Errorf("%d keys were certified", s.Keys())
	}
}

func checkFiles(t *testing.T, m *machine, s agent.Status) {
	t.Helper()
	block, rest := pem.Decode([]byte(m.read("out/tls.crt")))
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil || cert.SerialNumber.Text(16) != strings.TrimLeft(s.Certificate.Number, "0") || string(rest) != m.read("out/chain.crt") {
		t.Errorf("the certificate's file does not hold %s and its chain: %v", s.Certificate.Number, err)
	}
	if m.read("out/roots.crt") != m.read("root.crt") {
		t.Error("the roots' file does not hold the root")
	}
	bundle := m.read("out/tls.pem")
	if !strings.HasPrefix(bundle, "-----BEGIN PRIVATE KEY") || !strings.HasSuffix(bundle, m.read("out/tls.crt")) {
		t.Error("the bundle is not the key and the certificates")
	}
	for name, want := range map[string]fs.FileMode{"out/tls.crt": 0o640, "out/tls.pem": 0o600} {
		if info, err := os.Stat(m.path(name)); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s has the mode %v (%v)", name, info.Mode(), err)
		}
	}
	said := m.read("said")
	for _, want := range []string{"TOUCHMARK_SERIAL=SN-1\n", "TOUCHMARK_CERTIFICATE=" + s.Certificate.Number + "\n", "TOUCHMARK_CERTIFICATE_FILE=" + m.path("out/tls.crt") + "\n"} {
		if !strings.Contains(said, want) {
			t.Errorf("the hook was not told %q, but %s", want, said)
		}
	}
}

// TestHookFails: a hook that fails is told of, and runs again; it does not
// undo the certificate.
func TestHookFails(t *testing.T) {
	s := devicetest.New(t)
	m := withHook(t, s, `echo . >> "$(dirname "$0")/runs"; echo reload failed; test -e "$(dirname "$0")/good"`)
	m.must("bootstrap")
	m.fails("reload failed", "once")
	if got := m.status(); got.State != agent.StateActive || got.Step != "delivery" || !strings.Contains(got.Problem, "reload failed") {
		t.Errorf("after a hook that failed: %+v", got)
	}
	m.write("good", "")
	m.must("once")
	if got := m.status(); got.Problem != "" || strings.Count(m.read("runs"), ".") != 2 || s.Seen("simpleenroll") != 1 {
		t.Errorf("after a hook that did not: %+v", got)
	}
}

func TestHookHangs(t *testing.T) {
	m := withHook(t, devicetest.New(t), "sleep 1000 & sleep 1000")
	m.write("agent.yaml", strings.Replace(m.read("agent.yaml"), "timeout: 20s", "timeout: 200ms", 1))
	m.must("bootstrap")
	m.fails("longer than 200ms", "once")
}

// TestNotLetIn: what a server says to a device that it does not let in, is in
// the status.
func TestNotLetIn(t *testing.T) {
	for _, c := range []struct {
		status       int
		wait, text   string
		state, step  string
		nobodyAnswer bool
	}{
		{status: 202, wait: "3600", text: "the order is a draft", state: agent.StateHeld, step: "first enrolment"},
		{status: 403, text: "over-production", state: agent.StateRefused, step: "first enrolment"},
		{status: 503, wait: "60", text: "starting", state: agent.StateEnrolling, step: "first enrolment"},
		{nobodyAnswer: true, text: "no answer", state: agent.StateEnrolling, step: "first enrolment"},
	} {
		s := devicetest.New(t)
		s.Answer = func(w http.ResponseWriter, _ *x509.Certificate, _ *x509.CertificateRequest) bool {
			if c.wait != "" {
				w.Header().Set("Retry-After", c.wait)
			}
			http.Error(w, c.text, c.status)
			return true
		}
		if c.nobodyAnswer {
			s.URL = "https://localhost:1"
		}
		m := newMachine(t, s)
		m.must("bootstrap")
		m.fails(c.text, "once")
		m.fails("no certificate that counts: it is "+c.state, "status")
		got := m.status()
		if got.State != c.state || got.Step != c.step || !strings.Contains(got.Problem, c.text) || got.Retry == nil || got.Failures != 1 || got.Certificate != nil {
			t.Errorf("%d %s: %+v", c.status, c.text, got)
		}
		if strings.Contains(m.read("state/status.json"), "PRIVATE KEY") {
			t.Error("the status holds a key")
		}
	}
}

func TestConfiguration(t *testing.T) {
	s := devicetest.New(t)
	for lines, say := range map[string]string{
		"sever: https://localhost": "unknown field \"sever\"",
		"keys: vault:x":            "\"vault\" is no URI of keys",
		"proof: hope":              "\"hope\" is none",
		"mqtt: localhost":          "is not HOST:PORT",
		"files: {mode: 8}":         "not a file's mode",
		"refused: 1s":              "a minute or more",
		"proof: code":              "code-file",
	} {
		newMachine(t, s, lines).fails(say, "once")
	}
	m := newMachine(t, s)
	m.write("root.crt", "nothing")
	m.fails("holds no certificate", "once")
	if err := os.Remove(m.file); err != nil {
		t.Fatal(err)
	}
	m.fails("no such file", "once")
}
