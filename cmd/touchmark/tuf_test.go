package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/touchmark/touchmark/firmware-sign/release"
)

// tufWorld has people who keep keys that sign roots, and a place where firmware
// is downloaded from.
type tufWorld struct {
	*firmwareWorld
	berta, carla string // who approve
	safe, cdn    string // directories
	targets      *httptest.Server
}

func newTUFWorld(t *testing.T) *tufWorld {
	t.Helper()
	return newTUFWorldOf(t, newFirmwareWorld(t))
}

func newTUFWorldOf(t *testing.T, f *firmwareWorld) *tufWorld {
	t.Helper()
	w := &tufWorld{firmwareWorld: f, safe: t.TempDir(), cdn: t.TempDir()}
	w.berta, w.carla = w.operator(t, "berta"), w.operator(t, "carla")
	w.targets = httptest.NewServer(http.FileServer(http.Dir(w.cdn)))
	t.Cleanup(w.targets.Close)
	for _, who := range []string{"anna", "berta", "carla"} {
		touchmark(t, "tuf", "root", "make-key", w.in(who+".key"), "--kind", map[string]string{"anna": "Ed25519", "berta": "P-256", "carla": "P-256"}[who], "-o", w.in(who+".pub")).want(t, 0, "key ID")
	}
	return w
}

// in is a file in the safe.
func (w *tufWorld) in(name string) string { return filepath.Join(w.safe, name) }

// create writes the next root.
func (w *tufWorld) create(t *testing.T, name string, args ...string) ran {
	t.Helper()
	return w.admin(t, append([]string{"tuf", "root", "create", "-o", w.in(name)}, args...)...)
}

// signs has somebody sign a root, into another file.
func (w *tufWorld) signs(t *testing.T, who, name, out string, args ...string) ran {
	t.Helper()
	return touchmark(t, append([]string{"tuf", "root", "sign", w.in(name), "--key", w.in(who + ".key"), "-o", w.in(out), "--yes"}, args...)...)
}

func (w *tufWorld) imports(t *testing.T, names ...string) ran {
	t.Helper()
	args := []string{"tuf", "root", "import", "--yes"}
	for _, name := range names {
		args = append(args, w.in(name))
	}
	return w.admin(t, args...)
}

// founded has the first root signed by two of three, and taken.
func (w *tufWorld) founded(t *testing.T) {
	t.Helper()
	w.admin(t, "tuf", "init").want(t, 0, "tuf-timestamp-1")
	w.create(t, "root.json", "--root-key", w.in("anna.pub"), "--root-key", w.in("berta.pub"), "--root-key", w.in("carla.pub"), "--threshold", "2").want(t, 0, "root: 2 of 3 keys")
	w.signs(t, "anna", "root.json", "by-anna.json").want(t, 0, "still wants: 1 of the keys of root 1")
	w.signs(t, "berta", "root.json", "by-berta.json").want(t, 0)
	w.imports(t, "by-anna.json", "by-berta.json").want(t, 0, "root", "timestamp")
}

// publish brings a release to where it is published, with one file.
func (w *tufWorld) publish(t *testing.T, version string, counter int) (file []byte) {
	t.Helper()
	file = w.signed(t, version, counter)
	w.as(t, w.erna, "release", "publish", "thermostat@"+version).want(t, 0)
	return file
}

// signed is a release that only has to be published.
func (w *tufWorld) signed(t *testing.T, version string, counter int) (file []byte) {
	t.Helper()
	name := "thermostat@" + version
	w.as(t, w.erna, "release", "create", name, "--counter", strconv.Itoa(counter), "--support-end", "2031-12-31").want(t, 0)
	w.write(t, "app.bin", 50_000)
	first := w.as(t, w.erna, "sign", w.file("app.bin"), "--format", "mcuboot", "--stage", "production", "--release", name, "--set", "pad-header=true", "--json").want(t, exitHeld)
	ticket := strconv.FormatInt(decodeAs[release.Artefact](t, first.out).ID, 10)
	w.put(t, "sbom.json", []byte(`{"bomFormat":"CycloneDX","specVersion":"1.6"}`))
	w.provenance(t, "provenance.json", "app.bin")
	for _, doc := range []string{"sbom.json", "provenance.json"} {
		w.as(t, w.erna, "release", "attach", name, w.file(doc)).want(t, 0)
	}
	w.as(t, w.erna, "release", "submit", name, "--note", "it is ready").want(t, 0)
	w.approve(t, name, w.berta, w.carla)
	os.Remove(w.file("app.bin.signed"))
	w.as(t, w.erna, "collect", ticket, w.file("app.bin")).want(t, 0)
	file = w.read(t, "app.bin.signed")
	w.upload(t, version, file, file)
	return file
}

// upload puts a file where clients look for what the release has.
func (w *tufWorld) upload(t *testing.T, version string, named, content []byte) {
	t.Helper()
	dir := filepath.Join(w.cdn, "thermostat", version)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%x.app.bin", sha256.Sum256(named))), content, 0o644); err != nil {
		t.Fatal(err)
	}
}

// url is where the metadata is, on the listener for statuses.
func (w *tufWorld) url() string { return "http://" + w.server.Addr["status"] + "/tuf" }

// get reads a file of the repository.
func (w *tufWorld) get(t *testing.T, name string) (int, []byte, http.Header) {
	t.Helper()
	resp, err := http.Get(w.url() + "/" + name)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, body, resp.Header
}

