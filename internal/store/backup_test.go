package store_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/touchmark/touchmark/internal/store"
	"github.com/touchmark/touchmark/internal/store/storetest"
	"github.com/touchmark/touchmark/vetting"
)

// copied is everything in a database.
func copied(t *testing.T, dsn string) (head store.CopyHead, parcels []store.Parcel) {
	t.Helper()
	r, err := store.OpenReader(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	rows, err := r.Copy(t.Context(), func(h store.CopyHead) error { head = h; return nil },
		func(p store.Parcel) error { parcels = append(parcels, p); return nil })
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range parcels {
		rows[p.Table] -= int64(len(p.Rows))
	}
	for table, n := range rows {
		if n != 0 {
			t.Errorf("table %s: %d rows more were told than given", table, n)
		}
	}
	return head, parcels
}

func from(parcels []store.Parcel, end error) func() (*store.Parcel, error) {
	return func() (*store.Parcel, error) {
		if len(parcels) == 0 {
			return nil, end
		}
		p := parcels[0]
		parcels = parcels[1:]
		return &p, nil
	}
}

// A database restored on either kind is the same, and a restore that fails
// at any parcel leaves nothing that a server would open.
func TestCopyAndRestore(t *testing.T) {
	ctx := context.Background()
	kinds := storetest.Kinds(t)
	for i, kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			dsn := storetest.Database(t, kind)
			w := storetest.NewWorld(t, storetest.Open(t, dsn), 100)
			var records []vetting.Record
			for n := range 1200 { // more than a parcel
				records = append(records, storetest.Unit(n))
			}
			w.Load(t, records...)
			if _, _, err := storetest.Enrol(ctx, w.Store, storetest.Claim(records[0].BootstrapKey, storetest.Key("official", 0))); err != nil {
				t.Fatal(err)
			}
			code := withCode(t, w, 1)
			if v, _, err := storetest.Enrol(ctx, w.Store, storetest.ByCode(2, 1)); err != nil || v.Outcome != vetting.Admitted {
				t.Fatalf("%s, %v", v.Text(), err)
			}
			head, parcels := copied(t, dsn)
			to := storetest.Database(t, kinds[(i+1)%len(kinds)])
			broken := errors.New("the medium is broken")
			for n := range parcels {
				if err := store.Restore(ctx, to, head, from(parcels[:n], broken)); !errors.Is(err, broken) {
					t.Fatalf("a restore that fails at parcel %d: %v", n, err)
				}
			}
			if s, err := store.Open(ctx, store.Options{DSN: to}); err != nil {
				t.Errorf("after restores that failed: %v", err)
			} else if h, err := s.Head(ctx); err != nil || h.Size() != 0 {
				t.Errorf("a restore that failed left %d leaves, %v", h.Size(), err)
			} else {
				s.Close()
			}
			for range 2 { // the first was not verified
				if err := store.Restore(ctx, to, head, from(parcels, nil)); err != nil {
					t.Fatal(err)
				}
				if _, err := store.Open(ctx, store.Options{DSN: to}); err == nil || !strings.Contains(err.Error(), "not finished") {
					t.Errorf("a database that was not verified was opened: %v", err)
				}
			}
			if err := store.Restored(ctx, to); err != nil {
				t.Fatal(err)
			}
			if err := store.Restore(ctx, to, head, from(parcels, nil)); vetting.ProblemOf(err) != vetting.Exists {
				t.Errorf("a restored database was restored over: %v", err)
			}
			s := storetest.Open(t, to)
			verify(t, s)
			again, same := copied(t, to)
			if again != head || total(same) != total(parcels) {
				t.Errorf("%d values became %d, %+v became %+v", total(parcels), total(same), head, again)
			}
			if v, _, err := storetest.Enrol(ctx, s, storetest.Claim(records[1].BootstrapKey, storetest.Key("official", 1))); err != nil || v.Outcome != vetting.Admitted {
				t.Errorf("the next enrolment: %s, %v", v.Text(), err)
			}
			if c, err := s.Code(ctx, code.ID); err != nil || c.State != vetting.CodeUsed {
				t.Errorf("the used code is %+v, %v", c, err)
			}
			if v, _, err := storetest.Enrol(ctx, s, storetest.ByCode(3, 1)); err != nil || v.Reasons[0].Code != vetting.ReasonCodeSpent {
				t.Errorf("the used code again: %s, %v", v.Text(), err)
			}
		})
	}
}

func total(parcels []store.Parcel) (n int) {
	for _, p := range parcels {
		n += len(p.Rows) * len(p.Columns)
	}
	return n
}

// What an older Touchmark backed up gets today's schema; what a newer one
// did is refused.
func TestRestoreOfOtherSchemas(t *testing.T) {
	ctx := context.Background()
	for kind, dsn := range storetest.Databases(t) {
		t.Run(kind, func(t *testing.T) {
			var newer *store.NewerSchemaError
			if err := store.Restore(ctx, dsn, store.CopyHead{Schema: 9999}, from(nil, nil)); !errors.As(err, &newer) {
				t.Errorf("schema 9999: %v", err)
			}
			head := store.Parcel{Table: "log_head", Columns: []string{"id", "size", "frontier", "time", "next_id"}, Rows: [][]any{{int64(1), int64(0), []byte{}, int64(0), int64(1)}}}
			if err := store.Restore(ctx, dsn, store.CopyHead{Schema: 1}, from([]store.Parcel{head}, nil)); err != nil {
				t.Fatal(err)
			}
			if err := store.Restored(ctx, dsn); err != nil {
				t.Fatal(err)
			}
			r, err := store.OpenReader(ctx, dsn)
			if err != nil {
				t.Fatal(err)
			}
			r.Close()
			w := storetest.NewWorld(t, storetest.Open(t, dsn), 1)
			w.Load(t, storetest.Unit(0))
			verify(t, w.Store)
		})
	}
}

// What is written while a copy is read is not in it.
func TestCopyIsOfOneMoment(t *testing.T) {
	ctx := context.Background()
	for kind, dsn := range storetest.Databases(t) {
		t.Run(kind, func(t *testing.T) {
			w := storetest.NewWorld(t, storetest.Open(t, dsn), 10)
			w.Load(t, storetest.Unit(0), storetest.Unit(1))
			r, err := store.OpenReader(ctx, dsn)
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			n := 0
			write := func() error {
				if n++; n > 2 {
					return nil
				}
				_, _, err := storetest.Enrol(ctx, w.Store, storetest.Claim(storetest.Unit(n-1).BootstrapKey, storetest.Key("official", n)))
				return err
			}
			var head store.CopyHead
			var parcels []store.Parcel
			if _, err := r.Copy(ctx, func(h store.CopyHead) error { head = h; return write() },
				func(p store.Parcel) error { parcels = append(parcels, p); return write() }); err != nil {
				t.Fatal(err)
			}
			to := storetest.Database(t, kind)
			if err := errors.Join(store.Restore(ctx, to, head, from(parcels, nil)), store.Restored(ctx, to)); err != nil {
				t.Fatal(err)
			}
			s := storetest.Open(t, to)
			verify(t, s)
			if h, err := s.Head(ctx); err != nil || h.Size() != head.Leaves || h.Root().String() != head.Root {
				t.Errorf("the copy is of %d leaves, its head says %d, %v", h.Size(), head.Leaves, err)
			}
			if o, err := s.Order(ctx, "po-1"); err != nil || o.Issued != 0 {
				t.Errorf("%d units were issued before the copy, %v", o.Issued, err)
			}
		})
	}
}
