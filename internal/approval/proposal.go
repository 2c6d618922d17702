// Package approval is M of N: an act that others must agree to before it is
// carried out. It holds the rules and the forms of what is signed, and knows
// no database and no network.
//
// A [Proposal] is one exact act. Its [Terms] say all of it: the kind, the
// [Statement] with digests, parameters, counters and keys, who asks, how many
// approvals are wanted and until when. Their canonical JSON is the payload
// that each approval signs, by the operator's own key (see [Sign]), so that
// nobody approves anything but what was looked at. Whoever asks does not
// approve, and nobody counts twice. [Bundle] is what proves all that offline.
//
// To add a kind of act:
//
//   - name it as a [Kind] here, and in internal/access who may approve it;
//   - in internal/store, where the act is asked for, call
//     (*writing).propose with an [Act] whose Statement is a struct of
//     strings, integers and slices of them;
//   - add to internal/store.carriers what the last approval carries out, in
//     its own transaction: it reads the statement with [Terms.Read], checks
//     that all that the statement rests on is as it was, and writes;
//   - where something changes that pending proposals rest on, call
//     (*writing).voidProposals in that transaction.
package approval

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Kind is a kind of act that wants approvals.
type Kind string

const (
	OrderOpen         Kind = "order.open"      // an order admits devices
	OrderRaise        Kind = "order.raise"     // a larger quantity
	ManifestAccept    Kind = "manifest.accept" // its records are loaded
	ReleaseApprove    Kind = "release.approve"
	ReleaseYank       Kind = "release.yank"
	FirmwareCounter   Kind = "firmware.counter" // a product's floor is raised
	FirmwareKeyRevoke Kind = "firmware.key.revoke"
	CACreate          Kind = "ca.create"  // an issuing CA
	CADefault         Kind = "ca.default" // it issues in another's place
	CAClose           Kind = "ca.close"
	CAReopen          Kind = "ca.reopen"
	OperatorAdd       Kind = "operator.add" // one who may approve
)

// Kinds lists every kind.
var Kinds = []Kind{OrderOpen, OrderRaise, ManifestAccept, ReleaseApprove, ReleaseYank, FirmwareCounter, FirmwareKeyRevoke, CACreate, CADefault, CAClose, CAReopen, OperatorAdd}

// State is where a proposal stands.
type State string

const (
	Pending    State = "pending"     // it waits for approvals
	CarriedOut State = "carried-out" // the last approval did that
	Withdrawn  State = "withdrawn"   // somebody took it back
	Expired    State = "expired"     // the approvals did not come in time
	Void       State = "void"        // what it rests on was changed
)

// States lists every state.
var States = []State{Pending, CarriedOut, Withdrawn, Expired, Void}

const (
	// Life is how long a proposal waits for its approvals unless its kind says
	// otherwise.
	Life = 7 * 24 * time.Hour
	// MaxWanted bounds how many approvals can be wanted.
	MaxWanted = 8
)

// Act is what somebody asks for.
type Act struct {
	Kind Kind
	// Subject names for people what the act is about. Of a kind and subject
	// one proposal waits at a time.
	Subject string
	// Statement is the exact thing; see [Canonical] for what it may hold.
	Statement any
	Note      string        // why
	Wanted    int           // approvals, 1 to MaxWanted
	Life      time.Duration // 0 means Life
}

// Terms are all that an approval agrees to.
type Terms struct {
	ID        int64           `json:"id"`
	Kind      Kind            `json:"kind"`
	Subject   string          `json:"subject"`
	Statement json.RawMessage `json:"statement"`
	Digest    string          `json:"digest"` // SHA-256 of the statement's canonical JSON, hex
	By        string          `json:"by"`     // the operator who asks
	Note      string          `json:"note"`
	At        time.Time       `json:"at"`
	Expires   time.Time       `json:"expires"`
	Wanted    int             `json:"wanted"` // approvals by others
}

// Filter selects proposals; what is empty does not count.
type Filter struct {
	Kind    Kind
	Subject string
	State   State
}

// Proposal is an act and the approvals that it has.
type Proposal struct {
	Terms
	// Payload is the canonical JSON of the terms, which approvals sign.
	Payload   []byte     `json:"payload"`
	State     State      `json:"state"`
	Approvals []Approval `json:"approvals"`
	// Why is who ended a proposal without carrying it out, and why.
	Why string `json:"why,omitempty"`
	// Leaf is the index of the log's leaf about the newest change.
	Leaf int64 `json:"leaf"`
}

// Approval is one operator's yes.
type Approval struct {
	By string    `json:"by"`
	At time.Time `json:"at"`
	// Certificates are DER: the operator's first, then what leads to the root
	// without it.
	Certificates [][]byte `json:"certificates"`
	Signature    []byte   `json:"signature"`
}

