package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/touchmark/touchmark/server/api"
)

func TestIssuerCommands(t *testing.T) {
	w := newWorld(t)
	root, safe := filepath.Join(w.dir, "keys", "root.key"), filepath.Join(t.TempDir(), "root.key")
	if err := os.Rename(root, safe); err != nil {
		t.Fatal(err)
	}
	w.admin(t, "issuer", "list").want(t, 0, "device-ca")
	w.admin(t, "issuer", "create", "acme-ca").want(t, exitFailed, "root's key", "bring it")
	w.admin(t, "issuer", "create", "ACME", "--root-key", safe).want(t, exitFailed, "capital letters")
	w.admin(t, "issuer", "create", "device-ca", "--root-key", safe).want(t, exitFailed, "choose another name")
	w.site(t, "issuer", "create", "acme-ca", "--config", filepath.Join(w.dir, "touchmark.yaml"), "--root-key", safe).want(t, exitFailed, "the role site-operator")
	if _, err := os.Stat(filepath.Join(w.dir, "keys", "issuer-acme-ca.key")); err == nil {
		t.Error("an attempt that failed left a key behind")
	}
	w.admin(t, "owner", "create", "acme", "--issuer", "acme-ca").want(t, exitFailed, `no issuing CA "acme-ca"`)
	w.admin(t, "issuer", "create", "acme-ca", "--root-key", safe).want(t, 0, "CN=acme-ca,OU=Device CA,O=Test Works", "key identifier")
	w.admin(t, "issuer", "create", "acme-ca", "--root-key", safe).want(t, exitFailed, "exists already")
	w.admin(t, "issuer", "list").want(t, 0, "device-ca", "acme-ca")
	w.admin(t, "owner", "create", "acme", "--issuer", "acme-ca").want(t, 0, "issuing CA", "acme-ca")

	before := decodeAs[api.Issuer](t, w.admin(t, "issuer", "show", "acme-ca", "--json").want(t, 0).out)
	w.admin(t, "issuer", "renew", "device-ca", "--root-key", safe).want(t, exitFailed, "ca/device-ca.crt")
	w.admin(t, "issuer", "renew", "beta", "--root-key", safe).want(t, exitFailed, "no issuing CA")
	w.admin(t, "issuer", "renew", "acme-ca", "--root-key", safe).want(t, 0, "renewed")
	after := decodeAs[api.Issuer](t, w.admin(t, "issuer", "show", "acme-ca", "--json").want(t, 0).out)
	if after.PEM == before.PEM || after.KeyID != before.KeyID || after.Subject != before.Subject {
		t.Errorf("renewed: %+v, before %+v", after, before)
	}
	w.admin(t, "audit", "verify").want(t, 0, "nothing is wrong")
	w.server.stop(t)
	touchmark(t, "serve", "--check", "--dir", w.dir).want(t, 0, "database")
	if err := os.Remove(filepath.Join(w.dir, "keys", "issuer-acme-ca.key")); err != nil {
		t.Fatal(err)
	}
	touchmark(t, "serve", "--check", "--dir", w.dir).want(t, 0, "issuing CA acme-ca", "cannot sign")
}
