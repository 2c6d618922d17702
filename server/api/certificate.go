package api

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/pem"
	"net/http"
	"strings"

	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/internal/audit"
	"github.com/touchmark/touchmark/vetting"
)

// RevocationInput says why certificates are revoked.
type RevocationInput struct {
	Reason vetting.RevocationReason `json:"reason" minLength:"1" maxLength:"64" doc:"The CRLReason (RFC 5280 §5.3.1): unspecified, keyCompromise, affiliationChanged, superseded, cessationOfOperation or privilegeWithdrawn"`
	Note   string                   `json:"note" minLength:"1" maxLength:"1000" doc:"Why, for the audit log"`
}

// IssuedCertificate is a device's certificate.
type IssuedCertificate struct {
	vetting.Certificate
	PEM string `json:"pem,omitempty" doc:"The certificate; not for an owner's operators if it was issued before the device was the owner's"`
}

type serialInput struct {
	Serial string `path:"serial" maxLength:"64" doc:"The serial number in hexadecimal; colons and upper case are accepted"`
}

type serialBody[T any] struct {
	Serial string `path:"serial" maxLength:"64" doc:"The serial number in hexadecimal; colons and upper case are accepted"`
	Body   T
}

func (a *API) certificates() {
	register(a, access.ReadDevices, operation{
		id: "getCertificate", method: http.MethodGet, path: "/certificates/{serial}", tag: tagDevices,
		summary: "Show a device's certificate",
	}, func(ctx context.Context, c *call, in *serialInput) (*bodyOutput[IssuedCertificate], error) {
		cert, err := certificate(ctx, c, in.Serial)
		return answer(withPEM(cert), err)
	})
	register(a, access.ManageDevices, operation{
		id: "revokeCertificate", method: http.MethodPost, path: "/certificates/{serial}/revoke", tag: tagDevices,
		summary:     "Revoke one certificate",
		description: "If it is the device's current one, the device has no way to another certificate until an administrator readmits it. That cannot be taken back.",
	}, func(ctx context.Context, c *call, in *serialBody[RevocationInput]) (*bodyOutput[IssuedCertificate], error) {
		cert, err := certificate(ctx, c, in.Serial)
		if err != nil {
			return nil, err
		}
		cert, err = c.RevokeCertificate(ctx, c.act, cert.Serial, in.Body.Reason, in.Body.Note)
		return answer(withPEM(cert), err)
	})
	register(a, access.ReadDevices, operation{
		id: "getCertificateProof", method: http.MethodGet, path: "/certificates/{serial}/proof", tag: tagDevices,
		summary: "Prove that the audit log shows a certificate's issuance", errors: []int{409},
		description: "The proof can be checked offline with nothing but the certificate and the log's verifier. Until the first checkpoint that covers the issuance, the answer is 409.",
	}, func(ctx context.Context, c *call, in *serialInput) (*bodyOutput[audit.Proof], error) {
		cert, err := certificate(ctx, c, in.Serial)
		if err != nil {
			return nil, err
		}
		return answer(a.config.Prover.Prove(ctx, cert.Leaf))
	})
}

// withPEM is what is answered of a certificate, nil of none.
func withPEM(cert *vetting.Certificate) *IssuedCertificate {
	if cert == nil {
		return nil
	}
	out := &IssuedCertificate{Certificate: *cert}
	if out.DER = nil; len(cert.DER) > 0 {
		out.PEM = toPEM(cert.DER) // which says the same
	}
	return out
}

// certificate finds a certificate by its serial number as people write it.
func certificate(ctx context.Context, c *call, serial string) (*vetting.Certificate, error) {
	s := strings.ToLower(strings.ReplaceAll(serial, ":", ""))
	if _, err := hex.DecodeString(s); err != nil {
		return nil, vetting.Errorf(vetting.NotFound, "there is no certificate %q: serial numbers are hexadecimal", serial)
	}
	return c.Certificate(ctx, s)
}

// toPEM gives certificates as PEM (RFC 7468 §5), one after the other.
func toPEM(ders ...[]byte) string {
	var b bytes.Buffer
	for _, der := range ders {
		// A bytes.Buffer never fails.
		_ = pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: der})
	}
	return b.String()
}
