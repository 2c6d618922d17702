package keys_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/touchmark/touchmark/internal/keys"
)

func TestFileKeyMakesOpensAndSigns(t *testing.T) {
	ctx, ring := context.Background(), keys.Ring{Dir: t.TempDir()}
	for _, kind := range []keys.Kind{keys.P256, keys.P384, keys.Ed25519} {
		uri := "file:keys/" + string(kind) + ".key"
		made, err := ring.Create(ctx, uri, kind)
		if err != nil {
			t.Fatal(err)
		}
		opened, err := ring.Open(ctx, uri)
		if err != nil {
			t.Fatal(err)
		}
		if !made.Public().(interface{ Equal(crypto.PublicKey) bool }).Equal(opened.Public()) {
			t.Errorf("%s: the key that was opened is not the one that was made", kind)
		}
		if pub, ok := opened.Public().(*ecdsa.PublicKey); ok {
			digest := sha256.Sum256([]byte("message"))
			sig, err := opened.Sign(rand.Reader, digest[:], crypto.SHA256)
			if err != nil || !ecdsa.VerifyASN1(pub, digest[:], sig) {
				t.Errorf("%s: signature does not verify: %v", kind, err)
			}
		}
		if _, err := ring.Create(ctx, uri, kind); err == nil || !strings.Contains(err.Error(), "never overwritten") {
			t.Errorf("%s: overwrote a key: %v", kind, err)
		}
	}
}

func TestKeyFileOpenToOthersIsRefused(t *testing.T) {
	ctx, ring := context.Background(), keys.Ring{Dir: t.TempDir()}
	if _, err := ring.Create(ctx, "file:a.key", keys.P256); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(ring.Dir, "a.key"), 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := ring.Open(ctx, "file:a.key"); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Fatalf("opened a key file of mode 0640: %v", err)
	}
}

func TestNoSecretInErrors(t *testing.T) {
	for _, uri := range []string{
		"pkcs11:module-path=/nonexistent.so;token=t;object=k?pin-value=hunter2",
		"pkcs11:module-path=/nonexistent.so;token=t;pin-value=hunter2;object=k",
		"pkcs11:token=t?pin-value=%68%75nter2",
		"pkcs11:token=t?pin-value=%zzhunter2",
		"pkcs11:token=t?pin-value=ab;hunter2",
		"pkcs11:token=t?pin-value=ab hunter2",
		"pkcs11:token=t?pin-value=ab?hunter2",
		"pkcs11:token=t?pin-value=ab&hunter2",
		"pkcs11:token=t?pin-value=\"hunter2\"",
		"pkcs11:token=t?pin-value=hunter2\x7f",
		"awskms:region=x?secret=hunter2",
	} {
		for what, err := range map[string]error{
			"open": second(keys.Ring{}.Open(context.Background(), uri)), "make": second(keys.Ring{}.Create(context.Background(), uri, keys.P256)),
		} {
			if err == nil || strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), "%zz") {
				t.Errorf("%s %s: %v", what, uri, err)
			}
		}
	}
	for uri, want := range map[string]string{
		"pkcs11:token=t?x=y&pin-value=12&34":              "pkcs11:token=t?x=y&pin-value=…",
		"pkcs11:token=t;pin-value=1234;object=k?x=y":      "pkcs11:token=t;pin-value=…;object=k?x=y",
		"pkcs11:token=t;object=k?x=y&PIN-VALUE=a b?c;d=e": "pkcs11:token=t;object=k?x=y&PIN-VALUE=…",
		"file:keys/root.key":                              "file:keys/root.key",
	} {
		if got := keys.Redact(uri); got != want {
			t.Errorf("%s is shown as %s, want %s", uri, got, want)
		}
	}
}

func second[T any](_ T, err error) error { return err }
