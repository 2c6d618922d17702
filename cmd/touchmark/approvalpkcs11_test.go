//go:build pkcs11

package main

import (
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/touchmark/touchmark/internal/keys"
	"github.com/touchmark/touchmark/vetting"
)

// An operator whose key is in a token connects and approves with it.
func TestApproveFromAToken(t *testing.T) {
	key := strings.NewReplacer("{id}", "01", "{name}", "berta").Replace(softHSM(t, "1234")) + "?pin-value=1234"
	signer, err := keys.Ring{}.Create(t.Context(), key, keys.P256)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, new(x509.CertificateRequest), signer)
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "berta")
	csr := filepath.Join(t.TempDir(), "berta.csr")
	if err := os.WriteFile(csr, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	w := newWorld(t)
	w.admin(t, "operator", "add", "berta", "--role", "approver", "--csr", csr, "--out", dir).want(t, 0)
	w.admin(t, "order", "create", "PO-2", "--product", "thermostat", "--site", "penang", "--quantity", "10", "--raise-approvals", "1").want(t, 0)
	raise := decodeAs[vetting.Raise](t, w.admin(t, "order", "set-quantity", "PO-2", "15", "--note", "more", "--json").want(t, 0).out)

	profile := filepath.Join(dir, "cli.yaml")
	text, err := os.ReadFile(profile)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(profile, fmt.Appendf(text, "key: %q\n", key), 0o600); err != nil {
		t.Fatal(err)
	}
	r := run(t, "--dir", dir, "approval", "approve", fmt.Sprint(raise.ID), "--yes").want(t, 0, "carried-out")
	if strings.Contains(r.out+r.err, "1234") {
		t.Errorf("the PIN is shown:\n%s%s", r.out, r.err)
	}
	wrong := strings.Replace(key, "pin-value=1234", "pin-value=9999", 1)
	r = run(t, "--dir", dir, "--key", wrong, "approval", "list").want(t, exitFailed)
	if strings.Contains(r.out+r.err, "9999") {
		t.Errorf("the PIN is shown:\n%s%s", r.out, r.err)
	}
}
