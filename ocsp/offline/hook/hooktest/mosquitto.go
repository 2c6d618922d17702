// Package hooktest runs a Mosquitto that asks a hook whether its clients'
// certificates count, for tests.
package hooktest

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// Files are a key and its certificate, as PEM files.
type Files struct{ Certificate, Key string }

// Broker is a running Mosquitto with the plug-in of deploy/mosquitto.
type Broker struct {
	ca, port string
	log      logged
}

// logged is a log that is read while it is written.
type logged struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logged) add(line string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	fmt.Fprintln(&l.b, line)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// Start builds the plug-in and starts a Mosquitto with it, which asks the hook
// at a URL. The file ca has the certificates that broker and clients trust; own
// are the broker's, for 127.0.0.1.
func Start(t testing.TB, hook, ca string, own Files) *Broker {
	t.Helper()
	dir := t.TempDir()
	plugin, acl, config := filepath.Join(dir, "touchmark_status.so"), filepath.Join(dir, "acl"), filepath.Join(dir, "mosquitto.conf")
	_, here, _, _ := runtime.Caller(0)
	source := filepath.Join(filepath.Dir(here), "../../../../deploy/mosquitto/touchmark_status.c")
	if out, err := exec.Command("gcc", "-shared", "-fPIC", "-O2", "-Wall", "-Wextra", "-Werror", "-o", plugin, source, "-lcrypto").CombinedOutput(); err != nil {
		t.Fatalf("gcc: %v\n%s", err, out)
	}
	at, err := url.Parse(hook)
	if err != nil {
		t.Fatal(err)
	}
	// A device may write to its own topic: the plug-in has made its common name
	// its user name.
	if err := os.WriteFile(acl, []byte("pattern readwrite devices/%u\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	b := &Broker{ca: ca}
	for range 5 { // others may take the port that was free
		b.port = freePort(t)
		text := fmt.Appendf(nil, "user root\nlistener %s 127.0.0.1\ncafile %s\ncertfile %s\nkeyfile %s\nrequire_certificate true\nplugin %s\nplugin_opt_host %s\nplugin_opt_port %s\nacl_file %s\n",
			b.port, ca, own.Certificate, own.Key, plugin, at.Hostname(), at.Port(), acl)
		if err := os.WriteFile(config, text, 0o644); err != nil {
			t.Fatal(err)
		}
		if b.start(t, config) {
			return b
		}
	}
	t.Fatalf("the broker did not start:\n%s", &b.log)
	return nil
}

func (b *Broker) start(t testing.TB, config string) (running bool) {
	t.Helper()
	cmd := exec.Command(mosquitto(), "-c", config, "-v")
	out, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for !running && lines.Scan() {
		b.log.add(lines.Text())
		running = strings.Contains(lines.Text(), "running")
	}
	read := make(chan struct{})
	go func() {
		defer close(read)
		for lines.Scan() {
			b.log.add(lines.Text())
		}
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		<-read
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("the broker's log:\n%s", &b.log)
		}
	})
	return running
}

// mosquitto is where Debian puts the broker, which is not on everybody's PATH.
func mosquitto() string {
	if path, err := exec.LookPath("mosquitto"); err == nil {
		return path
	}
	return "/usr/sbin/mosquitto"
}

// Publishes has a device, whose certificate has that common name, publish to
// its own topic, and reports whether the message came through. The subscription
// tells that: a broker does not tell a publisher that a rule swallowed it.
func (b *Broker) Publishes(t testing.TB, name string, device Files) (through bool, says string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "mosquitto_rr", "-V", "5", "-h", "127.0.0.1", "-p", b.port, "--cafile", b.ca, "--cert", device.Certificate, "--key", device.Key,
		"-t", "devices/"+name, "-e", "devices/"+name, "-m", "here I am", "-i", name)
	out, err := cmd.CombinedOutput()
	return err == nil && strings.Contains(string(out), "here I am"), fmt.Sprintf("%v\n%s", err, out)
}

func freePort(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}
