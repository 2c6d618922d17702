package rest

import (
	"context"
	"net/http"

	"github.com/touchmark/touchmark/enroll/httperr"
	"github.com/touchmark/touchmark/vetting"
)

// Challenges are those to devices, to prove that they hold their keys.
type Challenges interface {
	// AnswerByTLS keeps that the holder of a certificate's key, by serial
	// number in hex, answered; again by the same is no second answer. The
	// error is a *vetting.Error: NotFound if there is no such challenge,
	// Conflict if it was answered by another or expired, Invalid if there is
	// no such certificate.
	AnswerByTLS(ctx context.Context, nonce vetting.Nonce, certificate string) (*vetting.Challenge, error)
}

// challenge takes the answer of a device that came itself: the handshake has
// proved its key.
func (h *Handler) challenge(_ http.ResponseWriter, r *http.Request) (any, error) {
	nonce, err := vetting.ParseNonce(r.PathValue("nonce"))
	if err != nil {
		return nil, httperr.New(http.StatusBadRequest, "%v", err)
	}
	client, err := h.official(r)
	if err != nil {
		return nil, err
	}
	c, err := h.Challenges.AnswerByTLS(r.Context(), nonce, client.Auth.Certificate)
	switch vetting.ProblemOf(err) {
	case vetting.NotFound:
		return nil, httperr.New(http.StatusNotFound, "%v", err)
	case vetting.Conflict:
		return nil, httperr.New(http.StatusConflict, "%v", err)
	case vetting.Invalid:
		return nil, httperr.New(http.StatusForbidden, "the certificate %s is not one that this server issued to a device", client.Auth.Certificate)
	}
	switch {
	case err != nil:
		return nil, err
	case c.Result.Outcome != vetting.Proved:
		return nil, httperr.New(http.StatusForbidden, "%s", c.Result.Text)
	}
	return c.Result, nil
}
