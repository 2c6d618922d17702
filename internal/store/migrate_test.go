package store_test

import (
	"strings"
	"testing"
	"time"

	"github.com/touchmark/touchmark/internal/store"
	"github.com/touchmark/touchmark/internal/store/storetest"
)

// TestMigrateFirstUses: what schema 12 knew of a certificate's use is known
// after it.
func TestMigrateFirstUses(t *testing.T) {
	used := time.Date(2026, 11, 3, 4, 5, 6, 789000, time.UTC)
	for name, dsn := range storetest.Databases(t) {
		t.Run(name, func(t *testing.T) {
			err := store.Exec(t.Context(), dsn, 12, `INSERT INTO certificates (id, device_id, serial, key, der, state, not_after, issued, used, revoked, reason, leaf)
				VALUES (8, 1, $1, $2, $2, 'superseded', 0, 0, $3, 0, 0, 0), (9, 1, $4, $2, $2, 'valid', 0, 0, 0, 0, 0, 0)`,
				[]byte{0xa1}, []byte{1}, used.UnixMicro(), []byte{0xa2})
			if err != nil {
				t.Fatal(err)
			}
			s := storetest.Open(t, dsn)
			for serial, want := range map[string]time.Time{"a1": used, "a2": {}} {
				c, err := s.Certificate(t.Context(), serial)
				if err != nil || !c.Used.Equal(want) {
					t.Errorf("certificate %s: %+v, %v; want it used %s", serial, c, err, want)
				}
			}
		})
	}
}

// TestPlansOfEmptyTables: a plan that PostgreSQL makes while a table is empty
// uses the index, for it is used for long after.
func TestPlansOfEmptyTables(t *testing.T) {
	for name, dsn := range storetest.Databases(t) {
		if name != "postgres" {
			continue
		}
		s := storetest.Open(t, dsn)
		if err := s.Tamper(t.Context(), "ANALYZE"); err != nil {
			t.Fatal(err)
		}
		plan, err := store.Explain(t.Context(), s, `SELECT id FROM records WHERE key = '' OR serial = 'x' AND product_id = 1`)
		if err != nil || strings.Contains(plan, "Seq Scan") {
			t.Errorf("%v\n%s", err, plan)
		}
	}
}
