package main

import (
	"bytes"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/mldsa"
	pkix "filippo.io/mldsa/x509"

	"github.com/touchmark/touchmark/server/api"
)

// nodeVerifier runs @noble/post-quantum, which shares nothing with our library.
const nodeVerifier = "../../firmware-sign/detached/testdata/node/verify.mjs"

// noble has an implementation that others wrote verify a statement.
func noble(t *testing.T, algorithm string, public []byte, statement, signature string) error {
	t.Helper()
	key := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(key, public, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), "node", nodeVerifier, algorithm, "touchmark release statement", key, statement, signature).CombinedOutput()
	if err != nil && len(out) > 0 {
		t.Logf("%s", out)
	}
	return err
}

// published takes a release of app.bin the whole way.
func (w *firmwareWorld) published(t *testing.T, version string, by ...string) {
	t.Helper()
	w.signed(t, version, by...)
	w.as(t, w.erna, "release", "publish", "thermostat@"+version).want(t, 0, "published")
}

// signed takes a release of app.bin to where it can be published.
func (w *firmwareWorld) signed(t *testing.T, version string, by ...string) {
	t.Helper()
	name := "thermostat@" + version
	w.as(t, w.erna, "release", "create", name, "--counter", "3", "--support-end", "2031-12-31").want(t, 0)
	sign := []string{"sign", w.file("app.bin"), "--format", "mcuboot", "--stage", "production", "--release", name, "--set", "pad-header=true"}
	w.as(t, w.erna, sign...).want(t, exitHeld)
	if err := os.WriteFile(w.file("sbom.json"), []byte(`{"bomFormat":"CycloneDX","specVersion":"1.6"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	w.provenance(t, "provenance.json", "app.bin")
	w.as(t, w.erna, "release", "attach", name, w.file("sbom.json")).want(t, 0)
	w.as(t, w.erna, "release", "attach", name, w.file("provenance.json")).want(t, 0)
	w.as(t, w.erna, "release", "submit", name, "--note", "it is ready").want(t, 0)
	w.approve(t, name, by...)
	w.as(t, w.erna, sign...).want(t, 0)
}

// A product's ML-DSA keys sign the statement of each release when it is
// published, and foreign programs verify signature and time stamp; keys that
// are revoked sign nothing more.
func TestFirmwareStatement(t *testing.T) {
	w := newFirmwareWorld(t)
	berta, carla := w.operator(t, "berta"), w.operator(t, "carla")
	w.published(t, "1.0.0", berta, carla) // before there is such a key
	out := w.file("old")
	w.as(t, w.erna, "release", "statement", "thermostat@1.0.0", "--out", out).want(t, 0, "nobody")

	create := []string{"key", "create", "thermo-pq", "--product", "thermostat", "--kind", "ML-DSA-65", "--stage"}
	w.admin(t, append([]string{"firmware"}, append(create, "test")...)...).want(t, exitFailed, "for the stage production")
	w.admin(t, append([]string{"firmware"}, append(create, "production")...)...).want(t, 0, "ML-DSA-65")
	w.admin(t, "firmware", "key", "create", "thermo-pq87", "--product", "thermostat", "--stage", "production", "--kind", "ML-DSA-87").want(t, 0)
	if shown := w.as(t, w.erna, "key", "show", "thermo-pq").want(t, 0, "BEGIN PUBLIC KEY"); strings.Contains(shown.out, "CERTIFICATE") {
		t.Errorf("it has a certificate:\n%s", shown.out)
	}
	w.as(t, w.erna, "key", "export", "thermo-pq", "--for", "cms").want(t, exitFailed, "signs statements")
	w.as(t, w.erna, "release", "statement", "thermostat@1.0.0", "--out", out, "--sign").want(t, 0, "thermo-pq (ml-dsa-65)", "thermo-pq87 (ml-dsa-87)")

	w.signed(t, "1.1.0", berta, carla)
	w.as(t, w.erna, "release", "publish", "thermostat@1.1.0").want(t, 0, "published")
	out = w.file("statement")
	st := decodeAs[api.SignedStatement](t, w.as(t, w.erna, "release", "statement", "thermostat@1.1.0", "--out", out, "--json").want(t, 0).out)
	again := decodeAs[api.SignedStatement](t, w.as(t, w.erna, "release", "statement", "thermostat@1.1.0", "--out", out, "--sign", "--json").want(t, 0).out)
	if len(st.Signatures) != 2 || len(again.Signatures) != 2 || !bytes.Equal(st.Signatures[0].Signature, again.Signatures[0].Signature) {
		t.Fatalf("signed: %+v, and again: %+v", st, again)
	}
	for _, s := range st.Signatures {
		w.checkStatement(t, out, s.Key, string(s.Algorithm))
	}
	w.as(t, w.erna, "release", "create", "thermostat@1.3.0", "--counter", "3", "--support-end", "2031-12-31").want(t, 0)
	w.as(t, w.erna, "sign", w.file("app.bin"), "--format", "cms", "--stage", "production", "--release", "thermostat@1.3.0", "--key", "thermo-pq").want(t, exitFailed, "signs statements")

	w.as(t, w.erna, "key", "revoke", "thermo-pq", "--note", "stolen", "--yes").want(t, 0, "thermostat@1.1.0")
	w.approve(t, "thermo-pq", berta, carla)
	w.published(t, "1.2.0", berta, carla)
	last := decodeAs[api.SignedStatement](t, w.as(t, w.erna, "release", "statement", "thermostat@1.2.0", "--out", w.file("last"), "--sign", "--json").want(t, 0).out)
	if len(last.Signatures) != 1 || last.Signatures[0].Key != "thermo-pq87" {
		t.Errorf("a key that was revoked signed: %+v", last.Signatures)
	}
	w.admin(t, "audit", "verify").want(t, 0, "nothing is wrong")
}

// ML-DSA keys are kept in files alone; where firmware's keys are elsewhere, none
// is made, and no PIN is told.
func TestStatementKeyInAnHSM(t *testing.T) {
	dir := initialized(t)
	config := filepath.Join(dir, "touchmark.yaml")
	text, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	text = bytes.Replace(text, []byte("\nkeys: {"), []byte(`
keys: {firmware: "pkcs11:token=t;id={id};object={name}?pin-value=4711", `), 1)
	if err := os.WriteFile(config, text, 0o600); err != nil {
		t.Fatal(err)
	}
	w := newWorldIn(t, dir)
	r := w.admin(t, "firmware", "key", "create", "pq", "--product", "thermostat", "--stage", "production", "--kind", "ML-DSA-87").want(t, exitFailed, "can only be kept in a file", "pkcs11:")
	if strings.Contains(r.err, "4711") {
		t.Errorf("the PIN is told: %s", r.err)
	}
}

// checkStatement has foreign programs and our own verifier verify what a key
// signed, and refuse what it did not.
func (w *firmwareWorld) checkStatement(t *testing.T, dir, key, algorithm string) {
	t.Helper()
	in := func(name string) string { return filepath.Join(dir, name) }
	root := filepath.Join(w.dir, "ca", "root.crt")
	public := publicBytes(t, in(key+".pem"))
	if err := noble(t, algorithm, public, in("statement.json"), in(key+".sig")); err != nil {
		t.Errorf("%s: noble does not verify: %v", key, err)
	}
	openssl(t, true, "ts", "-verify", "-in", in(key+".tst"), "-token_in", "-data", in(key+".sig"), "-CAfile", root)

	verify := func(statement, signature, key string, more ...string) ran {
		return touchmark(t, append([]string{"firmware", "release", "verify-statement", statement, "--signature", signature, "--key", key}, more...)...)
	}
	good := []string{in("statement.json"), in(key + ".sig"), in(key + ".pem")}
	verify(good[0], good[1], good[2], "--release", "thermostat@1.1.0", "--timestamp", in(key+".tst"), "--root", root).want(t, 0, "thermostat@1.1.0", algorithm, "app.bin", "stamped")
	verify(good[0], good[1], good[2], "--json").want(t, 0, `"release": "thermostat@1.1.0"`)
	verify(good[0], good[1], good[2], "--release", "thermostat@1.0.0").want(t, exitFailed, "not about thermostat@1.0.0")
	verify(good[0], good[1], good[2], "--timestamp", w.file("old/"+key+".tst"), "--root", root).want(t, exitFailed, "over other bytes")

	other := map[string]string{"thermo-pq": "thermo-pq87", "thermo-pq87": "thermo-pq"}[key]
	for name, bad := range map[string][2]string{
		"a flipped bit in the statement": {flipped(t, good[0]), good[1]},
		"a flipped bit in the signature": {good[0], flipped(t, good[1])},
		"a truncated signature":          {good[0], truncated(t, good[1])},
		"a truncated statement":          {truncated(t, good[0]), good[1]},
		"another release's statement":    {w.file("old/statement.json"), good[1]},
		"another release's signature":    {good[0], w.file("old/" + key + ".sig")},
		"another key's signature":        {good[0], in(other + ".sig")},
	} {
		verify(bad[0], bad[1], good[2]).want(t, exitFailed)
		if err := noble(t, algorithm, public, bad[0], bad[1]); err == nil {
			t.Errorf("%s: noble verifies %s", key, name)
		}
	}
	verify(good[0], good[1], in(other+".pem")).want(t, exitFailed)
	stranger, err := mldsa.GenerateKey(mldsa.MLDSA65())
	if err != nil {
		t.Fatal(err)
	}
	spki, err := pkix.MarshalPKIXPublicKey(stranger.PublicKey())
	if err != nil {
		t.Fatal(err)
	}
	verify(good[0], good[1], temporary(t, pemOf("PUBLIC KEY", spki))).want(t, exitFailed, "does not verify")
	verify(good[0], good[1], root).want(t, exitFailed, "no public key")
}

// publicBytes is the bare ML-DSA public key of a PEM file, at the end of its
// SubjectPublicKeyInfo.
func publicBytes(t *testing.T, path string) []byte {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	if block == nil {
		t.Fatalf("%s is no PEM:\n%s", path, text)
	}
	size := 1952 // of ML-DSA-65 (FIPS 204, table 2)
	if len(block.Bytes) > 2592 {
		size = 2592
	}
	return block.Bytes[len(block.Bytes)-size:]
}

func temporary(t *testing.T, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// flipped is a copy of a file with a bit of its middle flipped.
func flipped(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)/2] ^= 1
	return temporary(t, b)
}

// truncated is a copy of a file without its last byte.
func truncated(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return temporary(t, b[:len(b)-1])
}
