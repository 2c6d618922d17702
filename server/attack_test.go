package server

import (
	"bytes"
	"compress/gzip"
	"crypto/tls"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/touchmark/touchmark/vetting"
)

// docs/security.md names these tests: each is an attack, seen from outside.

// units makes devices that the factory has handed in.
func (w *works) units(n int) (list []pair) {
	for i := range n {
		list = append(list, w.build(fmt.Sprintf("S-%d", i), w.now().Add(time.Hour)))
	}
	return list
}

// A certificate is public; without its key it opens nothing.
func TestCertificateWithoutItsKey(t *testing.T) {
	w := opened(t)
	list := w.units(2)
	thief := pair{list[1].key, list[0].cert}
	for name, v := range tlsVersions {
		_, csr := w.request(nil)
		req, err := http.NewRequest("POST", "https://"+w.server.Addrs()["est"]+"/.well-known/est/simpleenroll", strings.NewReader(b64(csr)))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/pkcs10")
		if resp, err := w.speaks(v, thief).Do(req); err == nil {
			resp.Body.Close()
			t.Errorf("%s: answered %s", name, resp.Status)
		}
	}
	w.enrolled(0)
}

// A request that was overheard gives its sender's certificate to its sender
// alone; the key in it is nobody else's.
func TestReplayedRequest(t *testing.T) {
	w := opened(t)
	list := w.units(3)
	_, csr := w.request(nil)
	code, _, first := w.est(tls.VersionTLS13, list[0], "simpleenroll", csr)
	if code != 200 {
		t.Fatalf("%d %s", code, first)
	}
	if code, _, again := w.est(tls.VersionTLS13, list[0], "simpleenroll", csr); code != 200 || again != first {
		t.Errorf("asked twice: %d", code)
	}
	before := w.certified()
	for _, other := range list[1:] {
		if code, _, body := w.est(tls.VersionTLS13, other, "simpleenroll", csr); code == 200 {
			t.Errorf("another device got a certificate on the key: %s", body)
		}
	}
	if after := w.certified(); after != before {
		t.Errorf("certificates changed from %s to %s", before, after)
	}
}

// However many claim one record at once, with as many keys, one unit and one
// certificate that counts come of it.
func TestParallelClaims(t *testing.T) {
	w := opened(t)
	unit := w.units(1)[0]
	var claims sync.WaitGroup
	for range 12 {
		_, csr := w.request(nil)
		claims.Go(func() {
			if code, _, body := w.post(unit, csr); code != 200 && code != 503 {
				t.Errorf("%d %s", code, body)
			}
		})
	}
	claims.Wait()
	w.enrolled(1)
	list, err := w.server.store.Devices(t.Context(), vetting.DeviceFilter{}, vetting.Page{Limit: 10})
	if err != nil || len(list) != 1 || list[0].Certificate == "" {
		t.Errorf("devices %+v, %v", list, err)
	}
}

// Thousands that connect and say nothing keep nobody out.
func TestManyIdleConnections(t *testing.T) {
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil {
		t.Fatal(err)
	}
	n := min(4000, (int(min(files.Cur, 1<<20))-300)/2) // both ends are here
	w := opened(t, func(c *Config) { c.EST.MaxConnections = n / 2 })
	unit := w.units(1)[0]
	idle := make([]net.Conn, n)
	for i := range idle {
		conn, err := net.Dial("tcp", w.server.Addrs()["est"])
		if err != nil {
			t.Fatalf("connection %d of %d: %v", i, n, err)
		}
		defer conn.Close()
		idle[i] = conn
	}
	w.server.settles(t, "est", n/2, n/2)
	w.enrol(tls.VersionTLS13, unit, "simpleenroll", nil)
	if shed := w.server.wasShed("est", shedIdle); shed < float64(n/2) {
		t.Errorf("%v of %d made room", shed, n)
	}
}

