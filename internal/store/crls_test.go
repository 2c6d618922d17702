package store_test

import (
	"context"
	"crypto/sha256"
	"slices"
	"testing"

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
