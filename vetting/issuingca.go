package vetting

import (
	"fmt"
	"strings"
	"time"
)

// IssuingCA is a CA below the root that issues to the devices of those owners
// that name it, and of all others if it is the default; or, by its purpose, to
// others than devices. The founding CAs were there before the database, which
// knows them only once their state changed, and never the device CA.
type IssuingCA struct {
	ID      int64
	Name    string
	Purpose Purpose
	// Certificate, and the subject in it, are DER.
	Certificate []byte
	Subject     []byte
	Key         Fingerprint
	State       IssuingState
	Created     time.Time
	Updated     time.Time // when its certificate was last replaced
}

// IssuerStatement is what those sign who approve an act on a CA below the
// root. All bytes are in base64.
type IssuerStatement struct {
	Issuer  string `json:"issuer"`  // its name
	Purpose string `json:"purpose"` // whom it issues to
	// Instead is the CA that is the default now; only where another becomes it.
	Instead     string `json:"instead,omitempty"`
	Key         string `json:"key"`         // its fingerprint
	Subject     []byte `json:"subject"`     // DER
	Certificate []byte `json:"certificate"` // DER
}

// IssuingState is what an issuing CA is used for.
type IssuingState string

const (
	// IssuingOpen issues to the devices of the owners that name it. One of
	// another purpose issues nothing then, and what it signed counts.
	IssuingOpen IssuingState = ""
	// IssuingDefault issues also to the devices of those that name none, or all
	// that there is for another purpose, in place of the founding CA. There is
	// at most one for each purpose.
	IssuingDefault IssuingState = "default"
	// IssuingClosed issues to nobody. What it signed for devices stays valid;
	// certificates of operators and rigs that it signed are refused.
	IssuingClosed IssuingState = "closed"
)

// Purpose is whom a CA issues to. It never changes.
type Purpose string

const (
	ForDevices     Purpose = ""
	ForSites       Purpose = "sites"        // operators and rigs of sites
	ForOperators   Purpose = "operators"    // all other operators, and the servers themselves
	ForCodeSigning Purpose = "code-signing" // what signs vouchers and code
)

// Purposes are all there are.
var Purposes = []Purpose{ForDevices, ForSites, ForOperators, ForCodeSigning}

// Names of the CAs that are there from the beginning, one for each purpose.
// Each issues for it until another becomes the default.
const (
	DeviceCA      = "device-ca"
	FactoryCA     = "factory-ca"
	OperatorCA    = "operator-ca"
	CodeSigningCA = "codesign-ca"
)

// FoundingCA is the name of the CA that issued for a purpose first.
func (p Purpose) FoundingCA() string {
	switch p {
	case ForSites:
		return FactoryCA
	case ForOperators:
		return OperatorCA
	case ForCodeSigning:
		return CodeSigningCA
	}
	return DeviceCA
}

// PurposeOfFounding is the purpose of a CA that is there from the beginning,
// and whether the name is one of those.
func PurposeOfFounding(name string) (Purpose, bool) {
	for _, p := range Purposes {
		if p.FoundingCA() == name {
			return p, true
		}
	}
	return ForDevices, false
}

// MaxIssuingCAs bounds them: EST's /cacerts holds them all, and devices have
// to read it.
const MaxIssuingCAs = 64

// CheckIssuingCAName reports what is wrong with the name of an issuing CA to
// be. X.509 does not tell capitals from small letters in names (RFC 5280
// §7.1), and the name becomes one.
func CheckIssuingCAName(name string) error {
	if err := CheckName("issuing CA", name); err != nil {
		return err
	}
	if name != strings.ToLower(name) {
		return fmt.Errorf("issuing CA name %q has capital letters, which do not tell the names of CAs apart: use small ones", name)
	}
	if _, founding := PurposeOfFounding(name); founding {
		return fmt.Errorf("%q is the CA that is there from the beginning: choose another name", name)
	}
	return nil
}
