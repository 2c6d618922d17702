package acme

import (
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net/http"
	"net/mail"
	"strconv"
	"strings"

	"github.com/go-jose/go-jose/v4"

	"github.com/touchmark/touchmark/enroll/certorder"
	"github.com/touchmark/touchmark/vetting"
)

// Bounds of an account's contacts.
const (
	maxContacts = 5
	maxContact  = 254
)

// accountInput is what a client says of its account (RFC 8555 §7.3).
type accountInput struct {
	Contact            []string          `json:"contact"`
	TermsAgreed        bool              `json:"termsOfServiceAgreed"`
	OnlyReturnExisting bool              `json:"onlyReturnExisting"`
	Binding            json.RawMessage   `json:"externalAccountBinding"`
	Status             *certorder.Status `json:"status"`
}

// accountOutput is an account as its client sees it (RFC 8555 §7.1.2).
type accountOutput struct {
	Status      certorder.Status `json:"status"`
	Contact     []string         `json:"contact,omitempty"`
	TermsAgreed bool             `json:"termsOfServiceAgreed,omitempty"`
	Orders      string           `json:"orders"`
}

func (x *exchange) answerAccount(status int, a *certorder.Account) {
	if status == http.StatusCreated || x.account == nil {
		x.w.Header().Set("Location", x.url("account", a.ID))
	}
	x.write(status, accountOutput{a.Status, a.Contact, !a.Agreed.IsZero(), x.url("account", a.ID, "orders")})
}

// keyOf is an account's key.
func keyOf(a *certorder.Account) (*jose.JSONWebKey, error) {
	pub, err := x509.ParsePKIXPublicKey(a.Key)
	if err != nil {
		return nil, fmt.Errorf("the key of account %d in the database: %w", a.ID, err)
	}
	return &jose.JSONWebKey{Key: pub}, nil
}

func spkiOf(k *jose.JSONWebKey) ([]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(k.Key)
	if err != nil {
		return nil, problem(400, badPublicKey, "the account's key: %v", err)
	}
	return der, nil
}

// newAccount opens an account, or finds the one that has the key (RFC 8555
// §7.3, §7.3.1).
func (h *Handler) newAccount(x *exchange, _ []int64) error {
	var in accountInput
	if err := decode(x.payload, &in); err != nil {
		return err
	}
	spki, err := spkiOf(x.key)
	if err != nil {
		return err
	}
	have, err := h.Keeper.AccountByKey(x.r.Context(), vetting.KeyFingerprint(spki))
	switch {
	case err == nil && have.Status != certorder.Valid:
		return problem(http.StatusUnauthorized, unauthorized, "the account of this key is %s: use another key", have.Status)
	case err == nil:
		x.answerAccount(http.StatusOK, have)
		return nil
	case vetting.ProblemOf(err) != vetting.NotFound:
		return err
	case in.OnlyReturnExisting:
		return problem(400, accountDoesNotExist, "no account has this key")
	}
	a := &certorder.Account{Key: spki, Status: certorder.Valid, Created: h.Now()}
	if err := h.apply(a, in); err != nil {
		return err
	}
	if h.Terms != "" && a.Agreed.IsZero() {
		x.w.Header().Add("Link", `<`+h.Terms+`>;rel="terms-of-service"`)
		return problem(http.StatusForbidden, userActionRequired, "agree to the terms of service at %s: set termsOfServiceAgreed", h.Terms)
	}
	if err := h.bind(x, a, in.Binding); err != nil {
		return err
	}
	return h.openAccount(x, a)
}

func (h *Handler) openAccount(x *exchange, a *certorder.Account) error {
	a, opened, err := h.Keeper.OpenAccount(x.r.Context(), a)
	switch {
	case vetting.ProblemOf(err) == vetting.Conflict:
		return problem(http.StatusForbidden, unauthorized, "%v", err)
	case err != nil:
		return err
	case !opened: // the same request at the same time
		x.answerAccount(http.StatusOK, a)
	default:
		x.answerAccount(http.StatusCreated, a)
	}
	return nil
}

