package scope

import (
	"context"

	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/vetting"
)

// Owners are whom devices belong to, and how those change hands.
type Owners interface {
	Owners(context.Context, vetting.Page) ([]*vetting.Owner, error)
	Owner(ctx context.Context, name string) (*vetting.Owner, error)
	CreateOwner(context.Context, access.Act, *vetting.Owner) (*vetting.Owner, error)
	Transfers(context.Context, vetting.TransferFilter, vetting.Page) ([]*vetting.Transfer, error)
	Transfer(ctx context.Context, id int64) (*vetting.Transfer, error)
	TransferDevices(ctx context.Context, id int64, p vetting.Page) ([]*vetting.Device, error)
	OfferTransfer(context.Context, access.Act, vetting.Offer) (*vetting.Transfer, error)
	AcceptTransfer(ctx context.Context, act access.Act, id int64, note string) (*vetting.Transfer, error)
	WithdrawTransfer(ctx context.Context, act access.Act, id int64, note string) (*vetting.Transfer, error)
	ReverseTransfer(ctx context.Context, act access.Act, id int64, note string) (*vetting.Transfer, error)
}

// Owners lists owners; a site's operators know of none.
func (v View) Owners(ctx context.Context, p vetting.Page) ([]*vetting.Owner, error) {
	if v.op.Role.OfSite() {
		return nil, nil
	}
	return v.store.Owners(ctx, p)
}

// Owner finds an owner.
func (v View) Owner(ctx context.Context, name string) (*vetting.Owner, error) {
	return offSite(v, unknownName("owner", name), func() (*vetting.Owner, error) { return v.store.Owner(ctx, name) })
}

// CreateOwner adds an owner.
func (v View) CreateOwner(ctx context.Context, act access.Act, o *vetting.Owner) (*vetting.Owner, error) {
	return offSite(v, unknownName("owner", o.Name), func() (*vetting.Owner, error) { return v.store.CreateOwner(ctx, act, o) })
}

// Transfers lists transfers; a site's operators know of none.
func (v View) Transfers(ctx context.Context, f vetting.TransferFilter, p vetting.Page) ([]*vetting.Transfer, error) {
	if v.op.Role.OfSite() {
		return nil, nil
	}
	return v.store.Transfers(ctx, f, p)
}

// Transfer finds a transfer.
func (v View) Transfer(ctx context.Context, id int64) (*vetting.Transfer, error) {
	return offSite(v, unknownID("transfer", id), func() (*vetting.Transfer, error) { return v.store.Transfer(ctx, id) })
}

// TransferDevices lists the devices of a transfer.
func (v View) TransferDevices(ctx context.Context, id int64, p vetting.Page) ([]*vetting.Device, error) {
	if _, err := v.Transfer(ctx, id); err != nil {
		return nil, err
	}
	list, err := v.store.TransferDevices(ctx, id, p)
	return masked(v, list, maskDevice), err
}

// OfferTransfer offers devices to another owner.
func (v View) OfferTransfer(ctx context.Context, act access.Act, o vetting.Offer) (*vetting.Transfer, error) {
	if v.op.Role.OfSite() {
		return nil, unknownName("owner", o.To)
	}
	return v.store.OfferTransfer(ctx, act, o)
}

// AcceptTransfer makes the devices of an offer the next owner's.
func (v View) AcceptTransfer(ctx context.Context, act access.Act, id int64, note string) (*vetting.Transfer, error) {
	return offSite(v, unknownID("transfer", id), func() (*vetting.Transfer, error) { return v.store.AcceptTransfer(ctx, act, id, note) })
}

// WithdrawTransfer takes an offer back.
func (v View) WithdrawTransfer(ctx context.Context, act access.Act, id int64, note string) (*vetting.Transfer, error) {
	return offSite(v, unknownID("transfer", id), func() (*vetting.Transfer, error) { return v.store.WithdrawTransfer(ctx, act, id, note) })
}

// ReverseTransfer gives the devices of an accepted transfer back.
func (v View) ReverseTransfer(ctx context.Context, act access.Act, id int64, note string) (*vetting.Transfer, error) {
	return offSite(v, unknownID("transfer", id), func() (*vetting.Transfer, error) { return v.store.ReverseTransfer(ctx, act, id, note) })
}

// offSite does what a site's operators must not know of.
func offSite[T any](v View, unknown error, do func() (*T, error)) (*T, error) {
	if v.op.Role.OfSite() {
		return nil, unknown
	}
	return do()
}
