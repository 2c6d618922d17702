package store_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"testing"

	firmwaresign "github.com/touchmark/touchmark/firmware-sign"
	"github.com/touchmark/touchmark/firmware-sign/release"
	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/internal/store/storetest"
)

// A response whose commit failed is imported again; where its signatures had
// been kept all the same, those stay, and the release is signed once.
func TestImportingFails(t *testing.T) {
	ctx := context.Background()
	var key *ecdsa.PrivateKey
	var r *release.Release
	var first *release.Response
	eachFaultAfter(t, func(t *testing.T, w *storetest.World) { key, r = approvedOffline(t, w) }, func(t *testing.T, w *storetest.World, fault string) {
		first = responseOf(t, r, key)
		if _, err := w.Store.ImportSignatures(ctx, storetest.By, r.ID, first); err == nil {
			t.Error("no error although the write failed")
		}
	}, func(t *testing.T, w *storetest.World, fault string) {
		second := responseOf(t, r, key)
		kept, err := w.Store.ImportSignatures(ctx, storetest.By, r.ID, second)
		if err != nil {
			t.Fatal(err)
		}
		want := second
		if fault == "persisted anyway" {
			want = first
		}
		if kept.State != release.Signed || !bytes.Equal(kept.Artefacts[0].Signatures[0], want.Signatures[0].Signature) {
			t.Errorf("kept is %+v, want %+v", kept, want)
		}
	})
}

// approvedOffline is a release that was approved, and the offline key that is
// to sign it.
func approvedOffline(t *testing.T, w *storetest.World) (*ecdsa.PrivateKey, *release.Release) {
	t.Helper()
	ctx, done := context.Background(), func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	done(err)
	spki, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	done(err)
	product := w.Product.Name
	_, err = w.Store.CreateFirmwareKey(ctx, storetest.By, &release.Key{Name: "vault", Product: product, Stage: release.Production, Kind: "P-256", PublicKey: spki, Offline: true})
	done(err)
	r, err := w.Store.CreateRelease(ctx, storetest.By, &release.Release{Product: product, Version: "1", SupportEnd: "2031-12-31"})
	done(err)
	sum := sha256.Sum256([]byte("image"))
	want, err := firmwaresign.NewDigestToSign(firmwaresign.ECDSAP256SHA256, &key.PublicKey, sum[:])
	done(err)
	_, err = w.Store.AddArtefact(ctx, storetest.By, r.ID, &release.Artefact{Stage: release.Production, Name: "app.bin", Format: "raw", Parameters: map[string]string{},
		Source: release.File{Size: 5, SHA256: hex.EncodeToString(sum[:])}, Keys: []string{"vault"}, ToSign: []firmwaresign.ToSign{want}})
	done(err)
	for _, text := range []string{`{"bomFormat":"CycloneDX"}`,
		fmt.Sprintf(`{"_type":"https://in-toto.io/Statement/v1","predicateType":"https://slsa.dev/provenance/v1","subject":[{"digest":{"sha256":"%x"}}]}`, sum)} {
		d, err := release.ReadDocument([]byte(text))
		done(err)
		_, err = w.Store.AttachDocument(ctx, storetest.By, r.ID, d, []byte(text))
		done(err)
	}
	r, err = w.Store.SubmitRelease(ctx, storetest.By, r.ID, "ready")
	done(err)
	p, err := w.Store.Proposal(ctx, r.Proposal)
	done(err)
	for _, name := range []string{"berta", "carla"} {
		by := storetest.NewPerson(t, name).Employ(t, w.Store, access.RoleReleaseEngineer)
		_, err := w.Store.ApproveProposal(ctx, access.Act{Operator: name}, p.ID, by.Yes(t, p.Payload))
		done(err)
	}
	r, err = w.Store.Release(ctx, r.ID)
	done(err)
	return key, r
}

func responseOf(t *testing.T, r *release.Release, key *ecdsa.PrivateKey) *release.Response {
	t.Helper()
	part, digest := r.Artefacts[0], r.Statement().Digest()
	signatures, err := firmwaresign.With(key)(part.ToSign)
	if err != nil {
		t.Fatal(err)
	}
	return &release.Response{Type: release.ResponseType, Release: r.Name(), Statement: hex.EncodeToString(digest[:]), PublicKey: part.ToSign[0].PublicKey,
		Signatures: []release.ResponseSignature{{Artefact: part.Name, ImportedSignature: release.ImportedSignature{Signature: signatures[0]}}}}
}
