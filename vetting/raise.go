package vetting

import (
	"fmt"
	"slices"
	"time"
)

// RaiseState is where a wish to raise an order's quantity stands.
type RaiseState string

const (
	RaisePending   RaiseState = "pending"   // it waits for approvals
	RaiseApplied   RaiseState = "applied"   // the order has the new quantity
	RaiseWithdrawn RaiseState = "withdrawn" // somebody took it back
	RaiseExpired   RaiseState = "expired"   // the approvals did not come in time
	RaiseVoid      RaiseState = "void"      // the order was changed meanwhile
)

// RaiseLife is how long a raise waits for its approvals.
const RaiseLife = 7 * 24 * time.Hour

// MaxRaiseApprovals bounds how many approvals an order may want.
const MaxRaiseApprovals = 8

// Raise is a wish to raise an order's quantity that others must approve:
// whoever asks does not, and nobody counts twice. It is about one revision of
// the order, so that what is approved is what was looked at.
type Raise struct {
	ID    int64      `json:"id"`
	Order string     `json:"order"`
	State RaiseState `json:"state"`
	From  int64      `json:"from"` // the quantity
	To    int64      `json:"to"`
	// Revision is the order's, on which the wish rests.
	Revision  int64      `json:"revision"`
	By        string     `json:"by"` // who asks
	Note      string     `json:"note"`
	At        time.Time  `json:"at"`
	Expires   time.Time  `json:"expires"`
	Wanted    int        `json:"wanted"` // approvals
	Approvals []Approval `json:"approvals"`
}

// Approval is one operator's yes.
type Approval struct {
	By string    `json:"by"`
	At time.Time `json:"at"`
}

// Standing is the raise's state at a time, with the order at a revision.
func (r *Raise) Standing(now time.Time, revision int64) RaiseState {
	switch {
	case r.State != RaisePending:
		return r.State
	case r.Revision != revision:
		return RaiseVoid
	case !now.Before(r.Expires):
		return RaiseExpired
	}
	return RaisePending
}

// Approve adds an operator's yes to a pending raise to a quantity, and
// reports whether it was the last that was wanted. Its errors are Conflicts.
func (r *Raise) Approve(by string, to int64, at time.Time) (complete bool, err error) {
	switch {
	case r.State != RaisePending:
		return false, r.over()
	case to != r.To:
		return false, Errorf(Conflict, "the raise of order %s is to %d units, not to %d: look at it again", r.Order, r.To, to)
	case by == r.By:
		return false, Errorf(Conflict, "you asked for the raise of order %s: somebody else has to approve it", r.Order)
	case slices.ContainsFunc(r.Approvals, func(a Approval) bool { return a.By == by }):
		return false, Errorf(Conflict, "you approved the raise of order %s already: it wants %d approvals by different operators", r.Order, r.Wanted)
	}
	r.Approvals = append(r.Approvals, Approval{by, at})
	if len(r.Approvals) < r.Wanted {
		return false, nil
	}
	r.State = RaiseApplied
	return true, nil
}

// Withdraw takes a pending raise back, or is a Conflict.
func (r *Raise) Withdraw() error {
	if r.State != RaisePending {
		return r.over()
	}
	r.State = RaiseWithdrawn
	return nil
}

func (r *Raise) over() error {
	why := map[RaiseState]string{
		RaiseApplied: "was carried out", RaiseWithdrawn: "was withdrawn",
		RaiseExpired: fmt.Sprintf("expired at %s: ask for it again", stamp(r.Expires)),
		RaiseVoid:    "is void, because the order was changed since: ask for it again",
	}
	return Errorf(Conflict, "the raise of order %s to %d units %s", r.Order, r.To, why[r.State])
}
