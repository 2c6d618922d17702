package storetest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/hex"

	"github.com/touchmark/touchmark/firmware-sign/release"
	"github.com/touchmark/touchmark/vetting"
)

var offlineKeyCases = []conformance{
	{"an offline key is imported once", offlineKeyOnce},
	{"a release is signed when every key has signed", offlineSignatures},
}

func (t *trial) offlineKey(name string) crypto.Signer {
	t.Helper()
	key := ok(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))(t)
	ok(t.store.CreateFirmwareKey(t.ctx, By, &release.Key{Name: name, Product: "lamp", Stage: release.Production, Kind: "P-256",
		PublicKey: ok(x509.MarshalPKIXPublicKey(&key.PublicKey))(t), Chain: [][]byte{}, Offline: true}))(t)
	return key
}

func offlineKeyOnce(t *trial) {
	t.lamp()
	t.offlineKey("vault")
	again := *ok(t.store.FirmwareKey(t.ctx, "vault"))(t)
	if !again.Offline {
		t.Errorf("the key is %+v", again)
	}
	again.Name = "again"
	t.refuses(vetting.Conflict)(t.store.CreateFirmwareKey(t.ctx, By, &again))
	again.PublicKey = ok(t.store.FirmwareKey(t.ctx, "lamp-1"))(t).PublicKey
	t.refuses(vetting.Conflict)(t.store.CreateFirmwareKey(t.ctx, By, &again))
}

// response is what a key signs for a release.
func (t *trial) response(r *release.Release, by crypto.Signer) *release.Response {
	t.Helper()
	digest := r.Statement().Digest()
	out := &release.Response{Type: release.ResponseType, Release: r.Name(), Statement: hex.EncodeToString(digest[:]), PublicKey: ok(x509.MarshalPKIXPublicKey(by.Public()))(t)}
	for _, a := range r.Artefacts {
		for i, want := range a.ToSign {
			if sig, err := want.Sign(by); err == nil {
				out.Signatures = append(out.Signatures, release.ResponseSignature{Artefact: a.Name, ImportedSignature: release.ImportedSignature{Index: i, Signature: sig}})
			}
		}
	}
	return out
}

func offlineSignatures(t *trial) {
	r, _, key := t.lamp()
	board := t.board()
	one, two := t.offlineKey("vault"), t.offlineKey("safe")
	part := t.image("app.bin", "one", release.Production, "vault", one)
	for name, by := range map[string]crypto.Signer{"lamp-1": key, "safe": two} {
		other := t.image("app.bin", "one", release.Production, name, by)
		part.Keys, part.ToSign = append(part.Keys, name), append(part.ToSign, other.ToSign...)
	}
	ok(t.store.AddArtefact(t.ctx, as("erna"), r.ID, part))(t)
	t.attach(r.ID)
	r = ok(t.store.SubmitRelease(t.ctx, as("erna"), r.ID, "ready"))(t)
	t.refuses(vetting.Conflict)(t.store.ImportSignatures(t.ctx, as("erna"), r.ID, t.response(r, one)))
	t.refuses(vetting.NotFound)(t.store.ImportSignatures(t.ctx, as("erna"), r.ID+1000, t.response(r, one)))
	t.agree(r.Proposal, board...)
	leaf := t.leaves()
	first := t.response(r, one)
	r = ok(t.store.ImportSignatures(t.ctx, as("erna"), r.ID, first))(t)
	same(t, "one of three", r.State, release.Approved)
	if l := t.leaf(leaf); l.Act != "release.import" || l.By != "operator:erna" || l.Note != "lamp@1.0.0, by the key vault" {
		t.Errorf("the leaf is %+v", l)
	}
	same(t, "again", ok(t.second().ImportSignatures(t.ctx, as("erna"), r.ID, t.response(r, one)))(t), r)
	same(t, "leaves", t.leaves(), leaf+1)
	r = ok(t.store.ImportSignatures(t.ctx, as("erna"), r.ID, t.response(r, two)))(t)
	a := r.Artefacts[0]
	same(t, "two of three", len(a.Imported), 2)
	Verify(t, t.store)
	all := make([][]byte, 3)
	for _, s := range a.Imported {
		all[s.Index] = s.Signature
	}
	for i, want := range a.ToSign {
		if all[i] == nil {
			all[i] = ok(want.Sign(key))(t)
		}
	}
	signed := ok(t.store.KeepSignatures(t.ctx, as("erna"), a.ID, all))(t)
	same(t, "signed", t.state(r.ID), release.Signed)
	same(t, "imported", len(signed.Imported), 0)
	same(t, "the first one", string(signed.Signatures[0]), string(first.Signatures[0].Signature))
	r = ok(t.store.Release(t.ctx, r.ID))(t)
	same(t, "imported late", ok(t.store.ImportSignatures(t.ctx, as("erna"), r.ID, t.response(r, one)))(t), r)
	Verify(t, t.store)
}
