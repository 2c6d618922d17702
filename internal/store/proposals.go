package store

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/internal/approval"
	"github.com/touchmark/touchmark/internal/audit"
	"github.com/touchmark/touchmark/vetting"
)

// carriers carry out what proposals of a kind are about, in the transaction
// of their last approval, and tell what they changed. What a carrier cannot do
// any more is a Conflict, and the approval is not taken.
var carriers = map[approval.Kind]func(w *writing, p *approval.Proposal) ([]audit.Object, error){
	approval.OrderOpen:         carryOpening,
	approval.OrderRaise:        carryRaise,
	approval.ManifestAccept:    carryManifest,
	approval.ReleaseApprove:    carryApproval,
	approval.ReleaseYank:       carryYank,
	approval.FirmwareCounter:   carryFloor,
	approval.FirmwareKeyRevoke: carryKeyRevocation,
	approval.CACreate:          carryIssuer,
	approval.CADefault:         carryIssuer,
	approval.CAClose:           carryIssuer,
	approval.CAReopen:          carryIssuer,
	approval.OperatorAdd:       carryOperator,
}

// proposalRow is a row of proposals. Expiry is not written: nobody does it.
type proposalRow struct {
	ID            int64
	Kind, Subject string
	State         string
	Payload       []byte
	Body          string // a proposalBody as JSON
	Leaf          int64  `json:"-"` // it has the digest of the others
}

type proposalBody struct {
	Approvals []approval.Approval
	Why       string `json:",omitempty"`
}

const proposalColumns = `pr.id, pr.kind, pr.subject, pr.state, pr.payload, pr.body, pr.leaf`

func (r *proposalRow) scan(from row) error {
	return from.Scan(&r.ID, &r.Kind, &r.Subject, &r.State, &r.Payload, &r.Body, &r.Leaf)
}

func (r *proposalRow) object() audit.Object {
	return audit.Object{Kind: audit.KindProposal, ID: r.ID, Digest: audit.DigestOf(r)}
}

func (r *proposalRow) proposal() (*approval.Proposal, error) {
	t, err := approval.ReadTerms(r.Payload)
	if err != nil {
		return nil, fmt.Errorf("proposal %d in the database: %w", r.ID, err)
	}
	var body proposalBody
	if err := json.Unmarshal([]byte(r.Body), &body); err != nil {
		return nil, fmt.Errorf("proposal %d in the database: %w", r.ID, err)
	}
	return &approval.Proposal{Terms: *t, Payload: r.Payload, State: approval.State(r.State), Approvals: body.Approvals, Why: body.Why, Leaf: r.Leaf}, nil
}

func rowOfProposal(p *approval.Proposal) *proposalRow {
	return &proposalRow{ID: p.ID, Kind: string(p.Kind), Subject: p.Subject, State: string(p.State), Payload: p.Payload,
		Body: mustJSON(proposalBody{p.Approvals, p.Why}), Leaf: p.Leaf}
}

// Proposals lists proposals, newest first, as they stand now.
func (s *Store) Proposals(ctx context.Context, f approval.Filter, p vetting.Page) ([]*approval.Proposal, error) {
	stored, until, from := f.State, int64(math.MaxInt64), int64(0)
	switch now := micros(s.now()); f.State {
	case approval.Expired:
		stored, until = approval.Pending, now
	case approval.Pending:
		from = now
	}
	return s.proposals(ctx, `($1 = '' OR pr.kind = $1) AND ($2 = '' OR pr.subject = $2) AND ($3 = '' OR pr.state = $3)
		AND pr.expires <= $4 AND pr.expires > $5 AND pr.id < $6 ORDER BY pr.id DESC LIMIT $7`,
		string(f.Kind), f.Subject, string(stored), until, from, newestFirst(p), limit(p))
}

func (s *Store) proposals(ctx context.Context, where string, args ...any) (list []*approval.Proposal, err error) {
	now := s.now()
	err = s.db.query(ctx, `SELECT `+proposalColumns+` FROM proposals pr WHERE `+where, args, func(r row) error {
		var row proposalRow
		if err := row.scan(r); err != nil {
			return err
		}
		p, err := row.proposal()
		if err != nil {
			return err
		}
		p.State = p.Standing(now)
		list = append(list, p)
		return nil
	})
	return list, err
}

// Proposal returns a proposal as it stands now, or a NotFound error.
func (s *Store) Proposal(ctx context.Context, id int64) (*approval.Proposal, error) {
	list, err := s.proposals(ctx, `pr.id = $1`, id)
	return theOne(list, err, "proposal", id)
}

