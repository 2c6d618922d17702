package audit_test

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/touchmark/touchmark/internal/audit"
)

// roots are the roots of a log's first 0, 1, 2, … leaves, by tlog's own
// storage of hashes.
func roots(t *testing.T, m *memory) (all []tlog.Hash, stored []tlog.Hash) {
	t.Helper()
	reader := tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		out := make([]tlog.Hash, len(indexes))
		for i, x := range indexes {
			out[i] = stored[x]
		}
		return out, nil
	})
	for i := int64(0); ; i++ {
		h, err := tlog.TreeHash(i, reader)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, h)
		if i == m.head.Size() {
			return all, stored
		}
		hashes, err := tlog.StoredHashes(i, m.leaves[i], reader)
		if err != nil {
			t.Fatal(err)
		}
		stored = append(stored, hashes...)
	}
}

func TestTreeAgreesWithTlog(t *testing.T) {
	m := plain(600)
	want, _ := roots(t, m)
	var tree audit.Tree
	for i := int64(0); i <= 600; i++ {
		if tree.Root() != want[i] {
			t.Fatalf("root of %d leaves differs from tlog's", i)
		}
		again, err := audit.OpenTree(tree.Size(), tree.Frontier())
		if err != nil || again.Root() != want[i] {
			t.Fatalf("a tree of %d leaves does not survive being stored: %v", i, err)
		}
		if i < 600 {
			tree.Append(m.leaves[i])
		}
	}
}

// picks are all numbers below n for a small n, otherwise the telling ones.
func picks(n int64) []int64 {
	var out []int64
	for i := range n {
		edge := i < 3 || i >= n-3 || i&(i-1) == 0 || (i+1)&i == 0 || i%256 == 0 || i%256 == 255 || i%97 == 0
		if n <= 40 || edge {
			out = append(out, i)
		}
	}
	return out
}

func TestProofsOfAllSizes(t *testing.T) {
	const most = 600
	m := plain(most)
	want, _ := roots(t, m)
	tiles := audit.NewTiles(m)
	for size := int64(1); size <= most; size++ {
		if got, err := tiles.Root(t.Context(), size); err != nil || got != want[size] {
			t.Fatalf("root of %d leaves: %v, %v", size, got, err)
		}
		for _, i := range picks(size) {
			checkInclusion(t, tiles, m, i, size, want[size])
			checkConsistency(t, tiles, i+1, size, want)
		}
	}
}

func checkInclusion(t *testing.T, tiles *audit.Tiles, m *memory, i, size int64, root tlog.Hash) {
	t.Helper()
	p, err := tiles.Inclusion(t.Context(), i, size)
	if err != nil {
		t.Fatal(err)
	}
	if err := tlog.CheckRecord(p, size, root, i, tlog.RecordHash(m.leaves[i])); err != nil {
		t.Fatalf("leaf %d of %d: %v", i, size, err)
	}
	if tlog.CheckRecord(p, size, root, i, tlog.RecordHash([]byte("another"))) == nil {
		t.Fatalf("leaf %d of %d: another leaf passes too", i, size)
	}
}

func checkConsistency(t *testing.T, tiles *audit.Tiles, old, size int64, roots []tlog.Hash) {
	t.Helper()
	p, err := tiles.Consistency(t.Context(), old, size)
	if err != nil {
		t.Fatal(err)
	}
	if err := tlog.CheckTree(p, size, roots[size], old, roots[old]); err != nil {
		t.Fatalf("%d to %d: %v", old, size, err)
	}
}

func TestProofsOfWhatIsNot(t *testing.T) {
	tiles := audit.NewTiles(plain(10))
	for _, c := range [][2]int64{{-1, 10}, {10, 10}, {11, 10}, {0, 0}} {
		if _, err := tiles.Inclusion(t.Context(), c[0], c[1]); err == nil {
			t.Errorf("leaf %d of %d was proved", c[0], c[1])
		}
	}
	for _, c := range [][2]int64{{0, 10}, {11, 10}, {-1, 10}} {
		if _, err := tiles.Consistency(t.Context(), c[0], c[1]); err == nil {
			t.Errorf("%d to %d was proved", c[0], c[1])
		}
	}
	// Leaves that are not there yet.
	if _, err := tiles.Inclusion(t.Context(), 3, 11); err == nil || !strings.Contains(err.Error(), "leaf 10 is missing") {
		t.Errorf("error %v, want leaf 10 missing", err)
	}
}

