// Package acme is the ACME door (RFC 8555, RFC 8737, RFC 9773,
// device-attest-01): it turns signed requests into claims, and outcomes into orders that are valid,
// processing or invalid, and decides nothing.
//
// What clients and their orders are is package certorder's; what a challenge's
// answer proves, a [Validator] finds out; docs/decisions/acme.md says why.
package acme

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/touchmark/touchmark/enroll"
	"github.com/touchmark/touchmark/enroll/certorder"
	"github.com/touchmark/touchmark/vetting"
)

// Prefix is where ACME lives.
const Prefix = "/acme/"

// Enroller judges requests.
type Enroller interface {
	Enroll(ctx context.Context, r enroll.Request) (enroll.Outcome, error)
}

// Keeper keeps accounts and orders. Everything that it is given is durable
// when it returns; what was looked up for nothing is a vetting.NotFound error.
type Keeper interface {
	// OpenAccount keeps a new account and spends the account key that it
	// names. If there is one with its Key it returns that and does nothing. A
	// vetting.Conflict says why the account key lets nobody in.
	OpenAccount(context.Context, *certorder.Account) (a *certorder.Account, opened bool, err error)
	Account(ctx context.Context, id int64) (*certorder.Account, error)
	AccountByKey(context.Context, vetting.Fingerprint) (*certorder.Account, error)
	// ChangeAccount keeps an account's new contact, agreement, status or key,
	// unless it is not at Revision any more (certorder.ErrStale). A key that
	// is another account's is a vetting.Exists error.
	ChangeAccount(context.Context, *certorder.Account) error

	// OpenCertificateOrder keeps a new order by the word of an account and
	// gives it an ID. certorder.ErrAccountChanged says that the account is not
	// at its Revision any more, a vetting.Conflict that it has too many open
	// ones, a vetting.Exists that the certificate that it replaces has another
	// successor.
	OpenCertificateOrder(ctx context.Context, by *certorder.Account, o *certorder.Order) error
	CertificateOrder(ctx context.Context, id int64) (*certorder.Order, error)
	// ChangeCertificateOrder keeps an order's new state unless it is not at Revision any
	// more (certorder.ErrStale), or the account is not by whose word it is
	// (certorder.ErrAccountChanged); nil where it is not by a client's word.
	ChangeCertificateOrder(ctx context.Context, by *certorder.Account, o *certorder.Order) error
	// CertificateOrders lists IDs of an account's orders that came after one.
	CertificateOrders(ctx context.Context, account, after int64, limit int) ([]int64, error)
	// OrderOfCertificate finds the order that a certificate was issued for, by
	// serial number in hex.
	OrderOfCertificate(ctx context.Context, serial string) (*certorder.Order, error)
	// LastCertificate finds the serial number of the certificate that an
	// account was given last for an identifier.
	LastCertificate(ctx context.Context, account int64, id certorder.Identifier) (string, error)
}

// Revoker revokes a certificate by the word of its holder, named by its serial
// number in hex. One that is revoked is a vetting.Conflict.
type Revoker interface {
	RevokeByHolder(ctx context.Context, by, serial string, reason vetting.RevocationReason) error
}

// Validator finds out whether a challenge was met.
type Validator interface {
	// Validate looks at what the client answered. A *certorder.Problem says
	// why the challenge is not met; any other error, that nothing was found
	// out.
	Validate(ctx context.Context, c Trial) (Proved, error)
}

// Servers knows the DNS names that products' servers may have.
type Servers interface {
	// AllowServer says why no server may have a name, as a vetting.NotFound:
	// of the product, or of any for "".
	AllowServer(ctx context.Context, product, name string) error
	// EnlistServer makes the record of a server whose name an account has
	// proved, in a production order. If there is one, or the order can have
	// none, nothing is made. It is durable when it returns.
	EnlistServer(ctx context.Context, account int64, order, name string) error
}

// Trial is a challenge that is to be validated.
type Trial struct {
	Type       string
	Token      string
	Identifier certorder.Identifier
	// Key is the account's; with Token it makes the key authorization (RFC
	// 8555 §8.1).
	Key *jose.JSONWebKey
	// Payload is the answer of device-attest-01.
	Payload []byte
}

