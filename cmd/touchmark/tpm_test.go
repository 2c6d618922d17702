package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/touchmark/touchmark/vetting/vendorid/vendoridtest"
)

// A planner has a product take TPMs of a maker, and takes that back.
func TestTPM(t *testing.T) {
	w, maker := newWorld(t), vendoridtest.New(t, "Chips")
	anchors := filepath.Join(t.TempDir(), "root.pem")
	if err := os.WriteFile(anchors, []byte(vendoridtest.PEM(maker.Root)), 0o600); err != nil {
		t.Fatal(err)
	}
	w.admin(t, "tpm", "set", "thermostat", "chips").want(t, exitUsage, "anchors")
	w.admin(t, "tpm", "set", "thermostat", "chips", "--anchors", anchors).want(t, 0, "does not accept the proof tpm", "Chips Root CA")
	w.admin(t, "product", "update", "thermostat", "--attested").want(t, exitFailed, "the proof tpm is not accepted")
	w.admin(t, "product", "update", "thermostat", "--proof", "tpm", "--attested").want(t, 0, "only keys that a TPM attested", "chips")
	w.admin(t, "tpm", "list", "thermostat").want(t, 0, "Chips Root CA", "SHA-256")
	w.admin(t, "tpm", "remove", "thermostat", "chips").want(t, 0, "trusts no makers")
	w.admin(t, "tpm", "remove", "thermostat", "chips").want(t, exitFailed, `no maker "chips"`)
	w.admin(t, "audit", "verify").want(t, 0)
}
