//go:build pkcs11

package main

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/touchmark/touchmark/firmware-sign/release"
	"github.com/touchmark/touchmark/vetting"
)

// hsmWorld is one whose keys are all in an HSM, with a release engineer and a
// programming station.
type hsmWorld struct {
	firmwareWorld
	rig, tokens string // tokens is the HSM's directory
}

func newHSMWorld(t *testing.T) *hsmWorld {
	t.Helper()
	data, r := initHSM(t, softHSM(t, "1234")+"?pin-value=1234")
	r.want(t, 0)
	w := &hsmWorld{firmwareWorld: firmwareWorld{world: newWorldIn(t, data), build: t.TempDir()}, rig: filepath.Join(t.TempDir(), "rig")}
	w.tokens = filepath.Join(filepath.Dir(os.Getenv("SOFTHSM2_CONF")), "tokens")
	w.erna = w.operator(t, "erna")
	w.admin(t, "operator", "add", "rig-7", "--role", "rig", "--site", "penang", "--out", w.rig).want(t, 0)
	w.admin(t, "product", "update", "thermostat", "--licences", "uid64").want(t, 0)
	w.write(t, "app.bin", 70_000)
	return w
}

func (w *hsmWorld) makes(t *testing.T, name, stage, kind string) ran {
	t.Helper()
	return w.admin(t, "firmware", "key", "create", name, "--product", "thermostat", "--stage", stage, "--kind", kind)
}

// away takes the HSM away, and back brings it back.
func (w *hsmWorld) away(t *testing.T) { w.rename(t, w.tokens, w.tokens+".away") }

func (w *hsmWorld) back(t *testing.T) { w.rename(t, w.tokens+".away", w.tokens) }

func (w *hsmWorld) rename(t *testing.T, from, to string) {
	t.Helper()
	if err := os.Rename(from, to); err != nil {
		t.Fatal(err)
	}
}

// later wants a request to be answered 503 with Retry-After, and nothing told
// of where the keys are.
func (w *world) later(t *testing.T, dir, path, key string, in any) {
	t.Helper()
	err := w.posts(t, dir, path, key, in, nil)
	var wait *laterError
	if !errors.As(err, &wait) || wait.after == 0 || strings.Contains(err.Error(), "1234") || strings.Contains(err.Error(), "CKR") {
		t.Errorf("%s: %v", path, err)
	}
}

// Keys for firmware and licences are made in the HSM, sign there in each
// algorithm, and other programs verify that. What an HSM is not asked for is
// refused with the way out.
func TestHSMSignsFirmwareAndLicences(t *testing.T) {
	w := newHSMWorld(t)
	w.makes(t, "thermo-ed", "test", "Ed25519").want(t, exitFailed, "kind Ed25519 cannot be made in an HSM: take P-256")
	w.admin(t, "licence", "key", "create", "thermostat").want(t, exitFailed, "kind Ed25519 cannot be made in an HSM: take P-256")
	w.as(t, w.erna, "release", "create", "thermostat@1.4.0", "--counter", "3", "--support-end", "2031-12-31").want(t, 0)
	for _, kind := range release.KeyKinds[:4] {
		name := "thermo-" + strings.ToLower(kind)
		w.makes(t, name, "test", kind).want(t, 0)
		sign := func(format string, more ...string) {
			t.Helper()
			w.as(t, w.erna, append([]string{"sign", w.file("app.bin"), "--format", format, "--stage", "test", "--release", "thermostat@1.4.0", "--key", name}, more...)...).want(t, 0, "verified by")
		}
		sign("raw")
		digest := "-sha256"
		if kind == "P-384" {
			digest = "-sha384"
		}
		public := written(t, pemOf("PUBLIC KEY", w.key(t, name).PublicKey))
		if out, err := exec.Command("openssl", "dgst", digest, "-verify", public, "-signature", w.file("app.bin.sig"), w.file("app.bin")).CombinedOutput(); err != nil {
			t.Errorf("%s: openssl: %v\n%s", kind, err, out)
		}
		sign("cms")
		sign("mcuboot", "--set", "pad-header=true") // RSA-PSS
	}
	w.admin(t, "licence", "key", "create", "thermostat", "--algorithm", "P-256").want(t, 0, "P-256")
	touchmark(t, "--dir", w.rig, "licence", "sign", "PO-1", "0102030405060708").want(t, 0)
	if files, err := os.ReadDir(filepath.Join(w.dir, "keys")); err != nil || len(files) != 1 {
		t.Errorf("the directory of keys holds %v, %v", files, err)
	}
	w.admin(t, "audit", "verify").want(t, 0, "nothing is wrong")
	w.server.stop(t)
	inToken(t, "1234", "root", "device-ca", "factory-ca", "operator-ca", "codesign-ca", "log", "responder", "attestation", "timestamp",
		"firmware-thermo-p-256", "firmware-thermo-p-384", "firmware-thermo-rsa-2048", "firmware-thermo-rsa-3072", "licence-thermostat-1")
}

