package acme

import (
	"context"
	"errors"
	"net/http"
	"slices"

	"github.com/touchmark/touchmark/enroll/certorder"
)

// challenge takes the answer to a challenge (RFC 8555 §7.5.1) and validates it
// at once: so there is nothing for a server to remember, or to lose.
func (h *Handler) challenge(x *exchange, args []int64) error {
	o, err := h.order(x, args[0])
	if err != nil {
		return err
	}
	i := int(args[1] - 1)
	if args[1] > int64(len(o.Authorization.Challenges)) {
		return problem(http.StatusNotFound, malformed, "this account has no such object")
	}
	if !x.asGet() && o.At(h.Now()) == certorder.Pending && o.Authorization.Challenges[i].Status == certorder.Pending {
		if o, err = h.validate(x, o, i); err != nil {
			return err
		}
	}
	x.w.Header().Add("Link", `<`+x.url("authz", o.ID)+`>;rel="up"`)
	x.write(http.StatusOK, x.challengeOutput(o, i))
	return nil
}

// validate finds out whether a challenge was met and keeps what it came to.
// One that was not takes its authorization and order with it (RFC 8555 §7.1.6).
func (h *Handler) validate(x *exchange, have *certorder.Order, i int) (*certorder.Order, error) {
	ctx := x.r.Context()
	o := *have
	o.Authorization.Challenges = slices.Clone(o.Authorization.Challenges)
	c := &o.Authorization.Challenges[i]
	proved, err := h.Validator.Validate(ctx, Trial{Type: c.Type, Token: c.Token, Identifier: o.Identifier, Key: x.key, Payload: x.payload})
	failed := new(certorder.Problem)
	switch {
	case errors.As(err, &failed):
		c.Status, c.Problem = certorder.Invalid, failed
		o.Authorization.Status, o.Status, o.Problem = certorder.Invalid, certorder.Invalid, failed
		h.Refused(failed.Type)
		h.suspect(ctx, &o, failed)
	case err != nil:
		return nil, err
	default:
		c.Status, c.Validated = certorder.Valid, h.Now().UTC()
		o.Authorization.Status, o.Status = certorder.Valid, certorder.Ready
		o.Authorization.Key, o.Authorization.Matches = proved.Key, proved.Matches
	}
	err = h.Keeper.ChangeCertificateOrder(ctx, &o)
	if errors.Is(err, certorder.ErrStale) { // the same answer at the same time
		return h.order(x, o.ID)
	}
	return &o, err
}

// suspect keeps a bad attestation as evidence. That it cannot be kept is no
// reason to answer otherwise.
func (h *Handler) suspect(ctx context.Context, o *certorder.Order, p *certorder.Problem) {
	id, err := o.Identifier.Identity()
	if p.Type != badAttestationStatement || err != nil {
		return
	}
	if err := h.Witness.BadAttestation(ctx, id, "An attestation statement that came for it over ACME is not what it should be: "+clip(p.Detail)); err != nil {
		h.Log.WarnContext(ctx, "a bad attestation was not kept as evidence", "identifier", o.Identifier.Value, "error", err)
	}
}