// TLS records and handshake messages that claim to be longer than any may be.
func TestEndlessHandshake(t *testing.T) {
	w := opened(t, func(c *Config) { c.EST.HeaderTimeout = Duration(time.Hour) })
	for what, sent := range map[string][]byte{
		"a record of 64 KiB":        append([]byte{22, 3, 1, 0xff, 0xff}, make([]byte, 1<<16)...),
		"a ClientHello of 16 MiB":   append([]byte{22, 3, 1, 0x40, 0, 1, 0xff, 0xff, 0xff}, make([]byte, 1<<14-4)...),
		"empty records, no end":     bytes.Repeat([]byte{22, 3, 1, 0, 0}, 1<<12),
		"alerts, no end":            bytes.Repeat([]byte{21, 3, 1, 0, 2, 1, 0}, 1<<12),
		"application data too soon": append([]byte{23, 3, 3, 0, 9}, "GET / HTT"...),
	} {
		conn, err := net.Dial("tcp", w.server.Addrs()["est"])
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		go conn.Write(sent)
		conn.SetReadDeadline(time.Now().Add(time.Minute)) // only a server that hangs meets it
		if _, err := io.Copy(io.Discard, conn); os.IsTimeout(err) {
			t.Errorf("%s: still open", what)
		}
	}
}

// Nothing is unpacked for a client: a bomb stays small.
func TestCompressionIsNotAccepted(t *testing.T) {
	s, c := served(t, func(*Config) {}, nil)
	var bomb bytes.Buffer
	z := gzip.NewWriter(&bomb)
	fmt.Fprintf(z, `{"name":"lyon","description":"%s"}`, strings.Repeat(" ", 1<<20))
	z.Close()
	for _, path := range []string{"/sites", "/orders/x/manifests"} {
		req, err := http.NewRequest("POST", "https://"+s.Addrs()["api"]+"/api/v1"+path, bytes.NewReader(bomb.Bytes()))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Content-Encoding", "gzip")
		resp, err := as(t, c, "admin").Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode < 400 || resp.StatusCode >= 500 || resp.Uncompressed || resp.Header.Get("Content-Encoding") != "" {
			t.Errorf("%s: %s", path, resp.Status)
		}
	}
}