// TestDeepLog has three levels of tiles, and more of the lowest than memory
// keeps.
func TestDeepLog(t *testing.T) {
	const size = 257*256 + 17
	m := plain(size)
	tiles := audit.NewTiles(m)
	for _, i := range []int64{0, 255, 256, 65535, 65536, size - 18, size - 17, size - 1} {
		checkInclusion(t, tiles, m, i, size, m.head.Root())
	}
	m.read = 0
	for i := int64(0); i < size; i += 256 { // every tile of level 0 once
		checkInclusion(t, tiles, m, i, size, m.head.Root())
	}
	if m.read > size {
		t.Errorf("%d proofs read %d leaves of a log of %d", size/256+1, m.read, size)
	}
	m.read = 0
	checkInclusion(t, tiles, m, 1, size, m.head.Root())
	if m.read > 256 {
		t.Errorf("a proof from a tile that memory lost read %d leaves", m.read)
	}
}

func TestGrowingTilesAreExtended(t *testing.T) {
	m := plain(1000)
	tiles := audit.NewTiles(m)
	checkInclusion(t, tiles, m, 7, 1000, m.head.Root())
	m.append([]byte("one"), []byte("two"))
	m.read = 0
	checkInclusion(t, tiles, m, 7, 1002, m.head.Root())
	if m.read != 2 {
		t.Errorf("two new leaves cost %d reads", m.read)
	}
	// The tree of before is still there.
	old := plain(1000)
	checkInclusion(t, tiles, old, 999, 1000, old.head.Root())
}

func TestTilesRecoverFromFailure(t *testing.T) {
	m := plain(700)
	tiles := audit.NewTiles(m)
	m.failRead = errors.New("the database is away")
	if _, err := tiles.Inclusion(t.Context(), 3, 700); !errors.Is(err, m.failRead) {
		t.Fatalf("error %v, want that of the database", err)
	}
	m.failRead = nil
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := tiles.Inclusion(ctx, 3, 700); !errors.Is(err, context.Canceled) {
		t.Fatalf("error %v, want that the caller went away", err)
	}
	checkInclusion(t, tiles, m, 3, 700, m.head.Root())

	delete(m.leaves, 650)
	fresh := audit.NewTiles(m)
	if _, err := fresh.Inclusion(t.Context(), 699, 700); err == nil || !strings.Contains(err.Error(), "leaf 650 is missing") {
		t.Fatalf("error %v, want leaf 650 missing", err)
	}
	m.leaves[650] = []byte("leaf 650")
	checkInclusion(t, fresh, m, 699, 700, m.head.Root())
}

func TestTilesForManyAtOnce(t *testing.T) {
	m := plain(5000)
	root := m.head.Root()
	tiles := audit.NewTiles(m)
	var wg sync.WaitGroup
	for g := range int64(8) {
		wg.Go(func() {
			for i := g; i < 5000; i += 611 {
				p, err := tiles.Inclusion(context.Background(), i, 5000)
				if err == nil {
					err = tlog.CheckRecord(p, 5000, root, i, tlog.RecordHash(m.leaves[i]))
				}
				if err != nil {
					t.Errorf("leaf %d: %v", i, err)
				}
			}
		})
	}
	wg.Wait()
}

// issued is a log in which leaf 3 records the issuance of a certificate.
func issued(der []byte) *memory {
	m := factory(0)
	m.act("device.enrol", content(audit.KindDevice, 1, "device"),
		audit.Object{Kind: audit.KindCertificate, ID: 1, Digest: audit.CertificateDigest(der, audit.CertificateIssued)})
	for range 20 {
		m.act("order.change", content(audit.KindOrder, 1, "again"))
	}
	return m
}

