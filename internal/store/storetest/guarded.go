package storetest

import (
	"context"
	"time"

	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/internal/approval"
	"github.com/touchmark/touchmark/internal/audit"
	"github.com/touchmark/touchmark/internal/store"
	"github.com/touchmark/touchmark/vetting"
)

var guardedCases = []conformance{
	{"the installation's approvals only grow, and are no more than there are people", policyGrows},
	{"CAs are created, made the default, closed and reopened with approvals", issuersByApproval},
	{"what others agree to about a CA is void once that is another", issuersVoid},
	{"an act on a CA expires, is withdrawn, and is not everybody's", issuersEnd},
	{"an operator who may approve is added with approvals", operatorByApproval},
}

// policy makes acts on CAs and operators want approvals, and employs people to
// give them.
func (t *trial) policy(cas, operators int) (people []*Person) {
	t.Helper()
	t.people = map[string]*Person{"anna": t.employ(access.RoleAdmin, "anna")[0]}
	people = t.employ(access.RoleApprover, "berta", "carla")
	ok(t.store.SetApprovalPolicy(t.ctx, as("anna"), approval.Policy{CAs: cas, Operators: operators}))(t)
	return people
}

func policyGrows(t *trial) {
	same(t, "before", *ok(t.store.ApprovalPolicy(t.ctx))(t), approval.Policy{})
	t.refuses(vetting.Conflict)(t.store.SetApprovalPolicy(t.ctx, By, approval.Policy{CAs: 1})) // nobody could approve
	t.policy(1, 0)
	for _, p := range []approval.Policy{{}, {Operators: 1}, {CAs: -1}, {CAs: 9}, {CAs: 3}} {
		t.refuses(vetting.Conflict)(t.store.SetApprovalPolicy(t.ctx, By, p))
	}
	leaf := t.leaves()
	p := ok(t.store.SetApprovalPolicy(t.ctx, By, approval.Policy{CAs: 2, Operators: 1}))(t)
	same(t, "policy", *p, approval.Policy{CAs: 2, Operators: 1, Revision: 2})
	same(t, "read by another", ok(t.second().ApprovalPolicy(t.ctx))(t), p)
	if l := t.leaf(leaf); l.Act != "approval.policy" || l.Objects[0].Kind != audit.KindApprovalPolicy {
		t.Errorf("%+v", l)
	}
}

// actOn asks for an act on a CA.
func (t *trial) actOn(kind approval.Kind, c *vetting.IssuingCA) *approval.Proposal {
	t.Helper()
	return ok(t.store.ProposeIssuer(t.ctx, as("anna"), kind, c, "the plan of 2027"))(t)
}

func issuersByApproval(t *trial) {
	people := t.policy(2, 0)
	agreed := func(kind approval.Kind, c *vetting.IssuingCA) *approval.Proposal {
		t.Helper()
		p := t.actOn(kind, c)
		ok(t.approves(people[0], p.ID))(t)
		p = ok(t.approves(people[1], p.ID))(t)
		if l := t.leaf(p.Leaf); l.Act != approval.ActCarryOut || l.Objects[1].Kind != audit.KindIssuingCA {
			t.Errorf("%+v", l)
		}
		return p
	}
	state := func(name string, want vetting.IssuingState) {
		t.Helper()
		same(t, name, ok(t.store.IssuingCA(t.ctx, name))(t).State, want)
	}
	acme, beta := IssuingCA("acme"), IssuingCA("beta")
	t.refuses(vetting.Conflict)(t.store.CreateIssuingCA(t.ctx, By, acme))
	agreed(approval.CACreate, acme)
	agreed(approval.CACreate, beta)
	same(t, "certificate", ok(t.store.IssuingCA(t.ctx, "acme"))(t).Certificate, acme.Certificate)
	t.refuses(vetting.Exists)(t.store.ProposeIssuer(t.ctx, as("anna"), approval.CACreate, acme, "twice"))

	t.refuses(vetting.Conflict)(nil, t.store.SetDefaultIssuingCA(t.ctx, By, "acme"))
	p := agreed(approval.CADefault, acme)
	var st vetting.IssuerStatement
	t.done(p.Read(&st))
	same(t, "instead", st.Instead, vetting.DeviceCA)
	state("acme", vetting.IssuingDefault)
	t.refuses(vetting.Conflict)(t.store.ProposeIssuer(t.ctx, as("anna"), approval.CADefault, acme, "twice"))
	t.refuses(vetting.Conflict)(t.store.ProposeIssuer(t.ctx, as("anna"), approval.CAClose, acme, "it is the default"))

	t.refuses(vetting.Conflict)(t.store.CloseIssuingCA(t.ctx, By, beta))
	agreed(approval.CAClose, beta)
	state("beta", vetting.IssuingClosed)
	t.refuses(vetting.Conflict)(t.store.ReopenIssuingCA(t.ctx, By, "beta"))
	t.refuses(vetting.Conflict)(t.store.ProposeIssuer(t.ctx, as("anna"), approval.CAClose, beta, "twice"))
	agreed(approval.CAReopen, beta)
	state("beta", vetting.IssuingOpen)

	factory := &vetting.IssuingCA{Name: vetting.FactoryCA, Purpose: vetting.ForSites, Certificate: []byte("file"), Subject: []byte("CN=f"), Key: Key("factory", 0)}
	next := IssuingCA("factory-2")
	next.Purpose = vetting.ForSites
	agreed(approval.CACreate, next)
	agreed(approval.CADefault, next)
	agreed(approval.CAClose, factory) // which has no row before
	state(vetting.FactoryCA, vetting.IssuingClosed)
}

