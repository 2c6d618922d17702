package hook_test

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestMosquitto builds the plug-in for Mosquitto and connects devices to a
// broker that has it. No server of ours runs: the filter is all there is.
func TestMosquitto(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	base := w.write(t, "base", 1, nil, 3)
	b := w.startBroker(t, w.serve(t, false))
	good, revoked, later := w.client(t, 2), w.client(t, 3), w.client(t, 4)
	stranger := newWorld(t).client(t, 2)

	b.connects(t, good, true)
	b.connects(t, revoked, false)
	b.connects(t, stranger, false)
	b.connects(t, later, true)
	w.write(t, "delta", 2, base, 3, 4)
	b.connects(t, good, true)
	b.connects(t, later, false)
	w.put(t, "base", []byte("nothing that could be read"))
	b.connects(t, later, false)
	if !strings.Contains(w.log.String(), "revoked or on hold") {
		t.Errorf("the hook's log does not tell of a refusal:\n%s", w.log.String())
	}
}

// TestMosquittoWithoutHook lets nobody in who cannot be asked about.
func TestMosquittoWithoutHook(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer gone.Close() // nobody accepts: the port answers, and says nothing
	b := w.startBroker(t, "http://"+gone.Addr().String())
	b.connects(t, w.client(t, 2), false)
}

// client is a device with its certificate and key in files.
type client struct{ cert, key string }

func (w *world) client(t *testing.T, serial int64) client {
	t.Helper()
	return w.files(t, fmt.Sprint("device-", serial), &x509.Certificate{SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: fmt.Sprint("device-", serial)}})
}

func (w *world) files(t *testing.T, name string, template *x509.Certificate) client {
	t.Helper()
	key := newKey(t)
	c := client{filepath.Join(w.dir, name+".crt"), filepath.Join(w.dir, name+".key")}
	w.put(t, name+".crt", []byte(pemOf(w.sign(t, template, w.issuer, key))))
	w.put(t, name+".key", keyPEM(t, key))
	return c
}

func keyPEM(t *testing.T, key *ecdsa.PrivateKey) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

// broker is a running Mosquitto.
type broker struct {
	ca, port string
	log      *logged
}

// startBroker starts Mosquitto with the plug-in, which asks a hook.
func (w *world) startBroker(t *testing.T, hook string) *broker {
	t.Helper()
	plugin := filepath.Join(w.dir, "touchmark_status.so")
	run(t, "gcc", "-shared", "-fPIC", "-O2", "-Wall", "-Wextra", "-Werror", "-o", plugin, "../../../deploy/mosquitto/touchmark_status.c", "-lcrypto")
	at, err := url.Parse(hook)
	if err != nil {
		t.Fatal(err)
	}
	w.put(t, "ca.crt", []byte(pemOf(w.issuer)))
	own := w.files(t, "broker", &x509.Certificate{SerialNumber: big.NewInt(100), Subject: pkix.Name{CommonName: "broker"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}})
	// A device may write to its own topic: the plug-in has made its common name
	// its user name.
	w.put(t, "acl", []byte("pattern readwrite devices/%u\n"))
	b := &broker{ca: filepath.Join(w.dir, "ca.crt"), log: new(logged)}
	for range 5 { // others may take the port that was free
		b.port = freePort(t)
		w.put(t, "mosquitto.conf", fmt.Appendf(nil, "user root\nlistener %s 127.0.0.1\ncafile %s\ncertfile %s\nkeyfile %s\nrequire_certificate true\nplugin %s\nplugin_opt_host %s\nplugin_opt_port %s\nacl_file %s\n",
			b.port, b.ca, own.cert, own.key, plugin, at.Hostname(), at.Port(), filepath.Join(w.dir, "acl")))
		if b.start(t, filepath.Join(w.dir, "mosquitto.conf")) {
			return b
		}
	}
	t.Fatalf("the broker did not start:\n%s", b.log)
	return nil
}

func (b *broker) start(t *testing.T, config string) (running bool) {
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
		fmt.Fprintln(b.log, lines.Text())
		running = strings.Contains(lines.Text(), "running")
	}
	read := make(chan struct{})
	go func() {
		defer close(read)
		for lines.Scan() {
			fmt.Fprintln(b.log, lines.Text())
		}
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		<-read
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("the broker's log:\n%s", b.log)
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

// connects publishes to the device's own topic, and holds whether that worked
// against what is wanted.
func (b *broker) connects(t *testing.T, c client, want bool) {
	t.Helper()
	name := strings.TrimSuffix(filepath.Base(c.cert), ".crt")
	// The subscription tells that the message came through: a broker does not
	// tell a publisher that a rule swallowed it.
	cmd := exec.CommandContext(t.Context(), "mosquitto_rr", "-V", "5", "-h", "127.0.0.1", "-p", b.port, "--cafile", b.ca, "--cert", c.cert, "--key", c.key,
		"-t", "devices/"+name, "-e", "devices/"+name, "-m", "here I am", "-i", name)
	out, err := cmd.CombinedOutput()
	if got := err == nil && strings.Contains(string(out), "here I am"); got != want {
		t.Errorf("%s: connected: %v, want %v (%v)\n%s", name, got, want, err, out)
	}
}

func run(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", name, err, out)
	}
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}
