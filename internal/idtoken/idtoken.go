// Package idtoken verifies ID tokens (OpenID Connect Core 1.0 §2) that a CI
// system gives to its builds: JWTs (RFC 7519) that say what is being built. The
// keys are fetched from the issuer, as its discovery document says.
package idtoken

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	jose "github.com/go-jose/go-jose/v4"
)

// MaxToken is the longest token that is read, in bytes.
const MaxToken = 16 << 10

// skew is how far the clocks of issuer and server may differ.
const skew = 30 * time.Second

// algorithms are those that count (RFC 7518 §3.1, RFC 8037 §3.1): with keys
// that only the issuer has.
var algorithms = []jose.SignatureAlgorithm{jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512, jose.ES256, jose.ES384, jose.ES512, jose.EdDSA}

// Refused says what is wrong with a token, in words for its holder.
type Refused struct{ Reason string }

func (e *Refused) Error() string { return e.Reason }

func refused(format string, args ...any) error { return &Refused{fmt.Sprintf(format, args...)} }

// Token is what a genuine token says.
type Token struct {
	// ID names the token, over all issuers.
	ID      [sha256.Size]byte
	Subject string
	Claims  map[string]any // numbers are json.Numbers
}

// registered are the claims that are looked at here.
type registered struct {
	Issuer   string       `json:"iss"`
	Subject  string       `json:"sub"`
	Audience audience     `json:"aud"`
	ID       string       `json:"jti"`
	Expires  *json.Number `json:"exp"`
	Begins   *json.Number `json:"nbf"`
	Issued   *json.Number `json:"iat"`
}

// audience is a text or a list of texts (RFC 7519 §4.1.3).
type audience []string

func (a *audience) UnmarshalJSON(b []byte) error {
	var one string
	if json.Unmarshal(b, &one) == nil {
		*a = audience{one}
		return nil
	}
	return json.Unmarshal(b, (*[]string)(a))
}

// Verify checks that an issuer made a token for an audience, for now. What is
// wrong with the token is a [*Refused]; other errors are of reaching the issuer.
func (v *Verifier) Verify(ctx context.Context, issuer, aud, token string) (*Token, error) {
	if len(token) > MaxToken {
		return nil, refused("the token is %d bytes long: at most %d are read", len(token), MaxToken)
	}
	jws, err := jose.ParseSignedCompact(token, algorithms)
	if err != nil {
		return nil, refused("the token is no JWT that is signed by an algorithm that counts: %v", err)
	}
	// Nobody is asked for the keys of an issuer that is not the token's.
	said, err := claimsOf(jws.UnsafePayloadWithoutVerification())
	if err != nil {
		return nil, err
	}
	if said.Issuer != issuer {
		return nil, refused("the token is of the issuer %q, and %q is trusted", said.Issuer, issuer)
	}
	header := jws.Signatures[0].Protected
	if header.KeyID == "" {
		return nil, refused("the token's header names no key (kid)")
	}
	key, err := v.key(ctx, issuer, header.KeyID)
	if err != nil {
		return nil, err
	}
	if key.Algorithm != "" && key.Algorithm != header.Algorithm {
		return nil, refused("the token is signed by %s, and its key is for %s", header.Algorithm, key.Algorithm)
	}
	payload, err := jws.Verify(key.Key)
	if err != nil {
		return nil, refused("the token's signature does not verify with the key %q of %s", header.KeyID, issuer)
	}
	return v.judge(payload, issuer, aud)
}

func claimsOf(payload []byte) (*registered, error) {
	said := new(registered)
	if err := json.Unmarshal(payload, said); err != nil {
		return nil, refused("the token's claims cannot be read: %v", err)
	}
	return said, nil
}

// judge looks at the claims of a token whose signature is good.
func (v *Verifier) judge(payload []byte, issuer, aud string) (*Token, error) {
	said, err := claimsOf(payload)
	if err != nil {
		return nil, err
	}
	if len(said.Audience) != 1 || said.Audience[0] != aud {
		return nil, refused("the token is for the audience %q, and must be for %q alone", []string(said.Audience), aud)
	}
	if said.ID == "" || said.Subject == "" {
		return nil, refused("the token lacks jti or sub: one without a name could be used twice")
	}
	if err := v.inTime(said); err != nil {
		return nil, err
	}
	t := &Token{ID: sha256.Sum256([]byte(issuer + "\n" + said.ID)), Subject: said.Subject}
	return t, decode(payload, &t.Claims)
}

// inTime looks at exp, nbf and iat (RFC 7519 §4.1).
func (v *Verifier) inTime(said *registered) error {
	now := v.Now()
	expires, err := instant("exp", said.Expires, true)
	if err != nil {
		return err
	}
	issued, err := instant("iat", said.Issued, true)
	if err != nil {
		return err
	}
	begins, err := instant("nbf", said.Begins, false)
	switch {
	case err != nil:
		return err
	case !now.Before(expires.Add(skew)):
		return refused("the token expired at %s: get a new one", expires.UTC().Format(time.RFC3339))
	case now.Add(skew).Before(issued) || now.Add(skew).Before(begins):
		return refused("the token is not valid yet, at %s: look at the clocks of server and issuer", now.UTC().Format(time.RFC3339))
	}
	return nil
}

// instant reads a NumericDate (RFC 7519 §2).
func instant(name string, n *json.Number, wanted bool) (time.Time, error) {
	if n == nil {
		if wanted {
			return time.Time{}, refused("the token lacks the claim %s", name)
		}
		return time.Time{}, nil
	}
	seconds, err := n.Float64()
	if err != nil || seconds < 0 || seconds > 1<<40 {
		return time.Time{}, refused("the token's %s is %s, and no time", name, *n)
	}
	return time.Unix(int64(seconds), 0), nil
}

// usable keeps of an issuer's keys those that can verify: public ones that are
// strong enough, and for signatures.
func usable(k jose.JSONWebKey) error {
	switch pub := k.Key.(type) {
	case *rsa.PublicKey:
		if pub.N.BitLen() < 2048 {
			return errors.New("an RSA key of less than 2048 bits")
		}
	case *ecdsa.PublicKey, ed25519.PublicKey:
	default:
		return fmt.Errorf("a key of type %T", k.Key)
	}
	if k.KeyID == "" || k.Use != "" && k.Use != "sig" {
		return errors.New("no key for signatures with a name")
	}
	return nil
}
