package api

import (
	"context"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/touchmark/touchmark/enroll"
	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/vetting"
)

// RegistrationInput is a rig's request to let the device in front of it in.
type RegistrationInput struct {
	Unit
	CSR  string `json:"csr" minLength:"1" doc:"The device's PKCS#10 request (RFC 2986), as PEM or as base64 of DER"`
	Code string `json:"code,omitempty" maxLength:"64" doc:"The enrolment code on the device's label, where the product wants one as well; it is used up by the certificate"`
}

// RegistrationResult is the verdict on a registration.
type RegistrationResult struct {
	Registration int64            `json:"registration,omitempty" doc:"The number under which the verdict is kept; absent if the request only repeated an earlier one"`
	Verdict      vetting.Outcome  `json:"verdict" enum:"admitted,held,refused" doc:"Whether the device is let in; held means that a person must decide or a condition must come true"`
	Reasons      []vetting.Reason `json:"reasons" nullable:"false" doc:"Why"`
	Certificate  string           `json:"certificate,omitempty" doc:"The device's certificate as PEM, if it was admitted"`
	RetryAfter   int64            `json:"retryAfter,omitempty" doc:"After how many seconds to ask again, if it was held"`
}

// DecisionInput is a person's word on a held registration.
type DecisionInput struct {
	Admit bool   `json:"admit" doc:"Whether the device is let in"`
	Note  string `json:"note" minLength:"1" maxLength:"1000" doc:"Why, for the device's people and the audit log"`
}

func (a *API) registrations() {
	type list struct {
		PageInput
		Site      string          `query:"site" maxLength:"63" doc:"Only registrations of this site's devices"`
		Order     string          `query:"order" maxLength:"63" doc:"Only registrations against this order"`
		Verdict   vetting.Outcome `query:"verdict" enum:"admitted,held,refused" doc:"Only registrations with this verdict"`
		Device    int64           `query:"device" minimum:"1" doc:"Only registrations of this device"`
		Undecided bool            `query:"undecided" doc:"Only held ones that wait for a person"`
	}
	register(a, access.RegisterDevices, operation{
		id: "registerDevice", method: http.MethodPost, path: "/registrations", tag: tagDevices,
		summary:     "Register a device from a rig",
		description: "A rig vouches for the device in front of it and gets the verdict at once; any verdict is answered with status 200. Asking again is safe with or without an idempotency key: until the device has used its certificate, the same key gets the same certificate and takes no second unit of the quota.",
	}, a.registerDevice)
	register(a, access.ReadDevices, operation{
		id: "listRegistrations", method: http.MethodGet, path: "/registrations", tag: tagDevices,
		summary: "List registrations, newest first", errors: []int{400},
	}, func(ctx context.Context, c *call, in *list) (*listOutput[vetting.Registration], error) {
		f := vetting.RegistrationFilter{Site: in.Site, Order: in.Order, Outcome: in.Verdict, DeviceID: in.Device, Undecided: in.Undecided}
		return listing(in.PageInput, "registrations", func(r *vetting.Registration) int64 { return r.ID },
			func(p vetting.Page) ([]*vetting.Registration, error) { return c.Registrations(ctx, f, p) })
	})
	register(a, access.ReadDevices, operation{
		id: "getRegistration", method: http.MethodGet, path: "/registrations/{id}", tag: tagDevices,
		summary: "Show a registration",
	}, func(ctx context.Context, c *call, in *idInput) (*bodyOutput[vetting.Registration], error) {
		return answer(c.Registration(ctx, in.ID))
	})
	register(a, access.Decide, operation{
		id: "decideRegistration", method: http.MethodPost, path: "/registrations/{id}/decision", tag: tagDevices,
		summary:     "Decide a held registration",
		description: "The decision takes effect when the device asks again. It lifts a hold, never a quota.",
	}, func(ctx context.Context, c *call, in *idBody[DecisionInput]) (*bodyOutput[vetting.Registration], error) {
		d := vetting.Decision{Admit: in.Body.Admit, Note: in.Body.Note, By: c.Operator().Name, At: a.config.Now().UTC()}
		return answer(c.DecideRegistration(ctx, c.act, in.ID, d))
	})
}

func (a *API) registerDevice(ctx context.Context, c *call, in *bodyOf[RegistrationInput]) (*bodyOutput[RegistrationResult], error) {
	asserted, err := in.Body.identity("body")
	if err != nil {
		return nil, err
	}
	csr, err := parseCSR(in.Body.CSR)
	if err != nil {
		return nil, err
	}
	op := c.Operator()
	auth := vetting.Auth{Proof: vetting.ProofRig, Key: op.Key, Operator: op.Name, Site: op.Site}
	if in.Body.Code != "" {
		code, err := vetting.ParseOneTimeCode(in.Body.Code)
		if err != nil {
			return nil, invalid("body.code", "%v", err)
		}
		auth.CodeHash = code.Hash()
	}
	out, err := a.config.Enroller.Enroll(ctx, enroll.Request{
		CSR: csr,
		Claim: vetting.Claim{
			At: a.config.Now().UTC(), Key: vetting.KeyFingerprint(csr.RawSubjectPublicKeyInfo), Auth: auth,
			Asserted: asserted, Label: in.Body.Product, Subject: csr.RawSubject,
			Transport: "api", Remote: remote(c.r),
		},
	})
	if err != nil {
		return nil, err
	}
	return &bodyOutput[RegistrationResult]{result(out)}, nil
}

func result(out enroll.Outcome) *RegistrationResult {
	res := &RegistrationResult{
		Registration: out.Registration, Verdict: out.Verdict,
		Reasons:    append([]vetting.Reason{}, out.Reasons...),
		RetryAfter: int64((out.RetryAfter + time.Second - 1) / time.Second),
	}
	if len(out.Certificate) > 0 {
		res.Certificate = toPEM(out.Certificate)
	}
	return res
}

// remote is the peer's address without its port, which tells nothing.
func remote(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}

// parseCSR reads a PKCS#10 request from PEM or base64. Its errors are
// *enroll.RequestErrors.
func parseCSR(text string) (*x509.CertificateRequest, error) {
	if strings.Contains(text, "-----BEGIN") {
		block, rest := pem.Decode([]byte(text))
		switch {
		case block == nil:
			return nil, enroll.BadRequest("csr: the PEM is damaged: send what \"openssl req -new\" wrote, line breaks included")
		case block.Type != "CERTIFICATE REQUEST" && block.Type != "NEW CERTIFICATE REQUEST":
			return nil, enroll.BadRequest("csr: the PEM holds a %q: want a CERTIFICATE REQUEST", block.Type)
		case strings.TrimSpace(string(rest)) != "":
			return nil, enroll.BadRequest("csr: something follows the certificate request: send it alone")
		}
		return enroll.ParseCSR(block.Bytes)
	}
	der, err := base64.StdEncoding.DecodeString(strings.NewReplacer(" ", "", "\t", "", "\r", "", "\n", "").Replace(text))
	if err != nil {
		return nil, enroll.BadRequest("csr: it is neither PEM nor base64 of DER: %v", err)
	}
	return enroll.ParseCSR(der)
}
