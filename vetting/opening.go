package vetting

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"
)

// ProductApprovals say how many others must agree to what is planned of a
// product. Where that was said once, less cannot be said any more: otherwise
// one planner would lift the condition first.
type ProductApprovals struct {
	// Orders is how many others must approve that an order of more than
	// OrdersAbove units opens; 0 needs nobody.
	Orders      int   `json:"orders,omitempty"`
	OrdersAbove int64 `json:"ordersAbove,omitempty"`
	// Manifests is how many others must approve each manifest; 0 needs nobody.
	Manifests int `json:"manifests,omitempty"`
}

func (a ProductApprovals) check() error {
	for what, n := range map[string]int{"an order": a.Orders, "a manifest": a.Manifests} {
		if n < 0 || n > MaxRaiseApprovals {
			return fmt.Errorf("%d approvals of %s are wanted: between 0 and %d are allowed", n, what, MaxRaiseApprovals)
		}
	}
	if a.OrdersAbove < 0 || a.OrdersAbove > MaxQuantity {
		return fmt.Errorf("approvals are wanted of orders above %d units: want between 0 and %d", a.OrdersAbove, int64(MaxQuantity))
	}
	return nil
}

// Follows is an error if a wants less than what held before.
func (a ProductApprovals) Follows(before ProductApprovals) error {
	switch {
	case a.Orders < before.Orders:
		return fmt.Errorf("its orders want %d approvals, and that cannot be made %d: the number can only grow", before.Orders, a.Orders)
	case before.Orders > 0 && a.OrdersAbove > before.OrdersAbove:
		return fmt.Errorf("its orders above %d units want approvals, and that cannot be made %d: the number can only fall", before.OrdersAbove, a.OrdersAbove)
	case a.Manifests < before.Manifests:
		return fmt.Errorf("its manifests want %d approvals, and that cannot be made %d: the number can only grow", before.Manifests, a.Manifests)
	}
	return nil
}

// Opening is how many others must approve that an order of so many units
// opens.
func (a ProductApprovals) Opening(quantity int64) int {
	if quantity <= a.OrdersAbove {
		return 0
	}
	return a.Orders
}

// Unapproved is how many others must still agree to the order before it can
// open; 0 if they did, or nobody has to.
func (o *Order) Unapproved(a ProductApprovals) int {
	if o.Approved {
		return 0
	}
	return a.Opening(o.Quantity)
}

// SameTerms reports whether two orders agree in what others looked at when
// they approved one, but for the quantity.
func (o *Order) SameTerms(other *Order) bool {
	return o.NotBefore.Equal(other.NotBefore) && o.NotAfter.Equal(other.NotAfter) && o.Limits == other.Limits &&
		o.Rework == other.Rework && o.MaxReplacements == other.MaxReplacements
}

// OpenStatement is what those sign who approve that an order opens.
type OpenStatement struct {
	Order           string `json:"order"`
	Revision        int64  `json:"revision"` // the order's
	Product         string `json:"product"`
	ProductRevision int64  `json:"productRevision"`
	Site            string `json:"site"`
	Quantity        int64  `json:"quantity"`
	// Identifiers is how many ranges confine the units, and IdentifiersDigest
	// the SHA-256 of their JSON in hex; they stand here unless they are too long.
	Identifiers       int      `json:"identifiers"`
	IdentifiersDigest string   `json:"identifiersDigest,omitempty"`
	Serials           []string `json:"serials,omitempty"`
	MACs              []string `json:"macs,omitempty"`
	UIDs              []string `json:"uids,omitempty"`
	NotBefore         string   `json:"notBefore,omitempty"` // RFC 3339; absent leaves that side open
	NotAfter          string   `json:"notAfter,omitempty"`
	// The most units in a time; absent is without bound.
	PerHour     int64 `json:"perHour,omitempty"`
	PerDay      int64 `json:"perDay,omitempty"`
	RigPerHour  int64 `json:"rigPerHour,omitempty"`
	LinePerHour int64 `json:"linePerHour,omitempty"`

	Waste              WastePolicy `json:"waste,omitempty"`
	Rework             Rework      `json:"rework,omitempty"`
	MaxReplacements    int64       `json:"maxReplacements,omitempty"`
	ManifestSignatures int         `json:"manifestSignatures"`
	ManifestApprovals  int         `json:"manifestApprovals,omitempty"`
	RaiseApprovals     int         `json:"raiseApprovals,omitempty"`
}

// maxListed bounds the JSON of the identifiers that a statement lists, in
// bytes: longer ones would not fit what is signed.
const maxListed = 32 << 10

// Opening is the statement of the order as it is.
func (o *Order) Opening(productRevision int64) OpenStatement {
	st := OpenStatement{Order: o.Name, Revision: o.Revision, Product: o.Product, ProductRevision: productRevision, Site: o.Site, Quantity: o.Quantity,
		NotBefore: rfc3339(o.NotBefore), NotAfter: rfc3339(o.NotAfter), PerHour: o.Limits.PerHour, PerDay: o.Limits.PerDay, RigPerHour: o.Limits.RigPerHour, LinePerHour: o.Limits.LinePerHour,
		Waste: o.Waste, Rework: o.Rework, MaxReplacements: o.MaxReplacements, ManifestSignatures: o.ManifestSignatures, ManifestApprovals: o.ManifestApprovals, RaiseApprovals: o.RaiseApprovals}
	ids := o.Identifiers
	if st.Identifiers = len(ids.Serials) + len(ids.MACs) + len(ids.UIDs); st.Identifiers == 0 {
		return st
	}
	text, err := json.Marshal(ids)
	if err != nil {
		panic(fmt.Sprintf("vetting: marshal identifiers: %v", err)) // they are strings
	}
	sum := sha256.Sum256(text)
	st.IdentifiersDigest = hex.EncodeToString(sum[:])
	if len(text) <= maxListed {
		st.Serials, st.MACs, st.UIDs = ids.Serials, ids.MACs, ids.UIDs
	}
	return st
}

func rfc3339(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339Nano)
}
