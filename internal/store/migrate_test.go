package store_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/internal/approval"
	"github.com/touchmark/touchmark/internal/store"
	"github.com/touchmark/touchmark/internal/store/storetest"
	"github.com/touchmark/touchmark/ocsp"
	"github.com/touchmark/touchmark/vetting"
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

// TestMigrateStatuses: what schema 21 knew of certificates is told to status
// responders as if they had been told all along.
func TestMigrateStatuses(t *testing.T) {
	for name, dsn := range storetest.Databases(t) {
		t.Run(name, func(t *testing.T) {
			for _, sql := range []string{
				`UPDATE log_head SET next_id = 100`,
				`INSERT INTO products (id, name, revision, body) VALUES (1, 'thermo', 1, '{"life":{"holdUntilActive":true}}'), (2, 'lamp', 1, '{"description":"\"holdUntilActive\":true"}')`,
				`INSERT INTO records (id, manifest_id, row_no, order_id, product_id, site_id, serial, made, contested)
					VALUES (10, 1, 1, 1, 1, 1, 'a', '{}', 0), (11, 1, 2, 1, 2, 1, 'b', '{}', 0), (12, 1, 3, 1, 2, 1, 'c', '{}', 0)`,
				`INSERT INTO certificates (id, device_id, serial, key, der, state, not_after, issued, revoked, reason, leaf) VALUES
					(20, 10, '10000000000000020', 'k', 'd', 'superseded', 9000000000000000, 1000000, 0, 0, 0),
					(21, 10, '10000000000000021', 'k', 'd', 'superseded', 9000000000000000, 2000000, 0, 0, 0),
					(22, 10, '10000000000000022', 'k', 'd', 'valid', 9000000000000000, 3000000, 0, 0, 0),
					(23, 11, '10000000000000023', 'k', 'd', 'revoked', 9000000000000000, 1000000, 4000000, 1, 0),
					(24, 11, '10000000000000024', 'k', 'd', 'valid', 9000000000000000, 1000000, 0, 0, 0),
					(25, 12, '10000000000000025', 'k', 'd', 'on-hold', 9000000000000000, 1000000, 5000000, 6, 0)`,
				`INSERT INTO first_uses (certificate_id, at) VALUES (20, 1500000), (21, 2500000)`,
			} {
				if err := store.Exec(t.Context(), dsn, 21, sql); err != nil {
					t.Fatal(err)
				}
			}
			s := storetest.Open(t, dsn)
			var got []string
			last, err := s.Changes(t.Context(), 0, func(list []ocsp.Change) error {
				for _, c := range list {
					got = append(got, fmt.Sprintf("%s %d %d", c.Serial[:], c.Reason, c.Revoked.Unix()))
				}
				return nil
			})
			want := []string{"10000000000000020 4 2", "10000000000000022 6 3", "10000000000000023 1 4", "10000000000000025 6 5"}
			if err != nil || last != 103 || !slices.Equal(got, want) {
				t.Errorf("%q, the last is %d, %v; want %q", got, last, err, want)
			}
			if _, err := s.CreateSite(t.Context(), storetest.By, &vetting.Site{Name: "hsinchu"}); err != nil {
				t.Fatal(err)
			}
			if site, err := s.Site(t.Context(), "hsinchu"); err != nil || site.ID <= last {
				t.Errorf("the next ID is %+v, %v", site, err)
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

// TestMigrateRaises: a raise that waited when raises had a table of their own
// is a proposal with its number afterwards, and wants its approvals signed;
// one that was overtaken or over is as it was.
func TestMigrateRaises(t *testing.T) {
	for name, dsn := range storetest.Databases(t) {
		t.Run(name, func(t *testing.T) {
			ctx := t.Context()
			s := storetest.Open(t, dsn)
			w, two := storetest.NewWorld(t, s, 10), 2
			order, err := s.ChangeOrder(ctx, storetest.By, "po-1", vetting.OrderChange{RaiseApprovals: &two})
			if err != nil {
				t.Fatal(err)
			}
			body := func(to, revision int64, expires time.Duration) string {
				at := time.Now().UTC()
				return fmt.Sprintf(`{"id":0,"order":"po-1","state":"","from":10,"to":%d,"revision":%d,"by":"anna","note":"more","at":%q,"expires":%q,"wanted":2,"approvals":[{"by":"berta","at":%q}]}`,
					to, revision, at.Format(time.RFC3339), at.Add(expires).Format(time.RFC3339), at.Format(time.RFC3339))
			}
			// Rows that the log does not account for, as it did when they were made.
			for id, row := range map[int64][2]string{1000001: {"pending", body(11, 1, time.Hour)}, 1000002: {"pending", body(12, order.Revision, -time.Hour)},
				1000003: {"applied", body(13, 1, time.Hour)}, 1000004: {"pending", body(15, order.Revision, time.Hour)}} {
				if err := s.Tamper(ctx, fmt.Sprintf(`INSERT INTO raises (id, order_id, state, body) VALUES (%d, %d, '%s', '%s')`, id, w.Order.ID, row[0], row[1])); err != nil {
					t.Fatal(err)
				}
			}
			for range 2 { // the second start finds nothing more to move
				list, err := storetest.Open(t, dsn).Raises(ctx, "po-1", vetting.Page{})
				var got []string
				for _, r := range list {
					got = append(got, fmt.Sprintf("%d %s %d %d", r.ID, r.State, r.To, len(r.Approvals)))
				}
				want := []string{"1000004 pending 15 0", "1000003 applied 13 1", "1000002 expired 12 1", "1000001 void 11 1"}
				if err != nil || !slices.Equal(got, want) {
					t.Errorf("%q, %v; want %q", got, err, want)
				}
			}
			p, err := s.Proposal(ctx, 1000004)
			if err != nil {
				t.Fatal(err)
			}
			for _, name := range []string{"berta", "carla"} {
				yes := storetest.NewPerson(t, name).Employ(t, s, access.RolePlanner).Yes(t, p.Payload)
				if p, err = s.ApproveProposal(ctx, access.Act{Operator: name}, p.ID, yes); err != nil {
					t.Fatal(err)
				}
			}
			if o, err := s.Order(ctx, "po-1"); err != nil || o.Quantity != 15 || p.State != approval.CarriedOut {
				t.Errorf("%+v, %+v, %v", o, p, err)
			}
		})
	}
}
