package scope

import (
	"cmp"
	"context"
	"slices"

	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/vetting"
)

// Owners are whom devices belong to, and how those change hands.
type Owners interface {
	Owners(context.Context, vetting.Page) ([]*vetting.Owner, error)
	Owner(ctx context.Context, name string) (*vetting.Owner, error)
	CreateOwner(context.Context, access.Act, *vetting.Owner) (*vetting.Owner, error)
	SetOwnerIssuer(ctx context.Context, act access.Act, name, issuer string) (*vetting.Owner, error)
	Transfers(context.Context, vetting.TransferFilter, vetting.Page) ([]*vetting.Transfer, error)
	Transfer(ctx context.Context, id int64) (*vetting.Transfer, error)
	TransferDevices(ctx context.Context, id int64, p vetting.Page) ([]*vetting.Device, error)
	OfferTransfer(context.Context, access.Act, vetting.Offer) (*vetting.Transfer, error)
	AcceptTransfer(ctx context.Context, act access.Act, id int64, note string) (*vetting.Transfer, error)
	DeclineTransfer(ctx context.Context, act access.Act, id int64, note string) (*vetting.Transfer, error)
	WithdrawTransfer(ctx context.Context, act access.Act, id int64, note string) (*vetting.Transfer, error)
	// HandOut keeps a voucher with what becomes of its device; asked again on
	// the same terms, the earlier one stays.
	HandOut(ctx context.Context, act access.Act, h vetting.Handout) (*vetting.Transfer, error)
	Voucher(ctx context.Context, transfer int64) ([]byte, error)
	ReverseTransfer(ctx context.Context, act access.Act, id int64, note string) (*vetting.Transfer, error)
}

// Owners lists owners: to an owner's operator, the one; to a site's, none.
func (v View) Owners(ctx context.Context, p vetting.Page) ([]*vetting.Owner, error) {
	switch {
	case v.op.Role.OfManufacturer():
		return v.store.Owners(ctx, p)
	case v.op.Role.OfSite():
		return nil, nil
	}
	o, err := v.Owner(ctx, v.op.Owner)
	if err != nil || o.ID <= p.After {
		return nil, err
	}
	return []*vetting.Owner{o}, nil
}

// Owner finds an owner.
func (v View) Owner(ctx context.Context, name string) (*vetting.Owner, error) {
	if !v.mayBe(name) {
		return nil, unknownName("owner", name)
	}
	return v.store.Owner(ctx, name)
}

// mayBe reports whether the operator acts for an owner, or the manufacturer.
func (v View) mayBe(party string) bool {
	return v.op.Role.OfManufacturer() || v.op.Role.OfOwner() && party != "" && party == v.op.Owner
}

// CreateOwner adds an owner.
func (v View) CreateOwner(ctx context.Context, act access.Act, o *vetting.Owner) (*vetting.Owner, error) {
	return ofManufacturer(v, unknownName("owner", o.Name), func() (*vetting.Owner, error) { return v.store.CreateOwner(ctx, act, o) })
}

// SetOwnerIssuer changes which issuing CA the devices of an owner have their
// certificates from.
func (v View) SetOwnerIssuer(ctx context.Context, act access.Act, name, issuer string) (*vetting.Owner, error) {
	return ofManufacturer(v, unknownName("owner", name), func() (*vetting.Owner, error) { return v.store.SetOwnerIssuer(ctx, act, name, issuer) })
}

// Transfers lists transfers: to an owner's operator, those from and to the
// owner; to a site's, none.
func (v View) Transfers(ctx context.Context, f vetting.TransferFilter, p vetting.Page) ([]*vetting.Transfer, error) {
	if v.op.Role.OfManufacturer() {
		return v.store.Transfers(ctx, f, p)
	}
	if !v.mayBe(v.op.Owner) {
		return nil, nil
	}
	f.Parties = append([]string{v.op.Owner}, f.Parties...)
	list, err := v.store.Transfers(ctx, f, p)
	if vetting.ProblemOf(err) == vetting.NotFound {
		return nil, nil // as of an owner with whom there was no transfer
	}
	return each(list, v.maskTransfer), err
}

// Transfer finds a transfer.
func (v View) Transfer(ctx context.Context, id int64) (*vetting.Transfer, error) {
	t, err := v.store.Transfer(ctx, id)
	t, err = confine(t, err, func(t *vetting.Transfer) bool { return v.mayBe(t.From) || v.mayBe(t.To) }, unknownID("transfer", id))
	return v.transfer(t), err
}

// transfer is a transfer as the operator sees it.
func (v View) transfer(t *vetting.Transfer) *vetting.Transfer { return hiding(t, v.maskTransfer) }

// maskTransfer leaves out the names of the other party's people.
func (v View) maskTransfer(t *vetting.Transfer) {
	if !v.op.Role.OfOwner() {
		return
	}
	t.Steps = slices.Clone(t.Steps)
	for i := range t.Steps {
		if s := &t.Steps[i]; s.Owner != v.op.Owner {
			s.By = ""
		}
	}
}

