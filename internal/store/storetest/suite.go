package storetest

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"testing"

	"github.com/touchmark/touchmark/enroll"
	"github.com/touchmark/touchmark/internal/audit"
	"github.com/touchmark/touchmark/internal/store"
	"github.com/touchmark/touchmark/vetting"
)

// Run is the conformance suite: it tests a store on each of its databases
// for what enroll.Ledger, the operators' API, the manifest importer and the
// log's publisher rely on. fresh returns the DSN of a new, empty database.
func Run(t *testing.T, fresh func(t testing.TB) string) {
	for _, s := range subjects {
		t.Run(s.name, func(t *testing.T) {
			for _, c := range s.cases {
				t.Run(c.name, func(t *testing.T) {
					t.Parallel() // most of the time they wait for the disk
					dsn := fresh(t)
					c.run(&trial{TB: t, ctx: t.Context(), dsn: dsn, store: Open(t, dsn)})
					Verify(t, Open(t, dsn)) // as another server, or the next start, sees it
				})
			}
		})
	}
}

var subjects = []struct {
	name  string
	cases []conformance
}{
	{"catalogue", catalogueCases},
	{"acts", actCases},
	{"rule versions", ruleVersionCases},
	{"orders", orderCases},
	{"openings", openingCases},
	{"raises", raiseCases},
	{"proposals", proposalCases},
	{"releases", releaseCases},
	{"wraps", wrapCases},
	{"approved releases", approvedReleaseCases},
	{"offline keys", offlineKeyCases},
	{"statement signatures", statementSignatureCases},
	{"tuf", tufCases},
	{"logins", loginCases},
	{"manifests", manifestCases},
	{"manifest approvals", manifestApprovalCases},
	{"records", recordCases},
	{"facts", factCases},
	{"stale", staleCases},
	{"counts", countCases},
	{"identifiers", identifierCases},
	{"codes", codeCases},
	{"licences", licenceCases},
	{"tpm", tpmCases},
	{"commit", commitCases},
	{"activate", activateCases},
	{"devices", deviceCases},
	{"revoke", revokeCases},
	{"statuses", statusCases},
	{"waste", wasteCases},
	{"life", lifeCases},
	{"test results", testResultCases},
	{"replace", replaceCases},
	{"jobs", jobCases},
	{"issuing CAs", issuingCases},
	{"guarded CAs", guardedCases},
	{"revocation lists", crlCases},
	{"offline files", offlineCases},
	{"transfers", transferCases},
	{"owners", ownerCases},
	{"registrations", registrationCases},
	{"messages", messageCases},
	{"ACME", acmeCases},
	{"authenticity", authenticityCases},
	{"challenges", challengeCases},
	{"observed", observedCases},
	{"log", logCases},
	{"events", eventCases},
	{"webhooks", webhookCases},
	{"process", processCases},
}

// conformance is one thing that a store must do.
type conformance struct {
	name string
	run  func(*trial)
}

// trial is a test with an empty database and a store on it. The log is
// verified when it ends.
type trial struct {
	testing.TB
	ctx   context.Context
	dsn   string
	store *store.Store

	people map[string]*Person // planners, by name
}

// second opens another store on the same database, as another server does.
func (t *trial) second() *store.Store {
	t.Helper()
	return Open(t, t.dsn)
}

// ok unpacks what a call returned, and ends the test if that is an error.
func ok[T any](v T, err error) func(*trial) T {
	return func(t *trial) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// done ends the test if a call failed.
func (t *trial) done(err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// refuses checks that the call whose results it is given is refused for the
// given reason, and that the log does not grow by it.
func (t *trial) refuses(want vetting.Problem) func(any, error) {
	t.Helper()
	before := t.leaves()
	return func(_ any, err error) {
		t.Helper()
		if err == nil || vetting.ProblemOf(err) != want {
			t.Errorf("problem %d (%v), want %d", vetting.ProblemOf(err), err, want)
		}
		if now := t.leaves(); now != before {
			t.Errorf("a refused act left %d leaves in the log", now-before)
		}
	}
}

// leaves counts the log's leaves.
func (t *trial) leaves() int64 {
	t.Helper()
	return ok(t.store.Head(t.ctx))(t).Size()
}

// leaf reads one leaf.
func (t *trial) leaf(index int64) audit.Leaf {
	t.Helper()
	var leaf audit.Leaf
	found := false
	t.done(t.store.Leaves(t.ctx, index, index+1, func(_ int64, body []byte) (err error) {
		found = true
		leaf, err = audit.ParseLeaf(body)
		return err
	}))
	if !found {
		t.Fatalf("the log has no leaf %d", index)
	}
	return leaf
}

// same compares whole objects.
func same[T any](t *trial, what string, got, want T) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%s: have %s, want %s", what, show(got), show(want))
	}
}

// show prints a value with what it points to, as far as JSON has it, and as
// Go sees it.
func show(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprintf("%+v", v)
	}
	return fmt.Sprintf("%s (%+v)", text, v)
}

