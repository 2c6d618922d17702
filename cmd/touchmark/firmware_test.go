package main

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/touchmark/touchmark/firmware-sign/mcuboot"
	"github.com/touchmark/touchmark/firmware-sign/release"
)

// firmwareWorld is a world with a release engineer, who has a directory with
// a build in it.
type firmwareWorld struct {
	*world
	erna, build string
}

func newFirmwareWorld(t *testing.T) *firmwareWorld {
	t.Helper()
	w := &firmwareWorld{world: newWorld(t), build: t.TempDir()}
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
	return decodeAs[release.Key](t, w.as(t, w.erna, "key", "show", name, "--json").want(t, 0).out)
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
		if part.Signed == nil || part.Signed.Size != int64(len(signed)) || len(part.Checks) == 0 || part.Checks[0].Program != "touchmark" {
			t.Errorf("the server keeps %+v", part)
		}
	}
	w.as(t, w.erna, append(sign, "--key", "thermo-1")...).want(t, exitFailed, "for the stage production")
	w.as(t, w.erna, "release", "show", "thermostat@1.4.0").want(t, 0, "draft", "security counter  3")
	w.admin(t, "audit", "verify").want(t, 0, "nothing is wrong")
}
