package device_test

import (
	"crypto"
	"crypto/x509"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/touchmark/touchmark/device"
)

func equal(a, b crypto.Signer) bool {
	return a.Public().(interface{ Equal(crypto.PublicKey) bool }).Equal(b.Public())
}

// TestKeyStores holds every store to the contract of KeyStore.
func TestKeyStores(t *testing.T) {
	for name, store := range map[string]device.KeyStore{
		"file": fileStore(t, filepath.Join(t.TempDir(), "new", "dir")), "memory": new(device.MemoryStore),
	} {
		t.Run(name, func(t *testing.T) {
			for _, err := range []error{second(store.Load(device.Pending)), store.Certify(device.Pending, chain(t)), store.Promote()} {
				if !errors.Is(err, device.ErrEmpty) {
					t.Errorf("an empty slot: %v", err)
				}
			}
			if err := store.Drop(device.Pending); err != nil {
				t.Errorf("drop nothing: %v", err)
			}
			bootstrap, err := device.MakeBootstrap(store, "SN-1", device.P256, time.Now())
			if err != nil {
				t.Fatal(err)
			}
			again, err := device.MakeBootstrap(store, "SN-1", device.P256, time.Now())
			if err != nil || !equal(again.Key, bootstrap.Key) || !again.Leaf().Equal(bootstrap.Leaf()) {
				t.Errorf("made again, the bootstrap key is another: %v", err)
			}
			if _, err := store.Create(device.Pending, device.P256); err != nil {
				t.Fatal(err)
			}
			if err := store.Promote(); err == nil {
				t.Error("a key without certificate became the official one")
			}
			if err := store.Certify(device.Pending, bootstrap.Chain); err == nil {
				t.Error("the certificate of another key was kept")
			}
			if err := store.Certify(device.Pending, nil); err == nil {
				t.Error("an empty chain was kept")
			}
			if c, err := store.Load(device.Pending); err != nil || c.Leaf() != nil {
				t.Errorf("after refused certificates: %v", err)
			}
			if err := store.Drop(device.Pending); err != nil || !errors.Is(second(store.Load(device.Pending)), device.ErrEmpty) {
				t.Errorf("drop: %v", err)
			}
		})
	}
}

func second[T any](_ T, err error) error { return err }

func TestFileStoreAfterCuts(t *testing.T) {
	dir := t.TempDir()
	c, err := device.MakeBootstrap(fileStore(t, dir), "SN-1", device.P256, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "bootstrap.pem")
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the key's file: %v, %v", info.Mode(), err)
	}
	if err := os.WriteFile(path+".tmp", []byte("half a k"), 0o600); err != nil {
		t.Fatal(err)
	}
	if again, err := fileStore(t, dir).Load(device.Bootstrap); err != nil || !equal(again.Key, c.Key) {
		t.Errorf("beside a half-written file: %v", err)
	}
	if err := fileStore(t, dir).Drop(device.Bootstrap); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("after dropping, %d files are left: %v", len(left), err)
	}
	if err := os.WriteFile(path, []byte("no PEM"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := device.MakeBootstrap(fileStore(t, dir), "SN-1", device.P256, time.Now()); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("a spoilt file must be named, not replaced: %v", err)
	}
}

func TestParseCredential(t *testing.T) {
	store := built(t)
	c, err := store.Load(device.Bootstrap)
	if err != nil {
		t.Fatal(err)
	}
	text, err := c.PEM()
	if err != nil {
		t.Fatal(err)
	}
	other, err := built(t).Load(device.Bootstrap)
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := other.PEM()
	if err != nil {
		t.Fatal(err)
	}
	key, cert, _ := strings.Cut(string(text), "-----BEGIN CERTIFICATE")
	cert = "-----BEGIN CERTIFICATE" + cert
	_, foreignCert, _ := strings.Cut(string(foreign), "-----BEGIN CERTIFICATE")
	for name, good := range map[string]string{"key first": key + cert, "certificate first": cert + key, "key alone": key} {
		if got, err := device.ParseCredential([]byte(good)); err != nil || !equal(got.Key, c.Key) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, bad := range map[string]string{
		"nothing": "", "no key": cert, "two keys": key + key, "another key's certificate": key + "-----BEGIN CERTIFICATE" + foreignCert,
		"a spoilt key": strings.Replace(key, "M", "N", 1),
	} {
		if got, err := device.ParseCredential([]byte(bad)); err == nil {
			t.Errorf("%s: %v", name, got.Leaf())
		}
	}
}

// chain is some certificate.
func chain(t *testing.T) []*x509.Certificate {
	t.Helper()
	c, err := built(t).Load(device.Bootstrap)
	if err != nil {
		t.Fatal(err)
	}
	return c.Chain
}
