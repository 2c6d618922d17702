package vetting

import "time"

// Claim is what the wire proved, and nothing more.
type Claim struct {
	At time.Time `json:"at"`
	// Key is the key to be certified; the request was signed with it. It is
	// zero while the server has yet to make the key.
	Key Fingerprint `json:"key"`
	// ServerKey says that the server is to make the key, and how it would
	// travel: "encrypted", "plain"; "" if the device brought its own.
	ServerKey ServerKeys `json:"serverKey,omitempty"`
	// Auth is who made the request.
	Auth Auth `json:"auth"`
	// Asserted is the identity that the requester states: the names in a
	// bootstrap certificate, or what a rig sends along. It is a lookup key
	// and evidence, never a fact.
	Asserted Identity `json:"asserted,omitzero"`
	// Vendors are all that trust the chain that was presented, each for its
	// product; [Claim.Vouch] picks one.
	Vendors []VendorMatch `json:"-"`
	// TPM is what the TPM said that made the key; nil without one.
	TPM *TPM `json:"tpm,omitempty"`
	// Label is the product that the request was addressed to; "" if none.
	Label string `json:"label,omitempty"`
	// Subject is the DER of the request's subject name; with Key it
	// recognizes a repeated request (RFC 7030 §4.2.3).
	Subject []byte `json:"-"`
	// Message is the SHA-256 of the signed message that the claim came in,
	// where nothing but its commit keeps a message from counting twice; zero
	// elsewhere.
	Message   [32]byte `json:"-"`
	Transport string   `json:"transport"` // "est", "mqtt", "acme", "api"
	Remote    string   `json:"remote"`    // the peer's address
}

// Auth is how a request was authenticated.
type Auth struct {
	Proof Proof `json:"proof"`
	// Key is the fingerprint of the key that authenticated the request; zero
	// if a code alone did.
	Key Fingerprint `json:"key,omitzero"`
	// CodeHash is what is kept of the enrolment code that was presented, and
	// Code the ID of the code that it is; zero if none, or none that there is.
	CodeHash CodeHash `json:"-"`
	Code     int64    `json:"code,omitempty"`
	// Certificate is the serial number, in hex, of the official certificate.
	Certificate string `json:"certificate,omitempty"`
	// Vendor is whose certificate it was that proved the device, as the
	// record's product names it.
	Vendor string `json:"vendor,omitempty"`
	// Operator and Site name the rig.
	Operator string `json:"operator,omitempty"`
	Site     string `json:"site,omitempty"`
	// Account is the ID of the ACME account, and Order, or Site, what it is
	// confined to, if anything.
	Account int64  `json:"account,omitempty"`
	Order   string `json:"order,omitempty"`
}

// Facts is everything that [Judge] may look at. Whoever gathers it leaves a
// pointer nil where nothing was found.
type Facts struct {
	Now   time.Time
	Claim Claim

	// Record is the record that the claim is about: by the bootstrap key, by
	// the asserted identity if a rig vouches, or that of the device whose
	// official certificate was presented. Product, Order and Device belong
	// to it; a device that never registered has state manufactured and
	// revision 0. Without a record Product is the one that the claim's label
	// names, if it awaits records.
	Record  *Record
	Product *Product
	Order   *Order
	Device  *Device

	// Owner is whom the device belongs to; nil is the manufacturer.
	Owner *Owner

	// OnSite tells whether the claim came from the networks of the record's
	// site, where that matters: for a claim by identifiers, or to a rule.
	OnSite bool

	// Code is the enrolment code that was presented.
	Code *EnrolmentCode

	// Current is the device's current certificate.
	Current *Certificate
	// Presented is the official certificate that authenticated a renewal.
	Presented *Certificate
	// Unused says that no certificate issued after Presented was ever used.
	Unused bool
	// Hint is when Presented should be renewed, if an operator said so.
	Hint *Window

	// Named are records found by the asserted identity alone, when Record is
	// nil: they bear the name, but not the key.
	Named []*Record
	// Dispute is the disputed record that holds the claim's authenticating
	// key or asserted identity, when Record is nil.
	Dispute *Dispute

	// EKHolder is the ID of the device that enrolled with the claim's
	// endorsement key, 0 if none did; DeviceEK the endorsement key that the
	// device enrolled with, zero if it did with none.
	EKHolder int64
	DeviceEK Fingerprint

	// KeyHolder is the ID of another device, or of another device's record,
	// that already holds Claim.Key; 0 if none.
	KeyHolder int64
	// KeyCompromised says that a certificate of this device on Claim.Key was
	// revoked as compromised.
	KeyCompromised bool

	// Rules are the product's, compiled; nil if it has none. Counters are
	// what they may count.
	Rules    RuleSet
	Counters Counters

	// Pending is the earlier registration of this same request that is still
	// held, with the decision if a person made one.
	Pending *Registration
}

// Dispute is a manifest line that could not become a record, because
// another record holds one of its identifiers or its key.
type Dispute struct {
	ID       int64  `json:"id"`
	RecordID int64  `json:"record"` // the record that holds it already
	Record   Record `json:"claimed"`
	// Kinds are the duplicates, e.g. duplicate-serial.
	Kinds []EvidenceKind `json:"kinds"`
}
