package store_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"strings"
	"testing"

	firmwaresign "github.com/touchmark/touchmark/firmware-sign"
	"github.com/touchmark/touchmark/firmware-sign/release"
	"github.com/touchmark/touchmark/internal/store/storetest"
)

// Signatures whose commit failed are made again; where they had been kept all
// the same, those are what everybody gets, and no others.
func TestSigningFails(t *testing.T) {
	ctx := context.Background()
	var key *ecdsa.PrivateKey
	var part *release.Artefact
	var first [][]byte
	sign := func(t *testing.T) [][]byte {
		t.Helper()
		signatures, err := firmwaresign.With(key)(part.ToSign)
		if err != nil {
			t.Fatal(err)
		}
		return signatures
	}
	eachFaultAfter(t, func(t *testing.T, w *storetest.World) { key, part = handedIn(t, w) }, func(t *testing.T, w *storetest.World, fault string) {
		first = sign(t)
		if _, err := w.Store.KeepSignatures(ctx, storetest.By, part.ID, first); err == nil {
			t.Error("no error although the write failed")
		}
	}, func(t *testing.T, w *storetest.World, fault string) {
		second := sign(t)
		kept, err := w.Store.KeepSignatures(ctx, storetest.By, part.ID, second)
		if err != nil {
			t.Fatal(err)
		}
		want := second
		if fault == "persisted anyway" {
			want = first
		}
		if !bytes.Equal(kept.Signatures[0], want[0]) {
			t.Errorf("kept is %x, want %x", kept.Signatures[0], want[0])
		}
	})
}

// handedIn is a draft's artefact for test, and the key that is to sign it.
func handedIn(t *testing.T, w *storetest.World) (*ecdsa.PrivateKey, *release.Artefact) {
	t.Helper()
	ctx := context.Background()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	spki, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	product := w.Product.Name
	if _, err := w.Store.CreateFirmwareKey(ctx, storetest.By, &release.Key{Name: "test", Product: product, Stage: release.Test, Kind: "P-256", PublicKey: spki}); err != nil {
		t.Fatal(err)
	}
	r, err := w.Store.CreateRelease(ctx, storetest.By, &release.Release{Product: product, Version: "1", SupportEnd: "2031-12-31"})
	if err != nil {
		t.Fatal(err)
	}
	want, err := firmwaresign.NewDigestToSign(firmwaresign.ECDSAP256SHA256, &key.PublicKey, make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	part, err := w.Store.AddArtefact(ctx, storetest.By, r.ID, &release.Artefact{Stage: release.Test, Name: "app.bin", Format: "raw", Parameters: map[string]string{},
		Source: release.File{Size: 1, SHA256: strings.Repeat("0a", 32)}, Keys: []string{"test"}, ToSign: []firmwaresign.ToSign{want}})
	if err != nil {
		t.Fatal(err)
	}
	return key, part
}
