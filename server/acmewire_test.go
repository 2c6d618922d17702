package server

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/touchmark/touchmark/server/api"
)

// What anybody may read, and where each answer says it is.
func TestACMEDirectory(t *testing.T) {
	w := opened(t)
	c := w.acme()
	for path, want := range map[string]int{"directory": 200, "new-nonce": 204, "renewal-info/x": 400, "nothing": 404, "new-order": 405, "order/1": 405} {
		resp, err := c.http.Get(c.base + path)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want || resp.Header.Get("Link") != `<`+c.base+`directory>;rel="index"` {
			t.Errorf("GET %s: %s, Link %q", path, resp.Status, resp.Header.Get("Link"))
		}
	}
	status, body := get(t, c.http, c.base+"directory")
	var d struct {
		NewNonce, NewAccount, NewOrder, RevokeCert, KeyChange, RenewalInfo string
		Meta                                                               struct{ ExternalAccountRequired bool }
	}
	if err := json.Unmarshal([]byte(body), &d); err != nil || status != 200 || !d.Meta.ExternalAccountRequired {
		t.Errorf("%d %s", status, body)
	}
	for _, url := range []string{d.NewNonce, d.NewAccount, d.NewOrder, d.RevokeCert, d.KeyChange, d.RenewalInfo} {
		if !strings.HasPrefix(url, c.base) {
			t.Errorf("the directory lists %q", url)
		}
	}
}

