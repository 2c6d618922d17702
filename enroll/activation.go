package enroll

import (
	"context"
	"time"

	"github.com/touchmark/touchmark/vetting"
)

// Lives tells where a device and its certificate stand.
type Lives interface {
	// Activate notes the first authenticated use of an official certificate,
	// by serial number in hex. Using it again changes nothing.
	Activate(ctx context.Context, serial string) error
	// Standing finds an official certificate by serial number in hex, or a
	// vetting.NotFound error.
	Standing(ctx context.Context, serial string) (vetting.Standing, error)
}

// Activation is the answer to a device that used its official certificate.
type Activation struct {
	Serial      string                   `json:"serial"`      // the device's
	Certificate string                   `json:"certificate"` // its serial number in hex
	State       vetting.CertificateState `json:"state"`
	NotAfter    time.Time                `json:"notAfter"`
	// Renew is when the device should renew.
	Renew vetting.Window `json:"renew"`
}

// Official says, by an *AuthError, why a client did not come with an official
// certificate whose time has not run out.
func (c Client) Official() error {
	switch {
	case c.Auth.Proof != vetting.ProofOfficial:
		return authError("the client certificate is not an official one: enrol first")
	case c.Expired:
		return authError("the official certificate ran out at %s: renew it", c.Certificate.NotAfter.UTC().Format(time.RFC3339))
	}
	return nil
}

// Activate notes that a device holds its official key, which the client has
// proved: its bootstrap key is spent from then on. An *AuthError says why the
// client's certificate is none that counts.
func Activate(ctx context.Context, lives Lives, c Client) (Activation, error) {
	if err := c.Official(); err != nil {
		return Activation{}, err
	}
	serial := c.Auth.Certificate
	if err := lives.Activate(ctx, serial); err != nil {
		return Activation{}, unknownCertificate(err, serial)
	}
	s, err := lives.Standing(ctx, serial)
	switch {
	case err != nil:
		return Activation{}, unknownCertificate(err, serial)
	case !s.Device.State.InService():
		return Activation{}, authError("the device is %s", s.Device.State)
	case s.Certificate.State != vetting.CertificateValid:
		return Activation{}, authError("the certificate %s is %s", serial, s.Certificate.State)
	}
	return Activation{Serial: s.Device.Serial, Certificate: s.Certificate.Serial, State: s.Certificate.State, NotAfter: s.Certificate.NotAfter, Renew: s.Renew()}, nil
}

func unknownCertificate(err error, serial string) error {
	if vetting.ProblemOf(err) == vetting.NotFound {
		return authError("the certificate %s is not one that this server issued to a device", serial)
	}
	return err
}
