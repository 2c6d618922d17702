package vetting

import (
	"strings"
	"time"
)

// Outcome is the one-word result of vetting.
type Outcome string

const (
	Admitted Outcome = "admitted"
	Held     Outcome = "held" // a person must decide, or a condition must come true
	Refused  Outcome = "refused"
)

// Code is the machine-readable reason of a verdict.
type Code string

// Reasons to admit.
const (
	ReasonVetted      Code = "vetted"       // a first certificate; takes one unit of the quota
	ReasonRepeated    Code = "repeated"     // the same request again; the same certificate
	ReasonReplaced    Code = "replaced"     // a new key before activation; same unit
	ReasonRenewed     Code = "renewed"      // by the official certificate
	ReasonReadmitted  Code = "readmitted"   // once more from the start; same unit
	ReasonDecidedAdmt Code = "let-in"       // a person decided to admit
	ReasonDecidedRef  Code = "turned-away"  // a person decided to refuse
	ReasonContested   Code = "contested"    // another record claims the same identity
	ReasonOrderDraft  Code = "order-draft"  // the order is not open yet
	ReasonTooEarly    Code = "window-ahead" // the order's window has not begun
	ReasonNoRecord    Code = "no-record"    // its manifest may come late
	ReasonOrderPaused Code = "order-paused" // the planner paused it
	ReasonPace        Code = "pace"         // the order's limit for an hour or a day is reached
	ReasonRule        Code = "rule"         // a rule of the product is not met; it may also refuse
	ReasonAsleep      Code = "overslept"    // its certificate ran out long ago
	ReasonTwoRenewals Code = "two-renewals" // of one certificate, on two keys
)

// Reasons to refuse.
const (
	ReasonNoProof          Code = "not-authenticated"
	ReasonUnknownDevice    Code = "unknown-device"
	ReasonWrongKey         Code = "wrong-key"
	ReasonBound            Code = "bound-to-another-key" // another device claimed the identity first
	ReasonOffSite          Code = "off-site"             // not from the site's networks
	ReasonMismatch         Code = "identity-mismatch"
	ReasonDisputed         Code = "disputed"
	ReasonWrongSite        Code = "wrong-site"
	ReasonWrongOrder       Code = "wrong-order"
	ReasonWrongProduct     Code = "wrong-product"
	ReasonProof            Code = "proof-not-accepted"
	ReasonVendor           Code = "vendor-not-trusted" // for this product
	ReasonNotAttested      Code = "not-attested"       // by a TPM, as the product wants keys
	ReasonAttestation      Code = "false-attestation"  // what the TPM said is not so
	ReasonServerKey        Code = "server-key-not-allowed"
	ReasonNotInService     Code = "not-in-service"
	ReasonFailed           Code = "test-failed" // at a rig, and passed none since
	ReasonBootstrapSpent   Code = "bootstrap-key-spent"
	ReasonAlreadyActive    Code = "already-active"
	ReasonKeyInUse         Code = "key-in-use"
	ReasonOrderClosed      Code = "order-closed"
	ReasonOrderCancelled   Code = "order-cancelled"
	ReasonTooLate          Code = "window-over"
	ReasonQuota            Code = "quota-exhausted"
	ReasonCertificateEnded Code = "certificate-ended"
	ReasonSuperseded       Code = "certificate-superseded"
	ReasonWrongCode        Code = "wrong-code"   // there is no such enrolment code
	ReasonCodeSpent        Code = "code-spent"   // used already, with other keys
	ReasonCodeRevoked      Code = "code-revoked" // by an operator
	ReasonCodeExpired      Code = "code-expired"
	ReasonCodeForeign      Code = "code-foreign" // it is for another device or order
	ReasonUnnamed          Code = "unnamed"      // a code of an order, and no serial number
	ReasonTooSoon          Code = "renewal-too-early"
	ReasonSameKey          Code = "same-key-only" // an expired certificate renews on its own key
)

// Reason is one reason of a verdict: a code for programs, a sentence for the
// person on the line, and the values that decided.
type Reason struct {
	Code   Code              `json:"code"`
	Text   string            `json:"text"`
	Values map[string]string `json:"values,omitempty"`
}

// Verdict is the result of vetting one claim.
type Verdict struct {
	Outcome  Outcome
	Reasons  []Reason
	Evidence []Evidence
	// Quarantine takes the device out of service, because its key is seen to
	// have two holders.
	Quarantine bool
	// RetryAt is from when on the same request would be let in, if it comes
	// too early; zero if time alone changes nothing.
	RetryAt time.Time

	admission Admission
}

// Text joins the reasons' sentences.
func (v Verdict) Text() string { return joinReasons(v.Reasons) }

