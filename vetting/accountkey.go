package vetting

import (
	"errors"
	"fmt"
	"time"
)

// AccountKey lets one ACME account be opened (RFC 8555 §7.3.4, external
// account binding), which then speaks for the devices of one order, or of one
// site, and no others. The secret is shown once.
type AccountKey struct {
	ID int64 `json:"id"`
	// Order or Site is what the account is confined to; Site is also an
	// order's.
	Order string `json:"order,omitempty"`
	Site  string `json:"site"`
	Note  string `json:"note,omitempty"`
	// By is the operator who made it.
	By      string    `json:"by"`
	Created time.Time `json:"created"`
	Expires time.Time `json:"expires"`
	// Used is when an account was opened with it, Account which one.
	Used    time.Time `json:"used,omitzero"`
	Account int64     `json:"account,omitempty"`
	// Revoked is when an operator took it back, and with it its account.
	Revoked time.Time `json:"revoked,omitzero"`
	State   CodeState `json:"state"`

	OrderID int64  `json:"-"`
	SiteID  int64  `json:"-"`
	Product string `json:"-"` // the order's
}

// At is the key's state at a time. Once revoked it stays that, used or not.
func (k *AccountKey) At(now time.Time) CodeState {
	switch {
	case !k.Revoked.IsZero():
		return CodeRevoked
	case !k.Used.IsZero():
		return CodeUsed
	case !now.Before(k.Expires):
		return CodeExpired
	}
	return CodeUnused
}

// Check reports the first thing wrong with a key that is to be made.
func (k *AccountKey) Check(now time.Time) error {
	switch {
	case (k.Order == "") == (k.Site == ""):
		return errors.New("an account key is for an order or for a site: name one of the two")
	case len(k.Note) > maxDescription:
		return fmt.Errorf("the note is %d bytes long: at most %d are allowed", len(k.Note), maxDescription)
	case !k.Expires.After(now):
		return fmt.Errorf("the account key would have expired already, at %s", stamp(k.Expires))
	case k.Expires.After(now.Add(MaxCodeValidity)):
		return fmt.Errorf("the account key would expire at %s: it can be used for at most %d days", stamp(k.Expires), MaxCodeValidity/(24*time.Hour))
	}
	return nil
}

// AccountKeyFilter narrows a list of account keys, which is newest first.
type AccountKeyFilter struct{ Site, Order string }