// Requests that are not signed as they must be are refused, with a nonce to go
// on with, and change nothing.
func TestACMEHostileRequests(t *testing.T) {
	w := opened(t)
	c := w.opens()
	other := newP256(t)
	rsaKey, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	p224, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	order, err := json.Marshal(permanent("GW-1"))
	if err != nil {
		t.Fatal(err)
	}
	with := func(change func(h map[string]any)) []byte {
		h := c.header("new-order")
		change(h)
		return []byte(signJWS(t, jose.ES256, c.key, order, h))
	}
	keep := func(map[string]any) {}
	edit := func(body []byte, change func(m map[string]any)) []byte {
		var m map[string]any
		if err := json.Unmarshal(body, &m); err != nil {
			t.Fatal(err)
		}
		change(m)
		text, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	unsigned := func(alg string) []byte {
		h, err := json.Marshal(map[string]any{"alg": alg, "url": c.url("new-order"), "kid": c.kid, "nonce": c.fresh()})
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Appendf(nil, `{"protected":%q,"payload":%q,"signature":""}`, b64url(h), b64url(order))
	}
	for what, r := range map[string]struct {
		body   []byte
		status int
		kind   string
		text   string
	}{
		"no JSON":               {[]byte("hello"), 400, "malformed", "not a JWS"},
		"empty":                 {nil, 400, "malformed", "not a JWS"},
		"no members":            {[]byte("{}"), 400, "malformed", "lacks"},
		"deep":                  {[]byte(strings.Repeat("[", 60000)), 400, "malformed", "not a JWS"},
		"too large":             {[]byte(strings.Repeat(" ", 64<<10+1)), 413, "malformed", "larger than"},
		"alg none":              {unsigned("none"), 400, "badSignatureAlgorithm", "none"},
		"a MAC":                 {[]byte(signJWS(t, jose.HS256, make([]byte, 32), order, c.header("new-order"))), 400, "badSignatureAlgorithm", "HS256"},
		"another key":           {[]byte(signJWS(t, jose.ES256, other, order, c.header("new-order"))), 400, "malformed", "does not verify"},
		"a changed payload":     {edit(with(keep), func(m map[string]any) { m["payload"] = b64url([]byte(`{"identifiers":[]}`)) }), 400, "malformed", "does not verify"},
		"an unprotected header": {edit(with(keep), func(m map[string]any) { m["header"] = map[string]any{"kid": c.kid} }), 400, "malformed", "unprotected"},
		"several signatures": {edit(with(keep), func(m map[string]any) {
			m["signatures"] = []any{map[string]any{"protected": m["protected"], "signature": m["signature"]}}
			delete(m, "signature")
		}), 400, "malformed", "several"},
		"base64 that is none": {edit(with(keep), func(m map[string]any) { m["payload"] = "!" }), 400, "malformed", "cannot be read"},
		"another url":         {with(func(h map[string]any) { h["url"] = c.url("new-account") }), 403, "unauthorized", "signed for the url"},
		"another host":        {with(func(h map[string]any) { h["url"] = "https://example.com/acme/new-order" }), 403, "unauthorized", "signed for the url"},
		"no url":              {with(func(h map[string]any) { delete(h, "url") }), 403, "unauthorized", "signed for the url"},
		"a url that is none":  {with(func(h map[string]any) { h["url"] = 7 }), 403, "unauthorized", "signed for the url"},
		"kid and jwk":         {with(func(h map[string]any) { h["jwk"] = jose.JSONWebKey{Key: c.key.Public()} }), 400, "malformed", "either jwk or kid"},
		"neither":             {with(func(h map[string]any) { delete(h, "kid") }), 400, "malformed", "either jwk or kid"},
		"jwk where kid belongs": {with(func(h map[string]any) {
			delete(h, "kid")
			h["jwk"] = jose.JSONWebKey{Key: c.key.Public()}
		}), 400, "malformed", "no jwk"},
		"an account that there is not": {with(func(h map[string]any) { h["kid"] = c.url("account/999999") }), 400, "accountDoesNotExist", "no account"},
		"a kid that is none":           {with(func(h map[string]any) { h["kid"] = "me" }), 400, "malformed", "not the URL"},
		"another server's kid":         {with(func(h map[string]any) { h["kid"] = strings.Replace(c.kid, "127.0.0.1", "localhost", 1) }), 400, "malformed", "not the URL"},
		"no nonce":                     {with(func(h map[string]any) { delete(h, "nonce") }), 400, "badNonce", "nonce"},
		"a nonce that is none":         {with(func(h map[string]any) { h["nonce"] = "AAAA" }), 400, "badNonce", "nonce"},
		"another server's nonce":       {with(func(h map[string]any) { h["nonce"] = b64url(make([]byte, 32)) }), 400, "badNonce", "nonce"},
		"crit":                         {with(func(h map[string]any) { h["crit"] = []string{"url"} }), 400, "malformed", ""},
	} {
		wantProblem(t, what, c.send("new-order", r.body), r.status, r.kind, r.text)
	}

	once := with(keep)
	if a := c.send("new-order", once); a.status != 201 {
		t.Errorf("the order itself: %d %s", a.status, a.body)
	}
	wantProblem(t, "the same again", c.send("new-order", once), 400, "badNonce", "was used")

	stale := with(keep)
	w.ahead.Store(int64(61 * time.Minute))
	wantProblem(t, "an old nonce", c.send("new-order", stale), 400, "badNonce", "too old")

	for what, r := range map[string]struct {
		alg  jose.SignatureAlgorithm
		key  any
		kind string
	}{
		"a short RSA key": {jose.RS256, rsaKey, "badPublicKey"},
		"a private jwk":   {jose.ES256, newP256(t), "malformed"},
	} {
		jwk := jose.JSONWebKey{Key: r.key}
		if what != "a private jwk" {
			jwk = jwk.Public()
		}
		body := signJWS(t, r.alg, r.key, []byte("{}"), map[string]any{"url": c.url("new-account"), "nonce": c.fresh(), "jwk": jwk})
		wantProblem(t, what, c.send("new-account", []byte(body)), 400, r.kind, "")
	}
	if _, err := json.Marshal(jose.JSONWebKey{Key: p224.Public()}); err == nil {
		t.Error("a P-224 key can be sent after all: try it")
	}
	resp, err := c.http.Post(c.url("new-order"), "application/json", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusUnsupportedMediaType {
		t.Errorf("another content type: %s", resp.Status)
	}
}

// Accounts are opened with account keys, each of which opens one, and have
// keys of several kinds.
func TestACMEAccounts(t *testing.T) {
	w := opened(t)
	k := w.accountKey(api.AccountKeyInput{Site: "hsinchu"})
	c := w.acme()
	wantProblem(t, "no account key", c.newAccount(map[string]any{"contact": []string{"mailto:a@example.com"}}), 403, "externalAccountRequired", "touchmark acme eab create")
	for what, in := range map[string]any{
		"another secret":       c.binding(k.KeyID, b64url(make([]byte, 32))),
		"a kid that there not": c.binding("999999", k.Secret),
		"a kid that is none":   c.binding("me", k.Secret),
	} {
		wantProblem(t, what, c.newAccount(map[string]any{"externalAccountBinding": in}), 403, "unauthorized", "account key")
	}
	stranger := w.acme()
	wantProblem(t, "a binding of another key", c.newAccount(map[string]any{"externalAccountBinding": stranger.binding(k.KeyID, k.Secret)}), 400, "malformed", "another key")
	for contact, kind := range map[string]string{"tel:+1": "unsupportedContact", "mailto:a@example.com,b@example.com": "invalidContact", "mailto:": "invalidContact"} {
		wantProblem(t, contact, c.newAccount(map[string]any{"contact": []string{contact}}), 400, kind, "")
	}
	wantProblem(t, "looked for", c.newAccount(map[string]any{"onlyReturnExisting": true}), 400, "accountDoesNotExist", "")

	c.open(k)
	again := *c
	again.kid, again.nonce = "", ""
	if a := again.newAccount(map[string]any{"onlyReturnExisting": true}); a.status != 200 || again.kid != c.kid {
		t.Errorf("found: %d %s, %s", a.status, a.body, again.kid)
	}
	wantProblem(t, "the account key again", stranger.newAccount(map[string]any{"externalAccountBinding": stranger.binding(k.KeyID, k.Secret)}), 403, "unauthorized", "used already")

	a := c.post(c.kid, map[string]any{"contact": []string{"mailto:b@example.com"}})
	if v := a.json(t); a.status != 200 || fmt.Sprint(v["contact"]) != "[mailto:b@example.com]" {
		t.Errorf("changed: %d %v", a.status, v)
	}
	wantProblem(t, "another's account", c.post(strings.TrimRight(c.kid, "0123456789")+"1", nil), 404, "malformed", "no such object")
	wantProblem(t, "a status that is none", c.post(c.kid, map[string]any{"status": "revoked"}), 400, "malformed", "deactivated")

	if a := c.post(c.kid, map[string]any{"status": "deactivated"}); a.status != 200 || a.json(t)["status"] != "deactivated" {
		t.Errorf("deactivated: %d %s", a.status, a.body)
	}
	wantProblem(t, "after that", c.post("new-order", permanent("GW-1")), 401, "unauthorized", "deactivated")
	again.kid, again.nonce = "", ""
	wantProblem(t, "its key again", again.newAccount(map[string]any{}), 401, "unauthorized", "deactivated")
}

// An account key that is revoked ends the account that it opened.
func TestACMEAccountKeyRevoked(t *testing.T) {
	w := opened(t)
	k := w.accountKey(api.AccountKeyInput{Order: "po-1"})
	c := w.acme()
	c.open(k)
	send(t, as(t, w.config, "admin"), "POST", "https://"+w.server.Addrs()["api"]+"/api/v1/account-keys/"+k.KeyID+"/revoke", nil, 200)
	wantProblem(t, "an order after that", c.post("new-order", permanent("GW-1")), 401, "unauthorized", "deactivated")
}

// Without account keys anybody may open an account who agrees to the terms.
func TestACMETerms(t *testing.T) {
	w := opened(t, func(c *Config) { c.ACME.Bound, c.ACME.Terms = false, "https://example.com/terms" })
	c := w.acme()
	a := c.newAccount(map[string]any{})
	wantProblem(t, "not agreed", a, 403, "userActionRequired", "https://example.com/terms")
	if !strings.Contains(fmt.Sprint(a.header.Values("Link")), `<https://example.com/terms>;rel="terms-of-service"`) {
		t.Errorf("Link %v", a.header.Values("Link"))
	}
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	r, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	for alg, key := range map[jose.SignatureAlgorithm]any{jose.EdDSA: ed, jose.RS256: r, jose.ES256: c.key} {
		jwk := (&jose.JSONWebKey{Key: key}).Public()
		body := signJWS(t, alg, key, []byte(`{"termsOfServiceAgreed":true}`), map[string]any{"url": c.url("new-account"), "nonce": c.fresh(), "jwk": jwk})
		if a := c.send("new-account", []byte(body)); a.status != 201 || a.json(t)["termsOfServiceAgreed"] != true {
			t.Errorf("%s: %d %s", alg, a.status, a.body)
		}
	}
}

// An account takes another key, and the old one counts no more.
func TestACMEKeyChange(t *testing.T) {
	w := opened(t)
	c, other := w.opens(), w.opens()
	next := newP256(t)
	inner := func(signer *ecdsa.PrivateKey, account string, old any, url string, more map[string]any) json.RawMessage {
		oldKey, err := json.Marshal(map[string]any{"account": account, "oldKey": old})
		if err != nil {
			t.Fatal(err)
		}
		h := map[string]any{"url": url, "jwk": jose.JSONWebKey{Key: signer.Public()}}
		for name, v := range more {
			h[name] = v
		}
		return json.RawMessage(signJWS(t, jose.ES256, signer, oldKey, h))
	}
	mine, url := jose.JSONWebKey{Key: c.key.Public()}, c.url("key-change")
	for what, in := range map[string]json.RawMessage{
		"another account":       inner(next, other.kid, mine, url, nil),
		"another old key":       inner(next, c.kid, jose.JSONWebKey{Key: next.Public()}, url, nil),
		"another url":           inner(next, c.kid, mine, c.url("new-order"), nil),
		"a nonce inside":        inner(next, c.kid, mine, url, map[string]any{"nonce": c.fresh()}),
		"not by the new key":    json.RawMessage(strings.Replace(string(inner(next, c.kid, mine, url, nil)), `"signature":"`, `"signature":"AAAA`, 1)),
		"no JWS":                json.RawMessage(`{"account":"x"}`),
		"an old key of no kind": inner(next, c.kid, map[string]string{"kty": "oct", "k": "AAAA"}, url, nil),
	} {
		wantProblem(t, what, c.post("key-change", in), 400, "malformed", "")
	}
	a := c.post("key-change", inner(other.key, c.kid, mine, url, nil))
	wantProblem(t, "another account's key", a, 409, "malformed", "another account")
	if a.header.Get("Location") != other.kid {
		t.Errorf("Location %q", a.header.Get("Location"))
	}
	if a := c.post("key-change", inner(next, c.kid, mine, url, nil)); a.status != 200 {
		t.Fatalf("%d %s", a.status, a.body)
	}
	wantProblem(t, "the old key", c.post(c.kid, nil), 400, "malformed", "does not verify")
	c.key = next
	if a := c.post(c.kid, nil); a.status != 200 {
		t.Errorf("the new key: %d %s", a.status, a.body)
	}
}

// Orders that cannot be served are refused; of an account's own orders it
// sees all, of others' none.
func TestACMEOrders(t *testing.T) {
	w := opened(t)
	c, other := w.opens(), w.opens()
	id := func(kind, value string) map[string]any {
		return map[string]any{"identifiers": []any{map[string]any{"type": kind, "value": value}}}
	}
	long := strings.Repeat("x", 65)
	for what, r := range map[string]struct {
		in   any
		kind string
	}{
		"no identifier":        {map[string]any{}, "malformed"},
		"two":                  {map[string]any{"identifiers": []any{map[string]any{"type": "permanent-identifier", "value": "A"}, map[string]any{"type": "permanent-identifier", "value": "B"}}}, "malformed"},
		"a slash":              {id("permanent-identifier", "a/b"), "malformed"},
		"empty":                {id("permanent-identifier", ""), "malformed"},
		"spaces":               {id("permanent-identifier", " A"), "malformed"},
		"long":                 {id("hardware-module", long), "malformed"},
		"another type":         {id("ip", "192.0.2.1"), "unsupportedIdentifier"},
		"no DNS name":          {id("dns", "192.0.2.1"), "malformed"},
		"notAfter":             {map[string]any{"identifiers": permanent("A")["identifiers"], "notAfter": "2030-01-01T00:00:00Z"}, "malformed"},
		"a profile":            {map[string]any{"identifiers": permanent("A")["identifiers"], "profile": "short"}, "malformed"},
		"not an object":        {[]int{1}, "malformed"},
		"of another type":      {map[string]any{"identifiers": "A"}, "malformed"},
		"a certificate of ...": {map[string]any{"identifiers": permanent("A")["identifiers"], "replaces": "x"}, "malformed"},
	} {
		wantProblem(t, what, c.post("new-order", r.in), 400, r.kind, "")
	}
	wantProblem(t, "a server's name", c.post("new-order", id("dns", "web.example.com")), 403, "rejectedIdentifier", "no servers")
	o := c.order(permanent("GW-1"))
	wantProblem(t, "finalized too early", o.post(o.finalizeAt, map[string]string{"csr": "AAAA"}), 403, "orderNotReady", "pending")
	for _, url := range []string{o.at, o.finalizeAt, o.challengeAt, strings.Replace(o.at, "order", "authz", 1), strings.Replace(o.at, "order", "certificate", 1)} {
		wantProblem(t, "another's "+url, other.post(url, map[string]string{}), 404, "malformed", "no such object")
	}
	wantProblem(t, "no such challenge", c.post(o.challengeAt[:len(o.challengeAt)-1]+"2", map[string]string{}), 404, "malformed", "")
	wantProblem(t, "no certificate yet", c.post(strings.Replace(o.at, "order", "certificate", 1), nil), 404, "malformed", "no certificate")

	a := c.post(strings.Replace(o.at, "order", "authz", 1), map[string]string{"status": "deactivated"})
	if v := a.json(t); a.status != 200 || v["status"] != "deactivated" {
		t.Errorf("%d %v", a.status, v)
	}
	if v := c.post(o.at, nil).json(t); v["status"] != "invalid" {
		t.Errorf("the order is %v", v)
	}
	for range 105 {
		c.order(permanent("GW-2"))
	}
	list := c.post(c.kid+"/orders", nil)
	links := strings.Join(list.header.Values("Link"), ",")
	if n := len(list.json(t)["orders"].([]any)); n != 100 || !strings.Contains(links, `rel="next"`) {
		t.Fatalf("%d orders, Link %s", n, links)
	}
	next := links[strings.Index(links, c.kid):strings.Index(links, `>;rel="next"`)]
	if n := len(c.post(next, nil).json(t)["orders"].([]any)); n != 6 {
		t.Errorf("%d orders on the second page", n)
	}
	w.ahead.Store(int64(50 * time.Minute)) // of a week
	late := c.order(permanent("GW-3"))
	w.ahead.Store(int64(8 * 24 * time.Hour))
	late.acmeClient.nonce = "" // too old
	if v := late.post(late.at, nil).json(t); v["status"] != "invalid" {
		t.Errorf("after a week the order is %v", v["status"])
	}
	if v := late.post(strings.Replace(late.at, "order", "authz", 1), nil).json(t); v["status"] != "expired" {
		t.Errorf("after a week the authorization is %v", v["status"])
	}
}
