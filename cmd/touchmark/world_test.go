package main

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/touchmark/touchmark/vetting"
)

// The test binary is the program when it is told so: then a server can be
// signalled and killed without building anything.
func TestMain(m *testing.M) {
	if os.Getenv("TOUCHMARK_TEST_RUN") == "1" {
		main()
	}
	os.Exit(m.Run())
}

// ran is what a command line did.
type ran struct {
	code     int
	out, err string
}

// touchmark runs one command line in this process.
func touchmark(t *testing.T, args ...string) ran {
	t.Helper()
	return touchmarkReads(t, "", args...)
}

// touchmarkReads is touchmark with a text on its standard input.
func touchmarkReads(t *testing.T, in string, args ...string) ran {
	t.Helper()
	var out, errs bytes.Buffer
	a := newApp(strings.NewReader(in), &out, &errs)
	a.getenv = func(string) string { return "" }
	code := a.main(t.Context(), args)
	return ran{code, out.String(), errs.String()}
}

// want checks the exit status, and that each part is in the output or the
// errors.
func (r ran) want(t *testing.T, code int, parts ...string) ran {
	t.Helper()
	if r.code != code {
		t.Fatalf("exit status %d, want %d\n%s%s", r.code, code, r.out, r.err)
	}
	for _, p := range parts {
		if !strings.Contains(r.out+r.err, p) {
			t.Errorf("no %q in\n%s%s", p, r.out, r.err)
		}
	}
	return r
}

// process is a running `touchmark serve`.
type process struct {
	cmd  *exec.Cmd
	Addr map[string]string
	log  *bufio.Scanner
}

// serve starts a server process on a directory and waits until it serves.
func serve(t *testing.T, dir string) *process {
	t.Helper()
	cmd := exec.Command(os.Args[0], "serve", "--dir", dir)
	cmd.Env = append(os.Environ(), "TOUCHMARK_TEST_RUN=1")
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &process{cmd: cmd, log: bufio.NewScanner(stderr)}
	t.Cleanup(func() {
		if cmd.ProcessState == nil {
			p.stop(t)
		}
	})
	for p.log.Scan() {
		var line struct {
			Msg       string
			Addresses map[string]string
		}
		if json.Unmarshal(p.log.Bytes(), &line) == nil && line.Msg == "serving" {
			p.Addr = line.Addresses
			return p
		}
	}
	t.Fatalf("the server did not start: %v", cmd.Wait())
	return nil
}

// stop ends the process as an operator does and wants a good end.
func (p *process) stop(t *testing.T) (log string) {
	t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Error(err)
	}
	var b strings.Builder
	for p.log.Scan() {
		b.WriteString(p.log.Text() + "\n")
	}
	if err := p.cmd.Wait(); err != nil {
		t.Errorf("serve ended with %v\n%s", err, b.String())
	}
	return b.String()
}

// initialized makes a data directory whose doors are on free ports.
func initialized(t *testing.T) string { return initializedOn(t, "sqlite:touchmark.db") }

func initializedOn(t *testing.T, dsn string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "d")
	touchmark(t, "init", dir, "--name", "Test Works", "--database", dsn, "--est", "127.0.0.1:0", "--mqtt", "127.0.0.1:0", "--api", "127.0.0.1:0", "--status", "127.0.0.1:0", "--ops", "127.0.0.1:0").want(t, 0, "touchmark serve --dir "+dir)
	return dir
}

// world is a running server with a product, a site, an open order and a site
// operator.
type world struct {
	dir, anna, rig string // rig's only in a rigWorld
	server         *process
}

func newWorld(t *testing.T) *world { return newWorldOn(t, "sqlite:touchmark.db") }

func newWorldOn(t *testing.T, dsn string) *world {
	t.Helper()
	return newWorldIn(t, initializedOn(t, dsn))
}

// newWorldIn runs the server of a data directory and plans its production.
func newWorldIn(t *testing.T, dir string) *world {
	t.Helper()
	w := &world{dir: dir}
	w.anna = filepath.Join(t.TempDir(), "anna")
	w.server = serve(t, w.dir)
	w.admin(t, "product", "create", "thermostat").want(t, 0)
	w.admin(t, "site", "create", "penang").want(t, 0)
	w.admin(t, "order", "create", "PO-1", "--product", "thermostat", "--site", "penang", "--quantity", "5", "--open").want(t, 0)
	w.admin(t, "operator", "add", "anna", "--role", "site-operator", "--site", "penang", "--out", w.anna).want(t, 0)
	return w
}

// admin runs a command as the first operator. The port is not the one that
// init wrote, for that is 0.
func (w *world) admin(t *testing.T, args ...string) ran {
	t.Helper()
	return touchmark(t, append([]string{"--dir", w.dir, "--server", "https://" + w.server.Addr["api"]}, args...)...)
}

// site runs a command as anna, whose directory `operator add` made.
func (w *world) site(t *testing.T, args ...string) ran {
	t.Helper()
	return touchmark(t, append([]string{"--dir", w.anna}, args...)...)
}

// manifest writes a manifest of n devices and returns its path.
func manifestFile(t *testing.T, n int) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "units.jsonl")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := bufio.NewWriter(f)
	for i := range n {
		fmt.Fprintf(b, "{\"serial\":\"A-%06d\",\"bootstrapKey\":\"%064x\"}\n", i, i+1)
	}
	if err := b.Flush(); err != nil {
		t.Fatal(err)
	}
	return path
}

func decodeAs[T any](t *testing.T, text string) T {
	t.Helper()
	var v T
	dec := json.NewDecoder(strings.NewReader(text))
	if err := dec.Decode(&v); err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	if _, err := dec.Token(); err != io.EOF {
		t.Fatalf("more than one JSON value in\n%s", text)
	}
	return v
}

func newKey(t *testing.T) (*ecdsa.PrivateKey, vetting.Fingerprint) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	spki, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	return key, vetting.KeyFingerprint(spki)
}
