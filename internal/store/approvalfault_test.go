package store_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/internal/approval"
	"github.com/touchmark/touchmark/internal/store"
	"github.com/touchmark/touchmark/internal/store/storetest"
	"github.com/touchmark/touchmark/vetting"
	"github.com/touchmark/touchmark/vetting/manifest"
)

// carried is a kind of act that one other must approve, in the world of
// storetest. A round has a subject of its own.
type carried struct {
	ready func(ctx context.Context, s *store.Store) error
	ask   func(ctx context.Context, s *store.Store, a access.Act, round int) (*approval.Proposal, error)
	// done reports whether the act was carried out.
	done func(ctx context.Context, s *store.Store, round int) (bool, error)
}

var carriedKinds = map[approval.Kind]carried{
	approval.OrderOpen: {wantOpenings, askOpening, func(ctx context.Context, s *store.Store, round int) (bool, error) {
		o, err := s.Order(ctx, roundOrder(round))
		if vetting.ProblemOf(err) == vetting.NotFound {
			return false, nil
		}
		return err == nil && o.State == vetting.OrderOpen && o.Approved, err
	}},
	approval.ManifestAccept: {wantManifestApprovals, askManifest, func(ctx context.Context, s *store.Store, round int) (bool, error) {
		m, err := s.ManifestByDigest(ctx, "po-1", roundManifest(round))
		if vetting.ProblemOf(err) == vetting.NotFound {
			return false, nil
		}
		return err == nil && m.State == vetting.ManifestAccepted, err
	}},
	approval.CACreate: {wantPolicy, askCA, func(ctx context.Context, s *store.Store, round int) (bool, error) {
		_, err := s.IssuingCA(ctx, roundCA(round))
		if vetting.ProblemOf(err) == vetting.NotFound {
			return false, nil
		}
		return err == nil, err
	}},
}

func wantManifestApprovals(ctx context.Context, s *store.Store) error {
	one := 1
	_, err := s.ChangeOrder(ctx, storetest.By, "po-1", vetting.OrderChange{ManifestApprovals: &one})
	return err
}

// roundManifest is the digest of a round's manifest.
func roundManifest(round int) string { return storetest.Key("manifest", round).String() }

func askManifest(ctx context.Context, s *store.Store, a access.Act, round int) (*approval.Proposal, error) {
	o, err := s.Order(ctx, "po-1")
	if err != nil {
		return nil, err
	}
	m := &vetting.Manifest{OrderID: o.ID, Format: vetting.FormatCSV, Records: 2, Size: 99, Wanted: 1, SHA256: roundManifest(round)}
	if m.ID, err = s.BeginManifest(ctx, m); err != nil {
		return nil, err
	}
	if m, err = s.AcceptManifest(ctx, a, m, []manifest.Signature{{Operator: "lin", DER: []byte{1}, At: time.Now()}}); err != nil {
		return nil, err
	}
	list, err := s.Proposals(ctx, approval.Filter{Kind: approval.ManifestAccept, Subject: fmt.Sprintf("%d of po-1", m.ID)}, vetting.Page{})
	if err != nil || len(list) != 1 {
		return nil, fmt.Errorf("there are %d proposals about manifest %d, %w", len(list), m.ID, err)
	}
	return list[0], nil
}

func roundOrder(round int) string { return fmt.Sprintf("po-round-%d", round) }

func wantOpenings(ctx context.Context, s *store.Store) error {
	p, err := s.Product(ctx, "thermo")
	if err != nil {
		return err
	}
	p.Approvals.Orders = 1
	_, err = s.UpdateProduct(ctx, storetest.By, p)
	return err
}

func askOpening(ctx context.Context, s *store.Store, a access.Act, round int) (*approval.Proposal, error) {
	_, err := s.CreateOrder(ctx, access.Act{Operator: a.Operator, Key: a.Key + "-order"}, &vetting.Order{Name: roundOrder(round), Product: "thermo", Site: "hsinchu", Quantity: 5, ManifestSignatures: 1})
	if err != nil {
		return nil, err
	}
	return s.ProposeOpening(ctx, a, roundOrder(round), "the customer ordered")
}

