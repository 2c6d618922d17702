package tuf

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/touchmark/touchmark/firmware-sign/internal/signtest"
)

// repository is one in memory, by paths, with its keys: two of three sign the
// root.
type repository struct {
	t     *testing.T
	files map[string][]byte
	roles Roles
	keys  map[string][]crypto.Signer
	ends  time.Time
}

func newRepository(t *testing.T) *repository {
	r := &repository{t: t, files: map[string][]byte{}, keys: map[string][]crypto.Signer{}, ends: time.Now().Add(24 * time.Hour)}
	for name, kinds := range map[string][]string{"root": {"ed25519", "p256", "ed25519"}, "targets": {"p256"}, "snapshot": {"ed25519"}, "timestamp": {"p256"}} {
		for _, kind := range kinds {
			r.keys[name] = append(r.keys[name], signtest.Key(t, kind))
		}
	}
	r.roles = Roles{Root: r.role("root", 2), Targets: r.role("targets", 1), Snapshot: r.role("snapshot", 1), Timestamp: r.role("timestamp", 1)}
	return r
}

func (r *repository) role(name string, threshold int) (role Role) {
	for _, key := range r.keys[name] {
		role.Keys = append(role.Keys, key.Public())
	}
	role.Threshold = threshold
	return role
}

// finish signs a draft with keys.
func (r *repository) finish(d *Draft, err error, role Role, keys ...crypto.Signer) *File {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
	f, err := d.Finish(role, r.sign(d, keys...)...)
	if err != nil {
		r.t.Fatal(err)
	}
	r.files["metadata/"+f.Name()] = f.JSON
	return f
}

func (r *repository) sign(d *Draft, keys ...crypto.Signer) (list []Signature) {
	r.t.Helper()
	for _, key := range keys {
		want, err := d.ToSign(key.Public())
		if err != nil {
			r.t.Fatal(err)
		}
		sig, err := want.Sign(key)
		if err != nil {
			r.t.Fatal(err)
		}
		list = append(list, Signature{key.Public(), sig})
	}
	return list
}

func (r *repository) root(version int, keys ...crypto.Signer) *File {
	r.t.Helper()
	d, err := NewRoot(version, r.ends, r.roles)
	return r.finish(d, err, r.roles.Root, keys...)
}

// publish makes targets, snapshot and timestamp of a version around one
// artefact.
func (r *repository) publish(version int, content []byte) {
	r.t.Helper()
	target := Target{Product: "thermostat", Version: "1.2.0", Name: "app.bin", Counter: 7, Size: int64(len(content)), SHA256: sha256.Sum256(content)}
	r.files["targets/thermostat/1.2.0/"+hex.EncodeToString(target.SHA256[:])+".app.bin"] = content
	d, err := NewTargets(version, r.ends, []Target{target})
	targets := r.finish(d, err, r.roles.Targets, r.keys["targets"]...)
	d, err = NewSnapshot(version, r.ends, targets)
	snapshot := r.finish(d, err, r.roles.Snapshot, r.keys["snapshot"]...)
	d, err = NewTimestamp(version, r.ends, snapshot)
	r.finish(d, err, r.roles.Timestamp, r.keys["timestamp"]...)
}

// client is a tuf-js that trusts a root from the beginning.
type client struct {
	t   *testing.T
	dir string
}

func newClient(t *testing.T, root *File) *client {
	c := &client{t, t.TempDir()}
	if err := os.WriteFile(filepath.Join(c.dir, "root.json"), root.JSON, 0o600); err != nil {
		t.Fatal(err)
	}
	return c
}

// update lets the client look at what there is and download the artefact.
func (c *client) update(files map[string][]byte) (string, error) {
	c.t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		content, ok := files[strings.TrimPrefix(r.URL.Path, "/")]
		if !ok {
			http.NotFound(w, r)
			return
		}
		w.Write(content)
	}))
	defer s.Close()
	return signtest.Run("node", "testdata/node/download.js", c.dir, s.URL+"/metadata", s.URL+"/targets", "thermostat/1.2.0/app.bin")
}

func (c *client) good(files map[string][]byte) {
	c.t.Helper()
	out, err := c.update(files)
	if err != nil || !strings.Contains(out, `"securityCounter":7`) {
		c.t.Fatalf("tuf-js: %v %s", err, out)
	}
}

func (c *client) bad(name string, files map[string][]byte, want string) {
	c.t.Helper()
	if out, err := c.update(files); err == nil || !strings.Contains(out, want) {
		c.t.Errorf("%s: tuf-js: %v %s", name, err, out)
	}
}

// changed is a repository with one file otherwise.
func (r *repository) changed(path string, change func([]byte) []byte) map[string][]byte {
	files := maps.Clone(r.files)
	files[path] = change(bytes.Clone(files[path]))
	return files
}

