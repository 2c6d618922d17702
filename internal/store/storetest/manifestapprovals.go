package storetest

import (
	"strings"
	"time"

	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/internal/approval"
	"github.com/touchmark/touchmark/internal/store"
	"github.com/touchmark/touchmark/vetting"
	"github.com/touchmark/touchmark/vetting/manifest"
)

var manifestApprovalCases = []conformance{
	{"a manifest is accepted when others approve what was signed", manifestByTwo},
	{"the product may want the approvals", manifestOfProduct},
	{"a manifest's proposal is void once what it rests on changes", manifestVoid},
	{"approvals of a manifest can be asked for again", manifestAgain},
	{"another signature is part of what is approved", manifestSignedLater},
	{"a manifest that was accepted before stays so", manifestBefore},
}

// reviewed is an order whose manifests want approvals, and people who give
// them.
func (t *trial) reviewed(n int) (*World, []*Person) {
	t.Helper()
	w := t.world(10)
	t.change("po-1", vetting.OrderChange{ManifestApprovals: &n})
	return w, t.employ(access.RoleApprover, "berta", "carla")
}

func (t *trial) manifest(id int64) *vetting.Manifest {
	t.Helper()
	return ok(t.store.Manifest(t.ctx, id))(t)
}

func manifestByTwo(t *trial) {
	w, people := t.reviewed(2)
	m := w.accept(t, "file", "lin")
	if m.State != vetting.ManifestUnapproved || m.Approvals != 2 || m.Proposal == 0 {
		t.Fatalf("%+v", m)
	}
	p := t.proposal(m.Proposal)
	var st vetting.ManifestStatement
	t.done(p.Read(&st))
	same(t, "statement", st, vetting.ManifestStatement{Manifest: m.ID, Order: "po-1", Product: "thermo", Site: "hsinchu", Format: vetting.FormatCSV, SHA256: m.SHA256, Size: 99, Records: 2, Signers: []string{"lin"}})
	same(t, "accepted again", w.accept(t, "file", "lin"), m)
	t.refuses(vetting.Conflict)(t.store.LoadRecords(t.ctx, m.ID, 0, []vetting.Record{Unit(0), Unit(1)}))
	if list := ok(t.store.ManifestsToLoad(t.ctx))(t); len(list) != 0 {
		t.Errorf("to be loaded: %+v", list[0])
	}
	t.enrol(first(0), vetting.ReasonUnknownDevice)
	t.refuses(vetting.Conflict)(t.store.ProposeManifest(t.ctx, as("anna"), m.ID, "twice"))
	rita, asker := t.employ(access.RoleReleaseEngineer, "rita")[0], t.employ(access.RoleAdmin, By.Operator)[0]
	t.refuses(vetting.Conflict)(t.approves(rita, p.ID))
	t.refuses(vetting.Conflict)(t.approves(asker, p.ID)) // who handed it in
	ok(t.approves(people[0], p.ID))(t)
	same(t, "state", t.manifest(m.ID).State, vetting.ManifestUnapproved)
	done := ok(t.approves(people[1], p.ID))(t)
	if l := t.leaf(done.Leaf); l.Act != approval.ActCarryOut || len(l.Objects) != 2 {
		t.Errorf("%+v", l)
	}
	same(t, "state", t.manifest(m.ID).State, vetting.ManifestAccepted)
	ok(t.store.LoadRecords(t.ctx, m.ID, 0, []vetting.Record{w.record(0, m), w.record(1, m)}))(t)
	t.enrol(first(0), vetting.ReasonVetted)
}

// record is a unit as the loader makes it of a manifest's line.
func (w *World) record(n int, m *vetting.Manifest) vetting.Record {
	r := Unit(n)
	r.Row, r.ManifestID, r.OrderID, r.ProductID, r.SiteID = int64(n+1), m.ID, m.OrderID, m.ProductID, m.SiteID
	return r
}

func manifestOfProduct(t *trial) {
	w := t.world(10)
	p := ok(t.store.Product(t.ctx, "thermo"))(t)
	p.Approvals.Manifests = 1
	ok(t.store.UpdateProduct(t.ctx, By, p))(t)
	m := w.accept(t, "file", "lin")
	same(t, "approvals", m.Approvals, 1)
	ok(t.approves(t.employ(access.RolePlanner, "berta")[0], m.Proposal))(t)
	same(t, "state", t.manifest(m.ID).State, vetting.ManifestAccepted)
}

