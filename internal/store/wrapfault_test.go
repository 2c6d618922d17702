package store_test

import (
	"context"
	"crypto"
	"crypto/ecdh"
	"crypto/rand"
	"crypto/x509"
	"testing"

	firmwaresign "github.com/touchmark/touchmark/firmware-sign"
	"github.com/touchmark/touchmark/firmware-sign/content"
	"github.com/touchmark/touchmark/firmware-sign/release"
	"github.com/touchmark/touchmark/internal/store"
	"github.com/touchmark/touchmark/internal/store/storetest"
)

// A secret whose commit failed is handed in again with its file; file and
// secret are always kept together, or neither is.
func TestKeepingContentFails(t *testing.T) {
	ctx := context.Background()
	var part *release.Artefact
	file := release.File{Size: 3, SHA256: "0a"}
	checks := []release.Check{{Program: "touchmark"}}
	sealed := func(text string) *content.Sealed { return &content.Sealed{Wrapped: []byte(text)} }
	eachFaultAfter(t, func(t *testing.T, w *storetest.World) { part = encryptedPart(t, w) }, func(t *testing.T, w *storetest.World, fault string) {
		if _, err := w.Store.KeepContent(ctx, storetest.By, part.ID, file, checks, sealed("first")); err == nil {
			t.Error("no error although the write failed")
		}
	}, func(t *testing.T, w *storetest.World, fault string) {
		have, err := w.Store.Artefact(ctx, part.ID)
		if err != nil {
			t.Fatal(err)
		}
		_, err = w.Store.SealedContent(ctx, part.ID)
		if kept := fault == "persisted anyway"; kept != (have.Signed != nil) || kept != (err == nil) {
			t.Errorf("the file is %+v, its secret %v", have.Signed, err)
		}
		if _, err := w.Store.KeepContent(ctx, storetest.By, part.ID, file, checks, sealed("second")); err != nil {
			t.Fatal(err)
		}
		if got, err := w.Store.SealedContent(ctx, part.ID); err != nil || string(got.Wrapped) != "second" {
			t.Errorf("kept is %+v, %v", got, err)
		}
	})
}

// A wrap that could not be noted is given to nobody; asked again it is noted.
func TestNoteOfAWrapFails(t *testing.T) {
	ctx := context.Background()
	var part *release.Artefact
	rules := store.WrapRules{Fits: func([]release.TargetKey) error { return nil }}
	before := int64(0)
	eachFaultAfter(t, func(t *testing.T, w *storetest.World) {
		part = encryptedPart(t, w)
		if _, err := w.Store.KeepContent(ctx, storetest.By, part.ID, release.File{Size: 3}, []release.Check{{Program: "touchmark"}}, &content.Sealed{}); err != nil {
			t.Fatal(err)
		}
		key, err := ecdh.X25519().GenerateKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		spki, err := x509.MarshalPKIXPublicKey(key.PublicKey())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Store.AddRecipient(ctx, storetest.By, &release.Recipient{Product: w.Product.Name, Name: "family", PublicKey: spki}); err != nil {
			t.Fatal(err)
		}
		before = leaves(t, w.Store)
	}, func(t *testing.T, w *storetest.World, fault string) {
		if _, list, err := w.Store.Targets(ctx, storetest.By, part.ID, release.Wanted{Family: true}, rules); err == nil || list != nil {
			t.Errorf("%+v although the write failed: %v", list, err)
		}
	}, func(t *testing.T, w *storetest.World, fault string) {
		noted := before
		if fault == "persisted anyway" {
			noted++
		}
		if got := leaves(t, w.Store); got != noted {
			t.Errorf("%d leaves, want %d", got, noted)
		}
		if _, list, err := w.Store.Targets(ctx, storetest.By, part.ID, release.Wanted{Family: true}, rules); err != nil || len(list) != 1 {
			t.Errorf("asked again: %+v, %v", list, err)
		}
		if got := leaves(t, w.Store); got != noted+1 {
			t.Errorf("asked again: %d leaves, want %d", got, noted+1)
		}
	})
}

// encryptedPart is a draft's artefact for test that is encrypted and signed.
func encryptedPart(t *testing.T, w *storetest.World) *release.Artefact {
	t.Helper()
	ctx := context.Background()
	key, plain := handedIn(t, w)
	to := *plain
	to.Parameters = map[string]string{"encrypt": "aes128"}
	part, err := w.Store.AddArtefact(ctx, storetest.By, plain.Release, &to)
	if err != nil {
		t.Fatal(err)
	}
	return signedPart(t, w, part, key)
}

func signedPart(t *testing.T, w *storetest.World, part *release.Artefact, key crypto.Signer) *release.Artefact {
	t.Helper()
	signatures, err := firmwaresign.With(key)(part.ToSign)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := w.Store.KeepSignatures(context.Background(), storetest.By, part.ID, signatures)
	if err != nil {
		t.Fatal(err)
	}
	return signed
}