// metadata is what a file of the repository says.
type metadata struct {
	Signed struct {
		Version int
		Expires time.Time
		Targets map[string]struct {
			Length int64
			Hashes struct{ SHA256 string }
		}
		Meta map[string]struct{ Version int }
	}
}

func (w *tufWorld) metadata(t *testing.T, name string) (m metadata) {
	t.Helper()
	status, body, _ := w.get(t, name)
	if err := json.Unmarshal(body, &m); status != 200 || err != nil {
		t.Fatalf("%s: %d %s %v", name, status, body, err)
	}
	return m
}

// newest are the targets that the timestamp leads to, and the versions on the
// way.
func (w *tufWorld) newest(t *testing.T) (targets metadata, snapshot, timestamp int) {
	t.Helper()
	m := w.metadata(t, "timestamp.json")
	snapshot, timestamp = m.Signed.Meta["snapshot.json"].Version, m.Signed.Version
	m = w.metadata(t, fmt.Sprintf("%d.snapshot.json", snapshot))
	return w.metadata(t, fmt.Sprintf("%d.targets.json", m.Signed.Meta["targets.json"].Version)), snapshot, timestamp
}

// lists waits until the repository has so many targets.
func (w *tufWorld) lists(t *testing.T, n int) metadata {
	t.Helper()
	deadline := time.Now().Add(2 * time.Minute) // only a server that never does meets it
	for {
		m, _, _ := w.newest(t)
		if len(m.Signed.Targets) == n {
			return m
		}
		if time.Now().After(deadline) {
			t.Fatalf("the repository has %d targets, want %d", len(m.Signed.Targets), n)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// tufClient is a tuf-js that trusts a root from the beginning.
type tufClient struct {
	w   *tufWorld
	dir string
}

func (w *tufWorld) client(t *testing.T) *tufClient {
	t.Helper()
	c := &tufClient{w, t.TempDir()}
	_, root, _ := w.get(t, "1.root.json")
	if err := os.WriteFile(filepath.Join(c.dir, "root.json"), root, 0o600); err != nil {
		t.Fatal(err)
	}
	return c
}

// update looks for what there is at a URL and downloads a release's file.
func (c *tufClient) update(t *testing.T, url, version string, env ...string) (file []byte, out string, err error) {
	t.Helper()
	cmd := exec.Command("node", "../../firmware-sign/tuf/testdata/node/download.js", c.dir, url, c.w.targets.URL, "thermostat/"+version+"/app.bin")
	cmd.Env = append(os.Environ(), env...)
	b, err := cmd.CombinedOutput()
	if err == nil {
		path, _, _ := strings.Cut(string(b), "\n")
		file, err = os.ReadFile(path)
	}
	return file, string(b), err
}

func (c *tufClient) good(t *testing.T, version string, want []byte, env ...string) {
	t.Helper()
	if file, out, err := c.update(t, c.w.url(), version, env...); err != nil || !bytes.Equal(file, want) {
		t.Errorf("tuf-js: %v %s", err, out)
	}
}

func (c *tufClient) bad(t *testing.T, url, version, want string, env ...string) {
	t.Helper()
	if _, out, err := c.update(t, url, version, env...); err == nil || !strings.Contains(out, want) {
		t.Errorf("tuf-js: %v %s, want %q", err, out, want)
	}
}

// A client that others wrote finds what is published with the right hash, no
// longer what was yanked, and follows the root.
func TestTUF(t *testing.T) {
	w := newTUFWorld(t)
	if status, body, h := w.get(t, "timestamp.json"); status != 404 || !strings.Contains(string(body), "no root was imported") || h.Get("Cache-Control") != "no-store" {
		t.Errorf("before there is a root: %d %s %v", status, body, h)
	}
	w.create(t, "none.json", "--root-key", w.in("anna.pub"), "--threshold", "1").want(t, exitFailed, "tuf init")
	w.founded(t)
	if m := w.lists(t, 0); m.Signed.Version == 0 {
		t.Errorf("%+v", m)
	}
	c := w.client(t)
	c.bad(t, w.url(), "1.4.0", "no such target")
	first := w.publish(t, "1.4.0", 3)
	listed := w.lists(t, 1).Signed.Targets["thermostat/1.4.0/app.bin"]
	if sum := sha256.Sum256(first); listed.Length != int64(len(first)) || listed.Hashes.SHA256 != fmt.Sprintf("%x", sum) {
		t.Errorf("listed is %+v", listed)
	}
	c.good(t, "1.4.0", first)
	second := w.publish(t, "1.5.0", 4)
	w.lists(t, 2)
	c.good(t, "1.5.0", second)
	flipped := bytes.Clone(second)
	flipped[len(flipped)/2] ^= 1
	w.upload(t, "1.5.0", second, flipped)
	w.client(t).bad(t, w.url(), "1.5.0", "hash")
	c.good(t, "1.4.0", first)

	w.as(t, w.erna, "yank", "thermostat@1.4.0", "--note", "it burns", "--yes").want(t, 0)
	w.approve(t, "thermostat@1.4.0", w.berta, w.carla)
	w.lists(t, 1)
	c.bad(t, w.url(), "1.4.0", "no such target")
	w.admin(t, "tuf", "show").want(t, 0, "root", "targets", "tuf-snapshot-1")
	w.admin(t, "audit", "verify").want(t, 0, "nothing is wrong")
}
