package api

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/internal/approval"
	"github.com/touchmark/touchmark/internal/audit"
	"github.com/touchmark/touchmark/vetting"
)

// Proposal is an act that wants, or wanted, the approval of others.
type Proposal struct {
	ID        int64              `json:"id" doc:"The proposal's number"`
	Kind      approval.Kind      `json:"kind" doc:"What is asked for"`
	Subject   string             `json:"subject" doc:"What it is about"`
	Statement json.RawMessage    `json:"statement" doc:"The exact act"`
	Digest    string             `json:"digest" doc:"The SHA-256 of the statement's canonical JSON (RFC 8785), in hexadecimal"`
	State     approval.State     `json:"state" doc:"Where it stands; void means that what it rests on was changed"`
	By        string             `json:"by" doc:"Who asks"`
	Note      string             `json:"note" doc:"Why"`
	At        time.Time          `json:"at" doc:"When it was asked for"`
	Expires   time.Time          `json:"expires" doc:"When it expires"`
	Wanted    int                `json:"wanted" doc:"How many approvals it wants, by others"`
	Approvals []vetting.Approval `json:"approvals" nullable:"false" doc:"Those it has"`
	Why       string             `json:"why,omitempty" doc:"Why it was withdrawn or became void"`
	Payload   []byte             `json:"payload" doc:"What approvals sign: the canonical JSON of all this but state, approvals and why, in base64"`
	Leaf      int64              `json:"leaf"`
}

func proposalOf(p *approval.Proposal) *Proposal {
	out := &Proposal{ID: p.ID, Kind: p.Kind, Subject: p.Subject, Statement: p.Statement, Digest: p.Digest, State: p.State, By: p.By, Note: p.Note,
		At: p.At, Expires: p.Expires, Wanted: p.Wanted, Approvals: []vetting.Approval{}, Why: p.Why, Payload: p.Payload, Leaf: p.Leaf}
	for _, a := range p.Approvals {
		out.Approvals = append(out.Approvals, vetting.Approval{By: a.By, At: a.At})
	}
	return out
}

// ApprovalInput is an operator's signature.
type ApprovalInput struct {
	Signature []byte `json:"signature" minLength:"1" maxLength:"2048" doc:"The signature in base64: over the DSSE pre-authentication encoding of the proposal's payload with the type application/vnd.touchmark.proposal+json, by the key of your client certificate. ECDSA in ASN.1 with the hash of the curve's size, Ed25519, or RSA PKCS #1 v1.5 with SHA-256"`
}

// proposalInput names a proposal.
type proposalInput struct {
	ID int64 `path:"id" minimum:"1" doc:"The proposal's number"`
}

type proposalBody[T any] struct {
	ID   int64 `path:"id" minimum:"1" doc:"The proposal's number"`
	Body T
}

