package firmware

import "fmt"

// Reason says what was wrong with an image.
type Reason string

const (
	Damaged   Reason = "damaged"   // no MCUboot image, cut off, or changed on the way
	Forged    Reason = "forged"    // not signed with a key that the device knows
	Foreign   Reason = "foreign"   // genuine, but for devices of another class
	Sealed    Reason = "sealed"    // encrypted, and not for this device
	Downgrade Reason = "downgrade" // its security counter is below the device's
)

// Refusal is an image that the device does not install.
type Refusal struct {
	Reason Reason
	Text   string // for a person: what was found, and what was wanted
}

func (r *Refusal) Error() string { return r.Text }

func refuse(why Reason, format string, args ...any) error {
	return &Refusal{why, fmt.Sprintf(format, args...)}
}
