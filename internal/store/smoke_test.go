package store_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/touchmark/touchmark/internal/audit"
	"github.com/touchmark/touchmark/internal/store/storetest"
	"github.com/touchmark/touchmark/vetting"
)

func TestQuotaExactUnderConcurrency(t *testing.T) {
	for name, dsn := range storetest.Databases(t) {
		t.Run(name, func(t *testing.T) {
			ctx := context.Background()
			// two stores on one database stand for two servers
			a, b := storetest.Open(t, dsn), storetest.Open(t, dsn)
			w := storetest.NewWorld(t, a, 100)
			var records []vetting.Record
			for i := range 150 {
				records = append(records, storetest.Unit(i))
			}
			w.Load(t, records...)
			var admitted atomic.Int64
			var wg sync.WaitGroup
			for i, r := range records {
				wg.Go(func() {
					s := a
					if i%2 == 1 {
						s = b
					}
					v, _, err := storetest.Enrol(ctx, s, storetest.Claim(r.BootstrapKey, storetest.Key("official", i)))
					if err != nil {
						t.Error(err)
					}
					if v.Outcome == vetting.Admitted {
						admitted.Add(1)
					}
				})
			}
			wg.Wait()
			o, err := a.Order(ctx, "po-1")
			if err != nil || admitted.Load() != 100 || o.Issued != 100 {
				t.Fatalf("admitted %d, order %+v, %v", admitted.Load(), o, err)
			}
			err = a.Snapshot(ctx, func(src audit.Source) error {
				report, err := audit.Verify(ctx, src, audit.Options{})
				if err == nil && !report.OK() {
					t.Errorf("%+v", report.Findings)
				}
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
		})
	}
}
