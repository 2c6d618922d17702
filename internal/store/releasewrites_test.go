package store_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"testing"
	"time"

	firmwaresign "github.com/touchmark/touchmark/firmware-sign"
	"github.com/touchmark/touchmark/firmware-sign/release"
	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/internal/approval"
	"github.com/touchmark/touchmark/internal/store"
	"github.com/touchmark/touchmark/internal/store/storetest"
	"github.com/touchmark/touchmark/vetting"
)

// releasing goes the way of one release, a step at a time. Each step can be
// repeated by whoever does not know whether it was done.
type releasing struct {
	*store.Store
	ctx        context.Context
	product    string
	version    string
	counter    uint32
	key        crypto.Signer     // the product's production key
	berta      *storetest.Person // who approves
	made       *release.Release
	part       *release.Artefact
	signatures [][]byte
	proposal   *approval.Proposal // to yank, to raise the floor, or to revoke
}

// erna is the release engineer, who does each thing once.
func (r *releasing) erna(what string) access.Act {
	return access.Act{Operator: "erna", Key: what + " " + r.version}
}

func (r *releasing) createKey(name string, stage release.Stage) error {
	spki, err := x509.MarshalPKIXPublicKey(r.key.Public())
	if err == nil {
		_, err = r.CreateFirmwareKey(r.ctx, r.erna("key "+name), &release.Key{Name: name, Product: r.product, Stage: stage, Kind: "P-256", PublicKey: spki})
	}
	return err
}

func (r *releasing) create() (err error) {
	r.made, err = r.CreateRelease(r.ctx, r.erna("create"), &release.Release{Product: r.product, Version: r.version, Counter: r.counter, SupportEnd: "2031-12-31"})
	return err
}

func (r *releasing) add() error {
	sum := sha256.Sum256([]byte("image " + r.version))
	want, err := firmwaresign.NewDigestToSign(firmwaresign.ECDSAP256SHA256, r.key.Public(), sum[:])
	if err == nil {
		r.part, err = r.AddArtefact(r.ctx, r.erna("add"), r.made.ID, &release.Artefact{Stage: release.Production, Name: "app.bin", Format: "raw", Parameters: map[string]string{},
			Source: release.File{Size: 1, SHA256: hex.EncodeToString(sum[:])}, Keys: []string{"prod"}, ToSign: []firmwaresign.ToSign{want}})
	}
	return err
}

func (r *releasing) attach(text string) error {
	d, err := release.ReadDocument([]byte(text))
	if err == nil {
		_, err = r.AttachDocument(r.ctx, r.erna("attach "+d.Kind), r.made.ID, d, []byte(text))
	}
	return err
}

func (r *releasing) attachSBOM() error { return r.attach(`{"bomFormat":"CycloneDX"}`) }

func (r *releasing) attachProvenance() error {
	return r.attach(fmt.Sprintf(`{"_type":"https://in-toto.io/Statement/v1","predicateType":"https://slsa.dev/provenance/v1","subject":[{"digest":{"sha256":%q}}]}`, r.part.Source.SHA256))
}

func (r *releasing) submit() error {
	made, err := r.SubmitRelease(r.ctx, r.erna("submit"), r.made.ID, "ready")
	if err == nil {
		r.made = made
	}
	return err
}

// approve carries a proposal out, as one approval is enough.
func (r *releasing) approve(p *approval.Proposal) error {
	sig, err := approval.Sign(p.Payload, r.berta.Key)
	if err == nil {
		_, err = r.ApproveProposal(r.ctx, access.Act{Operator: "berta", Key: fmt.Sprint("approve ", p.ID)}, p.ID, approval.Approval{Certificates: [][]byte{r.berta.Certificate}, Signature: sig})
	}
	return err
}

func (r *releasing) approveRelease() error {
	p, err := r.Proposal(r.ctx, r.made.Proposal)
	if err != nil {
		return err
	}
	return r.approve(p)
}

func (r *releasing) sign() (err error) {
	if r.signatures == nil { // the same are handed in again
		if r.signatures, err = firmwaresign.With(r.key)(r.part.ToSign); err != nil {
			return err
		}
	}
	_, err = r.KeepSignatures(r.ctx, r.erna("sign"), r.part.ID, r.signatures)
	return err
}

func (r *releasing) check() error {
	_, err := r.KeepChecks(r.ctx, r.erna("check"), r.part.ID, r.part.Source, []release.Check{{Program: "openssl", Version: "3"}})
	return err
}

