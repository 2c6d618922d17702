package api

import (
	"context"
	"crypto"
	"encoding/hex"
	"fmt"
	"net/http"
	"strings"

	"github.com/touchmark/touchmark/internal/access"
)

// Responders are the nodes that answer OCSP requests and hold no CA's key.
type Responders interface {
	// CertifyResponder lets a key answer for an issuing CA, with a leaf in the
	// log, and returns the certificate's DER. It is NotFound if there is no
	// such CA, Invalid if the key is not fit for it, and an
	// *enroll.IssuerError if this server does not hold the CA's key.
	CertifyResponder(ctx context.Context, act access.Act, issuer string, key crypto.PublicKey) (der []byte, err error)
	// ReportForgeries keeps as evidence that somebody met certificates of
	// these serial numbers, which name a CA that never issued them, and of more
	// others. How many are kept one by one is bounded, and returned. It is
	// NotFound if there is no such CA, and Invalid if the CA can have issued
	// one of them.
	ReportForgeries(ctx context.Context, act access.Act, issuer string, serials [][]byte, more int64) (kept int, err error)
}

// ResponderInput asks for a responder's certificate.
type ResponderInput struct {
	CSR string `json:"csr" minLength:"1" maxLength:"16384" doc:"A PKCS#10 request (RFC 2986) on a P-256 or P-384 key, as PEM or as base64 of DER; only its key counts"`
}

// ResponderCertificate lets a key answer.
type ResponderCertificate struct {
	Certificate string `json:"certificate" doc:"The certificate as PEM, signed by the CA itself"`
}

// ForgeriesInput are forged certificates that somebody met.
type ForgeriesInput struct {
	Serials []string `json:"serials" maxItems:"1000" nullable:"false" doc:"The content of the serial numbers' INTEGERs, in hexadecimal"`
	More    int64    `json:"more,omitempty" minimum:"0" doc:"How many others there were"`
}

// ForgeriesKept says what became of a report.
type ForgeriesKept struct {
	Kept int `json:"kept" doc:"How many of the serial numbers were kept one by one"`
}

type (
	responderBody struct {
		Name string `path:"name" maxLength:"63" doc:"The CA's name"`
		Body ResponderInput
	}
	forgeriesBody struct {
		Name string `path:"name" maxLength:"63" doc:"The CA's name"`
		Body ForgeriesInput
	}
)

// maxForgedSerial is the longest serial number that a certificate may have, in
// bytes (RFC 5280 §4.1.2.2).
const maxForgedSerial = 20

func (a *API) responders() {
	register(a, access.AnswerStatus, operation{
		id: "certifyResponder", method: http.MethodPost, path: "/issuers/{name}/responders", tag: tagIssuers, errors: []int{404, 503},
		summary:     "Let a key answer OCSP requests for a CA",
		description: "The certificate is for a week, and nobody can revoke it. Ask for the next one, on another key, when half of that is over.",
	}, func(ctx context.Context, c *call, in *responderBody) (*bodyOutput[ResponderCertificate], error) {
		csr, err := parseCSR(in.Body.CSR)
		if err != nil {
			return nil, err
		}
		der, err := a.config.Responders.CertifyResponder(ctx, c.act, in.Name, csr.PublicKey)
		if err != nil {
			return nil, err
		}
		return &bodyOutput[ResponderCertificate]{&ResponderCertificate{toPEM(der)}}, nil
	})
	register(a, access.AnswerStatus, operation{
		id: "reportForgeries", method: http.MethodPost, path: "/issuers/{name}/forgeries", tag: tagIssuers, errors: []int{404},
		summary:     "Report serial numbers that a CA never issued",
		description: "Each is evidence, once; of very many a day only the number is kept.",
	}, func(ctx context.Context, c *call, in *forgeriesBody) (*bodyOutput[ForgeriesKept], error) {
		serials := make([][]byte, len(in.Body.Serials))
		for i, text := range in.Body.Serials {
			b, err := hex.DecodeString(strings.ToLower(text))
			if err != nil || len(b) == 0 || len(b) > maxForgedSerial {
				p := problem(http.StatusUnprocessableEntity, "%q is no serial number in hexadecimal, of 1 to %d bytes", text, maxForgedSerial)
				p.Errors = []FieldError{{fmt.Sprintf("body.serials[%d]", i), "no serial number"}}
				return nil, p
			}
			serials[i] = b
		}
		kept, err := a.config.Responders.ReportForgeries(ctx, c.act, in.Name, serials, in.Body.More)
		return &bodyOutput[ForgeriesKept]{&ForgeriesKept{kept}}, err
	})
}
