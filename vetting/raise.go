package vetting

import "time"

// RaiseState is where a wish to raise an order's quantity stands.
type RaiseState string

const (
	RaisePending   RaiseState = "pending"   // it waits for approvals
	RaiseApplied   RaiseState = "applied"   // the order has the new quantity
	RaiseWithdrawn RaiseState = "withdrawn" // somebody took it back
	RaiseExpired   RaiseState = "expired"   // the approvals did not come in time
	RaiseVoid      RaiseState = "void"      // the order was changed meanwhile
)

// MaxRaiseApprovals bounds how many approvals an order may want.
const MaxRaiseApprovals = 8

// Raise is a wish to raise an order's quantity that others must approve. It
// is a proposal (package internal/approval) as those see it who plan.
type Raise struct {
	ID    int64      `json:"id"` // of the proposal
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

// RaiseStatement is what those sign who approve a raise.
type RaiseStatement struct {
	Order    string `json:"order"`
	From     int64  `json:"from"` // the quantity
	To       int64  `json:"to"`
	Revision int64  `json:"revision"` // the order's
}
