package store_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/touchmark/touchmark/internal/store/storetest"
	"github.com/touchmark/touchmark/vetting"
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

// A renewal before its time is judged with what an operator said, and so is
// the answer to a device that asks when to renew.
func TestHintsAreFacts(t *testing.T) {
	for db, dsn := range storetest.Databases(t) {
		t.Run(db, func(t *testing.T) {
			ctx := t.Context()
			s := storetest.Open(t, dsn)
			w := storetest.NewWorld(t, s, 1)
			w.Load(t, storetest.Unit(0))
			p := *w.Product
			p.Life.RenewWindow = "1m"
			if _, err := s.UpdateProduct(ctx, storetest.By, &p); err != nil {
				t.Fatal(err)
			}
			if _, _, err := storetest.Enrol(ctx, s, storetest.Claim(storetest.Unit(0).BootstrapKey, storetest.Key("official", 0))); err != nil {
				t.Fatal(err)
			}
			list, err := s.Devices(ctx, vetting.DeviceFilter{}, vetting.Page{})
			if err != nil || len(list) != 1 {
				t.Fatal(list, err)
			}
			facts := func() vetting.Facts {
				t.Helper()
				f, err := s.Facts(ctx, storetest.Renewal(list[0].Certificate, storetest.Key("second", 0)))
				if err != nil {
					t.Fatal(err)
				}
				return f
			}
			if f := facts(); f.Hint != nil || vetting.Judge(f).Reasons[0].Code != vetting.ReasonTooSoon {
				t.Errorf("the hint is %v, the verdict %s", f.Hint, vetting.Judge(f).Text())
			}
			if err := s.Tamper(ctx, fmt.Sprintf(`INSERT INTO renewal_hints (certificate_id, starts, ends) VALUES (%d, 1000000, 2000000)`, list[0].CertificateID)); err != nil {
				t.Fatal(err)
			}
			want := vetting.Window{Start: time.Unix(1, 0).UTC(), End: time.Unix(2, 0).UTC()}
			if f := facts(); f.Hint == nil || *f.Hint != want || vetting.Judge(f).Reasons[0].Code != vetting.ReasonRenewed {
				t.Errorf("the hint is %v, the verdict %s", f.Hint, vetting.Judge(f).Text())
			}
			standing, err := s.Standing(ctx, list[0].Certificate)
			if err != nil || standing.Renew() != want || standing.Device.ID != list[0].ID || standing.Product.Name != p.Name || standing.Certificate.Serial != list[0].Certificate {
				t.Errorf("the standing is %+v, %v", standing, err)
			}
			if _, err := s.Standing(ctx, "00ff"); vetting.ProblemOf(err) != vetting.NotFound {
				t.Errorf("of no certificate: %v", err)
			}
		})
	}
}
