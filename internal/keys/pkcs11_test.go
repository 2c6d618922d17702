//go:build pkcs11

package keys_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/touchmark/touchmark/internal/keys"
)

// A token that goes and comes back is found again by itself, by all who sign
// with its keys; meanwhile they are told, and no PIN with it.
func TestTokenThatGoesAndComesBack(t *testing.T) {
	dir := t.TempDir()
	at, away := filepath.Join(dir, "tokens"), filepath.Join(dir, "away")
	if err := os.Mkdir(at, 0o700); err != nil {
		t.Fatal(err)
	}
	conf := filepath.Join(dir, "softhsm2.conf")
	if err := os.WriteFile(conf, []byte("directories.tokendir = "+at+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SOFTHSM2_CONF", conf)
	if out, err := exec.Command("softhsm2-util", "--init-token", "--free", "--label", "tm", "--pin", "hush17", "--so-pin", "5678").CombinedOutput(); err != nil {
		t.Fatalf("softhsm2-util: %v\n%s", err, out)
	}
	uri := func(id, name string) string {
		return "pkcs11:module-path=/usr/lib/softhsm/libsofthsm2.so;token=tm;id=" + id + ";object=" + name + "?pin-value=hush17"
	}
	ctx := context.Background()
	var signers []crypto.Signer
	for id, name := range map[string]string{"01": "one", "02": "two"} {
		if _, err := (keys.Ring{}).Create(ctx, uri(id, name), keys.P256); err != nil {
			t.Fatal(err)
		}
		s, err := keys.Ring{}.Open(ctx, uri(id, name))
		if err != nil {
			t.Fatal(err)
		}
		signers = append(signers, s)
	}
	digest := sha256.Sum256([]byte("message"))
	sign := func(s crypto.Signer) error {
		sig, err := s.Sign(rand.Reader, digest[:], crypto.SHA256)
		if err == nil && !ecdsa.VerifyASN1(s.Public().(*ecdsa.PublicKey), digest[:], sig) {
			t.Error("a signature that is none")
		}
		if err != nil && strings.Contains(err.Error(), "hush17") {
			t.Errorf("the PIN: %v", err)
		}
		return err
	}
	for range 2 {
		for _, s := range signers {
			if err := sign(s); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Rename(at, away); err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				for range 5 {
					if err := sign(signers[i%2]); err == nil {
						t.Error("a key signs whose token is gone")
					}
				}
			})
		}
		wg.Wait()
		if _, err := (keys.Ring{}).Open(ctx, uri("01", "one")); err == nil || strings.Contains(err.Error(), "hush17") {
			t.Errorf("open while it is gone: %v", err)
		}
		if err := os.Rename(away, at); err != nil {
			t.Fatal(err)
		}
		deadline := time.Now().Add(time.Minute) // only a token that never comes back meets it
		for i := range 8 {
			wg.Go(func() {
				for sign(signers[i%2]) != nil {
					if time.Now().After(deadline) {
						t.Error("the token is not found again")
						return
					}
					time.Sleep(10 * time.Millisecond)
				}
			})
		}
		wg.Wait()
	}
}
