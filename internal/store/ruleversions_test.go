package store_test

import (
	"context"
	"testing"

	"github.com/touchmark/touchmark/internal/store/storetest"
	"github.com/touchmark/touchmark/vetting"
)

// Rules that an earlier program left, of which there is no version, are kept
// as version 0 when they change.
func TestRulesFromBefore(t *testing.T) {
	for db, dsn := range storetest.Databases(t) {
		t.Run(db, func(t *testing.T) {
			ctx := context.Background()
			w := storetest.NewWorld(t, storetest.Open(t, dsn), 1)
			set := func(expression string) {
				t.Helper()
				p, err := w.Store.Product(ctx, "thermo")
				if err != nil {
					t.Fatal(err)
				}
				p.Rules = []vetting.Rule{{Name: "a", Expression: expression, Otherwise: vetting.Held}}
				if _, err := w.Store.UpdateProduct(ctx, storetest.By, p); err != nil {
					t.Fatal(err)
				}
			}
			set("1 < 2")
			for _, sql := range []string{`DELETE FROM rule_versions`, `UPDATE products SET body = REPLACE(body, '"rulesVersion":1,', '')`} {
				if err := w.Store.Tamper(ctx, sql); err != nil {
					t.Fatal(err)
				}
			}
			w.Store = storetest.Open(t, dsn)
			set("1 < 3")
			list, err := w.Store.RuleVersions(ctx, "thermo", vetting.Page{})
			if err != nil || len(list) != 2 {
				t.Fatalf("%d versions, %v", len(list), err)
			}
			now, before := list[0], list[1]
			if now.Version != 1 || now.By == "" || now.Rules[0].Expression != "1 < 3" {
				t.Errorf("the rules now: %+v", now)
			}
			if before.Version != 0 || before.By != "" || !before.At.IsZero() || before.Leaf != -1 || before.Rules[0].Expression != "1 < 2" {
				t.Errorf("the rules before: %+v", before)
			}
		})
	}
}
