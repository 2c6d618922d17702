package store

import (
	"bytes"
	"context"
	"fmt"
	"slices"

	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/internal/approval"
	"github.com/touchmark/touchmark/internal/audit"
	"github.com/touchmark/touchmark/vetting"
)

// manifestSubject names a manifest in a proposal.
func manifestSubject(id int64, order string) string { return fmt.Sprintf("%d of %s", id, order) }

// manifestApprovals is how many others must approve a manifest of an order.
func (w *writing) manifestApprovals(order int64) (int, error) {
	_, o, product, err := w.wholeOrder(`o.id = $1`, order)
	if err != nil {
		return 0, err
	}
	return max(o.ManifestApprovals, product.Approvals.Manifests), nil
}

// awaited enters what an unapproved manifest waits for.
func (s *Store) awaited(ctx context.Context, m *vetting.Manifest, o *vetting.Order) error {
	product, err := s.productWhere(ctx, `id = $1`, o.ProductID)
	if err != nil {
		return err
	}
	m.Approvals = max(o.ManifestApprovals, product.Approvals.Manifests)
	pending, err := s.Proposals(ctx, approval.Filter{Kind: approval.ManifestAccept, Subject: manifestSubject(m.ID, m.Order), State: approval.Pending}, vetting.Page{Limit: 1})
	if err == nil && len(pending) > 0 {
		m.Proposal = pending[0].ID
	}
	return err
}

// ProposeManifest asks again that others approve a manifest, whose proposal
// ended without. One that does not wait for approvals, or lacks signatures
// because who signed was revoked since, is a Conflict.
func (s *Store) ProposeManifest(ctx context.Context, a access.Act, id int64, note string) (*vetting.Manifest, error) {
	_, err := s.act(ctx, a, func(w *writing) (int64, error) {
		m, err := w.manifestNow(id)
		if err != nil {
			return 0, err
		}
		return id, w.proposeManifest(a, m, note)
	})
	if err != nil {
		return nil, err
	}
	return s.Manifest(ctx, id)
}

// manifestNow reads a manifest that is complete, or fails with NotFound.
func (w *writing) manifestNow(id int64) (*manifestRow, error) {
	m := new(manifestRow)
	w.fetch(manifestQuery+`WHERE m.id = $1 AND m.state <> 'receiving'`, []any{id}, func(r row) error { return r.Scan(m.dest()...) })
	if err := w.flush(); err != nil {
		return nil, err
	}
	if m.ID == 0 {
		return nil, notFound("manifest", id)
	}
	return m, nil
}

// askForManifest asks for a manifest that has just become unapproved, or got
// another signature: what was asked before lacks that.
func (w *writing) askForManifest(a access.Act, m *manifestRow) error {
	_, o, _, err := w.wholeOrder(`o.id = $1`, m.OrderID)
	if err != nil {
		return err
	}
	if err := w.voidProposals(operatorOf(a), approval.ManifestAccept, manifestSubject(m.ID, o.Name), "another operator of the site signed it since"); err != nil {
		return err
	}
	err = w.proposeManifest(a, m, "handed in, with the signatures that its order wants")
	if vetting.ProblemOf(err) == vetting.Conflict {
		return nil // too many of those who signed were revoked: it waits for more signatures
	}
	return err
}

func (w *writing) proposeManifest(a access.Act, m *manifestRow, note string) error {
	st, wanted, err := w.manifestStatement(m)
	if err != nil {
		return err
	}
	_, err = w.propose(a, approval.Act{Kind: approval.ManifestAccept, Subject: manifestSubject(m.ID, st.Order), Note: note, Wanted: wanted, Statement: st})
	return err
}

// manifestStatement is what others approve of an unapproved manifest, and how
// many of them. Whatever keeps it from being accepted is a Conflict.
func (w *writing) manifestStatement(m *manifestRow) (st vetting.ManifestStatement, wanted int, err error) {
	_, o, product, err := w.wholeOrder(`o.id = $1`, m.OrderID)
	if err != nil {
		return st, 0, err
	}
	st = vetting.ManifestStatement{Manifest: m.ID, Order: o.Name, Product: o.Product, Site: o.Site, Format: vetting.ManifestFormat(m.Format), SHA256: m.SHA256, Size: m.Size, Records: m.Records, Signers: []string{}}
	w.fetch(`SELECT ms.operator FROM manifest_signatures ms WHERE ms.manifest_id = $1 AND NOT EXISTS (SELECT 1 FROM operators op WHERE op.name = ms.operator AND op.revoked <> 0) ORDER BY ms.id`, []any{m.ID}, func(r row) error {
		var name string
		err := r.Scan(&name)
		st.Signers = append(st.Signers, name)
		return err
	})
	if err := w.flush(); err != nil {
		return st, 0, err
	}
	switch {
	case m.State != string(vetting.ManifestUnapproved):
		return st, 0, vetting.Errorf(vetting.Conflict, "manifest %d is %s: it does not wait for approvals", m.ID, m.State)
	case o.State == vetting.OrderCancelled:
		return st, 0, vetting.Errorf(vetting.Conflict, "order %s was cancelled", o.Name)
	case len(st.Signers) < o.ManifestSignatures:
		return st, 0, vetting.Errorf(vetting.Conflict, "manifest %d wants %d signatures, and has %d of operators who were not revoked since: let another one sign it", m.ID, o.ManifestSignatures, len(st.Signers))
	}
	// It waits since more were wanted than none, and that only grows.
	return st, max(o.ManifestApprovals, product.Approvals.Manifests), nil
}

// carryManifest accepts a manifest that is still what was approved.
func carryManifest(w *writing, p *approval.Proposal) ([]audit.Object, error) {
	m, err := w.approvedManifest(p)
	if err != nil {
		return nil, err
	}
	m.State = string(vetting.ManifestAccepted)
	w.saveManifest(m)
	return []audit.Object{m.object()}, nil
}

// approvedManifest finds the manifest of a proposal. It is a Conflict if
// something was changed that the proposal rests on.
func (w *writing) approvedManifest(p *approval.Proposal) (*manifestRow, error) {
	var st vetting.ManifestStatement
	if err := p.Read(&st); err != nil {
		return nil, err
	}
	m, err := w.manifestNow(st.Manifest)
	if err != nil {
		return nil, err
	}
	now, wanted, err := w.manifestStatement(m)
	if err != nil {
		return nil, err
	}
	same, err := approval.Canonical(now)
	switch {
	case err != nil:
		return nil, err
	case wanted > p.Wanted:
		return nil, vetting.Errorf(vetting.Conflict, "manifests of order %s want %d approvals by now", st.Order, wanted)
	case !slices.Equal(now.Signers, st.Signers):
		return nil, vetting.Errorf(vetting.Conflict, "manifest %d has other signers by now", m.ID)
	case !bytes.Equal(same, p.Statement):
		return nil, vetting.Errorf(vetting.Conflict, "manifest %d is not what was asked for", m.ID)
	}
	return m, nil
}

// reviewManifests ends the proposals about manifests that could not be carried
// out any more: after an order, a product or an operator was changed.
func (w *writing) reviewManifests(by string) error {
	list, err := w.proposals(`pr.kind = $1 AND pr.state = $2 AND pr.expires > $3`, string(approval.ManifestAccept), string(approval.Pending), micros(w.now))
	if err != nil {
		return err
	}
	for _, p := range list {
		_, err := w.approvedManifest(p)
		if vetting.ProblemOf(err) == vetting.Conflict {
			err = w.voidProposals(by, p.Kind, p.Subject, err.Error())
		}
		if err != nil {
			return err
		}
	}
	return nil
}
