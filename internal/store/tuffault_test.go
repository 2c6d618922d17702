package store_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/touchmark/touchmark/firmware-sign/tuf/repository"
	"github.com/touchmark/touchmark/internal/store"
	"github.com/touchmark/touchmark/internal/store/storetest"
)

// A write that fails leaves the repository as it was or whole as it became,
// and what is made again then follows on that.
func TestOtherWritesOfTUFFail(t *testing.T) {
	ctx := context.Background()
	eachFaultAfter(t, func(t *testing.T, w *storetest.World) {
		if kept, err := storetest.KeepTUF(ctx, w.Store, 1); !kept || err != nil {
			t.Fatalf("the first: %v, %v", kept, err)
		}
	}, func(t *testing.T, w *storetest.World, fault string) {
		if kept, err := storetest.KeepTUF(ctx, w.Store, 2); kept || err == nil {
			t.Errorf("kept %v, %v, although the write failed", kept, err)
		}
	}, func(t *testing.T, w *storetest.World, fault string) {
		want := 1
		if fault == "persisted anyway" {
			want = 2
		}
		storetest.WholeTUF(t, w.Store, want)
		if kept, err := storetest.KeepTUF(ctx, w.Store, want+1); !kept || err != nil {
			t.Errorf("made again: kept %v, %v", kept, err)
		}
		storetest.WholeTUF(t, w.Store, want+1)
	})
}

// makeTUF is what a server does that takes in the first root, and then makes
// metadata anew.
func makeTUF(ctx context.Context, s *store.Store, _ string, _ int) error {
	for range 2 {
		st, err := s.TUFState(ctx)
		if err != nil {
			return err
		}
		if kept, err := storetest.KeepTUF(ctx, s, len(st.Roots)+1); err != nil || !kept {
			return fmt.Errorf("kept %v, %w", kept, err)
		}
	}
	return nil
}

// TestKillWhileTUFIsMade: what is there is whole, and no version goes back.
func TestKillWhileTUFIsMade(t *testing.T) {
	for db, dsn := range storetest.Databases(t) {
		t.Run(db, func(t *testing.T) {
			newest := repository.Mark{}
			n := killed(t, "TUF", dsn, "", func(s *store.Store, _ int, _ bool) {
				st, err := s.TUFState(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				storetest.WholeTUF(t, s, len(st.Roots))
				if mark := st.Mark(); mark.Root < newest.Root || mark.Timestamp < newest.Timestamp {
					t.Errorf("%+v after %+v", mark, newest)
				} else {
					newest = mark
				}
			})
			if want := 4; n != want {
				t.Errorf("%d processes were killed, want %d: two at each of two commits", n, want)
			}
		})
	}
}
