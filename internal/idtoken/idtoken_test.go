package idtoken

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	jose "github.com/go-jose/go-jose/v4"

	"github.com/touchmark/touchmark/internal/egress"
)

var today = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

const aud = "touchmark.acme.example"

// world is an issuer behind TLS, and a verifier that may reach it.
type world struct {
	*httptest.Server
	verifier *Verifier
	now      time.Time
	reads    atomic.Int64 // of the keys

	mu       sync.Mutex
	keys     []any                            // JWKs
	document map[string]any                   // of discovery
	instead  func(w http.ResponseWriter) bool // of any answer
}

func newWorld(t *testing.T, allow ...string) *world {
	t.Helper()
	w := &world{now: today}
	w.Server = httptest.NewTLSServer(http.HandlerFunc(w.serve))
	t.Cleanup(w.Close)
	allowed, err := egress.Parse(allow)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(w.Certificate())
	w.verifier = &Verifier{HTTP: NewClient(allowed, roots), Now: func() time.Time { return w.now }}
	w.document = map[string]any{"issuer": w.URL, "jwks_uri": w.URL + "/keys", "other": 1}
	return w
}

func (w *world) serve(rw http.ResponseWriter, r *http.Request) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.instead != nil && w.instead(rw):
	case r.URL.Path == "/.well-known/openid-configuration":
		_ = json.NewEncoder(rw).Encode(w.document)
	case r.URL.Path == "/keys":
		w.reads.Add(1)
		_ = json.NewEncoder(rw).Encode(map[string]any{"keys": w.keys})
	default:
		http.NotFound(rw, r)
	}
}

// publish adds a public key to what the issuer shows.
func (w *world) publish(kid string, key crypto.Signer, alg string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.keys = append(w.keys, jose.JSONWebKey{Key: key.Public(), KeyID: kid, Algorithm: alg, Use: "sig"})
}

// claims are those of a good token.
func (w *world) claims() map[string]any {
	return map[string]any{"iss": w.URL, "aud": aud, "sub": "repo:acme/thermostat:ref:refs/tags/v1", "jti": "one", "iat": w.now.Unix(), "nbf": w.now.Unix(),
		"exp": w.now.Add(5 * time.Minute).Unix(), "repository": "acme/thermostat", "run_id": 123456789012345678}
}

func sign(t *testing.T, alg jose.SignatureAlgorithm, key any, kid string, claims map[string]any) string {
	t.Helper()
	s, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: key}, (&jose.SignerOptions{}).WithHeader("kid", kid).WithType("JWT"))
	if err != nil {
		t.Fatal(err)
	}
	payload, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	jws, err := s.Sign(payload)
	if err != nil {
		t.Fatal(err)
	}
	text, err := jws.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func ecKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func (w *world) verify(t *testing.T, token string) (*Token, error) {
	t.Helper()
	return w.verifier.Verify(t.Context(), w.URL, aud, token)
}

// refuses wants a token to be refused for a reason.
func (w *world) refuses(t *testing.T, name, token, words string) {
	t.Helper()
	_, err := w.verify(t, token)
	var wrong *Refused
	if !errors.As(err, &wrong) || !strings.Contains(err.Error(), words) {
		t.Errorf("%s: %v, want it refused with %q", name, err, words)
	}
}

// TestGoodTokens of each family of algorithms.
func TestGoodTokens(t *testing.T) {
	w := newWorld(t, "127.0.0.0/8")
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ec := ecKey(t)
	w.keys = append(w.keys, map[string]any{"kty": "unheard of", "kid": "x"}) // and is passed over
	w.publish("rsa", rsaKey, "")
	w.publish("ec", ec, "ES256")
	w.publish("ed", ed, "EdDSA")
	for alg, key := range map[jose.SignatureAlgorithm]crypto.Signer{jose.RS256: rsaKey, jose.PS384: rsaKey, jose.ES256: ec, jose.EdDSA: ed} {
		kid := map[jose.SignatureAlgorithm]string{jose.RS256: "rsa", jose.PS384: "rsa", jose.ES256: "ec", jose.EdDSA: "ed"}[alg]
		token, err := w.verify(t, sign(t, alg, key, kid, w.claims()))
		if err != nil {
			t.Errorf("%s: %v", alg, err)
			continue
		}
		if token.Subject != "repo:acme/thermostat:ref:refs/tags/v1" || token.Claims["repository"] != "acme/thermostat" || fmt.Sprint(token.Claims["run_id"]) != "123456789012345678" {
			t.Errorf("%s: the token says %+v", alg, token)
		}
	}
	if n := w.reads.Load(); n != 1 {
		t.Errorf("the keys were read %d times", n)
	}
}

