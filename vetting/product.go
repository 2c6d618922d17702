package vetting

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Proof is how a requester proved that it may speak for a device.
type Proof string

const (
	// ProofNone: nothing was presented.
	ProofNone Proof = ""
	// ProofBootstrapKey: TLS (or a signed message) by the key whose
	// fingerprint the device's record holds.
	ProofBootstrapKey Proof = "bootstrap-key"
	// ProofIdentifiers: nothing but the serial number and the MAC address or
	// UID of a record that lists no key, named by a device at its site. The
	// first to be let in binds its bootstrap key to the record.
	ProofIdentifiers Proof = "identifiers"
	// ProofCode: a one-time enrolment code, made for the device or its order.
	// A bootstrap key that comes along is bound to the record.
	ProofCode Proof = "code"
	// ProofRig: a QA rig, authenticated as a registration authority
	// (RFC 7030 §3.7), vouches for the device in front of it.
	ProofRig Proof = "rig"
	// ProofVendor: the certificate that the chip's or module's vendor put into
	// it, and a chain from it to one of the product's trust anchors. The device
	// is the one whose record lists the certificate's key, or lists no key and
	// bears the name that the certificate states.
	ProofVendor Proof = "vendor-certificate"
	// ProofTPM: a TPM, known by its endorsement key, in which the key to be
	// certified was made. The device is the one whose record lists the
	// endorsement key, or lists none and bears the serial number that is
	// asserted.
	ProofTPM Proof = "tpm"
	// ProofAttestation: a statement by hardware that a vendor vouches for, that
	// the key to be certified lives in the device that it names (ACME's
	// device-attest-01). The device is the one whose record bears the name.
	ProofAttestation Proof = "attestation"
	// ProofDomain: control of a DNS name by ACME's challenges for those (http-01,
	// dns-01, tls-alpn-01). The device is a server, whose serial number is the
	// name; the first proof of a name makes its record, if the account is for an
	// order and the order's product has such names.
	ProofDomain Proof = "domain-control"
	// ProofOfficial: the device's official certificate; only for renewal. Over
	// ACME it is the account that was given it, and the proof that it brought
	// then, brought again.
	ProofOfficial Proof = "official-certificate"
)

// FirstProofs are those on which a first enrolment may rest.
var FirstProofs = []Proof{ProofBootstrapKey, ProofIdentifiers, ProofCode, ProofRig, ProofVendor, ProofTPM, ProofAttestation, ProofDomain}

func joinProofs() string {
	names := make([]string, len(FirstProofs))
	for i, p := range FirstProofs {
		names[i] = string(p)
	}
	return strings.Join(names, ", ")
}

// Product is a device type: what its certificates look like and which proofs
// it accepts.
type Product struct {
	ID          int64   `json:"-"`
	Name        string  `json:"name"`
	Description string  `json:"description,omitempty"`
	Profile     Profile `json:"profile"`
	Proofs      []Proof `json:"proofs"`
	// AwaitRecords is how long a device that is in no record is held, because
	// its manifest may come late, as a Go duration ("72h"); "" refuses it at
	// once. It works for requests that name the product only.
	AwaitRecords string `json:"awaitRecords,omitempty"`
	// Rules are what first enrolments must meet beyond record and order.
	Rules []Rule `json:"rules,omitempty"`
	// RulesVersion grows with every change of the rules; 0 before the first,
	// and for rules from before versions were kept.
	RulesVersion int64 `json:"rulesVersion,omitempty"`
	// ServerKeys says whether the server makes private keys for devices.
	ServerKeys ServerKeys `json:"serverKeys,omitempty"`
	// SiteCodes lets the operators of a site make enrolment codes for its
	// orders.
	SiteCodes bool `json:"siteCodes,omitempty"`
	// Vendors are those whose certificates prove devices (ProofVendor), or
	// attest their keys (ProofAttestation).
	Vendors []Vendor `json:"vendors,omitempty"`
	// TPM is how TPMs prove devices (ProofTPM).
	TPM TPMPolicy `json:"tpm,omitzero"`
	// Domains are the names that servers may prove (ProofDomain).
	Domains Domains `json:"domains,omitzero"`
	// Licences declares that the firmware runs only on licensed chips; nil if
	// it does not ask.
	Licences *LicencePolicy `json:"licences,omitempty"`
	// Approvals say how many others must agree to orders and manifests.
	Approvals ProductApprovals `json:"approvals,omitzero"`
	// Life is what comes after the first certificate.
	Life     Life      `json:"life,omitzero"`
	Revision int64     `json:"revision"`
	Created  time.Time `json:"created"`
	Updated  time.Time `json:"updated"`
}

// ServerKeys says whether devices may have their key made by the server (RFC
// 7030 §4.4), and how it travels. In a [Claim] it says what is asked for.
type ServerKeys string

const (
	// ServerKeysOff, or nothing: a device makes its key itself.
	ServerKeysOff ServerKeys = "off"
	// ServerKeysEncrypted: only encrypted to a key that the device names.
	ServerKeysEncrypted ServerKeys = "encrypted"
	// ServerKeysPlain: also with no protection but that of TLS.
	ServerKeysPlain ServerKeys = "plain"
)

