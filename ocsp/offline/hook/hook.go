// Package hook answers brokers that ask over HTTP whether a client may
// connect, from offline status files alone: no server of ours is asked.
//
//	POST /emqx       the HTTP authenticator of EMQX 5: {"result": "allow"}
//	POST /user       the HTTP backend of mosquitto-go-auth: 200 or 403, {"ok": true}
//	POST /superuser  the same: never
//	POST /acl        the same: never; what a client may do is not known here
//	GET  /healthz    200 while all filters are in force
//
// A question carries the certificate that the client showed in TLS, in the
// field cert_pem of a JSON object or of a form: PEM, or base64 of PEM or DER.
package hook

import (
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/touchmark/touchmark/ocsp/offline"
)

// Hook is the handler.
type Hook struct {
	Files *Files
	// Open lets in whom the filters cannot tell about: a certificate that they
	// do not cover or of an issuing CA that none is of, a filter that is
	// outdated. It never lets in one that is not good, expired or forged.
	Open bool
	// Good is what EMQX is told of a good certificate: "allow", or "ignore" to
	// have the next authenticator decide.
	Good string
	Log  *slog.Logger
	Now  func() time.Time
}

// maxQuestion is more than any certificate that a TLS library accepts.
const maxQuestion = 256 << 10

// Handler serves the paths above.
func (h *Hook) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /emqx", h.emqx)
	mux.HandleFunc("POST /user", h.user)
	mux.HandleFunc("POST /superuser", h.never)
	mux.HandleFunc("POST /acl", h.never)
	mux.HandleFunc("GET /healthz", h.health)
	return mux
}

// emqx always answers with status 200: EMQX goes on to the next authenticator
// after any other.
func (h *Hook) emqx(w http.ResponseWriter, r *http.Request) {
	result := "deny"
	if h.admit(w, r) {
		result = h.Good
	}
	answer(w, http.StatusOK, map[string]any{"result": result, "is_superuser": false})
}

func (h *Hook) user(w http.ResponseWriter, r *http.Request) {
	if h.admit(w, r) {
		answer(w, http.StatusOK, map[string]any{"ok": true, "error": ""})
		return
	}
	h.never(w, r)
}

func (h *Hook) never(w http.ResponseWriter, _ *http.Request) {
	answer(w, http.StatusForbidden, map[string]any{"ok": false, "error": "refused"})
}

func (h *Hook) health(w http.ResponseWriter, _ *http.Request) {
	if err := h.Files.Filters(h.Log).inForce(h.Now()); err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, "ok")
}

func answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // the client may be gone
}

// admit reports whether the client may connect, and logs it if not.
func (h *Hook) admit(w http.ResponseWriter, r *http.Request) bool {
	q, err := ask(http.MaxBytesReader(w, r.Body, maxQuestion), r.Header.Get("Content-Type"))
	var cert *x509.Certificate
	if err == nil {
		cert, err = certificateOf(q.CertPEM)
	}
	if err != nil {
		h.Log.Error("refused: the broker's question cannot be understood", "error", err, "path", r.URL.Path)
		return false
	}
	log := h.Log.With("serial", fmt.Sprintf("%x", cert.SerialNumber.Bytes()), "subject", cert.Subject.String(), "clientid", q.ClientID)
	err = h.Files.Filters(h.Log).Check(cert, h.Now())
	switch {
	case err == nil:
		return true
	case h.Open && (errors.Is(err, offline.ErrNotCovered) || errors.Is(err, offline.ErrOutdated)):
		log.Warn("let in although nobody can tell whether the certificate is good", "error", err)
		return true
	}
	log.Warn("refused", "error", err)
	return false
}

// question is what a broker tells of a client.
type question struct {
	ClientID string `json:"clientid"`
	CertPEM  string `json:"cert_pem"`
}

func ask(body io.Reader, contentType string) (q question, err error) {
	text, err := io.ReadAll(body)
	if err != nil {
		return q, err
	}
	if kind, _, _ := mime.ParseMediaType(contentType); kind == "application/x-www-form-urlencoded" {
		form, err := url.ParseQuery(string(text))
		return question{form.Get("clientid"), form.Get("cert_pem")}, err
	}
	if err := json.Unmarshal(text, &q); err != nil {
		return q, fmt.Errorf("its body is no JSON object: %w", err)
	}
	return q, nil
}

// certificateOf reads a certificate as brokers give it.
func certificateOf(text string) (*x509.Certificate, error) {
	text = strings.TrimSpace(text)
	if text == "" {
		return nil, errors.New("it has no cert_pem: let the broker ask clients for a certificate and hand it on")
	}
	if !strings.HasPrefix(text, "-----BEGIN") {
		der, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			return nil, fmt.Errorf("its cert_pem is neither PEM nor base64: %w", err)
		}
		if len(der) > 0 && der[0] == 0x30 { // a DER SEQUENCE
			return x509.ParseCertificate(der)
		}
		text = string(der)
	}
	block, _ := pem.Decode([]byte(text))
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, errors.New("its cert_pem holds no certificate")
	}
	return x509.ParseCertificate(block.Bytes)
}
