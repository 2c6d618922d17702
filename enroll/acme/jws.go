package acme

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"os"
	"strconv"
	"strings"

	"github.com/go-jose/go-jose/v4"

	"github.com/touchmark/touchmark/enroll"
	"github.com/touchmark/touchmark/enroll/certorder"
	"github.com/touchmark/touchmark/vetting"
)

// algorithms are those of accounts' keys. "none" and MACs are not among them
// (RFC 8555 §6.2).
var algorithms = []jose.SignatureAlgorithm{jose.ES256, jose.ES384, jose.ES512, jose.EdDSA, jose.RS256}

// message is a JWS whose form was checked, and whose signature was not.
type message struct {
	jws    *jose.JSONWebSignature
	header jose.Header
	url    string
}

// flattened is a JWS in the only form that ACME takes (RFC 8555 §6.2). What
// must not be there is named to be refused.
type flattened struct {
	Protected  *string         `json:"protected"`
	Payload    *string         `json:"payload"`
	Signature  *string         `json:"signature"`
	Header     json.RawMessage `json:"header"`
	Signatures json.RawMessage `json:"signatures"`
}

// parseJWS reads a flattened JWS of one of the algorithms.
func parseJWS(body []byte, algs []jose.SignatureAlgorithm) (*message, error) {
	var f flattened
	if err := json.Unmarshal(body, &f); err != nil {
		return nil, problem(400, malformed, "the request is not a JWS in JSON (RFC 7515 §7.2.2): %v", err)
	}
	switch {
	case f.Header != nil || f.Signatures != nil:
		return nil, problem(400, malformed, "the JWS has an unprotected header or several signatures: want protected, payload and signature alone (RFC 8555 §6.2)")
	case f.Protected == nil || f.Payload == nil || f.Signature == nil:
		return nil, problem(400, malformed, "the JWS lacks protected, payload or signature (RFC 7515 §7.2.2)")
	}
	jws, err := jose.ParseSignedCompact(*f.Protected+"."+*f.Payload+"."+*f.Signature, algs)
	if unexpected := new(jose.ErrUnexpectedSignatureAlgorithm); errors.As(err, &unexpected) {
		return nil, problem(400, badSignatureAlgorithm, "the JWS is signed by the algorithm %q: known are %v", unexpected.Got, algs)
	}
	if err != nil {
		return nil, problem(400, malformed, "the JWS cannot be read: %v", err)
	}
	m := &message{jws: jws, header: jws.Signatures[0].Protected}
	m.url, _ = m.header.ExtraHeaders[jose.HeaderKey("url")].(string)
	if m.header.JSONWebKey != nil && m.header.KeyID != "" || m.header.JSONWebKey == nil && m.header.KeyID == "" {
		return nil, problem(400, malformed, "the JWS must have either jwk or kid in its protected header (RFC 8555 §6.2)")
	}
	return m, nil
}

// verify checks the signature and returns what was signed.
func (m *message) verify(key any) ([]byte, error) {
	payload, err := m.jws.Verify(key)
	if err != nil {
		return nil, problem(400, malformed, "the signature of the JWS does not verify with its key")
	}
	return payload, nil
}

// newKey is the key that comes along with a JWS.
func (m *message) newKey() (*jose.JSONWebKey, error) {
	k := m.header.JSONWebKey
	if !k.IsPublic() || !k.Valid() {
		return nil, problem(400, badPublicKey, "the jwk is no public key")
	}
	if _, err := enroll.KeyKind(k.Key); err != nil {
		return nil, problem(400, badPublicKey, "the account's key: %v", err)
	}
	return &jose.JSONWebKey{Key: k.Key}, nil
}

// open reads a signed request and tells who made it (RFC 8555 §6.2–6.5).
func (h *Handler) open(x *exchange, to route) error {
	body, err := readBody(x.r)
	if err != nil {
		return err
	}
	m, err := parseJWS(body, algorithms)
	if err != nil {
		return err
	}
	if m.url != strings.TrimSuffix(x.base, Prefix)+x.r.URL.RequestURI() {
		return problem(http.StatusForbidden, unauthorized, "the JWS was signed for the url %q, not for this one (RFC 8555 §6.4)", clip(m.url))
	}
	x.message = m
	if err := h.authenticate(x, to.by, to.recalls); err != nil {
		return err
	}
	// Last, so that nobody without the key can fill the memory of nonces, and
	// what was wrong can be mended with the same nonce.
	if !h.nonces.take(m.header.Nonce) {
		return problem(400, badNonce, "the nonce is not one of this server's, too old, or was used: repeat the request with the one that came with this answer (RFC 8555 §6.5)")
	}
	return nil
}

