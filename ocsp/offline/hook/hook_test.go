package hook_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"io"
	"log/slog"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/touchmark/touchmark/ocsp/offline"
	"github.com/touchmark/touchmark/ocsp/offline/hook"
)

// world is an issuing CA with the certificates 2 to 9, of which some are
// revoked, and a broker's hook.
type world struct {
	dir    string
	key    *ecdsa.PrivateKey
	issuer *x509.Certificate
	now    time.Time
	log    logged
}

// logged is a log that many write to.
type logged struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{dir: t.TempDir(), key: newKey(t), now: time.Now()}
	w.issuer = w.sign(t, &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Device CA"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}, nil, w.key)
	return w
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// sign makes a certificate that has been good for an hour.
func (w *world) sign(t *testing.T, template, parent *x509.Certificate, key *ecdsa.PrivateKey) *x509.Certificate {
	t.Helper()
	template.NotBefore, template.NotAfter = w.now.Add(-time.Hour), w.now.Add(1000*time.Hour)
	if parent == nil {
		parent = template
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), w.key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func (w *world) device(t *testing.T, serial int64) *x509.Certificate {
	t.Helper()
	return w.sign(t, &x509.Certificate{SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "device"}}, w.issuer, newKey(t))
}

// write makes a file with some certificates revoked, and reads it back.
func (w *world) write(t *testing.T, name string, number uint64, base *offline.Filter, revoked ...int64) *offline.Filter {
	t.Helper()
	file, err := offline.Build(t.Context(), w.issuer, w.key, offline.Plan{Number: number, ThisUpdate: w.now, NextUpdate: w.now.Add(time.Hour), CoversUntil: w.now.Add(-10 * time.Minute), Base: base},
		func(_ context.Context, each func([]byte, bool) error) error {
			for serial := int64(2); serial < 10; serial++ {
				good := true
				for _, r := range revoked {
					good = good && r != serial
				}
				if err := each(big.NewInt(serial).Bytes(), good); err != nil {
					return err
				}
			}
			return nil
		})
	if err != nil {
		t.Fatal(err)
	}
	w.put(t, name, file)
	if base != nil {
		return base
	}
	filter, err := offline.Open(file, w.issuer)
	if err != nil {
		t.Fatal(err)
	}
	return filter
}

// put writes a file as others do who replace one: by renaming.
func (w *world) put(t *testing.T, name string, content []byte) {
	t.Helper()
	temporary := filepath.Join(w.dir, "new")
	if err := os.WriteFile(temporary, content, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(temporary, filepath.Join(w.dir, name)); err != nil {
		t.Fatal(err)
	}
}

// serve starts a hook on base and delta, and gives its address.
func (w *world) serve(t *testing.T, open bool) string {
	t.Helper()
	files, err := hook.Open(hook.Paths{Bases: []string{filepath.Join(w.dir, "base")}, Deltas: []string{filepath.Join(w.dir, "delta")}, Issuers: []*x509.Certificate{w.issuer}}, 0)
	if err != nil {
		t.Fatal(err)
	}
	h := &hook.Hook{Files: files, Open: open, Good: "allow", Log: slog.New(slog.NewTextHandler(&w.log, nil)), Now: func() time.Time { return w.now }}
	s := httptest.NewServer(h.Handler())
	t.Cleanup(s.Close)
	return s.URL
}

func pemOf(c *x509.Certificate) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}))
}

// post asks in JSON.
func post(t *testing.T, address string, fields map[string]any) (status int, body string) {
	t.Helper()
	text, err := json.Marshal(fields)
	if err != nil {
		t.Fatal(err)
	}
	return send(t, address, "application/json", string(text))
}