// What a factory or a device writes stays text: in the database, in the
// log and in answers.
func TestInjection(t *testing.T) {
	c, log := initialized(t, Plan{}), new(lockedBuffer)
	w := &works{t: t, config: c}
	s, err := New(t.Context(), c, Environment{Log: slog.New(slog.NewJSONHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Stop(t.Context())
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.server = s
	newWorldOf(w)
	for n, text := range []string{
		`'; DROP TABLE devices; --`, `" OR 1=1 --`, `$1 ? %s %n {{.}} ${jndi:ldap://x}`, `<script>alert(1)</script>`, `=HYPERLINK("x")`, "\u202e\u2028{\"level\":\"ERROR\"}",
	} {
		serial := fmt.Sprintf("I-%d", n)
		p := w.issued(serial, pair{}, time.Now().Add(time.Hour))
		w.world.Load(t, vetting.Record{Row: 1, Identity: vetting.Identity{Serial: serial}, BootstrapKey: vetting.KeyFingerprint(p.cert.RawSubjectPublicKeyInfo),
			Made: vetting.Manufacturing{HardwareRevision: text, Line: text, Rig: text}})
		w.enrol(tls.VersionTLS13, p, "simpleenroll", nil)
		// The same in a name that no record knows, and in a path.
		stranger := w.issued(text+"\n{\"level\":\"ERROR\",\"msg\":\"forged\"}", pair{}, time.Now().Add(time.Hour))
		_, csr := w.request(nil)
		if code, kind, body := w.est(tls.VersionTLS13, stranger, "simpleenroll", csr); code != 403 || !strings.HasPrefix(kind, "text/plain") {
			t.Errorf("%q as a subject: %d %s %s", text, code, kind, body)
		}
		var devices struct{ Items []vetting.Device }
		list := send(t, as(t, c, "admin"), "GET", "https://"+s.Addrs()["api"]+"/api/v1/devices?serial="+serial, nil, 200)
		if err := json.Unmarshal(list, &devices); err != nil || len(devices.Items) != 1 || bytes.ContainsAny(list, "<>") {
			t.Errorf("%q: %s %v", text, list, err)
		}
	}
	for line := range strings.Lines(log.String()) {
		var entry map[string]any
		if err := json.Unmarshal([]byte(line), &entry); err != nil || entry["msg"] == "forged" {
			t.Errorf("forged or broken line: %s", line)
		}
	}
	w.enrolled(6)
}

// A day with everything logged that can be, errors among it: what must stay
// secret is not in it.
func TestSecretsStayOutOfTheLog(t *testing.T) {
	log := new(lockedBuffer)
	env := Environment{Log: slog.New(slog.NewJSONHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))}
	c := initialized(t, Plan{})
	s, err := New(t.Context(), c, env)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	w := &works{t: t, config: c, server: s}
	newWorldOf(w)
	unit := w.build("S-1", time.Now().Add(time.Hour))
	w.enrol(tls.VersionTLS13, unit, "simpleenroll", nil)
	w.est(tls.VersionTLS12, unit, "simpleenroll", []byte("no request"))
	w.est(tls.VersionTLS13, pair{}, "simpleenroll", []byte{0x30})
	used, left := w.code(""), w.code("")
	w.byCode("S-1", used, w.csr())
	for _, code := range []string{used, left, wrongCode, left[:17] + "00"} {
		w.byCode("S-2", code, w.csr())
	}
	addOperator(t, c, as(t, c, "admin"), "https://"+s.Addrs()["api"], "anna", "site-operator", "hsinchu")
	get(t, as(t, c, ""), "https://"+s.Addrs()["api"]+"/api/v1/whoami?token=hush-query")
	if err := s.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	fails := func(change func(*Config)) {
		other := *c
		change(&other)
		s, err := New(t.Context(), &other, env)
		if err == nil {
			s.Stop(t.Context())
			t.Fatal("it started")
		}
		env.Log.Error("the server did not start", "error", err)
		for _, f := range Check(t.Context(), &other, env) {
			env.Log.Info("check", "part", f.Part, "error", f.Err, "note", f.Note)
		}
	}
	fails(func(c *Config) { c.Database = "postgres://u:hush-dsn@127.0.0.1:1/n?connect_timeout=1" })
	fails(func(c *Config) { c.Database = "postgres://u:hush-dsn@127.0.0.1:bad/n" })
	fails(func(c *Config) {
		c.Keys = map[string]string{"device-ca": "pkcs11:module-path=/nowhere.so;token=t?pin-value=hush-pin"}
	})
	if !strings.Contains(log.String(), "did not start") || !strings.Contains(log.String(), `"msg":"request"`) {
		t.Error("the log does not hold what it should")
	}
	secrets := []string{"hush-dsn", "hush-pin", "hush-query", "PRIVATE KEY", used, left, wrongCode, used[:14], left[:14], basic("S-2", left), basic("S-1", used)}
	keys, _ := filepath.Glob(filepath.Join(c.Dir, "keys", "*"))
	more, _ := filepath.Glob(filepath.Join(c.Dir, "*.key"))
	for _, path := range append(keys, more...) {
		secrets = append(secrets, keyMaterial(t, path)...)
	}
	if len(secrets) < 19 {
		t.Fatalf("only %d secrets are looked for", len(secrets))
	}
	for _, secret := range secrets {
		if strings.Contains(log.String(), secret) {
			t.Errorf("the log holds %q", secret)
		}
	}
}

// keyMaterial gives pieces of a key file as they might be printed.
func keyMaterial(t *testing.T, path string) []string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	der := text
	if block, _ := pem.Decode(text); block != nil {
		der = block.Bytes
	}
	if len(der) < 16 {
		return nil
	}
	return []string{fmt.Sprintf("%x", der[len(der)/2-8:len(der)/2+8]), b64(der)[len(b64(der))/2-8 : len(b64(der))/2+8]}
}