// TestBadTokens: forged, foreign, stale ones, and those that another algorithm
// makes of the issuer's public key.
func TestBadTokens(t *testing.T) {
	w := newWorld(t, "127.0.0.0/8")
	key, stranger := ecKey(t), ecKey(t)
	w.publish("ec", key, "ES256")
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	w.publish("ps", rsaKey, "PS256")
	with := func(change map[string]any) string {
		claims := w.claims()
		maps.Copy(claims, change)
		for name, value := range claims {
			if value == nil {
				delete(claims, name)
			}
		}
		return sign(t, jose.ES256, key, "ec", claims)
	}
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	good := with(nil)
	parts := strings.Split(good, ".")
	none := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none","kid":"ec"}`))
	for name, c := range map[string]struct{ token, words string }{
		"another issuer":            {with(map[string]any{"iss": "https://elsewhere.example"}), "is trusted"},
		"another audience":          {with(map[string]any{"aud": "sigstore"}), "audience"},
		"two audiences":             {with(map[string]any{"aud": []string{aud, "sigstore"}}), "audience"},
		"no audience":               {with(map[string]any{"aud": nil}), "audience"},
		"expired":                   {with(map[string]any{"exp": w.now.Add(-31 * time.Second).Unix()}), "expired"},
		"without an end":            {with(map[string]any{"exp": nil}), "lacks the claim exp"},
		"an end that is no time":    {with(map[string]any{"exp": 1e300}), "no time"},
		"not yet":                   {with(map[string]any{"nbf": w.now.Add(time.Minute).Unix()}), "not valid yet"},
		"issued tomorrow":           {with(map[string]any{"iat": w.now.Add(24 * time.Hour).Unix()}), "not valid yet"},
		"without a name":            {with(map[string]any{"jti": nil}), "jti"},
		"without a subject":         {with(map[string]any{"sub": ""}), "sub"},
		"by a stranger":             {sign(t, jose.ES256, stranger, "ec", w.claims()), "does not verify"},
		"by an unknown key":         {sign(t, jose.ES256, stranger, "new", w.claims()), "no key"},
		"without a key's name":      {sign(t, jose.ES256, key, "", w.claims()), "kid"},
		"HMAC with the public key":  {sign(t, jose.HS256, spki, "ec", w.claims()), "algorithm"},
		"an algorithm of another":   {sign(t, jose.RS256, rsaKey, "ps", w.claims()), "is for PS256"},
		"alg none":                  {none + "." + parts[1] + ".", "algorithm"},
		"alg none with a signature": {none + "." + parts[1] + "." + parts[2], "algorithm"},
		"without its signature":     {parts[0] + "." + parts[1] + ".", "does not verify"},
		"other claims":              {parts[0] + "." + base64.RawURLEncoding.EncodeToString([]byte(strings.ReplaceAll(fmt.Sprintf(`{"iss":%q}`, w.URL), " ", ""))) + "." + parts[2], "does not verify"},
		"no JSON inside":            {parts[0] + "." + base64.RawURLEncoding.EncodeToString([]byte("x")) + "." + parts[2], "cannot be read"},
		"nothing":                   {"", "no JWT"},
		"too long":                  {strings.Repeat("a", MaxToken+1), "bytes long"},
	} {
		w.refuses(t, name, c.token, c.words)
	}
	if _, err := w.verify(t, good); err != nil {
		t.Errorf("the good one: %v", err)
	}
}

// TestRotation: a new key is found, a stranger's names do not make the server
// ask all the time, and a key that is gone ends.
func TestRotation(t *testing.T) {
	w := newWorld(t, "127.0.0.0/8")
	first, second := ecKey(t), ecKey(t)
	w.publish("1", first, "")
	if _, err := w.verify(t, sign(t, jose.ES256, first, "1", w.claims())); err != nil {
		t.Fatal(err)
	}
	w.keys = nil
	w.publish("2", second, "")
	for range 20 {
		w.refuses(t, "too soon", sign(t, jose.ES256, second, "2", w.claims()), "no key")
	}
	if n := w.reads.Load(); n != 1 {
		t.Errorf("the keys were read %d times", n)
	}
	w.now = w.now.Add(again)
	if _, err := w.verify(t, sign(t, jose.ES256, second, "2", w.claims())); err != nil {
		t.Error(err)
	}
	w.refuses(t, "the first key", sign(t, jose.ES256, first, "1", w.claims()), "no key")
	if n := w.reads.Load(); n != 2 {
		t.Errorf("the keys were read %d times", n)
	}
}