func TestCertificateProof(t *testing.T) {
	der := []byte("the certificate's DER")
	m, s := issued(der), newSigner(t, 1)
	p, err := audit.NewTiles(m).Prove(t.Context(), 3, sign(t, s, m.head), s.Verifier())
	if err != nil {
		t.Fatal(err)
	}
	file, err := json.MarshalIndent(p, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	back, err := audit.ParseProof(append(file, '\n'))
	if err != nil {
		t.Fatal(err)
	}
	v, err := audit.ParseVerifier(s.VerifierKey())
	if err != nil {
		t.Fatal(err)
	}
	l, err := back.Verify(v, der)
	if err != nil {
		t.Fatal(err)
	}
	if l.Act != "device.enrol" {
		t.Errorf("the proof is of %q", l.Act)
	}
	if _, err := back.Verify(v, []byte("another certificate")); err == nil || !strings.Contains(err.Error(), "does not record the issuance") {
		t.Errorf("error %v for another certificate", err)
	}
	if _, err := back.Verify(newSigner(t, 2).Verifier(), der); err == nil {
		t.Error("another log's verifier accepts the proof")
	}
	for name, change := range map[string]func(*audit.Proof){
		"leaf":       func(p *audit.Proof) { p.Leaf = strings.Replace(p.Leaf, "enrol", "ENROL", 1) },
		"index":      func(p *audit.Proof) { p.Index++ },
		"negative":   func(p *audit.Proof) { p.Index = -1 },
		"beyond":     func(p *audit.Proof) { p.Index = 1 << 40 },
		"hash":       func(p *audit.Proof) { p.Hashes[1][0] ^= 1 },
		"short":      func(p *audit.Proof) { p.Hashes = p.Hashes[1:] },
		"long":       func(p *audit.Proof) { p.Hashes = append(p.Hashes, tlog.Hash{}) },
		"checkpoint": func(p *audit.Proof) { p.Checkpoint = strings.Replace(p.Checkpoint, "24", "25", 1) },
	} {
		forged := *back
		forged.Hashes = slices.Clone(back.Hashes)
		change(&forged)
		if _, err := forged.Verify(v, der); err == nil {
			t.Errorf("a proof with another %s was accepted", name)
		}
	}
}

func TestProveRefuses(t *testing.T) {
	der := []byte("der")
	m, s := issued(der), newSigner(t, 1)
	early := sign(t, s, factory(0).head)
	if _, err := audit.NewTiles(m).Prove(t.Context(), 3, early, s.Verifier()); !errors.Is(err, audit.ErrNotPublished) {
		t.Errorf("error %v, want ErrNotPublished", err)
	}
	now := sign(t, s, m.head)
	m.leaves[9] = []byte("changed")
	if _, err := audit.NewTiles(m).Prove(t.Context(), 3, now, s.Verifier()); err == nil || !strings.Contains(err.Error(), "the log was altered") {
		t.Errorf("error %v, want that the log was altered", err)
	}
}

func TestCertificateDigestForm(t *testing.T) {
	// printf '{"certificate":"%s","state":"valid"}' "$(printf x | openssl dgst -sha256 -binary | basenc --base64url | tr -d =)" | openssl dgst -sha256 -binary | basenc --base64url | tr -d =
	const want = "k_BxWbo7W7rw7shVEMK3f3bMvGtJaIP65rafLWizfCE"
	got, _ := audit.CertificateDigest([]byte("x"), audit.CertificateIssued).MarshalText()
	if string(got) != want {
		t.Errorf("digest is %s, but openssl computes %s", got, want)
	}
}

func FuzzParseProof(f *testing.F) {
	m, s := issued([]byte("der")), newSigner(f, 1)
	p, err := audit.NewTiles(m).Prove(f.Context(), 3, sign(f, s, m.head), s.Verifier())
	if err != nil {
		f.Fatal(err)
	}
	b, _ := json.Marshal(p)
	f.Add(b)
	f.Add([]byte(`{"index":0} {}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := audit.ParseProof(b)
		if err != nil {
			return
		}
		if l, _, err := got.Check(s.Verifier()); err == nil && (got.Index != 3 || got.Leaf != p.Leaf || l.Act != "device.enrol") {
			t.Fatalf("%q proves what never was: %+v", b, got)
		}
		if text, err := json.Marshal(got); err != nil {
			t.Fatal(err)
		} else if _, err := audit.ParseProof(text); err != nil && len(text) <= audit.MaxProof {
			t.Fatalf("%q was read, but not its own encoding %q: %v", b, text, err)
		}
	})
}
