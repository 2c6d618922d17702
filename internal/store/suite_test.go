package store_test

import (
	"testing"

	"github.com/touchmark/touchmark/internal/store/storetest"
)

func TestSuite(t *testing.T) {
	for _, kind := range storetest.Kinds(t) {
		t.Run(kind, func(t *testing.T) {
			storetest.Run(t, func(t testing.TB) string { return storetest.Database(t, kind) })
		})
	}
}
