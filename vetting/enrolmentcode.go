package vetting

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// EnrolmentCode is a one-time code for the first enrolment of one device, or
// of any device of an order. What was printed is not kept, only its hash.
type EnrolmentCode struct {
	ID int64 `json:"id"`
	// Batch is the ID of the first code that was made together with this one.
	Batch int64  `json:"batch"`
	Order string `json:"order"`
	Site  string `json:"site"`
	// DeviceID and Serial are those of the only device that may use the code;
	// 0 and "" if any device of the order may.
	DeviceID int64  `json:"device,omitempty"`
	Serial   string `json:"serial,omitempty"`
	// By is the operator who made it.
	By      string    `json:"by"`
	Created time.Time `json:"created"`
	Expires time.Time `json:"expires"`
	// Used is when a device was let in by it, UsedBy which one.
	Used    time.Time `json:"used,omitzero"`
	UsedBy  int64     `json:"usedBy,omitempty"`
	Revoked time.Time `json:"revoked,omitzero"`
	State   CodeState `json:"state"`

	OrderID int64 `json:"-"`
	SiteID  int64 `json:"-"`
}

// CodeState is where an enrolment code stands.
type CodeState string

const (
	CodeUnused  CodeState = "unused"
	CodeUsed    CodeState = "used"
	CodeExpired CodeState = "expired"
	CodeRevoked CodeState = "revoked"
)

// At is the code's state at a time.
func (c *EnrolmentCode) At(now time.Time) CodeState {
	switch {
	case !c.Used.IsZero():
		return CodeUsed
	case !c.Revoked.IsZero():
		return CodeRevoked
	case !now.Before(c.Expires):
		return CodeExpired
	}
	return CodeUnused
}

// Opens reports whether the code is meant for a record's device.
func (c *EnrolmentCode) Opens(r *Record) bool {
	return c.OrderID == r.OrderID && (c.DeviceID == 0 || c.DeviceID == r.ID)
}

// Bounds of the codes that are made at once.
const (
	MaxCodes        = 1000
	MaxCodeValidity = 2 * 365 * 24 * time.Hour
)

// NewCodes are codes to be made: one for each hash. They are for the devices,
// in the same order, or for any device of the order if no devices are named.
type NewCodes struct {
	Order   string
	Devices []int64
	Hashes  []CodeHash
	Expires time.Time
}

// Check reports the first thing wrong with what is to be made at a time.
func (n *NewCodes) Check(now time.Time) error {
	switch {
	case (n.Order == "") == (len(n.Devices) == 0):
		return errors.New("codes are for an order or for devices: name one of the two")
	case len(n.Devices) > 0 && len(n.Devices) != len(n.Hashes):
		return fmt.Errorf("%d codes for %d devices: want one for each", len(n.Hashes), len(n.Devices))
	case len(slices.Compact(slices.Sorted(slices.Values(n.Devices)))) != len(n.Devices):
		return errors.New("a device is named twice: it has one unused code at most")
	case len(n.Hashes) < 1 || len(n.Hashes) > MaxCodes:
		return fmt.Errorf("%d codes: between 1 and %d are made at once", len(n.Hashes), MaxCodes)
	case !n.Expires.After(now):
		return fmt.Errorf("the codes would have expired already, at %s", stamp(n.Expires))
	case n.Expires.After(now.Add(MaxCodeValidity)):
		return fmt.Errorf("the codes would expire at %s: a code is valid for at most %d days", stamp(n.Expires), MaxCodeValidity/(24*time.Hour))
	}
	return nil
}

// CodeFilter narrows a list of enrolment codes, which is newest first.
type CodeFilter struct {
	Site, Order string
	DeviceID    int64
	Batch       int64
	State       CodeState
}
