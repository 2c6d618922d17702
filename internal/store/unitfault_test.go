package store_test

import (
	"context"
	"testing"

	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/internal/approval"
	"github.com/touchmark/touchmark/internal/store/storetest"
	"github.com/touchmark/touchmark/vetting"
)

// A test result whose commit fails was kept, or not; handed in again under
// its key, it is kept once.
func TestResultCommitFails(t *testing.T) {
	ctx := context.Background()
	hand := func(w *storetest.World) (id int64, err error) {
		f, err := w.Store.Facts(ctx, storetest.Claim(storetest.Unit(0).BootstrapKey, storetest.Key("official", 0)))
		if err != nil {
			return 0, err
		}
		_, err = w.Store.AddTestResult(ctx, access.Act{Operator: "rig-7", Key: "k"}, f.Record.ID, &vetting.TestResult{Note: "radio dead"})
		return f.Record.ID, err
	}
	results := func(t *testing.T, w *storetest.World, id int64) int {
		t.Helper()
		h, err := w.Store.DeviceHistory(ctx, id)
		if err != nil {
			t.Fatal(err)
		}
		if (len(h.Tests) > 0) != h.Device.Failed() {
			t.Errorf("%d results, but the device is %+v", len(h.Tests), h.Device)
		}
		return len(h.Tests)
	}
	var id int64
	eachFault(t, func(t *testing.T, w *storetest.World, fault string) {
		var err error
		if id, err = hand(w); err == nil {
			t.Error("no error although the write failed")
		}
	}, func(t *testing.T, w *storetest.World, fault string) {
		if n := results(t, w, id); (n == 1) != (fault == "persisted anyway") {
			t.Errorf("%d results", n)
		}
		if _, err := hand(w); err != nil {
			t.Errorf("handed in again: %v", err)
		}
		if n := results(t, w, id); n != 1 {
			t.Errorf("%d results after it was handed in again", n)
		}
	})
}

// A rework or replacement whose commit fails gave the unit back, or did not;
// asked again, it is given back once, and counted once if a site asked.
func TestReworkCommitFails(t *testing.T) {
	ctx := context.Background()
	unit := func(w *storetest.World, n int) (int64, error) {
		f, err := w.Store.Facts(ctx, storetest.Claim(storetest.Unit(n).BootstrapKey, storetest.Key("official", n)))
		if err != nil {
			return 0, err
		}
		return f.Record.ID, nil
	}
	for name, c := range map[string]struct {
		again    vetting.Problem // of the same act, once it took effect
		replaced int64           // by the site
		act      func(w *storetest.World, id, by int64) (*vetting.Device, error)
	}{
		"rework": {vetting.Conflict, 0, func(w *storetest.World, id, by int64) (*vetting.Device, error) {
			return w.Store.ReworkDevice(ctx, storetest.By, id, "radio dead")
		}},
		"replacement": {0, 1, func(w *storetest.World, id, by int64) (*vetting.Device, error) {
			return w.Store.ReplaceDevice(ctx, storetest.By, id, by, "radio dead")
		}},
	} {
		act := func(w *storetest.World) error {
			id, err := unit(w, 0)
			if err != nil {
				return err
			}
			by, err := unit(w, 1)
			if err != nil {
				return err
			}
			_, err = c.act(w, id, by)
			return err
		}
		t.Run(name, func(t *testing.T) {
			eachFaultAfter(t, issuedAndFailed, func(t *testing.T, w *storetest.World, fault string) {
				if err := act(w); err == nil {
					t.Error("no error although the write failed")
				}
			}, func(t *testing.T, w *storetest.World, fault string) {
				persisted := fault == "persisted anyway"
				want := units{issued: 1}
				if persisted {
					want = units{replaced: c.replaced}
				}
				if got := unitsOf(t, w); got != want {
					t.Errorf("%+v units, want %+v", got, want)
				}
				if err := act(w); persisted && vetting.ProblemOf(err) != c.again || !persisted && err != nil {
					t.Errorf("asked again: %v", err)
				}
				if got, want := unitsOf(t, w), (units{replaced: c.replaced}); got != want {
					t.Errorf("%+v units after asking again, want %+v", got, want)
				}
			})
		})
	}
}

// issuedAndFailed lets unit 0 in, and then fail its test.
func issuedAndFailed(t *testing.T, w *storetest.World) {
	t.Helper()
	ctx := context.Background()
	bySite := vetting.ReworkBySite
	if _, err := w.Store.ChangeOrder(ctx, storetest.By, "po-1", vetting.OrderChange{Rework: &bySite}); err != nil {
		t.Fatal(err)
	}
	claim := storetest.Claim(storetest.Unit(0).BootstrapKey, storetest.Key("official", 0))
	if _, _, err := storetest.Enrol(ctx, w.Store, claim); err != nil {
		t.Fatal(err)
	}
	f, err := w.Store.Facts(ctx, claim)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Store.AddTestResult(ctx, storetest.By, f.Record.ID, &vetting.TestResult{Note: "radio dead"}); err != nil {
		t.Fatal(err)
	}
}

// units are the counters of an order.
type units struct{ issued, replaced int64 }

func unitsOf(t *testing.T, w *storetest.World) units {
	t.Helper()
	o, err := w.Store.Order(context.Background(), "po-1")
	if err != nil {
		t.Fatal(err)
	}
	return units{o.Issued, o.Replaced}
}

// An approval whose commit fails was given, or not; given again under its
// key, the order is raised, once.
func TestRaiseCommitFails(t *testing.T) {
	ctx := context.Background()
	var id int64
	var yes approval.Approval
	approve := func(w *storetest.World) error {
		_, err := w.Store.ApproveRaise(ctx, access.Act{Operator: "berta", Key: "k"}, "po-1", id, 5, yes)
		return err
	}
	order := func(t *testing.T, w *storetest.World) *vetting.Order {
		t.Helper()
		o, err := w.Store.Order(ctx, "po-1")
		if err != nil {
			t.Fatal(err)
		}
		return o
	}
	eachFaultAfter(t, func(t *testing.T, w *storetest.World) {
		one := 1
		if _, err := w.Store.ChangeOrder(ctx, storetest.By, "po-1", vetting.OrderChange{RaiseApprovals: &one}); err != nil {
			t.Fatal(err)
		}
		r, err := w.Store.ProposeRaise(ctx, access.Act{Operator: "anna"}, "po-1", 5, "more")
		if err != nil {
			t.Fatal(err)
		}
		p, err := w.Store.Proposal(ctx, r.ID)
		if err != nil {
			t.Fatal(err)
		}
		id, yes = r.ID, storetest.NewPerson(t, "berta").Employ(t, w.Store, access.RoleApprover).Yes(t, p.Payload)
	}, func(t *testing.T, w *storetest.World, fault string) {
		if err := approve(w); err == nil {
			t.Error("no error although the write failed")
		}
	}, func(t *testing.T, w *storetest.World, fault string) {
		before := order(t, w)
		if persisted := fault == "persisted anyway"; persisted != (before.Quantity == 5) {
			t.Errorf("the order is for %d units", before.Quantity)
		}
		if err := approve(w); err != nil {
			t.Errorf("given again: %v", err)
		}
		if o := order(t, w); o.Quantity != 5 || o.Revision != 3 {
			t.Errorf("the order is for %d units, at revision %d", o.Quantity, o.Revision)
		}
	})
}
