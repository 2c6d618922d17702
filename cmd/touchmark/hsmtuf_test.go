//go:build pkcs11

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The TUF repository's keys are in an HSM, and one that signs roots, too. While
// it is away, what there is is served on; when it is back, metadata follows.
func TestTUFInAnHSM(t *testing.T) {
	kms := softHSM(t, "1234") + "?pin-value=1234"
	data, r := initHSM(t, kms)
	r.want(t, 0)
	f := newWorldIn(t, data)
	f.admin(t, "firmware", "key", "create", "thermo-1", "--product", "thermostat", "--stage", "production").want(t, 0)
	w := newTUFWorldOf(t, &firmwareWorld{world: f, build: t.TempDir(), erna: (&firmwareWorld{world: f}).operator(t, "erna")})
	offline := strings.NewReplacer("{id}", "77", "{name}", "dora").Replace(kms)
	run(t, "tuf", "root", "make-key", offline, "-o", w.in("dora.pub")).want(t, 0, "key ID", "pin-value=…")
	w.admin(t, "tuf", "init").want(t, 0, "tuf-timestamp-1")
	inToken(t, "1234", "root", "device-ca", "factory-ca", "operator-ca", "codesign-ca", "log", "responder", "attestation", "timestamp", "firmware-thermo-1",
		"dora", "tuf-targets-1", "tuf-snapshot-1", "tuf-timestamp-1")
	w.create(t, "root.json", "--root-key", w.in("dora.pub"), "--root-key", w.in("berta.pub"), "--threshold", "2").want(t, 0)
	run(t, "tuf", "root", "sign", w.in("root.json"), "--key", offline, "-o", w.in("by-dora.json"), "--yes").want(t, 0)
	w.signs(t, "berta", "by-dora.json", "signed.json").want(t, 0, "Enough keys")
	w.imports(t, "signed.json").want(t, 0)
	c := w.client(t)
	first := w.publish(t, "1.4.0", 3)
	w.lists(t, 1)
	c.good(t, "1.4.0", first)
	second := w.signed(t, "1.5.0", 4)

	tokens := filepath.Join(filepath.Dir(os.Getenv("SOFTHSM2_CONF")), "tokens")
	if err := os.Rename(tokens, tokens+".away"); err != nil {
		t.Fatal(err)
	}
	w.as(t, w.erna, "release", "publish", "thermostat@1.5.0").want(t, 0, "published")
	text := ""
	for !strings.Contains(text, "TUF metadata cannot be made") && t.Context().Err() == nil {
		_, text = w.ready(t)
	}
	if strings.Contains(text, "1234") {
		t.Errorf("readiness says %s", text)
	}
	w.admin(t, "tuf", "show").want(t, 0, "metadata cannot be made")
	c.good(t, "1.4.0", first)
	c.bad(t, w.url(), "1.5.0", "no such target")
	w.imports(t, "signed.json").want(t, 0) // it was taken already
	if err := os.Rename(tokens+".away", tokens); err != nil {
		t.Fatal(err)
	}
	w.lists(t, 2)
	c.good(t, "1.5.0", second)
	w.admin(t, "audit", "verify").want(t, 0, "nothing is wrong")
}
