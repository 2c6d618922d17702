package store_test

import (
	"context"
	"testing"

	"github.com/touchmark/touchmark/internal/store/storetest"
	"github.com/touchmark/touchmark/ocsp/offline"
)

// An offline file whose writing fails leaves the one before as it was, or is
// there as a whole; and it can be made again.
func TestKeepingAnOfflineFileFails(t *testing.T) {
	ctx := context.Background()
	eachFaultAfter(t, func(t *testing.T, w *storetest.World) {
		if kept, err := storetest.KeepOffline(ctx, w.Store, 0, offline.Base, 0, 1); err != nil || !kept {
			t.Fatal(kept, err)
		}
	}, func(t *testing.T, w *storetest.World, fault string) {
		if kept, err := storetest.KeepOffline(ctx, w.Store, 0, offline.Base, 1, 2); err == nil || kept {
			t.Errorf("kept %v although the write failed", kept)
		}
	}, func(t *testing.T, w *storetest.World, fault string) {
		want := int64(1)
		if fault == "persisted anyway" {
			want = 2
		}
		list, err := w.Store.OfflineFiles(ctx)
		if have, _ := storetest.OfflineFile(0, offline.Base, want); err != nil || len(list) != 1 || list[0] != have {
			t.Fatalf("kept are %+v (%v), want number %d", list, err, want)
		}
		if kept, err := storetest.KeepOffline(ctx, w.Store, 0, offline.Base, want, want+1); err != nil || !kept {
			t.Errorf("made again: %v %v", kept, err)
		}
	})
}
