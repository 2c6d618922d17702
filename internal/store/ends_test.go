package store_test

import (
	"context"
	"testing"

	"github.com/touchmark/touchmark/internal/store/storetest"
	"github.com/touchmark/touchmark/vetting"
)

// A refusal that quarantines, and a readmission, happen whole or not at all.
func TestEndsFail(t *testing.T) {
	ctx := context.Background()
	var id int64
	var old, current string
	enrol := func(t *testing.T, w *storetest.World, c vetting.Claim, want vetting.Outcome) {
		t.Helper()
		if v, _, err := storetest.Enrol(ctx, w.Store, c); err != nil || v.Outcome != want {
			t.Fatalf("%s (%s), %v; want %s", v.Outcome, v.Text(), err, want)
		}
	}
	read := func(t *testing.T, w *storetest.World) *vetting.Device {
		t.Helper()
		list, err := w.Store.Devices(ctx, vetting.DeviceFilter{Identity: storetest.Unit(0).Identity}, vetting.Page{})
		if err != nil || len(list) != 1 {
			t.Fatalf("%d devices, %v", len(list), err)
		}
		return list[0]
	}
	copied := func(t *testing.T, w *storetest.World) {
		t.Helper()
		enrol(t, w, storetest.Claim(storetest.Unit(0).BootstrapKey, storetest.Key("official", 0)), vetting.Admitted)
		old = read(t, w).Certificate
		enrol(t, w, storetest.Renewal(old, storetest.Key("second", 0)), vetting.Admitted)
		id, current = read(t, w).ID, read(t, w).Certificate
		if err := w.Store.Activate(ctx, current); err != nil {
			t.Fatal(err)
		}
	}
	for name, act := range map[string]struct {
		do    func(w *storetest.World) error
		state vetting.DeviceState
		cert  vetting.CertificateState
	}{
		"a clone": {func(w *storetest.World) error {
			_, _, err := storetest.Enrol(ctx, w.Store, storetest.Renewal(old, storetest.Key("clone", 0)))
			return err
		}, vetting.DeviceQuarantined, vetting.CertificateOnHold},
		"a readmission": {func(w *storetest.World) error {
			_, err := w.Store.ReadmitDevice(ctx, storetest.By, id, "its flash was replaced")
			return err
		}, vetting.DeviceManufactured, vetting.CertificateRevoked},
		"a rework": {func(w *storetest.World) error {
			_, err := w.Store.ReworkDevice(ctx, storetest.By, id, "its radio is dead")
			return err
		}, vetting.DeviceScrapped, vetting.CertificateRevoked},
	} {
		t.Run(name, func(t *testing.T) {
			eachFaultAfter(t, copied, func(t *testing.T, w *storetest.World, fault string) {
				if err := act.do(w); err == nil {
					t.Error("no error although the write failed")
				}
			}, func(t *testing.T, w *storetest.World, fault string) {
				done := fault == "persisted anyway"
				for range 2 {
					d := read(t, w)
					c, err := w.Store.Certificate(ctx, current)
					if err != nil {
						t.Fatal(err)
					}
					if (d.State == act.state) != done || (c.State == act.cert) != done {
						t.Errorf("done %v: the device is %s, its certificate %s", done, d.State, c.State)
					}
					if done {
						return
					}
					if err := act.do(w); err != nil {
						t.Errorf("afterwards: %v", err)
					}
					done = true
				}
			})
		})
	}
}
