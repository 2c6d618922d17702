package repository

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/touchmark/touchmark/firmware-sign/internal/signtest"
	"github.com/touchmark/touchmark/firmware-sign/tuf"
)

// memory is a store that can fail.
type memory struct {
	state   *State
	old     map[string][]byte
	keys    []*Key
	listing int64
	targets []tuf.Target
	notes   []string
	err     error
	hurried func() // another server is faster, once
}

func (m *memory) TUFMark(context.Context) (Mark, error)            { return m.state.Mark(), m.err }
func (m *memory) TUFKeys(context.Context) ([]*Key, error)          { return m.keys, m.err }
func (m *memory) TUFListing(context.Context) (int64, error)        { return m.listing, m.err }
func (m *memory) TUFTargets(context.Context) ([]tuf.Target, error) { return m.targets, m.err }

func (m *memory) TUFState(context.Context) (*State, error) {
	out := &State{Roots: slices.Clone(m.state.Roots), Files: map[Role]*File{}}
	for r, f := range m.state.Files {
		out.Files[r] = f
	}
	return out, m.err
}

func (m *memory) TUFFile(_ context.Context, r Role, version int) ([]byte, error) {
	return m.old[strconv.Itoa(version)+"."+string(r)], m.err
}

func (m *memory) KeepTUF(_ context.Context, by, note string, made *Made) (bool, error) {
	if m.hurried != nil {
		m.hurried()
		m.hurried = nil
	}
	if m.err != nil || made.Follows != m.state.Mark() || made.Listing != m.listing {
		return false, m.err
	}
	if made.Root != nil {
		m.state.Roots = append(m.state.Roots, *made.Root)
	}
	for _, f := range made.Files {
		if before := m.state.Files[f.Role]; before != nil {
			if f.Version <= before.Version {
				return false, errors.New("it goes back")
			}
			m.old[strconv.Itoa(before.Version)+"."+string(f.Role)] = before.JSON
		}
		m.state.Files[f.Role] = f
	}
	m.notes = append(m.notes, by+": "+note)
	return true, nil
}

// world is a maker on a memory, with a clock, and those who sign roots.
type world struct {
	*Maker
	t     *testing.T
	store *memory
	clock time.Time
	log   bytes.Buffer
	away  error // the key store's
	own   map[string]crypto.Signer
	root  []crypto.Signer
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, store: &memory{state: &State{Files: map[Role]*File{}}, old: map[string][]byte{}}, clock: time.Now().Truncate(time.Second), own: map[string]crypto.Signer{},
		root: []crypto.Signer{signtest.Key(t, "p256"), signtest.Key(t, "ed25519"), signtest.Key(t, "p256")}}
	now := func() time.Time { return w.clock }
	const day = 24 * time.Hour
	w.Maker = &Maker{Store: w.store, Directory: &Directory{Store: w.store, Now: now}, Validity: Validity{90 * day, 7 * day, day}, Now: now,
		Open: func(_ context.Context, k *Key) (crypto.Signer, error) { return w.own[k.Name], w.away }, Log: slog.New(slog.NewTextHandler(&w.log, nil))}
	for _, role := range Online {
		w.key(role, 1)
	}
	return w
}

// key makes a key of a role.
func (w *world) key(role Role, number int) {
	w.t.Helper()
	k := &Key{Role: role, Number: number, Name: KeyName(role, number)}
	signer := signtest.Key(w.t, "p256")
	var err error
	if k.PublicKey, err = x509.MarshalPKIXPublicKey(signer.Public()); err != nil {
		w.t.Fatal(err)
	}
	w.own[k.Name], w.store.keys = signer, append(w.store.keys, k)
}

func roleBy(threshold int, keys ...crypto.Signer) (r tuf.Role) {
	for _, k := range keys {
		r.Keys = append(r.Keys, k.Public())
	}
	r.Threshold = threshold
	return r
}

// roles are those of a root that two of three sign, with the newest keys.
func (w *world) roles() tuf.Roles {
	newest := map[Role]crypto.Signer{}
	for _, k := range w.store.keys {
		newest[k.Role] = w.own[k.Name]
	}
	return tuf.Roles{Root: roleBy(2, w.root...), Targets: roleBy(1, newest[Targets]), Snapshot: roleBy(1, newest[Snapshot]), Timestamp: roleBy(1, newest[Timestamp])}
}

