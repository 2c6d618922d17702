package store

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/internal/approval"
	"github.com/touchmark/touchmark/internal/audit"
	"github.com/touchmark/touchmark/vetting"
)

// approvalPolicyRow is the row of approval_policy.
type approvalPolicyRow struct {
	ID   int64
	Body string // the approval.Policy as JSON
}

const approvalPolicyColumns = `ap.id, ap.body`

func (p *approvalPolicyRow) dest() []any { return []any{&p.ID, &p.Body} }

func (p *approvalPolicyRow) scan(from row) error { return from.Scan(p.dest()...) }

func (p *approvalPolicyRow) object() audit.Object {
	return audit.Object{Kind: audit.KindApprovalPolicy, ID: p.ID, Digest: audit.DigestOf(p)}
}

func (p *approvalPolicyRow) policy() (out approval.Policy, err error) {
	if p.ID == 0 {
		return out, nil
	}
	if err := json.Unmarshal([]byte(p.Body), &out); err != nil {
		return out, fmt.Errorf("the approval policy in the database: %w", err)
	}
	return out, nil
}

// theApprovalPolicy is the ID of the only row.
const theApprovalPolicy = 1

const approvalPolicyQuery = `SELECT ` + approvalPolicyColumns + ` FROM approval_policy ap`

// ApprovalPolicy is what holds for the installation.
func (s *Store) ApprovalPolicy(ctx context.Context) (*approval.Policy, error) {
	have := new(approvalPolicyRow)
	if err := s.db.query(ctx, approvalPolicyQuery, nil, have.scan); err != nil {
		return nil, err
	}
	p, err := have.policy()
	return &p, err
}

func (w *writing) approvalPolicy() (approval.Policy, error) {
	have := new(approvalPolicyRow)
	w.fetch(approvalPolicyQuery, nil, have.scan)
	if err := w.flush(); err != nil {
		return approval.Policy{}, err
	}
	return have.policy()
}

// SetApprovalPolicy says how many others must agree. Less than before is a
// Conflict; so is more than there are operators who could, besides the one who
// asks, for nobody could undo that. What waits with fewer approvals is void.
func (s *Store) SetApprovalPolicy(ctx context.Context, a access.Act, to approval.Policy) (*approval.Policy, error) {
	_, err := s.act(ctx, a, func(w *writing) (int64, error) {
		before, err := w.approvalPolicy()
		if err != nil {
			return 0, err
		}
		if err := to.Follows(before); err != nil {
			return 0, vetting.Errorf(vetting.Conflict, "%v", err)
		}
		if err := w.enoughApprovers(max(to.CAs, to.Operators)); err != nil {
			return 0, err
		}
		to.Revision = before.Revision + 1
		row := &approvalPolicyRow{ID: theApprovalPolicy, Body: mustJSON(to)}
		w.exec(`INSERT INTO approval_policy (id, body) VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET body = EXCLUDED.body`, row.ID, row.Body)
		w.leaf("approval.policy", operatorOf(a), fmt.Sprintf("CAs want %d approvals, operators %d", to.CAs, to.Operators), row.object())
		return row.ID, w.outgrown(operatorOf(a), to)
	})
	if err != nil {
		return nil, err
	}
	return s.ApprovalPolicy(ctx)
}

// enoughApprovers refuses to want more approvals than there are others to give
// them.
func (w *writing) enoughApprovers(n int) error {
	var have int
	w.fetch(`SELECT COUNT(*) FROM operators op WHERE op.revoked = 0 AND op.role IN ($1, $2)`, []any{string(access.RoleAdmin), string(access.RoleApprover)}, func(r row) error { return r.Scan(&have) })
	if err := w.flush(); err != nil {
		return err
	}
	if n > 0 && have <= n {
		return vetting.Errorf(vetting.Conflict, "%d approvals by others take %d administrators and approvers, and there are %d: add some first", n, n+1, have)
	}
	return nil
}

// outgrown ends proposals that want fewer approvals than the policy by now.
func (w *writing) outgrown(by string, policy approval.Policy) error {
	list, err := w.proposals(`pr.state = $1 AND pr.expires > $2`, string(approval.Pending), micros(w.now))
	if err != nil {
		return err
	}
	for _, p := range list {
		if policy.Wanted(p.Kind) <= p.Wanted {
			continue
		}
		if err := w.voidProposals(by, p.Kind, p.Subject, "more approvals are wanted by now"); err != nil {
			return err
		}
	}
	return nil
}

// alone refuses an act that others must agree to; how tells how to ask.
func (w *writing) alone(k approval.Kind, what, how string) error {
	policy, err := w.approvalPolicy()
	if err != nil {
		return err
	}
	if n := policy.Wanted(k); n > 0 {
		return vetting.Errorf(vetting.Conflict, "%s wants the approval of %d others: ask for it, with `%s --note WHY`", what, n, how)
	}
	return nil
}

// wants is how many others must agree to an act. That it needs nobody is a
// Conflict.
func (w *writing) wants(k approval.Kind) (int, error) {
	policy, err := w.approvalPolicy()
	if err != nil {
		return 0, err
	}
	n := policy.Wanted(k)
	if n == 0 {
		return 0, vetting.Errorf(vetting.Conflict, "%s wants no approvals: do it", k)
	}
	return n, nil
}
