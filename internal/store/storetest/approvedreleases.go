package storetest

import (
	"crypto"
	"fmt"

	"github.com/touchmark/touchmark/firmware-sign/release"
	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/internal/approval"
	"github.com/touchmark/touchmark/vetting"
)

var approvedReleaseCases = []conformance{
	{"a release is signed once others approved it, and published", releaseLife},
	{"a draft that changes is submitted again", releaseVoid},
	{"counters, versions and floors go forward", releaseLedger},
	{"approvals that firmware wants only grow", firmwareApprovals},
	{"keys are revoked", firmwareKeyRevoked},
}

// board are two people who approve.
func (t *trial) board() []*Person {
	t.Helper()
	NewPerson(t, "erna").Employ(t, t.store, access.RoleReleaseEngineer)
	return []*Person{NewPerson(t, "berta").Employ(t, t.store, access.RoleReleaseEngineer), NewPerson(t, "carla").Employ(t, t.store, access.RoleApprover)}
}

// agree has people approve a proposal.
func (t *trial) agree(id int64, people ...*Person) *approval.Proposal {
	t.Helper()
	p := ok(t.store.Proposal(t.ctx, id))(t)
	for _, one := range people {
		p = ok(t.store.ApproveProposal(t.ctx, as(one.Name), id, one.Yes(t, p.Payload)))(t)
	}
	return p
}

// attach gives a draft an SBOM, and provenance of what it consists of.
func (t *trial) attach(id int64) *release.Release {
	t.Helper()
	r := ok(t.store.Release(t.ctx, id))(t)
	for _, text := range []string{
		fmt.Sprintf(`{"bomFormat":"CycloneDX","serialNumber":"%d"}`, id),
		fmt.Sprintf(`{"_type":"https://in-toto.io/Statement/v1","predicateType":"https://slsa.dev/provenance/v1","subject":[{"digest":{"sha256":%q}}]}`, r.Artefacts[0].Source.SHA256),
	} {
		r = ok(t.store.AttachDocument(t.ctx, as("erna"), id, ok(release.ReadDocument([]byte(text)))(t), []byte(text)))(t)
	}
	return r
}

// submitted is a complete draft that waits for approvals.
func (t *trial) submitted(r *release.Release, key crypto.Signer) *release.Release {
	t.Helper()
	ok(t.store.AddArtefact(t.ctx, as("erna"), r.ID, t.image("app.bin", r.Version, release.Production, "lamp-1", key)))(t)
	t.attach(r.ID)
	return ok(t.store.SubmitRelease(t.ctx, as("erna"), r.ID, "ready"))(t)
}

// published has gone the whole way.
func (t *trial) published(version string, counter uint32, key crypto.Signer, board []*Person) *release.Release {
	t.Helper()
	r := t.submitted(t.draft(version, counter), key)
	t.agree(r.Proposal, board...)
	a := &r.Artefacts[0]
	ok(t.store.KeepSignatures(t.ctx, as("erna"), a.ID, t.signatures(a, key)))(t)
	ok(t.store.KeepChecks(t.ctx, as("erna"), a.ID, a.Source, []release.Check{{Program: "openssl"}}))(t)
	return ok(t.store.PublishRelease(t.ctx, as("erna"), r.ID))(t)
}

func (t *trial) state(id int64) release.State {
	t.Helper()
	return ok(t.store.Release(t.ctx, id))(t).State
}

