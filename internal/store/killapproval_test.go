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
	cert, key, err := sharedCA(dir)
	if err != nil {
		return err
	}
	raise, err := s.ProposeRaise(ctx, access.Act{Operator: "anna", Key: fmt.Sprint(round)}, "po-1", int64(10+round), "more")
	if err != nil {
		return err
	}
	p, err := s.Proposal(ctx, raise.ID)
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

// TestKillAtApprovals: a proposal whose last approval was cut off waits, or is
// carried out with all that belongs to it.
func TestKillAtApprovals(t *testing.T) {
	for db, dsn := range storetest.Databases(t) {
		t.Run(db, func(t *testing.T) {
			ctx, dir, one := t.Context(), shared(t), 1
			cert, _, err := sharedCA(dir)
			if err != nil {
				t.Fatal(err)
			}
			s := storetest.Open(t, dsn)
			storetest.NewWorld(t, s, 10)
			if _, err := s.ChangeOrder(ctx, storetest.By, "po-1", vetting.OrderChange{RaiseApprovals: &one}); err != nil {
				t.Fatal(err)
			}
			if _, err := s.CreateOperator(ctx, storetest.By, &access.Operator{Name: "berta", Role: access.RoleApprover, Key: vetting.KeyFingerprint(cert.RawSubjectPublicKeyInfo)}); err != nil {
				t.Fatal(err)
			}
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