func send(t *testing.T, address, contentType, text string) (status int, body string) {
	t.Helper()
	res, err := http.Post(address, contentType, strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, strings.TrimSpace(string(b))
}

// allowed asks in EMQX's shape.
func allowed(t *testing.T, address string, cert *x509.Certificate) bool {
	t.Helper()
	status, body := post(t, address+"/emqx", map[string]any{"clientid": "c", "cert_pem": pemOf(cert)})
	if status != http.StatusOK || body != `{"is_superuser":false,"result":"allow"}` && body != `{"is_superuser":false,"result":"deny"}` {
		t.Errorf("status %d: %s", status, body)
	}
	return strings.Contains(body, "allow")
}

func TestShapes(t *testing.T) {
	w := newWorld(t)
	w.write(t, "base", 1, nil, 3)
	at := w.serve(t, false)
	good, revoked := w.device(t, 2), w.device(t, 3)
	if !allowed(t, at, good) || allowed(t, at, revoked) {
		t.Error("EMQX's shape: wrong answers")
	}
	for name, text := range map[string]string{
		"PEM": pemOf(good), "base64 of PEM": base64.StdEncoding.EncodeToString([]byte(pemOf(good))), "base64 of DER": base64.StdEncoding.EncodeToString(good.Raw),
	} {
		if status, body := post(t, at+"/user", map[string]any{"username": "u", "password": "p", "clientid": "c", "cert_pem": text}); status != http.StatusOK || body != `{"error":"","ok":true}` {
			t.Errorf("%s: %d %s", name, status, body)
		}
	}
	form := url.Values{"username": {"u"}, "cert_pem": {pemOf(good)}}
	if status, _ := send(t, at+"/user", "application/x-www-form-urlencoded", form.Encode()); status != http.StatusOK {
		t.Errorf("a form: %d", status)
	}
	form.Set("cert_pem", pemOf(revoked))
	if status, body := send(t, at+"/user", "application/x-www-form-urlencoded", form.Encode()); status != http.StatusForbidden || body != `{"error":"refused","ok":false}` {
		t.Errorf("a form with a revoked certificate: %d %s", status, body)
	}
	for _, path := range []string{"/superuser", "/acl"} {
		if status, _ := post(t, at+path, map[string]any{"username": "u", "cert_pem": pemOf(good)}); status != http.StatusForbidden {
			t.Errorf("%s: %d", path, status)
		}
	}
	if !strings.Contains(w.log.String(), "serial=03") || !strings.Contains(w.log.String(), "revoked or on hold") {
		t.Errorf("the log does not tell of the refusal:\n%s", w.log.String())
	}
}

// TestMalformed sends what no broker sends: it is refused, and to EMQX with
// status 200, which would go on otherwise.
func TestMalformed(t *testing.T) {
	w := newWorld(t)
	w.write(t, "base", 1, nil)
	for _, open := range []bool{false, true} {
		at := w.serve(t, open)
		for name, text := range map[string]string{
			"nothing": "", "no JSON": "<xml>", "an array": "[]", "no certificate": `{"clientid":"c"}`, "an empty one": `{"cert_pem":""}`, "undefined": `{"cert_pem":"undefined"}`,
			"no base64": `{"cert_pem":"?"}`, "half a certificate": `{"cert_pem":"` + base64.StdEncoding.EncodeToString(w.issuer.Raw[:100]) + `"}`,
			"a key": `{"cert_pem":"-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----"}`, "too long": `{"cert_pem":"` + strings.Repeat("A", 300<<10) + `"}`,
		} {
			if status, body := send(t, at+"/emqx", "application/json", text); status != http.StatusOK || !strings.Contains(body, `"deny"`) {
				t.Errorf("%s: %d %s", name, status, body)
			}
			if status, _ := send(t, at+"/user", "application/json", text); status != http.StatusForbidden {
				t.Errorf("%s: %d", name, status)
			}
		}
	}
}

// TestOpenAndClosed asks about what the filter cannot tell.
func TestOpenAndClosed(t *testing.T) {
	w := newWorld(t)
	w.write(t, "base", 1, nil, 3)
	good, revoked := w.device(t, 2), w.device(t, 3)
	stranger := newWorld(t).device(t, 2)
	w.now = w.now.Add(55 * time.Minute)
	young := w.device(t, 7)
	for _, c := range []struct {
		open                 bool
		later                time.Duration
		good, young, healthy bool
	}{
		{open: false, good: true, healthy: true},
		{open: true, good: true, young: true, healthy: true},
		{open: false, later: time.Hour},
		{open: true, later: time.Hour, good: true, young: true},
	} {
		at := w.serve(t, c.open)
		w.now = w.now.Add(c.later)
		if got := allowed(t, at, good); got != c.good {
			t.Errorf("%+v: good: %v", c, got)
		}
		if got := allowed(t, at, young); got != c.young {
			t.Errorf("%+v: later than the filter: %v", c, got)
		}
		if allowed(t, at, revoked) || allowed(t, at, stranger) {
			t.Errorf("%+v: let in", c)
		}
		if res, err := http.Get(at + "/healthz"); err != nil || (res.StatusCode == http.StatusOK) != c.healthy {
			t.Errorf("%+v: health: %v %v", c, res, err)
		}
		w.now = w.now.Add(-c.later)
	}
}

// TestReload replaces the files under the hook.
func TestReload(t *testing.T) {
	w := newWorld(t)
	base := w.write(t, "base", 1, nil)
	at := w.serve(t, false)
	cert := w.device(t, 4)
	step := func(what string, want bool) {
		t.Helper()
		if got := allowed(t, at, cert); got != want {
			t.Fatalf("%s: let in: %v\n%s", what, got, w.log.String())
		}
	}
	step("at first", true)
	w.write(t, "delta", 2, base, 4)
	step("with a delta that revokes it", false)
	w.write(t, "delta", 3, base)
	step("with a delta that releases it", true)
	w.write(t, "delta", 4, base, 4)
	step("revoked again", false)
	w.write(t, "delta", 3, base)
	step("with the older delta put back", false)
	w.put(t, "delta", []byte("touchmark status, not really"))
	step("with a broken delta", false)
	if err := os.Remove(filepath.Join(w.dir, "delta")); err != nil {
		t.Fatal(err)
	}
	step("with the delta taken away", false)
	w.write(t, "base", 5, nil)
	step("with a new base", true)
	if !strings.Contains(w.log.String(), "the file is older") {
		t.Errorf("the log does not tell of the older file:\n%s", w.log.String())
	}
}

func TestOpenRefuses(t *testing.T) {
	w, other := newWorld(t), newWorld(t)
	w.write(t, "base", 1, nil)
	base := filepath.Join(w.dir, "base")
	for name, p := range map[string]hook.Paths{
		"no such file":     {Bases: []string{base + "x"}, Issuers: []*x509.Certificate{w.issuer}},
		"no CA":            {Bases: []string{base}},
		"another CA":       {Bases: []string{base}, Issuers: []*x509.Certificate{other.issuer}},
		"a base for delta": {Bases: []string{base}, Deltas: []string{base}, Issuers: []*x509.Certificate{w.issuer}},
	} {
		if _, err := hook.Open(p, 0); err == nil {
			t.Errorf("%s: it was opened", name)
		}
	}
}
