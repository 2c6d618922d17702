package main

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/touchmark/touchmark/firmware-sign/mcuboot"
	"github.com/touchmark/touchmark/firmware-sign/release"
	"github.com/touchmark/touchmark/server/api"
)

// firmwareWorld is a world with a release engineer, who has a directory with
// a build in it.
type firmwareWorld struct {
	*world
	erna, build string
}

func newFirmwareWorld(t *testing.T) *firmwareWorld {
	t.Helper()
	return newFirmwareWorldOf(t, newWorld(t))
}

func newFirmwareWorldOf(t *testing.T, of *world) *firmwareWorld {
	t.Helper()
	w := &firmwareWorld{world: of, build: t.TempDir()}
	w.erna = w.operator(t, "erna")
	for _, key := range [][]string{{"thermo-test", "test", "P-256"}, {"thermo-1", "production", "P-256"}, {"thermo-ed", "test", "Ed25519"}} {
		w.admin(t, "firmware", "key", "create", key[0], "--product", "thermostat", "--stage", key[1], "--kind", key[2]).want(t, 0)
	}
	w.write(t, "app.bin", 70_000)
	return w
}

// operator makes a release engineer.
func (w *firmwareWorld) operator(t *testing.T, name string) (dir string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), name)
	w.admin(t, "operator", "add", name, "--role", "release-engineer", "--out", dir).want(t, 0)
	return dir
}

// as runs a firmware command as one of them.
func (w *firmwareWorld) as(t *testing.T, dir string, args ...string) ran {
	t.Helper()
	return touchmark(t, append([]string{"--dir", dir, "firmware"}, args...)...)
}

func (w *firmwareWorld) file(name string) string { return filepath.Join(w.build, name) }

