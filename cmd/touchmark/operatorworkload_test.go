package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	jose "github.com/go-jose/go-jose/v4"

	"github.com/touchmark/touchmark/server/api"
)

// issuer is a CI system that makes tokens.
type issuer struct {
	*httptest.Server
	key *ecdsa.PrivateKey
}

func newIssuer(t *testing.T) *issuer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	i := &issuer{key: key}
	mux := http.NewServeMux()
	mux.HandleFunc("/.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(map[string]string{"issuer": i.URL, "jwks_uri": i.URL + "/keys"})
	})
	mux.HandleFunc("/keys", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: "1", Use: "sig", Algorithm: "ES256"}}})
	})
	i.Server = httptest.NewTLSServer(mux)
	t.Cleanup(i.Close)
	return i
}

// token is one for a build of a ref, in a file.
func (i *issuer) token(t *testing.T, ref string, more map[string]any) string {
	t.Helper()
	claims := map[string]any{"iss": i.URL, "aud": "touchmark.test", "sub": "repo:acme/thermostat:ref:" + ref, "jti": rand.Text(), "iat": time.Now().Unix(), "exp": time.Now().Add(5 * time.Minute).Unix(),
		"repository": "acme/thermostat", "ref": ref}
	for name, value := range more {
		claims[name] = value
	}
	payload, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: i.key}, (&jose.SignerOptions{}).WithHeader("kid", "1"))
	if err != nil {
		t.Fatal(err)
	}
	jws, err := signer.Sign(payload)
	if err != nil {
		t.Fatal(err)
	}
	text, err := jws.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return temporary(t, []byte(text+"\n"))
}

// newWorkloadWorld is a world whose server believes the certificates of an
// issuer and may reach it.
func newWorkloadWorld(t *testing.T) (*world, *issuer) {
	t.Helper()
	i, dir := newIssuer(t), initialized(t)
	config := filepath.Join(dir, "touchmark.yaml")
	text, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	text = append(text[:bytes.Index(text, []byte("\nworkloads:\n"))], append([]byte("\nworkloads: {allow: [127.0.0.0/8], ca: "+temporary(t, pemOf("CERTIFICATE", i.Certificate().Raw))+"}\n"),
		text[bytes.Index(text, []byte("\n# status is where")):]...)...)
	if err := os.WriteFile(config, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return newWorldIn(t, dir), i
}

// A build gets a certificate for an hour for a token of its CI, and works with
// it as its role allows; other tokens, and the same one again, get nothing.
func TestWorkloadLogsIn(t *testing.T) {
	w, ci := newWorkloadWorld(t)
	trust := []string{"operator", "trust", "thermo-ci", "--role", "release-engineer", "--issuer", ci.URL, "--audience", "touchmark.test", "--claim", "repository=acme/thermostat"}
	w.admin(t, "operator", "trust", "x", "--role", "admin", "--issuer", ci.URL, "--audience", "touchmark.test", "--claim", "repository=acme/thermostat").want(t, exitUsage, "cannot have the role admin")
	w.admin(t, "operator", "trust", "x", "--role", "auditor", "--issuer", "http://ci", "--audience", "touchmark.test", "--claim", "repository=acme/thermostat").want(t, exitUsage, "the issuer")
	w.admin(t, append(trust, "--claim", "ref=refs/tags/v*")...).want(t, 0, "tokens of", "repository=acme/thermostat", "ref=refs/tags/v*")
	w.admin(t, "operator", "list").want(t, 0, "tokens of "+ci.URL)

	out := filepath.Join(t.TempDir(), "ci")
	server, root := "https://"+w.server.Addr["api"], filepath.Join(w.dir, "ca", "root.crt")
	login := func(name, token string, more ...string) ran {
		return touchmark(t, append([]string{"--server", server, "--ca", root, "operator", "login", name, "--token-file", token, "--out", out}, more...)...)
	}
	token := ci.token(t, "refs/tags/v1.4.0", nil)
	made := decodeAs[api.OperatorCreated](t, login("thermo-ci", token, "--json").want(t, 0).out)
	cert, err := parsePEM([]byte(made.Certificate))
	if err != nil {
		t.Fatal(err)
	}
	if left := time.Until(cert.NotAfter); left > time.Hour || left < 59*time.Minute || len(cert.ExtKeyUsage) != 1 || cert.ExtKeyUsage[0] != x509.ExtKeyUsageClientAuth || cert.Subject.CommonName != "thermo-ci" {
		t.Errorf("the certificate lasts %s, is for %v, of %s", left, cert.ExtKeyUsage, cert.Subject)
	}
	me := touchmark(t, "--dir", out, "operator", "whoami").want(t, 0, "thermo-ci", "release-engineer", "propose and sign firmware releases")
	if strings.Contains(me.out, "approve proposals") {
		t.Errorf("a build may approve:\n%s", me.out)
	}
	touchmark(t, "--dir", out, "firmware", "release", "create", "thermostat@1.4.0", "--counter", "3", "--support-end", "2031-12-31").want(t, 0, "thermo-ci")
	touchmark(t, "--dir", out, "operator", "add", "mallory", "--role", "admin", "--out", filepath.Join(t.TempDir(), "m")).want(t, exitFailed, "permission to manage operators")
	touchmark(t, "--dir", out, "operator", "renew").want(t, exitFailed, "another token")

	login("thermo-ci", token).want(t, exitFailed, "used before") // with another key
	for name, c := range map[string]struct{ token, words string }{
		"a branch":           {ci.token(t, "refs/heads/main", nil), `ref is "refs/heads/main"`},
		"another repository": {ci.token(t, "refs/tags/v1", map[string]any{"repository": "acme/thermostat-fork"}), "repository"},
		"another audience":   {ci.token(t, "refs/tags/v1", map[string]any{"aud": "sigstore"}), "audience"},
		"expired":            {ci.token(t, "refs/tags/v1", map[string]any{"exp": time.Now().Add(-time.Minute).Unix()}), "expired"},
		"another CI":         {newIssuer(t).token(t, "refs/tags/v1", nil), "is trusted"},
		"another CI's key":   {(&issuer{ci.Server, newIssuer(t).key}).token(t, "refs/tags/v1", nil), "does not verify"},
		"no token":           {temporary(t, []byte("eyJ")), "no JWT"},
	} {
		if r := login("thermo-ci", c.token); r.code != exitFailed || !strings.Contains(r.err, c.words) {
			t.Errorf("%s: exit status %d, %s", name, r.code, r.err)
		}
	}
	login("thermo-ci", temporary(t, nil)).want(t, exitUsage, "is empty")
	login("nobody", ci.token(t, "refs/tags/v1", nil)).want(t, exitFailed, "no workload nobody")
	login("anna", ci.token(t, "refs/tags/v1", nil)).want(t, exitFailed, "no workload anna")
	touchmark(t, "--dir", out, "operator", "whoami").want(t, 0, "thermo-ci") // what failed wrote nothing

	login("thermo-ci", ci.token(t, "refs/tags/v1.4.0", nil)).want(t, 0) // for a job that takes longer
	touchmark(t, "--dir", out, "firmware", "release", "show", "thermostat@1.4.0").want(t, 0)
	w.admin(t, "operator", "revoke", "thermo-ci", "--yes").want(t, 0)
	touchmark(t, "--dir", out, "operator", "whoami").want(t, exitFailed, "was revoked")
	login("thermo-ci", ci.token(t, "refs/tags/v1.4.0", nil)).want(t, exitFailed, "no workload")
	w.admin(t, "audit", "verify").want(t, 0, "nothing is wrong")
}
