package main

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"os"
	"path/filepath"
	"testing"

	"github.com/touchmark/touchmark/vetting/vendorid/vendoridtest"
)

// A vendor's file becomes a manifest that is handed in; one with errors
// becomes none.
func TestManifestConvert(t *testing.T) {
	w, maker, dir := newWorld(t), vendoridtest.New(t, "Modules"), t.TempDir()
	module := maker.Device(&x509.Certificate{Subject: pkix.Name{CommonName: "node-7"}})
	from, to := filepath.Join(dir, "modules.csv"), filepath.Join(dir, "units.jsonl")
	line := "A4CF12000001,node-7,\"" + vendoridtest.PEM(module) + "\"\n"
	save := func(text string) {
		t.Helper()
		if err := os.WriteFile(from, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	save("MAC,cn,cert\nA4CF12,node-7,x\n" + line + "B,C\n")
	touchmark(t, "manifest", "convert", from, "--format", "espressif", "-o", to).want(t, exitFailed, "line 2: cert", "fields, the header 3", "2 errors: no manifest was written")
	if _, err := os.Stat(to); !os.IsNotExist(err) {
		t.Fatalf("a manifest was left: %v", err)
	}
	save("MAC,cn,cert\n" + line)
	touchmark(t, "manifest", "convert", from, "--format", "word", "-o", to).want(t, exitFailed, "microchip, infineon, espressif, tpm")
	touchmark(t, "manifest", "convert", from, "--format", "microchip", "-o", to).want(t, exitFailed, "no signer is named")
	touchmark(t, "manifest", "convert", from, "--format", "espressif", "-o", to).want(t, 0, "1 record")
	touchmark(t, "manifest", "convert", from, "--format", "espressif", "-o", to).want(t, exitFailed, "exists")
	w.site(t, "manifest", "upload", "PO-1", to, "--sign").want(t, 0, "loaded")
	w.admin(t, "device", "show", "node-7").want(t, 0, "a4:cf:12:00:00:01")
}
