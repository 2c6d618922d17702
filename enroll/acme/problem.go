package acme

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/touchmark/touchmark/enroll"
	"github.com/touchmark/touchmark/enroll/certorder"
	"github.com/touchmark/touchmark/enroll/httperr"
	"github.com/touchmark/touchmark/vetting"
)

// Types of problems (RFC 8555 §6.7, RFC 9773 §7.4, draft-ietf-acme-device-attest
// §7).
const (
	accountDoesNotExist     = "accountDoesNotExist"
	alreadyReplaced         = "alreadyReplaced"
	alreadyRevoked          = "alreadyRevoked"
	badAttestationStatement = "badAttestationStatement"
	badCSR                  = "badCSR"
	badNonce                = "badNonce"
	badPublicKey            = "badPublicKey"
	badRevocationReason     = "badRevocationReason"
	badSignatureAlgorithm   = "badSignatureAlgorithm"
	connection              = "connection"
	dns                     = "dns"
	externalAccountRequired = "externalAccountRequired"
	malformed               = "malformed"
	orderNotReady           = "orderNotReady"
	rateLimited             = "rateLimited"
	rejectedIdentifier      = "rejectedIdentifier"
	serverInternal          = "serverInternal"
	unauthorized            = "unauthorized"
	unsupportedContact      = "unsupportedContact"
	unsupportedIdentifier   = "unsupportedIdentifier"
	userActionRequired      = "userActionRequired"
)

func problem(status int, kind, format string, args ...any) error {
	return &certorder.Problem{Type: kind, Detail: fmt.Sprintf(format, args...), Status: status}
}

const namespace = "urn:ietf:params:acme:error:"

// problemDocument is a problem as clients see it (RFC 8555 §6.7).
type problemDocument struct {
	Type   string `json:"type"`
	Detail string `json:"detail"`
	Status int    `json:"status,omitempty"`
}

func document(p *certorder.Problem) *problemDocument {
	if p == nil {
		return nil
	}
	return &problemDocument{Type: namespace + p.Type, Detail: p.Detail, Status: p.HTTPStatus()}
}

// fail is the one place where errors become answers. Each has a nonce, so that
// a client can go on.
func (h *Handler) fail(x *exchange, err error) {
	p, wait := h.problemOf(x, err)
	h.Refused(p.Type)
	h.giveNonce(x)
	httperr.SetRetryAfter(x.w.Header(), wait)
	x.writeAs("application/problem+json", p.HTTPStatus(), document(p))
}

// problemOf is what a client is told of an error.
func (h *Handler) problemOf(x *exchange, err error) (p *certorder.Problem, wait time.Duration) {
	switch {
	case errors.As(err, &p):
		return p, 0
	case vetting.ProblemOf(err) == vetting.NotFound:
		return &certorder.Problem{Type: malformed, Detail: err.Error(), Status: http.StatusNotFound}, 0
	case errors.Is(err, certorder.ErrStale) || errors.Is(err, certorder.ErrAccountChanged):
		return &certorder.Problem{Type: serverInternal, Detail: "another request changed the same at the same time: try again", Status: http.StatusServiceUnavailable}, time.Second
	}
	a := httperr.To(x.r, err, h.Log, h.Now())
	p = &certorder.Problem{Type: serverInternal, Detail: a.Text, Status: a.Status}
	busy, bad := new(enroll.BusyError), new(enroll.RequestError)
	switch {
	case errors.As(err, &busy):
		p.Type = rateLimited
	case errors.As(err, &bad):
		p.Type = badCSR
	}
	return p, a.RetryAfter
}

// refusal is the problem of an order that vetting refused: whether it is the
// identifier that counts for nothing, or the device that may not have a
// certificate now.
func refusal(out enroll.Outcome) *certorder.Problem {
	p := &certorder.Problem{Type: unauthorized, Detail: out.Text(), Status: http.StatusForbidden}
	if len(out.Reasons) == 0 {
		return p
	}
	switch out.Reasons[0].Code {
	case vetting.ReasonUnknownDevice, vetting.ReasonWrongKey, vetting.ReasonMismatch, vetting.ReasonDisputed,
		vetting.ReasonWrongSite, vetting.ReasonWrongOrder, vetting.ReasonWrongProduct, vetting.ReasonProof, vetting.ReasonVendor:
		p.Type = rejectedIdentifier
	}
	return p
}

func (x *exchange) write(status int, v any) { x.writeAs("application/json", status, v) }

func (x *exchange) writeAs(kind string, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil { // cannot happen: the answers above always marshal
		panic(fmt.Sprintf("acme: %v", err))
	}
	x.send(kind, status, append(body, '\n'))
}

func (x *exchange) send(kind string, status int, body []byte) {
	h := x.w.Header()
	h.Set("Content-Type", kind)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	h.Set("X-Content-Type-Options", "nosniff")
	x.w.WriteHeader(status)
	_, _ = x.w.Write(body) // a client that is gone asks again
}
