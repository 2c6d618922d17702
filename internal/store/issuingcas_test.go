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
