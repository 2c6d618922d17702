package main

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/touchmark/touchmark/server/api"
)

// safe moves the root's key and a copy of its certificate out of the server's
// directory.
func (w *world) safe(t *testing.T) (key, cert string) {
	t.Helper()
	dir := t.TempDir()
	key, cert = filepath.Join(dir, "root.key"), filepath.Join(dir, "root.crt")
	if err := os.Rename(filepath.Join(w.dir, "keys", "root.key"), key); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(filepath.Join(w.dir, "ca", "root.crt"), cert); err != nil {
		t.Fatal(err)
	}
	return key, cert
}

// A ceremony in three steps: what is not as it should be is refused at each,
// and leaves everything as it was.
func TestCeremonyCommands(t *testing.T) {
	w := newWorld(t)
	key, cert := w.safe(t)
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	w.admin(t, "ca", "list").want(t, 0, "device-ca", "CN=Test Works Root CA", "devices, by default", "itself")
	for _, c := range decodeAs[[]listedCA](t, w.admin(t, "ca", "list", "--json").want(t, 0).out) {
		if c.Serial == "" || c.KeyID == "" || c.SHA256 == "" || len(c.Warnings) > 0 || c.NotAfter.Before(time.Now().AddDate(19, 0, 0)) {
			t.Errorf("listed is %+v", c)
		}
	}
	w.admin(t, "ca", "request", "-o", at("none")).want(t, exitUsage, "--all")
	w.admin(t, "ca", "request", "acme-ca", "--all", "-o", at("none")).want(t, exitUsage, "--all")
	w.admin(t, "ca", "request", "ACME", "-o", at("none")).want(t, exitFailed, "capital letters")
	w.admin(t, "ca", "request", "root", "-o", at("none")).want(t, exitFailed, "root-rollover begin")
	w.admin(t, "ca", "request", "acme-ca", "factory-ca", "-o", at("requests")).want(t, 0, "CN=acme-ca", "CN=Test Works Factory CA", "key (SHA-256)")
	w.admin(t, "ca", "request", "acme-ca", "-o", at("requests")).want(t, exitFailed, "exists")

	sign := func(args ...string) ran { return touchmark(t, append([]string{"ca", "sign"}, args...)...) }
	sign(at("requests"), "--root-key", key, "--root-cert", cert, "-o", at("none")).want(t, exitUsage, "CN=acme-ca", "add --yes")
	sign(at("requests"), "--root-key", filepath.Join(w.dir, "keys", "factory-ca.key"), "--root-cert", cert, "-o", at("none"), "--yes").want(t, exitFailed, "is not the key of a root certificate")
	sign(at("requests"), "--root-key", key, "--root-cert", filepath.Join(w.dir, "ca", "factory-ca.crt"), "-o", at("none"), "--yes").want(t, exitFailed, "is not the key of a root certificate")
	sign(cert, "--root-key", key, "--root-cert", cert, "-o", at("none"), "--yes").want(t, exitFailed, "something else than a CERTIFICATE REQUEST")
	if _, err := os.Stat(at("none")); err == nil {
		t.Error("a step that failed wrote a file")
	}
	sign(at("requests"), "--root-key", key, "--root-cert", cert, "-o", at("signed"), "--yes").want(t, 0, "CN=acme-ca", "CN=Test Works Factory CA")

	w.admin(t, "ca", "import", at("requests"), "--yes").want(t, exitFailed, "something else than a CERTIFICATE in PEM")
	w.admin(t, "ca", "import", cert, "--yes").want(t, exitFailed, "four certificates and not 1")
	w.admin(t, "ca", "import", at("signed")).want(t, exitUsage, "add --yes")
	w.site(t, "ca", "import", at("signed"), "--config", filepath.Join(w.dir, "touchmark.yaml"), "--yes").want(t, exitFailed, "the role site-operator")
	factory, err := os.ReadFile(filepath.Join(w.dir, "ca", "factory-ca.crt"))
	if err != nil {
		t.Fatal(err)
	}
	foreign := newWorld(t)
	foreign.admin(t, "ca", "import", at("signed"), "--yes").want(t, exitFailed, "acme-ca", "not signed by the root")
	w.admin(t, "ca", "import", at("signed"), "--yes").want(t, 0, "acme-ca: the server has the certificate", "factory-ca.crt replaced", "Restart")
	if now, err := os.ReadFile(filepath.Join(w.dir, "ca", "factory-ca.crt")); err != nil || string(now) == string(factory) {
		t.Errorf("the factory CA's certificate is what it was (%v)", err)
	}
	w.admin(t, "ca", "import", at("signed"), "--yes").want(t, 0, "acme-ca") // as after an attempt that broke off

	before := decodeAs[api.Issuer](t, w.admin(t, "issuer", "show", "acme-ca", "--json").want(t, 0).out)
	w.admin(t, "ca", "request", "acme-ca", "-o", at("next")).want(t, 0, "CN=acme-ca")
	sign(at("next"), "--root-key", key, "--root-cert", cert, "-o", at("next.crt"), "--yes").want(t, 0)
	w.admin(t, "ca", "import", at("next.crt"), "--yes").want(t, 0)
	after := decodeAs[api.Issuer](t, w.admin(t, "issuer", "show", "acme-ca", "--json").want(t, 0).out)
	if after.PEM == before.PEM || after.KeyID != before.KeyID || after.Subject != before.Subject {
		t.Errorf("another certificate: %+v, before %+v", after, before)
	}
	w.admin(t, "audit", "verify").want(t, 0, "nothing is wrong")
}

// The steps of a root roll-over, out of order.
func TestRolloverCommandsOutOfOrder(t *testing.T) {
	w := newWorld(t)
	key, cert := w.safe(t)
	bundle := filepath.Join(t.TempDir(), "rollover.pem")
	w.admin(t, "ca", "root-rollover", "switch", "--yes").want(t, exitFailed, "there is no root roll-over")
	w.admin(t, "ca", "root-rollover", "finish", "--yes").want(t, exitFailed, "there is no root roll-over")
	begin := func(out string) ran {
		return touchmark(t, "ca", "root-rollover", "begin", "--root-key", key, "--root-cert", cert, "--new-key", key+"-new", "-o", out, "--yes")
	}
	begin(bundle).want(t, 0, "The new root")
	begin(bundle).want(t, exitFailed, "exists")
	begin(bundle+"2").want(t, 0, "The new root") // on the same new key
	w.admin(t, "ca", "import", bundle, "--yes").want(t, 0, "has begun")
	w.admin(t, "ca", "import", bundle, "--yes").want(t, 0, "has begun")
	w.admin(t, "ca", "import", bundle+"2", "--yes").want(t, exitFailed, "another root roll-over has begun")
	w.admin(t, "ca", "root-rollover", "switch", "--yes").want(t, exitFailed, "is not signed by the new root")
	w.admin(t, "ca", "root-rollover", "finish", "--yes").want(t, 0, "one root again") // the way back
	newWorld(t).admin(t, "ca", "import", bundle, "--yes").want(t, exitFailed, "the roll-over is from the root")
}
