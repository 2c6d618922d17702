package soak_test

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/touchmark/touchmark/bench/soak"
	"github.com/touchmark/touchmark/internal/store/storetest"
)

// TestShortSoak is a soak of some seconds, with an orderly stop and a kill,
// so that the long one keeps working. Memory is not judged in it.
func TestShortSoak(t *testing.T) {
	program, err := soak.Build(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for name, dsn := range storetest.Databases(t) {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			err := soak.Run(t.Context(), soak.Plan{Program: program, Dir: t.TempDir(), Database: dsn, Lives: 2, Life: time.Second,
				Least: 150, Share: 0.9, Measure: time.Second, Batch: 25, PerOrder: 60, Out: &out})
			if err != nil {
				t.Errorf("%v\n%s", err, &out)
			}
			for _, happened := range []string{"killed", "ended in order", "before its record, held", "in no manifest, refused",
				"wrong key, refused", "clone, refused", "honest, refused", "honest, admitted", "nothing is wrong"} {
				if !strings.Contains(out.String(), happened) {
					t.Errorf("it did not happen: %s\n%s", happened, &out)
				}
			}
		})
	}
}
