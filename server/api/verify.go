package api

import (
	"context"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/touchmark/touchmark/enroll"
	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/vetting"
	"github.com/touchmark/touchmark/vetting/scan"
)

// Examiner says what the CAs know of a certificate by itself: whose it is,
// not whether it still counts.
type Examiner interface {
	Examine(*x509.Certificate) *vetting.ShownCertificate
}

// VerifyInput is what somebody knows of the unit in front of them.
type VerifyInput struct {
	Certificate string `json:"certificate,omitempty" maxLength:"32768" doc:"The certificate that it shows, as PEM or as base64 of DER"`
	Serial      string `json:"serial,omitempty" maxLength:"64" doc:"Its serial number"`
	MAC         string `json:"mac,omitempty" maxLength:"64" doc:"Its MAC address, EUI-48 or EUI-64"`
	UID         string `json:"uid,omitempty" maxLength:"128" doc:"Its chip's UID"`
	Scan        string `json:"scan,omitempty" maxLength:"2048" doc:"What a scanner read on its label: a URI with the parameters serial, mac, uid and product, fields such as SN:…, or the bare serial number. A one-time enrolment code is refused"`
	Product     string `json:"product,omitempty" maxLength:"63" doc:"The product that it is said to be"`
	History     bool   `json:"history,omitempty" doc:"Whether to answer also with everything that is kept about the device"`
}

// VerifyResult tells whether the unit is what it claims to be.
type VerifyResult struct {
	Verdict     vetting.Authenticity `json:"verdict" enum:"genuine,unknown,suspect,counterfeit" doc:"genuine: in the records, in service, and nothing speaks against it; suspect: something speaks against it; counterfeit: there can be no such device; unknown: nothing is known for or against it"`
	Reasons     []vetting.Reason     `json:"reasons" nullable:"false" doc:"Why"`
	Device      *vetting.Device      `json:"device,omitempty" doc:"The device that it claims to be, if it is one"`
	Certificate *vetting.Certificate `json:"certificate,omitempty" doc:"The device's current certificate, without its DER"`
	Seen        time.Time            `json:"seen,omitzero" doc:"When a broker or gateway saw it last"`
	Proof       *vetting.Challenge   `json:"proof,omitempty" doc:"The challenge that the device answered last"`
	Evidence    []*vetting.Evidence  `json:"evidence" nullable:"false" doc:"The evidence that is open against the device, newest first"`
	History     *vetting.History     `json:"history,omitempty" doc:"Everything that is kept about the device, if it was asked for"`
}

func (a *API) verification() {
	register(a, access.VerifyDevices, operation{
		id: "verifyDevice", method: http.MethodPost, path: "/verify", tag: tagAuthenticity,
		summary: "Ask whether a device is genuine",
		description: "Takes whatever is known of the unit: its certificate, serial number, MAC address, UID, or what a scanner read; all that is given must belong together. Any verdict is answered with status 200. " +
			"A name can be copied, and so can a certificate: whether the unit holds its key, a challenge shows. A certificate that is forged is kept as evidence. " +
			"Sites find their own devices only. Without the permission to read particulars, the answer leaves out operators' names, addresses, bootstrap keys and disputed records.",
	}, a.verify)
}

func (a *API) verify(ctx context.Context, c *call, in *bodyOf[VerifyInput]) (*bodyOutput[VerifyResult], error) {
	i, err := a.inspection(&in.Body)
	if err != nil {
		return nil, err
	}
	f, err := c.Inspect(ctx, c.act, i)
	if err != nil {
		return nil, err
	}
	out := &VerifyResult{Verdict: f.Verdict, Reasons: f.Reasons, Evidence: []*vetting.Evidence{}}
	if s := f.Subject; s != nil {
		out.Device, out.Certificate, out.Proof, out.Seen = &s.Device, s.Current, s.Proof, s.Seen
		out.Evidence = append(out.Evidence, s.Evidence...)
		if in.Body.History {
			if out.History, err = c.DeviceHistory(ctx, s.Device.ID); err != nil {
				return nil, err
			}
		}
	}
	return &bodyOutput[VerifyResult]{out}, nil
}

// inspection reads what is known of the unit.
func (a *API) inspection(in *VerifyInput) (vetting.Inspection, error) {
	i := vetting.Inspection{Now: a.config.Now(), Product: in.Product}
	id, err := vetting.Identity{Serial: in.Serial, MAC: in.MAC, UID: in.UID}.Normalize()
	if err != nil {
		return i, invalid("body", "%v", err)
	}
	if i.Asked = id; in.Scan != "" {
		if err := scan.Into(&i, in.Scan); err != nil {
			return i, invalid("body.scan", "%v", err)
		}
	}
	if in.Certificate != "" {
		if i.Shown, err = a.shown(in.Certificate); err != nil {
			return i, invalid("body.certificate", "%v", err)
		}
	}
	if i.Asked.IsZero() && i.Shown == nil {
		return i, invalid("body", "nothing is said of the unit: give its certificate, serial, mac, uid, or what a scanner read")
	}
	return i, nil
}

// shown reads a certificate and has it examined.
func (a *API) shown(text string) (*vetting.ShownCertificate, error) {
	cert, err := parseCertificate(text)
	if err != nil {
		return nil, err
	}
	shown := a.config.Examiner.Examine(cert)
	if shown.Origin == vetting.OriginSelf {
		// A bootstrap certificate may name its device; if not, its key may do.
		shown.Asserted, _ = enroll.AssertedIdentity(cert.Subject.Names)
	}
	return shown, nil
}

// parseCertificate reads one certificate from PEM or base64 of DER; what
// follows it in PEM, such as its chain, is passed over.
func parseCertificate(text string) (*x509.Certificate, error) {
	if strings.Contains(text, "-----BEGIN") {
		block, _ := pem.Decode([]byte(text))
		if block == nil || block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("the PEM is damaged, or does not begin with a CERTIFICATE")
		}
		return certificateOf(block.Bytes)
	}
	der, err := base64.StdEncoding.DecodeString(strings.NewReplacer(" ", "", "\t", "", "\r", "", "\n", "").Replace(text))
	if err != nil {
		return nil, fmt.Errorf("it is neither PEM nor base64 of DER: %w", err)
	}
	return certificateOf(der)
}

func certificateOf(der []byte) (*x509.Certificate, error) {
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("it is no X.509 certificate: %w", err)
	}
	return cert, nil
}
