package store_test

import (
	"context"
	"slices"
	"testing"

	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/internal/audit"
	"github.com/touchmark/touchmark/internal/store"
	"github.com/touchmark/touchmark/internal/store/storetest"
	"github.com/touchmark/touchmark/ocsp/crl"
	"github.com/touchmark/touchmark/ocsp/offline"
	"github.com/touchmark/touchmark/vetting"
)

// Tampering with each table is found.
func TestTamperingIsFound(t *testing.T) {
	for db := range storetest.Databases(t) {
		for name, sql := range map[string]string{
			"a certificate changes":   `UPDATE certificates SET state = 'revoked'`,
			"a certificate goes":      `DELETE FROM certificates`,
			"a device changes":        `UPDATE devices SET state = 'active'`,
			"the quota changes":       `UPDATE orders SET issued = issued - 1`,
			"a registration goes":     `DELETE FROM registrations`,
			"evidence goes":           `DELETE FROM evidence`,
			"a record changes":        `UPDATE records SET serial = 'SN-X' WHERE row_no = 2`,
			"a leaf goes":             `DELETE FROM leaves WHERE idx = 3`,
			"a leaf changes":          `UPDATE leaves SET body = (SELECT body FROM leaves WHERE idx = 2) WHERE idx = 3`,
			"the last leaf goes":      `DELETE FROM leaves WHERE idx = (SELECT MAX(idx) FROM leaves)`,
			"a site gets renamed":     `UPDATE sites SET name = 'elsewhere'`,
			"an approval is made up":  `UPDATE proposals SET body = REPLACE(body, '"Approvals":[]', '"Approvals":[{"by":"anna"}]')`,
			"a proposal goes":         `DELETE FROM proposals`,
			"rules of once change":    `UPDATE rule_versions SET body = '[]' WHERE version = 1`,
			"rules of once go":        `DELETE FROM rule_versions WHERE version = 1`,
			"a test gets worse":       `UPDATE test_results SET body = '{"passed":false}'`,
			"a test goes":             `DELETE FROM test_results`,
			"an operator gets rights": `UPDATE operators SET role = 'admin'`,
			"a code is unused again":  `UPDATE codes SET used = 0, used_by = 0`,
			"a code gets another":     `UPDATE codes SET hash = 'x'`,
			"a code goes":             `DELETE FROM codes`,
			"a revocation is untold":  `DELETE FROM statuses WHERE seq = (SELECT MAX(seq) FROM statuses)`,
			"a revocation gets older": `UPDATE statuses SET revoked = revoked - 1`,
			"it gets another reason":  `UPDATE statuses SET reason = 8`,
			"it is another CA's":      `UPDATE statuses SET issuer = 1`,
			"a certificate is said to be revoked": `INSERT INTO statuses (seq, serial, issuer, reason, revoked, not_after)
				SELECT 1000000, serial, 0, 1, 1, not_after FROM certificates WHERE state = 'valid'`,
			"a revocation list gets other bytes":    `UPDATE crl_chunks SET bytes = (SELECT bytes FROM offline_files) WHERE chunk = 1`,
			"a revocation list loses its end":       `DELETE FROM crl_chunks WHERE chunk = 1`,
			"a revocation list is said to be other": `UPDATE crls SET digest = (SELECT digest FROM offline_files)`,
			"a revocation list gets a number":       `UPDATE crls SET number = 9`,
			"a revocation list goes":                `DELETE FROM crls`,
			"an offline file gets other bytes":      `UPDATE offline_files SET bytes = (SELECT bytes FROM crl_chunks WHERE chunk = 1)`,
			"an offline file is said to be other":   `UPDATE offline_files SET digest = (SELECT digest FROM crls)`,
			"an offline file goes":                  `DELETE FROM offline_files`,
			"a TUF key becomes another":             `UPDATE tuf_keys SET role = 'timestamp'`,
			"a TUF root changes":                    `UPDATE tuf_roots SET file = '{}'`,
			"a TUF root goes":                       `DELETE FROM tuf_roots`,
			"TUF metadata goes back":                `UPDATE tuf_files SET version = 0 WHERE role = 'targets'`,
			"TUF metadata gets other bytes":         `UPDATE tuf_bodies SET file = (SELECT bytes FROM offline_files) WHERE role = 'targets'`,
			"TUF metadata loses its bytes":          `DELETE FROM tuf_bodies`,
			"one that never was is":                 `INSERT INTO statuses (seq, serial, issuer, reason, revoked, not_after) VALUES (1000000, 'x', 0, 1, 1, 1)`,
		} {
			t.Run(db+"/"+name, func(t *testing.T) {
				ctx := context.Background()
				s := storetest.Open(t, storetest.Databases(t)[db])
				w := storetest.NewWorld(t, s, 2)
				w.Load(t, storetest.Unit(0), storetest.Unit(1), storetest.Unit(2))
				if _, err := s.CreateOperator(ctx, storetest.By, &access.Operator{Name: "max", Role: access.RoleSupport, Key: storetest.Key("max", 1)}); err != nil {
					t.Fatal(err)
				}
				approvals := 2
				if _, err := s.ChangeOrder(ctx, storetest.By, "po-1", vetting.OrderChange{RaiseApprovals: &approvals}); err != nil {
					t.Fatal(err)
				}
				if _, err := s.ProposeRaise(ctx, storetest.By, "po-1", 5, "more"); err != nil {
					t.Fatal(err)
				}
				for _, rules := range [][]vetting.Rule{{{Name: "a", Expression: "true", Otherwise: vetting.Held}}, nil} {
					w.Product.Rules = rules
					var err error
					if w.Product, err = s.UpdateProduct(ctx, storetest.By, w.Product); err != nil {
						t.Fatal(err)
					}
				}
				withCode(t, w, 1)
				if _, _, err := storetest.Enrol(ctx, s, storetest.ByCode(0, 1)); err != nil {
					t.Fatal(err)
				}
				f, err := s.Facts(ctx, storetest.Claim(storetest.Unit(0).BootstrapKey, storetest.Key("official", 0)))
				if err != nil {
					t.Fatal(err)
				}
				if _, err := s.AddTestResult(ctx, storetest.By, f.Record.ID, &vetting.TestResult{Passed: true}); err != nil {
					t.Fatal(err)
				}
				for n := range 3 {
					if _, _, err := storetest.Enrol(ctx, s, storetest.Claim(storetest.Unit(n).BootstrapKey, storetest.Key("official", n))); err != nil {
						t.Fatal(err)
					}
				}
				if _, err := s.KeepCRLs(ctx, "server", "", []*crl.Made{storetest.CRL(0, crl.Full, 1, 0, crl.ChunkSize+100)}); err != nil {
					t.Fatal(err)
				}
				if _, err := storetest.KeepOffline(ctx, s, 0, offline.Base, 0, 1); err != nil {
					t.Fatal(err)
				}
				if _, err := storetest.KeepTUF(ctx, s, 1); err != nil {
					t.Fatal(err)
				}
				if _, err := storetest.CreateTUFKey(ctx, s); err != nil {
					t.Fatal(err)
				}
				if _, err := s.RevokeDevice(ctx, storetest.By, f.Record.ID, vetting.RevokedKeyCompromise, "leaked"); err != nil {
					t.Fatal(err)
				}
				verify(t, s)
				if err := s.Tamper(ctx, sql); err != nil {
					t.Fatal(err)
				}
				err = s.Snapshot(ctx, func(src audit.Source) error {
					report, err := audit.Verify(ctx, src, audit.Options{})
					if err == nil && report.OK() {
						t.Error("audit verify found nothing")
					}
					return err
				})
				if err != nil {
					t.Fatal(err)
				}
			})
		}
	}
}

