package tuf

import (
	"bytes"
	"crypto"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/touchmark/touchmark/firmware-sign/internal/signtest"
)

// begun is a root of a repository that keys have signed, read again as if it
// had been far away.
func (r *repository) begun(version int, keys ...crypto.Signer) *Root {
	r.t.Helper()
	root, err := BeginRoot(version, r.ends, r.roles)
	if err != nil {
		r.t.Fatal(err)
	}
	for _, s := range r.sign(root.draft, keys...) {
		if err := root.Add(s); err != nil {
			r.t.Fatal(err)
		}
	}
	return r.again(root)
}

func (r *repository) again(root *Root) *Root {
	r.t.Helper()
	text, err := root.JSON()
	if err != nil {
		r.t.Fatal(err)
	}
	read, err := ParseRoot(text)
	if err != nil {
		r.t.Fatal(err)
	}
	return read
}

// A root that goes from hand to hand becomes the file that clients know, when
// enough keys of both roots have signed it and not before.
func TestRootByHands(t *testing.T) {
	r := newRepository(t)
	keys := r.keys["root"]
	first := r.begun(1, keys[0])
	if _, err := first.Publish(nil); err == nil || !strings.Contains(err.Error(), "1 signatures") {
		t.Errorf("by one of two: %v", err)
	}
	if err := first.Merge(r.begun(1, keys[2])); err != nil {
		t.Fatal(err)
	}
	file, err := first.Publish(nil)
	if err != nil || len(first.SignedBy(r.roles.Root)) != 2 {
		t.Fatalf("by two: %v", err)
	}
	r.files["metadata/1.root.json"] = file.JSON
	r.publish(1, []byte("firmware"))
	c := newClient(t, file)
	c.good(r.files)
	if first, err = ParseRoot(file.JSON); err != nil {
		t.Fatal(err)
	}

	r.keys["root"] = []crypto.Signer{keys[1], signtest.Key(t, "p256"), signtest.Key(t, "ed25519")}
	r.roles.Root = r.role("root", 2)
	now := r.keys["root"]
	for name, bad := range map[string]*Root{
		"by the new keys alone":     r.begun(2, now[1:]...),
		"by one of the old ones":    r.begun(2, now...),
		"by the old keys alone":     r.begun(2, keys[:1]...),
		"one left out":              r.begun(3, append(now, keys[0])...),
		"the same version again":    r.begun(1, append(now, keys[0])...),
		"by one key and a stranger": r.begun(2, keys[1], signtest.Key(t, "p256")),
	} {
		if f, err := bad.Publish(first); err == nil {
			t.Errorf("%s: published as %s", name, f.Name())
		}
	}
	stranger := signtest.Key(t, "p256")
	second := r.begun(2, now[0], now[1], keys[0], stranger)
	file, err = second.Publish(first)
	if err != nil {
		t.Fatal(err)
	}
	if id, _ := KeyID(stranger.Public()); strings.Contains(string(file.JSON), id) {
		t.Error("a stranger's signature is served")
	}
	r.files["metadata/2.root.json"] = file.JSON
	c.good(r.files)
	if err := first.Merge(second); err == nil {
		t.Error("signatures of another root were taken")
	}
	if second.Same(first) || !second.Same(r.again(second)) {
		t.Error("roots are not told apart")
	}
}

// What is signed is what is read: any other word in a root, and no signature
// is good.
func TestRootThatWasChanged(t *testing.T) {
	r := newRepository(t)
	text, err := r.begun(1, r.keys["root"][:2]...).JSON()
	if err != nil {
		t.Fatal(err)
	}
	for old, to := range map[string]string{
		`"threshold": 2`: `"threshold": 1`, `"version": 1`: `"version": 2`, `"_type": "root"`: `"_type": "targets"`, `"spec_version": "1.0.31"`: `"spec_version": "1.0.30"`,
		`"consistent_snapshot": true`: `"consistent_snapshot": false`, `"signatures"`: `"more": 1, "signatures"`, `"keytype": "ed25519"`: `"keytype": "rsa"`,
		`"roles": {`: `"roles": {"mirrors": {"keyids": [], "threshold": 1},`, `"keyids": [`: `"keyids": ["00",`,
	} {
		changed := bytes.Replace(text, []byte(old), []byte(to), 1)
		if bytes.Equal(changed, text) {
			t.Fatalf("there is no %s in\n%s", old, text)
		}
		root, err := ParseRoot(changed)
		if err == nil {
			_, err = root.Publish(nil)
		}
		if err == nil {
			t.Errorf("with %s it is published", to)
		}
	}
	for name, bad := range map[string][]byte{"nothing": nil, "more behind": append(bytes.Clone(text), '1'), "long": append(bytes.Clone(text), make([]byte, MaxRoot)...)} {
		if _, err := ParseRoot(bad); err == nil {
			t.Errorf("%s was read", name)
		}
	}
}

// FuzzParseRoot: what is read is written again as the same, and what nobody
// signed is never published.
func FuzzParseRoot(f *testing.F) {
	seeds, err := filepath.Glob("testdata/roots/*.json")
	if err != nil || len(seeds) == 0 {
		f.Fatalf("no seeds: %v", err)
	}
	for _, name := range seeds {
		text, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	signed, err := os.ReadFile("testdata/roots/signed.json")
	if err != nil {
		f.Fatal(err)
	}
	good, err := ParseRoot(signed)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		root, err := ParseRoot(text)
		if err != nil {
			return
		}
		again, err := root.JSON()
		if err != nil {
			t.Fatal(err)
		}
		read, err := ParseRoot(again)
		if err != nil || !read.Same(root) {
			t.Fatalf("read again: %v\n%s", err, again)
		}
		// Nobody who fuzzes has the keys that the seed's root names.
		if _, err := root.Publish(good); err == nil {
			t.Errorf("it follows the seed's root:\n%s", text)
		}
	})
}
