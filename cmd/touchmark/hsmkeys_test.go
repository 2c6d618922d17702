//go:build pkcs11

package main

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/touchmark/touchmark/internal/ca"
)

// An installation whose keys are files gets those of its own into an HSM, and
// uses them there.
func TestOwnKeysInAnHSMLater(t *testing.T) {
	token := softHSM(t, "1234") + "?pin-value=1234"
	data, r := initHSM(t, "")
	r.want(t, 0)
	run(t, "ca", "make-key", "responder", "--dir", data).want(t, exitFailed, "keys:")
	config := filepath.Join(data, "touchmark.yaml")
	text, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	text = regexp.MustCompile("(?m)^keys: .*$").ReplaceAll(text, nil) // what init has there
	text = append(text, "\nkeys:\n"...)
	for n, name := range ca.OwnKeys {
		uri := strings.NewReplacer("{id}", fmt.Sprintf("%02x", 0x10+n), "{name}", name).Replace(token)
		text = fmt.Appendf(text, "  %s: %q\n", name, uri)
	}
	if err := os.WriteFile(config, text, 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, "serve", "--check", "--dir", data).want(t, exitFailed, "ca make-key")
	made := run(t, append([]string{"ca", "make-key", "--dir", data}, ca.OwnKeys...)...).want(t, 0, "attestation: made in pkcs11:", "pin-value=…", "Restart")
	run(t, "ca", "make-key", "attestation", "--dir", data).want(t, exitFailed, "already exists")
	run(t, "ca", "make-key", "log", "--dir", data).want(t, exitFailed, "keeps it")
	run(t, "ca", "make-key", "device-ca", "--dir", data).want(t, exitFailed, "issuer create")
	inToken(t, "1234", ca.OwnKeys...)

	w := newWorldIn(t, data)
	device := newDevice(t, "A-0001")
	w.handIn(t, device)
	if code := device.enrol(t, w); code != 200 {
		t.Fatalf("enrolment: %d", code)
	}
	shown, attestation := w.attestationCA(t)
	for name, cert := range map[string]*x509.Certificate{"tls": shown, "attestation": attestation} {
		if hash := sha256.Sum256(cert.RawSubjectPublicKeyInfo); !strings.Contains(made.out, hex.EncodeToString(hash[:])) {
			t.Errorf("the key %s is not the one that was made:\n%s", name, made.out)
		}
	}
	if err := attestation.CheckSignatureFrom(attestation); err != nil {
		t.Error(err)
	}
	cert := w.certificate(t, "A-0001")
	w.says(t, cert, "good")
	w.becomes(t, 200)
	tokens := filepath.Join(filepath.Dir(os.Getenv("SOFTHSM2_CONF")), "tokens")
	if err := os.Rename(tokens, tokens+".away"); err != nil {
		t.Fatal(err)
	}
	if text := w.becomes(t, 503); !strings.Contains(text, "no TLS connection can begin") || strings.Contains(text, "1234") {
		t.Errorf("readiness says %s", text)
	}
	w.says(t, cert, "trylater")
	if err := os.Rename(tokens+".away", tokens); err != nil {
		t.Fatal(err)
	}
	w.becomes(t, 200)
	w.says(t, cert, "good")
}

// attestationCA asks for the attestation CA's certificate; server is the one
// that the server itself shows.
func (w *world) attestationCA(t *testing.T) (server, attestation *x509.Certificate) {
	t.Helper()
	root, err := os.ReadFile(filepath.Join(w.dir, "ca", "root.crt"))
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(root)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}}
	defer client.CloseIdleConnections()
	resp, err := client.Get("https://" + w.server.Addr["est"] + "/device/v1/tpm/ca")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(body)
	if block == nil {
		t.Fatalf("%s: %s", resp.Status, body)
	}
	if attestation, err = x509.ParseCertificate(block.Bytes); err != nil {
		t.Fatal(err)
	}
	return resp.TLS.PeerCertificates[0], attestation
}
