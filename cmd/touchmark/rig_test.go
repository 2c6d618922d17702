package main

import (
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"os"
	"path/filepath"
	"testing"

	"github.com/touchmark/touchmark/server/api"
	"github.com/touchmark/touchmark/vetting"
)

// request makes a unit's PKCS#10 request.
func request(t *testing.T, serial string) (file string) {
	t.Helper()
	key, _ := newKey(t)
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: serial}}, key)
	if err != nil {
		t.Fatal(err)
	}
	file = filepath.Join(t.TempDir(), serial+".csr")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// A technician's hour: a unit goes through, one is held while the order is
// paused, one is not in the manifest.
func TestRigRegister(t *testing.T) {
	w := newWorld(t)
	dir := filepath.Join(t.TempDir(), "rig-7")
	w.admin(t, "product", "update", "thermostat", "--proof", "rig").want(t, 0)
	w.admin(t, "operator", "add", "rig-7", "--role", "rig", "--site", "penang", "--out", dir).want(t, 0)
	w.site(t, "manifest", "upload", "PO-1", manifestFile(t, 3), "--sign").want(t, 0)
	rig := func(args ...string) ran {
		t.Helper()
		return touchmark(t, append([]string{"--dir", dir, "rig", "register"}, args...)...)
	}
	out := filepath.Join(t.TempDir(), "unit.crt")
	csr := request(t, "A-000000")
	rig("--serial", "A-000000", "--csr", csr, "--out", out).want(t, 0, "admitted", "within its quota", out)
	text, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	if cert, err := x509.ParseCertificate(block.Bytes); err != nil || cert.Subject.SerialNumber != "A-000000" {
		t.Errorf("%v, %v", cert, err)
	}
	again := decodeAs[api.RegistrationResult](t, rig("--serial", "A-000000", "--csr", csr, "--json").want(t, 0).out)
	if again.Certificate != string(text) || again.Reasons[0].Code != vetting.ReasonRepeated {
		t.Errorf("asked again: %+v", again)
	}
	w.admin(t, "order", "pause", "PO-1").want(t, 0)
	rig("--serial", "A-000001", "--csr", request(t, "A-000001")).want(t, exitHeld, "held", "paused", "ask again in")
	w.admin(t, "order", "open", "PO-1").want(t, 0)
	rig("--serial", "A-000001", "--csr", request(t, "A-000001")).want(t, 0, "admitted", "BEGIN CERTIFICATE")
	rig("--serial", "A-000009", "--csr", request(t, "A-000009")).want(t, exitFailed, "refused", "No manufacturing record")
	rig("--serial", "A-000002", "--csr", filepath.Join(t.TempDir(), "none")).want(t, exitFailed, "the unit's request")
	rig("--csr", csr).want(t, exitUsage, "serial")
	w.site(t, "rig", "register", "--serial", "A-000002", "--csr", csr).want(t, exitFailed, "register devices")
}
