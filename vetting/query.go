package vetting

import "time"

// Page asks for a part of a list: at most Limit entries whose ID is greater
// than After (for newest-first lists: smaller, unless After is 0).
type Page struct {
	After int64
	Limit int
}

// OrderFilter narrows a list of orders; empty fields do not.
type OrderFilter struct {
	Site, Product string
	State         OrderState
}

// ManifestFilter narrows a list of manifests.
type ManifestFilter struct{ Site, Order string }

// DeviceFilter narrows a list of devices. Serial, MAC and UID match exactly,
// after normalization.
type DeviceFilter struct {
	Site, Order, Product string
	State                DeviceState
	// Owner is an owner's name, or Manufacturer.
	Owner string
	Identity
}

// RegistrationFilter narrows a list of registrations, which is newest first.
type RegistrationFilter struct {
	Site, Order string
	Outcome     Outcome
	DeviceID    int64
	// Undecided keeps only held registrations that wait for a person.
	Undecided bool
}

// EvidenceFilter narrows a list of evidence, which is newest first.
type EvidenceFilter struct {
	Site     string
	Kind     EvidenceKind
	DeviceID int64
	// Open keeps only what no person has cleared.
	Open bool
	// Owner keeps what speaks against devices that are this owner's now.
	Owner string
}

// OrderChange is what a planner may change of an order; nil fields stay.
type OrderChange struct {
	State     *OrderState
	Quantity  *int64
	NotBefore *time.Time // the zero time opens that side
	NotAfter  *time.Time
	Limits    *Limits
	Rework    *Rework
	// MaxReplacements 0 is the default.
	MaxReplacements *int64
	// RaiseApprovals and ManifestApprovals can only grow.
	RaiseApprovals    *int
	ManifestApprovals *int
}

// History is everything that is kept about one device.
type History struct {
	Device        Device          `json:"device"`
	Record        Record          `json:"record"`
	Certificates  []*Certificate  `json:"certificates"`
	Registrations []*Registration `json:"registrations"`
	Tests         []*TestResult   `json:"tests"`
	Evidence      []*Evidence     `json:"evidence"`
	Challenges    []*Challenge    `json:"challenges"` // that were answered
	Sightings     []Sighting      `json:"sightings"`  // by brokers, the latest last
	Disputes      []*Dispute      `json:"disputes"`
}

// Past is a registration of long ago with what it was about, as records,
// orders and the networks of sites are now, and the device's latest test as
// it was then.
type Past struct {
	Registration *Registration
	Record       *Record
	Order        *Order
	OnSite       bool
	Test         *TestResult // nil if no rig had tested the device
}

// Tally counts what a server holds, for dashboards.
type Tally struct {
	Devices       map[DeviceState]int64
	Registrations map[Outcome]int64
	Evidence      map[EvidenceKind]int64
	OpenOrders    int64
	Jobs          map[JobState]int64
	Offers        int64 // transfers that are offered and not yet expired
}