// submitted is a release whose only artefact waits for its signature.
func (w *hsmWorld) submitted(t *testing.T) (ticket string) {
	t.Helper()
	const name = "thermostat@1.4.0"
	berta, carla := w.operator(t, "berta"), w.operator(t, "carla")
	w.as(t, w.erna, "release", "create", name, "--counter", "3", "--support-end", "2031-12-31").want(t, 0)
	part := decodeAs[release.Artefact](t, w.as(t, w.erna, "sign", w.file("app.bin"), "--format", "raw", "--stage", "production", "--release", name, "--json").want(t, exitHeld).out)
	w.put(t, "sbom.json", []byte(`{"bomFormat":"CycloneDX","specVersion":"1.6"}`))
	w.provenance(t, "provenance.json", "app.bin")
	w.as(t, w.erna, "release", "attach", name, w.file("sbom.json")).want(t, 0)
	w.as(t, w.erna, "release", "attach", name, w.file("provenance.json")).want(t, 0)
	w.as(t, w.erna, "release", "submit", name, "--note", "it is ready").want(t, 0)
	w.approve(t, name, berta, carla)
	return strconv.FormatInt(part.ID, 10)
}

// askedOperator asks for an operator.
func askedOperator(t *testing.T) map[string]any {
	t.Helper()
	key, _ := newKey(t)
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		t.Fatal(err)
	}
	return map[string]any{"name": "otto", "role": "auditor", "csr": string(pemOf("CERTIFICATE REQUEST", csr))}
}

// signatures counts the leaves about signatures of firmware.
func (w *world) signatures(t *testing.T) int {
	t.Helper()
	return strings.Count(w.admin(t, "audit", "show", "--json").want(t, 0).out, `"artefact.sign"`)
}

