package api

import (
	"crypto/x509"
	"net/http"
	"slices"

	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/vetting"
)

// authenticate finds the operator whose key made the TLS connection. The
// certificate shows that one of our CAs let the key in; who holds it, and
// what for, only the store knows.
func (a *API) authenticate(r *http.Request) (*access.Operator, error) {
	if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
		return nil, unauthorized("no client certificate was presented: connect with the certificate and key of an operator (curl: --cert and --key)")
	}
	cert := r.TLS.PeerCertificates[0]
	if !isClient(cert) {
		return nil, unauthorized("the certificate of %q is not for TLS clients: its extended key usage lacks clientAuth", cert.Subject)
	}
	now := a.config.Now()
	office := a.config.Authorities.VerifyOperator(cert, now)
	factory := a.config.Authorities.VerifyFactory(cert, now)
	if office != nil && factory != nil {
		return nil, unauthorized("the client certificate of %q is not accepted. As an operator's: %v. As a site operator's or rig's: %v", cert.Subject, office, factory)
	}
	op, err := a.gate.Holder(r.Context(), vetting.KeyFingerprint(cert.RawSubjectPublicKeyInfo))
	switch {
	case vetting.ProblemOf(err) == vetting.NotFound:
		return nil, unauthorized("the client certificate of %q is genuine, but its key belongs to no operator: ask an admin to register it", cert.Subject)
	case err != nil:
		return nil, err
	}
	return op, checkOperator(op, cert, office, factory)
}

// Only lets operators through to a handler beside the API.
func (a *API) Only(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := a.authenticate(r); err != nil {
			a.problemOf(r.Context(), err).write(w)
			return
		}
		h.ServeHTTP(w, r)
	})
}

// isClient reports whether a certificate may authenticate a client (RFC 5280
// §4.2.1.12). The CAs issue others too, such as the server's own.
func isClient(cert *x509.Certificate) bool {
	return slices.Contains(cert.ExtKeyUsage, x509.ExtKeyUsageClientAuth)
}

// checkOperator holds the operator's standing against the certificate that
// was presented.
func checkOperator(op *access.Operator, cert *x509.Certificate, office, factory error) error {
	wrong := office
	if op.Role.OfSite() {
		wrong = factory
	}
	switch {
	case !op.Revoked.IsZero():
		return unauthorized("operator %s was revoked at %s: ask an admin for a new one", op.Name, op.Revoked.UTC().Format("2006-01-02 15:04:05Z"))
	case wrong != nil:
		return unauthorized("the client certificate of %q does not fit the role %s of operator %s: %v", cert.Subject, op.Role, op.Name, wrong)
	case op.Role.OfSite() && op.Site == "":
		return unauthorized("operator %s has the role %s but no site: ask an admin for a new one", op.Name, op.Role)
	case op.Role.OfOwner() && op.Owner == "":
		return unauthorized("operator %s has the role %s but no owner: ask an admin for a new one", op.Name, op.Role)
	}
	return nil
}

// unauthorized is a 401, which must carry a challenge (RFC 9110 §15.5.2). No
// registered scheme stands for TLS client certificates.
func unauthorized(format string, args ...any) *Problem {
	return problem(http.StatusUnauthorized, format, args...).with("WWW-Authenticate", `TLS-Client-Certificate realm="touchmark"`)
}
