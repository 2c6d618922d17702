//go:build pkcs11

package token_test

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ThalesGroup/crypto11"
	"github.com/touchmark/touchmark/device"
	"github.com/touchmark/touchmark/device/devicetest"
	"github.com/touchmark/touchmark/device/token"
)

const module = "/usr/lib/softhsm/libsofthsm2.so"

// tokens is the directory that holds the token of all tests: a module knows one
// for as long as the process lives.
var tokens string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "softhsm")
	if err == nil {
		tokens = filepath.Join(dir, "tokens")
		err = errors.Join(os.Mkdir(tokens, 0o700), os.Setenv("SOFTHSM2_CONF", filepath.Join(dir, "conf")),
			os.WriteFile(filepath.Join(dir, "conf"), []byte("directories.tokendir = "+tokens+"\n"), 0o600))
	}
	if err == nil {
		err = exec.Command("softhsm2-util", "--init-token", "--free", "--label", "gw", "--pin", "hush17", "--so-pin", "5678").Run()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "softhsm2-util:", err)
		os.Exit(1)
	}
	code := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// place is a name for keys of the test alone.
func place(t *testing.T) token.Place {
	return token.Place{Module: module, Token: "gw", Object: t.Name(), PIN: "hush17"}
}

func store(t *testing.T, dir string, p token.Place) *device.FileStore {
	t.Helper()
	ring, err := token.Open(p)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ring.(io.Closer).Close() })
	s, err := device.OpenFileStoreOn(dir, ring)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// keysIn counts the keys in a token, each of which must not be extractable.
func keysIn(t *testing.T, p token.Place) int {
	t.Helper()
	ctx, err := crypto11.Configure(&crypto11.Config{Path: p.Module, TokenLabel: p.Token, Pin: p.PIN})
	if err != nil {
		t.Fatal(err)
	}
	defer ctx.Close()
	keys, err := ctx.FindKeyPairs(nil, []byte(p.Object))
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range keys {
		a, err := ctx.GetAttribute(k, crypto11.CkaExtractable)
		if err != nil || len(a.Value) != 1 || a.Value[0] != 0 {
			t.Errorf("a key can be read out: %v %v", a, err)
		}
	}
	return len(keys)
}

// TestLife has a device enrol, renew and re-key with all its keys in a token.
// What is not used any more is not kept in it.
func TestLife(t *testing.T) {
	p := place(t)
	server, dir := devicetest.New(t), t.TempDir()
	roots := x509.NewCertPool()
	roots.AddCert(server.Root)
	d := &device.Device{Serial: "SN-1", Store: store(t, dir, p), Root: server.Root, Client: &device.Client{URL: server.URL, Roots: roots}}
	if _, err := device.MakeBootstrap(d.Store, "SN-1", device.P256, time.Now()); err != nil {
		t.Fatal(err)
	}
	if _, err := d.PowerOn(t.Context()); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		if _, err := d.Renew(t.Context(), true); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.Use(t.Context()); err != nil {
		t.Error(err)
	}
	if n := keysIn(t, p); n != 2 || server.Keys() != 6 {
		t.Errorf("%d keys are in the token, %d were certified", n, server.Keys())
	}
	files, _ := filepath.Glob(filepath.Join(dir, "*.pem"))
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil || bytes.Contains(text, []byte("BEGIN PRIVATE KEY")) || bytes.Contains(text, []byte("hush17")) {
			t.Errorf("%s holds a key or the PIN: %v", f, err)
		}
	}
}

// TestCut: keys that were made when power was cut do not add up.
func TestCut(t *testing.T) {
	p := place(t)
	dir := t.TempDir()
	s := store(t, dir, p)
	if _, err := s.Create(device.Bootstrap, device.P256); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		if _, err := s.Create(device.Pending, device.P384); err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(filepath.Join(dir, "pending.pem")); err != nil { // as if it never came to be
			t.Fatal(err)
		}
	}
	if _, err := s.Create(device.Pending, device.RSA2048); err != nil {
		t.Fatal(err)
	}
	if n := keysIn(t, p); n != 2 {
		t.Errorf("%d keys are in the token", n)
	}
	for _, slot := range []device.Slot{device.Bootstrap, device.Pending} {
		if c, err := s.Load(slot); err != nil {
			t.Error(err)
		} else if _, err := c.Key.Sign(rand.Reader, make([]byte, 32), crypto.SHA256); err != nil {
			t.Errorf("%s: %v", slot, err)
		}
	}
}

// TestTokenGoes: a token that goes and comes back is found again; another one
// is told from it; no error tells the PIN.
func TestTokenGoes(t *testing.T) {
	p := place(t)
	c, err := store(t, t.TempDir(), p).Create(device.Official, device.P256)
	if err != nil {
		t.Fatal(err)
	}
	sign := func() error { _, err := c.Key.Sign(rand.Reader, make([]byte, 32), crypto.SHA256); return err }
	if err := os.Rename(tokens, tokens+".away"); err != nil {
		t.Fatal(err)
	}
	if err := sign(); err == nil || strings.Contains(err.Error(), "hush17") {
		t.Errorf("while the token is away: %v", err)
	}
	if err := os.Rename(tokens+".away", tokens); err != nil {
		t.Fatal(err)
	}
	if err := sign(); err != nil {
		t.Errorf("when it is back: %v", err)
	}
	if _, err := token.Open(token.Place{Module: module, Token: "none", PIN: "wrong17"}); err == nil || strings.Contains(err.Error(), "wrong17") {
		t.Errorf("a token that is not there: %v", err)
	}
	// An agent with another directory takes the places of the first.
	if _, err := store(t, t.TempDir(), p).Create(device.Official, device.P256); err != nil {
		t.Fatal(err)
	}
	if err := sign(); err == nil || !strings.Contains(err.Error(), "enrol anew") {
		t.Errorf("another key in its place: %v", err)
	}
}