// An audit holds what responders were told against the certificates in
// portions, and finds in each what does not agree.
func TestAuditInPortions(t *testing.T) {
	const devices, atOnce = 40, 8
	tampered := map[string]struct {
		sql   string
		found int64
	}{
		"not at all":                {`DELETE FROM statuses WHERE seq < 0`, 0},
		"all rows gone":             {`DELETE FROM statuses`, devices},
		"a row gone":                {`DELETE FROM statuses WHERE seq = (SELECT MAX(seq) FROM statuses)`, 1},
		"all rows changed":          {`UPDATE statuses SET revoked = revoked - 1`, devices},
		"rows of made-up serials":   {`INSERT INTO statuses (seq, serial, issuer, reason, revoked, not_after) SELECT 1000000 + id, key, 0, 1, 1, 1 FROM records`, devices},
		"an older row put in front": {`INSERT INTO statuses (seq, serial, issuer, reason, revoked, not_after) SELECT 1000000 + seq, serial, issuer, 8, 0, not_after FROM statuses`, devices},
	}
	for db := range storetest.Databases(t) {
		for name, c := range tampered {
			t.Run(db+"/"+name, func(t *testing.T) {
				ctx := context.Background()
				s := storetest.Open(t, storetest.Databases(t)[db])
				w := storetest.NewWorld(t, s, devices)
				var units []vetting.Record
				for n := range devices {
					units = append(units, storetest.Unit(n))
				}
				w.Load(t, units...)
				for n := range devices {
					claim := storetest.Claim(storetest.Unit(n).BootstrapKey, storetest.Key("official", n))
					if _, _, err := storetest.Enrol(ctx, s, claim); err != nil {
						t.Fatal(err)
					}
					f, err := s.Facts(ctx, claim)
					if err != nil {
						t.Fatal(err)
					}
					if _, err := s.RevokeDevice(ctx, storetest.By, f.Record.ID, vetting.RevokedKeyCompromise, "leaked"); err != nil {
						t.Fatal(err)
					}
				}
				if err := s.Tamper(ctx, c.sql); err != nil {
					t.Fatal(err)
				}
				report, portions, err := store.VerifyIn(ctx, s, atOnce)
				if err != nil || report.Total != c.found {
					t.Errorf("audit verify found %d, want %d: %+v (%v)", report.Total, c.found, report.Findings, err)
				}
				if most := slices.Max(portions); most > atOnce {
					t.Errorf("%d serial numbers were in memory at once, want at most %d", most, atOnce)
				}
			})
		}
	}
}
