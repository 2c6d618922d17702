package main

import (
	"os"
	"path/filepath"
	"testing"
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

	w.admin(t, "issuer", "default", "acme-ca").want(t, 0, "all others")
	w.admin(t, "issuer", "close", "acme-ca").want(t, exitFailed, "make another the default first")
	w.admin(t, "issuer", "default", "device-ca").want(t, 0, "device-ca")
	w.admin(t, "issuer", "close", "acme-ca").want(t, exitFailed, "touchmark owner set-issuer")
	w.admin(t, "owner", "set-issuer", "acme").want(t, exitUsage, "--default")
	w.admin(t, "owner", "set-issuer", "acme", "beta").want(t, exitFailed, `no issuing CA "beta"`)
	w.admin(t, "owner", "set-issuer", "acme", "--default").want(t, 0, "acme")
	w.admin(t, "issuer", "close", "acme-ca").want(t, 0, "nobody")
	w.admin(t, "issuer", "default", "acme-ca").want(t, exitFailed, "closed")
	w.admin(t, "issuer", "reopen", "acme-ca").want(t, 0, "owners that name it")
	w.admin(t, "audit", "verify").want(t, 0, "nothing is wrong")
	w.server.stop(t)
	touchmark(t, "serve", "--check", "--dir", w.dir).want(t, 0, "database")
	if err := os.Remove(filepath.Join(w.dir, "keys", "issuer-acme-ca.key")); err != nil {
		t.Fatal(err)
	}
	touchmark(t, "serve", "--check", "--dir", w.dir).want(t, 0, "issuing CA acme-ca", "cannot sign")
}
