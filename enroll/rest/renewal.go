package rest

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

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

// maxID is longer than any name of a certificate: 20 bytes of key identifier
// and 20 of serial number, in base64url.
const maxID = 128

// certificate reads the name that RFC 9773 §4.1 gives a certificate: its
// authority key identifier and the bytes of its serial number's DER, each as
// unpadded base64url, with a dot between. It returns the serial number as the
// store knows it.
func (h *Handler) certificate(id string) (aki []byte, serial string, err error) {
	if len(id) > maxID {
		return nil, "", httperr.New(http.StatusBadRequest, "the certificate's name is %d characters long: at most %d are accepted", len(id), maxID)
	}
	if strings.ContainsAny(id, "\r\n") { // which the decoder would pass over
		return nil, "", badName(id)
	}
	issuer, number, ok := strings.Cut(id, ".")
	aki, err = base64.RawURLEncoding.Strict().DecodeString(issuer)
	if !ok || err != nil || len(aki) == 0 {
		return nil, "", badName(id)
	}
	n, err := base64.RawURLEncoding.Strict().DecodeString(number)
	if err != nil || len(n) == 0 || n[0] >= 0x80 {
		return nil, "", badName(id)
	}
	if len(n) > 1 && n[0] == 0 { // the sign of the DER INTEGER
		if n = n[1:]; n[0] < 0x80 {
			return nil, "", badName(id)
		}
	}
	if !slices.ContainsFunc(h.Issuers(), func(k []byte) bool { return bytes.Equal(k, aki) }) {
		return nil, "", httperr.New(http.StatusNotFound, "no CA of this server that issues to devices has the key identifier %x", aki)
	}
	return aki, hex.EncodeToString(n), nil
}

func badName(id string) error {
	return httperr.New(http.StatusBadRequest, "%q does not name a certificate: want its authority key identifier and the DER of its serial number, each in base64url without padding, with a dot between (RFC 9773 §4.1)", id)
}