// TestTufJS: tuf-js follows the repository through an update and a change of
// the root's keys, and refuses what was rolled back, flipped, or is by other
// keys.
func TestTufJS(t *testing.T) {
	r := newRepository(t)
	first := r.root(1, r.keys["root"][:2]...)
	r.publish(1, []byte("firmware"))
	old := maps.Clone(r.files)
	c := newClient(t, first)
	c.good(r.files)
	r.publish(2, []byte("newer firmware"))
	c.good(r.files)
	c.bad("rolled back", old, "version")

	flip := func(b []byte) []byte { b[len(b)/2] ^= 1; return b }
	name := "targets/thermostat/1.2.0/"
	for path := range r.files {
		if strings.HasPrefix(path, name) {
			c := newClient(t, first)
			if out, err := c.update(r.changed(path, flip)); (err == nil) != (string(r.files[path]) == "firmware") {
				t.Errorf("%s with a flipped bit: %v %s", path, err, out)
			}
		}
	}
	later := func(b []byte) []byte {
		return bytes.Replace(b, []byte(`"securityCounter": 7`), []byte(`"securityCounter": 8`), 1)
	}
	newClient(t, first).bad("another counter", r.changed("metadata/2.targets.json", later), "hash")

	before := r.keys["root"]
	r.keys["root"] = []crypto.Signer{before[1], signtest.Key(t, "ed25519"), signtest.Key(t, "p256")}
	r.roles.Root = r.role("root", 2)
	lonely := maps.Clone(r.files)
	lonely["metadata/2.root.json"] = r.root(2, r.keys["root"][1:]...).JSON
	newClient(t, first).bad("a root that the former keys did not sign", lonely, "root")
	r.root(2, append(r.keys["root"], before[0])...)
	c.good(r.files)
	c.good(r.files) // and again from what it keeps
}

// TestTufJSRefuses: what ran out, or is by a key of another role, is refused.
func TestTufJSRefuses(t *testing.T) {
	r := newRepository(t)
	first := r.root(1, r.keys["root"][:2]...)
	r.ends = time.Now().Add(-time.Hour)
	r.publish(1, []byte("firmware"))
	newClient(t, first).bad("expired", r.files, "expired")
	r.ends = time.Now().Add(time.Hour)
	r.roles.Timestamp.Keys = []crypto.PublicKey{r.keys["snapshot"][0].Public()}
	r.keys["timestamp"] = r.keys["snapshot"]
	r.publish(1, []byte("firmware"))
	newClient(t, first).bad("another role's key", r.files, "sign")
}

// TestBadInput: roles that nobody could keep, names that are no paths, and
// files that too few signed.
func TestBadInput(t *testing.T) {
	r := newRepository(t)
	for name, change := range map[string]func(*Roles){
		"a threshold of none":     func(r *Roles) { r.Root.Threshold = 0 },
		"more than there are":     func(r *Roles) { r.Targets.Threshold = 2 },
		"one key twice":           func(r *Roles) { r.Root.Keys[1] = r.Root.Keys[0] },
		"a kind that nobody uses": func(r *Roles) { r.Root.Keys[0] = signtest.Key(t, "p384").Public() },
	} {
		roles := r.roles
		roles.Root = r.role("root", 2)
		change(&roles)
		if _, err := NewRoot(1, r.ends, roles); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	for _, name := range []string{"", "..", ".hidden", "a/b", "a\\b", "a b", "\"", strings.Repeat("a", 129)} {
		if _, err := NewTargets(1, r.ends, []Target{{Product: "p", Version: "1", Name: name}}); err == nil {
			t.Errorf("the name %q was taken", name)
		}
	}
	twice := Target{Product: "p", Version: "1", Name: "a"}
	if _, err := NewTargets(1, r.ends, []Target{twice, twice}); err == nil {
		t.Error("one target twice")
	}
	d, err := NewRoot(1, r.ends, r.roles)
	if err != nil {
		t.Fatal(err)
	}
	one := r.sign(d, r.keys["root"][0])
	other := r.sign(d, r.keys["targets"][0])
	wrong := []Signature{{one[0].Key, append([]byte{}, one[0].Bytes...)}}
	wrong[0].Bytes[5] ^= 1
	for name, list := range map[string][]Signature{"one of two": one, "one twice": append(one, one...), "another role's": append(one, other...), "a wrong one": wrong, "none": nil} {
		if _, err := d.Finish(r.roles.Root, list...); err == nil {
			t.Errorf("signed by %s: finished", name)
		}
	}
	if _, err := NewRoot(0, r.ends, r.roles); err == nil {
		t.Error("version 0 was taken")
	}
}
