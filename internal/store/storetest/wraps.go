package storetest

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdh"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/touchmark/touchmark/firmware-sign/content"
	"github.com/touchmark/touchmark/firmware-sign/release"
	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/internal/store"
	"github.com/touchmark/touchmark/vetting"
)

var wrapCases = []conformance{
	{"keys that firmware is wrapped for", recipients},
	{"the secret of an encrypted artefact", contents},
	{"whom an artefact may be wrapped for", wrapTargets},
}

// recipientKey is the public half of a key that a device has.
func (t *trial) recipientKey() []byte {
	t.Helper()
	key := ok(ecdh.X25519().GenerateKey(rand.Reader))(t)
	return ok(x509.MarshalPKIXPublicKey(key.PublicKey()))(t)
}

func (t *trial) deviceKey(serial string) *release.Recipient {
	t.Helper()
	return ok(t.store.AddRecipient(t.ctx, as("erna"), &release.Recipient{Product: "thermo", Serial: serial, PublicKey: t.recipientKey(), Kind: "X25519"}))(t)
}

func recipients(t *trial) {
	t.world(10, Unit(0), Unit(1))
	t.product("lamp")
	serial := Unit(0).Serial
	leaf := t.leaves()
	one := t.deviceKey(serial)
	if l := t.leaf(leaf); l.Act != "recipient.add" || l.By != "operator:erna" || l.Note != fmt.Sprintf("device %d (%s)", one.Device, serial) {
		t.Errorf("the leaf is %+v", l)
	}
	if one.Device != t.idOf(0) || one.By != "erna" || one.Created.IsZero() || !bytes.Equal(ok(t.store.Recipient(t.ctx, one.ID))(t).PublicKey, one.PublicKey) {
		t.Errorf("the recipient is %+v", one)
	}
	add := func(r release.Recipient) (*release.Recipient, error) {
		if r.PublicKey == nil {
			r.PublicKey = t.recipientKey()
		}
		return t.store.AddRecipient(t.ctx, By, &r)
	}
	t.refuses(vetting.Exists)(add(release.Recipient{Product: "thermo", Serial: Unit(1).Serial, PublicKey: one.PublicKey}))
	t.refuses(vetting.NotFound)(add(release.Recipient{Product: "lamp", Serial: serial}))
	t.refuses(vetting.NotFound)(add(release.Recipient{Product: "none", Name: "x"}))
	t.refuses(vetting.Invalid)(add(release.Recipient{Product: "thermo", Serial: " "}))
	family := ok(add(release.Recipient{Product: "thermo", Name: "2027"}))(t)
	t.refuses(vetting.Exists)(add(release.Recipient{Product: "thermo", Name: "2027"}))
	ok(add(release.Recipient{Product: "lamp", Name: "2027"}))(t)
	pages(t, 2, false, func(p vetting.Page) ([]*release.Recipient, error) { return t.store.Recipients(t.ctx, "thermo", p) }, func(r *release.Recipient) int64 { return r.ID })
	t.refuses(vetting.NotFound)(t.store.Recipients(t.ctx, "none", vetting.Page{}))

	gone := ok(t.second().RevokeRecipient(t.ctx, as("erna"), family.ID, "opened"))(t)
	if gone.Revoked.IsZero() || gone.Reason != "opened" {
		t.Errorf("revoked: %+v", gone)
	}
	t.refuses(vetting.Conflict)(t.store.RevokeRecipient(t.ctx, By, family.ID, "again"))
	t.refuses(vetting.NotFound)(t.store.RevokeRecipient(t.ctx, By, family.ID+1000, "x"))
	t.refuses(vetting.Exists)(add(release.Recipient{Product: "thermo", Name: "2028", PublicKey: family.PublicKey}))
	Verify(t, t.store)
}

// sealed is a secret, as far as the store knows one.
func sealed(text string) *content.Sealed {
	return &content.Sealed{Key: "0a", Hash: "SHA-256", Wrapped: []byte(text), Box: []byte(text)}
}

