package main

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/touchmark/touchmark/device/agent"
	"github.com/touchmark/touchmark/device/devicetest"
)

// service is an agent that runs under a service manager, which is the test.
type service struct {
	t    *testing.T
	cmd  *exec.Cmd
	told chan string // what it told the manager, by line
	log  *strings.Builder
}

func (m *machine) run(env ...string) *service {
	m.t.Helper()
	dir, err := os.MkdirTemp("", "n") // short enough for a socket
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() { _ = os.RemoveAll(dir) })
	name := filepath.Join(dir, "notify")
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		m.t.Fatal(err)
	}
	s := &service{t: m.t, cmd: m.command("run"), told: make(chan string, 1000), log: new(strings.Builder)}
	s.cmd.Env = append(append(os.Environ(), "NOTIFY_SOCKET="+name), env...)
	s.cmd.Stderr = s.log
	if err := s.cmd.Start(); err != nil {
		m.t.Fatal(err)
	}
	go func() {
		b := make([]byte, 64<<10)
		for {
			n, err := socket.Read(b)
			if err != nil {
				return
			}
			for _, line := range strings.Split(string(b[:n]), "\n") {
				s.told <- line
			}
		}
	}()
	m.t.Cleanup(func() {
		_ = s.cmd.Process.Kill()
		_ = s.cmd.Wait()
		_ = socket.Close()
		if m.t.Failed() {
			m.t.Log(s.log.String())
		}
	})
	return s
}

// until waits until the agent tells a line that holds text.
func (s *service) until(text string) {
	s.t.Helper()
	deadline := time.After(time.Minute) // only an agent that never tells meets it
	for {
		select {
		case line := <-s.told:
			if strings.Contains(line, text) {
				return
			}
		case <-deadline:
			s.t.Fatalf("the agent did not tell %q", text)
		}
	}
}

// TestRun has the agent run as a service: it says when it is ready and what it
// is at, gives signs of life, keeps a second agent out, renews when told to, and
// stops in order.
func TestRun(t *testing.T) {
	server := devicetest.New(t)
	m := newMachine(t, server)
	m.must("bootstrap")
	s := m.run("WATCHDOG_USEC=100000")
	s.until("READY=1")
	s.until("STATUS=active")
	s.until("WATCHDOG=1")
	first := m.status()
	if first.Running != s.cmd.Process.Pid || first.State != agent.StateActive {
		t.Errorf("the status is %+v", first)
	}
	m.fails("another agent works", "once")
	if out := m.must("renew"); !strings.Contains(out, "was told to renew") {
		t.Errorf("renew said %q", out)
	}
	for m.status().Certificate.Number == first.Certificate.Number {
		s.until("STATUS=")
	}
	if out := m.must("status"); !strings.Contains(out, fmt.Sprintf("process %d", first.Running)) {
		t.Errorf("status says %s", out)
	}
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	s.until("STOPPING=1")
	if err := s.cmd.Wait(); err != nil {
		t.Errorf("the agent did not stop in order: %v", err)
	}
	if out := m.must("status"); !strings.Contains(out, "does not run") {
		t.Errorf("status says %s", out)
	}
}

// TestKilled: the lock and the directory of an agent that was killed are free
// for the next.
func TestKilled(t *testing.T) {
	m := newMachine(t, devicetest.New(t))
	m.must("bootstrap")
	s := m.run()
	s.until("STATUS=active")
	if err := s.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = s.cmd.Wait()
	if got := m.status(); got.Running != 0 {
		t.Errorf("the status is %+v", got)
	}
	m.must("once")
}

