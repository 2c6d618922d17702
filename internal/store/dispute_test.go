package store_test

import (
	"context"
	"testing"

	"github.com/touchmark/touchmark/internal/store/storetest"
	"github.com/touchmark/touchmark/vetting"
)

// A second record with the serial or key of another never becomes one: it is
// evidence against both, and neither gets in without a person's word.
func TestDuplicateAcrossManifests(t *testing.T) {
	for db, dsn := range storetest.Databases(t) {
		t.Run(db, func(t *testing.T) {
			ctx := context.Background()
			w := storetest.NewWorld(t, storetest.Open(t, dsn), 10)
			first, second := storetest.Unit(0), storetest.Unit(1)
			w.Load(t, first)
			if m := w.Load(t, first); m.Repeated != 1 || m.Fresh != 0 || m.Disputed != 0 {
				t.Errorf("the same record again: %+v", m)
			}
			second.Serial = first.Serial
			if m := w.Load(t, second); m.Disputed != 1 || m.Fresh != 0 {
				t.Fatalf("a duplicate: %+v", m)
			}
			v, _, err := storetest.Enrol(ctx, w.Store, storetest.Claim(second.BootstrapKey, storetest.Key("official", 1)))
			if err != nil || v.Outcome != vetting.Refused || v.Reasons[0].Code != vetting.ReasonDisputed {
				t.Errorf("the second unit: %s %v", v.Text(), err)
			}
			v, _, err = storetest.Enrol(ctx, w.Store, storetest.Claim(first.BootstrapKey, storetest.Key("official", 0)))
			if err != nil || v.Outcome != vetting.Held || v.Reasons[0].Code != vetting.ReasonContested {
				t.Errorf("the first unit: %s %v", v.Text(), err)
			}
			devices, err := w.Store.Devices(ctx, vetting.DeviceFilter{}, vetting.Page{})
			if err != nil || len(devices) != 1 {
				t.Fatalf("%d devices, %v", len(devices), err)
			}
			h, err := w.Store.DeviceHistory(ctx, devices[0].ID)
			if err != nil || len(h.Disputes) != 1 || h.Disputes[0].Record.SiteID != w.Site.ID || h.Disputes[0].Kinds[0] != vetting.EvidenceDuplicateSerial {
				t.Errorf("history %+v, %v", h, err)
			}
			if len(h.Evidence) == 0 || h.Evidence[len(h.Evidence)-1].Kind != vetting.EvidenceDuplicateSerial {
				t.Errorf("evidence %+v", h.Evidence)
			}
			verify(t, w.Store)
		})
	}
}

// A key that one device holds is nobody else's, not even in a batch.
func TestKeyOfAnotherDevice(t *testing.T) {
	for db, dsn := range storetest.Databases(t) {
		t.Run(db, func(t *testing.T) {
			ctx := context.Background()
			w := storetest.NewWorld(t, storetest.Open(t, dsn), 40)
			var records []vetting.Record
			for i := range 40 {
				records = append(records, storetest.Unit(i))
			}
			w.Load(t, records...)
			verdicts := make(chan vetting.Outcome, len(records))
			for _, r := range records {
				go func() {
					v, _, err := storetest.Enrol(ctx, w.Store, storetest.Claim(r.BootstrapKey, storetest.Key("shared", 0)))
					if err != nil {
						t.Error(err)
					}
					verdicts <- v.Outcome
				}()
			}
			admitted := 0
			for range records {
				if <-verdicts == vetting.Admitted {
					admitted++
				}
			}
			if o, err := w.Store.Order(ctx, "po-1"); err != nil || admitted != 1 || o.Issued != 1 {
				t.Errorf("%d devices got a certificate on one key, %d units, %v", admitted, o.Issued, err)
			}
			verify(t, w.Store)
		})
	}
}

// A unit that has a certificate but never used it keeps its key when another
// record claims its identity; a new key waits for a person.
func TestNewKeyWhileContested(t *testing.T) {
	for db, dsn := range storetest.Databases(t) {
		t.Run(db, func(t *testing.T) {
			ctx := context.Background()
			w := storetest.NewWorld(t, storetest.Open(t, dsn), 10)
			first, second := storetest.Unit(0), storetest.Unit(1)
			w.Load(t, first)
			claim := storetest.Claim(first.BootstrapKey, storetest.Key("official", 0))
			if v, _, err := storetest.Enrol(ctx, w.Store, claim); err != nil || v.Outcome != vetting.Admitted {
				t.Fatal(v.Text(), err)
			}
			second.Serial = first.Serial
			w.Load(t, second)
			if v, _, err := storetest.Enrol(ctx, w.Store, claim); err != nil || v.Reasons[0].Code != vetting.ReasonRepeated {
				t.Errorf("the same key: %s, %v", v.Text(), err)
			}
			claim.Key = storetest.Key("official", 1)
			if v, _, err := storetest.Enrol(ctx, w.Store, claim); err != nil || v.Outcome != vetting.Held || v.Reasons[0].Code != vetting.ReasonContested {
				t.Fatalf("a new key: %s, %v", v.Text(), err)
			}
			held, err := w.Store.Registrations(ctx, vetting.RegistrationFilter{Undecided: true}, vetting.Page{})
			if err != nil || len(held) != 1 {
				t.Fatalf("%d registrations wait, %v", len(held), err)
			}
			if _, err := w.Store.DecideRegistration(ctx, storetest.By, held[0].ID, vetting.Decision{Admit: true, By: "petra", Note: "it is the first unit"}); err != nil {
				t.Fatal(err)
			}
			v, cert, err := storetest.Enrol(ctx, w.Store, claim)
			if err != nil || v.Outcome != vetting.Admitted || v.Reasons[0].Code != vetting.ReasonReplaced || cert == nil {
				t.Errorf("after a person's word: %s, %v", v.Text(), err)
			}
			if o, err := w.Store.Order(ctx, "po-1"); err != nil || o.Issued != 1 {
				t.Errorf("%d units, %v", o.Issued, err)
			}
			verify(t, w.Store)
		})
	}
}
