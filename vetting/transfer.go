package vetting

import (
	"fmt"
	"time"
)

// Transfer hands devices from one owner to another: offered by the one,
// accepted by the other within a time.
type Transfer struct {
	ID    int64         `json:"id"`
	State TransferState `json:"state"`
	// From and To are owners, or the Manufacturer.
	From    string         `json:"from"`
	To      string         `json:"to"`
	Devices int            `json:"devices"` // how many
	Expires time.Time      `json:"expires,omitzero"`
	Steps   []TransferStep `json:"steps"`
}

// TransferState is where a transfer stands.
type TransferState string

const (
	TransferOffered   TransferState = "offered"
	TransferExpired   TransferState = "expired" // offered, and its time is over
	TransferAccepted  TransferState = "accepted"
	TransferWithdrawn TransferState = "withdrawn"  // by the one who offered
	TransferDeclined  TransferState = "declined"   // by the one to whom it was offered
	TransferHandedOut TransferState = "handed-out" // to an owner elsewhere, with a voucher
	TransferReversed  TransferState = "reversed"   // by an administrator, after it was accepted
)

// TransferStates lists every state.
var TransferStates = []TransferState{TransferOffered, TransferExpired, TransferAccepted, TransferWithdrawn, TransferDeclined, TransferHandedOut, TransferReversed}

// TransferStep is one thing that was done about a transfer.
type TransferStep struct {
	State TransferState `json:"state"` // what it became
	By    string        `json:"by"`    // the operator
	// Owner is whom the operator belongs to; "" is the manufacturer.
	Owner string    `json:"owner,omitempty"`
	At    time.Time `json:"at"`
	Note  string    `json:"note,omitempty"`
}

// Offer is a transfer to be.
type Offer struct {
	From, To string
	// Serials name the devices, all of them From's. Product tells apart those
	// of several products that bear the same; "" where that is not needed.
	Serials []string
	Product string
	// Time is how long the offer stands; 0 is DefaultOfferTime.
	Time time.Duration
	Note string
}

// TransferFilter narrows a list of transfers. Parties keeps those of which
// each named one is the present or the next owner.
type TransferFilter struct {
	Parties []string
	State   TransferState
}

// Bounds of an offer.
const (
	MaxTransferred   = 10_000
	DefaultOfferTime = 14 * 24 * time.Hour
	maxOfferTime     = 366 * 24 * time.Hour
)

// Check reports the first thing wrong with the offer, and fills in what was
// left out.
func (o *Offer) Check() error {
	if o.Time == 0 {
		o.Time = DefaultOfferTime
	}
	switch {
	case o.To == Elsewhere || o.From == Elsewhere:
		return fmt.Errorf("nothing is offered to or by owners elsewhere: a device goes there with a voucher, and comes back when its transfer is reversed")
	case o.From == o.To:
		return fmt.Errorf("%s cannot transfer devices to itself", o.From)
	case len(o.Serials) == 0:
		return fmt.Errorf("no device is named")
	case len(o.Serials) > MaxTransferred:
		return fmt.Errorf("%d devices are named: at most %d go into one transfer", len(o.Serials), MaxTransferred)
	case o.Time < time.Hour || o.Time > maxOfferTime:
		return fmt.Errorf("the offer would stand for %s: it may for 1h to %dd", o.Time, maxOfferTime/(24*time.Hour))
	case len(o.Note) > maxDescription:
		return fmt.Errorf("the note is %d bytes long: at most %d are allowed", len(o.Note), maxDescription)
	}
	seen := make(map[string]bool, len(o.Serials))
	for _, s := range o.Serials {
		if seen[s] {
			return fmt.Errorf("device %s is named twice", s)
		}
		seen[s] = true
	}
	return nil
}

// HandedOver reports whether the presented certificate ended when its device
// was transferred, and the one that was current then is remembered. The two
// are as in any renewal, but that the current one, too, is good for coming to
// the new owner only.
func (f *Facts) HandedOver() bool {
	p := f.Presented
	return p != nil && f.Device != nil && p.State == CertificateRevoked && p.Reason == affiliationChanged && p.ID <= f.Device.HandoverID
}

// affiliationChanged is a CRLReason (RFC 5280 §5.3.1).
const affiliationChanged = 3

// handedOver judges a request made with a certificate that ended with a
// transfer: the one that was current then, or the one before it by a device
// whose answer was lost. Once the device has another, all is as in any
// renewal.
func (j *judgement) handedOver() Verdict {
	current := j.Presented
	switch {
	case !j.Device.Readmitted():
		return j.superseded()
	case current.ID == j.Device.HandoverID:
	case j.lost():
		current = j.Current
	case !j.Unused:
		return j.cloned()
	default:
		return j.superseded()
	}
	if v, done := j.key(); done {
		return v
	}
	if !j.Now.Before(current.NotAfter) {
		return j.overslept(current, ReasonReadmitted)
	}
	return j.admit(ReasonReadmitted, "The device was transferred and comes to its new owner with the certificate that it had before.")
}
