package main

import (
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// frozen is what somebody between the server and a client gives out: files as
// they were, and others as they are.
func (w *tufWorld) frozen(t *testing.T, files map[string][]byte) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		name := strings.TrimPrefix(r.URL.Path, "/")
		if content, ok := files[name]; ok {
			rw.Write(content)
			return
		}
		status, content, _ := w.get(t, name)
		rw.WriteHeader(status)
		rw.Write(content)
	}))
	t.Cleanup(s.Close)
	return s.URL
}

// Roots are taken that enough keys have signed, of the root before and of
// their own, and clients follow them.
func TestTUFRoots(t *testing.T) {
	w := newTUFWorld(t)
	w.admin(t, "tuf", "init").want(t, 0)
	w.admin(t, "tuf", "init").want(t, 0, "tuf-targets-1") // again, it makes nothing
	w.create(t, "x.json").want(t, exitUsage, "--root-key")
	w.create(t, "x.json", "--root-key", w.in("anna.pub"), "--threshold", "2").want(t, exitFailed, "2 of the 1 keys")
	keys := []string{"--root-key", w.in("anna.pub"), "--root-key", w.in("berta.pub"), "--root-key", w.in("carla.pub"), "--threshold", "2"}
	w.create(t, "root.json", keys...).want(t, 0)
	w.imports(t, "root.json").want(t, exitFailed, "0 signatures")
	w.signs(t, "anna", "root.json", "by-anna.json").want(t, 0)
	w.signs(t, "anna", "root.json", "by-anna.json").want(t, exitFailed, "exists")
	w.imports(t, "by-anna.json").want(t, exitFailed, "1 signatures")
	touchmark(t, "tuf", "root", "make-key", w.in("stranger.key"), "-o", w.in("stranger.pub")).want(t, 0)
	w.signs(t, "stranger", "root.json", "by-stranger.json").want(t, exitFailed, "none of those")
	w.signs(t, "berta", "by-anna.json", "signed.json").want(t, 0, "Enough keys")
	content, err := os.ReadFile(w.in("signed.json"))
	if err != nil {
		t.Fatal(err)
	}
	changed := strings.Replace(string(content), `"threshold": 2`, `"threshold": 1`, 1)
	if err := os.WriteFile(w.in("changed.json"), []byte(changed), 0o600); err != nil || changed == string(content) {
		t.Fatal(err)
	}
	w.imports(t, "changed.json").want(t, exitFailed, "0 signatures")
	if status, _, _ := w.get(t, "1.root.json"); status != 404 {
		t.Errorf("a root is served that nobody took: %d", status)
	}
	w.imports(t, "signed.json").want(t, 0, "root")
	w.imports(t, "signed.json").want(t, 0) // the same again
	c := w.client(t)
	file := w.publish(t, "1.4.0", 3)
	w.lists(t, 1)
	c.good(t, "1.4.0", file)

	// Another person for anna, and another key for the timestamp.
	w.admin(t, "tuf", "key", "create", "timestamp", "--kind", "Ed25519").want(t, 0, "tuf-timestamp-2")
	c.good(t, "1.4.0", file) // it does not sign yet
	w.create(t, "next.json", "--root-key", w.in("berta.pub"), "--root-key", w.in("carla.pub"), "--root-key", w.in("stranger.pub")).want(t, 0, "root 2", ", new", ", no longer")
	_, first, _ := w.get(t, "1.root.json")
	if err := os.WriteFile(w.in("1.root.json"), first, 0o600); err != nil {
		t.Fatal(err)
	}
	w.signs(t, "anna", "next.json", "n1.json").want(t, exitFailed, "--before")
	before := []string{"--before", w.in("1.root.json")}
	w.signs(t, "anna", "next.json", "n1.json", before...).want(t, 0, "no longer", "1 of the keys of root 1")
	w.signs(t, "stranger", "next.json", "n2.json", before...).want(t, 0)
	w.signs(t, "carla", "next.json", "n3.json", before...).want(t, 0)
	w.imports(t, "n2.json", "n3.json").want(t, exitFailed, "by the keys of root 1")
	w.imports(t, "n1.json", "n2.json").want(t, exitFailed, "1 signatures")
	w.imports(t, "n1.json", "n2.json", "n3.json").want(t, 0)
	c.good(t, "1.4.0", file)
	w.client(t).good(t, "1.4.0", file)
	if status, _, h := w.get(t, "3.root.json"); status != 404 || h.Get("Cache-Control") != "no-store" {
		t.Errorf("the root that comes next: %d %v", status, h)
	}
	w.imports(t, "signed.json").want(t, exitFailed, "version 1")
	w.create(t, "wrong.json", "--threshold", "1", "--days", "0").want(t, exitUsage, "0 days")
	w.admin(t, "tuf", "show").want(t, 0, "tuf-timestamp-2")
	w.admin(t, "audit", "verify").want(t, 0, "nothing is wrong")

	// A key is lost: what it signed counts until the next root names another.
	w.server.stop(t)
	if err := os.Remove(filepath.Join(w.dir, "keys", "tuf-timestamp-2.key")); err != nil {
		t.Fatal(err)
	}
	w.server = serve(t, w.dir)
	c.good(t, "1.4.0", file)
	w.admin(t, "tuf", "key", "create", "timestamp").want(t, 0, "tuf-timestamp-3")
	w.create(t, "third.json").want(t, 0)
	w.signs(t, "berta", "third.json", "t1.json").want(t, 0)
	w.signs(t, "carla", "t1.json", "t2.json").want(t, 0)
	w.imports(t, "t2.json").want(t, 0)
	c.good(t, "1.4.0", file)
	w.admin(t, "audit", "verify").want(t, 0, "nothing is wrong")
}