func issuersVoid(t *trial) {
	acme, beta := IssuingCA("acme"), IssuingCA("beta")
	for _, c := range []*vetting.IssuingCA{acme, beta, IssuingCA("gamma")} {
		ok(t.store.CreateIssuingCA(t.ctx, By, c))(t)
	}
	people := t.policy(1, 0)
	void := func(p *approval.Proposal) {
		t.Helper()
		same(t, p.Subject, t.proposal(p.ID).State, approval.Void)
		t.refuses(vetting.Conflict)(t.approves(people[0], p.ID))
	}
	first, second, closing := t.actOn(approval.CADefault, acme), t.actOn(approval.CADefault, beta), t.actOn(approval.CAClose, acme)
	ok(t.approves(people[0], first.ID))(t)
	void(second)  // the default is another
	void(closing) // acme is the default
	gamma := t.actOn(approval.CADefault, IssuingCA("gamma"))
	renewed := IssuingCA("gamma")
	renewed.Certificate = []byte("another")
	ok(t.store.RenewIssuingCA(t.ctx, By, renewed))(t)
	void(gamma)
	closing = t.actOn(approval.CAClose, beta)
	ok(t.store.SetApprovalPolicy(t.ctx, By, approval.Policy{CAs: 2}))(t)
	void(closing) // more approvals are wanted
}

func issuersEnd(t *trial) {
	t.refuses(vetting.Conflict)(t.store.ProposeIssuer(t.ctx, as("anna"), approval.CACreate, IssuingCA("acme"), "nobody is wanted"))
	people := t.policy(1, 0)
	p := t.actOn(approval.CACreate, IssuingCA("acme"))
	t.refuses(vetting.Conflict)(t.approves(t.people["anna"], p.ID))
	planner := t.employ(access.RolePlanner, "paula")[0]
	t.refuses(vetting.Conflict)(t.approves(planner, p.ID))
	later := OpenWith(t, store.Options{DSN: t.dsn, Now: func() time.Time { return time.Now().Add(approval.Life) }})
	yes := people[0].Yes(t, p.Payload)
	t.refuses(vetting.Conflict)(later.ApproveProposal(t.ctx, as("berta"), p.ID, yes))
	ok(t.store.WithdrawProposal(t.ctx, as("carla"), p.ID, "not now"))(t)
	t.refuses(vetting.Conflict)(t.store.ApproveProposal(t.ctx, as("berta"), p.ID, yes))
	t.refuses(vetting.NotFound)(t.store.IssuingCA(t.ctx, "acme"))
}

func operatorByApproval(t *trial) {
	people := t.policy(0, 2)
	dora := &access.Operator{Name: "dora", Role: access.RoleApprover, Key: Key("dora", 0)}
	for _, role := range []access.Role{access.RoleApprover, access.RoleAdmin, access.RolePlanner, access.RoleReleaseEngineer} {
		t.refuses(vetting.Conflict)(t.store.CreateOperator(t.ctx, By, &access.Operator{Name: "dora", Role: role, Key: Key("dora", 0)}))
	}
	ok(t.store.CreateOperator(t.ctx, By, &access.Operator{Name: "sue", Role: access.RoleSupport, Key: Key("sue", 0)}))(t)
	t.refuses(vetting.Conflict)(t.store.ProposeOperator(t.ctx, as("anna"), &access.Operator{Name: "tom", Role: access.RoleSupport, Key: Key("tom", 0)}, "he approves nothing"))
	t.refuses(vetting.Exists)(t.store.ProposeOperator(t.ctx, as("anna"), &access.Operator{Name: "berta", Role: access.RoleApprover, Key: Key("dora", 0)}, "the name is taken"))
	p := ok(t.store.ProposeOperator(t.ctx, as("anna"), dora, "carla leaves"))(t)
	t.refuses(vetting.Conflict)(t.approves(t.people["anna"], p.ID))
	ok(t.approves(people[0], p.ID))(t)
	t.refuses(vetting.NotFound)(t.store.Operator(t.ctx, "dora"))
	ok(t.approves(people[1], p.ID))(t)
	got := ok(t.store.Operator(t.ctx, "dora"))(t)
	if got.Role != access.RoleApprover || got.Key != dora.Key || !got.Revoked.IsZero() {
		t.Errorf("%+v", got)
	}
	again := ok(t.store.ProposeOperator(t.ctx, as("anna"), &access.Operator{Name: "emma", Role: access.RoleApprover, Key: Key("emma", 0)}, "one more"))(t)
	ok(t.approves(people[0], again.ID))(t)
	ok(t.store.CreateOperator(t.ctx, By, &access.Operator{Name: "emma", Role: access.RoleSupport, Key: Key("other", 0)}))(t)
	t.refuses(vetting.Conflict)(t.approves(people[1], again.ID)) // the name is taken by now
}

func guardedCalls(ctx context.Context, s *store.Store) map[string]func() error {
	return map[string]func() error{
		"ApprovalPolicy":    call(func() (any, error) { return s.ApprovalPolicy(ctx) }),
		"SetApprovalPolicy": call(func() (any, error) { return s.SetApprovalPolicy(ctx, By, approval.Policy{CAs: 1}) }),
		"ProposeIssuer": call(func() (any, error) {
			return s.ProposeIssuer(ctx, By, approval.CAClose, &vetting.IssuingCA{Name: "plant"}, "x")
		}),
		"ProposeOperator": call(func() (any, error) {
			return s.ProposeOperator(ctx, By, &access.Operator{Name: "berta", Role: access.RoleApprover}, "x")
		}),
		"ProposeOpening":  call(func() (any, error) { return s.ProposeOpening(ctx, By, "PO-1", "x") }),
		"ProposeManifest": call(func() (any, error) { return s.ProposeManifest(ctx, By, 1, "x") }),
	}
}
