package est

import (
	"crypto/x509"
	"mime"
	"net/http"
	"strings"
	"time"

	"github.com/touchmark/touchmark/enroll"
	"github.com/touchmark/touchmark/enroll/httperr"
	"github.com/touchmark/touchmark/vetting"
)

// simpleenroll is a device's first enrolment, by its bootstrap certificate,
// an enrolment code, or through a rig (RFC 7030 §4.2.1, §3.2.3, §3.7).
func (h *Handler) simpleenroll(x *exchange) error {
	if err := h.authenticate(x); err != nil {
		return err
	}
	csr, err := h.request(x, enroll.ParseCSR)
	if err != nil {
		return err
	}
	if x.client.Auth.Proof == vetting.ProofOfficial {
		return httperr.New(http.StatusForbidden, "the client certificate is the official one: a device that has it renews with /simplereenroll")
	}
	claim, err := h.claim(x, csr)
	if err != nil {
		return err
	}
	return h.enrol(x, enroll.Request{Claim: claim, CSR: csr}, x.answerCertificate)
}

// simplereenroll renews or re-keys by the official certificate (RFC 7030
// §4.2.2).
func (h *Handler) simplereenroll(x *exchange) error {
	if err := h.identify(x); err != nil {
		return err
	}
	csr, err := h.request(x, enroll.ParseCSR)
	if err != nil {
		return err
	}
	if x.client.Auth.Proof != vetting.ProofOfficial {
		return httperr.New(http.StatusForbidden, "/simplereenroll renews the certificate that the client presents, and this is not an official one: enrol with /simpleenroll first")
	}
	claim, err := h.claim(x, csr)
	if err != nil {
		return err
	}
	return h.enrol(x, enroll.Request{Claim: claim, CSR: csr, Presented: x.client.Certificate}, x.answerCertificate)
}

// request reads the PKCS#10 of a client that is known.
func (h *Handler) request(x *exchange, parse func([]byte) (*x509.CertificateRequest, error)) (*x509.CertificateRequest, error) {
	if x.client == nil {
		return nil, httperr.New(http.StatusUnauthorized, "no client certificate was presented in the TLS handshake: use the bootstrap certificate, the official one, or a rig's")
	}
	if err := checkType(x.r.Header.Get("Content-Type")); err != nil {
		return nil, err
	}
	der, err := readBody(x.r)
	if err != nil {
		return nil, err
	}
	csr, err := parse(der)
	if err != nil {
		return nil, err
	}
	return csr, checkBinding(csr, x.r.TLS)
}

// checkType wants application/pkcs10, parameters aside (RFC 7030 §4.2.1).
func checkType(contentType string) error {
	kind, _, err := mime.ParseMediaType(contentType)
	if err != nil {
		kind, _, _ = strings.Cut(contentType, ";")
	}
	if !strings.EqualFold(strings.TrimSpace(kind), "application/pkcs10") {
		return httperr.New(http.StatusUnsupportedMediaType, "the Content-Type is %q: send application/pkcs10", contentType)
	}
	return nil
}

// claim is what the wire proved.
func (h *Handler) claim(x *exchange, csr *x509.CertificateRequest) (vetting.Claim, error) {
	c := vetting.Claim{
		At: h.Now(), Key: vetting.KeyFingerprint(csr.RawSubjectPublicKeyInfo), Auth: x.client.Auth, Asserted: x.client.Asserted, Vendors: x.client.Vendors,
		Label: x.label, Subject: csr.RawSubject, Transport: "est", Remote: httperr.Remote(x.r),
	}
	if c.Auth.Proof != vetting.ProofRig {
		return c, nil
	}
	// A rig names the device in the request it passes on.
	id, err := enroll.AssertedIdentity(csr.Subject.Names)
	if err != nil {
		return c, enroll.BadRequest("the request's subject: %v", err)
	}
	if err := x.name(&id); err != nil {
		return c, err
	}
	if id.IsZero() {
		return c, enroll.BadRequest("the request of a rig must name the device: put its serial number into the subject's serialNumber or common name")
	}
	c.Asserted = id
	return c, nil
}

// enrol runs the request and answers with the outcome; admitted answers an
// admission.
func (h *Handler) enrol(x *exchange, r enroll.Request, admitted func(enroll.Outcome) error) error {
	out, err := h.Enroller.Enroll(x.r.Context(), r)
	if err != nil {
		return err
	}
	switch out.Verdict {
	case vetting.Admitted:
		return admitted(out)
	case vetting.Held:
		// a 202 always says when to come again (RFC 7030 §4.2.3)
		httperr.SetRetryAfter(x.w.Header(), max(out.RetryAfter, time.Second))
		plain(x.w, http.StatusAccepted, out.Text())
	default:
		if out.Reasons[0].Code == vetting.ReasonWrongCode {
			return x.challenged(httperr.New(http.StatusUnauthorized, "%s", out.Text()))
		}
		httperr.SetRetryAfter(x.w.Header(), out.RetryAfter)
		return httperr.New(http.StatusForbidden, "%s", out.Text())
	}
	return nil
}

func (x *exchange) answerCertificate(out enroll.Outcome) error {
	body, err := certsOnly(out.Certificate) // and no other (RFC 7030 §4.2.3)
	if err != nil {
		return err
	}
	x.answer("application/pkcs7-mime; smime-type=certs-only", body)
	return nil
}
