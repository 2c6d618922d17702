package storetest

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/touchmark/touchmark/firmware-sign/tuf"
	"github.com/touchmark/touchmark/firmware-sign/tuf/repository"
	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/internal/audit"
	"github.com/touchmark/touchmark/internal/store"
	"github.com/touchmark/touchmark/vetting"
)

var tufCases = []conformance{
	{"a repository is kept as a whole", tufKept},
	{"metadata that follows another than the newest is not kept", tufFollows},
	{"metadata that lists other releases than are published is not kept", tufLists},
	{"versions never go back", tufNeverBack},
	{"of several servers one is first", tufConcurrent},
	{"replaced files stay for a while", tufReplaced},
	{"a role's keys follow each other", tufKeysFollow},
}

var tufEnds = time.Date(2031, 12, 31, 0, 0, 0, 0, time.UTC)

// tufFile is a file with made-up bytes: the store does not look into it.
func tufFile(role repository.Role, n int) *repository.File {
	return &repository.File{Role: role, Version: n, Expires: tufEnds, JSON: fmt.Appendf(nil, `{"%s": %d}`, role, n)}
}

// madeTUF is the n-th state of a repository: root n, and a file of each role
// with that version.
func madeTUF(n int) *repository.Made {
	m := &repository.Made{Follows: repository.Mark{Root: n - 1, Timestamp: n - 1}, Root: &repository.RootFile{Version: n, Expires: tufEnds, JSON: fmt.Appendf(nil, `{"root": %d}`, n)}}
	for _, role := range repository.Online {
		m.Files = append(m.Files, tufFile(role, n))
	}
	return m
}

// KeepTUF keeps the n-th state of a repository.
func KeepTUF(ctx context.Context, s *store.Store, n int) (kept bool, err error) {
	m := madeTUF(n)
	if m.Listing, err = s.TUFListing(ctx); err != nil {
		return false, err
	}
	return s.KeepTUF(ctx, "operator:anna", "root", m)
}

// WholeTUF demands that a repository is in its n-th state, and in no other.
func WholeTUF(t testing.TB, s *store.Store, n int) {
	t.Helper()
	ctx := context.Background()
	st, err := s.TUFState(ctx)
	if err != nil {
		t.Fatal(err)
	}
	mark, err := s.TUFMark(ctx)
	if err != nil || mark != st.Mark() || mark != (repository.Mark{Root: n, Timestamp: n}) || len(st.Roots) != n {
		t.Errorf("%d roots, %+v and %+v (%v), want %d", len(st.Roots), mark, st.Mark(), err, n)
	}
	for i, r := range st.Roots {
		if want := madeTUF(i + 1).Root; r.Version != want.Version || !bytes.Equal(r.JSON, want.JSON) || !r.Expires.Equal(want.Expires) {
			t.Errorf("root %d is %+v", i+1, r)
		}
	}
	for _, role := range repository.Online {
		if f, want := st.Files[role], tufFile(role, n); n > 0 && (f == nil || f.Version != n || !bytes.Equal(f.JSON, want.JSON) || !f.Expires.Equal(want.Expires)) {
			t.Errorf("%s is %+v", role, f)
		}
	}
}

// keepTUF checks whether something is kept, with one leaf or none.
func (t *trial) keepTUF(want bool, m *repository.Made) {
	t.Helper()
	before := t.leaves()
	kept, err := t.store.KeepTUF(t.ctx, "server", "note", m)
	if t.done(err); kept != want || (t.leaves() == before+1) != want {
		t.Errorf("kept %v with %d leaves, want %v", kept, t.leaves()-before, want)
	}
}