// The wish for an act, or its last approval, whose commit fails is not there,
// or it is; repeated, the act is carried out once.
func TestApprovalCommitFails(t *testing.T) {
	ctx := t.Context()
	for kind, c := range carriedKinds {
		var berta *storetest.Person
		ready := func(t *testing.T, w *storetest.World) {
			if err := c.ready(ctx, w.Store); err != nil {
				t.Fatal(err)
			}
			berta = storetest.NewPerson(t, "berta").Employ(t, w.Store, access.RoleApprover)
		}
		ask := func(w *storetest.World) (*approval.Proposal, error) {
			return c.ask(ctx, w.Store, access.Act{Operator: "anna", Key: "k"}, 1)
		}
		approve := func(t *testing.T, w *storetest.World, p *approval.Proposal) error {
			_, err := w.Store.ApproveProposal(ctx, access.Act{Operator: "berta", Key: "k"}, p.ID, berta.Yes(t, p.Payload))
			return err
		}
		done := func(t *testing.T, w *storetest.World) bool {
			t.Helper()
			is, err := c.done(ctx, w.Store, 1)
			if err != nil {
				t.Error(err)
			}
			return is
		}
		carriedOut := func(t *testing.T, w *storetest.World) {
			t.Helper()
			p, err := ask(w)
			if err != nil {
				t.Fatalf("asked again: %v", err)
			}
			if err := approve(t, w, p); err != nil || !done(t, w) {
				t.Errorf("approved again: %v, done %v", err, done(t, w))
			}
			list, err := w.Store.Proposals(ctx, approval.Filter{Kind: kind}, vetting.Page{})
			if err != nil || len(list) != 1 || list[0].State != approval.CarriedOut || len(list[0].Approvals) != 1 {
				t.Errorf("there are %d proposals, %v", len(list), err)
			}
		}
		t.Run(string(kind)+" asked", func(t *testing.T) {
			eachFaultAfter(t, ready, func(t *testing.T, w *storetest.World, fault string) {
				if _, err := ask(w); err == nil {
					t.Error("no error although the write failed")
				}
			}, func(t *testing.T, w *storetest.World, fault string) {
				if done(t, w) {
					t.Error("it was carried out when it was asked for")
				}
				carriedOut(t, w)
			})
		})
		var p *approval.Proposal
		t.Run(string(kind)+" approved", func(t *testing.T) {
			eachFaultAfter(t, func(t *testing.T, w *storetest.World) {
				ready(t, w)
				var err error
				if p, err = ask(w); err != nil {
					t.Fatal(err)
				}
			}, func(t *testing.T, w *storetest.World, fault string) {
				if approve(t, w, p) == nil {
					t.Error("no error although the write failed")
				}
			}, func(t *testing.T, w *storetest.World, fault string) {
				if persisted := fault == "persisted anyway"; done(t, w) != persisted {
					t.Errorf("carried out: %v", !persisted)
				}
				carriedOut(t, w)
			})
		})
	}
}

// wantPolicy makes acts on CAs and operators want one approval.
func wantPolicy(ctx context.Context, s *store.Store) error {
	for n := range 2 { // who could give it
		o := &access.Operator{Name: fmt.Sprintf("admin-%d", n), Role: access.RoleAdmin, Key: storetest.Key("admin", n)}
		if _, err := s.CreateOperator(ctx, storetest.By, o); err != nil {
			return err
		}
	}
	_, err := s.SetApprovalPolicy(ctx, storetest.By, approval.Policy{CAs: 1})
	return err
}

func roundCA(round int) string { return fmt.Sprintf("ca-%d", round) }

func askCA(ctx context.Context, s *store.Store, a access.Act, round int) (*approval.Proposal, error) {
	return s.ProposeIssuer(ctx, a, approval.CACreate, storetest.IssuingCA(roundCA(round)), "the plan of 2027")
}
