//go:build pkcs11

package main

import (
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// ready asks the server whether it is.
func (w *world) ready(t *testing.T) (status int, text string) {
	t.Helper()
	resp, err := http.Get("http://" + w.server.Addr["ops"] + "/readyz")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

// becomes waits until the server is ready, or is not.
func (w *world) becomes(t *testing.T, want int) (text string) {
	t.Helper()
	deadline := time.Now().Add(2 * time.Minute) // only a server that never does meets it
	for {
		status, text := w.ready(t)
		if status == want {
			return text
		}
		if time.Now().After(deadline) {
			t.Fatalf("the server's readiness stays %d: %s", status, text)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// An HSM goes while the server runs: it says that it is not ready, devices are
// told to come again, and nothing is lost. The HSM comes back: it is found, and
// the same devices get in, one unit each.
func TestHSMThatVanishes(t *testing.T) {
	data, r := initHSM(t, softHSM(t, "1234")+"?pin-value=1234")
	r.want(t, 0)
	w := newWorldIn(t, data)
	one, two := newDevice(t, "A-0001"), newDevice(t, "A-0002")
	w.handIn(t, one, two)
	if code := one.enrol(t, w); code != 200 {
		t.Fatalf("enrolment: %d", code)
	}
	w.becomes(t, 200)
	tokens := filepath.Join(filepath.Dir(os.Getenv("SOFTHSM2_CONF")), "tokens")
	if err := os.Rename(tokens, tokens+".away"); err != nil {
		t.Fatal(err)
	}
	if text := w.becomes(t, 503); !strings.Contains(text, "device-ca cannot sign") || strings.Contains(text, "1234") {
		t.Errorf("readiness says %s", text)
	}
	if a := two.ask(t, w); a.StatusCode != 503 || a.Header.Get("Retry-After") == "" {
		t.Errorf("a device is answered %d, Retry-After %q", a.StatusCode, a.Header.Get("Retry-After"))
	}
	w.admin(t, "order", "show", "PO-1").want(t, 0, "1 of 5 (4 left)")
	if err := os.Rename(tokens+".away", tokens); err != nil {
		t.Fatal(err)
	}
	w.becomes(t, 200)
	for range 2 {
		if code := two.enrol(t, w); code != 200 {
			t.Errorf("after the HSM is back: %d", code)
		}
	}
	w.admin(t, "order", "show", "PO-1").want(t, 0, "2 of 5 (3 left)")
	w.admin(t, "audit", "verify").want(t, 0, "nothing is wrong")
}

// A ceremony whose keys, the root's and the new CA's, are in an HSM.
func TestCeremonyInAnHSM(t *testing.T) {
	token := softHSM(t, "1234") + "?pin-value=1234"
	key := func(id, name string) string { return strings.NewReplacer("{id}", id, "{name}", name).Replace(token) }
	data, r := initHSM(t, token)
	r.want(t, 0)
	config := filepath.Join(data, "touchmark.yaml")
	text, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	changed := strings.Replace(string(text), "\nkeys: {", "\nkeys: {issuer-acme-ca: \""+key("a1", "issuer-acme-ca")+"\", ", 1)
	if changed == string(text) {
		t.Fatalf("no keys in\n%s", text)
	}
	if err := os.WriteFile(config, []byte(changed), 0o600); err != nil {
		t.Fatal(err)
	}
	w := newWorldIn(t, data)
	requests, signed := filepath.Join(t.TempDir(), "requests"), filepath.Join(t.TempDir(), "signed")
	run(t, "--dir", data, "ca", "request", "acme-ca", "-o", requests).want(t, 0, "CN=acme-ca")
	run(t, "ca", "sign", requests, "--root-key", key("01", "root"), "--root-cert", filepath.Join(data, "ca", "root.crt"), "-o", signed, "--yes").want(t, 0, "CN=acme-ca")
	run(t, "--dir", data, "--server", "https://"+w.server.Addr["api"], "ca", "import", signed, "--yes").want(t, 0, "the server has the certificate")
	if _, err := os.Stat(filepath.Join(data, "keys", "issuer-acme-ca.key")); err == nil {
		t.Error("the new CA's key is a file")
	}
	w.admin(t, "issuer", "default", "acme-ca").want(t, 0)
	device := newDevice(t, "A-0001")
	w.handIn(t, device)
	if code := device.enrol(t, w); code != 200 {
		t.Errorf("enrolment: %d", code)
	}
	w.becomes(t, 200)
}
