package server

import (
	"context"
	"crypto/ecdsa"
	"encoding/json"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/touchmark/touchmark/internal/store/storetest"
	"github.com/touchmark/touchmark/server/api"
	"github.com/touchmark/touchmark/vetting"
)

// twoServers are two servers on one database, which clients reach by one name,
// as behind a load balancer.
func twoServers(t *testing.T) (w *works, other *Server) {
	t.Helper()
	w = opened(t, func(c *Config) { c.ACME.URL = "https://localhost:8447" })
	other, err := New(t.Context(), w.config, Environment{Now: w.now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = other.Stop(context.WithoutCancel(t.Context())) })
	if err := other.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return w, other
}

// at is a client that comes to one of the servers, whatever its name says.
func (c *acmeClient) at(w *works, s *Server) *acmeClient {
	c.t.Helper()
	h := as(w.t, w.config, "")
	h.Transport.(*http.Transport).DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, s.Addrs()["acme"])
	}
	next := *c
	next.http, next.base, next.nonce = h, w.config.ACME.URL+"/acme/", ""
	return &next
}

// on is an order as a client at another server goes on with it.
func (o *acmeOrder) on(c *acmeClient) *acmeOrder {
	next := *o
	next.acmeClient = c
	return &next
}

// A client that comes to another server with each request enrols like any: what
// one server did the other knows.
func TestACMEServersInTurn(t *testing.T) {
	w, other := twoServers(t)
	m := w.attesting()
	w.keyless("GW-1")
	a := w.acme().at(w, w.server)
	a.open(w.accountKey(api.AccountKeyInput{Order: "po-1"}))
	b := a.at(w, other)
	o := a.order(permanent("GW-1"))
	p := attestedKey(t, m, "GW-1")
	wantProblem(t, "finalized too soon, at the other", o.on(b).finalize(p), 403, "orderNotReady", "pending")
	if v := o.on(b).attest(o.statement(p, m.Issuing.Cert)); v.json(t)["status"] != "valid" {
		t.Fatalf("the challenge at the other: %d %s", v.status, v.body)
	}
	if v := a.post(o.challengeAt, map[string]any{}).json(t); v["status"] != "valid" {
		t.Errorf("answered again, here: %v", v)
	}
	if n, err := w.server.store.Evidence(t.Context(), vetting.EvidenceFilter{}, vetting.Page{}); err != nil || len(n) != 0 {
		t.Errorf("%d pieces of evidence by an answer that came late, %v", len(n), err)
	}
	if v := o.finalize(p).json(t); v["status"] != "valid" {
		t.Fatalf("finalized here: %v", v)
	}
	wantProblem(t, "finalized again, at the other", o.on(b).finalize(p), 403, "orderNotReady", "another request")
	if there, here := o.on(b).certificate(), o.certificate(); !there.Equal(here) {
		t.Error("the servers give different certificates")
	}
	storetest.Verify(t, w.server.store)
}

// accountChange is a change that takes an account, or its key, its right.
type accountChange struct {
	do     func(w *works, here *acmeClient, k api.AccountKeyCreated) (next *ecdsa.PrivateKey)
	status int
	kind   string
	text   string
}

func accountChanges() map[string]accountChange {
	return map[string]accountChange{
		"deactivated": {func(w *works, here *acmeClient, _ api.AccountKeyCreated) *ecdsa.PrivateKey {
			here.post(here.kid, map[string]any{"status": "deactivated"})
			return nil
		}, 401, "unauthorized", "deactivated"},
		"its account key revoked": {func(w *works, _ *acmeClient, k api.AccountKeyCreated) *ecdsa.PrivateKey {
			send(w.t, as(w.t, w.config, "admin"), "POST", "https://"+w.server.Addrs()["api"]+"/api/v1/account-keys/"+k.KeyID+"/revoke", nil, 200)
			return nil
		}, 401, "unauthorized", "deactivated"},
		"on another key": {func(w *works, here *acmeClient, _ api.AccountKeyCreated) *ecdsa.PrivateKey { return here.changesKey() }, 400, "malformed", "does not verify"},
	}
}

