package main

import (
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"net/http"
	"os"
	"os/user"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/touchmark/touchmark/device/agent"
	"github.com/touchmark/touchmark/device/devicetest"
)

func firstCertificate(t *testing.T, text string) *x509.Certificate {
	t.Helper()
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		t.Fatalf("no certificate in %q", text)
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// TestOwners: files get their owner and group, by name or number, and get them
// again if somebody changed them or the configuration did.
func TestOwners(t *testing.T) {
	owner, group, uid, gid := "daemon", "2", 1, 2
	if os.Getuid() != 0 { // who can give files to nobody else
		me, err := user.Current()
		if err != nil {
			t.Fatal(err)
		}
		owner, group, uid, gid = me.Username, me.Gid, os.Getuid(), os.Getgid()
	}
	m := newMachine(t, devicetest.New(t), "files: {certificate: tls.crt, bundle: tls.pem, mode: 0640, owner: "+owner+", group: "+group+"}")
	m.must("bootstrap")
	check := func(mode uint32) {
		t.Helper()
		for name, want := range map[string]uint32{"tls.crt": mode, "tls.pem": 0o600} {
			var s syscall.Stat_t
			if err := syscall.Stat(m.path(name), &s); err != nil || int(s.Uid) != uid || int(s.Gid) != gid || s.Mode&0o777 != want {
				t.Errorf("%s belongs to %d:%d with mode %o (%v), want %d:%d and %o", name, s.Uid, s.Gid, s.Mode&0o777, err, uid, gid, want)
			}
		}
	}
	m.must("once")
	check(0o640)
	if err := os.Chmod(m.path("tls.crt"), 0o666); err != nil {
		t.Fatal(err)
	}
	m.must("once")
	check(0o640)
	m.write("agent.yaml", strings.Replace(m.read("agent.yaml"), "0640", "0444", 1))
	m.must("once")
	check(0o444)
	m.write("agent.yaml", strings.Replace(m.read("agent.yaml"), "owner: "+owner, "owner: nobody-of-that-name", 1))
	m.fails("nobody-of-that-name", "once")
	check(0o444)
}

// expire puts a certificate of the same key that ended in the place of the
// agent's.
func (m *machine) expire(server *devicetest.Server) {
	m.t.Helper()
	const name = "state/keys/official.pem"
	block, rest := pem.Decode([]byte(m.read(name)))
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		m.t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{RawSubject: firstCertificate(m.t, string(rest)).RawSubject}, key)
	if err != nil {
		m.t.Fatal(err)
	}
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil {
		m.t.Fatal(err)
	}
	_, chain := pem.Decode(rest)
	var ended []byte
	server.Set(func(s *devicetest.Server) {
		s.Template = func(c *x509.Certificate) {
			c.NotBefore, c.NotAfter = time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour)
		}
		ended, s.Template = s.Certify(csr), nil
	})
	m.write(name, string(pem.EncodeToMemory(block))+string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ended}))+string(chain))
}

// TestRescue: a machine that slept past its certificate's end asks to be
// rescued with it, says what is in the way, and is back with the same key when
// the server allows it.
func TestRescue(t *testing.T) {
	server := devicetest.New(t)
	m := newMachine(t, server)
	m.must("bootstrap")
	m.must("once")
	before := m.status()
	m.expire(server)
	var shown []time.Time
	for status, state := range map[int]string{http.StatusForbidden: agent.StateRefused, http.StatusServiceUnavailable: agent.StateExpired} {
		server.Set(func(s *devicetest.Server) {
			s.Answer = func(w http.ResponseWriter, peer *x509.Certificate, _ *x509.CertificateRequest) bool {
				shown = append(shown, peer.NotAfter)
				http.Error(w, "no rescue", status)
				return true
			}
		})
		m.fails("no rescue", "once")
		m.fails("no certificate that counts: it is "+state, "status")
		if got := m.status(); got.Step != "renewal" || !strings.Contains(got.Problem, "no rescue") {
			t.Errorf("answered %d: %+v", status, got)
		}
	}
	for _, end := range shown {
		if end.After(time.Now()) {
			t.Errorf("the certificate that it showed ends at %s", end)
		}
	}
	server.Set(func(s *devicetest.Server) { s.Answer = nil })
	s := m.run()
	s.until("STATUS=active")
	after := m.status()
	if len(shown) != 2 || after.Certificate.Number == before.Certificate.Number || after.Certificate.Key != before.Certificate.Key || server.Seen("simpleenroll") != 1 {
		t.Errorf("after the rescue: %+v; it was asked %d times", after, len(shown))
	}
}
