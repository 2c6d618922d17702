//go:build pkcs11

package main

import (
	"encoding/base64"
	"encoding/pem"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/touchmark/touchmark/vetting"
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
	opensACME(t, data)
	w := newWorldIn(t, data)
	one, two := newDevice(t, "A-0001"), newDevice(t, "A-0002")
	w.handIn(t, one, two)
	three := w.attesting(t)
	if code := one.enrol(t, w); code != 200 {
		t.Fatalf("enrolment: %d", code)
	}
	w.becomes(t, 200)
	cert := w.certificate(t, "A-0001")
	w.says(t, cert, "good")
	tokens := filepath.Join(filepath.Dir(os.Getenv("SOFTHSM2_CONF")), "tokens")
	if err := os.Rename(tokens, tokens+".away"); err != nil {
		t.Fatal(err)
	}
	if text := w.becomes(t, 503); !strings.Contains(text, "device-ca cannot sign") || !strings.Contains(text, "OCSP answers cannot be signed") || strings.Contains(text, "1234") {
		t.Errorf("readiness says %s", text)
	}
	w.says(t, cert, "trylater")
	if a := two.ask(t, w); a.StatusCode != 503 || a.Header.Get("Retry-After") == "" {
		t.Errorf("a device is answered %d, Retry-After %q", a.StatusCode, a.Header.Get("Retry-After"))
	}
	if status, after := two.askOverMQTT(t, w); status != 503 || after == 0 {
		t.Errorf("over MQTT a device is answered %d, retryAfter %d", status, after)
	}
	if status := two.askToProvision(t, w); status != 503 {
		t.Errorf("over fleet provisioning a device is answered %d", status)
	}
	status, overACME := w.asksOverACME(t, three)
	if status != 503 {
		t.Errorf("over ACME a device is answered %d", status)
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
	overACME.finishes(t)
	w.admin(t, "order", "show", "PO-1").want(t, 0, "3 of 5 (2 left)")
	w.says(t, cert, "good")
	w.server.stop(t) // which publishes the last checkpoint
	w.server = serve(t, data)
	w.admin(t, "audit", "verify").want(t, 0, "nothing is wrong")
	w.opensslReadsCheckpoint(t)
	inToken(t, "1234", "root", "device-ca", "factory-ca", "operator-ca", "codesign-ca", "log", "responder", "attestation", "timestamp")
}

// certificate writes the certificate of a device to a file.
func (w *world) certificate(t *testing.T, serial string) (file string) {
	t.Helper()
	d := decodeAs[vetting.Device](t, w.admin(t, "device", "show", serial, "--json").want(t, 0).out)
	text := w.admin(t, "certificate", "show", d.Certificate, "--pem").want(t, 0).out
	return written(t, []byte(text))
}

func written(t *testing.T, b []byte) (file string) {
	t.Helper()
	file = filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// says has openssl ask over OCSP what a certificate is, with a nonce, so that
// the answer is signed anew.
func (w *world) says(t *testing.T, cert, want string) {
	t.Helper()
	device, root := filepath.Join(w.dir, "ca", "device-ca.crt"), filepath.Join(w.dir, "ca", "root.crt")
	cmd := exec.Command("openssl", "ocsp", "-issuer", device, "-cert", cert, "-url", "http://"+w.server.Addr["status"]+"/ocsp", "-CAfile", root)
	deadline := time.Now().Add(time.Minute) // what was issued is followed within moments
	for {
		out, _ := cmd.CombinedOutput()
		if strings.Contains(string(out), want) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("want %s, openssl says\n%s", want, out)
		}
		cmd = exec.Command(cmd.Path, cmd.Args[1:]...)
	}
}

// opensslReadsCheckpoint: the log's checkpoint is signed with ECDSA, as the
// C2SP says.
func (w *world) opensslReadsCheckpoint(t *testing.T) {
	t.Helper()
	verifier, err := os.ReadFile(filepath.Join(w.dir, "log", "verifier"))
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.SplitN(strings.TrimSpace(string(verifier)), "+", 3)
	key, err := base64.StdEncoding.DecodeString(parts[2])
	if err != nil || key[0] != 2 {
		t.Fatalf("verifier %s, %v", verifier, err)
	}
	signed := w.admin(t, "audit", "checkpoint").want(t, 0).out
	text, line, _ := strings.Cut(signed, "\n\n")
	signature, err := base64.StdEncoding.DecodeString(strings.Fields(line)[2])
	if err != nil {
		t.Fatal(err)
	}
	public := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: key[1:]})
	out, err := exec.Command("openssl", "dgst", "-sha256", "-verify", written(t, public), "-signature", written(t, signature[4:]), written(t, []byte(text+"\n"))).CombinedOutput()
	if err != nil {
		t.Errorf("openssl: %v\n%s\n%s", err, out, signed)
	}
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