// write makes a file of random bytes.
func (w *firmwareWorld) write(t *testing.T, name string, n int) {
	t.Helper()
	b := make([]byte, n)
	rand.Read(b)
	if err := os.WriteFile(w.file(name), b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func (w *firmwareWorld) read(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(w.file(name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// key is a key as the server tells of it.
func (w *firmwareWorld) key(t *testing.T, name string) release.Key {
	t.Helper()
	return decodeAs[release.Key](t, w.admin(t, "firmware", "key", "show", name, "--json").want(t, 0).out)
}

func reader(b []byte) *io.SectionReader {
	return io.NewSectionReader(bytes.NewReader(b), 0, int64(len(b)))
}

// A draft's image is signed by a test key in one step, verified, and the
// result is kept.
func TestFirmwareForTest(t *testing.T) {
	w := newFirmwareWorld(t)
	w.as(t, w.erna, "release", "create", "thermostat@1.4.0", "--counter", "3", "--support-end", "2031-12-31").want(t, 0, "draft")
	sign := []string{"sign", w.file("app.bin"), "--format", "mcuboot", "--stage", "test", "--release", "thermostat@1.4.0", "--set", "pad-header=true"}
	w.as(t, w.erna, sign...).want(t, exitUsage, "several keys", "thermo-test, thermo-ed")
	for _, key := range []string{"thermo-test", "thermo-ed"} {
		part := decodeAs[release.Artefact](t, w.as(t, w.erna, append(sign, "--key", key, "--json")...).want(t, 0).out)
		k := w.key(t, key)
		public, err := k.Public()
		if err != nil {
			t.Fatal(err)
		}
		signed := w.read(t, "app.bin.signed")
		info, err := mcuboot.Verify(reader(signed), mcuboot.Trust{Keys: []crypto.PublicKey{public}})
		if err != nil {
			t.Fatal(err)
		}
		if info.Version.String() != "1.4.0+0" || info.SecurityCounter == nil || *info.SecurityCounter != 3 || !bytes.Contains(signed, w.read(t, "app.bin")) {
			t.Errorf("the image says %+v", info)
		}
		if part.Signed == nil || *part.Signed != fileOf(signed) || len(part.Checks) == 0 || part.Checks[0].Program != "touchmark" {
			t.Errorf("the server keeps %+v", part)
		}
	}
	w.as(t, w.erna, "sign", w.file("app.bin"), "--format", "raw", "--stage", "test", "--release", "thermostat@1.4.0", "--key", "thermo-ed").want(t, exitFailed, "message of 70000 bytes", "another kind")
	w.as(t, w.erna, append(sign, "--key", "thermo-1")...).want(t, exitFailed, "for the stage production")
	w.as(t, w.erna, "release", "show", "thermostat@1.4.0").want(t, 0, "draft", "security counter  3")
	w.admin(t, "audit", "verify").want(t, 0, "nothing is wrong")
}

// fileOf is what a release keeps of a file.
func fileOf(b []byte) release.File {
	return release.File{Size: int64(len(b)), SHA256: fmt.Sprintf("%x", sha256.Sum256(b))}
}

// What a verifier refuses gets no name, and nothing of it is left.
func TestFirmwareThatDoesNotVerify(t *testing.T) {
	w := newFirmwareWorld(t)
	w.as(t, w.erna, "release", "create", "thermostat@1.4.0", "--counter", "3", "--support-end", "2031-12-31").want(t, 0)
	refusing := t.TempDir()
	if err := os.WriteFile(filepath.Join(refusing, "imgtool"), []byte("#!/bin/sh\necho not mine\nexit 1\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", refusing+string(os.PathListSeparator)+os.Getenv("PATH"))
	w.as(t, w.erna, "sign", w.file("app.bin"), "--format", "mcuboot", "--stage", "test", "--release", "thermostat@1.4.0", "--set", "pad-header=true", "--key", "thermo-test").want(t, exitFailed, "imgtool does not accept", "not mine")
	left, err := os.ReadDir(w.build)
	if err != nil || len(left) != 1 || left[0].Name() != "app.bin" {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// provenance writes SLSA provenance about files.
func (w *firmwareWorld) provenance(t *testing.T, name string, files ...string) {
	t.Helper()
	var subjects []string
	for _, f := range files {
		subjects = append(subjects, fmt.Sprintf(`{"name":%q,"digest":{"sha256":"%x"}}`, f, sha256.Sum256(w.read(t, f))))
	}
	text := `{"_type":"https://in-toto.io/Statement/v1","predicateType":"https://slsa.dev/provenance/v1","subject":[` + strings.Join(subjects, ",") + `],"predicate":{}}`
	if err := os.WriteFile(w.file(name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// approve has operators approve what waits about a subject.
func (w *firmwareWorld) approve(t *testing.T, subject string, by ...string) {
	t.Helper()
	list := decodeAs[struct{ Items []api.Proposal }](t, w.admin(t, "approval", "list", "--json").want(t, 0).out)
	n := slices.IndexFunc(list.Items, func(p api.Proposal) bool { return p.Subject == subject })
	if n < 0 {
		t.Fatalf("nothing waits about %s: %+v", subject, list.Items)
	}
	for _, dir := range by {
		touchmark(t, "--dir", dir, "approval", "approve", strconv.FormatInt(list.Items[n].ID, 10), "--yes").want(t, 0)
	}
}

// A release is signed for production when two others have approved it, and
// nothing else is.
func TestFirmwareForProduction(t *testing.T) {
	w := newFirmwareWorld(t)
	berta, carla := w.operator(t, "berta"), w.operator(t, "carla")
	const name = "thermostat@1.4.0"
	w.as(t, w.erna, "release", "create", name, "--counter", "3", "--support-end", "2031-12-31").want(t, 0)
	sign := []string{"sign", w.file("app.bin"), "--format", "mcuboot", "--stage", "production", "--release", name, "--set", "pad-header=true"}
	w.as(t, w.erna, append(sign, "--key", "thermo-test")...).want(t, exitFailed, "for the stage test")
	first := w.as(t, w.erna, append(sign, "--json")...).want(t, exitHeld, "not approved yet", "firmware collect")
	part := decodeAs[release.Artefact](t, first.out)
	ticket := strconv.FormatInt(part.ID, 10)
	if _, err := os.Stat(w.file("app.bin.signed")); err == nil {
		t.Fatal("a file was written without a signature")
	}
	submit := []string{"release", "submit", name, "--note", "it is ready"}
	w.as(t, w.erna, submit...).want(t, exitFailed, "no sbom")
	if err := os.WriteFile(w.file("sbom.json"), []byte(`{"bomFormat":"CycloneDX","specVersion":"1.6"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	w.as(t, w.erna, "release", "attach", name, w.file("app.bin")).want(t, exitFailed, "no JSON")
	w.as(t, w.erna, "release", "attach", name, w.file("sbom.json")).want(t, 0, "cyclonedx")
	w.as(t, w.erna, submit...).want(t, exitFailed, "no provenance")
	w.provenance(t, "other.json", "sbom.json")
	w.as(t, w.erna, "release", "attach", name, w.file("other.json")).want(t, 0, "slsa")
	w.as(t, w.erna, submit...).want(t, exitFailed, "not about app.bin")
	w.provenance(t, "provenance.json", "app.bin")
	w.as(t, w.erna, "release", "attach", name, w.file("provenance.json")).want(t, 0)
	w.as(t, w.erna, submit...).want(t, 0, "proposal")
	w.as(t, w.erna, "release", "publish", name).want(t, exitFailed, "is draft")
	w.as(t, w.erna, "collect", ticket, w.file("app.bin")).want(t, exitHeld)

	w.approve(t, name, berta)
	w.as(t, w.erna, "collect", ticket, w.file("app.bin")).want(t, exitHeld)
	w.approve(t, name, carla)
	w.as(t, w.erna, "release", "show", name).want(t, 0, "approved")
	w.write(t, "changed.bin", 70_000)
	w.as(t, w.erna, "collect", ticket, w.file("changed.bin")).want(t, exitFailed, "not what was handed in")
	changed := slices.Clone(sign)
	changed[1] = w.file("changed.bin")
	w.as(t, w.erna, append(changed, "--name", "app.bin")...).want(t, exitFailed, "not what was handed in")
	w.as(t, w.erna, changed...).want(t, exitFailed, "has no artefact changed.bin")
	w.as(t, w.erna, append(sign, "--set", "header-size=0x400")...).want(t, exitFailed, "come too late")
	w.as(t, w.erna, "release", "publish", name).want(t, exitFailed, "is approved")

	w.as(t, w.erna, "collect", ticket, w.file("app.bin")).want(t, 0, "verified by", "touchmark")
	k := w.key(t, "thermo-1")
	public, err := k.Public()
	if err != nil {
		t.Fatal(err)
	}
	signed := w.read(t, "app.bin.signed")
	if _, err := mcuboot.Verify(reader(signed), mcuboot.Trust{Keys: []crypto.PublicKey{public}}); err != nil {
		t.Error(err)
	}
	if err := os.Remove(w.file("app.bin.signed")); err != nil {
		t.Fatal(err)
	}
	w.as(t, w.erna, sign...).want(t, 0, "verified by") // the same command again
	if !bytes.Equal(w.read(t, "app.bin.signed"), signed) {
		t.Error("collected again, it is another file")
	}
	w.as(t, w.erna, "release", "publish", name).want(t, 0, "published")
	w.as(t, w.erna, "release", "create", "thermostat@1.3.9", "--counter", "3", "--support-end", "2031-12-31").want(t, exitFailed, "goes back", "1.4.0 is published")
	w.as(t, w.erna, "release", "create", "thermostat@1.5.0", "--counter", "2", "--support-end", "2031-12-31").want(t, exitFailed, "counter 2 goes back")
	w.as(t, w.erna, "release", "create", "thermostat@1.3.9", "--counter", "3", "--support-end", "2031-12-31", "--maintenance").want(t, 0)

	w.as(t, w.erna, "floor", "thermostat", "4", "--note", "a hole", "--yes").want(t, exitFailed, "would strand 0 devices")
	w.as(t, w.erna, "floor", "thermostat", "3", "--note", "a hole", "--yes").want(t, 0, "firmware.counter")
	w.approve(t, "thermostat", berta, carla)
	w.as(t, w.erna, "policy", "thermostat").want(t, 0, "3")
	w.as(t, w.erna, "yank", name, "--note", "it burns").want(t, exitUsage, "--yes")
	w.as(t, w.erna, "yank", name, "--note", "it burns", "--yes").want(t, 0, "release.yank")
	w.approve(t, name, berta, carla)
	w.as(t, w.erna, "release", "show", name).want(t, 0, "yanked", "it burns")
	w.as(t, w.erna, "key", "revoke", "thermo-test", "--note", "old", "--yes").want(t, 0, "revoked")
	w.as(t, w.erna, "key", "revoke", "thermo-1", "--note", "stolen", "--yes").want(t, 0, "firmware.key.revoke")
	w.approve(t, "thermo-1", berta, carla)
	w.as(t, w.erna, "key", "show", "thermo-1").want(t, 0, "stolen")
	w.admin(t, "audit", "verify").want(t, 0, "nothing is wrong")
}