// Proved is what an answer to a challenge proves.
type Proved struct {
	// Key is the attested key, as certorder.Authorization keeps it, Matches the
	// products that trust its attestation.
	Key     string
	Matches []vetting.VendorMatch
}

// Witness keeps what smells of an attack: that an attestation for a device was
// not what it should be.
type Witness interface {
	BadAttestation(ctx context.Context, id vetting.Identity, text string) error
}

// AccountKeys finds what lets an account be opened.
type AccountKeys interface {
	AccountKey(ctx context.Context, id int64) (*vetting.AccountKey, error)
}

// Handler serves ACME below [Prefix].
type Handler struct {
	Enroller    Enroller
	Keeper      Keeper
	AccountKeys AccountKeys
	Lives       enroll.Lives
	Revoker     Revoker
	Validator   Validator
	Servers     Servers
	Witness     Witness
	// CACerts are the CA certificates that a chain may be made of, as DER.
	CACerts func() [][]byte
	// Secret is shared by all servers: nonces and the secrets of account keys
	// are made from it.
	Secret Secret
	// URL is what clients reach the server by, "https://HOST:PORT"; empty
	// takes the host that a request names.
	URL string
	// Terms is where the terms of service are; empty for none.
	Terms string
	// Website says more about the CA; empty for none.
	Website string
	// Bound says that an account needs an account key.
	Bound bool
	Log   *slog.Logger
	Now   func() time.Time
	// Refused counts requests and challenges that were refused, by the type
	// of the problem.
	Refused func(problem string)

	nonces   *nonces
	accounts *recent[knownAccount]
	orders   *recent[knownOrder]
	parsed   sync.Map // CA certificates, *x509.Certificate by DER
}

// Times and bounds.
const (
	maxBody     = 64 << 10
	orderLife   = 7 * 24 * time.Hour
	ordersAPage = 100
	// pollAfter is when a client should look again at an order that a server
	// works on.
	pollAfter = 5 * time.Second
	// tries is how often it is looked whether a server's challenge is met that
	// could not be reached (RFC 8555 §8.2).
	tries = 3
	// checkBack is when to ask again when to renew (RFC 9773 §4.3).
	checkBack = 6 * time.Hour
)

// Ready makes the handler ready for requests, once its fields are set.
func (h *Handler) Ready() *Handler {
	h.nonces = newNonces(h.Secret, h.Now)
	h.accounts, h.orders = newRecent[knownAccount](), newRecent[knownOrder]()
	return h
}

// exchange is one request with its answer.
type exchange struct {
	w    http.ResponseWriter
	r    *http.Request
	base string // "https://HOST:PORT/acme/"

	// Of a signed request:
	message *message
	payload []byte
	key     *jose.JSONWebKey
	account *certorder.Account // nil if it was signed by a key that comes along
}

// asGet reports whether a request is a POST-as-GET (RFC 8555 §6.3).
func (x *exchange) asGet() bool { return len(x.payload) == 0 }

func (x *exchange) url(parts ...any) string {
	text := make([]string, len(parts))
	for i, p := range parts {
		switch p := p.(type) {
		case string:
			text[i] = p
		case int64:
			text[i] = strconv.FormatInt(p, 10)
		case int:
			text[i] = strconv.Itoa(p)
		}
	}
	return x.base + strings.Join(text, "/")
}

// route is what a path leads to. args are the path's numbers.
type route struct {
	by  signedBy
	run func(h *Handler, x *exchange, args []int64) error
	// recalls says that the account may be as it was a moment ago
	// (accountLife): what is done by its word is tied to its revision, or only
	// shows what the account has.
	recalls bool
}

// signedBy is whose key must have signed a request.
type signedBy int

const (
	byAccount signedBy = iota // by an account's, named by its URL
	byKey                     // by a key that comes along
	byEither
)

