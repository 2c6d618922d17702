// Package rest is the devices' own door over HTTP, for what EST has no word
// for: activation, hints when to renew, and answers to challenges. It lives beside EST, on the same
// listener, below [Prefix]. Like every door it decides nothing.
package rest

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"time"

	"github.com/touchmark/touchmark/enroll"
	"github.com/touchmark/touchmark/enroll/httperr"
)

// Prefix is where the door lives.
const Prefix = "/device/v1/"

// Identifier tells who a client certificate speaks for; enroll.Authenticator
// implements it.
type Identifier interface {
	Identify(ctx context.Context, cert *x509.Certificate, issuers ...*x509.Certificate) (enroll.Client, error)
}

// Handler serves the door.
type Handler struct {
	Clients    Identifier
	Lives      enroll.Lives
	Challenges Challenges
	TPM        TPM
	// Issuers are the key identifiers of the CAs that issue to devices, as
	// their certificates' authorityKeyIdentifiers name them.
	Issuers func() [][]byte
	// CheckBack is how long a device may wait before it asks again when to
	// renew; 0 is 6 hours.
	CheckBack time.Duration
	Log       *slog.Logger
	Now       func() time.Time
}

// Routes adds the door's routes.
func (h *Handler) Routes(mux *http.ServeMux) {
	mux.HandleFunc("POST "+Prefix+"activation", h.answering(h.activation))
	mux.HandleFunc("POST "+Prefix+"challenges/{nonce}", h.answering(h.challenge))
	h.TPM.routes(h, mux)
	mux.HandleFunc("GET "+Prefix+"renewal-info/{id}", h.answering(h.renewalInfo))
	mux.HandleFunc(Prefix, h.answering(func(_ http.ResponseWriter, r *http.Request) (any, error) {
		return nil, httperr.New(http.StatusNotFound, "there is no %s %s; there are POST %sactivation, POST %schallenges/{nonce} and GET %srenewal-info/{certificate}", r.Method, r.URL.Path, Prefix, Prefix, Prefix)
	}))
}

// answering turns what a handler returns into an answer, and its error into
// a problem.
func (h *Handler) answering(do func(http.ResponseWriter, *http.Request) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		v, err := do(w, r)
		if err != nil {
			h.fail(w, r, err)
			return
		}
		write(w, http.StatusOK, "application/json", v)
	}
}

// activation notes that the device holds its official key: the handshake has
// proved it. Its bootstrap key is spent from then on.
func (h *Handler) activation(_ http.ResponseWriter, r *http.Request) (any, error) {
	c, err := h.official(r)
	if err != nil {
		return nil, err
	}
	return enroll.Activate(r.Context(), h.Lives, c)
}

// official is the client, if it came with its official certificate.
func (h *Handler) official(r *http.Request) (enroll.Client, error) {
	if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
		return enroll.Client{}, httperr.New(http.StatusUnauthorized, "no client certificate was presented in the TLS handshake: use the official one")
	}
	c, err := h.Clients.Identify(r.Context(), r.TLS.PeerCertificates[0])
	if err != nil {
		return c, err
	}
	return c, c.Official()
}

// fail is the one place where errors become answers: problem details (RFC
// 9457).
func (h *Handler) fail(w http.ResponseWriter, r *http.Request, err error) {
	a := httperr.To(r, err, h.Log, h.Now())
	httperr.SetRetryAfter(w.Header(), a.RetryAfter)
	write(w, a.Status, "application/problem+json", map[string]any{"title": http.StatusText(a.Status), "status": a.Status, "detail": a.Text})
}

func write(w http.ResponseWriter, status int, kind string, v any) {
	body, err := json.Marshal(v)
	if err != nil { // cannot happen: the answers above always marshal
		panic(fmt.Sprintf("rest: %v", err))
	}
	body = append(body, '\n')
	w.Header().Set("Content-Type", kind)
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if w.Header().Get("Cache-Control") == "" {
		w.Header().Set("Cache-Control", "no-store")
	}
	w.WriteHeader(status)
	_, _ = w.Write(body) // a client that is gone needs no answer
}
