package main

import (
	"crypto"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/touchmark/touchmark/firmware-sign/mcuboot"
	"github.com/touchmark/touchmark/firmware-sign/release"
)

// vaultWorld is a firmware world with an offline key, and two who approve.
type vaultWorld struct {
	*firmwareWorld
	vault        string // a directory that no server sees
	berta, carla string
}

func newVaultWorld(t *testing.T) *vaultWorld {
	t.Helper()
	w := &vaultWorld{firmwareWorld: newFirmwareWorld(t), vault: t.TempDir()}
	w.berta, w.carla = w.operator(t, "berta"), w.operator(t, "carla")
	root, err := os.ReadFile(filepath.Join(w.dir, "ca", "root.crt"))
	if err != nil {
		t.Fatal(err)
	}
	w.put(t, "sbom.json", []byte(`{"bomFormat":"CycloneDX","specVersion":"1.6"}`))
	w.lock(t, "root.crt", root)
	w.offlineKey(t, "vault")
	return w
}

func (w *vaultWorld) safe(name string) string { return filepath.Join(w.vault, name) }

func (w *vaultWorld) lock(t *testing.T, name string, data []byte) {
	t.Helper()
	if err := os.WriteFile(w.safe(name), data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// offlineKey makes a key in the vault, and has it certified.
func (w *vaultWorld) offlineKey(t *testing.T, name string) {
	t.Helper()
	touchmark(t, "firmware", "key", "request", name, "--key", w.safe(name+".key"), "--create", "P-256", "-o", w.safe(name+".csr")).want(t, 0)
	w.admin(t, "firmware", "key", "import", name, "--product", "thermostat", "--csr", w.safe(name+".csr")).want(t, 0, "offline")
}

// submitted hands a build in for production, and submits the release. It
// returns the ticket.
func (w *vaultWorld) submitted(t *testing.T, name string, keys ...string) (ticket string) {
	t.Helper()
	w.as(t, w.erna, "release", "create", name, "--counter", "3", "--support-end", "2031-12-31").want(t, 0)
	sign := []string{"sign", w.file("app.bin"), "--format", "mcuboot", "--stage", "production", "--release", name, "--set", "pad-header=true", "--json"}
	for _, key := range keys {
		sign = append(sign, "--key", key)
	}
	part := decodeAs[release.Artefact](t, w.as(t, w.erna, sign...).want(t, exitHeld).out)
	w.provenance(t, "provenance.json", "app.bin")
	for _, document := range []string{"sbom.json", "provenance.json"} {
		w.as(t, w.erna, "release", "attach", name, w.file(document)).want(t, 0)
	}
	w.as(t, w.erna, "release", "submit", name, "--note", "it is ready").want(t, 0)
	return strconv.FormatInt(part.ID, 10)
}

// approved is submitted, and others agree.
func (w *vaultWorld) approved(t *testing.T, name string, keys ...string) (ticket string) {
	t.Helper()
	ticket = w.submitted(t, name, keys...)
	w.approve(t, name, w.berta, w.carla)
	return ticket
}

// export writes a release's request into the vault.
func (w *vaultWorld) export(t *testing.T, name, file string) {
	t.Helper()
	w.as(t, w.erna, "request", "export", name, "-o", w.safe(file)).want(t, 0)
}

// sign has a key of the vault sign a request. It knows no server.
func (w *vaultWorld) sign(t *testing.T, key, request, response string, more ...string) ran {
	t.Helper()
	return touchmark(t, append([]string{"firmware", "request", "sign", w.safe(request), "--key", w.safe(key + ".key"), "--root", w.safe("root.crt"), "-o", w.safe(response), "--yes"}, more...)...)
}

func (w *vaultWorld) take(t *testing.T, response string) ran {
	t.Helper()
	return w.as(t, w.erna, "request", "import", w.safe(response))
}

// An image is signed by a key in the server's store and one in a vault, for
// bootloaders with either.
func TestOfflineKeys(t *testing.T) {
	w := newVaultWorld(t)
	const name = "thermostat@1.4.0"
	w.as(t, w.erna, "key", "list").want(t, 0, "offline", "key store")
	if left, err := filepath.Glob(filepath.Join(w.dir, "keys", "*vault*")); err != nil || len(left) > 0 {
		t.Errorf("the server has %q", left)
	}
	ticket := w.submitted(t, name, "vault", "thermo-1")
	w.as(t, w.erna, "request", "export", name, "-o", w.safe("early.json")).want(t, exitFailed, "is draft")
	w.approve(t, name, w.berta, w.carla)
	w.as(t, w.erna, "collect", ticket, w.file("app.bin")).want(t, exitHeld, "waits for the offline key vault", "request export "+name)
	w.export(t, name, "request.json")
	w.sign(t, "vault", "request.json", "response.json", "--file", w.file("app.bin")).want(t, 0, name, "security counter", "berta (release-engineer)", "carla (release-engineer)", "prepared again")
	change(t, w, "response.json", "bad.json", func(r *release.Response) { r.Signatures[0].Signature[20] ^= 1 })
	w.take(t, "bad.json").want(t, exitFailed, "does not verify")
	w.as(t, w.erna, "collect", ticket, w.file("app.bin")).want(t, exitHeld, "waits for the offline key vault")
	w.take(t, "response.json").want(t, 0, "approved")
	w.take(t, "response.json").want(t, 0, "approved") // once more changes nothing
	w.as(t, w.erna, "collect", ticket, w.file("app.bin")).want(t, 0, "verified by")
	for _, name := range []string{"vault", "thermo-1"} {
		k := w.key(t, name)
		public, err := k.Public()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := mcuboot.Verify(reader(w.read(t, "app.bin.signed")), mcuboot.Trust{Keys: []crypto.PublicKey{public}}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	w.take(t, "response.json").want(t, 0, "signed") // nor now
	w.as(t, w.erna, "request", "export", name, "-o", w.safe("late.json")).want(t, exitFailed, "is signed")
	w.as(t, w.erna, "release", "publish", name).want(t, 0, "published")
	w.admin(t, "audit", "verify").want(t, 0, "nothing is wrong")
}