// TestPatience: an agent that is held or refused stays and says so; it comes
// back when it is let in.
func TestPatience(t *testing.T) {
	server := devicetest.New(t)
	held := func(w http.ResponseWriter, _ *x509.Certificate, _ *x509.CertificateRequest) bool {
		w.Header().Set("Retry-After", "1")
		http.Error(w, "a person must decide", http.StatusAccepted)
		return true
	}
	server.Answer = held
	m := newMachine(t, server)
	m.must("bootstrap")
	s := m.run()
	s.until("STATUS=held; first enrolment: simpleenroll: held")
	server.Set(func(s *devicetest.Server) { s.Answer = nil })
	s.until("STATUS=active")
	server.Set(func(s *devicetest.Server) {
		s.Answer = func(w http.ResponseWriter, _ *x509.Certificate, _ *x509.CertificateRequest) bool {
			http.Error(w, "the certificate was revoked", http.StatusForbidden)
			return true
		}
	})
	m.must("renew")
	s.until("STATUS=refused")
	if got := m.status(); got.State != agent.StateRefused || !strings.Contains(got.Problem, "was revoked") || got.Retry == nil || time.Until(*got.Retry) < 30*time.Minute {
		t.Errorf("the status is %+v", got)
	}
	if n := server.Seen("simplereenroll"); n != 1 {
		t.Errorf("it asked %d times after a refusal", n)
	}
}

// TestClock: before the root certificate was made no server is asked.
func TestClock(t *testing.T) {
	server := devicetest.New(t)
	m := newMachine(t, server)
	m.must("bootstrap")
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	root := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "R"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(time.Hour), NotAfter: time.Now().Add(2 * time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, root, root, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	m.write("root.crt", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	s := m.run()
	s.until("it is not set yet")
	if got := m.status(); got.State != agent.StateWaiting || server.Seen("simpleenroll") != 0 {
		t.Errorf("the server was asked %d times; %+v", server.Seen("simpleenroll"), got)
	}
}

// TestFullDisk: a server is asked only when its answer can be kept.
func TestFullDisk(t *testing.T) {
	server := devicetest.New(t)
	m := newMachine(t, server)
	m.must("bootstrap")
	cmd := exec.Command("bash", "-c", `ulimit -f 8; exec "$0" "$@"`, program, "once", "--config", m.file)
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "cannot be written to") {
		t.Errorf("with a full disk: %v: %s", err, out)
	}
	if n := server.Seen("simpleenroll"); n != 0 {
		t.Errorf("the server was asked %d times", n)
	}
	m.must("once")
	number := m.status().Certificate.Number
	cmd = exec.Command("bash", "-c", `ulimit -f 8; exec "$0" "$@"`, program, "renew", "--config", m.file)
	if out, err := cmd.CombinedOutput(); err == nil {
		t.Errorf("with a full disk: %s", out)
	}
	if m.must("renew"); m.status().Certificate.Number == number || server.Seen("simplereenroll") != 1 {
		t.Errorf("after that: %+v; renewed %d times", m.status(), server.Seen("simplereenroll"))
	}
}

// memory is what a process has in memory, in bytes.
func memory(t *testing.T, pid int) (n int) {
	t.Helper()
	f, err := os.Open(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	lines := bufio.NewReader(f)
	for {
		line, err := lines.ReadString('\n')
		if _, err := fmt.Sscanf(line, "VmRSS: %d kB", &n); err == nil {
			return n << 10
		}
		if err == io.EOF {
			t.Fatal("the kernel does not say how much memory a process has")
		}
	}
}

// TestMemory watches what the agent takes after an enrolment and renewals.
func TestMemory(t *testing.T) {
	const most = 25_000_000
	m := newMachine(t, devicetest.New(t), "rekey: true")
	m.must("bootstrap")
	s := m.run()
	s.until("STATUS=active")
	for range 3 {
		number := m.status().Certificate.Number
		m.must("renew")
		for m.status().Certificate.Number == number {
			s.until("STATUS=")
		}
	}
	n := memory(t, s.cmd.Process.Pid)
	t.Logf("the agent has %d bytes in memory", n)
	if n > most {
		t.Errorf("the agent has %d bytes in memory, more than %d", n, most)
	}
}