func (r *releasing) publish() error {
	_, err := r.PublishRelease(r.ctx, r.erna("publish"), r.made.ID)
	return err
}

// way is all of it, in order.
func (r *releasing) way() []func() error {
	return []func() error{r.create, r.add, r.attachSBOM, r.attachProvenance, r.submit, r.approveRelease, r.sign, r.check, r.publish}
}

func (r *releasing) proposeYank() (err error) {
	r.proposal, err = r.ProposeYank(r.ctx, r.erna("yank"), r.made.ID, "it burns")
	return err
}

func (r *releasing) proposeFloor() (err error) {
	r.proposal, err = r.ProposeFloor(r.ctx, r.erna("floor"), r.product, r.counter, "a hole")
	return err
}

func (r *releasing) proposeRevocation() (err error) {
	r.proposal, err = r.RevokeFirmwareKey(r.ctx, r.erna("revoke"), "prod", "stolen")
	return err
}

// carry has approved what was proposed.
func (r *releasing) carry() error { return r.approve(r.proposal) }

func (r *releasing) approvals(n int) error {
	_, err := r.SetFirmwareApprovals(r.ctx, r.erna("approvals "+fmt.Sprint(n)), r.product, n)
	return err
}

// now reads the release as it is.
func (r *releasing) now(t *testing.T) *release.Release {
	t.Helper()
	list, err := r.Releases(r.ctx, release.Filter{Product: r.product, Version: r.version}, vetting.Page{})
	if err != nil || len(list) > 1 {
		t.Fatalf("%d releases %s, %v", len(list), r.version, err)
	}
	if len(list) == 0 {
		return new(release.Release)
	}
	return list[0]
}

