package vetting

import (
	"slices"
	"time"
)

// DeviceState is where a device is in its life.
type DeviceState string

const (
	DeviceManufactured DeviceState = "manufactured" // its record is known
	DeviceRegistered   DeviceState = "registered"   // it asked to be let in and is held
	DeviceIssued       DeviceState = "issued"       // it was given its official certificate
	DeviceActive       DeviceState = "active"       // it proved that it holds the official key
	DeviceSuspended    DeviceState = "suspended"    // out of service for a while
	DeviceRetired      DeviceState = "retired"      // out of service for good
	DeviceQuarantined  DeviceState = "quarantined"  // suspected counterfeit
	DeviceScrapped     DeviceState = "scrapped"     // destroyed; final
)

// DeviceStates lists every state in the order of a device's life.
var DeviceStates = []DeviceState{
	DeviceManufactured, DeviceRegistered, DeviceIssued, DeviceActive,
	DeviceSuspended, DeviceRetired, DeviceQuarantined, DeviceScrapped,
}

// deviceMoves are the changes of state that an operator may ask for. The
// others (registered, issued, active) only enrolment and activation make.
var deviceMoves = map[DeviceState][]DeviceState{
	DeviceManufactured: {DeviceQuarantined, DeviceScrapped},
	DeviceRegistered:   {DeviceQuarantined, DeviceScrapped},
	DeviceIssued:       {DeviceQuarantined, DeviceScrapped},
	DeviceActive:       {DeviceSuspended, DeviceRetired, DeviceQuarantined, DeviceScrapped},
	DeviceSuspended:    {DeviceActive, DeviceRetired, DeviceQuarantined, DeviceScrapped},
	DeviceRetired:      {DeviceQuarantined, DeviceScrapped},
	DeviceQuarantined:  {DeviceScrapped},
}

// MayBecome reports whether an operator may move a device from one state to
// another. A quarantined device may also return to the state it came from,
// which [Device.Before] names.
func (d *Device) MayBecome(s DeviceState) bool {
	if d.State == DeviceQuarantined && s != "" && s == d.Before {
		return true
	}
	return slices.Contains(deviceMoves[d.State], s)
}

// Readmitted reports whether a device that took a unit of its order starts
// anew, by an operator's word: it may enrol once more, and takes no other.
func (d *Device) Readmitted() bool {
	return (d.State == DeviceManufactured || d.State == DeviceRegistered) && !d.Issued.IsZero()
}

// MayBeReadmitted reports whether a device may be let start anew: in service,
// but without a certificate that it can use.
func (d *Device) MayBeReadmitted() bool { return d.State == DeviceIssued || d.State == DeviceActive }

// InService reports whether a device in this state may be given a
// certificate. The others have no way to one through any protocol.
func (s DeviceState) InService() bool {
	return s == DeviceManufactured || s == DeviceRegistered || s == DeviceIssued || s == DeviceActive
}

// Device is the unit itself. It shares its ID with the record it was built
// from.
type Device struct {
	ID      int64  `json:"id"`
	Product string `json:"product"`
	Order   string `json:"order,omitempty"`
	Site    string `json:"site,omitempty"`
	Identity
	State DeviceState `json:"state,omitempty"`
	// Before is the state a quarantined device came from.
	Before       DeviceState `json:"before,omitempty"`
	BootstrapKey Fingerprint `json:"bootstrapKey,omitzero"`
	// BoundKey is the bootstrap key that a device without one in its record
	// was first let in with.
	BoundKey Fingerprint `json:"boundKey,omitzero"`
	// Key is the fingerprint of the current certificate's key.
	Key Fingerprint `json:"key,omitzero"`
	// Certificate is the serial number of the current certificate, in hex.
	Certificate string    `json:"certificate,omitempty"`
	Contested   bool      `json:"contested,omitempty"`
	Issued      time.Time `json:"issued,omitzero"`
	Activated   time.Time `json:"activated,omitzero"`
	Updated     time.Time `json:"updated,omitzero"`
	// Test is what a rig found last; nil if none tested the device.
	Test *TestResult `json:"test,omitempty"`
	// ReplacedBy took this device's place, this one that of Replaces: IDs of
	// devices, 0 if none.
	ReplacedBy int64 `json:"replacedBy,omitempty"`
	Replaces   int64 `json:"replaces,omitempty"`
	// Owner is whom the device belongs to; "" is the manufacturer.
	Owner string `json:"owner,omitempty"`
	// Owned is since when it belongs to its owner; zero if it was never
	// transferred.
	Owned time.Time `json:"owned,omitzero"`
	// Transfer is the ID of the latest transfer that the device was part of.
	Transfer int64 `json:"transfer,omitempty"`

	// HandoverID is the ID of the certificate that the device had when it was
	// transferred last, with which it may come to its owner; 0 if none.
	HandoverID int64 `json:"-"`

	// Revision grows with every change; 0 means that nothing but the record
	// exists yet.
	Revision      int64 `json:"revision"`
	CertificateID int64 `json:"-"`
}

// CertificateState is the standing of one issued certificate.
type CertificateState string

const (
	CertificateValid      CertificateState = "valid"
	CertificateSuperseded CertificateState = "superseded" // a successor was issued
	CertificateRevoked    CertificateState = "revoked"
	CertificateOnHold     CertificateState = "on-hold" // its device is suspended or quarantined
)

// Certificate is an official certificate as the database keeps it.
type Certificate struct {
	ID       int64            `json:"-"`
	DeviceID int64            `json:"device"`
	Serial   string           `json:"serial"` // lower-case hex, as openssl prints it but for the case
	Key      Fingerprint      `json:"key,omitzero"`
	DER      []byte           `json:"der,omitempty"`
	State    CertificateState `json:"state"`
	NotAfter time.Time        `json:"notAfter"`
	Issued   time.Time        `json:"issued,omitzero"`
	// Used is when the certificate's key was first used; zero if never.
	Used time.Time `json:"used,omitzero"`
	// Held: status responders say on hold of it until it was first used.
	Held    bool      `json:"-"`
	Revoked time.Time `json:"revoked,omitzero"`
	// Reason is the CRLReason (RFC 5280 §5.3.1) of a revoked certificate.
	Reason int `json:"reason,omitempty"`
	// Leaf is the index of the audit log's leaf that records the issuance.
	Leaf int64 `json:"leaf,omitzero"`
}
