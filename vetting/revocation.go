package vetting

import (
	"fmt"
	"slices"
	"strings"
)

// RevocationReason is why a certificate was revoked: a CRLReason by its name
// in RFC 5280 §5.3.1.
type RevocationReason string

const (
	RevokedUnspecified        RevocationReason = "unspecified"
	RevokedKeyCompromise      RevocationReason = "keyCompromise"
	RevokedAffiliationChanged RevocationReason = "affiliationChanged"
	RevokedSuperseded         RevocationReason = "superseded"
	RevokedCessation          RevocationReason = "cessationOfOperation"
	RevokedPrivilegeWithdrawn RevocationReason = "privilegeWithdrawn"
)

// RevocationReasons are those that an operator may give.
var RevocationReasons = []RevocationReason{
	RevokedUnspecified, RevokedKeyCompromise, RevokedAffiliationChanged,
	RevokedSuperseded, RevokedCessation, RevokedPrivilegeWithdrawn,
}

// crlReasons are the names of RFC 5280 §5.3.1 by their numbers; 7 is unused.
var crlReasons = []RevocationReason{
	RevokedUnspecified, RevokedKeyCompromise, "cACompromise", RevokedAffiliationChanged, RevokedSuperseded,
	RevokedCessation, "certificateHold", "", "removeFromCRL", RevokedPrivilegeWithdrawn, "aACompromise",
}

// notForDevices says of the other reasons what they are for.
var notForDevices = map[RevocationReason]string{
	"cACompromise":    "it is for the certificates of CAs: roll the CA over and revoke its devices' certificates as superseded",
	"aACompromise":    "it is for attribute certificates, which devices do not have",
	"certificateHold": "a hold can be taken back and a revocation cannot: suspend or quarantine the device instead",
	"removeFromCRL":   "it is for entries of delta CRLs that end a hold: resume or release the device instead",
}

// Code is the reason's number (RFC 5280 §5.3.1). The error, an Invalid,
// says why a reason is none that an operator may give.
func (r RevocationReason) Code() (int, error) {
	if slices.Contains(RevocationReasons, r) {
		return slices.Index(crlReasons, r), nil
	}
	names := make([]string, len(RevocationReasons))
	for i, known := range RevocationReasons {
		names[i] = string(known)
	}
	list := strings.Join(names, ", ")
	if why := notForDevices[r]; why != "" {
		return 0, Errorf(Invalid, "the reason %s is not for a device's certificate: %s; possible are %s", r, why, list)
	}
	return 0, Errorf(Invalid, "there is no revocation reason %q: possible are %s (RFC 5280 §5.3.1)", r, list)
}

// ReasonName is the name of a CRLReason by its number.
func ReasonName(code int) RevocationReason {
	if code < 0 || code >= len(crlReasons) || crlReasons[code] == "" {
		return RevocationReason(fmt.Sprintf("reason %d", code))
	}
	return crlReasons[code]
}
