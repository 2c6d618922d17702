package acme

import (
	"crypto/rand"
	"encoding/base64"
	"net/http"
	"time"

	"github.com/touchmark/touchmark/enroll/certorder"
	"github.com/touchmark/touchmark/enroll/httperr"
	"github.com/touchmark/touchmark/vetting"
)

// orderInput asks for a certificate (RFC 8555 §7.4, RFC 9773 §5).
type orderInput struct {
	Identifiers []certorder.Identifier `json:"identifiers"`
	NotBefore   string                 `json:"notBefore"`
	NotAfter    string                 `json:"notAfter"`
	Replaces    string                 `json:"replaces"`
	Profile     string                 `json:"profile"`
}

// orderOutput is an order as its client sees it (RFC 8555 §7.1.3).
type orderOutput struct {
	Status         certorder.Status       `json:"status"`
	Expires        time.Time              `json:"expires"`
	Identifiers    []certorder.Identifier `json:"identifiers"`
	Authorizations []string               `json:"authorizations"`
	Finalize       string                 `json:"finalize"`
	Certificate    string                 `json:"certificate,omitempty"`
	Replaces       string                 `json:"replaces,omitempty"`
	Error          *problemDocument       `json:"error,omitempty"`
}

// newOrder takes an order for one identifier.
func (h *Handler) newOrder(x *exchange, _ []int64) error {
	var in orderInput
	if err := decode(x.payload, &in); err != nil {
		return err
	}
	id, err := h.identifier(x, in)
	if err != nil {
		return err
	}
	now := h.Now()
	o := &certorder.Order{Account: x.account.ID, Status: certorder.Pending, Identifier: id, Created: now, Expires: now.Add(orderLife).UTC().Truncate(time.Second),
		Authorization: certorder.Authorization{Status: certorder.Pending, Challenges: challengesFor(id)}}
	if in.Replaces != "" {
		if o.Replaces, err = h.replaced(x, in.Replaces, id); err != nil {
			return err
		}
	}
	err = h.Keeper.OpenCertificateOrder(x.r.Context(), x.account, o)
	switch vetting.ProblemOf(err) {
	case vetting.Conflict:
		return problem(http.StatusTooManyRequests, rateLimited, "%v", err)
	case vetting.Exists:
		return problem(http.StatusConflict, alreadyReplaced, "%v", err)
	}
	if err != nil {
		return err
	}
	h.remember(o, nil)
	return h.answerOrder(x, http.StatusCreated, o)
}

// identifier is the only one of an order, if there is one that is served.
func (h *Handler) identifier(x *exchange, in orderInput) (id certorder.Identifier, err error) {
	switch {
	case asked(in.NotBefore) || asked(in.NotAfter):
		return id, problem(400, malformed, "the order asks for notBefore or notAfter: how long a certificate is valid is the product's affair; leave them out")
	case in.Profile != "":
		return id, problem(400, malformed, "there is no profile %q: what a certificate is like is the product's affair; leave profile out", clip(in.Profile))
	case len(in.Identifiers) != 1:
		return id, problem(400, malformed, "the order has %d identifiers: each order is for one device or server, by one identifier; order the others each by itself", len(in.Identifiers))
	}
	id = in.Identifiers[0]
	switch {
	case id.Type == certorder.PermanentIdentifier, id.Type == certorder.HardwareModule:
		return id, checkValue(id)
	case id.Type == certorder.DNS:
		return id, h.checkServer(x, id.Value)
	}
	return id, problem(400, unsupportedIdentifier, "the identifier type %q is not served here: use %s, %s or %s", clip(id.Type), certorder.PermanentIdentifier, certorder.HardwareModule, certorder.DNS)
}

// checkServer takes the names that the account's product, or any, lets servers
// have: the server connects to no other.
func (h *Handler) checkServer(x *exchange, name string) error {
	if err := vetting.CheckDomainName(name); err != nil {
		return problem(400, malformed, "the identifier: %v", err)
	}
	err := h.Servers.AllowServer(x.r.Context(), x.account.Scope.Product, name)
	if vetting.ProblemOf(err) == vetting.NotFound {
		return problem(http.StatusForbidden, rejectedIdentifier, "%v", err)
	}
	return err
}

func challengesFor(id certorder.Identifier) (list []certorder.Challenge) {
	for _, kind := range id.Challenges() {
		list = append(list, certorder.Challenge{Type: kind, Token: token(), Status: certorder.Pending})
	}
	return list
}

// asked reports whether an order names a time. Clients of smallstep send the zero time of
// their language where they mean none.
func asked(at string) bool { return at != "" && at != "0001-01-01T00:00:00Z" }

// checkValue holds a device's identifier to the form of those in records, so
// that it is the same there octet for octet, but for the case of a
// hexadecimal UID.
func checkValue(id certorder.Identifier) error {
	named, err := id.Identity()
	switch {
	case err != nil:
		return problem(400, malformed, "the identifier: %v", err)
	case named.IsZero() || named.Serial != "" && named.Serial != id.Value:
		return problem(400, malformed, "the identifier %q is empty or has spaces around it", clip(id.Value))
	}
	return nil
}

