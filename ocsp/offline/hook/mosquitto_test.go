package hook_test

import (
	"crypto/ecdsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"path/filepath"
	"strings"
	"testing"

	"github.com/touchmark/touchmark/ocsp/offline/hook/hooktest"
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

	connects(t, b, good, true)
	connects(t, b, revoked, false)
	connects(t, b, stranger, false)
	connects(t, b, later, true)
	w.write(t, "delta", 2, base, 3, 4)
	connects(t, b, good, true)
	connects(t, b, later, false)
	w.put(t, "base", []byte("nothing that could be read"))
	connects(t, b, later, false)
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
	connects(t, b, w.client(t, 2), false)
}

// client is a device with its certificate and key in files.
func (w *world) client(t *testing.T, serial int64) hooktest.Files {
	t.Helper()
	return w.files(t, fmt.Sprint("device-", serial), &x509.Certificate{SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: fmt.Sprint("device-", serial)}})
}

func (w *world) files(t *testing.T, name string, template *x509.Certificate) hooktest.Files {
	t.Helper()
	key := newKey(t)
	f := hooktest.Files{Certificate: filepath.Join(w.dir, name+".crt"), Key: filepath.Join(w.dir, name+".key")}
	w.put(t, name+".crt", []byte(pemOf(w.sign(t, template, w.issuer, key))))
	w.put(t, name+".key", keyPEM(t, key))
	return f
}

func keyPEM(t *testing.T, key *ecdsa.PrivateKey) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

// startBroker starts Mosquitto with the plug-in, which asks a hook.
func (w *world) startBroker(t *testing.T, hook string) *hooktest.Broker {
	t.Helper()
	w.put(t, "ca.crt", []byte(pemOf(w.issuer)))
	own := w.files(t, "broker", &x509.Certificate{SerialNumber: big.NewInt(100), Subject: pkix.Name{CommonName: "broker"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}})
	return hooktest.Start(t, hook, filepath.Join(w.dir, "ca.crt"), own)
}

// connects holds whether a device gets a message through against what is
// wanted.
func connects(t *testing.T, b *hooktest.Broker, device hooktest.Files, want bool) {
	t.Helper()
	name := strings.TrimSuffix(filepath.Base(device.Certificate), ".crt")
	if got, says := b.Publishes(t, name, device); got != want {
		t.Errorf("%s: connected: %v, want %v (%s)", name, got, want, says)
	}
}