// Somebody between a client and the server can neither give it what was there
// before, nor keep it there.
func TestTUFAttacks(t *testing.T) {
	w := newTUFWorld(t)
	w.founded(t)
	file := w.publish(t, "1.4.0", 3)
	w.lists(t, 1)
	c := w.client(t)
	c.good(t, "1.4.0", file)
	_, old, _ := w.get(t, "timestamp.json")
	before := map[string][]byte{"timestamp.json": old}
	w.publish(t, "1.5.0", 4)
	targets, snapshot, _ := w.newest(t)
	for len(targets.Signed.Targets) < 2 {
		targets, snapshot, _ = w.newest(t)
	}
	c.bad(t, w.frozen(t, before), "1.5.0", "no such target") // not yet seen: it knows no better
	c.good(t, "1.4.0", file)
	c.bad(t, w.frozen(t, before), "1.4.0", "version")                             // rollback
	w.client(t).bad(t, w.frozen(t, before), "1.4.0", "expired", "HOURS_AHEAD=25") // freeze
	c.bad(t, w.frozen(t, before), "1.4.0", "expired", "HOURS_AHEAD=9999")         // and the root's end
	w.client(t).good(t, "1.4.0", file, "HOURS_AHEAD=11")                          // as long as it is good
	mixed := maps.Clone(before)
	_, mixed["timestamp.json"], _ = w.get(t, "timestamp.json")
	_, other, _ := w.get(t, "1.root.json")
	mixed[strconv.Itoa(snapshot)+".snapshot.json"] = other
	w.client(t).bad(t, w.frozen(t, mixed), "1.4.0", "")
	mixed[strconv.Itoa(snapshot)+".snapshot.json"] = old
	w.client(t).bad(t, w.frozen(t, mixed), "1.4.0", "")
	mixed = map[string][]byte{strconv.Itoa(targets.Signed.Version) + ".targets.json": []byte(`{}`)}
	w.client(t).bad(t, w.frozen(t, mixed), "1.4.0", "")
}