func manifestVoid(t *trial) {
	w, people := t.reviewed(1)
	lin := NewPerson(t, "lin")
	ok(t.store.CreateOperator(t.ctx, By, &access.Operator{Name: "lin", Role: access.RoleSiteOperator, Site: "hsinchu", Key: Key("lin", 0)}))(t)
	two, cancelled := 2, vetting.OrderCancelled
	for what, change := range []func(){
		func() { t.change("po-1", vetting.OrderChange{ManifestApprovals: &two}) },
		func() { ok(t.store.RevokeOperator(t.ctx, By, lin.Name))(t) },
		func() { t.change("po-1", vetting.OrderChange{State: &cancelled}) },
	} {
		signers := [][]string{{"lin"}, {"lin"}, {"wu"}}[what]
		m := w.accept(t, "file "+string(rune('a'+what)), signers...)
		change()
		if p := t.proposal(m.Proposal); p.State != approval.Void || p.Why == "" {
			t.Errorf("%d: the proposal is %s: %s", what, p.State, p.Why)
		}
		t.refuses(vetting.Conflict)(t.approves(people[0], m.Proposal))
		same(t, "pending", t.manifest(m.ID).Proposal, 0)
		if what > 0 {
			t.refuses(vetting.Conflict)(t.store.ProposeManifest(t.ctx, as("anna"), m.ID, "again"))
		} else {
			same(t, "wanted", t.proposal(ok(t.store.ProposeManifest(t.ctx, as("anna"), m.ID, "again"))(t).Proposal).Wanted, 2)
		}
	}
}

func manifestAgain(t *trial) {
	w, people := t.reviewed(1)
	m := w.accept(t, "file", "lin")
	later := OpenWith(t, store.Options{DSN: t.dsn, Now: func() time.Time { return time.Now().Add(approval.Life) }})
	yes := people[0].Yes(t, t.proposal(m.Proposal).Payload)
	t.refuses(vetting.Conflict)(later.ApproveProposal(t.ctx, as("berta"), m.Proposal, yes))
	same(t, "proposal", ok(later.Manifest(t.ctx, m.ID))(t).Proposal, 0)
	ok(t.store.WithdrawProposal(t.ctx, as("carla"), m.Proposal, "too many records"))(t)
	t.refuses(vetting.Conflict)(t.approves(people[0], m.Proposal))
	again := ok(t.store.ProposeManifest(t.ctx, as("anna"), m.ID, "they are right"))(t)
	ok(t.approves(people[0], again.Proposal))(t)
	t.refuses(vetting.Conflict)(t.store.ProposeManifest(t.ctx, as("anna"), m.ID, "once more"))
	t.refuses(vetting.NotFound)(t.store.ProposeManifest(t.ctx, as("anna"), m.ID+1000, "none"))
}

func manifestSignedLater(t *trial) {
	w, people := t.reviewed(1)
	m := w.accept(t, "file", "lin")
	more := ok(t.store.AddManifestSignature(t.ctx, By, m.ID, manifest.Signature{Operator: "wu", DER: []byte("wu"), At: time.Now()}))(t)
	if p := t.proposal(m.Proposal); p.State != approval.Void || !strings.Contains(p.Why, "signed") {
		t.Errorf("%+v", p)
	}
	var st vetting.ManifestStatement
	t.done(t.proposal(more.Proposal).Read(&st))
	same(t, "signers", st.Signers, []string{"lin", "wu"})
	ok(t.approves(people[0], more.Proposal))(t)
}

func manifestBefore(t *trial) {
	w := t.world(10)
	m := w.accept(t, "file", "lin")
	one, none := 1, 0
	t.change("po-1", vetting.OrderChange{ManifestApprovals: &one})
	same(t, "state", t.manifest(m.ID).State, vetting.ManifestAccepted)
	t.refuses(vetting.Conflict)(t.store.ChangeOrder(t.ctx, By, "po-1", vetting.OrderChange{ManifestApprovals: &none}))
	same(t, "again", w.accept(t, "file", "lin").State, vetting.ManifestAccepted)
}