// authenticate finds the key that must have signed a request, and the account,
// which may be one that is remembered, and checks the signature.
func (h *Handler) authenticate(x *exchange, by signedBy, recalls bool) error {
	remembered, err := h.signer(x, by, recalls)
	if err != nil {
		return err
	}
	if x.payload, err = x.message.verify(x.key); err != nil && remembered {
		return h.authenticate(x, by, false) // the account may have another key by now
	}
	return err
}

// signer finds the key that must have signed a request, and the account.
func (h *Handler) signer(x *exchange, by signedBy, recalls bool) (remembered bool, err error) {
	m := x.message
	switch {
	case m.header.JSONWebKey != nil && by == byAccount:
		return false, problem(400, malformed, "this request is signed with the account's key, named by its URL as kid, and has no jwk (RFC 8555 §6.2)")
	case m.header.JSONWebKey == nil && by == byKey:
		return false, problem(400, malformed, "this request has its key as jwk, and no kid (RFC 8555 §6.2)")
	case m.header.JSONWebKey != nil:
		x.key, err = m.newKey()
		return false, err
	}
	number, ok := strings.CutPrefix(m.header.KeyID, x.url("account")+"/")
	id, err := strconv.ParseInt(number, 10, 64)
	if !ok || err != nil {
		return false, problem(400, malformed, "the kid %q is not the URL of an account here, %s/NUMBER", clip(m.header.KeyID), x.url("account"))
	}
	k, remembered := h.recallAccount(id)
	if remembered = remembered && recalls; !remembered {
		if k, err = h.readAccount(x, id); err != nil {
			return false, err
		}
	}
	x.account, x.key = k.account, k.key
	return remembered, nil
}

// readAccount finds an account that a request names as its own.
func (h *Handler) readAccount(x *exchange, id int64) (k knownAccount, err error) {
	now := h.Now()
	a, err := h.Keeper.Account(x.r.Context(), id)
	if vetting.ProblemOf(err) == vetting.NotFound {
		return k, problem(400, accountDoesNotExist, "there is no account %s", clip(x.message.header.KeyID))
	}
	if err != nil {
		return k, err
	}
	if a.Status != certorder.Valid {
		h.accounts.forget(id)
		return k, problem(http.StatusUnauthorized, unauthorized, "the account is %s", a.Status)
	}
	key, err := keyOf(a)
	if err != nil {
		return k, err
	}
	k = knownAccount{a, key, now}
	h.accounts.put(id, k)
	return k, nil
}

// readBody reads a request, which must be a JWS.
func readBody(r *http.Request) ([]byte, error) {
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/jose+json" {
		return nil, problem(http.StatusUnsupportedMediaType, malformed, "the Content-Type is %q: send application/jose+json (RFC 8555 §6.2)", clip(r.Header.Get("Content-Type")))
	}
	tooLong := problem(http.StatusRequestEntityTooLarge, malformed, "the request is larger than %d bytes", maxBody)
	if r.ContentLength > maxBody {
		return nil, tooLong
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, maxBody+1))
	switch {
	case len(body) > maxBody:
		return nil, tooLong
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil, problem(http.StatusRequestTimeout, malformed, "the request's body did not arrive in time: send it at once")
	case err != nil:
		return nil, problem(400, malformed, "the request's body did not arrive whole: %v", err)
	}
	return body, nil
}

// decode reads a payload, of which nothing but a JSON object will do. Unknown
// members are passed over (RFC 8555 §6.2 leaves room for extensions).
func decode(payload []byte, into any) error {
	if trimmed := bytes.TrimSpace(payload); len(trimmed) == 0 || trimmed[0] != '{' {
		return problem(400, malformed, "the payload must be a JSON object")
	}
	if err := json.Unmarshal(payload, into); err != nil {
		return problem(400, malformed, "the payload cannot be read: %v", err)
	}
	return nil
}

func clip(s string) string {
	const most = 200
	if len(s) > most {
		return s[:most] + "…"
	}
	return s
}
