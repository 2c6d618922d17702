package store_test

import (
	"context"
	"testing"

	"github.com/touchmark/touchmark/internal/store/storetest"
	"github.com/touchmark/touchmark/vetting"
)

// Each step of a transfer happens to all of its devices or to none.
func TestTransferFails(t *testing.T) {
	ctx := context.Background()
	var serials []string
	for n := range 3 {
		serials = append(serials, storetest.Unit(n).Serial)
	}
	offer := func(w *storetest.World) error {
		_, err := w.Store.OfferTransfer(ctx, storetest.By, vetting.Offer{From: vetting.Manufacturer, To: "acme", Serials: serials})
		return err
	}
	latest := func(t *testing.T, w *storetest.World) int64 {
		t.Helper()
		list, err := w.Store.Transfers(ctx, vetting.TransferFilter{}, vetting.Page{})
		if err != nil || len(list) == 0 {
			t.Fatalf("%d transfers, %v", len(list), err)
		}
		return list[0].ID
	}
	var id int64
	steps := []struct {
		name  string
		do    func(w *storetest.World) error
		state vetting.TransferState
		owner string
	}{
		{"offer", offer, vetting.TransferOffered, ""},
		{"accept", func(w *storetest.World) error {
			_, err := w.Store.AcceptTransfer(ctx, storetest.By, id, "")
			return err
		}, vetting.TransferAccepted, "acme"},
		{"reverse", func(w *storetest.World) error {
			_, err := w.Store.ReverseTransfer(ctx, storetest.By, id, "")
			return err
		}, vetting.TransferReversed, ""},
	}
	for n, step := range steps {
		t.Run(step.name, func(t *testing.T) {
			ready := func(t *testing.T, w *storetest.World) {
				if _, err := w.Store.CreateOwner(ctx, storetest.By, &vetting.Owner{Name: "acme"}); err != nil {
					t.Fatal(err)
				}
				for n := range 2 { // the third was never powered on
					if _, _, err := storetest.Enrol(ctx, w.Store, storetest.Claim(storetest.Unit(n).BootstrapKey, storetest.Key("official", n))); err != nil {
						t.Fatal(err)
					}
				}
				for _, earlier := range steps[:n] {
					if err := earlier.do(w); err != nil {
						t.Fatal(err)
					}
					id = latest(t, w)
				}
			}
			eachFaultAfter(t, ready, func(t *testing.T, w *storetest.World, fault string) {
				if err := step.do(w); err == nil {
					t.Error("no error although the write failed")
				}
			}, func(t *testing.T, w *storetest.World, fault string) {
				if fault != "persisted anyway" {
					if stands(t, w, step.state, step.owner) {
						t.Error("it happened, although it was lost")
					}
					if err := step.do(w); err != nil {
						t.Fatal(err)
					}
				}
				if !stands(t, w, step.state, step.owner) {
					t.Error("it did not happen to all")
				}
			})
		})
	}
}

// stands reports whether the latest transfer is in a state, and all devices
// are its, with the owner and the certificates that belong to it. Something
// between is an error.
func stands(t *testing.T, w *storetest.World, state vetting.TransferState, owner string) bool {
	t.Helper()
	ctx := context.Background()
	list, err := w.Store.Transfers(ctx, vetting.TransferFilter{}, vetting.Page{})
	if err != nil {
		t.Fatal(err)
	}
	done := len(list) == 1 && list[0].State == state
	devices, err := w.Store.Devices(ctx, vetting.DeviceFilter{}, vetting.Page{})
	if err != nil || len(devices) != 3 {
		t.Fatalf("%d devices, %v", len(devices), err)
	}
	for _, d := range devices {
		if its := len(list) == 1 && d.Transfer == list[0].ID; done && (!its || d.Owner != owner) {
			t.Errorf("the transfer is %s, device %d is %+v", state, d.ID, d)
		}
		if d.Owner != devices[0].Owner || d.Transfer != devices[0].Transfer {
			t.Errorf("device %d is %+v, the first %+v", d.ID, d, devices[0])
		}
		if d.Certificate == "" {
			continue
		}
		c, err := w.Store.Certificate(ctx, d.Certificate)
		if err != nil {
			t.Fatal(err)
		}
		if revoked := c.State == vetting.CertificateRevoked; revoked != (d.State == vetting.DeviceManufactured) {
			t.Errorf("device %d is %s, its certificate %s", d.ID, d.State, c.State)
		}
	}
	return done
}

// TestHandOutFails fails to hand a device out, after which it stands as it
// did, or as it should: with its voucher, and without a certificate.
func TestHandOutFails(t *testing.T) {
	ctx := context.Background()
	var d *vetting.Device
	handOut := func(w *storetest.World, voucher string) error {
		_, err := w.Store.HandOut(ctx, storetest.By, vetting.Handout{DeviceID: d.ID, Voucher: []byte(voucher)})
		return err
	}
	ready := func(t *testing.T, w *storetest.World) {
		if _, _, err := storetest.Enrol(ctx, w.Store, storetest.Claim(storetest.Unit(0).BootstrapKey, storetest.Key("official", 0))); err != nil {
			t.Fatal(err)
		}
		d = onlyDevice(t, w)
	}
	eachFaultAfter(t, ready, func(t *testing.T, w *storetest.World, fault string) {
		if handOut(w, "first") == nil {
			t.Error("no error although the write failed")
		}
	}, func(t *testing.T, w *storetest.World, fault string) {
		want := "first"
		if fault != "persisted anyway" {
			if now := onlyDevice(t, w); now.Owner != "" || now.State != d.State {
				t.Errorf("it happened, although it was lost: %+v", now)
			}
			want = "second"
		}
		if err := handOut(w, "second"); err != nil {
			t.Fatal(err)
		}
		now := onlyDevice(t, w)
		c, err := w.Store.Certificate(ctx, d.Certificate)
		if err != nil || now.Owner != vetting.Elsewhere || c.State != vetting.CertificateRevoked {
			t.Errorf("the device is %+v, its certificate %+v, %v", now, c, err)
		}
		if voucher, err := w.Store.Voucher(ctx, now.Transfer); err != nil || string(voucher) != want {
			t.Errorf("the voucher is %q, want %q, %v", voucher, want, err)
		}
	})
}

// onlyDevice is unit 0.
func onlyDevice(t *testing.T, w *storetest.World) *vetting.Device {
	t.Helper()
	list, err := w.Store.Devices(context.Background(), vetting.DeviceFilter{Identity: storetest.Unit(0).Identity}, vetting.Page{})
	if err != nil || len(list) != 1 {
		t.Fatalf("%d devices, %v", len(list), err)
	}
	return list[0]
}