// encrypted is an artefact for test with its signatures, not yet finished.
func (t *trial) encrypted(r *release.Release, key crypto.Signer, keyName string) *release.Artefact {
	t.Helper()
	a := t.image("app.bin", r.Version, release.Test, keyName, key)
	a.Parameters["encrypt"] = "aes256"
	a = ok(t.store.AddArtefact(t.ctx, as("erna"), r.ID, a))(t)
	return ok(t.store.KeepSignatures(t.ctx, as("erna"), a.ID, t.signatures(a, key)))(t)
}

func fileOf(text string) release.File {
	sum := sha256.Sum256([]byte(text))
	return release.File{Size: int64(len(text)), SHA256: hex.EncodeToString(sum[:])}
}

var checked = []release.Check{{Program: "touchmark"}}

func contents(t *trial) {
	r, test, _ := t.lamp()
	a := t.encrypted(r, test, "lamp-test")
	t.refuses(vetting.Conflict)(t.store.KeepChecks(t.ctx, as("erna"), a.ID, fileOf("one"), checked))
	t.refuses(vetting.NotFound)(t.store.SealedContent(t.ctx, a.ID))
	leaf := t.leaves()
	kept := ok(t.store.KeepContent(t.ctx, as("erna"), a.ID, fileOf("one"), checked, sealed("one")))(t)
	if l := t.leaf(leaf); l.Act != "artefact.encrypt" || len(l.Objects) != 2 {
		t.Errorf("the leaf is %+v", l)
	}
	same(t, "the file", *kept.Signed, fileOf("one"))
	same(t, "the secret", ok(t.second().SealedContent(t.ctx, a.ID))(t), sealed("one"))
	ok(t.store.KeepContent(t.ctx, as("erna"), a.ID, fileOf("two"), checked, sealed("two")))(t)
	same(t, "the secret of another file", ok(t.store.SealedContent(t.ctx, a.ID))(t), sealed("two"))
	plain := ok(t.store.AddArtefact(t.ctx, as("erna"), r.ID, t.image("b", "b", release.Test, "lamp-test", test)))(t)
	t.refuses(vetting.Conflict)(t.store.KeepContent(t.ctx, as("erna"), plain.ID, fileOf("b"), checked, sealed("b")))
	t.refuses(vetting.NotFound)(t.store.KeepContent(t.ctx, as("erna"), a.ID+1000, fileOf("b"), checked, sealed("b")))
	Verify(t, t.store)
}

// anyKey are rules by which every key fits, and none is a certificate's.
var anyKey = store.WrapRules{Fits: func([]release.TargetKey) error { return nil }}