// apply takes over what a client says of its account.
func (h *Handler) apply(a *certorder.Account, in accountInput) error {
	if in.Contact != nil {
		if err := checkContacts(in.Contact); err != nil {
			return err
		}
		a.Contact = in.Contact
	}
	if in.TermsAgreed && a.Agreed.IsZero() {
		a.Agreed = h.Now()
	}
	return nil
}

// checkContacts takes mail addresses (RFC 8555 §7.3).
func checkContacts(list []string) error {
	if len(list) > maxContacts {
		return problem(400, malformed, "%d contacts are given: at most %d are kept", len(list), maxContacts)
	}
	for _, c := range list {
		address, ok := strings.CutPrefix(c, "mailto:")
		if !ok {
			return problem(400, unsupportedContact, "the contact %q is no mailto: URL: no other kind is used", clip(c))
		}
		if a, err := mail.ParseAddress(address); err != nil || a.Address != address || len(c) > maxContact {
			return problem(400, "invalidContact", "the contact %q is not one mail address", clip(c))
		}
	}
	return nil
}

// bind checks an external account binding (RFC 8555 §7.3.4).
func (h *Handler) bind(x *exchange, a *certorder.Account, binding json.RawMessage) error {
	if binding == nil {
		if h.Bound {
			return problem(http.StatusForbidden, externalAccountRequired, "an account is opened with an account key: ask who runs the server for one (touchmark acme eab create), and give its kid and secret to the client (external account binding)")
		}
		return nil
	}
	m, err := parseJWS(binding, []jose.SignatureAlgorithm{jose.HS256})
	if err != nil {
		return err
	}
	id, err := strconv.ParseInt(m.header.KeyID, 10, 64)
	switch {
	case m.url != x.url("new-account"):
		return problem(400, malformed, "the external account binding was signed for the url %q, not for this one", clip(m.url))
	case m.header.Nonce != "":
		return problem(400, malformed, "the external account binding has a nonce, which it must not (RFC 8555 §7.3.4)")
	case err != nil:
		return unknownAccountKey(m.header.KeyID)
	}
	payload, err := m.jws.Verify(h.Secret.AccountKey(id))
	if err != nil {
		return unknownAccountKey(m.header.KeyID)
	}
	if err := bindsKey(payload, x.key); err != nil {
		return err
	}
	k, err := h.AccountKeys.AccountKey(x.r.Context(), id)
	if vetting.ProblemOf(err) == vetting.NotFound {
		return unknownAccountKey(m.header.KeyID)
	}
	if err != nil {
		return err
	}
	a.Binding, a.Scope = k.ID, certorder.Scope{Order: k.Order, Product: k.Product}
	if k.Order == "" {
		a.Scope.Site = k.Site
	}
	return nil
}

// unknownAccountKey says the same of a wrong kid and a wrong secret.
func unknownAccountKey(kid string) error {
	return problem(http.StatusForbidden, unauthorized, "the external account binding counts for nothing: there is no account key %q, or its secret is another", clip(kid))
}

// bindsKey checks that what was bound is the account's key.
func bindsKey(payload []byte, key *jose.JSONWebKey) error {
	var bound jose.JSONWebKey
	if err := json.Unmarshal(payload, &bound); err != nil || !sameKey(&bound, key) {
		return problem(400, malformed, "the external account binding is for another key than the account's (RFC 8555 §7.3.4)")
	}
	return nil
}

func sameKey(a, b *jose.JSONWebKey) bool {
	if !a.Valid() || !a.IsPublic() {
		return false
	}
	x, err := x509.MarshalPKIXPublicKey(a.Key)
	if err != nil {
		return false
	}
	y, err := x509.MarshalPKIXPublicKey(b.Key)
	return err == nil && string(x) == string(y)
}

// own refuses an object of another account, as if it did not exist: which
// there are is nobody's business.
func (x *exchange) own(account int64) error {
	if x.account.ID != account {
		return problem(http.StatusNotFound, malformed, "this account has no such object")
	}
	return nil
}

