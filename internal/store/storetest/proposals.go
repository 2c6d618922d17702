package storetest

import (
	"strings"
	"time"

	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/internal/approval"
	"github.com/touchmark/touchmark/internal/events"
	"github.com/touchmark/touchmark/internal/store"
	"github.com/touchmark/touchmark/vetting"
)

var proposalCases = []conformance{
	{"an approval is the operator's own signature over the proposal", proposalSignatures},
	{"approvals are by operators who may, other than who asks, each once", proposalDuties},
	{"who is revoked does not count any more", proposalRevoked},
	{"an approval can be taken back while the proposal waits", proposalRetracted},
	{"a proposal expires", proposalExpires},
	{"a proposal is found by kind, subject and state", proposalFilter},
}

// employ makes operators with keys.
func (t *trial) employ(role access.Role, names ...string) (list []*Person) {
	t.Helper()
	for _, name := range names {
		list = append(list, NewPerson(t, name).Employ(t, t.store, role))
	}
	return list
}

func (p *Person) act() access.Act { return access.Act{Operator: p.Name} }

// proposal reads a proposal.
func (t *trial) proposal(id int64) *approval.Proposal {
	t.Helper()
	return ok(t.store.Proposal(t.ctx, id))(t)
}

// says approves a proposal in a person's name, by the key of another.
func (t *trial) says(p, signer *Person, id int64) (*approval.Proposal, error) {
	t.Helper()
	return t.store.ApproveProposal(t.ctx, p.act(), id, signer.Yes(t, t.proposal(id).Payload))
}

// approves is a person's yes.
func (t *trial) approves(p *Person, id int64) (*approval.Proposal, error) {
	t.Helper()
	return t.says(p, p, id)
}

func proposalSignatures(t *trial) {
	t.wanting(2)
	people := t.employ(access.RoleApprover, "berta", "carla", "dora")
	berta, carla := people[0], people[1]
	first := t.ask(15)
	t.refuses(vetting.Invalid)(t.says(berta, carla, first.ID)) // carla's key and certificate
	mixed := berta.Yes(t, t.proposal(first.ID).Payload)
	mixed.Signature = carla.Yes(t, t.proposal(first.ID).Payload).Signature
	t.refuses(vetting.Invalid)(t.store.ApproveProposal(t.ctx, berta.act(), first.ID, mixed))
	for _, wrong := range []approval.Approval{{}, {Certificates: [][]byte{{1}}}, {Certificates: [][]byte{berta.Certificate}}} {
		t.refuses(vetting.Invalid)(t.store.ApproveProposal(t.ctx, berta.act(), first.ID, wrong))
	}
	other := strings.Replace(string(t.proposal(first.ID).Payload), `"to":15`, `"to":51`, 1)
	t.refuses(vetting.Invalid)(t.store.ApproveProposal(t.ctx, berta.act(), first.ID, berta.Yes(t, []byte(other))))

	replayed := berta.Yes(t, t.proposal(first.ID).Payload)
	ok(t.store.WithdrawProposal(t.ctx, as("anna"), first.ID, "again"))(t)
	again := t.ask(15) // the same in all that people see
	t.refuses(vetting.Invalid)(t.store.ApproveProposal(t.ctx, berta.act(), again.ID, replayed))
	ok(t.approves(berta, again.ID))(t)
	p := ok(t.approves(carla, again.ID))(t)
	if p.State != approval.CarriedOut || t.quantity() != 15 || len(p.Approvals) != 2 {
		t.Errorf("%+v", p)
	}
	if l := t.leaf(p.Leaf); l.Act != "proposal.carry-out" || l.By != "operator:carla" || len(l.Objects) != 2 || l.Note != p.LogNote(p.Payload) {
		t.Errorf("%+v", l)
	}
	t.refuses(vetting.Conflict)(t.approves(people[2], again.ID)) // it was carried out
	all := t.events(events.Filter{Types: []string{"proposal.*"}})
	if got, want := told(all), "proposal.create proposal.withdraw proposal.create proposal.approve proposal.carry-out"; got != want {
		t.Errorf("the events are %s, want %s", got, want)
	}
	for i, e := range all {
		if want := []int64{first.ID, again.ID}[min(i/2, 1)]; e.Proposal != want || e.Device != nil || e.Site != "" {
			t.Errorf("event %d: %+v, want one of proposal %d, for the OEM", i, e, want)
		}
	}
}

func proposalDuties(t *trial) {
	t.wanting(2)
	anna, berta, support := t.employ(access.RoleAdmin, "anna")[0], t.employ(access.RoleApprover, "berta")[0], t.employ(access.RoleSupport, "sue")[0]
	r := t.ask(15)
	t.refuses(vetting.Conflict)(t.approves(anna, r.ID)) // who asked
	ok(t.approves(berta, r.ID))(t)
	t.refuses(vetting.Conflict)(t.approves(berta, r.ID)) // twice
	t.refuses(vetting.Conflict)(t.approves(support, r.ID))
	t.refuses(vetting.NotFound)(t.approves(NewPerson(t, "nobody"), r.ID))
	yes := berta.Yes(t, t.proposal(r.ID).Payload)
	t.refuses(vetting.NotFound)(t.store.ApproveProposal(t.ctx, berta.act(), r.ID+1000, yes))
	t.refuses(vetting.NotFound)(t.store.Proposal(t.ctx, r.ID+1000))
	same(t, "quantity", t.quantity(), 10)
}