// pages checks that a list, read two entries at a time, is what it is as a
// whole: n entries in strict order, rising or falling.
func pages[T any](t *trial, n int, falling bool, list func(vetting.Page) ([]T, error), id func(T) int64) {
	t.Helper()
	idsOf := func(p vetting.Page) (ids []int64) {
		t.Helper()
		for _, v := range ok(list(p))(t) {
			ids = append(ids, id(v))
		}
		return ids
	}
	whole := idsOf(vetting.Page{})
	if len(whole) != n {
		t.Fatalf("the list has %d entries, want %d", len(whole), n)
	}
	for i, id := range whole[1:] {
		if (id > whole[i]) == falling || id == whole[i] {
			t.Errorf("the list is out of order: %v", whole)
		}
	}
	var joined []int64
	for p := (vetting.Page{Limit: 2}); len(joined) < n; p.After = joined[len(joined)-1] {
		page := idsOf(p)
		if want := min(2, n-len(joined)); len(page) != want {
			t.Fatalf("the page after %d has %d entries, want %d", p.After, len(page), want)
		}
		joined = append(joined, page...)
	}
	if !slices.Equal(joined, whole) {
		t.Errorf("the pages hold %v, the list %v", joined, whole)
	}
	if rest := idsOf(vetting.Page{After: whole[n-1], Limit: 2}); len(rest) != 0 {
		t.Errorf("after the last entry come %v", rest)
	}
}

// world builds the small world with records in place.
func (t *trial) world(quantity int64, records ...vetting.Record) *World {
	t.Helper()
	w := NewWorld(t, t.store, quantity)
	if len(records) > 0 {
		w.Load(t, records...)
	}
	return w
}

// with is the same world, whose manifests are for another order.
func (w *World) with(o *vetting.Order) *World {
	other := *w
	other.Order = o
	return &other
}

// order makes an order of another product, site and state.
func (t *trial) order(name, product, site string, state vetting.OrderState) *vetting.Order {
	t.Helper()
	return ok(t.store.CreateOrder(t.ctx, By, &vetting.Order{Name: name, Product: product, Site: site, State: state, Quantity: 100, ManifestSignatures: 1}))(t)
}

func (t *trial) product(name string) *vetting.Product {
	t.Helper()
	return ok(t.store.CreateProduct(t.ctx, By, &vetting.Product{Name: name, Profile: vetting.Profile{Validity: "825d"},
		Proofs: []vetting.Proof{vetting.ProofBootstrapKey, vetting.ProofRig}}))(t)
}

func (t *trial) site(name string) *vetting.Site {
	t.Helper()
	return ok(t.store.CreateSite(t.ctx, By, &vetting.Site{Name: name}))(t)
}

// change changes the world's order.
func (t *trial) change(order string, c vetting.OrderChange) *vetting.Order {
	t.Helper()
	return ok(t.store.ChangeOrder(t.ctx, By, order, c))(t)
}

// first is the claim with which a unit enrols on its official key.
func first(n int) vetting.Claim { return Claim(Unit(n).BootstrapKey, Key("official", n)) }

// facts gathers what is known about a claim.
func (t *trial) facts(c vetting.Claim) vetting.Facts {
	t.Helper()
	return ok(t.store.Facts(t.ctx, c))(t)
}

// propose judges a claim and gives the commit that would carry it out.
func (t *trial) propose(c vetting.Claim) enroll.Commit {
	t.Helper()
	return commitOf(t.facts(c))
}

// enrol has a claim judged and committed, and checks the verdict's first
// reason.
func (t *trial) enrol(c vetting.Claim, want vetting.Code) *vetting.Registration {
	t.Helper()
	commit := t.propose(c)
	if got := commit.Verdict.Reasons[0].Code; got != want {
		t.Fatalf("the verdict is %s (%s), want %s", got, commit.Verdict.Text(), want)
	}
	id := ok(t.store.Commit(t.ctx, commit))(t).Registration
	return ok(t.store.Registration(t.ctx, id))(t)
}

// admit enrols a unit for the first time and returns its device.
func (t *trial) admit(n int) *vetting.Device {
	t.Helper()
	return t.deviceOf(t.enrol(first(n), vetting.ReasonVetted))
}

func (t *trial) deviceOf(r *vetting.Registration) *vetting.Device {
	t.Helper()
	return t.device(r.DeviceID)
}

func (t *trial) device(id int64) *vetting.Device {
	t.Helper()
	return ok(t.store.Device(t.ctx, id))(t)
}

// cert reads a certificate.
func (t *trial) cert(serial string) *vetting.Certificate {
	t.Helper()
	return ok(t.store.Certificate(t.ctx, serial))(t)
}

// issued is how many units of an order have a certificate.
func (t *trial) issued(order string) int64 {
	t.Helper()
	return ok(t.store.Order(t.ctx, order))(t).Issued
}

// commitOf judges facts and gives the commit that would carry the verdict
// out.
func commitOf(f vetting.Facts) enroll.Commit {
	commit := enroll.Commit{Facts: f, Verdict: vetting.Judge(f)}
	if a, admitted := commit.Verdict.Admission(); admitted && a.Repeat() == nil {
		commit.Issued = certificate()
	}
	return commit
}
