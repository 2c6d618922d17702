package vetting

import (
	"fmt"
	"slices"
)

// Vendor is a maker of chips or modules whose certificates prove a product's
// devices (ProofVendor): IDevIDs (IEEE 802.1AR) and those of secure elements.
// It is data; package vetting/vendorid compiles it and verifies with it.
type Vendor struct {
	Name string `json:"name"`
	// Anchors are CA certificates in PEM. A device's chain must end at one of
	// them; an issuing CA does as well as a root.
	Anchors string `json:"anchors"`
	// CRLs are revocation lists in PEM of the CAs of its chains. Without one
	// nothing is known of what the vendor revoked.
	CRLs string `json:"crls,omitempty"`
	// Serial, MAC and UID say where the certificate has the device's
	// identifiers. Where a rule is given, it must find one.
	Serial *NameRule `json:"serial,omitempty"`
	MAC    *NameRule `json:"mac,omitempty"`
	UID    *NameRule `json:"uid,omitempty"`
}

// NameRule finds an identifier in a certificate.
type NameRule struct {
	// From is the place, which must exist exactly once:
	//
	//	subject.serialNumber, subject.commonName, subject.organizationalUnit,
	//	subject.userId, subject.dnQualifier, or subject.1.2.3 by its OID
	//	san.hardwareModuleName      hwSerialNum as text (RFC 4108 §5)
	//	san.hardwareModuleName.hex  the same, in hexadecimal
	//	san.permanentIdentifier     identifierValue (RFC 4043)
	//	san.dns, san.uri
	//	certificate.serialNumber    the X.509 serial number in hexadecimal
	From string `json:"from"`
	// Pattern is a regular expression (RE2) that must match all of it; its one
	// group is the identifier. "" takes all of it.
	Pattern string `json:"pattern,omitempty"`
}

// VendorMatch says that a product trusts the chain that a device presented.
type VendorMatch struct {
	Product string
	Vendor  string
	// Asserted is what the product's name rules found in the certificate.
	Asserted Identity
}

// MaxVendors is the most vendors of one product.
const MaxVendors = 8

func checkVendors(list []Vendor) error {
	if len(list) > MaxVendors {
		return fmt.Errorf("%d vendors are given: at most %d are allowed", len(list), MaxVendors)
	}
	for i, v := range list {
		if err := CheckName("vendor", v.Name); err != nil {
			return err
		}
		if slices.ContainsFunc(list[:i], func(o Vendor) bool { return o.Name == v.Name }) {
			return fmt.Errorf("vendor %q is given twice", v.Name)
		}
	}
	return nil
}

// Vouch takes up what a vendor's chain proves where it is for one product.
// Without a match for the product the claim names no vendor, which no product
// lets in. The certificate of a TPM says nothing of what a device is called.
func (c *Claim) Vouch(product string) {
	var found VendorMatch
	for _, m := range c.Vendors {
		if m.Product == product {
			found = m
			break
		}
	}
	if c.Auth.Vendor = found.Vendor; c.Auth.Proof != ProofTPM {
		c.Asserted = found.Asserted
	}
}
