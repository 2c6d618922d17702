package storetest

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"

	firmwaresign "github.com/touchmark/touchmark/firmware-sign"
	"github.com/touchmark/touchmark/firmware-sign/release"
	"github.com/touchmark/touchmark/internal/store"
	"github.com/touchmark/touchmark/vetting"
)

var releaseCases = []conformance{
	{"firmware keys are of a product and stage", firmwareKeys},
	{"a draft is signed by test keys", draftForTest},
	{"versions, and what they are called twice", releaseNames},
	{"an artefact of a draft is handed in again", artefactAgain},
}

// firmwareKey makes a signing key, and keeps its public half.
func (t *trial) firmwareKey(name, product string, stage release.Stage) crypto.Signer {
	t.Helper()
	key := ok(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))(t)
	ok(t.store.CreateFirmwareKey(t.ctx, By, &release.Key{Name: name, Product: product, Stage: stage, Kind: "P-256",
		PublicKey: ok(x509.MarshalPKIXPublicKey(&key.PublicKey))(t), Chain: [][]byte{}}))(t)
	return key
}

// lamp makes a product with a key for each stage and a draft.
func (t *trial) lamp() (r *release.Release, test, production crypto.Signer) {
	t.Helper()
	t.product("lamp")
	test, production = t.firmwareKey("lamp-test", "lamp", release.Test), t.firmwareKey("lamp-1", "lamp", release.Production)
	return t.draft("1.0.0", 1), test, production
}

func (t *trial) draft(version string, counter uint32) *release.Release {
	t.Helper()
	return ok(t.store.CreateRelease(t.ctx, as("erna"), releaseOf(version, counter)))(t)
}

func releaseOf(version string, counter uint32) *release.Release {
	return &release.Release{Product: "lamp", Version: version, Counter: counter, SupportEnd: "2031-12-31"}
}

// image is an artefact whose digest a key is to sign.
func (t *trial) image(name, content string, stage release.Stage, key string, by crypto.Signer) *release.Artefact {
	t.Helper()
	sum := sha256.Sum256([]byte(content))
	want := ok(firmwaresign.NewDigestToSign(firmwaresign.ECDSAP256SHA256, by.Public(), sum[:]))(t)
	return &release.Artefact{Stage: stage, Name: name, Format: "raw", Parameters: map[string]string{}, Source: release.File{Size: int64(len(content)), SHA256: hex.EncodeToString(sum[:])},
		Keys: []string{key}, ToSign: []firmwaresign.ToSign{want}}
}

func (t *trial) signatures(a *release.Artefact, by crypto.Signer) [][]byte {
	t.Helper()
	return ok(firmwaresign.With(by)(a.ToSign))(t)
}

func firmwareKeys(t *trial) {
	t.product("lamp")
	t.product("heater")
	leaf := t.leaves()
	t.firmwareKey("lamp-1", "lamp", release.Production)
	if l := t.leaf(leaf); l.Act != "firmware.key.create" || l.Note != "lamp-1 for production of lamp" {
		t.Errorf("the leaf is %+v", l)
	}
	t.firmwareKey("lamp-test", "lamp", release.Test)
	t.firmwareKey("heater-1", "heater", release.Production)
	k := ok(t.store.FirmwareKey(t.ctx, "lamp-1"))(t)
	if k.Product != "lamp" || k.Stage != release.Production || k.By != By.Operator || k.Created.IsZero() || len(k.PublicKey) == 0 {
		t.Errorf("the key is %+v", k)
	}
	t.refuses(vetting.Exists)(t.store.CreateFirmwareKey(t.ctx, By, &release.Key{Name: "lamp-1", Product: "heater"}))
	t.refuses(vetting.NotFound)(t.store.CreateFirmwareKey(t.ctx, By, &release.Key{Name: "x", Product: "none"}))
	t.refuses(vetting.NotFound)(t.store.FirmwareKey(t.ctx, "none"))
	t.refuses(vetting.NotFound)(t.store.FirmwareKeys(t.ctx, "none", vetting.Page{}))
	id := func(k *release.Key) int64 { return k.ID }
	pages(t, 2, false, func(p vetting.Page) ([]*release.Key, error) { return t.store.FirmwareKeys(t.ctx, "lamp", p) }, id)
	pages(t, 3, false, func(p vetting.Page) ([]*release.Key, error) { return t.store.FirmwareKeys(t.ctx, "", p) }, id)
}