// changeAccount shows an account, changes its contact, or ends it (RFC 8555
// §7.3.2, §7.3.6).
func (h *Handler) changeAccount(x *exchange, args []int64) error {
	if err := x.own(args[0]); err != nil {
		return err
	}
	if x.asGet() {
		x.answerAccount(http.StatusOK, x.account)
		return nil
	}
	var in accountInput
	if err := decode(x.payload, &in); err != nil {
		return err
	}
	a := *x.account
	if err := h.apply(&a, in); err != nil {
		return err
	}
	switch {
	case in.Status == nil || *in.Status == certorder.Valid:
	case *in.Status == certorder.Deactivated:
		a.Status = certorder.Deactivated
	default:
		return problem(400, malformed, "an account can be made %s and nothing else, not %q", certorder.Deactivated, clip(string(*in.Status)))
	}
	if err := h.keepAccount(x, &a); err != nil {
		return err
	}
	x.answerAccount(http.StatusOK, &a)
	return nil
}

// keepAccount keeps what became of an account.
func (h *Handler) keepAccount(x *exchange, a *certorder.Account) error {
	err := h.Keeper.ChangeAccount(x.r.Context(), a)
	h.accounts.forget(a.ID)
	return err
}

// changeKey gives an account another key (RFC 8555 §7.3.5).
func (h *Handler) changeKey(x *exchange, _ []int64) error {
	m, err := parseJWS(x.payload, algorithms)
	if err != nil {
		return err
	}
	if m.header.JSONWebKey == nil || m.header.Nonce != "" || m.url != x.url("key-change") {
		return problem(400, malformed, "the inner JWS of a key change has the new key as jwk, the url of the outer one, and no nonce (RFC 8555 §7.3.5)")
	}
	next, err := m.newKey()
	if err != nil {
		return err
	}
	payload, err := m.verify(next)
	if err != nil {
		return err
	}
	var in struct {
		Account string          `json:"account"`
		OldKey  jose.JSONWebKey `json:"oldKey"`
	}
	if err := decode(payload, &in); err != nil {
		return err
	}
	if in.Account != x.url("account", x.account.ID) || !sameKey(&in.OldKey, x.key) {
		return problem(400, malformed, "the key change is about another account or key than the one that signed it")
	}
	a := *x.account
	if a.Key, err = spkiOf(next); err != nil {
		return err
	}
	return h.saveKey(x, &a)
}

func (h *Handler) saveKey(x *exchange, a *certorder.Account) error {
	err := h.keepAccount(x, a)
	if vetting.ProblemOf(err) == vetting.Exists {
		other, err := h.Keeper.AccountByKey(x.r.Context(), vetting.KeyFingerprint(a.Key))
		if err != nil {
			return err
		}
		x.w.Header().Set("Location", x.url("account", other.ID))
		return problem(http.StatusConflict, malformed, "the new key is that of another account")
	}
	if err != nil {
		return err
	}
	x.answerAccount(http.StatusOK, a)
	return nil
}

// listOrders lists an account's orders (RFC 8555 §7.1.2.1).
func (h *Handler) listOrders(x *exchange, args []int64) error {
	if err := x.own(args[0]); err != nil {
		return err
	}
	after, err := strconv.ParseInt(x.r.URL.Query().Get("after"), 10, 64)
	if err != nil {
		after = 0
	}
	ids, err := h.Keeper.CertificateOrders(x.r.Context(), x.account.ID, after, ordersAPage)
	if err != nil {
		return err
	}
	urls := make([]string, len(ids))
	for i, id := range ids {
		urls[i] = x.url("order", id)
	}
	if len(ids) == ordersAPage {
		x.w.Header().Add("Link", `<`+x.url("account", x.account.ID, "orders")+"?after="+strconv.FormatInt(ids[len(ids)-1], 10)+`>;rel="next"`)
	}
	x.write(http.StatusOK, map[string]any{"orders": urls})
	return nil
}
