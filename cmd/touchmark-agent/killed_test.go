package main

import (
	"crypto/x509"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/touchmark/touchmark/device/agent"
	"github.com/touchmark/touchmark/device/devicetest"
)

// held is a server that certifies a key and does not come to answer.
type held struct {
	server *devicetest.Server
	asked  chan struct{}
	resume chan struct{}
}

func hold(s *devicetest.Server) *held {
	h := &held{server: s, asked: make(chan struct{}, 1), resume: make(chan struct{})}
	s.Set(func(s *devicetest.Server) {
		s.Answer = func(http.ResponseWriter, *x509.Certificate, *x509.CertificateRequest) bool {
			h.asked <- struct{}{}
			<-h.resume
			return false
		}
	})
	return h
}

// kill kills the agent that waits for an answer, which is given then to nobody;
// from then on the server answers.
func (h *held) kill(s *service) {
	s.t.Helper()
	select {
	case <-h.asked:
	case <-time.After(time.Minute): // only an agent that never asks meets it
		s.t.Fatal("the agent did not ask")
	}
	s.kill()
	close(h.resume)
	h.server.Set(func(s *devicetest.Server) { s.Answer = nil })
}

func (s *service) kill() {
	s.t.Helper()
	if err := s.cmd.Process.Kill(); err != nil {
		s.t.Fatal(err)
	}
	_ = s.cmd.Wait()
}

// until waits until something is so after what the agent does.
func (m *machine) until(s *service, so func() bool) {
	m.t.Helper()
	for !so() {
		s.until("STATUS=")
	}
}

func (m *machine) exists(name string) bool {
	_, err := os.Stat(m.path(name))
	return err == nil
}

// TestKilledAtWork: an agent that is killed while it enrols, renews or runs the
// hook goes on where it was when it is started again. It asks for no second
// key, and the hook hears of every certificate.
func TestKilledAtWork(t *testing.T) {
	server := devicetest.New(t)
	m := withHook(t, server, `echo . >> "$(dirname "$0")/runs"; while test -e "$(dirname "$0")/hold"; do sleep 0.1; done`, "rekey: true")
	m.must("bootstrap")
	h := hold(server)
	s := m.run()
	h.kill(s)
	s = m.run()
	s.until("STATUS=active")
	m.until(s, func() bool { return m.exists("runs") && m.status().Delivered != "" })
	if n := server.Keys(); n != 1 {
		t.Errorf("after the first enrolment %d keys were certified", n)
	}
	first := m.status()

	h = hold(server)
	m.must("renew")
	h.kill(s)
	s = m.run()
	m.until(s, func() bool { return m.status().Certificate.Number != first.Certificate.Number })
	second := m.status()
	if n := server.Keys(); n != 2 || second.Certificate.Key == first.Certificate.Key {
		t.Errorf("after a renewal with a new key %d keys were certified: %+v", n, second)
	}
	m.until(s, func() bool { return m.status().Delivered != first.Delivered })

	m.write("hold", "")
	runs := m.read("runs")
	m.must("renew")
	for deadline := time.Now().Add(time.Minute); m.read("runs") == runs; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the hook did not run")
		}
	}
	s.kill()
	if err := os.Remove(m.path("hold")); err != nil {
		t.Fatal(err)
	}
	delivered := m.status().Delivered
	s = m.run()
	m.until(s, func() bool { return m.status().Delivered != delivered })
	if n := len(m.read("runs")) - len(runs); n != 4 { // two lines
		t.Errorf("the hook ran %d times for a certificate with which it was killed, want 2", n/2)
	}
	third := m.status()
	if third.State != agent.StateActive || third.Certificate.Number == second.Certificate.Number || server.Keys() != 3 {
		t.Errorf("at the end: %+v, %d keys", third, server.Keys())
	}
	checkDelivered(t, m, third)
}

func checkDelivered(t *testing.T, m *machine, s agent.Status) {
	t.Helper()
	cert := firstCertificate(t, m.read("out/tls.crt"))
	if cert.SerialNumber.Text(16) != strings.TrimLeft(s.Certificate.Number, "0") {
		t.Errorf("the certificate's file holds %x, not %s", cert.SerialNumber, s.Certificate.Number)
	}
}

// TestRootChanges: an agent that runs takes up the root that the old one
// vouches for, and goes on with it when it was killed and the old one ended.
func TestRootChanges(t *testing.T) {
	server := devicetest.New(t)
	m := withHook(t, server, `echo . >> "$(dirname "$0")/runs"`)
	m.must("bootstrap")
	s := m.run()
	s.until("STATUS=active")
	m.until(s, func() bool { return m.exists("out/roots.crt") })
	old := m.read("out/roots.crt")
	server.NewRoot()
	m.must("renew") // after which it asks what else is new
	m.until(s, func() bool { return m.read("out/roots.crt") != old })
	if roots := m.read("out/roots.crt"); !strings.HasPrefix(roots, old) || strings.Count(roots, "BEGIN CERTIFICATE") != 2 {
		t.Errorf("the roots' file holds %s", roots)
	}
	s.kill()
	server.OldRootEnds()
	s = m.run()
	s.until("STATUS=active")
	number := m.status().Certificate.Number
	m.must("renew")
	m.until(s, func() bool { return m.status().Certificate.Number != number })
	m.until(s, func() bool {
		return firstCertificate(t, m.read("out/chain.crt")).Subject.CommonName == "Third Device CA"
	})
	if got := m.status(); got.State != agent.StateActive || got.Problem != "" {
		t.Errorf("after the old root's end: %+v", got)
	}
}
