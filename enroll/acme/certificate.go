package acme

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"net/http"

	"github.com/touchmark/touchmark/enroll"
	"github.com/touchmark/touchmark/enroll/certorder"
	"github.com/touchmark/touchmark/enroll/httperr"
	"github.com/touchmark/touchmark/vetting"
)

// certificate answers with an order's certificate and what is between it and
// its root (RFC 8555 §7.4.2).
func (h *Handler) certificate(x *exchange, args []int64) error {
	o, leaf, err := h.recallOrder(x, args[0], func(o *certorder.Order) bool { return o.Status == certorder.Valid })
	if err != nil {
		return err
	}
	if o.Status != certorder.Valid {
		return problem(http.StatusNotFound, malformed, "the order is %s and has no certificate", o.Status)
	}
	if leaf == nil {
		s, err := h.Lives.Standing(x.r.Context(), o.Certificate)
		if err != nil {
			return err
		}
		leaf = s.Certificate.DER
	}
	var body bytes.Buffer
	for _, der := range append([][]byte{leaf}, h.chain(leaf)...) {
		if err := pem.Encode(&body, &pem.Block{Type: "CERTIFICATE", Bytes: der}); err != nil {
			return err
		}
	}
	x.send("application/pem-certificate-chain", http.StatusOK, body.Bytes())
	return nil
}

// maxChain is more certificates than a chain of ours has.
const maxChain = 8

// chain finds the CAs above a certificate, without the root, which a client
// must have already (RFC 8555 §9.1).
func (h *Handler) chain(leaf []byte) (above [][]byte) {
	at, err := x509.ParseCertificate(leaf)
	cas := h.CACerts()
	for err == nil && len(above) < maxChain {
		issuer := h.issuerOf(at, cas)
		if issuer == nil || bytes.Equal(issuer.RawIssuer, issuer.RawSubject) {
			break
		}
		above, at = append(above, issuer.Raw), issuer
	}
	return above
}

func (h *Handler) issuerOf(c *x509.Certificate, cas [][]byte) *x509.Certificate {
	for _, der := range cas {
		ca, err := h.parsedCA(der)
		if err == nil && issuedBy(ca, c) {
			return ca
		}
	}
	return nil
}

// parsedCA parses each CA's certificate once; there are few, and new ones are
// rare.
func (h *Handler) parsedCA(der []byte) (*x509.Certificate, error) {
	if ca, ok := h.parsed.Load(string(der)); ok {
		return ca.(*x509.Certificate), nil
	}
	ca, err := x509.ParseCertificate(der)
	if err == nil {
		h.parsed.Store(string(der), ca)
	}
	return ca, err
}

// issuedBy tells CAs of one name apart by their key identifiers. Where there is
// none, by the signature; that takes longer than all else of a download.
func issuedBy(ca, c *x509.Certificate) bool {
	switch {
	case !bytes.Equal(ca.RawSubject, c.RawIssuer):
		return false
	case len(ca.SubjectKeyId) > 0 && len(c.AuthorityKeyId) > 0:
		return bytes.Equal(ca.SubjectKeyId, c.AuthorityKeyId)
	}
	return c.CheckSignatureFrom(ca) == nil
}