func (r *releasing) policy(t *testing.T) *release.Policy {
	t.Helper()
	p, err := r.FirmwarePolicy(r.ctx, r.product)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// proposed tells whether a proposal of a kind is there, once at most.
func (r *releasing) proposed(t *testing.T, kind approval.Kind) bool {
	t.Helper()
	list, err := r.Proposals(r.ctx, approval.Filter{Kind: kind}, vetting.Page{})
	if err != nil || len(list) > 1 {
		t.Fatalf("%d proposals, %v", len(list), err)
	}
	return len(list) == 1
}

// revoked tells whether a key is there and revoked.
func (r *releasing) revoked(t *testing.T, name string) bool {
	t.Helper()
	k, err := r.FirmwareKey(r.ctx, name)
	if err != nil {
		t.Fatal(err)
	}
	return !k.Revoked.IsZero()
}

// begun is a world whose product has a production key and wants one approval.
func begun(t *testing.T, w *storetest.World) *releasing {
	t.Helper()
	r := &releasing{Store: w.Store, ctx: context.Background(), product: w.Product.Name, version: "1.0.0", counter: 3, berta: storetest.NewPerson(t, "berta")}
	storetest.NewPerson(t, "erna").Employ(t, w.Store, access.RoleReleaseEngineer)
	r.berta.Employ(t, w.Store, access.RoleApprover)
	var err error
	if r.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(r.createKey("prod", release.Production), r.approvals(1)); err != nil {
		t.Fatal(err)
	}
	return r
}

// to goes the first n steps.
func (r *releasing) to(t *testing.T, n int) {
	t.Helper()
	for _, step := range r.way()[:n] {
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}
}

// releaseWrite is one durable write: what goes before, the write, and whether
// it took effect.
type releaseWrite struct {
	before int // steps of the way
	ready  func(*releasing) error
	act    func(*releasing) error
	done   func(*testing.T, *releasing) bool
	single bool // statement, after which only the commit can fail
}

var releaseWrites = map[string]releaseWrite{
	"create key": {act: func(r *releasing) error { return r.createKey("test", release.Test) }, done: func(t *testing.T, r *releasing) bool {
		_, err := r.FirmwareKey(r.ctx, "test")
		return err == nil
	}},
	"create release":    {act: (*releasing).create, done: func(t *testing.T, r *releasing) bool { return r.now(t).ID != 0 }},
	"add artefact":      {before: 1, act: (*releasing).add, done: func(t *testing.T, r *releasing) bool { return len(r.now(t).Artefacts) == 1 }},
	"attach":            {before: 2, act: (*releasing).attachSBOM, done: attached},
	"submit":            {before: 4, act: (*releasing).submit, done: func(t *testing.T, r *releasing) bool { return r.proposed(t, approval.ReleaseApprove) }},
	"approve":           {before: 5, act: (*releasing).approveRelease, done: func(t *testing.T, r *releasing) bool { return r.now(t).State == release.Approved }},
	"sign":              {before: 6, act: (*releasing).sign, done: func(t *testing.T, r *releasing) bool { return r.now(t).State == release.Signed }},
	"check":             {before: 7, act: (*releasing).check, done: func(t *testing.T, r *releasing) bool { return r.now(t).Artefacts[0].Signed != nil }},
	"publish":           {before: 8, act: (*releasing).publish, done: func(t *testing.T, r *releasing) bool { return r.now(t).State == release.Published }},
	"propose yank":      {before: 9, act: (*releasing).proposeYank, done: func(t *testing.T, r *releasing) bool { return r.proposed(t, approval.ReleaseYank) }},
	"yank":              {before: 9, ready: (*releasing).proposeYank, act: (*releasing).carry, done: func(t *testing.T, r *releasing) bool { return r.now(t).State == release.Yanked }},
	"propose floor":     {before: 9, act: (*releasing).proposeFloor, done: func(t *testing.T, r *releasing) bool { return r.proposed(t, approval.FirmwareCounter) }},
	"floor":             {before: 9, ready: (*releasing).proposeFloor, act: (*releasing).carry, done: func(t *testing.T, r *releasing) bool { return r.policy(t).Floor == 3 }},
	"propose to revoke": {act: (*releasing).proposeRevocation, done: func(t *testing.T, r *releasing) bool { return r.proposed(t, approval.FirmwareKeyRevoke) }},
	"revoke":            {ready: (*releasing).proposeRevocation, act: (*releasing).carry, done: func(t *testing.T, r *releasing) bool { return r.revoked(t, "prod") }},
	"revoke test key": {ready: func(r *releasing) error { return r.createKey("test", release.Test) }, act: func(r *releasing) error {
		_, err := r.RevokeFirmwareKey(r.ctx, r.erna("revoke test"), "test", "old")
		return err
	}, done: func(t *testing.T, r *releasing) bool { return r.revoked(t, "test") }},
	"approvals": {act: func(r *releasing) error { return r.approvals(3) }, done: func(t *testing.T, r *releasing) bool { return r.policy(t).Approvals == 3 }},
	"what a device runs": {act: func(r *releasing) error {
		list, err := r.Devices(r.ctx, vetting.DeviceFilter{}, vetting.Page{Limit: 1})
		if err != nil {
			return err
		}
		return r.NoteFirmware(r.ctx, release.Running{Device: list[0].ID, Version: "1.0.0", Counter: 3, At: time.Now().Add(-time.Minute)})
	}, done: func(t *testing.T, r *releasing) bool {
		i, err := r.FloorImpact(r.ctx, r.product, 4)
		return err == nil && i.Devices == 1
	}, single: true},
}

// attached demands that a document that is named is there.
func attached(t *testing.T, r *releasing) bool {
	now := r.now(t)
	if len(now.Documents) == 0 {
		return false
	}
	if _, err := r.ReleaseDocument(r.ctx, now.ID, now.Documents[0].SHA256); err != nil {
		t.Error(err)
	}
	return true
}

// A write about a release whose commit fails took effect, or did not; asked
// again it has, once, and with one leaf.
func TestReleaseWriteFails(t *testing.T) {
	for name, c := range releaseWrites {
		t.Run(name, func(t *testing.T) {
			var r *releasing
			eachFaultAfter(t, func(t *testing.T, w *storetest.World) {
				r = begun(t, w)
				r.to(t, c.before)
				if c.ready != nil {
					if err := c.ready(r); err != nil {
						t.Fatal(err)
					}
				}
			}, func(t *testing.T, w *storetest.World, fault string) {
				if c.single && fault == "a statement fails" {
					return
				}
				if c.act(r) == nil {
					t.Error("no error although the write failed")
				}
			}, func(t *testing.T, w *storetest.World, fault string) {
				r.Store = w.Store
				if done := c.done(t, r); done != (fault == "persisted anyway") {
					t.Errorf("done: %v", done)
				}
				for again := range 2 {
					before := leaves(t, w.Store)
					if err := c.act(r); err != nil {
						t.Fatalf("asked again: %v", err)
					}
					if !c.done(t, r) {
						t.Error("asked again, it was not done")
					}
					if n := leaves(t, w.Store) - before; n != 0 && (again == 1 || fault == "persisted anyway") {
						t.Errorf("repeated, it has %d further leaves", n)
					}
				}
			})
		})
	}
}