// MakesKeys reports whether a key may be made and sent as a claim asks.
func (p *Product) MakesKeys(asked ServerKeys) bool {
	switch asked {
	case ServerKeysEncrypted:
		return p.ServerKeys == ServerKeysEncrypted || p.ServerKeys == ServerKeysPlain
	case ServerKeysPlain:
		return p.ServerKeys == ServerKeysPlain
	default:
		return false
	}
}

// Accepts reports whether a first enrolment may rest on this proof.
func (p *Product) Accepts(proof Proof) bool { return slices.Contains(p.Proofs, proof) }

// Check reports the first thing wrong with the product's own fields. The
// profile's template is checked by internal/ca, which can render and lint it.
func (p *Product) Check() error {
	if err := CheckName("product", p.Name); err != nil {
		return err
	}
	if len(p.Description) > maxDescription {
		return fmt.Errorf("the description is %d bytes long: at most %d are allowed", len(p.Description), maxDescription)
	}
	switch p.ServerKeys {
	case "", ServerKeysOff, ServerKeysEncrypted, ServerKeysPlain:
	default:
		return fmt.Errorf("product %q: unknown serverKeys %q; known are %q, %q and %q", p.Name, p.ServerKeys, ServerKeysOff, ServerKeysEncrypted, ServerKeysPlain)
	}
	if len(p.Proofs) == 0 {
		return fmt.Errorf("product %q accepts no proof: no device could ever enrol; name at least one of %s", p.Name, joinProofs())
	}
	for _, proof := range p.Proofs {
		if !slices.Contains(FirstProofs, proof) {
			return fmt.Errorf("product %q: unknown proof %q; known are %s", p.Name, proof, joinProofs())
		}
	}
	if d, err := time.ParseDuration(p.AwaitRecords); p.AwaitRecords != "" && (err != nil || d < time.Minute || d > maxAwait) {
		return fmt.Errorf("product %q: awaitRecords %q is no time between 1m and %s, such as 72h", p.Name, p.AwaitRecords, maxAwait)
	}
	if err := checkVendors(p.Vendors); err != nil {
		return fmt.Errorf("product %q: %w", p.Name, err)
	}
	if err := p.checkTPM(); err != nil {
		return fmt.Errorf("product %q: tpm: %w", p.Name, err)
	}
	if err := p.checkServers(); err != nil {
		return fmt.Errorf("product %q: %w", p.Name, err)
	}
	if err := checkRules(p.Rules); err != nil {
		return fmt.Errorf("product %q: %w", p.Name, err)
	}
	if err := p.Approvals.check(); err != nil {
		return fmt.Errorf("product %q: %w", p.Name, err)
	}
	if err := p.Life.check(); err != nil {
		return fmt.Errorf("product %q: %w", p.Name, err)
	}
	return nil
}

// Awaits is AwaitRecords as a duration, 0 if devices are not held.
func (p *Product) Awaits() time.Duration {
	d, _ := time.ParseDuration(p.AwaitRecords) // checked when it was saved
	return d
}

const (
	maxDescription = 1000
	maxAwait       = 90 * 24 * time.Hour
)

// Profile says what a product's certificates look like. It is data;
// internal/ca compiles, renders and lints it.
type Profile struct {
	// Template is an x509util certificate template (JSON with Go template
	// actions) over the variables that internal/ca documents. Empty means
	// internal/ca's default device template.
	Template string `json:"template,omitempty"`
	// Validity is the lifetime as a Go duration with an optional leading
	// number of days ("825d", "397d12h"), or "forever" for the notAfter
	// 99991231235959Z of an IDevID (RFC 5280 §4.1.2.5, IEEE 802.1AR).
	Validity string `json:"validity"`
	// Keys lists the accepted public keys: "P-256", "P-384", "P-521",
	// "Ed25519", "RSA-2048", "RSA-3072", "RSA-4096". Empty means P-256,
	// P-384 and Ed25519.
	Keys []string `json:"keys,omitempty"`
	// NoStatusURLs leaves out of the certificates where their status can be
	// learnt (CRL distribution point, authority information access), which
	// takes some 200 bytes.
	NoStatusURLs bool `json:"noStatusUrls,omitempty"`
}

// KeyKinds are the kinds of key that are accepted: Keys, or the default.
func (p Profile) KeyKinds() []string {
	if len(p.Keys) > 0 {
		return p.Keys
	}
	return []string{"P-256", "P-384", "Ed25519"}
}

// Site is a factory or programming centre.
type Site struct {
	ID          int64  `json:"-"`
	Name        string `json:"name"`
	Description string `json:"description,omitempty"`
	// Networks are the site's own, as CIDR prefixes: where devices of products
	// that rest on identifiers alone must come from.
	Networks []string  `json:"networks,omitempty"`
	Revision int64     `json:"revision"`
	Created  time.Time `json:"created"`
}

// Check reports the first thing wrong with the site.
func (s *Site) Check() error {
	if err := CheckName("site", s.Name); err != nil {
		return err
	}
	if len(s.Description) > maxDescription {
		return fmt.Errorf("the description is %d bytes long: at most %d are allowed", len(s.Description), maxDescription)
	}
	return nil
}
