// Package certorder is what is kept of ACME (RFC 8555 §7.1): accounts, and
// their orders for certificates, which are not the production orders of
// package vetting. Package enroll/acme speaks the protocol, internal/store
// keeps these.
package certorder

import (
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/touchmark/touchmark/vetting"
)

// Status is where an account, order, authorization or challenge stands (RFC
// 8555 §7.1.6).
type Status string

// The statuses.
const (
	Pending     Status = "pending"
	Ready       Status = "ready"
	Processing  Status = "processing"
	Valid       Status = "valid"
	Invalid     Status = "invalid"
	Expired     Status = "expired"
	Deactivated Status = "deactivated"
)

// ErrStale says that an account or order changed since it was read, so that
// nothing was written.
var ErrStale = errors.New("it was changed meanwhile")

// ErrAccountChanged says that the account by whose word an order was to be
// opened or changed is not what it was when it was read, so that nothing was
// written.
var ErrAccountChanged = errors.New("the account was changed meanwhile")

// Account is a client, known by its key (RFC 8555 §7.1.2).
type Account struct {
	ID int64
	// Key is the DER SubjectPublicKeyInfo of its key; no other account has
	// the same, not even one that was deactivated.
	Key     []byte
	Status  Status
	Contact []string
	// Agreed is when the client agreed to the terms of service; zero if never.
	Agreed time.Time
	// Binding is the account key (vetting.AccountKey) that it came with; 0 if
	// none.
	Binding int64
	// Scope is what that confines it to.
	Scope   Scope
	Created time.Time
	// Revision grows with every change.
	Revision int64
}

// Scope confines an account to the devices of a production order or of a
// site; both are empty where nothing does.
type Scope struct {
	Order   string
	Product string // of the order
	Site    string
}

// Identifier types.
const (
	PermanentIdentifier = "permanent-identifier" // draft-ietf-acme-device-attest §3
	HardwareModule      = "hardware-module"      // §4
	DNS                 = "dns"                  // RFC 8555 §9.7.7; a server
)

// Identifier is what a certificate is ordered for.
type Identifier struct {
	Type  string `json:"type"`
	Value string `json:"value"`
}

// Identity is what the records call the device: a permanent identifier is its
// serial number, a hardware module its chip's UID, and a server's name its
// serial number, too.
func (i Identifier) Identity() (vetting.Identity, error) {
	if i.Type == HardwareModule {
		return vetting.Identity{UID: i.Value}.Normalize()
	}
	return vetting.Identity{Serial: i.Value}.Normalize()
}

// Types of challenges.
const (
	DeviceAttest01 = "device-attest-01" // what devices meet (draft-ietf-acme-device-attest §5)
	HTTP01         = "http-01"          // what servers meet (RFC 8555 §8.3)
	DNS01          = "dns-01"           // §8.4
	TLSALPN01      = "tls-alpn-01"      // RFC 8737
)

// Challenges are the types by which an identifier can be proved. A wildcard is
// by what shows control of the zone (RFC 8555 §10.5).
func (i Identifier) Challenges() []string {
	switch {
	case i.Type != DNS:
		return []string{DeviceAttest01}
	case i.Wildcard():
		return []string{DNS01}
	}
	return []string{HTTP01, DNS01, TLSALPN01}
}

// Wildcard reports whether the identifier is all names directly below one.
func (i Identifier) Wildcard() bool { return i.Type == DNS && strings.HasPrefix(i.Value, "*.") }

// Order is an order for one certificate, with its authorization (RFC 8555
// §7.1.3): there is one identifier to an order, and an authorization serves
// no other.
type Order struct {
	ID         int64
	Account    int64
	Status     Status
	Identifier Identifier
	Created    time.Time
	Expires    time.Time
	// Authorization tells whether the identifier was proved.
	Authorization Authorization
	// Replaces is the serial number, in hex, of the certificate that this one
	// is to replace (RFC 9773 §5); "" if none was named.
	Replaces string
	// Request is the DER of the PKCS#10 that the order was finalized with.
	Request []byte
	// Again is when a request that is held is judged again.
	Again time.Time
	// Problem is why the order is invalid, or what it waits for.
	Problem *Problem
	// Certificate is the serial number, in hex, of what was issued.
	Certificate string
	// Revision grows with every change.
	Revision int64
}

// At is the order's status at a time: one that was not finalized in time is
// invalid.
func (o *Order) At(now time.Time) Status {
	if (o.Status == Pending || o.Status == Ready) && !now.Before(o.Expires) {
		return Invalid
	}
	return o.Status
}

// Authorization is the proof that the client may speak for an identifier.
type Authorization struct {
	Status     Status      `json:"status"`
	Challenges []Challenge `json:"challenges"`
	// Key is the fingerprint of the key that was attested, which alone is
	// certified, as keyutil.Fingerprint has it; "" before that.
	Key string `json:"key,omitempty"`
	// Matches are the products that trust the attestation's chain.
	Matches []vetting.VendorMatch `json:"matches,omitempty"`
}

// Challenge is one way to prove it.
type Challenge struct {
	Type      string    `json:"type"`
	Token     string    `json:"token"`
	Status    Status    `json:"status"`
	Validated time.Time `json:"validated,omitzero"`
	Problem   *Problem  `json:"problem,omitempty"`
	// Tries is how often it was looked whether a challenge that is processing
	// is met, Again when that is done next.
	Tries int       `json:"tries,omitempty"`
	Again time.Time `json:"again,omitzero"`
}

// Problem is an error of ACME (RFC 8555 §6.7) for a client and the person
// behind it.
type Problem struct {
	// Type is the error's name, without "urn:ietf:params:acme:error:".
	Type   string `json:"type"`
	Detail string `json:"detail"`
	Status int    `json:"status,omitempty"` // of HTTP
}

func (p *Problem) Error() string { return p.Detail }

// HTTPStatus is the status to answer with.
func (p *Problem) HTTPStatus() int {
	if p.Status == 0 {
		return http.StatusBadRequest
	}
	return p.Status
}