func (a *API) proposals() {
	type list struct {
		PageInput
		Kind    approval.Kind  `query:"kind" maxLength:"63" doc:"Only proposals of this kind"`
		Subject string         `query:"subject" maxLength:"256" doc:"Only proposals about this"`
		State   approval.State `query:"state" enum:"pending,carried-out,withdrawn,expired,void" doc:"Only proposals that stand so"`
	}
	register(a, access.ReadProposals, operation{
		id: "listProposals", method: http.MethodGet, path: "/proposals", tag: tagApprovals,
		summary: "List proposals, newest first", errors: []int{400},
	}, func(ctx context.Context, c *call, in *list) (*listOutput[Proposal], error) {
		return listing(in.PageInput, "proposals", func(p *Proposal) int64 { return p.ID }, func(p vetting.Page) (list []*Proposal, err error) {
			found, err := c.Proposals(ctx, approval.Filter{Kind: in.Kind, Subject: in.Subject, State: in.State}, p)
			for _, p := range found {
				list = append(list, proposalOf(p))
			}
			return list, err
		})
	})
	register(a, access.ReadProposals, operation{
		id: "getProposal", method: http.MethodGet, path: "/proposals/{id}", tag: tagApprovals, summary: "Show a proposal",
	}, func(ctx context.Context, c *call, in *proposalInput) (*bodyOutput[Proposal], error) {
		return answerProposal(c.Proposal(ctx, in.ID))
	})
	register(a, access.ReadProposals, operation{
		id: "getProposalBundle", method: http.MethodGet, path: "/proposals/{id}/bundle", tag: tagApprovals,
		summary:     "Export a proposal with its approvals",
		description: "A DSSE envelope with all signatures, the certificates of who signed, and, once a checkpoint covers it, the proof that the log shows the last approval. `touchmark approval verify` checks it offline with nothing but the root certificate.",
	}, func(ctx context.Context, c *call, in *proposalInput) (*bodyOutput[approval.Bundle], error) {
		p, err := c.Proposal(ctx, in.ID)
		if err != nil {
			return nil, err
		}
		return answer(a.bundle(ctx, p))
	})
	register(a, access.Approve, operation{
		id: "approveProposal", method: http.MethodPost, path: "/proposals/{id}/approvals", tag: tagApprovals,
		summary:     "Approve a proposal",
		description: "Read the payload, and sign that very payload. Whoever asked cannot approve, and nobody counts twice. The last approval carries the act out.",
	}, func(ctx context.Context, c *call, in *proposalBody[ApprovalInput]) (*bodyOutput[Proposal], error) {
		if _, err := mayApprove(ctx, c, in.ID); err != nil {
			return nil, err
		}
		p, err := c.ApproveProposal(ctx, c.act, in.ID, a.signed(c, in.Body.Signature))
		if err == nil && p.State == approval.CarriedOut {
			err = a.follow(ctx, p)
		}
		return answerProposal(p, err)
	})
	register(a, access.Approve, operation{
		id: "retractApproval", method: http.MethodPost, path: "/proposals/{id}/approvals/retract", tag: tagApprovals,
		summary: "Take your own approval back while the proposal waits",
	}, func(ctx context.Context, c *call, in *proposalBody[ReasonInput]) (*bodyOutput[Proposal], error) {
		return answerProposal(c.RetractApproval(ctx, c.act, in.ID, in.Body.Note))
	})
	register(a, access.Approve, operation{
		id: "withdrawProposal", method: http.MethodPost, path: "/proposals/{id}/withdraw", tag: tagApprovals,
		summary:     "Withdraw a proposal that waits",
		description: "By whoever asked for it, or by anybody who could approve it.",
	}, func(ctx context.Context, c *call, in *proposalBody[ReasonInput]) (*bodyOutput[Proposal], error) {
		if p, err := mayApprove(ctx, c, in.ID); err != nil && (p == nil || p.By != c.Operator().Name) {
			return nil, err
		}
		return answerProposal(c.WithdrawProposal(ctx, c.act, in.ID, in.Body.Note))
	})
}

// follow has this server act on what was carried out; the others follow within
// their times. It is the same however often it is done.
func (a *API) follow(ctx context.Context, p *approval.Proposal) error {
	switch p.Kind {
	case approval.ManifestAccept:
		return a.config.Manifests.Resume(ctx)
	case approval.CACreate, approval.CADefault, approval.CAClose, approval.CAReopen:
		return a.config.IssuingCAs.Refresh(ctx)
	}
	return nil
}

func answerProposal(p *approval.Proposal, err error) (*bodyOutput[Proposal], error) {
	if err != nil {
		return nil, err
	}
	return answer(proposalOf(p), nil)
}

// mayApprove finds a proposal, and is a 403 if the operator's role does not
// approve its kind.
func mayApprove(ctx context.Context, c *call, id int64) (*approval.Proposal, error) {
	p, err := c.Proposal(ctx, id)
	if err != nil {
		return nil, err
	}
	if op := c.Operator(); !op.MayApprove(p.Kind) {
		return p, problem(http.StatusForbidden, "operator %s has the role %s, which does not approve proposals of the kind %s", op.Name, op.Role, p.Kind)
	}
	return p, nil
}

// signed is an approval by the key of the client's certificate.
func (a *API) signed(c *call, signature []byte) approval.Approval {
	cert := c.r.TLS.PeerCertificates[0]
	return approval.Approval{Certificates: append([][]byte{cert.Raw}, a.config.Authorities.OperatorChain(cert)...), Signature: signature}
}

// bundle exports a proposal, with the log's proof if there is one by now.
func (a *API) bundle(ctx context.Context, p *approval.Proposal) (*approval.Bundle, error) {
	b, err := p.Bundle()
	if err != nil || p.State != approval.CarriedOut {
		return b, err
	}
	proof, err := a.config.Prover.Prove(ctx, p.Leaf)
	switch {
	case errors.Is(err, audit.ErrNotPublished):
		return b, nil
	case err != nil:
		return nil, err
	}
	b.Proof, err = json.Marshal(proof)
	return b, err
}
