//go:build pkcs11

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// With --kms the CAs' keys are made in an HSM, and the server works with
// them there.
func TestKeysInAnHSM(t *testing.T) {
	dir := t.TempDir()
	tokens := filepath.Join(dir, "tokens")
	if err := os.Mkdir(tokens, 0o700); err != nil {
		t.Fatal(err)
	}
	conf := filepath.Join(dir, "softhsm2.conf")
	if err := os.WriteFile(conf, []byte("directories.tokendir = "+tokens+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SOFTHSM2_CONF", conf)
	if out, err := exec.Command("softhsm2-util", "--init-token", "--free", "--label", "tm", "--pin", "1234", "--so-pin", "5678").CombinedOutput(); err != nil {
		t.Fatalf("softhsm2-util: %v\n%s", err, out)
	}
	data := filepath.Join(dir, "d")
	r := touchmark(t, "init", data, "--name", "HSM Works", "--est", "127.0.0.1:0", "--api", "127.0.0.1:0", "--ops", "127.0.0.1:0",
		"--kms", "pkcs11:module-path=/usr/lib/softhsm/libsofthsm2.so;token=tm;id={id};object={name}?pin-value=1234").want(t, 0, "object=root")
	if strings.Contains(r.out, "1234") {
		t.Errorf("the PIN was printed:\n%s", r.out)
	}
	for _, name := range []string{"root", "device-ca", "factory-ca", "operator-ca", "codesign-ca"} {
		if _, err := os.Stat(filepath.Join(data, "keys", name+".key")); err == nil {
			t.Errorf("the key of %s is a file", name)
		}
	}
	touchmark(t, "serve", "--check", "--dir", data).want(t, 0)
	w := &world{dir: data, server: serve(t, data)}
	w.admin(t, "site", "create", "penang").want(t, 0)
	w.admin(t, "operator", "add", "anna", "--role", "site-operator", "--site", "penang", "--out", filepath.Join(dir, "anna")).want(t, 0)
}