// An HSM goes while firmware and licences are signed: who asks is told to come
// again, and nothing is half kept. When it is back, the same requests are done,
// once each.
func TestHSMThatVanishesWhileSigning(t *testing.T) {
	w := newHSMWorld(t)
	w.makes(t, "thermo-test", "test", "P-256").want(t, 0)
	w.makes(t, "thermo-1", "production", "P-256").want(t, 0)
	w.admin(t, "licence", "key", "create", "thermostat", "--algorithm", "P-256").want(t, 0)
	touchmark(t, "--dir", w.rig, "licence", "sign", "PO-1", "0102030405060701").want(t, 0)
	ticket := w.submitted(t)
	draft := fmt.Sprintf("/releases/%d/artefacts", decodeAs[release.Release](t, w.as(t, w.erna, "release", "show", "thermostat@1.4.0", "--json").want(t, 0).out).ID)
	sum := sha256.Sum256(w.read(t, "app.bin"))
	test := map[string]any{"stage": "test", "name": "app.bin", "format": "raw", "source": release.File{Size: 70_000, SHA256: hex.EncodeToString(sum[:])}, "keys": []string{"thermo-test"},
		"toSign": []any{map[string]any{"algorithm": "ecdsa-p256-sha256", "digest": sum[:], "publicKey": w.key(t, "thermo-test").PublicKey}}}
	chip := map[string]any{"order": "PO-1", "uid": "0102030405060708"}
	key := map[string]any{"name": "thermo-2", "product": "thermostat", "stage": "test", "kind": "P-384"}

	w.becomes(t, 200)
	w.away(t)
	w.later(t, w.erna, "/artefacts/"+ticket+"/sign", "sign", struct{}{})
	w.later(t, w.erna, draft, "test", test)
	w.later(t, w.rig, "/licences", "chip", chip)
	w.later(t, w.dir, "/firmware-keys", "key", key)
	w.later(t, w.dir, "/products/thermostat/licence-keys", "second", map[string]any{"algorithm": "P-256"})
	w.later(t, w.dir, "/operators", "operator", askedOperator(t))
	if text := w.becomes(t, 503); !strings.Contains(text, "licence-thermostat-1, thermo-1, thermo-test cannot sign") || strings.Contains(text, "1234") {
		t.Errorf("readiness says %s", text)
	}
	w.as(t, w.erna, "release", "show", "thermostat@1.4.0").want(t, 0, "approved")
	w.admin(t, "licence", "show", "0102030405060708").want(t, 0, "reserved")
	w.admin(t, "firmware", "key", "show", "thermo-2").want(t, exitFailed, "there is no")
	if n := w.signatures(t); n != 0 {
		t.Errorf("%d signatures were kept", n)
	}

	w.back(t)
	w.becomes(t, 200)
	for range 2 { // repeated, it is done once
		var part release.Artefact
		for key, asked := range map[string]struct {
			path string
			in   any
		}{"sign": {"/artefacts/" + ticket + "/sign", struct{}{}}, "test": {draft, test}} {
			if err := w.posts(t, w.erna, asked.path, key, asked.in, &part); err != nil || len(part.Signatures) != 1 {
				t.Errorf("%s: %+v, %v", asked.path, part, err)
			}
		}
		if err := w.posts(t, w.rig, "/licences", "chip", chip, nil); err != nil {
			t.Error(err)
		}
		if err := w.posts(t, w.dir, "/firmware-keys", "key", key, nil); err != nil {
			t.Error(err)
		}
	}
	w.as(t, w.erna, "collect", ticket, w.file("app.bin")).want(t, 0, "verified by")
	w.admin(t, "licence", "show", "0102030405060708").want(t, 0, "signed")
	w.admin(t, "order", "show", "PO-1").want(t, 0, "2 chips of")
	if n := w.signatures(t); n != 2 {
		t.Errorf("%d signatures were kept, want 2", n)
	}
	w.admin(t, "audit", "verify").want(t, 0, "nothing is wrong")
}

// A key that an attempt left in the HSM which broke off is taken up again, if
// it is of the kind that is wanted.
func TestHSMKeyThatIsThere(t *testing.T) {
	w := newHSMWorld(t)
	for kind, name := range map[string]string{"firmware key": "thermo-1", "licence key": "licence-thermostat-1"} {
		sum, label := sha256.Sum256([]byte(kind+" "+name)), name
		if kind == "firmware key" {
			label = "firmware-" + name
		}
		out, err := exec.Command("p11tool", "--provider=/usr/lib/softhsm/libsofthsm2.so", "--login", "--set-pin=1234", "--generate-privkey=ecdsa", "--curve=secp256r1",
			"--label="+label, "--id="+fmt.Sprintf("%x", sum[:8]), "pkcs11:token=tm").CombinedOutput()
		if err != nil {
			t.Fatalf("p11tool: %v\n%s", err, out)
		}
	}
	w.makes(t, "thermo-1", "test", "P-384").want(t, exitFailed, "a key for thermo-1 already, of kind P-256")
	w.makes(t, "thermo-1", "test", "P-256").want(t, 0)
	w.makes(t, "thermo-1", "test", "P-256").want(t, exitFailed, "exists already")
	w.admin(t, "licence", "key", "create", "thermostat", "--algorithm", "P-256").want(t, 0)
	touchmark(t, "--dir", w.rig, "licence", "sign", "PO-1", "0102030405060708").want(t, 0)
	list := decodeAs[struct{ Items []vetting.LicenceKey }](t, w.admin(t, "licence", "key", "list", "thermostat", "--json").want(t, 0).out)
	if !slices.ContainsFunc(list.Items, func(k vetting.LicenceKey) bool { return k.Algorithm == "P-256" && k.Signing }) {
		t.Errorf("%+v", list)
	}
}