// ApproveProposal is an operator's signed yes to a proposal. The last one that
// it wants carries it out in the same transaction. A signature that does not
// verify is Invalid; what approval.Proposal does not allow, an operator who may
// not approve it, or an act that is not possible any more is a Conflict.
func (s *Store) ApproveProposal(ctx context.Context, a access.Act, id int64, yes approval.Approval) (*approval.Proposal, error) {
	return s.actOnProposal(ctx, a, id, func(w *writing, p *approval.Proposal) error { return w.approve(a, p, yes) })
}

// RetractApproval takes the operator's own approval of a pending proposal
// back.
func (s *Store) RetractApproval(ctx context.Context, a access.Act, id int64, note string) (*approval.Proposal, error) {
	return s.actOnProposal(ctx, a, id, func(w *writing, p *approval.Proposal) error {
		if err := p.Retract(a.Operator, w.now); err != nil {
			return refusal(err)
		}
		w.saveProposal(p, "proposal.retract", operatorOf(a), note)
		return nil
	})
}

// WithdrawProposal takes a pending proposal back.
func (s *Store) WithdrawProposal(ctx context.Context, a access.Act, id int64, note string) (*approval.Proposal, error) {
	return s.actOnProposal(ctx, a, id, func(w *writing, p *approval.Proposal) error { return w.withdraw(a, p, note) })
}

func (w *writing) withdraw(a access.Act, p *approval.Proposal, note string) error {
	if err := p.Withdraw(a.Operator, note, w.now); err != nil {
		return refusal(err)
	}
	w.saveProposal(p, "proposal.withdraw", operatorOf(a), note)
	return nil
}

// actOnProposal carries out an act on a proposal, and reads that again.
func (s *Store) actOnProposal(ctx context.Context, a access.Act, id int64, do func(*writing, *approval.Proposal) error) (*approval.Proposal, error) {
	_, err := s.act(ctx, a, func(w *writing) (int64, error) {
		list, err := w.proposals(`pr.id = $1`, id)
		p, err := theOne(list, err, "proposal", id)
		if err != nil {
			return 0, err
		}
		return id, do(w, p)
	})
	if err != nil {
		return nil, err
	}
	return s.Proposal(ctx, id)
}

// refusal is how approval's errors are told.
func refusal(err error) error {
	var wrong *approval.SignatureError
	if errors.As(err, &wrong) {
		return vetting.Errorf(vetting.Invalid, "%v", err)
	}
	return vetting.Errorf(vetting.Conflict, "%v", err)
}

// proposed carries out an act that asks for approvals; the proposal is nil
// where it needed none and was done.
func (s *Store) proposed(ctx context.Context, a access.Act, do func(*writing) (*approval.Proposal, error)) (*approval.Proposal, error) {
	id, err := s.act(ctx, a, func(w *writing) (int64, error) {
		p, err := do(w)
		if err != nil || p == nil {
			return 0, err
		}
		return p.ID, nil
	})
	if err != nil || id == 0 {
		return nil, err
	}
	return s.Proposal(ctx, id)
}

// propose keeps a proposal of an act. Another one of its kind and subject that
// is pending is a Conflict.
func (w *writing) propose(a access.Act, act approval.Act) (*approval.Proposal, error) {
	pending, err := w.pendingProposals(act.Kind, act.Subject)
	if err != nil {
		return nil, err
	}
	if len(pending) > 0 {
		return nil, vetting.Errorf(vetting.Conflict, "%s, asked for by %s, waits for approvals already: withdraw it first", pending[0], pending[0].By)
	}
	p, err := approval.New(w.ids(1), act, a.Operator, w.now)
	if err != nil {
		return nil, vetting.Errorf(vetting.Invalid, "%v", err)
	}
	w.insertProposal(a, p)
	return p, nil
}

func (w *writing) insertProposal(a access.Act, p *approval.Proposal) {
	row := rowOfProposal(p)
	p.Leaf = w.leaf("proposal.create", operatorOf(a), p.LogNote(p.Payload), row.object())
	w.exec(`INSERT INTO proposals (id, kind, subject, state, expires, payload, body, leaf) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`,
		row.ID, row.Kind, row.Subject, row.State, micros(p.Expires), row.Payload, row.Body, p.Leaf)
}

// approve adds an operator's approval, and carries the act out if it was the
// last.
func (w *writing) approve(a access.Act, p *approval.Proposal, yes approval.Approval) error {
	if err := w.dropFallen(p); err != nil {
		return err
	}
	if err := w.checkApprover(a.Operator, p, yes.Certificates); err != nil {
		return err
	}
	yes.By, yes.At = a.Operator, w.now.UTC()
	complete, err := p.Approve(yes)
	if err != nil {
		return refusal(err)
	}
	if !complete {
		w.saveProposal(p, "proposal.approve", operatorOf(a), p.LogNote(p.Payload))
		return nil
	}
	carry := carriers[p.Kind]
	if carry == nil {
		return fmt.Errorf("nothing carries out proposals of the kind %q", p.Kind)
	}
	w.writeProposal(p) // so that what it changes does not find it pending
	changed, err := carry(w, p)
	if err != nil {
		return err
	}
	w.saveProposal(p, approval.ActCarryOut, operatorOf(a), p.LogNote(p.Payload), changed...)
	return nil
}