// routes are those of signed requests; N stands for a number.
var routes = map[string]route{
	"new-account":      {by: byKey, run: (*Handler).newAccount},
	"account/N":        {by: byAccount, run: (*Handler).changeAccount},
	"account/N/orders": {by: byAccount, run: (*Handler).listOrders},
	"key-change":       {by: byAccount, run: (*Handler).changeKey},
	"new-order":        {by: byAccount, run: (*Handler).newOrder, recalls: true},
	"order/N":          {by: byAccount, run: (*Handler).showOrder, recalls: true},
	"order/N/finalize": {by: byAccount, run: (*Handler).finalize, recalls: true},
	"authz/N":          {by: byAccount, run: (*Handler).showAuthorization, recalls: true},
	"challenge/N/N":    {by: byAccount, run: (*Handler).challenge, recalls: true},
	"certificate/N":    {by: byAccount, run: (*Handler).certificate, recalls: true},
	"revoke-cert":      {by: byEither, run: (*Handler).revoke},
}

// parsePath takes a path below Prefix apart.
func parsePath(path string) (pattern string, args []int64) {
	parts := strings.Split(path, "/")
	for i, p := range parts {
		if i == 0 || p == "" || p[0] < '1' || p[0] > '9' {
			continue
		}
		if n, err := strconv.ParseInt(p, 10, 64); err == nil {
			parts[i] = "N"
			args = append(args, n)
		}
	}
	return strings.Join(parts, "/"), args
}

// ServeHTTP answers a request.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x := &exchange{w: w, r: r, base: h.base(r)}
	w.Header().Set("Link", `<`+x.url("directory")+`>;rel="index"`) // RFC 8555 §7.1
	if err := h.serve(x); err != nil {
		h.fail(x, err)
	}
}

func (h *Handler) base(r *http.Request) string {
	if h.URL != "" {
		return h.URL + Prefix
	}
	return "https://" + r.Host + Prefix
}

func (h *Handler) serve(x *exchange) error {
	path, ok := strings.CutPrefix(x.r.URL.EscapedPath(), Prefix)
	if !ok {
		return problem(http.StatusNotFound, malformed, "ACME is served below %s; its directory is at %sdirectory", Prefix, Prefix)
	}
	reads := x.r.Method == http.MethodGet || x.r.Method == http.MethodHead
	switch info, ok := strings.CutPrefix(path, "renewal-info/"); {
	case path == "directory" && reads:
		return h.directory(x)
	case path == "new-nonce" && reads:
		return h.newNonce(x)
	case ok && reads:
		return h.renewalInfo(x, info)
	}
	pattern, args := parsePath(path)
	to, ok := routes[pattern]
	switch {
	case !ok:
		return problem(http.StatusNotFound, malformed, "there is no %s %s: %s lists what there is", x.r.Method, x.r.URL.Path, x.url("directory"))
	case x.r.Method != http.MethodPost:
		x.w.Header().Set("Allow", http.MethodPost)
		return problem(http.StatusMethodNotAllowed, malformed, "%s takes POST only: what GET would read, a POST with an empty payload reads (RFC 8555 §6.3)", x.r.URL.Path)
	}
	if err := h.open(x, to); err != nil {
		return err
	}
	h.giveNonce(x)
	err := to.run(h, x, args)
	if errors.Is(err, certorder.ErrAccountChanged) { // nothing was done: once more, by what the account is now
		if err = h.authenticate(x, to.by, false); err == nil {
			err = to.run(h, x, args)
		}
	}
	return err
}

// directory lists what there is (RFC 8555 §7.1.1).
func (h *Handler) directory(x *exchange) error {
	meta := map[string]any{"externalAccountRequired": h.Bound}
	if h.Terms != "" {
		meta["termsOfService"] = h.Terms
	}
	if h.Website != "" {
		meta["website"] = h.Website
	}
	x.write(http.StatusOK, map[string]any{
		"newNonce": x.url("new-nonce"), "newAccount": x.url("new-account"), "newOrder": x.url("new-order"),
		"revokeCert": x.url("revoke-cert"), "keyChange": x.url("key-change"), "renewalInfo": x.url("renewal-info"),
		"meta": meta,
	})
	return nil
}

// newNonce gives a nonce (RFC 8555 §7.2).
func (h *Handler) newNonce(x *exchange) error {
	h.giveNonce(x)
	if x.r.Method == http.MethodHead {
		x.w.WriteHeader(http.StatusOK)
	} else {
		x.w.WriteHeader(http.StatusNoContent)
	}
	return nil
}

func (h *Handler) giveNonce(x *exchange) {
	x.w.Header().Set("Replay-Nonce", h.nonces.fresh())
	x.w.Header().Set("Cache-Control", "no-store")
}
