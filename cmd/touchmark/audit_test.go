package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"io"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"crypto/rand"

	"github.com/touchmark/touchmark/vetting"
)

// device is a unit with its bootstrap key.
type device struct {
	serial    string
	bootstrap tls.Certificate
	key       vetting.Fingerprint
}

func newDevice(t *testing.T, serial string) *device {
	t.Helper()
	key, fp := newKey(t)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: serial, SerialNumber: serial}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(10, 0, 0)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return &device{serial, tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, fp}
}

// enrol speaks EST as the device does and returns the status.
func (d *device) enrol(t *testing.T, w *world) int {
	t.Helper()
	return d.ask(t, w).StatusCode
}

// ask returns the whole answer, whose body was read.
func (d *device) ask(t *testing.T, w *world) *http.Response {
	t.Helper()
	root, err := os.ReadFile(filepath.Join(w.dir, "ca", "root.crt"))
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(root)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{d.bootstrap}}}
	defer transport.CloseIdleConnections()
	resp, err := (&http.Client{Transport: transport}).Post("https://"+w.server.Addr["est"]+"/.well-known/est/thermostat/simpleenroll", "application/pkcs10",
		strings.NewReader(base64.StdEncoding.EncodeToString(d.request(t))))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		t.Fatal(err)
	}
	return resp
}

// request is a PKCS#10 on a key of its own.
func (d *device) request(t *testing.T) []byte {
	t.Helper()
	key, _ := newKey(t)
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: d.serial}}, key)
	if err != nil {
		t.Fatal(err)
	}
	return csr
}

func (w *world) handIn(t *testing.T, devices ...*device) {
	t.Helper()
	var b bytes.Buffer
	for _, d := range devices {
		b.WriteString(`{"serial":"` + d.serial + `","bootstrapKey":"` + d.key.String() + "\"}\n")
	}
	file := filepath.Join(t.TempDir(), "units.jsonl")
	if err := os.WriteFile(file, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	w.site(t, "manifest", "upload", "PO-1", file, "--sign").want(t, 0, "loaded")
}

func TestDevicesAndTheLog(t *testing.T) {
	w := newWorld(t)
	one, two, stranger := newDevice(t, "A-0001"), newDevice(t, "4711"), newDevice(t, "Z-9999")
	w.handIn(t, one, two)
	if code := one.enrol(t, w); code != 200 {
		t.Fatalf("enrolment: %d", code)
	}
	if code := stranger.enrol(t, w); code < 400 || code >= 500 {
		t.Errorf("a stranger: %d", code)
	}
	w.admin(t, "registration", "list", "--verdict", "refused").want(t, 0, "Z-9999")
	w.admin(t, "evidence", "list", "--kind", "unknown-device").want(t, 0, "unknown-device")
	d := decodeAs[vetting.Device](t, w.admin(t, "device", "show", "A-0001", "--json").want(t, 0).out)
	if d.State != vetting.DeviceIssued || d.Certificate == "" {
		t.Errorf("device %+v", d)
	}
	w.admin(t, "device", "show", "serial:4711").want(t, 0, "manufactured")
	w.admin(t, "device", "show", "B-1").want(t, exitFailed, "no device")
	w.admin(t, "device", "history", "A-0001").want(t, 0, "row 1 of manifest", "admitted", d.Certificate+"  valid")
	w.admin(t, "device", "release", "A-0001", "--note", "x").want(t, exitFailed, "not in quarantine")
	w.admin(t, "device", "quarantine", "A-0001").want(t, exitUsage, "note")
	w.admin(t, "device", "quarantine", "A-0001", "--note", "seen twice").want(t, exitUsage, "from issued to quarantined", "--yes")
	w.admin(t, "device", "quarantine", "A-0001", "--note", "seen twice", "--yes").want(t, 0, "quarantined")
	w.admin(t, "certificate", "show", d.Certificate).want(t, 0, "on-hold")
	w.admin(t, "device", "release", "A-0001", "--note", "a test of ours").want(t, 0, "issued")
	w.admin(t, "device", "suspend", "A-0001", "--note", "x", "--yes").want(t, exitFailed, "issued")

	file := filepath.Join(t.TempDir(), "device.crt")
	pem := w.admin(t, "certificate", "show", d.Certificate, "--pem").want(t, 0).out
	if err := os.WriteFile(file, []byte(pem), 0o600); err != nil {
		t.Fatal(err)
	}
	w.admin(t, "certificate", "show", file).want(t, 0, d.Certificate)
	w.server.stop(t) // which publishes the last checkpoint
	w.server = serve(t, w.dir)

	proof, verifier := filepath.Join(t.TempDir(), "proof"), filepath.Join(w.dir, "log", "verifier")
	w.admin(t, "audit", "proof", d.Certificate, "-o", proof).want(t, 0, "proved", "vetted")
	touchmark(t, "audit", "check", proof, file, "--verifier", verifier).want(t, 0, "proved")
	touchmark(t, "audit", "check", proof, filepath.Join(w.dir, "admin.crt"), "--verifier", verifier).want(t, exitFailed, "does not record the issuance")
	kept := filepath.Join(t.TempDir(), "checkpoint")
	w.admin(t, "audit", "checkpoint", "--verifier", verifier, "-o", kept).want(t, 0)
	touchmark(t, "audit", "show", "--dir", w.dir, "--from", "0").want(t, 0, "operator.create", "device.")
	touchmark(t, "audit", "verify", "--dir", w.dir, "--checkpoint", kept).want(t, 0, "nothing is wrong", "the log continues it")

	// Somebody with another log's checkpoint, or another key, is told.
	other := initialized(t)
	touchmark(t, "audit", "verify", "--dir", w.dir, "--verifier", filepath.Join(other, "log", "verifier")).want(t, exitFailed)
}
