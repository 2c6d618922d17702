package vetting

import (
	"fmt"
	"time"
)

// Owner is a company that devices belong to. Its devices have their
// certificates from an issuing CA and by a profile of its own, where it names
// them. A device without an owner is the manufacturer's.
type Owner struct {
	ID          int64  `json:"-"`
	Name        string `json:"name"`
	Description string `json:"description,omitempty"`
	// Issuer is the name of the issuing CA of its devices; "" is the default.
	Issuer string `json:"issuer,omitempty"`
	// Profile takes the place of the profiles of its devices' products; nil
	// leaves those in force.
	Profile *Profile  `json:"profile,omitempty"`
	Created time.Time `json:"created"`
}

// Manufacturer is the name under which transfers speak of the owner of
// devices that have none.
const Manufacturer = "manufacturer"

// Check reports the first thing wrong with the owner's own fields. The
// profile's template is checked by internal/ca.
func (o *Owner) Check() error {
	if err := CheckName("owner", o.Name); err != nil {
		return err
	}
	switch o.Name {
	case Manufacturer:
		return fmt.Errorf("%q is whoever runs this server: choose another name", o.Name)
	case Elsewhere:
		return fmt.Errorf("%q is every owner outside of this server: choose another name", o.Name)
	}
	if len(o.Description) > maxDescription {
		return fmt.Errorf("the description is %d bytes long: at most %d are allowed", len(o.Description), maxDescription)
	}
	if o.Issuer == "" {
		return nil
	}
	return CheckName("issuing CA", o.Issuer)
}

// Profile is what the device's certificate is to look like: its owner's, or
// its product's.
func (f *Facts) Profile() Profile {
	if f.Owner != nil && f.Owner.Profile != nil {
		return *f.Owner.Profile
	}
	return f.Product.Profile
}
