package server

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/touchmark/touchmark/firmware-sign/tuf"
	"github.com/touchmark/touchmark/firmware-sign/tuf/repository"
	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/internal/store/storetest"
)

// tufRoot signs a root that names the server's newest keys, and is good for so
// many days.
func (w *works) tufRoot(version, days int, by *ecdsa.PrivateKey) []byte {
	w.t.Helper()
	list, err := w.server.store.TUFKeys(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	roles := map[repository.Role]tuf.Role{repository.Root: {Keys: []crypto.PublicKey{by.Public()}, Threshold: 1}}
	for _, k := range list {
		pub, err := k.Public()
		if err != nil {
			w.t.Fatal(err)
		}
		roles[k.Role] = tuf.Role{Keys: []crypto.PublicKey{pub}, Threshold: 1}
	}
	root, err := tuf.BeginRoot(version, w.now().AddDate(0, 0, days), tuf.Roles{Root: roles[repository.Root], Targets: roles[repository.Targets], Snapshot: roles[repository.Snapshot], Timestamp: roles[repository.Timestamp]})
	if err != nil {
		w.t.Fatal(err)
	}
	want, err := root.ToSign(by.Public())
	if err != nil {
		w.t.Fatal(err)
	}
	sig, err := want.Sign(by)
	if err == nil {
		err = root.Add(tuf.Signature{Key: by.Public(), Bytes: sig})
	}
	if err != nil {
		w.t.Fatal(err)
	}
	text, err := root.JSON()
	if err != nil {
		w.t.Fatal(err)
	}
	return text
}

// timestamp is what the server says is the newest.
func (w *works) tufTimestamp() (version int, expires time.Time) {
	w.t.Helper()
	status, body := get(w.t, http.DefaultClient, "http://"+w.server.Addrs()["status"]+"/tuf/timestamp.json")
	var f struct {
		Signed struct {
			Version int
			Expires time.Time
		}
	}
	if err := json.Unmarshal([]byte(body), &f); status != 200 || err != nil {
		w.t.Fatalf("%d %s %v", status, body, err)
	}
	return f.Signed.Version, f.Signed.Expires
}

// The server renews what runs out by itself, tells when the root does, and
// serves the same at both doors.
func TestTUFIsRenewed(t *testing.T) {
	w := opened(t)
	ctx := t.Context()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for _, role := range repository.Online {
		act := access.Act{Operator: "test", Key: string(role)}
		for range 2 { // the same act again
			if k, err := w.server.tuf.CreateTUFKey(ctx, act, role, 1, "P-256"); err != nil || k.Number != 1 {
				t.Fatalf("%+v %v", k, err)
			}
		}
	}
	if _, err := w.server.tuf.CreateTUFKey(ctx, access.Act{Operator: "test"}, repository.Targets, 3, "P-256"); err == nil {
		t.Error("a key was made that is not the next")
	}
	if err := w.server.tuf.ImportTUFRoot(ctx, "operator:test", w.tufRoot(1, 100, key)); err != nil {
		t.Fatal(err)
	}
	renewed := func(after time.Duration, want bool) {
		t.Helper()
		before, _ := w.tufTimestamp()
		w.ahead.Add(int64(after))
		if err := w.server.tuf.Round(ctx); err != nil {
			t.Fatal(err)
		}
		version, expires := w.tufTimestamp()
		if (version > before) != want || !expires.After(w.now()) {
			t.Errorf("after %s: %d until %s, before %d", after, version, expires, before)
		}
	}
	renewed(11*time.Hour, false)
	renewed(2*time.Hour, true)
	renewed(50*24*time.Hour, true) // the server was away for long
	_, ready := get(t, http.DefaultClient, "http://"+w.server.Addrs()["ops"]+"/readyz")
	wantContains(t, ready, "TUF root 1 runs out at", `"ready":true`)
	_, metrics := get(t, http.DefaultClient, "http://"+w.server.Addrs()["ops"]+"/metrics")
	wantContains(t, metrics, `touchmark_tuf_expiry_seconds{role="root"}`, `touchmark_tuf_version{role="root"} 1`, `touchmark_certificate_expiry_seconds{name="tuf-root"}`)
	if err := w.server.tuf.ImportTUFRoot(ctx, "operator:test", w.tufRoot(2, 365, key)); err != nil {
		t.Fatal(err)
	}
	if _, ready = get(t, http.DefaultClient, "http://"+w.server.Addrs()["ops"]+"/readyz"); strings.Contains(ready, "TUF") {
		t.Errorf("with another root: %s", ready)
	}
	for _, name := range []string{"1.root.json", "2.root.json", "timestamp.json", "3.root.json"} {
		status, plain := get(t, http.DefaultClient, "http://"+w.server.Addrs()["status"]+"/tuf/"+name)
		again, secured := get(t, as(t, w.config, ""), "https://"+w.server.Addrs()["api"]+"/tuf/"+name)
		if status != again || plain != secured {
			t.Errorf("%s: %d %s at one door, %d %s at the other", name, status, plain, again, secured)
		}
	}
	storetest.Verify(t, w.server.store)
}