func wrapTargets(t *trial) {
	f := t.fleet()
	serial := func(d *vetting.Device) string { return d.Serial }
	active := f.unit(vetting.DeviceActive)
	key := t.firmwareKey("thermo-test", "thermo", release.Test)
	r := ok(t.store.CreateRelease(t.ctx, as("erna"), &release.Release{Product: "thermo", Version: "1", Counter: 1, SupportEnd: "2031-12-31"}))(t)
	a := t.encrypted(r, key, "thermo-test")
	targets := func(rules store.WrapRules, w release.Wanted) ([]release.Target, error) {
		_, list, err := t.store.Targets(t.ctx, as("erna"), a.ID, w, rules)
		return list, err
	}
	one := release.Wanted{Serials: []string{serial(active)}}
	t.refuses(vetting.Conflict)(targets(anyKey, one)) // it is not finished
	ok(t.store.KeepContent(t.ctx, as("erna"), a.ID, fileOf("one"), checked, sealed("one")))(t)
	t.refuses(vetting.Conflict)(targets(anyKey, one)) // the device has no key

	byCertificate := anyKey
	byCertificate.ByCertificate = true // one with a key of its own needs none
	t.deviceKey(serial(active))
	newest := t.deviceKey(serial(active))
	leaf := t.leaves()
	list := ok(targets(byCertificate, one))(t)
	if list[0].Device != active.ID || list[0].Keys[0].Recipient != newest.ID || !bytes.Equal(list[0].Keys[0].PublicKey, newest.PublicKey) {
		t.Errorf("by its own key: %+v", list)
	}
	if l := t.leaf(leaf); l.Act != "artefact.wrap" || l.Note != fmt.Sprintf("app.bin of thermo@1 for device %d (%s)", active.ID, active.Serial) || len(l.Objects) != 1 {
		t.Errorf("the leaf is %+v", l)
	}
	pages(t, 1, true, func(p vetting.Page) ([]*release.Wrapped, error) { return t.store.Wraps(t.ctx, a.ID, p) }, func(w *release.Wrapped) int64 { return w.ID })

	for _, s := range []vetting.DeviceState{vetting.DeviceManufactured, vetting.DeviceIssued, vetting.DeviceSuspended, vetting.DeviceQuarantined, vetting.DeviceRetired, vetting.DeviceScrapped} {
		d := f.unit(s)
		t.deviceKey(serial(d))
		before := t.leaves()
		t.refuses(vetting.Conflict)(targets(byCertificate, release.Wanted{Serials: []string{serial(active), serial(d)}}))
		same(t, "leaves after a refusal", t.leaves(), before)
	}
	revoked := f.unit(vetting.DeviceActive)
	t.deviceKey(serial(revoked))
	t.revoke(revoked.ID, vetting.RevocationReason("keyCompromise"))
	t.refuses(vetting.Conflict)(targets(byCertificate, release.Wanted{Serials: []string{serial(revoked)}}))
	t.refuses(vetting.NotFound)(targets(byCertificate, release.Wanted{Serials: []string{"none"}}))
	t.refuses(vetting.Invalid)(targets(byCertificate, release.Wanted{Serials: []string{serial(active), serial(active)}}))
	strict := anyKey
	strict.Fits = func([]release.TargetKey) error { return errors.New("it does not fit") }
	t.refuses(vetting.Conflict)(targets(strict, one))

	t.refuses(vetting.Conflict)(targets(anyKey, release.Wanted{Family: true}))
	for _, name := range []string{"2027", "2028"} {
		ok(t.store.AddRecipient(t.ctx, By, &release.Recipient{Product: "thermo", Name: name, PublicKey: t.recipientKey()}))(t)
	}
	list = ok(targets(anyKey, release.Wanted{Family: true}))(t)
	same(t, "the family's keys", len(list[0].Keys), 2)
	list = ok(targets(anyKey, release.Wanted{Family: true, Names: []string{"2028"}}))(t)
	same(t, "the named key", len(list[0].Keys), 1)
	t.refuses(vetting.NotFound)(targets(anyKey, release.Wanted{Family: true, Names: []string{"2029"}}))

	// Asked again under the same key, it is decided anew and noted once.
	act := access.Act{Operator: "erna", Key: "again", Request: [32]byte{1}}
	before := t.leaves()
	for range 2 {
		_, list, err := t.store.Targets(t.ctx, act, a.ID, one, anyKey)
		t.done(err)
		same(t, "devices", len(list), 1)
	}
	same(t, "leaves", t.leaves(), before+1)
	t.setState(active.ID, vetting.DeviceSuspended)
	_, _, err := t.store.Targets(t.ctx, act, a.ID, one, anyKey)
	t.refuses(vetting.Conflict)(nil, err)
	Verify(t, t.store)
}

// wrapCalls are the methods about encrypted firmware, as calls has them.
func wrapCalls(ctx context.Context, s *store.Store) map[string]func() error {
	return map[string]func() error{
		"KeepContent": call(func() (any, error) {
			return s.KeepContent(ctx, By, 1, release.File{}, nil, sealed("x"))
		}),
		"SealedContent":   call(func() (any, error) { return s.SealedContent(ctx, 1) }),
		"Recipients":      call(func() (any, error) { return s.Recipients(ctx, "lamp", vetting.Page{}) }),
		"Recipient":       call(func() (any, error) { return s.Recipient(ctx, 1) }),
		"AddRecipient":    call(func() (any, error) { return s.AddRecipient(ctx, By, &release.Recipient{Name: "x"}) }),
		"RevokeRecipient": call(func() (any, error) { return s.RevokeRecipient(ctx, By, 1, "") }),
		"Wraps":           call(func() (any, error) { return s.Wraps(ctx, 1, vetting.Page{}) }),
		"Targets": func() error {
			_, _, err := s.Targets(ctx, By, 1, release.Wanted{Family: true}, anyKey)
			return err
		},
	}
}
