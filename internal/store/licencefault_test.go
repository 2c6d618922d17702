package store_test

import (
	"context"
	"testing"

	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/internal/store/storetest"
	"github.com/touchmark/touchmark/vetting"
)

// A reservation, a signature or a confirmation whose commit fails took effect,
// or did not; asked again, it has, and each chip was counted once.
func TestLicenceCommitFails(t *testing.T) {
	ctx := context.Background()
	rig := access.Act{Operator: "rig-1"}
	reserve := func(w *storetest.World) (*vetting.LicenceClaims, error) {
		return w.Store.ReserveLicences(ctx, rig, vetting.LicenceRequest{Order: w.Order, UIDs: storetest.Chips(0, 2)})
	}
	sign := func(w *storetest.World) error {
		c, err := reserve(w)
		if err == nil && !c.Claims[0].Signed {
			_, err = w.Store.SignLicences(ctx, rig, vetting.LicenceSignatures{Grant: c.Claims[0].Grant, KeyID: 1, Signatures: make([]byte, 128)})
		}
		return err
	}
	confirm := func(w *storetest.World) error {
		_, err := w.Store.ConfirmLicences(ctx, rig, "hsinchu", storetest.Chips(0, 2))
		return err
	}
	must := func(t *testing.T, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	states := func(t *testing.T, w *storetest.World) (list []vetting.LicenceState) {
		t.Helper()
		all, err := w.Store.Licences(ctx, vetting.LicenceFilter{}, vetting.Page{})
		must(t, err)
		o, err := w.Store.Order(ctx, "po-1")
		must(t, err)
		if o.Licensed != int64(len(all)) {
			t.Errorf("%d chips are counted, %d are kept", o.Licensed, len(all))
		}
		for _, l := range all {
			list = append(list, l.State)
		}
		return list
	}
	for _, c := range []struct {
		name          string
		ready         func(*storetest.World) error
		act           func(*storetest.World) error
		before, after vetting.LicenceState
	}{
		{"reserve", func(*storetest.World) error { return nil }, func(w *storetest.World) error { _, err := reserve(w); return err }, "", vetting.LicenceReserved},
		{"sign", func(w *storetest.World) error { _, err := reserve(w); return err }, nil, vetting.LicenceReserved, vetting.LicenceSigned},
		{"confirm", sign, confirm, vetting.LicenceSigned, vetting.LicenceProgrammed},
	} {
		var grant int64
		act := c.act
		if act == nil { // the reservation is repeated before: with a leaf of its own, and no fault
			act = func(w *storetest.World) error {
				_, err := w.Store.SignLicences(ctx, rig, vetting.LicenceSignatures{Grant: grant, KeyID: 1, Header: [16]byte{'T', 1}, Signatures: make([]byte, 128)})
				return err
			}
		}
		t.Run(c.name, func(t *testing.T) {
			eachFaultAfter(t, func(t *testing.T, w *storetest.World) {
				must(t, c.ready(w))
				if c.before == vetting.LicenceReserved {
					claims, err := reserve(w)
					must(t, err)
					grant = claims.Claims[0].Grant
				}
			}, func(t *testing.T, w *storetest.World, fault string) {
				if act(w) == nil {
					t.Error("no error although the write failed")
				}
			}, func(t *testing.T, w *storetest.World, fault string) {
				want := c.before
				if fault == "persisted anyway" {
					want = c.after
				}
				got := states(t, w)
				if want == "" && len(got) != 0 || want != "" && (len(got) != 2 || got[0] != want || got[1] != want) {
					t.Errorf("%v, want %q", got, want)
				}
				must(t, act(w))
				if got := states(t, w); len(got) != 2 || got[0] != c.after || got[1] != c.after {
					t.Errorf("asked again: %v, want %q", got, c.after)
				}
			})
		})
	}
}