// New makes a proposal of an act. An error says what the act's statement
// cannot hold, which is a defect of the program.
func New(id int64, a Act, by string, now time.Time) (*Proposal, error) {
	statement, err := Canonical(a.Statement)
	if err != nil {
		return nil, fmt.Errorf("the statement of %s: %w", a.Kind, err)
	}
	if a.Wanted < 1 || a.Wanted > MaxWanted {
		return nil, fmt.Errorf("%s wants %d approvals: 1 to %d can be wanted", a.Kind, a.Wanted, MaxWanted)
	}
	if a.Life == 0 {
		a.Life = Life
	}
	t := Terms{ID: id, Kind: a.Kind, Subject: a.Subject, Statement: statement, Digest: digestOf(statement), By: by, Note: a.Note,
		At: now.UTC(), Expires: now.Add(a.Life).UTC(), Wanted: a.Wanted}
	p := &Proposal{Terms: t, State: Pending, Approvals: []Approval{}}
	if p.Payload, err = Canonical(t); err != nil {
		return nil, err
	}
	if len(p.Payload) > MaxPayload {
		return nil, fmt.Errorf("%s of %s takes %d bytes: at most %d can be signed", a.Kind, a.Subject, len(p.Payload), MaxPayload)
	}
	return p, nil
}

// Read reads the statement into a struct. A field that the struct does not
// know is an error.
func (t *Terms) Read(into any) error {
	if err := strict(t.Statement, into); err != nil {
		return fmt.Errorf("the statement of proposal %d: %w", t.ID, err)
	}
	return nil
}

// ActCarryOut is the act of the log's leaf about the last approval.
const ActCarryOut = "proposal.carry-out"

// LogNote is the note of the log's leaves about a proposal with that payload.
// A proof of the leaf thus proves what was approved.
func (t *Terms) LogNote(payload []byte) string {
	return fmt.Sprintf("%s %s, sha256:%s", t.Kind, t.Subject, digestOf(payload))
}

// Standing is the proposal's state at a time.
func (p *Proposal) Standing(now time.Time) State {
	if p.State == Pending && !now.Before(p.Expires) {
		return Expired
	}
	return p.State
}

// Missing is how many approvals a pending proposal still wants.
func (p *Proposal) Missing() int {
	if p.State != Pending {
		return 0
	}
	return p.Wanted - len(p.Approvals)
}

// Approve adds an approval, whose signature it checks, to a pending proposal,
// and reports whether it was the last that was wanted: the caller then carries
// the act out, or drops the proposal as it is now. A signature that does not
// verify is a *SignatureError; the other errors say why the operator's yes
// does not count.
func (p *Proposal) Approve(a Approval) (complete bool, err error) {
	switch {
	case p.Standing(a.At) != Pending:
		return false, p.over(a.At)
	case a.By == p.By:
		return false, fmt.Errorf("you asked for %s yourself: somebody else has to approve it", p)
	case p.given(a.By) >= 0:
		return false, fmt.Errorf("you approved %s already: it wants %d approvals by different operators", p, p.Wanted)
	}
	if err := verify(p.Payload, a); err != nil {
		return false, err
	}
	p.Approvals = append(p.Approvals, a)
	if len(p.Approvals) < p.Wanted {
		return false, nil
	}
	p.State = CarriedOut
	return true, nil
}

func (p *Proposal) given(by string) int {
	return slices.IndexFunc(p.Approvals, func(a Approval) bool { return a.By == by })
}

// Retract takes an operator's approval of a pending proposal back.
func (p *Proposal) Retract(by string, now time.Time) error {
	if p.Standing(now) != Pending {
		return p.over(now)
	}
	i := p.given(by)
	if i < 0 {
		return fmt.Errorf("%s did not approve %s", by, p)
	}
	p.Approvals = slices.Delete(p.Approvals, i, i+1)
	return nil
}

// Withdraw takes a pending proposal back.
func (p *Proposal) Withdraw(by, why string, now time.Time) error {
	if p.Standing(now) != Pending {
		return p.over(now)
	}
	p.State, p.Why = Withdrawn, by+": "+why
	return nil
}

// over says what became of a proposal that is not pending.
func (p *Proposal) over(now time.Time) error {
	switch p.Standing(now) {
	case CarriedOut:
		return fmt.Errorf("%s was carried out", p)
	case Withdrawn:
		return fmt.Errorf("%s was withdrawn by %s", p, p.Why)
	case Expired:
		return fmt.Errorf("%s expired at %s: ask for it again", p, p.Expires.Format(time.RFC3339))
	case Void:
		return fmt.Errorf("%s is void, because %s: ask for it again", p, p.Why)
	}
	return errors.New("it is pending")
}

// String names the proposal in a sentence.
func (p *Proposal) String() string {
	return fmt.Sprintf("proposal %d (%s %s)", p.ID, p.Kind, p.Subject)
}
