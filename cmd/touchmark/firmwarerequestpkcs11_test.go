//go:build pkcs11

package main

import (
	"os"
	"strings"
	"testing"
)

// The key of a vault is in an HSM: it is made there, signs there, and its PIN
// is never shown.
func TestAVaultWithAnHSM(t *testing.T) {
	key := strings.NewReplacer("{id}", "07", "{name}", "hsm").Replace(softHSM(t, "1234")) + "?pin-value=1234"
	w := newVaultWorld(t)
	const name = "thermostat@1.4.0"
	run(t, "firmware", "key", "request", "hsm", "--key", key, "--create", "P-384", "-o", w.safe("hsm.csr")).want(t, 0)
	w.admin(t, "firmware", "key", "import", "hsm", "--product", "thermostat", "--csr", w.safe("hsm.csr")).want(t, 0, "P-384")
	ticket := w.approved(t, name, "hsm")
	w.export(t, name, "request.json")
	sign := func(key string) ran {
		return run(t, "firmware", "request", "sign", w.safe("request.json"), "--key", key, "--root", w.safe("root.crt"), "-o", w.safe("response.json"), "--yes")
	}
	r := sign(strings.Replace(key, "pin-value=1234", "pin-value=9999", 1)).want(t, exitFailed)
	if _, err := os.Stat(w.safe("response.json")); err == nil || strings.Contains(r.out+r.err, "9999") {
		t.Errorf("with a wrong PIN: %v\n%s%s", err, r.out, r.err)
	}
	if r := sign(key).want(t, 0, "The key hsm signs exactly this"); strings.Contains(r.out+r.err, "1234") {
		t.Errorf("the PIN is shown:\n%s%s", r.out, r.err)
	}
	w.take(t, "response.json").want(t, 0, "signed")
	w.as(t, w.erna, "collect", ticket, w.file("app.bin")).want(t, 0, "verified by")
}