// token is 128 random bits, at least as many as RFC 8555 §8.1 wants.
func token() string {
	var b [16]byte
	rand.Read(b[:]) // never fails (crypto/rand)
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// order finds one of the account's orders.
func (h *Handler) order(x *exchange, id int64) (*certorder.Order, error) {
	o, err := h.Keeper.CertificateOrder(x.r.Context(), id)
	if vetting.ProblemOf(err) == vetting.NotFound {
		return nil, problem(http.StatusNotFound, malformed, "this account has no such object")
	}
	if err != nil {
		return nil, err
	}
	return o, x.own(o.Account)
}

// showOrder shows an order. One whose request is held is judged again first,
// when its time has come: so what a person decided shows, whichever server is
// asked, and after whatever restarts.
func (h *Handler) showOrder(x *exchange, args []int64) error {
	o, err := h.order(x, args[0])
	if err != nil {
		return err
	}
	if o.Status == certorder.Processing && !h.Now().Before(o.Again) {
		if err := h.unchanged(x); err != nil {
			return err
		}
		csr, err := checkRequest(o.Request, o)
		if err != nil {
			return err
		}
		if o, err = h.judge(x, o, csr); err != nil {
			return err
		}
	}
	return h.answerOrder(x, http.StatusOK, o)
}

func (h *Handler) answerOrder(x *exchange, status int, o *certorder.Order) error {
	out := orderOutput{
		Status: o.At(h.Now()), Expires: o.Expires, Identifiers: []certorder.Identifier{o.Identifier},
		Authorizations: []string{x.url("authz", o.ID)}, Finalize: x.url("order", o.ID, "finalize"), Error: document(o.Problem),
	}
	x.w.Header().Set("Location", x.url("order", o.ID))
	switch o.Status {
	case certorder.Valid:
		out.Certificate = x.url("certificate", o.ID)
	case certorder.Processing:
		wait := o.Again.Sub(h.Now())
		httperr.SetRetryAfter(x.w.Header(), max(wait, time.Second))
	}
	if o.Replaces != "" {
		out.Replaces = h.certificateID(x, o.Replaces)
	}
	x.write(status, out)
	return nil
}

// authorizationOutput is an authorization as its client sees it (RFC 8555
// §7.1.4).
type authorizationOutput struct {
	Identifier certorder.Identifier `json:"identifier"`
	Status     certorder.Status     `json:"status"`
	Expires    time.Time            `json:"expires"`
	Challenges []challengeOutput    `json:"challenges"`
	Wildcard   bool                 `json:"wildcard,omitempty"`
}

// challengeOutput is a challenge as its client sees it (RFC 8555 §8).
type challengeOutput struct {
	Type      string           `json:"type"`
	URL       string           `json:"url"`
	Token     string           `json:"token"`
	Status    certorder.Status `json:"status"`
	Validated *time.Time       `json:"validated,omitempty"`
	Error     *problemDocument `json:"error,omitempty"`
}

func (x *exchange) challengeOutput(o *certorder.Order, i int) challengeOutput {
	c := o.Authorization.Challenges[i]
	out := challengeOutput{Type: c.Type, URL: x.url("challenge", o.ID, i+1), Token: c.Token, Status: c.Status, Error: document(c.Problem)}
	if !c.Validated.IsZero() {
		out.Validated = &c.Validated
	}
	return out
}

// showAuthorization shows an order's authorization, or ends it (RFC 8555
// §7.5, §7.5.2). A challenge that waits for another look gets it.
func (h *Handler) showAuthorization(x *exchange, args []int64) error {
	o, err := h.order(x, args[0])
	if err != nil {
		return err
	}
	if x.asGet() {
		o, err = h.lookAgain(x, o)
	} else {
		o, err = h.deactivate(x, o)
	}
	if err != nil {
		return err
	}
	a := o.Authorization
	out := authorizationOutput{Identifier: o.Identifier, Status: a.Status, Expires: o.Expires, Challenges: []challengeOutput{}}
	if out.Wildcard = o.Identifier.Wildcard(); out.Wildcard {
		out.Identifier.Value = out.Identifier.Value[len("*."):] // RFC 8555 §7.1.4
	}
	if expired := o.At(h.Now()) == certorder.Invalid && o.Status != certorder.Invalid; expired && (a.Status == certorder.Pending || a.Status == certorder.Valid) {
		out.Status = certorder.Expired
	}
	for i, c := range a.Challenges {
		if a.Status == certorder.Pending || c.Status != certorder.Pending {
			h.sayWhen(x, c)
			out.Challenges = append(out.Challenges, x.challengeOutput(o, i))
		}
	}
	x.write(http.StatusOK, out)
	return nil
}

func (h *Handler) deactivate(x *exchange, o *certorder.Order) (*certorder.Order, error) {
	var in struct {
		Status certorder.Status `json:"status"`
	}
	if err := decode(x.payload, &in); err != nil {
		return nil, err
	}
	if in.Status != certorder.Deactivated {
		return nil, problem(400, malformed, "an authorization can be made %s and nothing else, not %q", certorder.Deactivated, clip(string(in.Status)))
	}
	if s := o.Status; s != certorder.Pending && s != certorder.Ready {
		return nil, problem(400, malformed, "the order is %s: its authorization cannot be changed any more", s)
	}
	next := *o
	next.Status, next.Authorization.Status = certorder.Invalid, certorder.Deactivated
	next.Problem = &certorder.Problem{Type: unauthorized, Detail: "the client ended the authorization", Status: http.StatusForbidden}
	return &next, h.change(x, x.account, &next, nil)
}