// signed is a root by all who sign roots.
func (w *world) signed(version int, ends time.Time, roles tuf.Roles) []byte {
	w.t.Helper()
	root, err := tuf.BeginRoot(version, ends, roles)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, key := range w.root {
		want, err := root.ToSign(key.Public())
		if err != nil {
			w.t.Fatal(err)
		}
		sig, err := want.Sign(key)
		if err == nil {
			err = root.Add(tuf.Signature{Key: key.Public(), Bytes: sig})
		}
		if err != nil {
			w.t.Fatal(err)
		}
	}
	text, err := root.JSON()
	if err != nil {
		w.t.Fatal(err)
	}
	return text
}

func (w *world) founded() {
	w.t.Helper()
	if err := w.Import(w.t.Context(), "operator:anna", w.signed(1, w.clock.AddDate(1, 0, 0), w.roles())); err != nil {
		w.t.Fatal(err)
	}
}

// made are the files that a round made.
func (w *world) made(after time.Duration) (names []string) {
	w.t.Helper()
	w.clock = w.clock.Add(after)
	before := w.Directory.Newest()
	if err := w.Round(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
	st := w.Directory.Newest()
	for _, role := range Online {
		f := st.Files[role]
		if had := before.Files[role]; f.Version == had.Version {
			continue
		} else if f.Version < had.Version || !f.Expires.Equal(w.clock.Add(w.Validity.of(role))) {
			w.t.Errorf("%s %d until %s after %d", role, f.Version, f.Expires, had.Version)
		}
		names = append(names, string(role))
	}
	w.whole()
	return names
}

// whole checks that the newest files name each other.
func (w *world) whole() {
	w.t.Helper()
	files := w.Directory.Newest().Files
	for by, of := range map[Role]Role{Timestamp: Snapshot, Snapshot: Targets} {
		var f struct {
			Signed struct {
				Meta map[string]struct{ Version, Length int }
			}
		}
		if err := json.Unmarshal(files[by].JSON, &f); err != nil {
			w.t.Fatal(err)
		}
		if m := f.Signed.Meta[string(of)+".json"]; m.Version != files[of].Version || m.Length != len(files[of].JSON) {
			w.t.Errorf("the %s names %+v, not %s %d", by, m, of, files[of].Version)
		}
	}
}

// Each file is made anew at half of its time, with those that name it; and
// when other releases are published.
func TestRounds(t *testing.T) {
	w := newWorld(t)
	if err := w.Round(t.Context()); err != nil || len(w.store.notes) != 0 {
		t.Fatalf("before there is a root: %v %q", err, w.store.notes)
	}
	w.founded()
	const hour = time.Hour
	for i, step := range []struct {
		after   time.Duration
		publish bool
		want    string
	}{
		{0, false, ""}, {hour, false, ""}, {11 * hour, false, "timestamp"}, {hour, false, ""},
		{hour, true, "targets snapshot timestamp"}, {0, false, ""}, {0, true, "targets snapshot timestamp"}, // in the same second
		{72 * hour, false, "timestamp"}, {12 * hour, false, "snapshot timestamp"}, {45 * 24 * hour, false, "targets snapshot timestamp"}, {1000 * hour, false, "snapshot timestamp"},
		{-2000 * hour, true, "targets snapshot timestamp"}, // the clock was set back
	} {
		if step.publish {
			w.store.listing++
		}
		if got := strings.Join(w.made(step.after), " "); got != step.want && step.after >= 0 {
			t.Errorf("step %d: %q, want %q", i, got, step.want)
		}
	}
}

func (w *world) fails(want string) {
	w.t.Helper()
	w.note(w.t.Context(), nil)
	w.note(w.t.Context(), errors.New("once"))
	if err := w.Check(w.t.Context()); err != nil && !strings.Contains(err.Error(), "in time") {
		w.t.Errorf("one round that failed is told: %v", err)
	}
	err := w.Round(w.t.Context())
	for range 3 {
		w.note(w.t.Context(), err)
	}
	if err == nil || !strings.Contains(err.Error(), want) {
		w.t.Errorf("%v, want %q", err, want)
	}
	if err := w.Check(w.t.Context()); err == nil || !strings.Contains(err.Error(), want) {
		w.t.Errorf("the check says %v, want %q", err, want)
	}
}

// While a key or the database is away, what there is is served on; then it
// goes on.
func TestKeysAway(t *testing.T) {
	w := newWorld(t)
	w.founded()
	before := w.Directory.Newest().Mark()
	w.away = errors.New("the token is gone")
	w.store.listing++
	w.fails("targets cannot sign: the token is gone")
	if n := strings.Count(w.log.String(), "level=ERROR"); n != 1 {
		t.Errorf("%d errors are logged for one outage", n)
	}
	if err := w.Import(t.Context(), "x", w.signed(2, w.clock.AddDate(1, 0, 0), w.roles())); !errors.As(err, new(*KeyError)) {
		t.Errorf("a root: %v", err)
	}
	w.away, w.store.err = nil, errors.New("the database is gone")
	w.fails("the database is gone")
	w.clock = w.clock.Add(time.Minute)
	if st, err := w.Directory.State(t.Context()); err == nil || st.Mark() != before {
		t.Errorf("%+v %v", st, err)
	}
	w.store.err = nil
	if got := w.made(time.Hour); len(got) != 3 {
		t.Errorf("made is %v", got)
	}
	w.note(t.Context(), nil)
	if err := w.Check(t.Context()); err != nil {
		t.Error(err)
	}
	w.clock = w.clock.Add(20 * time.Hour)
	if err := w.Check(t.Context()); err == nil || !strings.Contains(err.Error(), "timestamp") {
		t.Errorf("a timestamp that runs out: %v", err)
	}
	w.own["tuf-timestamp-1"] = signtest.Key(t, "p256")
	w.fails("another key than when it was made")
}

// Another server, or a release, may be faster than a round and than an import.
func TestOthersAreFaster(t *testing.T) {
	w := newWorld(t)
	w.founded()
	w.store.listing++
	w.store.hurried = func() { w.store.listing++ }
	if got := w.made(0); len(got) != 0 {
		t.Errorf("what is out of date was kept: %v", got)
	}
	if got := w.made(0); len(got) != 3 {
		t.Errorf("then made is %v", got)
	}
	w.store.hurried = func() { w.store.listing++ }
	if err := w.Import(t.Context(), "x", w.signed(2, w.clock.AddDate(1, 0, 0), w.roles())); err != nil {
		t.Error(err)
	}
	if m := w.Directory.Newest().Mark(); m.Root != 2 || w.Directory.Newest().Files[Targets].Listing != w.store.listing {
		t.Errorf("%+v", m)
	}
	w.whole()
}

func TestRootsThatAreRefused(t *testing.T) {
	w := newWorld(t)
	next := w.clock.AddDate(1, 0, 0)
	refuses := func(want string, root []byte) {
		t.Helper()
		before := len(w.store.notes)
		err := w.Import(t.Context(), "operator:anna", root)
		if !errors.As(err, new(*RefusedError)) || !strings.Contains(err.Error(), want) || len(w.store.notes) != before {
			t.Errorf("%v, want %q", err, want)
		}
	}
	with := func(change func(*tuf.Roles)) tuf.Roles {
		r := w.roles()
		change(&r)
		return r
	}
	refuses("no root", []byte("{"))
	refuses("the next one is 1", w.signed(2, next, w.roles()))
	refuses("ran out", w.signed(1, w.clock, w.roles()))
	refuses("no key of this installation for snapshot", w.signed(1, next, with(func(r *tuf.Roles) { r.Snapshot = r.Root; r.Snapshot.Threshold = 1 })))
	refuses("2 keys are to sign targets", w.signed(1, next, with(func(r *tuf.Roles) {
		r.Targets.Keys, r.Targets.Threshold = append(r.Targets.Keys, w.root[0].Public()), 2
	})))
	refuses("its key is online", w.signed(1, next, with(func(r *tuf.Roles) { r.Root.Keys = append(r.Root.Keys, r.Targets.Keys[0]) })))
	w.founded()
	refuses("the next one is 2", w.signed(3, next, w.roles()))
	refuses("the next one is 2", w.signed(1, next.Add(time.Hour), w.roles()))
	former := w.root
	w.root = []crypto.Signer{signtest.Key(t, "p256"), signtest.Key(t, "p256"), former[0]}
	refuses("by the keys of root 1", w.signed(2, next, w.roles()))
	w.root = former
	refuses("root 2 has 0 signatures", w.signed(2, next, with(func(r *tuf.Roles) { r.Root = roleBy(1, signtest.Key(t, "p256")) })))

	w.key(Timestamp, 2)
	if err := w.Import(t.Context(), "operator:anna", w.signed(2, next, w.roles())); err != nil {
		t.Fatal(err)
	}
	if err := w.Import(t.Context(), "operator:anna", w.signed(2, next, w.roles())); err != nil || len(w.store.notes) != 2 {
		t.Errorf("the same root again: %v %q", err, w.store.notes)
	}
	if got := w.store.notes[1]; !strings.HasPrefix(got, "operator:anna: root 2, targets ") || !strings.Contains(got, ", timestamp ") {
		t.Errorf("the note is %q", got)
	}
	w.whole()
}

func (w *world) get(method, name string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, Prefix+name, nil)
	if len(header) > 0 {
		r.Header.Set(header[0], header[1])
	}
	rec := httptest.NewRecorder()
	(&Handler{Directory: w.Directory, Log: w.Log}).ServeHTTP(rec, r)
	return rec
}

