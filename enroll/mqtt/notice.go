package mqtt

import (
	"time"

	"github.com/touchmark/touchmark/vetting"
)

// What a notice tells.
const (
	RenewNow     = "renew-now"     // renew the certificate now, and not when it is due
	Revoked      = "revoked"       // the certificate does not count any more
	OwnerChanged = "owner-changed" // another owner: the certificate ended, start anew
)

// Notice is what a device is told unasked, signed like a reply. It is a hint:
// one that is lost is made good by asking when to renew.
type Notice struct {
	// Event is the event that it is about, as the operators' API names it; a
	// notice may come more than once.
	Event string    `json:"event"`
	Time  time.Time `json:"time"`
	// Notice is one of the words above.
	Notice string `json:"notice"`
	// Serial is the device's, Certificate the serial number, in hex, of the
	// certificate that it is about.
	Serial      string `json:"serial"`
	Certificate string `json:"certificate"`
}

// Notify makes the message of a notice to the holder of a key.
func (h *Handler) Notify(key vetting.Fingerprint, n Notice) (*Message, error) {
	by, err := h.Signatory()
	if err != nil {
		return nil, err
	}
	return h.signed(Branch(key).Notice(), n, by)
}
