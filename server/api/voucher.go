package api

import (
	"context"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"net/http"
	"time"

	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/vetting"
)

// HandoutInput hands a device to an owner outside of this server.
type HandoutInput struct {
	Device           int64  `json:"device" minimum:"1" doc:"The device's number"`
	PinnedDomainCert string `json:"pinnedDomainCert" minLength:"1" maxLength:"16384" doc:"The certificate by which the device is to know its next owner's domain (RFC 8366 §5.3), as PEM or base64 of DER"`
	Nonce            string `json:"nonce,omitempty" maxLength:"64" doc:"The device's nonce in base64, 8 to 32 bytes; absent for a voucher that expires"`
	Seconds          int64  `json:"seconds,omitempty" minimum:"3600" maximum:"316224000" doc:"How long a voucher without a nonce is good; absent means 30 days"`
	Note             string `json:"note,omitempty" maxLength:"1000" doc:"A few words for the audit log"`
}

// HandedOut is a device that was handed out.
type HandedOut struct {
	Transfer vetting.Transfer `json:"transfer" doc:"The transfer"`
	Voucher  []byte           `json:"voucher" doc:"The voucher: a CMS SignedData (application/voucher-cms+json), DER in base64"`
}

func (a *API) vouchers() {
	register(a, access.ManageOwners, operation{
		id: "createVoucher", method: http.MethodPost, path: "/vouchers", tag: tagOwners,
		summary: "Hand a device out with a voucher", status: http.StatusCreated, errors: []int{404},
		description: "For a next owner outside of this server. The device leaves its care at once: its certificates are revoked (affiliationChanged), and it gets none here until its transfer is reversed. " +
			"The voucher (RFC 8366) is signed by a key that the root stands behind. Asked again on the same terms, the answer is the same.",
	}, a.createVoucher)
	register(a, access.ReadOwners, operation{
		id: "getVoucher", method: http.MethodGet, path: "/transfers/{id}/voucher", tag: tagOwners,
		summary: "Show the voucher that a device was handed out with",
	}, func(ctx context.Context, c *call, in *idInput) (*bodyOutput[HandedOut], error) {
		return handedOut(ctx, c, in.ID)
	})
}

func handedOut(ctx context.Context, c *call, transfer int64) (*bodyOutput[HandedOut], error) {
	t, err := c.Transfer(ctx, transfer)
	if err != nil {
		return nil, err
	}
	voucher, err := c.Voucher(ctx, transfer)
	return answer(&HandedOut{*t, voucher}, err)
}

func (a *API) createVoucher(ctx context.Context, c *call, in *bodyOf[HandoutInput]) (*createdOutput[HandedOut], error) {
	terms, err := in.Body.terms()
	if err != nil {
		return nil, err
	}
	now := a.config.Now()
	if err := terms.Check(now); err != nil {
		return nil, vetting.Errorf(vetting.Invalid, "%v", err)
	}
	d, err := c.Device(ctx, in.Body.Device)
	if err != nil {
		return nil, err
	}
	latest, err := latestCertificate(ctx, c, d)
	if err != nil {
		return nil, err
	}
	// As a certificate, a voucher leaves the process after its commit, or
	// never: perhaps there is an earlier one.
	voucher, err := a.config.Vouchers.SignVoucher(terms.Voucher(d, latest, now))
	if err != nil {
		return nil, err
	}
	t, err := c.HandOut(ctx, c.act, vetting.Handout{DeviceID: d.ID, Terms: terms.Digest(), Voucher: voucher, Note: in.Body.Note})
	if err != nil {
		return nil, err
	}
	out, err := handedOut(ctx, c, t.ID)
	if err != nil {
		return nil, err
	}
	return created(out.Body, nil, func(h *HandedOut) string { return fmt.Sprintf("/transfers/%d/voucher", h.Transfer.ID) })
}

// terms reads what the voucher is to say.
func (in *HandoutInput) terms() (*vetting.VoucherTerms, error) {
	cert, err := parseCertificate(in.PinnedDomainCert)
	if err != nil {
		return nil, invalid("body.pinnedDomainCert", "the pinned domain certificate: %v", err)
	}
	nonce, err := base64.StdEncoding.DecodeString(in.Nonce)
	if err != nil {
		return nil, invalid("body.nonce", "the nonce is not base64: %v", err)
	}
	return &vetting.VoucherTerms{PinnedDomainCert: cert, Nonce: nonce, Lifetime: time.Duration(in.Seconds) * time.Second}, nil
}

// latestCertificate is the certificate that a device has, or had last; nil if
// it never had one.
func latestCertificate(ctx context.Context, c *call, d *vetting.Device) (*x509.Certificate, error) {
	if d.Certificate == "" {
		return nil, nil
	}
	cert, err := c.Certificate(ctx, d.Certificate)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(cert.DER)
}
