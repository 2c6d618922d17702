package devicesim

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"net/http"

	"github.com/touchmark/touchmark/device"
)

// Registration is the verdict that a rig gets.
type Registration struct {
	Registration int64
	Verdict      string
	Reasons      []struct{ Code, Text string }
	Certificate  string
	RetryAfter   int64 // seconds
}

// Text joins the reasons' sentences.
func (r Registration) Text() (text string) {
	for i, reason := range r.Reasons {
		if i > 0 {
			text += " "
		}
		text += reason.Text
	}
	return text
}

// Register has a rig register the unit in front of it through the API: the
// unit makes its official key, the rig vouches, and the certificate goes into
// the unit.
func (o *Operator) Register(ctx context.Context, s Server, u *Unit) (r Registration, err error) {
	d := s.device(u)
	csr, err := d.Request()
	if err != nil {
		return r, err
	}
	if err := o.Do(ctx, http.MethodPost, "/registrations", map[string]string{
		"product": s.Label, "serial": u.Serial, "mac": u.MAC, "uid": u.UID, "csr": csrPEM(csr)}, &r); err != nil || r.Verdict != "admitted" {
		return r, err
	}
	block, _ := pem.Decode([]byte(r.Certificate))
	if block == nil {
		return r, errors.New("the server's answer holds no certificate")
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return r, err
	}
	_, err = d.Accept(ctx, cert)
	return r, err
}

// RegisterOverEST does the same as a registration authority over EST
// (RFC 7030 §3.7): the rig's certificate authenticates the unit's request.
// A refusal is a *device.StatusError, a hold a *device.PendingError.
func (o *Operator) RegisterOverEST(ctx context.Context, s Server, u *Unit) (*x509.Certificate, error) {
	d := s.device(u)
	csr, err := d.Request()
	if err != nil {
		return nil, err
	}
	cert, err := d.Client.Enrol(ctx, &device.Credential{Key: o.Key, Chain: []*x509.Certificate{o.Cert}}, csr)
	if err != nil {
		return nil, err
	}
	_, err = d.Accept(ctx, cert)
	return cert, err
}

func (s Server) device(u *Unit) *device.Device {
	return &device.Device{Serial: u.Serial, Store: u.Store, Client: s.Client(), Root: s.Root, CAs: s.CAs}
}