// revoke revokes a certificate by the word of the account that has it, or of
// its own key (RFC 8555 §7.6).
func (h *Handler) revoke(x *exchange, _ []int64) error {
	var in struct {
		Certificate string `json:"certificate"`
		Reason      int    `json:"reason"`
	}
	if err := decode(x.payload, &in); err != nil {
		return err
	}
	der, err := base64.RawURLEncoding.DecodeString(in.Certificate)
	if err != nil {
		return problem(400, malformed, "certificate is not DER in base64url without padding: %v", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return problem(400, malformed, "certificate cannot be read: %v", err)
	}
	reason := vetting.ReasonName(in.Reason)
	if _, err := reason.Code(); err != nil {
		return problem(400, badRevocationReason, "%v", err)
	}
	serial := enroll.SerialHex(cert)
	s, err := h.Lives.Standing(x.r.Context(), serial)
	if vetting.ProblemOf(err) == vetting.NotFound || err == nil && !bytes.Equal(s.Certificate.DER, der) {
		return problem(http.StatusNotFound, malformed, "the certificate %s is not one that this server issued to a device", serial)
	}
	if err != nil {
		return err
	}
	by, err := h.holder(x, cert, serial)
	if err != nil {
		return err
	}
	err = h.Revoker.RevokeByHolder(x.r.Context(), by, serial, reason)
	if vetting.ProblemOf(err) == vetting.Conflict {
		return problem(400, alreadyRevoked, "%v", err)
	}
	if err != nil {
		return err
	}
	x.w.WriteHeader(http.StatusOK)
	return nil
}

// holder names who may revoke a certificate, if the request is theirs.
func (h *Handler) holder(x *exchange, cert *x509.Certificate, serial string) (string, error) {
	no := problem(http.StatusForbidden, unauthorized, "neither is the certificate of this account, nor is the request signed by its key")
	if x.account == nil {
		spki, err := x509.MarshalPKIXPublicKey(x.key.Key)
		if err != nil || !bytes.Equal(spki, cert.RawSubjectPublicKeyInfo) {
			return "", no
		}
		return "certificate:" + serial, nil
	}
	o, err := h.Keeper.OrderOfCertificate(x.r.Context(), serial)
	switch {
	case vetting.ProblemOf(err) == vetting.NotFound || err == nil && o.Account != x.account.ID:
		return "", no
	case err != nil:
		return "", err
	}
	return fmt.Sprintf("acme-account:%d", x.account.ID), nil
}

// renewalInfo tells anybody when a certificate should be renewed (RFC 9773
// §4.1): its name is no secret.
func (h *Handler) renewalInfo(x *exchange, id string) error {
	s, err := h.named(x.r.Context(), id)
	if err != nil {
		return err
	}
	httperr.SetRetryAfter(x.w.Header(), checkBack) // always (§4.3)
	x.write(http.StatusOK, map[string]any{"suggestedWindow": s.Renew()})
	return nil
}

// named finds a certificate by the name that RFC 9773 §4.1 gives it.
func (h *Handler) named(ctx context.Context, id string) (s vetting.Standing, err error) {
	aki, serial, err := enroll.ParseRenewalID(id)
	if err != nil {
		return s, problem(400, malformed, "%v", err)
	}
	s, err = h.Lives.Standing(ctx, serial)
	if err == nil {
		if cert, perr := x509.ParseCertificate(s.Certificate.DER); perr != nil || !bytes.Equal(cert.AuthorityKeyId, aki) {
			err = vetting.Errorf(vetting.NotFound, "")
		}
	}
	if vetting.ProblemOf(err) == vetting.NotFound {
		return s, problem(http.StatusNotFound, malformed, "no certificate of the CA with the key identifier %x has the serial number %s", aki, serial)
	}
	return s, err
}

// certificateID names a certificate as RFC 9773 §4.1 does; "" if it is not
// there any more.
func (h *Handler) certificateID(x *exchange, serial string) string {
	s, err := h.Lives.Standing(x.r.Context(), serial)
	if err != nil {
		return ""
	}
	cert, err := x509.ParseCertificate(s.Certificate.DER)
	number, herr := hex.DecodeString(serial)
	if err != nil || herr != nil {
		return ""
	}
	if len(number) > 0 && number[0] >= 0x80 {
		number = append([]byte{0}, number...)
	}
	return base64.RawURLEncoding.EncodeToString(cert.AuthorityKeyId) + "." + base64.RawURLEncoding.EncodeToString(number)
}

// replaced finds the certificate that an order says it replaces (RFC 9773 §5):
// this account's, for the same identifier.
func (h *Handler) replaced(x *exchange, id string, of certorder.Identifier) (serial string, err error) {
	s, err := h.named(x.r.Context(), id)
	if err != nil {
		return "", err
	}
	serial = s.Certificate.Serial
	o, err := h.Keeper.OrderOfCertificate(x.r.Context(), serial)
	switch {
	case vetting.ProblemOf(err) == vetting.NotFound || err == nil && o.Account != x.account.ID:
		return "", problem(http.StatusForbidden, unauthorized, "the certificate that the order replaces is not of this account: leave replaces out")
	case err != nil:
		return "", err
	case o.Identifier != of:
		return "", problem(http.StatusForbidden, unauthorized, "the certificate that the order replaces is for %q, the order for %q: leave replaces out", o.Identifier.Value, of.Value)
	}
	return serial, nil
}