func releaseLife(t *trial) {
	r, _, key := t.lamp()
	board := t.board()
	t.refuses(vetting.Conflict)(t.store.SubmitRelease(t.ctx, as("erna"), r.ID, "it is empty"))
	r = t.submitted(r, key)
	a := r.Artefacts[0]
	content := ok(t.store.ReleaseDocument(t.ctx, r.ID, r.Documents[0].SHA256))(t)
	same(t, "the document", ok(release.ReadDocument(content))(t), r.Documents[0])
	t.refuses(vetting.NotFound)(t.store.ReleaseDocument(t.ctx, r.ID, "00"))
	t.agree(r.Proposal, board[0])
	t.refuses(vetting.Conflict)(t.store.KeepSignatures(t.ctx, as("erna"), a.ID, t.signatures(&a, key)))
	p := t.agree(r.Proposal, board[1])
	same(t, "the proposal", p.State, approval.CarriedOut)
	same(t, "approved", t.state(r.ID), release.Approved)
	t.refuses(vetting.Conflict)(t.store.AddArtefact(t.ctx, as("erna"), r.ID, t.image("app.bin", "two", release.Production, "lamp-1", key)))
	t.refuses(vetting.Conflict)(t.store.AttachDocument(t.ctx, as("erna"), r.ID, release.Document{Kind: release.SBOM}, nil))
	t.refuses(vetting.Conflict)(t.store.PublishRelease(t.ctx, as("erna"), r.ID))
	ok(t.store.KeepSignatures(t.ctx, as("erna"), a.ID, t.signatures(&a, key)))(t)
	same(t, "signed", t.state(r.ID), release.Signed)
	t.refuses(vetting.Conflict)(t.store.PublishRelease(t.ctx, as("erna"), r.ID)) // nobody verified it
	ok(t.store.KeepChecks(t.ctx, as("erna"), a.ID, a.Source, []release.Check{{Program: "openssl"}}))(t)
	leaf := t.leaves()
	ok(t.second().PublishRelease(t.ctx, as("erna"), r.ID))(t)
	if l := t.leaf(leaf); l.Act != "release.publish" || l.Note != "lamp@1.0.0" {
		t.Errorf("the leaf is %+v", l)
	}
	y := ok(t.store.ProposeYank(t.ctx, as("erna"), r.ID, "it burns"))(t)
	same(t, "not yet", t.state(r.ID), release.Published)
	t.agree(y.ID, board...)
	same(t, "yanked", t.state(r.ID), release.Yanked)
	t.refuses(vetting.Conflict)(t.store.ProposeYank(t.ctx, as("erna"), r.ID, "again"))
	t.refuses(vetting.Conflict)(t.store.KeepSignatures(t.ctx, as("erna"), a.ID, t.signatures(&a, key)))
	Verify(t, t.store)
}

func releaseVoid(t *trial) {
	r, _, key := t.lamp()
	board := t.board()
	r = t.submitted(r, key)
	t.agree(r.Proposal, board[0])
	t.refuses(vetting.Conflict)(t.store.SubmitRelease(t.ctx, as("erna"), r.ID, "twice"))
	ok(t.store.AddArtefact(t.ctx, as("erna"), r.ID, t.image("app.bin", "two", release.Production, "lamp-1", key)))(t)
	p := ok(t.store.Proposal(t.ctx, r.Proposal))(t)
	same(t, "the proposal", p.State, approval.Void)
	t.refuses(vetting.Conflict)(t.store.ApproveProposal(t.ctx, as("carla"), p.ID, board[1].Yes(t, p.Payload)))
	t.refuses(vetting.Conflict)(t.store.SubmitRelease(t.ctx, as("erna"), r.ID, "the provenance is of another build"))
	same(t, "the release", t.state(r.ID), release.Draft)
	t.attach(r.ID)
	again := ok(t.store.SubmitRelease(t.ctx, as("erna"), r.ID, "now"))(t)
	t.agree(again.Proposal, board...)
	same(t, "approved", t.state(r.ID), release.Approved)
	Verify(t, t.store)
}