func proposalRevoked(t *trial) {
	t.wanting(2)
	people := t.employ(access.RoleApprover, "berta", "carla", "dora")
	r := t.ask(15)
	ok(t.approves(people[0], r.ID))(t)
	before := t.leaves()
	ok(t.store.RevokeOperator(t.ctx, By, "berta"))(t)
	same(t, "approvals", len(t.proposal(r.ID).Approvals), 0)
	if l := t.leaf(before + 1); l.Act != "proposal.retract" || l.Note != "operator berta was revoked" {
		t.Errorf("%+v", l)
	}
	t.refuses(vetting.Conflict)(t.approves(people[0], r.ID))
	same(t, "state", ok(t.approves(people[1], r.ID))(t).State, approval.Pending)
	same(t, "state", ok(t.approves(people[2], r.ID))(t).State, approval.CarriedOut)
}

func proposalRetracted(t *trial) {
	t.wanting(2)
	people := t.employ(access.RolePlanner, "berta", "carla")
	r := t.ask(15)
	ok(t.approves(people[0], r.ID))(t)
	t.refuses(vetting.Conflict)(t.store.RetractApproval(t.ctx, as("carla"), r.ID, "not mine"))
	p := ok(t.store.RetractApproval(t.ctx, as("berta"), r.ID, "looked again"))(t)
	same(t, "approvals", len(p.Approvals), 0)
	if l := t.leaf(p.Leaf); l.Act != "proposal.retract" || l.By != "operator:berta" || l.Note != "looked again" {
		t.Errorf("%+v", l)
	}
	ok(t.approves(people[1], r.ID))(t)
	ok(t.approves(people[0], r.ID))(t)
	t.refuses(vetting.Conflict)(t.store.RetractApproval(t.ctx, as("berta"), r.ID, "too late"))
	same(t, "quantity", t.quantity(), 15)
}

func proposalExpires(t *trial) {
	t.wanting(1)
	berta := t.employ(access.RoleApprover, "berta")[0]
	r := t.ask(15)
	later := OpenWith(t, store.Options{DSN: t.dsn, Now: func() time.Time { return time.Now().Add(approval.Life) }})
	for state, n := range map[approval.State]int{approval.Pending: 0, approval.Expired: 1, approval.Void: 0, "": 1} {
		list := ok(later.Proposals(t.ctx, approval.Filter{State: state}, vetting.Page{}))(t)
		if len(list) != n || n == 1 && list[0].State != approval.Expired {
			t.Errorf("%q: %d proposals", state, len(list))
		}
	}
	t.refuses(vetting.Conflict)(later.ApproveProposal(t.ctx, berta.act(), r.ID, berta.Yes(t, t.proposal(r.ID).Payload)))
	t.refuses(vetting.Conflict)(later.RetractApproval(t.ctx, berta.act(), r.ID, "late"))
	t.refuses(vetting.Conflict)(later.WithdrawProposal(t.ctx, as("anna"), r.ID, "late"))
	same(t, "quantity", t.quantity(), 10)
}

func proposalFilter(t *trial) {
	t.wanting(1)
	berta := t.employ(access.RoleApprover, "berta")[0]
	withdrawn, carried := t.ask(11), (*vetting.Raise)(nil)
	ok(t.store.WithdrawProposal(t.ctx, as("anna"), withdrawn.ID, "no"))(t)
	carried = t.ask(12)
	ok(t.approves(berta, carried.ID))(t)
	pending := t.ask(13)
	for _, c := range []struct {
		f    approval.Filter
		want []int64
	}{
		{approval.Filter{}, []int64{pending.ID, carried.ID, withdrawn.ID}},
		{approval.Filter{Kind: approval.OrderRaise, Subject: "po-1"}, []int64{pending.ID, carried.ID, withdrawn.ID}},
		{approval.Filter{Kind: approval.ReleaseApprove}, nil},
		{approval.Filter{Subject: "po-2"}, nil},
		{approval.Filter{State: approval.Pending}, []int64{pending.ID}},
		{approval.Filter{State: approval.CarriedOut}, []int64{carried.ID}},
		{approval.Filter{State: approval.Withdrawn}, []int64{withdrawn.ID}},
	} {
		var ids []int64
		for _, p := range ok(t.store.Proposals(t.ctx, c.f, vetting.Page{}))(t) {
			ids = append(ids, p.ID)
		}
		same(t, "proposals", ids, c.want)
	}
	pages(t, 3, true, func(p vetting.Page) ([]*approval.Proposal, error) {
		return t.store.Proposals(t.ctx, approval.Filter{}, p)
	}, func(p *approval.Proposal) int64 { return p.ID })
}
