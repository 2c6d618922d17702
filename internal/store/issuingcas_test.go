package store_test

import (
	"context"
	"testing"

	"github.com/touchmark/touchmark/internal/store/storetest"
	"github.com/touchmark/touchmark/vetting"
)

// An issuing CA whose creation failed is there with its leaf, or not at all;
// asking again makes it one.
func TestCreateIssuingCAFails(t *testing.T) {
	ctx := context.Background()
	create := func(w *storetest.World) error {
		_, err := w.Store.CreateIssuingCA(ctx, storetest.By, storetest.IssuingCA("acme"))
		return err
	}
	eachFault(t, func(t *testing.T, w *storetest.World, _ string) {
		if create(w) == nil {
			t.Error("no error although the write failed")
		}
	}, func(t *testing.T, w *storetest.World, fault string) {
		if kept := fault == "persisted anyway"; kept != (vetting.ProblemOf(create(w)) == vetting.Exists) {
			t.Errorf("that it exists should be %v", kept)
		}
		list, err := w.Store.IssuingCAs(ctx)
		if err != nil || len(list) != 1 || list[0].Name != "acme" {
			t.Errorf("%v, %v", list, err)
		}
	})
}

// A default whose choice failed is chosen with its leaf, or not at all.
func TestSetDefaultIssuingCAFails(t *testing.T) {
	ctx := context.Background()
	eachFaultAfter(t, func(t *testing.T, w *storetest.World) {
		for _, name := range []string{"one", "two"} {
			if _, err := w.Store.CreateIssuingCA(ctx, storetest.By, storetest.IssuingCA(name)); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Store.SetDefaultIssuingCA(ctx, storetest.By, "one"); err != nil {
			t.Fatal(err)
		}
	}, func(t *testing.T, w *storetest.World, _ string) {
		if w.Store.SetDefaultIssuingCA(ctx, storetest.By, "two") == nil {
			t.Error("no error although the write failed")
		}
	}, func(t *testing.T, w *storetest.World, fault string) {
		list, err := w.Store.IssuingCAs(ctx)
		if err != nil || len(list) != 2 {
			t.Fatalf("%v, %v", list, err)
		}
		had, next := list[0].State == vetting.IssuingDefault, list[1].State == vetting.IssuingDefault
		if kept := fault == "persisted anyway"; next != kept || had == kept {
			t.Errorf("the first is the default: %v, the second: %v", had, next)
		}
		if err := w.Store.SetDefaultIssuingCA(ctx, storetest.By, "two"); err != nil {
			t.Error(err)
		}
	})
}
