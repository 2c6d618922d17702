package storetest

import (
	"encoding/hex"

	"filippo.io/mldsa"
	pkix "filippo.io/mldsa/x509"

	"github.com/touchmark/touchmark/firmware-sign/release"
	"github.com/touchmark/touchmark/vetting"
)

var statementSignatureCases = []conformance{
	{"a release is published with its statement signed", statementSigned},
	{"keys that are revoked sign no statement", statementKeyRevoked},
}

// statementKey makes a key that signs statements, and keeps its public half.
func (t *trial) statementKey(name string) *mldsa.PrivateKey {
	t.Helper()
	key := ok(mldsa.GenerateKey(mldsa.MLDSA65()))(t)
	ok(t.store.CreateFirmwareKey(t.ctx, By, &release.Key{Name: name, Product: "lamp", Stage: release.Production, Kind: "ML-DSA-65",
		PublicKey: ok(pkix.MarshalPKIXPublicKey(key.PublicKey()))(t), Chain: [][]byte{}}))(t)
	return key
}

// statement has a key sign the statement of a release as it is.
func (t *trial) statement(of int64, name string, key *mldsa.PrivateKey) *release.StatementSignature {
	t.Helper()
	permit := ok(release.AllowStatement(ok(t.store.Release(t.ctx, of))(t), ok(t.store.FirmwareKey(t.ctx, name))(t)))(t)
	return ok(permit.Sign(key))(t)
}

// wantedBy names the keys that are yet to sign a statement.
func (t *trial) wantedBy(id int64) (names []string) {
	t.Helper()
	_, keys, err := t.store.StatementWants(t.ctx, id)
	t.done(err)
	for _, k := range keys {
		names = append(names, k.Name)
	}
	return names
}

func statementSigned(t *trial) {
	r, _, key := t.lamp()
	board := t.board()
	pq := t.statementKey("lamp-pq")
	r = t.submitted(r, key)
	t.refuses(vetting.Conflict)(t.store.KeepStatementSignature(t.ctx, as("erna"), r.ID, &release.StatementSignature{Key: "lamp-pq"})) // it is a draft
	t.agree(r.Proposal, board...)
	a := &r.Artefacts[0]
	ok(t.store.KeepSignatures(t.ctx, as("erna"), a.ID, t.signatures(a, key)))(t)
	ok(t.store.KeepChecks(t.ctx, as("erna"), a.ID, a.Source, []release.Check{{Program: "openssl"}}))(t)
	t.refuses(vetting.Conflict)(t.store.PublishRelease(t.ctx, as("erna"), r.ID))
	same(t, "signed, not published", t.state(r.ID), release.Signed)
	same(t, "wanted", t.wantedBy(r.ID), []string{"lamp-pq"})

	sig := t.statement(r.ID, "lamp-pq", pq)
	broken := *sig
	broken.Signature = append([]byte{sig.Signature[0] ^ 1}, sig.Signature[1:]...)
	t.refuses(vetting.Conflict)(t.store.KeepStatementSignature(t.ctx, as("erna"), r.ID, &broken))
	t.refuses(vetting.Conflict)(t.store.KeepStatementSignature(t.ctx, as("erna"), r.ID, &release.StatementSignature{Key: "lamp-1"}))
	t.refuses(vetting.NotFound)(t.store.KeepStatementSignature(t.ctx, as("erna"), r.ID, &release.StatementSignature{Key: "none"}))
	t.refuses(vetting.NotFound)(t.store.KeepStatementSignature(t.ctx, as("erna"), r.ID+1000, sig))
	leaf := t.leaves()
	kept := ok(t.store.KeepStatementSignature(t.ctx, as("erna"), r.ID, sig))(t)
	digest := r.Statement().Digest()
	if l := t.leaf(leaf); l.Act != "release.statement.sign" || l.By != "operator:erna" || l.Note != "lamp@1.0.0 by lamp-pq, "+hex.EncodeToString(digest[:]) {
		t.Errorf("the leaf is %+v", l)
	}
	if len(kept) != 1 || kept[0].By != "erna" || kept[0].At.IsZero() {
		t.Fatalf("kept are %+v", kept)
	}
	t.done(kept[0].Verify(r.Statement().Bytes()))
	again := ok(t.second().KeepStatementSignature(t.ctx, as("erna"), r.ID, t.statement(r.ID, "lamp-pq", pq)))(t)
	same(t, "the first stays", again, kept)
	same(t, "leaves", t.leaves(), leaf+1)
	same(t, "wanted", len(t.wantedBy(r.ID)), 0)
	same(t, "published", ok(t.store.PublishRelease(t.ctx, as("erna"), r.ID))(t).State, release.Published)

	late := t.statementKey("lamp-late") // it came afterwards
	same(t, "wanted", t.wantedBy(r.ID), []string{"lamp-late"})
	same(t, "two", len(ok(t.store.KeepStatementSignature(t.ctx, as("erna"), r.ID, t.statement(r.ID, "lamp-late", late)))(t)), 2)
	same(t, "impact", ok(t.store.KeyImpact(t.ctx, "lamp-late"))(t).Releases, []string{"lamp@1.0.0"})
	t.refuses(vetting.NotFound)(release2(t.store.StatementWants(t.ctx, r.ID+1000)))
	next := t.draft("2.0.0", 1)
	t.refuses(vetting.Conflict)(t.store.AddArtefact(t.ctx, as("erna"), next.ID, t.image("a", "1", release.Production, "lamp-pq", key)))
	Verify(t, t.store)
}

// release2 drops a result.
func release2(r *release.Release, _ []*release.Key, err error) (*release.Release, error) {
	return r, err
}

func statementKeyRevoked(t *trial) {
	r, _, key := t.lamp()
	board := t.board()
	pq := t.statementKey("lamp-pq")
	r = t.submitted(r, key)
	t.agree(r.Proposal, board...)
	sig := t.statement(r.ID, "lamp-pq", pq)
	t.agree(ok(t.store.RevokeFirmwareKey(t.ctx, as("erna"), "lamp-pq", "stolen"))(t).ID, board...)
	t.refuses(vetting.Conflict)(t.store.KeepStatementSignature(t.ctx, as("erna"), r.ID, sig))
	same(t, "wanted", len(t.wantedBy(r.ID)), 0)
	a := &r.Artefacts[0]
	ok(t.store.KeepSignatures(t.ctx, as("erna"), a.ID, t.signatures(a, key)))(t)
	ok(t.store.KeepChecks(t.ctx, as("erna"), a.ID, a.Source, []release.Check{{Program: "openssl"}}))(t)
	same(t, "published without", ok(t.store.PublishRelease(t.ctx, as("erna"), r.ID))(t).State, release.Published)
	Verify(t, t.store)
}
