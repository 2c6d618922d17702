package store_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"slices"
	"testing"

	"github.com/touchmark/touchmark/internal/store"
	"github.com/touchmark/touchmark/internal/store/storetest"
	"github.com/touchmark/touchmark/ocsp/crl"
)

// A revocation list whose writing fails at any place leaves the one before as
// it was, or is there as a whole; and it can be made again.
func TestKeepingARevocationListFails(t *testing.T) {
	ctx := context.Background()
	partition := crl.Scope{Partitions: 1}
	scopes := []crl.Scope{crl.Full, partition}
	sizes := map[crl.Scope]int{crl.Full: 2*crl.ChunkSize + 1, partition: 100} // in chunks, and in one
	eachFaultAfter(t, func(t *testing.T, w *storetest.World) {
		for _, s := range scopes {
			if _, err := w.Store.KeepCRLs(ctx, "server", "", []*crl.Made{storetest.CRL(0, s, 1, 0, sizes[s])}); err != nil {
				t.Fatal(err)
			}
		}
	}, func(t *testing.T, w *storetest.World, fault string) {
		for _, s := range scopes {
			if kept, err := w.Store.KeepCRLs(ctx, "server", "", []*crl.Made{storetest.CRL(0, s, 2, 1, sizes[s])}); err == nil || kept != nil {
				t.Errorf("list %s: no error although the write failed", s)
			}
		}
	}, func(t *testing.T, w *storetest.World, fault string) {
		for _, s := range scopes {
			number := int64(1)
			if s == partition && fault == "persisted anyway" {
				number = 2
			}
			holds(t, w, storetest.CRL(0, s, number, 0, sizes[s]))
			again := storetest.CRL(0, s, 3, number, sizes[s]+5)
			if _, err := w.Store.KeepCRLs(ctx, "server", "", []*crl.Made{again}); err != nil {
				t.Errorf("made again: %v", err)
			}
			holds(t, w, again)
		}
	})
}

func holds(t *testing.T, w *storetest.World, made *crl.Made) {
	t.Helper()
	list, err := w.Store.CRLs(t.Context(), 0)
	at := slices.IndexFunc(list, func(k *crl.Kept) bool { return k.Scope == made.Scope })
	if err != nil || len(list) != 2 || at < 0 || list[at].Number != made.Number || list[at].Digest != made.Digest {
		t.Fatalf("kept are %+v (%v), want number %d", list, err, made.Number)
	}
	b, err := storetest.CRLBytes(t.Context(), w.Store, list[at])
	if err != nil || sha256.Sum256(b) != made.Digest {
		t.Errorf("the bytes of number %d are others: %v", made.Number, err)
	}
}

// endedLists is so many that they end in two transactions.
const endedLists = 130

// makeAndEndLists makes the lists of all partitions, and ends them.
func makeAndEndLists(ctx context.Context, s *store.Store, _ string, _ int) error {
	if err := makePartitions(ctx, s); err != nil {
		return err
	}
	_, err := s.EndCRLs(ctx, "server", "", 0, endedLists)
	return err
}

func makePartitions(ctx context.Context, s *store.Store) error {
	list, err := s.CRLs(ctx, 0)
	if err != nil {
		return err
	}
	former := map[crl.Scope]int64{}
	for _, k := range list {
		former[k.Scope] = k.Number
	}
	var made []*crl.Made
	for n := range endedLists {
		scope := crl.Scope{Partitions: endedLists, Partition: n}
		made = append(made, storetest.CRL(0, scope, former[scope]+1, former[scope], 3))
	}
	kept, err := s.KeepCRLs(ctx, "server", "", made)
	if err == nil && len(kept) != endedLists {
		err = fmt.Errorf("%d lists were kept", len(kept))
	}
	return err
}

// lasting counts the lists that did not end.
func lasting(t *testing.T, s *store.Store) (n int) {
	t.Helper()
	list, err := s.CRLs(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range list {
		if k.Size == 0 {
			continue
		}
		n++
		if b, err := storetest.CRLBytes(t.Context(), s, k); err != nil || sha256.Sum256(b) != k.Digest {
			t.Errorf("the bytes of list %s are others: %v", k.Scope, err)
		}
	}
	return n
}

// Lists end or stay as they were, and can be ended and made again.
func TestEndingRevocationListsFails(t *testing.T) {
	ctx := context.Background()
	eachFaultAfter(t, func(t *testing.T, w *storetest.World) {
		if err := makePartitions(ctx, w.Store); err != nil {
			t.Fatal(err)
		}
	}, func(t *testing.T, w *storetest.World, fault string) {
		if n, err := w.Store.EndCRLs(ctx, "server", "", 0, endedLists); err == nil || n != 0 {
			t.Errorf("%d ended, %v", n, err)
		}
	}, func(t *testing.T, w *storetest.World, fault string) {
		left := endedLists
		if fault == "persisted anyway" {
			left = endedLists - store.EndedAtOnce
		}
		if n := lasting(t, w.Store); n != left {
			t.Errorf("%d lists last, want %d", n, left)
		}
		if n, err := w.Store.EndCRLs(ctx, "server", "", 0, endedLists); err != nil || n != left {
			t.Errorf("afterwards %d ended, want %d: %v", n, left, err)
		}
		if err := makePartitions(ctx, w.Store); err != nil || lasting(t, w.Store) != endedLists {
			t.Errorf("made again: %v", err)
		}
	})
}

// TestKillWhileListsEnd: what has not ended is served as before.
func TestKillWhileListsEnd(t *testing.T) {
	for db, dsn := range storetest.Databases(t) {
		t.Run(db, func(t *testing.T) {
			n := killed(t, "ending lists", dsn, "", func(s *store.Store, round int, done bool) {
				want := []int{0, 0, endedLists, endedLists, endedLists - store.EndedAtOnce, endedLists - store.EndedAtOnce, 0}[min(round, 6)]
				if done {
					want = 0
				}
				if n := lasting(t, s); n != want {
					t.Errorf("round %d: %d lists last, want %d", round, n, want)
				}
			})
			if n < 6 {
				t.Errorf("%d processes were killed, want two at each of three commits or more", n)
			}
		})
	}
}