// TransferDevices lists the devices of a transfer. Of those that are not the
// owner's now, an owner's operator sees what they are called, and no more.
func (v View) TransferDevices(ctx context.Context, id int64, p vetting.Page) ([]*vetting.Device, error) {
	if _, err := v.Transfer(ctx, id); err != nil {
		return nil, err
	}
	list, err := v.store.TransferDevices(ctx, id, p)
	return each(list, func(d *vetting.Device) {
		if !v.seesDevice(d) {
			*d = vetting.Device{ID: d.ID, Product: d.Product, Identity: vetting.Identity{Serial: d.Serial}}
		}
		v.maskDevice(d)
	}), err
}

// OfferTransfer offers devices to another owner; from nobody named, the
// operator's own.
func (v View) OfferTransfer(ctx context.Context, act access.Act, o vetting.Offer) (*vetting.Transfer, error) {
	if o.From == "" {
		o.From = cmp.Or(v.op.Owner, vetting.Manufacturer)
	}
	if !v.mayBe(o.From) {
		return nil, unknownName("owner", o.From)
	}
	t, err := v.store.OfferTransfer(ctx, act, o)
	return v.transfer(t), err
}

// AcceptTransfer makes the devices of an offer the next owner's.
func (v View) AcceptTransfer(ctx context.Context, act access.Act, id int64, note string) (*vetting.Transfer, error) {
	return v.step(ctx, id, theNext, func() (*vetting.Transfer, error) { return v.store.AcceptTransfer(ctx, act, id, note) })
}

// DeclineTransfer turns an offer down.
func (v View) DeclineTransfer(ctx context.Context, act access.Act, id int64, note string) (*vetting.Transfer, error) {
	return v.step(ctx, id, theNext, func() (*vetting.Transfer, error) { return v.store.DeclineTransfer(ctx, act, id, note) })
}

// WithdrawTransfer takes an offer back.
func (v View) WithdrawTransfer(ctx context.Context, act access.Act, id int64, note string) (*vetting.Transfer, error) {
	return v.step(ctx, id, thePresent, func() (*vetting.Transfer, error) { return v.store.WithdrawTransfer(ctx, act, id, note) })
}

// The party who takes a step.
func thePresent(t *vetting.Transfer) string { return t.From }
func theNext(t *vetting.Transfer) string    { return t.To }

// step takes a transfer further, if the operator acts for the party whose
// step it is. Who the parties are never changes.
func (v View) step(ctx context.Context, id int64, whose func(*vetting.Transfer) string, take func() (*vetting.Transfer, error)) (*vetting.Transfer, error) {
	t, err := v.Transfer(ctx, id)
	if err != nil {
		return nil, err
	}
	if party := whose(t); !v.mayBe(party) {
		return nil, vetting.Errorf(vetting.Conflict, "transfer %d is from %s to %s: this is for %s to do", id, t.From, t.To, party)
	}
	t, err = take()
	return v.transfer(t), err
}

// HandOut hands a device to an owner outside of this server.
func (v View) HandOut(ctx context.Context, act access.Act, h vetting.Handout) (*vetting.Transfer, error) {
	return ofManufacturer(v, unknownID("device", h.DeviceID), func() (*vetting.Transfer, error) { return v.store.HandOut(ctx, act, h) })
}

// Voucher finds the voucher of a transfer.
func (v View) Voucher(ctx context.Context, transfer int64) ([]byte, error) {
	if _, err := v.Transfer(ctx, transfer); err != nil {
		return nil, err
	}
	return v.store.Voucher(ctx, transfer)
}

// ReverseTransfer gives the devices of an accepted transfer back.
func (v View) ReverseTransfer(ctx context.Context, act access.Act, id int64, note string) (*vetting.Transfer, error) {
	return ofManufacturer(v, unknownID("transfer", id), func() (*vetting.Transfer, error) { return v.store.ReverseTransfer(ctx, act, id, note) })
}

// ownersHistory leaves of a device's history what its owner may know of: not
// how it was made and let in, nor what others used it for before. What
// speaks against it stays with it.
func ownersHistory(h *vetting.History) {
	h.Record = vetting.Record{ID: h.Record.ID, Identity: h.Record.Identity}
	h.Registrations, h.Tests, h.Disputes = []*vetting.Registration{}, []*vetting.TestResult{}, []*vetting.Dispute{}
	h.Evidence = each(h.Evidence, ownersEvidence)
	h.Certificates = slices.Clone(h.Certificates)
	for i, c := range h.Certificates {
		h.Certificates[i] = ownersCertificate(c, &h.Device)
	}
	h.Sightings = slices.DeleteFunc(slices.Clone(h.Sightings), func(s vetting.Sighting) bool { return s.At.Before(h.Device.Owned) })
}

// ownersCertificate leaves out what stands in a certificate that a device had
// before it was its owner's: perhaps whose it was.
func ownersCertificate(c *vetting.Certificate, d *vetting.Device) *vetting.Certificate {
	if !c.Issued.Before(d.Owned) {
		return c
	}
	return hiding(c, func(c *vetting.Certificate) { c.DER = nil })
}

// ownersEvidence leaves out what is the manufacturer's affair.
func ownersEvidence(e *vetting.Evidence) {
	e.RegistrationID, e.ManifestID = 0, 0
	if e.Cleared != nil {
		e.Cleared = &vetting.Clearing{At: e.Cleared.At}
	}
}
