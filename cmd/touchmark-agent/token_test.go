//go:build pkcs11

package main

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/touchmark/touchmark/device/devicetest"
)

// tags and cgo are how the program is built that the tests run.
const tags, cgo = "pkcs11", "CGO_ENABLED=1"

// TestTokenFromFirstEnrolmentToRenewal has the program keep its keys in a token:
// it makes them there, is killed in a renewal, and finds the token again that
// was pulled.
func TestTokenFromFirstEnrolmentToRenewal(t *testing.T) {
	const pin = "hush17"
	tokens := newToken(t, pin)
	server := devicetest.New(t)
	m := newMachine(t, server, "rekey: true", "files: {bundle: out.pem}",
		"keys: pkcs11:token=gw;object=agent?module-path=/usr/lib/softhsm/libsofthsm2.so&pin-source="+filepath.Join(tokens, "..", "pin"))
	m.must("bootstrap")
	m.must("once")
	number := m.status().Certificate.Number
	m.must("renew")
	if got := m.status(); got.Certificate.Number == number || got.Keys != "pkcs11" {
		t.Errorf("after a renewal: %+v", got)
	}

	h := hold(server)
	s := m.run()
	s.until("STATUS=active")
	m.must("renew")
	h.kill(s)
	keys, number := server.Keys(), m.status().Certificate.Number
	s = m.run()
	m.until(s, func() bool { return m.status().Certificate.Number != number })
	if n := server.Keys(); n != keys {
		t.Errorf("%d keys were certified, %d before the agent was killed", n, keys)
	}

	number = m.status().Certificate.Number
	if err := os.Rename(tokens, tokens+".away"); err != nil {
		t.Fatal(err)
	}
	m.must("renew")
	s.until("STATUS=active, certificate until")
	m.until(s, func() bool { return m.status().Problem != "" })
	if err := os.Rename(tokens+".away", tokens); err != nil {
		t.Fatal(err)
	}
	m.until(s, func() bool { return m.status().Certificate.Number != number })
	m.noKeys(t, pin, s.log.String())
	out, err := exec.Command("p11tool", "--provider=/usr/lib/softhsm/libsofthsm2.so", "--login", "--set-pin="+pin, "--list-privkeys", "pkcs11:token=gw").CombinedOutput()
	n := strings.Count(string(out), "Label: agent")
	if err != nil || n == 0 || n > 4 || strings.Count(string(out), "CKA_NEVER_EXTRACTABLE") != n {
		t.Errorf("%d keys are in the token, want at most 4 that never could be read out: %v\n%s", n, err, out)
	}
}

func newToken(t *testing.T, pin string) (tokens string) {
	t.Helper()
	dir := t.TempDir()
	tokens = filepath.Join(dir, "tokens")
	conf := filepath.Join(dir, "softhsm2.conf")
	if err := os.Mkdir(tokens, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{conf: "directories.tokendir = " + tokens + "\n", filepath.Join(dir, "pin"): pin + "\n"} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("SOFTHSM2_CONF", conf)
	if out, err := exec.Command("softhsm2-util", "--init-token", "--free", "--label", "gw", "--pin", pin, "--so-pin", "5678").CombinedOutput(); err != nil {
		t.Fatalf("softhsm2-util: %v\n%s", err, out)
	}
	return tokens
}

// noKeys demands that neither a key nor the PIN is in the machine's files but
// the configured one, or in what the agent said.
func (m *machine) noKeys(t *testing.T, pin, said string) {
	t.Helper()
	err := filepath.WalkDir(m.dir, func(file string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		text, err := os.ReadFile(file)
		said += string(text)
		return err
	})
	if err != nil || strings.Contains(said, pin) || strings.Contains(said, "BEGIN PRIVATE KEY") || strings.Contains(said, "BEGIN EC PRIVATE KEY") {
		t.Errorf("a secret is outside of the token (%v): %s", err, said)
	}
}
