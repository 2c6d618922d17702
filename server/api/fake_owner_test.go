package api_test

import (
	"context"
	"slices"

	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/vetting"
)

// The memory holds two owners, with an offer to each and one between them;
// what becomes of devices is the store's business.

var owners = []*vetting.Owner{{ID: 71, Name: "acme"}, {ID: 72, Name: "beta"}}

var transfers = []*vetting.Transfer{
	{ID: 72, State: vetting.TransferOffered, From: vetting.Manufacturer, To: "acme", Devices: 1, Steps: []vetting.TransferStep{{State: vetting.TransferOffered, By: "planner"}}},
	{ID: 73, State: vetting.TransferOffered, From: vetting.Manufacturer, To: "beta", Devices: 1},
	{ID: 74, State: vetting.TransferOffered, From: "acme", To: "beta", Devices: 2, Steps: []vetting.TransferStep{{State: vetting.TransferOffered, By: "anna", Owner: "acme"}}},
	{ID: 75, State: vetting.TransferOffered, From: "beta", To: vetting.Manufacturer, Devices: 1},
}

func (m *memory) Owners(_ context.Context, p vetting.Page) ([]*vetting.Owner, error) {
	return pick(m, owners, p, false, func(o *vetting.Owner) int64 { return o.ID }, func(*vetting.Owner) bool { return true })
}

func (m *memory) Owner(_ context.Context, name string) (*vetting.Owner, error) {
	return find(m, owners, func(o *vetting.Owner) bool { return o.Name == name })
}

func (m *memory) CreateOwner(_ context.Context, a access.Act, o *vetting.Owner) (*vetting.Owner, error) {
	return act(m, a, func() (*vetting.Owner, error) { return o, nil })
}

func (m *memory) SetOwnerIssuer(ctx context.Context, a access.Act, name, _ string) (*vetting.Owner, error) {
	o, err := m.Owner(ctx, name)
	if err != nil {
		return nil, err
	}
	return m.CreateOwner(ctx, a, o)
}

func (m *memory) Transfers(_ context.Context, f vetting.TransferFilter, p vetting.Page) ([]*vetting.Transfer, error) {
	return pick(m, transfers, p, true, func(t *vetting.Transfer) int64 { return t.ID },
		func(t *vetting.Transfer) bool {
			return fits(f.State, t.State) && !slices.ContainsFunc(f.Parties, func(p string) bool { return p != t.From && p != t.To })
		})
}

func (m *memory) Transfer(_ context.Context, id int64) (*vetting.Transfer, error) {
	return find(m, transfers, func(t *vetting.Transfer) bool { return t.ID == id })
}

func (m *memory) TransferDevices(_ context.Context, _ int64, p vetting.Page) ([]*vetting.Device, error) {
	return pick(m, m.devices, p, false, func(d *vetting.Device) int64 { return d.ID }, func(*vetting.Device) bool { return true })
}

func (m *memory) OfferTransfer(_ context.Context, a access.Act, o vetting.Offer) (*vetting.Transfer, error) {
	return act(m, a, func() (*vetting.Transfer, error) {
		if err := o.Check(); err != nil {
			return nil, vetting.Errorf(vetting.Invalid, "%v", err)
		}
		return &vetting.Transfer{ID: m.next(), State: vetting.TransferOffered, From: o.From, To: o.To}, nil
	})
}

func (m *memory) step(a access.Act, id int64, to vetting.TransferState) (*vetting.Transfer, error) {
	return act(m, a, func() (*vetting.Transfer, error) {
		i := slices.IndexFunc(transfers, func(t *vetting.Transfer) bool { return t.ID == id })
		if i < 0 {
			return nil, vetting.Errorf(vetting.NotFound, "no transfer")
		}
		next := *transfers[i]
		next.State = to
		return &next, nil
	})
}

func (m *memory) AcceptTransfer(_ context.Context, a access.Act, id int64, _ string) (*vetting.Transfer, error) {
	return m.step(a, id, vetting.TransferAccepted)
}

func (m *memory) DeclineTransfer(_ context.Context, a access.Act, id int64, _ string) (*vetting.Transfer, error) {
	return m.step(a, id, vetting.TransferDeclined)
}

func (m *memory) WithdrawTransfer(_ context.Context, a access.Act, id int64, _ string) (*vetting.Transfer, error) {
	return m.step(a, id, vetting.TransferWithdrawn)
}

func (m *memory) ReverseTransfer(_ context.Context, a access.Act, id int64, _ string) (*vetting.Transfer, error) {
	return m.step(a, id, vetting.TransferReversed)
}

func (m *memory) HandOut(_ context.Context, a access.Act, h vetting.Handout) (*vetting.Transfer, error) {
	return act(m, a, func() (*vetting.Transfer, error) { return transfers[3], nil })
}

func (m *memory) Voucher(context.Context, int64) ([]byte, error) { return []byte("voucher"), nil }
