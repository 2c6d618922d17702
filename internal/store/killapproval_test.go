package store_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/internal/approval"
	"github.com/touchmark/touchmark/internal/store"
	"github.com/touchmark/touchmark/internal/store/storetest"
	"github.com/touchmark/touchmark/vetting"
)

// raiseByApproval asks for the round's raise of po-1 and approves it, each
// step once, whoever repeats it.
func raiseByApproval(ctx context.Context, s *store.Store, dir string, round int) error {
	raise, err := s.ProposeRaise(ctx, access.Act{Operator: "anna", Key: fmt.Sprint(round)}, "po-1", int64(10+round), "more")
	if err != nil {
		return err
	}
	p, err := s.Proposal(ctx, raise.ID)
	if err != nil {
		return err
	}
	return yesOfBerta(ctx, s, dir, p, round)
}

// yesOfBerta approves a proposal by the key that parent and child share.
func yesOfBerta(ctx context.Context, s *store.Store, dir string, p *approval.Proposal, round int) error {
	cert, key, err := sharedCA(dir)
	if err != nil {
		return err
	}
	signature, err := approval.Sign(p.Payload, key)
	if err != nil {
		return err
	}
	_, err = s.ApproveProposal(ctx, access.Act{Operator: "berta", Key: fmt.Sprint(round)}, p.ID, approval.Approval{Certificates: [][]byte{cert.Raw}, Signature: signature})
	return err
}

// byApproval asks for a round's act of a kind and approves it, each step once,
// whoever repeats it.
func byApproval(kind approval.Kind) func(ctx context.Context, s *store.Store, dir string, round int) error {
	return func(ctx context.Context, s *store.Store, dir string, round int) error {
		p, err := carriedKinds[kind].ask(ctx, s, access.Act{Operator: "anna", Key: fmt.Sprint(round)}, round)
		if err != nil {
			return err
		}
		return yesOfBerta(ctx, s, dir, p, round)
	}
}

// employBerta makes her an operator with the key that parent and child share.
func employBerta(t *testing.T, s *store.Store, dir string) {
	t.Helper()
	cert, _, err := sharedCA(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.CreateOperator(t.Context(), storetest.By, &access.Operator{Name: "berta", Role: access.RoleApprover, Key: vetting.KeyFingerprint(cert.RawSubjectPublicKeyInfo)}); err != nil {
		t.Fatal(err)
	}
}

// TestKillAtApprovalsOfKinds: what a proposal is about was carried out with its
// last approval, or not at all, whenever the process ended.
func TestKillAtApprovalsOfKinds(t *testing.T) {
	for kind, c := range carriedKinds {
		for db, dsn := range storetest.Databases(t) {
			t.Run(string(kind)+"/"+db, func(t *testing.T) {
				ctx, dir := t.Context(), shared(t)
				s := storetest.Open(t, dsn)
				storetest.NewWorld(t, s, 10)
				if err := c.ready(ctx, s); err != nil {
					t.Fatal(err)
				}
				employBerta(t, s, dir)
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
				n := killed(t, string(kind), dsn, dir, func(s *store.Store, round int, through bool) {
					is, err := c.done(ctx, s, round)
					if err != nil {
						t.Fatal(err)
					}
					list, err := s.Proposals(ctx, approval.Filter{Kind: kind}, vetting.Page{})
					if err != nil {
						t.Fatal(err)
					}
					newest := len(list) > 0 && len(list) == round && list[0].State == approval.CarriedOut
					if is != newest || through && !is {
						t.Errorf("round %d: carried out %v, the newest of %d proposals %v", round, is, len(list), newest)
					}
				})
				if n < 4 { // before and after each of at least two commits
					t.Errorf("%d processes were killed", n)
				}
			})
		}
	}
}

// TestKillAtApprovals: a proposal whose last approval was cut off waits, or is
// carried out with all that belongs to it.
func TestKillAtApprovals(t *testing.T) {
	for db, dsn := range storetest.Databases(t) {
		t.Run(db, func(t *testing.T) {
			ctx, dir, one := t.Context(), shared(t), 1
			s := storetest.Open(t, dsn)
			storetest.NewWorld(t, s, 10)
			if _, err := s.ChangeOrder(ctx, storetest.By, "po-1", vetting.OrderChange{RaiseApprovals: &one}); err != nil {
				t.Fatal(err)
			}
			employBerta(t, s, dir)
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			n := killed(t, "approvals", dsn, dir, func(s *store.Store, round int, done bool) {
				o, err := s.Order(ctx, "po-1")
				if err != nil {
					t.Fatal(err)
				}
				list, err := s.Proposals(ctx, approval.Filter{Kind: approval.OrderRaise, Subject: "po-1", State: approval.CarriedOut}, vetting.Page{})
				if err != nil || o.Quantity != int64(10+len(list)) || o.Quantity < int64(9+round) || done && len(list) != round {
					t.Errorf("round %d, done %v: the order is for %d units after %d raises, %v", round, done, o.Quantity, len(list), err)
				}
			})
			if n != 4 { // before and after each of two commits
				t.Errorf("%d processes were killed", n)
			}
		})
	}
}