// carrier is whose approval carries a proposal out, as the log names them.
func carrier(p *approval.Proposal) string {
	return operatorOf(access.Act{Operator: p.Approvals[len(p.Approvals)-1].By})
}

// checkApprover refuses an operator who may not approve the proposal, or a
// certificate on another key than the operator's.
func (w *writing) checkApprover(name string, p *approval.Proposal, certificates [][]byte) error {
	list, err := w.operatorsNamed(name)
	if err != nil {
		return err
	}
	o := list[name]
	switch {
	case o == nil:
		return notFound("operator", name)
	case !o.MayApprove(p.Kind):
		return vetting.Errorf(vetting.Conflict, "operator %s has the role %s and may not approve %s", name, o.Role, p)
	case len(certificates) == 0:
		return vetting.Errorf(vetting.Invalid, "the approval has no certificate")
	}
	cert, err := x509.ParseCertificate(certificates[0])
	if err != nil || vetting.KeyFingerprint(cert.RawSubjectPublicKeyInfo) != o.Key {
		return vetting.Errorf(vetting.Invalid, "the approval is not by the key of operator %s, which has the fingerprint %s", name, o.Key)
	}
	return nil
}

// dropFallen drops the approvals of operators who may not approve any more.
func (w *writing) dropFallen(p *approval.Proposal) error {
	names := make([]string, len(p.Approvals))
	for i, a := range p.Approvals {
		names[i] = a.By
	}
	list, err := w.operatorsNamed(names...)
	if err != nil {
		return err
	}
	p.Approvals = slices.DeleteFunc(p.Approvals, func(a approval.Approval) bool {
		return list[a.By] == nil || !list[a.By].MayApprove(p.Kind)
	})
	return nil
}

// operatorsNamed reads what of operators decides what they may.
func (w *writing) operatorsNamed(names ...string) (map[string]*access.Operator, error) {
	list := map[string]*access.Operator{}
	for _, name := range names {
		w.fetch(`SELECT `+operatorColumns+` FROM operators op WHERE op.name = $1`, []any{name}, func(r row) error {
			var o operatorRow
			if err := r.Scan(o.dest()...); err != nil {
				return err
			}
			op, err := o.operator()
			if err != nil {
				return err
			}
			list[name] = op
			return nil
		})
	}
	return list, w.flush()
}

// retractAll drops what a revoked operator approved and was not carried out.
func (w *writing) retractAll(a access.Act, name string) error {
	list, err := w.proposals(`pr.state = $1 AND pr.expires > $2`, string(approval.Pending), micros(w.now))
	if err != nil {
		return err
	}
	for _, p := range list {
		if p.Retract(name, w.now) == nil {
			w.saveProposal(p, "proposal.retract", operatorOf(a), "operator "+name+" was revoked")
		}
	}
	return nil
}

// voidProposals ends what is pending of a kind and subject, because something
// that it rests on changed; why says what, as the end of a sentence.
func (w *writing) voidProposals(by string, kind approval.Kind, subject, why string) error {
	list, err := w.pendingProposals(kind, subject)
	if err != nil {
		return err
	}
	for _, p := range list {
		p.State, p.Why = approval.Void, why
		w.saveProposal(p, "proposal.void", by, why)
	}
	return nil
}

// pendingProposals are those of a kind and subject.
func (w *writing) pendingProposals(kind approval.Kind, subject string) ([]*approval.Proposal, error) {
	return w.proposals(`pr.kind = $1 AND pr.subject = $2 AND pr.state = $3 AND pr.expires > $4`, string(kind), subject, string(approval.Pending), micros(w.now))
}

func (w *writing) proposals(where string, args ...any) (list []*approval.Proposal, err error) {
	w.fetch(`SELECT `+proposalColumns+` FROM proposals pr WHERE `+where, args, func(r row) error {
		var row proposalRow
		if err := row.scan(r); err != nil {
			return err
		}
		p, err := row.proposal()
		list = append(list, p)
		return err
	})
	return list, w.flush()
}

// saveProposal writes a changed proposal with its leaf, which is about what
// else was changed, too.
func (w *writing) saveProposal(p *approval.Proposal, act, by, note string, changed ...audit.Object) {
	p.Leaf = w.leaf(act, by, note, append([]audit.Object{rowOfProposal(p).object()}, changed...)...)
	w.writeProposal(p)
}

func (w *writing) writeProposal(p *approval.Proposal) {
	row := rowOfProposal(p)
	w.exec(`UPDATE proposals SET state = $2, body = $3, leaf = $4 WHERE id = $1`, row.ID, row.State, row.Body, row.Leaf)
}