func TestHandler(t *testing.T) {
	w := newWorld(t)
	w.store.err = errors.New("gone")
	if r := w.get("GET", "timestamp.json"); r.Code != 503 || r.Header().Get("Retry-After") == "" {
		t.Errorf("before the database answered: %d", r.Code)
	}
	w.store.err = nil
	w.clock = w.clock.Add(time.Minute)
	if r := w.get("GET", "timestamp.json"); r.Code != 404 || !strings.Contains(r.Body.String(), "no root was imported") {
		t.Errorf("before there is a root: %d %s", r.Code, r.Body)
	}
	w.founded()
	targets := strconv.Itoa(w.Directory.Newest().Files[Targets].Version) + ".targets.json"
	w.store.listing++
	if got := w.made(time.Minute); len(got) != 3 {
		t.Fatal(got)
	}
	newest := strconv.Itoa(w.Directory.Newest().Files[Targets].Version) + ".targets.json"
	for name, caching := range map[string]string{"timestamp.json": "no-cache", "1.root.json": "immutable", targets: "immutable", newest: "immutable"} {
		r := w.get("GET", name)
		if r.Code != 200 || !strings.Contains(r.Header().Get("Cache-Control"), caching) || r.Header().Get("Content-Type") != "application/json" || !json.Valid(r.Body.Bytes()) {
			t.Errorf("%s: %d %v", name, r.Code, r.Header())
		}
		if r := w.get("GET", name, "If-None-Match", r.Header().Get("ETag")); r.Code != http.StatusNotModified {
			t.Errorf("%s, if it changed: %d", name, r.Code)
		}
		if r := w.get("HEAD", name); r.Code != 200 || r.Body.Len() != 0 {
			t.Errorf("HEAD %s: %d", name, r.Code)
		}
	}
	for _, name := range []string{"2.root.json", "0.root.json", "01.root.json", "1.timestamp.json", "999999999999999999999.root.json", "1.targets.json", "root.json", "", "../x"} {
		if r := w.get("GET", name); r.Code != 404 || r.Header().Get("Cache-Control") != "no-store" {
			t.Errorf("%q: %d %v", name, r.Code, r.Header())
		}
	}
	if r := w.get("POST", "1.root.json"); r.Code != 405 {
		t.Errorf("POST: %d", r.Code)
	}
	w.store.err = errors.New("gone")
	w.clock = w.clock.Add(time.Minute)
	for name, want := range map[string]int{"timestamp.json": 200, "1.root.json": 200, newest: 200, "2.root.json": 404, targets: 503} {
		if r := w.get("GET", name); r.Code != want {
			t.Errorf("without the database, %s: %d, want %d", name, r.Code, want)
		}
	}
}