func releaseLedger(t *trial) {
	_, _, key := t.lamp()
	board := t.board()
	waits := t.submitted(t.draft("1.9.0", 2), key)
	t.published("2.0.0", 4, key, board)
	t.refuses(vetting.Conflict)(t.store.CreateRelease(t.ctx, as("erna"), releaseOf("1.9.9", 4)))
	t.refuses(vetting.Conflict)(t.store.CreateRelease(t.ctx, as("erna"), releaseOf("2.1.0", 3)))
	p := ok(t.store.Proposal(t.ctx, waits.Proposal))(t)
	ok(t.store.ApproveProposal(t.ctx, as("berta"), p.ID, board[0].Yes(t, p.Payload)))(t)
	t.refuses(vetting.Conflict)(t.store.ApproveProposal(t.ctx, as("carla"), p.ID, board[1].Yes(t, p.Payload))) // it went back by now
	old := releaseOf("1.9.9", 4)
	old.Maintenance = true
	ok(t.store.CreateRelease(t.ctx, as("erna"), old))(t)

	t.refuses(vetting.Conflict)(t.store.ProposeFloor(t.ctx, as("erna"), "lamp", 5, "nothing published has it"))
	t.refuses(vetting.Conflict)(t.store.ProposeFloor(t.ctx, as("erna"), "lamp", 0, "it is that already"))
	t.refuses(vetting.NotFound)(t.store.ProposeFloor(t.ctx, as("erna"), "none", 5, ""))
	t.agree(ok(t.store.ProposeFloor(t.ctx, as("erna"), "lamp", 4, "a hole"))(t).ID, board...)
	same(t, "floor", ok(t.store.FirmwarePolicy(t.ctx, "lamp"))(t).Floor, 4)
	i := ok(t.store.FloorImpact(t.ctx, "lamp", 5))(t)
	same(t, "impact", i, &release.Impact{Releases: []string{"lamp@2.0.0"}, Stranded: true})
	Verify(t, t.store)
}

func firmwareApprovals(t *trial) {
	r, _, key := t.lamp()
	t.board()
	same(t, "by default", ok(t.store.FirmwarePolicy(t.ctx, "lamp"))(t).Approvals, 2)
	ok(t.store.SetFirmwareApprovals(t.ctx, By, "lamp", 1))(t) // nothing was said before
	ok(t.store.SetFirmwareApprovals(t.ctx, By, "lamp", 3))(t)
	t.refuses(vetting.Conflict)(t.store.SetFirmwareApprovals(t.ctx, By, "lamp", 2))
	t.refuses(vetting.NotFound)(t.store.SetFirmwareApprovals(t.ctx, By, "none", 2))
	t.refuses(vetting.NotFound)(t.store.FirmwarePolicy(t.ctx, "none"))
	same(t, "wanted", ok(t.store.Proposal(t.ctx, t.submitted(r, key).Proposal))(t).Wanted, 3)
}

func firmwareKeyRevoked(t *trial) {
	r, test, key := t.lamp()
	board := t.board()
	r = t.submitted(r, key)
	t.agree(r.Proposal, board...)
	same(t, "impact", ok(t.store.KeyImpact(t.ctx, "lamp-1"))(t).Releases, []string{"lamp@1.0.0"})
	if p := ok(t.store.RevokeFirmwareKey(t.ctx, as("erna"), "lamp-test", "old"))(t); p != nil {
		t.Errorf("a test key waits for %+v", p)
	}
	t.refuses(vetting.Conflict)(t.store.AddArtefact(t.ctx, as("erna"), r.ID, t.image("a", "1", release.Test, "lamp-test", test)))
	t.refuses(vetting.Conflict)(t.store.RevokeFirmwareKey(t.ctx, as("erna"), "lamp-test", "again"))
	t.refuses(vetting.NotFound)(t.store.RevokeFirmwareKey(t.ctx, as("erna"), "none", ""))
	t.agree(ok(t.store.RevokeFirmwareKey(t.ctx, as("erna"), "lamp-1", "stolen"))(t).ID, board...)
	k := ok(t.store.FirmwareKey(t.ctx, "lamp-1"))(t)
	if k.Revoked.IsZero() || k.Reason != "stolen" {
		t.Errorf("the key is %+v", k)
	}
	a := r.Artefacts[0] // approved, and too late
	t.refuses(vetting.Conflict)(t.store.KeepSignatures(t.ctx, as("erna"), a.ID, t.signatures(&a, key)))
	Verify(t, t.store)
}
