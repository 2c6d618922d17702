package store_test

import (
	"testing"
	"time"

	"github.com/touchmark/touchmark/internal/store/storetest"
)

func TestRenewalHint(t *testing.T) {
	for db, dsn := range storetest.Databases(t) {
		t.Run(db, func(t *testing.T) {
			s := storetest.Open(t, dsn)
			if _, _, ok, err := s.RenewalHint(t.Context(), 7); ok || err != nil {
				t.Errorf("a hint that nobody gave: %v, %v", ok, err)
			}
			if err := s.Tamper(t.Context(), `INSERT INTO renewal_hints (certificate_id, starts, ends) VALUES (7, 1000000, 2000000)`); err != nil {
				t.Fatal(err)
			}
			start, end, ok, err := s.RenewalHint(t.Context(), 7)
			if !ok || err != nil || !start.Equal(time.Unix(1, 0)) || !end.Equal(time.Unix(2, 0)) {
				t.Errorf("from %s to %s, %v, %v", start, end, ok, err)
			}
		})
	}
}