func tufKept(t *trial) {
	WholeTUF(t, t.store, 0)
	if mark := ok(t.store.TUFMark(t.ctx))(t); mark != (repository.Mark{}) {
		t.Errorf("%+v of nothing", mark)
	}
	leaf := t.leaves()
	if kept, err := KeepTUF(t.ctx, t.store, 1); !kept || err != nil {
		t.Fatal(kept, err)
	}
	l := t.leaf(leaf)
	kinds := []audit.Kind{}
	for _, o := range l.Objects {
		kinds = append(kinds, o.Kind)
	}
	if l.Act != "tuf.root" || l.By != "operator:anna" || !slices.Equal(kinds, []audit.Kind{audit.KindTUFRoot, audit.KindTUFFile, audit.KindTUFFile, audit.KindTUFFile}) {
		t.Errorf("the leaf is %+v", l)
	}
	WholeTUF(t, t.second(), 1)
	leaf = t.leaves()
	t.keepTUF(true, &repository.Made{Follows: repository.Mark{Root: 1, Timestamp: 1}, Files: []*repository.File{tufFile(repository.Timestamp, 7)}})
	if l := t.leaf(leaf); l.Act != "tuf.make" || l.By != "server" || len(l.Objects) != 1 {
		t.Errorf("the leaf is %+v", l)
	}
	st := ok(t.second().TUFState(t.ctx))(t)
	if st.Files[repository.Timestamp].Version != 7 || st.Files[repository.Snapshot].Version != 1 || st.Mark().Timestamp != 7 {
		t.Errorf("%+v", st.Files)
	}
}

func tufFollows(t *trial) {
	t.keepTUF(false, madeTUF(2))
	t.keepTUF(true, madeTUF(1))
	t.keepTUF(false, madeTUF(1))
	t.keepTUF(false, madeTUF(3))
	t.keepTUF(true, madeTUF(2))
	WholeTUF(t, t.store, 2)
}

func tufLists(t *trial) {
	t.keepTUF(true, madeTUF(1))
	_, _, key := t.lamp()
	board := t.board()
	r := t.published("2.0.0", 4, key, board)
	next := madeTUF(2)
	t.keepTUF(false, next) // it was made before that
	next.Listing = ok(t.store.TUFListing(t.ctx))(t)
	next.Files[0].Listing = next.Listing
	t.keepTUF(true, next)
	list := ok(t.store.TUFTargets(t.ctx))(t)
	signed := r.Artefacts[0].Signed
	if len(list) != 1 || list[0].Path() != "lamp/2.0.0/app.bin" || list[0].Size != signed.Size || fmt.Sprintf("%x", list[0].SHA256) != signed.SHA256 || list[0].Counter != r.Counter {
		t.Errorf("listed is %+v, signed %+v", list, signed)
	}
	if st := ok(t.second().TUFState(t.ctx))(t); st.Files[repository.Targets].Listing != next.Listing {
		t.Errorf("the targets are those of %d, want %d", st.Files[repository.Targets].Listing, next.Listing)
	}
	t.agree(ok(t.store.ProposeYank(t.ctx, as("erna"), r.ID, "it burns"))(t).ID, board...)
	if n := ok(t.store.TUFListing(t.ctx))(t); n <= next.Listing {
		t.Errorf("yanked, and the listing goes from %d to %d", next.Listing, n)
	}
	if list := ok(t.store.TUFTargets(t.ctx))(t); len(list) != 0 {
		t.Errorf("yanked, and still there: %+v", list)
	}
}

func tufNeverBack(t *trial) {
	t.keepTUF(true, madeTUF(1))
	for name, m := range map[string]*repository.Made{
		"the same targets again": {Files: []*repository.File{tufFile(repository.Targets, 1), tufFile(repository.Timestamp, 2)}},
		"a root left out":        {Root: &repository.RootFile{Version: 3, JSON: []byte("{}")}, Files: []*repository.File{tufFile(repository.Timestamp, 2)}},
		"the same root again":    {Root: &repository.RootFile{Version: 1, JSON: []byte("{}")}, Files: []*repository.File{tufFile(repository.Timestamp, 2)}},
	} {
		m.Follows = repository.Mark{Root: 1, Timestamp: 1}
		if kept, err := t.store.KeepTUF(t.ctx, "server", "note", m); kept || err == nil {
			t.Errorf("%s: kept %v, %v", name, kept, err)
		}
	}
	WholeTUF(t, t.store, 1)
}

func tufConcurrent(t *trial) {
	other := t.second()
	t.keepTUF(true, madeTUF(1))
	var mu sync.Mutex
	var all sync.WaitGroup
	first := 0
	for n := range 8 {
		all.Go(func() {
			s := []*store.Store{t.store, other}[n%2]
			kept, err := KeepTUF(t.ctx, s, 2)
			mu.Lock()
			defer mu.Unlock()
			if t.done(err); kept {
				first++
			}
		})
	}
	if all.Wait(); first != 1 {
		t.Errorf("%d were first", first)
	}
	WholeTUF(t, t.store, 2)
}