// TestIssuerAway: within the hour its keys are known; afterwards nothing is
// believed until it answers.
func TestIssuerAway(t *testing.T) {
	w := newWorld(t, "127.0.0.0/8")
	key := ecKey(t)
	w.publish("1", key, "")
	if _, err := w.verify(t, sign(t, jose.ES256, key, "1", w.claims())); err != nil {
		t.Fatal(err)
	}
	w.instead = func(rw http.ResponseWriter) bool { rw.WriteHeader(500); return true }
	w.now = w.now.Add(keysLife - time.Second)
	if _, err := w.verify(t, sign(t, jose.ES256, key, "1", w.claims())); err != nil {
		t.Error(err)
	}
	w.now = w.now.Add(time.Second)
	for range 2 {
		var away *UnreachableError
		if _, err := w.verify(t, sign(t, jose.ES256, key, "1", w.claims())); !errors.As(err, &away) || away.Issuer != w.URL {
			t.Errorf("%v", err)
		}
	}
	w.instead = nil
	w.now = w.now.Add(again)
	if _, err := w.verify(t, sign(t, jose.ES256, key, "1", w.claims())); err != nil {
		t.Error(err)
	}
}

// TestBadIssuers: what an issuer answers leads nowhere else, and nobody but
// public addresses and those that are allowed is asked.
func TestBadIssuers(t *testing.T) {
	key := ecKey(t)
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		allow string
		turn  func(*world)
		words string
	}{
		"a private address":   {"", func(*world) {}, "not a public one"},
		"of another issuer":   {"127.0.0.0/8", func(w *world) { w.document["issuer"] = "https://elsewhere.example" }, "elsewhere"},
		"keys over http":      {"127.0.0.0/8", func(w *world) { w.document["jwks_uri"] = "http://127.0.0.1/keys" }, "only https"},
		"keys nowhere":        {"127.0.0.0/8", func(w *world) { w.document["jwks_uri"] = w.URL + "/none" }, "404"},
		"keys in the network": {"127.0.0.0/8", func(w *world) { w.document["jwks_uri"] = "https://169.254.169.254/keys" }, "not a public one"},
		"a redirect": {"127.0.0.0/8", func(w *world) {
			w.instead = func(rw http.ResponseWriter) bool {
				rw.Header().Set("Location", w.URL+"/keys")
				rw.WriteHeader(302)
				return true
			}
		}, "redirect"},
		"no keys":             {"127.0.0.0/8", func(w *world) { w.keys = []any{} }, "no key"},
		"weak keys":           {"127.0.0.0/8", func(w *world) { w.keys = []any{jose.JSONWebKey{Key: weak.Public(), KeyID: "1"}} }, "no key"},
		"a shared secret":     {"127.0.0.0/8", func(w *world) { w.keys = []any{jose.JSONWebKey{Key: []byte("secret"), KeyID: "1"}} }, "no key"},
		"keys for encryption": {"127.0.0.0/8", func(w *world) { w.keys = []any{jose.JSONWebKey{Key: key.Public(), KeyID: "1", Use: "enc"}} }, "no key"},
		"no JSON": {"127.0.0.0/8", func(w *world) {
			w.instead = func(rw http.ResponseWriter) bool { _, _ = rw.Write([]byte("<html>")); return true }
		}, "no JSON"},
		"more than is read": {"127.0.0.0/8", func(w *world) {
			w.instead = func(rw http.ResponseWriter) bool {
				_, _ = rw.Write([]byte(`{"issuer":"` + strings.Repeat("a", maxDocument) + `"}`))
				return true
			}
		}, "no JSON"},
	} {
		t.Run(name, func(t *testing.T) {
			var allow []string
			if c.allow != "" {
				allow = append(allow, c.allow)
			}
			w := newWorld(t, allow...)
			w.publish("1", key, "")
			c.turn(w)
			_, err := w.verify(t, sign(t, jose.ES256, key, "1", w.claims()))
			var away *UnreachableError
			if !errors.As(err, &away) || !strings.Contains(err.Error(), c.words) {
				t.Errorf("%v, want %q", err, c.words)
			}
		})
	}
	other := newWorld(t, "127.0.0.0/8")
	other.publish("1", key, "")
	local, err := egress.Parse([]string{"127.0.0.0/8"})
	if err != nil {
		t.Fatal(err)
	}
	other.verifier.HTTP = NewClient(local, nil) // with the system's roots
	if _, err := other.verify(t, sign(t, jose.ES256, key, "1", other.claims())); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("an issuer with a certificate of nobody: %v", err)
	}
}
