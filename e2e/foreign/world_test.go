// Package foreign tests the server with EST clients that others wrote. It
// knows Touchmark by its program only.
package foreign

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

var program string

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "touchmark-foreign-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	program = filepath.Join(dir, "touchmark")
	build := exec.Command("go", "build", "-C", filepath.Join("..", ".."), "-o", program, "./cmd/touchmark")
	build.Stdout, build.Stderr = os.Stderr, os.Stderr
	if err := build.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "build touchmark:", err)
		return 1
	}
	return m.Run()
}

// world is a running server with product "thermo", site "hsinchu", the draft
// order "po-1", and lin, who hands in manifests.
type world struct {
	t        *testing.T
	dir, lin string
	est, api string // host:port
	made     int    // manifests
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, dir: filepath.Join(t.TempDir(), "data"), lin: filepath.Join(t.TempDir(), "lin")}
	w.must("init", w.dir, "--name", "Test Works", "--est", "127.0.0.1:0", "--mqtt", "127.0.0.1:0", "--api", "127.0.0.1:0", "--status", "127.0.0.1:0", "--ops", "127.0.0.1:0")
	w.serve()
	w.admin("product", "create", "thermo", "--proof", "bootstrap-key", "--proof", "rig", "--key-type", "P-256", "--server-keys", "plain")
	w.admin("site", "create", "hsinchu")
	w.admin("order", "create", "po-1", "--product", "thermo", "--site", "hsinchu", "--quantity", "10")
	w.admin("operator", "add", "lin", "--role", "site-operator", "--site", "hsinchu", "--out", w.lin)
	return w
}

// serve runs the server until the test ends.
func (w *world) serve() {
	t := w.t
	t.Helper()
	cmd := exec.Command(program, "serve", "--dir", w.dir)
	log, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(log)
	var said bytes.Buffer
	for w.est == "" {
		line, err := lines.ReadBytes('\n')
		said.Write(line)
		if err != nil {
			t.Fatalf("the server did not start: %s", said.Bytes())
		}
		var entry struct {
			Msg       string
			Addresses struct{ EST, API string }
		}
		if json.Unmarshal(line, &entry) == nil && entry.Msg == "serving" {
			w.est, w.api = entry.Addresses.EST, entry.Addresses.API
		}
	}
	done := make(chan struct{})
	go func() {
		_, _ = io.Copy(&said, lines) // ends with the process
		close(done)
	}()
	t.Cleanup(func() {
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Errorf("stop the server: %v", err)
		}
		<-done
		if err := cmd.Wait(); err != nil || t.Failed() {
			t.Logf("the server ended with %v and said\n%s", err, said.Bytes())
		}
	})
}

// must runs touchmark.
func (w *world) must(args ...string) string {
	w.t.Helper()
	out, err := exec.Command(program, args...).CombinedOutput()
	if err != nil {
		w.t.Fatalf("touchmark %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

func (w *world) admin(args ...string) string {
	w.t.Helper()
	return w.must(append([]string{"--dir", w.dir, "--server", "https://" + w.api}, args...)...)
}

// party is a key with the certificate that it shows.
type party struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// device makes a device with its bootstrap key and certificate.
func device(t *testing.T, serial string) party {
	t.Helper()
	key := newKey(t)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: serial, SerialNumber: serial},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return party{key, parse(t, der)}
}

func parse(t *testing.T, der []byte) *x509.Certificate {
	t.Helper()
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// build makes a device and hands in its record.
func (w *world) build(serial string) party {
	w.t.Helper()
	p := device(w.t, serial)
	w.made++
	file := filepath.Join(w.t.TempDir(), "units.jsonl")
	line := fmt.Sprintf("{\"serial\":%q,\"bootstrapKey\":\"%x\"}\n", serial, sha256.Sum256(p.cert.RawSubjectPublicKeyInfo))
	if err := os.WriteFile(file, []byte(line), 0o600); err != nil {
		w.t.Fatal(err)
	}
	w.must("--dir", w.lin, "--server", "https://"+w.api, "manifest", "upload", "po-1", file, "--sign")
	return p
}

// root is the root certificate.
func (w *world) root() *x509.Certificate {
	w.t.Helper()
	return parse(w.t, w.read(filepath.Join(w.dir, "ca", "root.crt")))
}

func (w *world) read(file string) []byte {
	w.t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		w.t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	if block == nil {
		w.t.Fatalf("%s is not PEM", file)
	}
	return block.Bytes
}

// rig registers a QA rig.
func (w *world) rig(name string) party {
	w.t.Helper()
	dir := filepath.Join(w.t.TempDir(), name)
	w.admin("operator", "add", name, "--role", "rig", "--site", "hsinchu", "--out", dir)
	key, err := x509.ParsePKCS8PrivateKey(w.read(filepath.Join(dir, name+".key")))
	if err != nil {
		w.t.Fatal(err)
	}
	return party{key.(*ecdsa.PrivateKey), parse(w.t, w.read(filepath.Join(dir, name+".crt")))}
}
