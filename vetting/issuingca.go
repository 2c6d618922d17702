package vetting

import (
	"fmt"
	"strings"
	"time"
)

// IssuingCA is a CA below the root that issues to the devices of those owners
// that name it, and of all others if it is the default. The device CA is none
// of these: it was there before the database.
type IssuingCA struct {
	ID   int64
	Name string
	// Certificate, and the subject in it, are DER.
	Certificate []byte
	Subject     []byte
	Key         Fingerprint
	State       IssuingState
	Created     time.Time
	Updated     time.Time // when its certificate was last replaced
}

// IssuingState is what an issuing CA is used for.
type IssuingState string

const (
	// IssuingOpen issues to the devices of the owners that name it.
	IssuingOpen IssuingState = ""
	// IssuingDefault issues also to the devices of those that name none, in
	// place of the DeviceCA. There is at most one.
	IssuingDefault IssuingState = "default"
	// IssuingClosed issues to nobody. What it signed stays valid.
	IssuingClosed IssuingState = "closed"
)

// DeviceCA is the name of the CA that issues to devices whose owner names
// none, unless another became the default.
const DeviceCA = "device-ca"

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
	if name == DeviceCA {
		return fmt.Errorf("%q is the CA that is there from the beginning: choose another name", name)
	}
	return nil
}
