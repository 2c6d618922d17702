package mqtt

import (
	"context"
	"net/http"

	"github.com/touchmark/touchmark/enroll"
	"github.com/touchmark/touchmark/enroll/httperr"
	"github.com/touchmark/touchmark/vetting"
)

// byTPM is the exchange of docs/tpm.md.
func (h *Handler) byTPM(ctx context.Context, x *exchange) (*reply, error) {
	proof := x.request.TPM
	if proof == nil {
		return nil, enroll.BadRequest("the request has no field tpm: it holds what the TPM says")
	}
	if x.request.Operation == opTPMChallenge {
		hello := proof.Hello
		hello.Product = x.request.Product
		c, err := h.TPM.Challenge(ctx, hello)
		if err != nil {
			return nil, err
		}
		return &reply{Status: http.StatusOK, TPM: c}, nil
	}
	if err := h.checkProduct(ctx, x.request.Product); err != nil {
		return nil, err
	}
	r, err := h.TPM.Request(ctx, proof, x.request.CSR,
		vetting.Claim{Label: x.request.Product, Message: x.digest, Transport: transport, Remote: x.remote})
	if err != nil {
		return nil, err
	}
	if r.Claim.Key != vetting.Fingerprint(x.branch) {
		return nil, httperr.New(http.StatusForbidden, "%s is signed by the key to be certified, and published in its branch; this is signed by another", opTPMEnrol)
	}
	out, err := h.Enroller.Enroll(ctx, r)
	if err != nil {
		return nil, err
	}
	return h.outcome(out), nil
}