// What an account's client does counts no more from the moment that the account
// was ended, or has another key, whichever server that came to.
func TestACMEAccountChangedElsewhere(t *testing.T) {
	for what, change := range accountChanges() {
		t.Run(what, func(t *testing.T) {
			w, other := twoServers(t)
			m := w.attesting()
			k := w.accountKey(api.AccountKeyInput{Order: "po-1"})
			here := w.acme().at(w, w.server)
			here.open(k)
			there := here.at(w, other)
			serials := []string{"GW-1", "GW-2"}
			p := attestedKey(t, m, serials[0])
			for _, s := range serials {
				w.keyless(s)
			}
			ready, pending := there.ready(m, permanent(serials[0]), p), there.order(permanent(serials[1]))
			statement := pending.statement(attestedKey(t, m, serials[1]), m.Issuing.Cert)
			next := change.do(w, here, k)

			wantProblem(t, "finalizes", ready.finalize(p), change.status, change.kind, change.text)
			wantProblem(t, "answers a challenge", pending.attest(statement), change.status, change.kind, change.text)
			wantProblem(t, "orders", there.post("new-order", permanent(serials[0])), change.status, change.kind, change.text)
			if s := w.device(serials[0]).State; s != vetting.DeviceManufactured {
				t.Errorf("the device is %s", s)
			}
			if next == nil {
				return
			}
			there.key = next
			if v := ready.finalize(p).json(t); v["status"] != "valid" {
				t.Errorf("finalized by the new key: %v", v)
			}
			storetest.Verify(t, w.server.store)
		})
	}
}

// A second later the account cannot even look.
func TestACMEAccountLooksElsewhere(t *testing.T) {
	for what, change := range accountChanges() {
		t.Run(what, func(t *testing.T) {
			w, other := twoServers(t)
			k := w.accountKey(api.AccountKeyInput{Order: "po-1"})
			here := w.acme().at(w, w.server)
			here.open(k)
			o := here.at(w, other).order(permanent("GW-1"))
			change.do(w, here, k)
			w.ahead.Store(int64(time.Second))
			wantProblem(t, "looks at its order", o.post(o.at, nil), change.status, change.kind, change.text)
		})
	}
}

// A new key counts at every server at once, and so does what changes nothing
// of an account's right.
func TestACMEAccountGoesOnElsewhere(t *testing.T) {
	w, other := twoServers(t)
	here := w.acme().at(w, w.server)
	here.open(w.accountKey(api.AccountKeyInput{Order: "po-1"}))
	there := here.at(w, other)
	there.order(permanent("GW-1"))
	if a := here.post(here.kid, map[string]any{"contact": []string{"mailto:a@example.com"}}); a.status != 200 {
		t.Fatalf("%d %s", a.status, a.body)
	}
	there.order(permanent("GW-2"))
	if a := there.post(there.kid, map[string]any{"contact": []string{"mailto:b@example.com"}}); a.status != 200 {
		t.Errorf("its contact changed at both: %d %s", a.status, a.body)
	}
	here.order(permanent("GW-3"))
	there.order(permanent("GW-3"))
	there.key = here.changesKey()
	there.order(permanent("GW-4"))
}

// changesKey gives the account another key, which the client does not use yet.
func (c *acmeClient) changesKey() *ecdsa.PrivateKey {
	c.t.Helper()
	next := newP256(c.t)
	body, err := json.Marshal(map[string]any{"account": c.kid, "oldKey": jose.JSONWebKey{Key: c.key.Public()}})
	if err != nil {
		c.t.Fatal(err)
	}
	inner := json.RawMessage(signJWS(c.t, jose.ES256, next, body, map[string]any{"url": c.url("key-change"), "jwk": jose.JSONWebKey{Key: next.Public()}}))
	if a := c.post("key-change", inner); a.status != 200 {
		c.t.Fatalf("key change: %d %s", a.status, a.body)
	}
	return next
}