func draftForTest(t *trial) {
	r, test, production := t.lamp()
	same(t, "the draft", r.State, release.Draft)
	a := ok(t.store.AddArtefact(t.ctx, as("erna"), r.ID, t.image("app.bin", "one", release.Test, "lamp-test", test)))(t)
	t.refuses(vetting.Conflict)(t.store.KeepSignatures(t.ctx, as("erna"), a.ID, t.signatures(a, test)[:0]))
	other := t.image("app.bin", "two", release.Test, "lamp-test", test)
	t.refuses(vetting.Conflict)(t.store.KeepSignatures(t.ctx, as("erna"), a.ID, t.signatures(other, test)))
	t.refuses(vetting.Conflict)(t.store.KeepChecks(t.ctx, as("erna"), a.ID, a.Source, []release.Check{{Program: "x"}}))
	leaf := t.leaves()
	signed := ok(t.store.KeepSignatures(t.ctx, as("erna"), a.ID, t.signatures(a, test)))(t)
	t.done(signed.ToSign[0].Verify(signed.Signatures[0]))
	if l := t.leaf(leaf); l.Act != "artefact.sign" || l.By != "operator:erna" || l.Note != "app.bin of lamp@1.0.0, "+a.Source.SHA256 {
		t.Errorf("the leaf is %+v", l)
	}
	same(t, "signed again", ok(t.store.KeepSignatures(t.ctx, as("erna"), a.ID, t.signatures(a, test)))(t), signed)
	same(t, "leaves", t.leaves(), leaf+1)
	checked := ok(t.second().KeepChecks(t.ctx, as("erna"), a.ID, release.File{Size: 9, SHA256: a.Source.SHA256}, []release.Check{{Program: "openssl", Version: "3"}}))(t)
	if checked.Signed == nil || checked.Signed.Size != 9 || checked.Checks[0].Program != "openssl" || checked.Release != r.ID {
		t.Errorf("checked: %+v", checked)
	}
	same(t, "the release", ok(t.store.Release(t.ctx, r.ID))(t), r) // what is for test is no part of it
	t.refuses(vetting.Conflict)(t.store.AddArtefact(t.ctx, as("erna"), r.ID, t.image("a", "1", release.Test, "lamp-1", production)))
	t.refuses(vetting.Conflict)(t.store.AddArtefact(t.ctx, as("erna"), r.ID, t.image("a", "1", release.Production, "lamp-test", test)))
	t.refuses(vetting.Conflict)(t.store.AddArtefact(t.ctx, as("erna"), r.ID, t.image("a", "1", release.Test, "lamp-test", production)))
	t.refuses(vetting.NotFound)(t.store.AddArtefact(t.ctx, as("erna"), r.ID, t.image("a", "1", release.Test, "none", test)))
	t.refuses(vetting.NotFound)(t.store.AddArtefact(t.ctx, as("erna"), r.ID+1000, t.image("a", "1", release.Test, "lamp-test", test)))
	t.refuses(vetting.NotFound)(t.store.KeepSignatures(t.ctx, as("erna"), a.ID+1000, nil))
	t.refuses(vetting.NotFound)(t.store.Artefact(t.ctx, a.ID+1000))
	t.refuses(vetting.Conflict)(t.store.PublishRelease(t.ctx, as("erna"), r.ID))
	Verify(t, t.store)
}

func releaseNames(t *trial) {
	r, _, _ := t.lamp()
	t.draft("0.9", 0) // neither was approved, so neither counts
	t.refuses(vetting.Exists)(t.store.CreateRelease(t.ctx, as("erna"), releaseOf("1.0.0", 1)))
	t.refuses(vetting.NotFound)(t.store.CreateRelease(t.ctx, as("erna"), &release.Release{Product: "none", Version: "1"}))
	t.refuses(vetting.NotFound)(t.store.Release(t.ctx, r.ID+1000))
	t.refuses(vetting.NotFound)(t.store.Releases(t.ctx, release.Filter{Product: "none"}, vetting.Page{}))
	for _, f := range []release.Filter{{Product: "lamp", Version: "1.0.0"}, {Version: "1.0.0"}, {Version: "1.0.0", State: release.Draft}} {
		same(t, "filtered", ok(t.store.Releases(t.ctx, f, vetting.Page{}))(t), []*release.Release{r})
	}
	same(t, "published", len(ok(t.store.Releases(t.ctx, release.Filter{State: release.Published}, vetting.Page{}))(t)), 0)
	pages(t, 2, true, func(p vetting.Page) ([]*release.Release, error) {
		return t.store.Releases(t.ctx, release.Filter{Product: "lamp"}, p)
	}, func(r *release.Release) int64 { return r.ID })
}

