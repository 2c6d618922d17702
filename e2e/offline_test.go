package e2e

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/touchmark/touchmark/device"
	"github.com/touchmark/touchmark/devicesim"
	"github.com/touchmark/touchmark/internal/store/storetest"
	"github.com/touchmark/touchmark/ocsp/offline/hook/hooktest"
	"github.com/touchmark/touchmark/vetting"
)

// TestBrokerOffline takes a revocation all the way to a broker that asks
// nobody: the server makes a file, the operators' programs fetch it and answer
// Mosquitto's plug-in from it. What is revoked then comes with a delta.
func TestBrokerOffline(t *testing.T) {
	var late atomic.Int64
	late.Store(int64(time.Hour)) // files do not cover certificates of the last minutes
	now := func() time.Time { return time.Now().Add(-time.Duration(late.Load())) }
	i := installAt(t, storetest.Database(t, "sqlite"), now)
	i.serveHere(now)
	f := devicesim.Factory{Prefix: "SN-", Block: 1, Now: now}
	units, err := f.Build(0, 3)
	if err != nil {
		t.Fatal(err)
	}
	i.order(len(units), units, f)
	fleet := devicesim.Fleet{Servers: []devicesim.Server{i.server()}, Units: units, Workers: 1, Activate: true}
	for _, r := range fleet.Run(t.Context()) {
		if r.Verdict != "admitted" {
			t.Fatalf("%s: %s", r.Verdict, r.Text)
		}
	}
	late.Store(0)

	g := &gateway{installation: i, program: program(t), files: t.TempDir()}
	i.revoke(units[0])
	g.update("--base")
	b := hooktest.Start(t, g.hook(), g.trusted(), g.certified())
	g.lets(b, map[*devicesim.Unit]bool{units[0]: false, units[1]: true, units[2]: true})
	i.revoke(units[1])
	g.lets(b, map[*devicesim.Unit]bool{units[1]: true}) // nobody has told the broker
	g.update()
	if _, err := os.Stat(filepath.Join(g.files, "device-ca.delta")); err != nil {
		t.Error(err)
	}
	g.lets(b, map[*devicesim.Unit]bool{units[0]: false, units[1]: false, units[2]: true})
	verifyLog(t, i.store())
}

// program builds the operators' program.
func program(t *testing.T) string {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "touchmark")
	if out, err := exec.Command("go", "build", "-o", bin, "../cmd/touchmark").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return bin
}

func (i *installation) revoke(u *devicesim.Unit) {
	i.t.Helper()
	var id int64
	eachDevice(i.t, i.store(), func(d *vetting.Device) {
		if d.Serial == u.Serial {
			id = d.ID
		}
	})
	body := map[string]string{"reason": "keyCompromise", "note": "test"}
	if err := i.admin().Do(i.t.Context(), "POST", fmt.Sprintf("/devices/%d/revoke", id), body, nil); err != nil {
		i.t.Fatal(err)
	}
}

// gateway is a machine with a broker and offline files.
type gateway struct {
	*installation
	program, files string
}

func (g *gateway) run(args ...string) {
	g.t.Helper()
	if out, err := exec.Command(g.program, args...).CombinedOutput(); err != nil {
		g.t.Fatalf("touchmark %q: %v\n%s", args, err, out)
	}
}

// update has the server make a file, and fetches it.
func (g *gateway) update(flags ...string) {
	g.t.Helper()
	g.run(append([]string{"--dir", g.dir, "revocation", "make"}, flags...)...)
	g.run("revocation", "fetch", g.status, "--ca", filepath.Join(g.dir, "ca", "root.crt"), "--out", g.files)
}

// hook starts the program that answers the broker, and gives its URL.
func (g *gateway) hook() string {
	g.t.Helper()
	address, in := freePort(g.t), func(name string) string { return filepath.Join(g.files, name) }
	cmd := exec.Command(g.program, "revocation", "hook", "--offline", in("device-ca.filter"), "--delta", in("device-ca.delta"), "--ca", in("device-ca.crt"), "--listen", address, "--every", "1ms")
	var log bytes.Buffer
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
		if g.t.Failed() {
			g.t.Logf("the hook's log:\n%s", &log)
		}
	})
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		if resp, err := http.Get("http://" + address + "/healthz"); err == nil && resp.StatusCode == http.StatusOK {
			return "http://" + address
		}
		if time.Now().After(deadline) {
			g.t.Fatal("the hook does not answer")
		}
	}
}

// trusted is a file with the certificates of the CAs and of the broker itself,
// which no CA has signed.
func (g *gateway) trusted() string {
	g.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		g.t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		g.t.Fatal(err)
	}
	own := g.keep("broker", &device.Credential{Key: key, Chain: []*x509.Certificate{{Raw: der}}})
	var all []byte
	for _, file := range []string{own.Certificate, filepath.Join(g.dir, "ca", "root.crt"), filepath.Join(g.dir, "ca", "device-ca.crt")} {
		text, err := os.ReadFile(file)
		if err != nil {
			g.t.Fatal(err)
		}
		all = append(all, text...)
	}
	file := filepath.Join(g.files, "trusted.crt")
	if err := os.WriteFile(file, all, 0o600); err != nil {
		g.t.Fatal(err)
	}
	return file
}

func (g *gateway) named(name string) hooktest.Files {
	return hooktest.Files{Certificate: filepath.Join(g.files, name+".crt"), Key: filepath.Join(g.files, name+".key")}
}

// certified are the files that trusted made for the broker.
func (g *gateway) certified() hooktest.Files { return g.named("broker") }

// keep writes a key and its certificate into files.
func (g *gateway) keep(name string, c *device.Credential) hooktest.Files {
	g.t.Helper()
	f := g.named(name)
	key, err := x509.MarshalPKCS8PrivateKey(c.Key)
	if err == nil {
		err = errors.Join(
			os.WriteFile(f.Certificate, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Leaf().Raw}), 0o600),
			os.WriteFile(f.Key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}), 0o600))
	}
	if err != nil {
		g.t.Fatal(err)
	}
	return f
}

// lets demands of the broker whom it lets in.
func (g *gateway) lets(b *hooktest.Broker, want map[*devicesim.Unit]bool) {
	g.t.Helper()
	for u, in := range want {
		c, err := u.Store.Load(device.Official)
		if err != nil {
			g.t.Fatal(err)
		}
		if got, says := b.Publishes(g.t, c.Leaf().Subject.CommonName, g.keep(u.Serial, c)); got != in {
			g.t.Errorf("%s is let in: %v, want %v (%s)", u.Serial, got, in, says)
		}
	}
}