func tufReplaced(t *trial) {
	now := time.Now()
	s := OpenWith(t, store.Options{DSN: t.dsn, Now: func() time.Time { return now }})
	defer s.Close()
	there := func(n int) bool {
		t.Helper()
		b := ok(s.TUFFile(t.ctx, repository.Targets, n))(t)
		return bytes.Equal(b, tufFile(repository.Targets, n).JSON)
	}
	for n := 1; n <= 2; n++ {
		if kept, err := KeepTUF(t.ctx, s, n); !kept || err != nil {
			t.Fatal(kept, err)
		}
	}
	if !there(1) || !there(2) || there(3) {
		t.Error("a file is missing, or there is one that was not made")
	}
	now = now.Add(59 * time.Minute)
	ok(KeepTUF(t.ctx, s, 3))(t)
	if !there(1) {
		t.Error("within the hour, what was replaced is gone")
	}
	now = now.Add(2 * time.Minute)
	ok(KeepTUF(t.ctx, s, 4))(t)
	if there(1) || !there(3) || !there(4) {
		t.Error("after an hour, what was replaced is there, or what is newest is gone")
	}
}

// tufKey is a new key.
func tufKey(role repository.Role, number int) *repository.Key {
	pub, _, err := ed25519.GenerateKey(nil)
	if err != nil { // never
		panic(err)
	}
	spki, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		panic(err)
	}
	return &repository.Key{Role: role, Number: number, PublicKey: spki}
}

// CreateTUFKey keeps a key of targets.
func CreateTUFKey(ctx context.Context, s *store.Store) (*repository.Key, error) {
	return s.CreateTUFKey(ctx, By, tufKey(repository.Targets, 1))
}

func tufKeysFollow(t *trial) {
	first := tufKey(repository.Targets, 1)
	leaf := t.leaves()
	act := access.Act{Operator: "anna", Key: "k-1", Request: sha256.Sum256([]byte("make a key"))}
	made := ok(t.store.CreateTUFKey(t.ctx, act, first))(t)
	pub := ok(made.Public())(t)
	if id := ok(tuf.KeyID(pub))(t); made.Name != "tuf-targets-1" || made.KeyID != id || made.By != "anna" || made.Created.IsZero() {
		t.Errorf("%+v", made)
	}
	if l := t.leaf(leaf); l.Act != "tuf.key.create" || l.By != "operator:anna" || l.Note != "tuf-targets-1" || l.Objects[0].Kind != audit.KindTUFKey {
		t.Errorf("%+v", l)
	}
	same(t, "again", ok(t.store.CreateTUFKey(t.ctx, act, first))(t), made)
	t.refuses(vetting.Conflict)(t.store.CreateTUFKey(t.ctx, By, first))
	t.refuses(vetting.Conflict)(t.store.CreateTUFKey(t.ctx, By, tufKey(repository.Targets, 3)))
	ok(t.store.CreateTUFKey(t.ctx, By, tufKey(repository.Snapshot, 1)))(t)
	ok(t.store.CreateTUFKey(t.ctx, By, tufKey(repository.Targets, 2)))(t)
	var names []string
	for _, k := range ok(t.second().TUFKeys(t.ctx))(t) {
		names = append(names, k.Name)
	}
	same(t, "keys", names, []string{"tuf-targets-1", "tuf-snapshot-1", "tuf-targets-2"})
}

func tufCalls(ctx context.Context, s *store.Store) map[string]func() error {
	return map[string]func() error{
		"TUFMark":    call(func() (any, error) { return s.TUFMark(ctx) }),
		"TUFState":   call(func() (any, error) { return s.TUFState(ctx) }),
		"TUFFile":    call(func() (any, error) { return s.TUFFile(ctx, repository.Targets, 1) }),
		"TUFKeys":    call(func() (any, error) { return s.TUFKeys(ctx) }),
		"TUFListing": call(func() (any, error) { return s.TUFListing(ctx) }),
		"TUFTargets": call(func() (any, error) { return s.TUFTargets(ctx) }),
		"CreateTUFKey": call(func() (any, error) {
			return s.CreateTUFKey(ctx, By, &repository.Key{Role: repository.Targets, Number: 1})
		}),
		"KeepTUF": call(func() (any, error) { return s.KeepTUF(ctx, "server", "", madeTUF(1)) }),
	}
}
