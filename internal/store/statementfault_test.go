package store_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"fmt"
	"strings"
	"testing"

	"filippo.io/mldsa"
	pkix "filippo.io/mldsa/x509"

	firmwaresign "github.com/touchmark/touchmark/firmware-sign"
	"github.com/touchmark/touchmark/firmware-sign/release"
	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/internal/store/storetest"
)

// A statement's signature whose commit failed is made again; where it had been
// kept all the same, that is the one that everybody gets.
func TestStatementSigningFails(t *testing.T) {
	ctx := context.Background()
	var key *mldsa.PrivateKey
	var id int64
	var first *release.StatementSignature
	sign := func(t *testing.T, w *storetest.World) *release.StatementSignature {
		t.Helper()
		r, wants, err := w.Store.StatementWants(ctx, id)
		k := must[*release.Key](t)(w.Store.FirmwareKey(ctx, "pq"))
		if err != nil || len(wants) > 1 {
			t.Fatalf("wanted by %+v, %v", wants, err)
		}
		permit := must[*release.StatementPermit](t)(release.AllowStatement(r, k))
		return must[*release.StatementSignature](t)(permit.Sign(key))
	}
	eachFaultAfter(t, func(t *testing.T, w *storetest.World) { key, id = approvedRelease(t, w) }, func(t *testing.T, w *storetest.World, fault string) {
		first = sign(t, w)
		if _, err := w.Store.KeepStatementSignature(ctx, storetest.By, id, first); err == nil {
			t.Error("no error although the write failed")
		}
	}, func(t *testing.T, w *storetest.World, fault string) {
		second := sign(t, w)
		kept := must[[]*release.StatementSignature](t)(w.Store.KeepStatementSignature(ctx, storetest.By, id, second))
		want := second
		if fault == "persisted anyway" {
			want = first
		}
		if len(kept) != 1 || !bytes.Equal(kept[0].Signature, want.Signature) {
			t.Errorf("kept are %+v, want %+v", kept, want)
		}
	})
}

// must unpacks what a call returned.
func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// approvedRelease is a release that one approved, and the key for its
// statement.
func approvedRelease(t *testing.T, w *storetest.World) (*mldsa.PrivateKey, int64) {
	t.Helper()
	ctx, product, key := context.Background(), w.Product.Name, must[*mldsa.PrivateKey](t)(mldsa.GenerateKey(mldsa.MLDSA65()))
	classic := must[*ecdsa.PrivateKey](t)(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	for _, k := range []*release.Key{
		{Name: "pq", Kind: "ML-DSA-65", PublicKey: must[[]byte](t)(pkix.MarshalPKIXPublicKey(key.PublicKey()))},
		{Name: "prod", Kind: "P-256", PublicKey: must[[]byte](t)(x509.MarshalPKIXPublicKey(&classic.PublicKey))},
	} {
		k.Product, k.Stage, k.Chain = product, release.Production, [][]byte{}
		must[*release.Key](t)(w.Store.CreateFirmwareKey(ctx, storetest.By, k))
	}
	must[*release.Policy](t)(w.Store.SetFirmwareApprovals(ctx, storetest.By, product, 1))
	r := must[*release.Release](t)(w.Store.CreateRelease(ctx, storetest.By, &release.Release{Product: product, Version: "1", SupportEnd: "2031-12-31"}))
	digest := strings.Repeat("0a", 32)
	must[*release.Artefact](t)(w.Store.AddArtefact(ctx, storetest.By, r.ID, &release.Artefact{Stage: release.Production, Name: "app.bin", Format: "raw", Parameters: map[string]string{},
		Source: release.File{Size: 1, SHA256: digest}, Keys: []string{"prod"},
		ToSign: []firmwaresign.ToSign{must[firmwaresign.ToSign](t)(firmwaresign.NewDigestToSign(firmwaresign.ECDSAP256SHA256, &classic.PublicKey, make([]byte, 32)))}}))
	for _, text := range []string{`{"bomFormat":"CycloneDX"}`,
		fmt.Sprintf(`{"_type":"https://in-toto.io/Statement/v1","predicateType":"https://slsa.dev/provenance/v1","subject":[{"digest":{"sha256":%q}}]}`, digest)} {
		must[*release.Release](t)(w.Store.AttachDocument(ctx, storetest.By, r.ID, must[release.Document](t)(release.ReadDocument([]byte(text))), []byte(text)))
	}
	r = must[*release.Release](t)(w.Store.SubmitRelease(ctx, storetest.By, r.ID, "ready"))
	berta := storetest.NewPerson(t, "berta").Employ(t, w.Store, access.RoleReleaseEngineer)
	p, err := w.Store.Proposal(ctx, r.Proposal)
	if err == nil {
		_, err = w.Store.ApproveProposal(ctx, access.Act{Operator: "berta"}, p.ID, berta.Yes(t, p.Payload))
	}
	if err != nil {
		t.Fatal(err)
	}
	return key, r.ID
}
