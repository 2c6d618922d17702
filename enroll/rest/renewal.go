package rest

import (
	"bytes"
	"crypto/x509"
	"math"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/touchmark/touchmark/enroll"
	"github.com/touchmark/touchmark/enroll/httperr"
	"github.com/touchmark/touchmark/vetting"
)

// RenewalInfo is when a certificate should be renewed, in the shape of ACME's
// renewal information (RFC 9773 §4.2). A device takes a moment in the window
// by chance; a window that is over means at once.
type RenewalInfo struct {
	SuggestedWindow vetting.Window `json:"suggestedWindow"`
}

// renewalInfo answers anybody, as RFC 9773 §4.1 has it: the name of a
// certificate is no secret, and neither is when it renews.
func (h *Handler) renewalInfo(w http.ResponseWriter, r *http.Request) (any, error) {
	aki, serial, err := h.certificate(r.PathValue("id"))
	if err != nil {
		return nil, err
	}
	s, err := h.Lives.Standing(r.Context(), serial)
	if vetting.ProblemOf(err) == vetting.NotFound || err == nil && !issuedBy(aki, s.Certificate.DER) {
		return nil, httperr.New(http.StatusNotFound, "no certificate of the CA with the key identifier %x has the serial number %s", aki, serial)
	}
	if err != nil {
		return nil, err
	}
	back := h.CheckBack
	if back == 0 {
		back = 6 * time.Hour
	}
	// RFC 9773 §4.3: every answer says when to ask again.
	w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(back.Seconds()))))
	return RenewalInfo{SuggestedWindow: s.Renew()}, nil
}

// issuedBy reports whether a certificate names the CA with that key
// identifier as its issuer.
func issuedBy(aki, der []byte) bool {
	cert, err := x509.ParseCertificate(der)
	return err == nil && bytes.Equal(cert.AuthorityKeyId, aki)
}

// certificate reads the name that RFC 9773 §4.1 gives a certificate of one of
// this server's CAs.
func (h *Handler) certificate(id string) (aki []byte, serial string, err error) {
	aki, serial, err = enroll.ParseRenewalID(id)
	if err != nil {
		return nil, "", httperr.New(http.StatusBadRequest, "%v", err)
	}
	if !slices.ContainsFunc(h.Issuers(), func(k []byte) bool { return bytes.Equal(k, aki) }) {
		return nil, "", httperr.New(http.StatusNotFound, "no CA of this server that issues to devices has the key identifier %x", aki)
	}
	return aki, serial, nil
}