// Admission returns what an admitted verdict allows; ok is false for any
// other.
func (v Verdict) Admission() (a Admission, ok bool) { return v.admission, v.admission.granted }

func joinReasons(reasons []Reason) string {
	texts := make([]string, len(reasons))
	for i, r := range reasons {
		texts[i] = r.Text
	}
	return strings.Join(texts, " ")
}

// Admission is the permission to give one key one certificate. Only [Judge]
// makes one; the zero value permits nothing, and the CA refuses it. So the
// compiler sees to it that nothing is issued that was not admitted.
type Admission struct {
	granted bool
	kind    Code
	key     Fingerprint
	product *Product
	order   *Order
	record  *Record
	device  *Device
	code    *EnrolmentCode
	owner   *Owner
	repeat  *Certificate
}

// Granted reports whether this is a permission at all.
func (a Admission) Granted() bool { return a.granted }

// Key is the fingerprint of the only key that may be certified.
func (a Admission) Key() Fingerprint { return a.key }

// Product is the device's product, whose profile shapes the certificate.
func (a Admission) Product() *Product { return a.product }

// Order is the order that the unit belongs to.
func (a Admission) Order() *Order { return a.order }

// Record is the manufacturing record that names the device.
func (a Admission) Record() *Record { return a.record }

// Device is the device as it was when it was judged.
func (a Admission) Device() *Device { return a.device }

// Code is the enrolment code that the certificate uses up; nil if none.
func (a Admission) Code() *EnrolmentCode { return a.code }

// Owner is whom the device belongs to; nil is the manufacturer.
func (a Admission) Owner() *Owner { return a.owner }

// TakesUnit reports whether the certificate takes one unit of the quota:
// true for a device's first certificate only.
func (a Admission) TakesUnit() bool { return a.kind == ReasonVetted }

// Kind is ReasonVetted, ReasonRepeated, ReasonReplaced, ReasonRenewed or
// ReasonReadmitted.
func (a Admission) Kind() Code { return a.kind }

// Repeat is the certificate to answer again; nil if a new one is due.
func (a Admission) Repeat() *Certificate { return a.repeat }

// EvidenceKind is a sign of counterfeit or misuse.
type EvidenceKind string

const (
	EvidenceUnknownDevice   EvidenceKind = "unknown-device"
	EvidenceWrongKey        EvidenceKind = "wrong-key"
	EvidenceMismatch        EvidenceKind = "identity-mismatch"
	EvidenceDuplicateSerial EvidenceKind = "duplicate-serial"
	EvidenceDuplicateUID    EvidenceKind = "duplicate-uid"
	EvidenceDuplicateMAC    EvidenceKind = "duplicate-mac"
	EvidenceDuplicateKey    EvidenceKind = "duplicate-key"
	EvidenceDuplicateEK     EvidenceKind = "duplicate-ek" // two devices, one TPM
	EvidenceAttestation     EvidenceKind = "false-attestation"
	EvidenceOverQuota       EvidenceKind = "over-quota"
	EvidenceOutOfWindow     EvidenceKind = "out-of-window"
	EvidenceWrongSite       EvidenceKind = "wrong-site"
	EvidenceSpentKey        EvidenceKind = "spent-bootstrap-key"
	EvidenceSuperseded      EvidenceKind = "superseded-certificate"
	EvidenceWrongCode       EvidenceKind = "wrong-code"   // somebody guesses
	EvidenceMisusedCode     EvidenceKind = "misused-code" // a code that there is, used twice or for another device
)

// Registration is one request to be let in, with its verdict and reasons.
type Registration struct {
	ID       int64     `json:"id"`
	At       time.Time `json:"at"`
	Claim    Claim     `json:"claim"`
	DeviceID int64     `json:"device,omitempty"` // 0 if no record was found
	Product  string    `json:"product,omitempty"`
	Order    string    `json:"order,omitempty"`
	Site     string    `json:"site,omitempty"`
	Outcome  Outcome   `json:"verdict"`
	Reasons  []Reason  `json:"reasons"`
	// Certificate is the serial number of what was answered, in hex.
	Certificate string `json:"certificate,omitempty"`
	// Decision is what a person decided on a held registration.
	Decision *Decision `json:"decision,omitempty"`
	// Repeats counts how often the same request came again with the same
	// verdict, Last when it came last.
	Repeats int64     `json:"repeats"`
	Last    time.Time `json:"last"`
	Leaf    int64     `json:"leaf"`
}

// Text joins the reasons' sentences.
func (r *Registration) Text() string { return joinReasons(r.Reasons) }

// Decision is a person's word on a held registration.
type Decision struct {
	Admit bool      `json:"admit"`
	By    string    `json:"by"`
	At    time.Time `json:"at"`
	Note  string    `json:"note"`
}
