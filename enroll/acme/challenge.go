package acme

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"time"

	"github.com/touchmark/touchmark/enroll/certorder"
	"github.com/touchmark/touchmark/enroll/httperr"
)

// challenge takes the answer to a challenge (RFC 8555 §7.5.1) and validates it
// at once: so there is nothing for a server to remember, or to lose. One of a
// server that could not be reached is processing until the client asks again,
// by another answer or by looking (§8.2).
func (h *Handler) challenge(x *exchange, args []int64) error {
	answered := func(o *certorder.Order) bool {
		return !x.asGet() && args[1] <= int64(len(o.Authorization.Challenges)) && h.answerable(o, int(args[1]-1))
	}
	o, _, err := h.recallOrder(x, args[0], answered)
	if err != nil {
		return err
	}
	if args[1] > int64(len(o.Authorization.Challenges)) {
		return problem(http.StatusNotFound, malformed, "this account has no such object")
	}
	i := int(args[1] - 1)
	if answered(o) {
		o, err = h.validate(x, o, i)
	} else {
		o, err = h.lookAgain(x, o)
	}
	if err != nil {
		return err
	}
	h.sayWhen(x, o.Authorization.Challenges[i])
	x.w.Header().Add("Link", `<`+x.url("authz", o.ID)+`>;rel="up"`)
	x.write(http.StatusOK, x.challengeOutput(o, i))
	return nil
}

// answerable reports whether an answer to a challenge would count.
func (h *Handler) answerable(o *certorder.Order, i int) bool {
	s := o.Authorization.Challenges[i].Status
	return o.At(h.Now()) == certorder.Pending && (s == certorder.Pending || s == certorder.Processing)
}

// lookAgain validates the challenge that is processing, if its time has come.
func (h *Handler) lookAgain(x *exchange, o *certorder.Order) (*certorder.Order, error) {
	for i, c := range o.Authorization.Challenges {
		if c.Status == certorder.Processing && h.answerable(o, i) && !h.Now().Before(c.Again) {
			return h.validate(x, o, i)
		}
	}
	return o, nil
}

// sayWhen tells a client when to look at a challenge again (RFC 8555 §8.2).
func (h *Handler) sayWhen(x *exchange, c certorder.Challenge) {
	if c.Status == certorder.Processing {
		httperr.SetRetryAfter(x.w.Header(), max(c.Again.Sub(h.Now()), time.Second))
	}
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
	switch c.Tries++; {
	case errors.As(err, &failed) && (failed.Type == connection || failed.Type == dns) && c.Tries < tries:
		c.Status, c.Problem, c.Again = certorder.Processing, failed, h.Now().Add(pollAfter).UTC()
		h.Refused(failed.Type)
	case errors.As(err, &failed):
		// Before it counts against the device: was it answered elsewhere?
		if now, err := h.order(x, o.ID); err != nil || now.Revision != o.Revision {
			return now, err
		}
		c.Status, c.Problem = certorder.Invalid, failed
		o.Authorization.Status, o.Status, o.Problem = certorder.Invalid, certorder.Invalid, failed
		h.Refused(failed.Type)
		h.suspect(ctx, &o, failed)
	case err != nil:
		return nil, err
	default:
		c.Status, c.Validated, c.Problem = certorder.Valid, h.Now().UTC(), nil
		o.Authorization.Status, o.Status = certorder.Valid, certorder.Ready
		o.Authorization.Key, o.Authorization.Matches = proved.Key, proved.Matches
	}
	err = h.change(x, x.account, &o, nil)
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