func artefactAgain(t *trial) {
	r, _, production := t.lamp()
	first := ok(t.store.AddArtefact(t.ctx, as("erna"), r.ID, t.image("app.bin", "one", release.Production, "lamp-1", production)))(t)
	leaves := t.leaves()
	same(t, "the same again", ok(t.store.AddArtefact(t.ctx, as("erna"), r.ID, t.image("app.bin", "one", release.Production, "lamp-1", production)))(t), first)
	same(t, "leaves", t.leaves(), leaves)
	before := ok(t.store.Release(t.ctx, r.ID))(t)
	second := ok(t.store.AddArtefact(t.ctx, as("erna"), r.ID, t.image("app.bin", "two", release.Production, "lamp-1", production)))(t)
	after := ok(t.store.Release(t.ctx, r.ID))(t)
	if second.ID != first.ID || second.Source == first.Source || after.Revision != before.Revision+1 || len(after.Artefacts) != 1 {
		t.Errorf("another file under the name: %+v of %+v", second, after)
	}
	same(t, "the release's", after.Artefacts[0], *second)
	t.refuses(vetting.Conflict)(t.store.KeepSignatures(t.ctx, as("erna"), second.ID, t.signatures(second, production)))
	r0, a, keys, err := t.store.ReleaseOf(t.ctx, second.ID)
	t.done(err)
	if r0.ID != r.ID || a.ID != second.ID || len(keys) != 1 || keys[0].Name != "lamp-1" {
		t.Errorf("%+v, %+v, %+v", r0, a, keys)
	}
}

// firmwareCalls are the methods about firmware, as calls has them.
func firmwareCalls(ctx context.Context, s *store.Store) map[string]func() error {
	page := vetting.Page{}
	return map[string]func() error{
		"FirmwareKeys":         call(func() (any, error) { return s.FirmwareKeys(ctx, "lamp", page) }),
		"FirmwareKey":          call(func() (any, error) { return s.FirmwareKey(ctx, "lamp-1") }),
		"CreateFirmwareKey":    call(func() (any, error) { return s.CreateFirmwareKey(ctx, By, &release.Key{Name: "lamp-1"}) }),
		"Releases":             call(func() (any, error) { return s.Releases(ctx, release.Filter{}, page) }),
		"Release":              call(func() (any, error) { return s.Release(ctx, 1) }),
		"ReleaseOf":            func() error { _, _, _, err := s.ReleaseOf(ctx, 1); return err },
		"CreateRelease":        call(func() (any, error) { return s.CreateRelease(ctx, By, releaseOf("1", 1)) }),
		"PublishRelease":       call(func() (any, error) { return s.PublishRelease(ctx, By, 1) }),
		"Artefact":             call(func() (any, error) { return s.Artefact(ctx, 1) }),
		"AddArtefact":          call(func() (any, error) { return s.AddArtefact(ctx, By, 1, &release.Artefact{}) }),
		"ImportSignatures":     call(func() (any, error) { return s.ImportSignatures(ctx, By, 1, &release.Response{}) }),
		"KeepSignatures":       call(func() (any, error) { return s.KeepSignatures(ctx, By, 1, nil) }),
		"AttachDocument":       call(func() (any, error) { return s.AttachDocument(ctx, By, 1, release.Document{}, nil) }),
		"ReleaseDocument":      call(func() (any, error) { return s.ReleaseDocument(ctx, 1, "00") }),
		"SubmitRelease":        call(func() (any, error) { return s.SubmitRelease(ctx, By, 1, "") }),
		"ProposeYank":          call(func() (any, error) { return s.ProposeYank(ctx, By, 1, "") }),
		"YankImpact":           call(func() (any, error) { return s.YankImpact(ctx, 1) }),
		"FirmwarePolicy":       call(func() (any, error) { return s.FirmwarePolicy(ctx, "lamp") }),
		"SetFirmwareApprovals": call(func() (any, error) { return s.SetFirmwareApprovals(ctx, By, "lamp", 2) }),
		"ProposeFloor":         call(func() (any, error) { return s.ProposeFloor(ctx, By, "lamp", 2, "") }),
		"FloorImpact":          call(func() (any, error) { return s.FloorImpact(ctx, "lamp", 2) }),
		"RevokeFirmwareKey":    call(func() (any, error) { return s.RevokeFirmwareKey(ctx, By, "lamp-1", "") }),
		"KeyImpact":            call(func() (any, error) { return s.KeyImpact(ctx, "lamp-1") }),
		"NoteFirmware":         func() error { return s.NoteFirmware(ctx, release.Running{Device: 1}) },
		"StatementSignatures":  call(func() (any, error) { return s.StatementSignatures(ctx, 1) }),
		"StatementWants":       func() error { _, _, err := s.StatementWants(ctx, 1); return err },
		"KeepStatementSignature": call(func() (any, error) {
			return s.KeepStatementSignature(ctx, By, 1, &release.StatementSignature{})
		}),
		"KeepChecks": call(func() (any, error) { return s.KeepChecks(ctx, By, 1, release.File{}, nil) }),
	}
}
