package scope

import (
	"context"
	"slices"
	"time"

	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/internal/approval"
	"github.com/touchmark/touchmark/vetting"
)

// Products lists products, which belong to no site; owners' operators know of
// none.
func (v View) Products(ctx context.Context, p vetting.Page) ([]*vetting.Product, error) {
	if v.op.Role.OfOwner() {
		return nil, nil
	}
	return v.store.Products(ctx, p)
}

// Product finds a product.
func (v View) Product(ctx context.Context, name string) (*vetting.Product, error) {
	p, err := v.store.Product(ctx, name)
	return confine(p, err, func(*vetting.Product) bool { return !v.op.Role.OfOwner() }, unknownName("product", name))
}

// CreateProduct adds a product.
func (v View) CreateProduct(ctx context.Context, act access.Act, p *vetting.Product) (*vetting.Product, error) {
	return v.store.CreateProduct(ctx, act, p)
}

// RuleVersions lists what a product's rules were.
func (v View) RuleVersions(ctx context.Context, product string, p vetting.Page) ([]*vetting.RuleVersion, error) {
	if _, err := v.Product(ctx, product); err != nil {
		return nil, err
	}
	return v.store.RuleVersions(ctx, product, p)
}

// PastRegistrations reads what rules are tried on: the whole product's
// registrations, whatever the site, for those who plan production.
func (v View) PastRegistrations(ctx context.Context, product string, since time.Time, limit int, fn func(vetting.Past) error) error {
	return v.store.PastRegistrations(ctx, product, since, limit, fn)
}

// UpdateProduct replaces a product of the same name and revision.
func (v View) UpdateProduct(ctx context.Context, act access.Act, p *vetting.Product) (*vetting.Product, error) {
	return v.store.UpdateProduct(ctx, act, p)
}

// Sites lists sites; to a site's operator, the one.
func (v View) Sites(ctx context.Context, p vetting.Page) ([]*vetting.Site, error) {
	switch {
	case v.op.Role.OfManufacturer():
		return v.store.Sites(ctx, p)
	case v.op.Role.OfOwner():
		return nil, nil
	}
	s, err := v.Site(ctx, v.op.Site)
	if err != nil || s.ID <= p.After {
		return nil, err
	}
	return []*vetting.Site{s}, nil
}

// Site finds a site.
func (v View) Site(ctx context.Context, name string) (*vetting.Site, error) {
	s, err := v.store.Site(ctx, name)
	return confine(s, err, func(s *vetting.Site) bool { return v.sees(s.Name) }, unknownName("site", name))
}

// CreateSite adds a site.
func (v View) CreateSite(ctx context.Context, act access.Act, s *vetting.Site) (*vetting.Site, error) {
	return v.store.CreateSite(ctx, act, s)
}

// UpdateSite replaces a site that the operator sees.
func (v View) UpdateSite(ctx context.Context, act access.Act, s *vetting.Site) (*vetting.Site, error) {
	if _, err := v.Site(ctx, s.Name); err != nil {
		return nil, err
	}
	return v.store.UpdateSite(ctx, act, s)
}

// Orders lists orders.
func (v View) Orders(ctx context.Context, f vetting.OrderFilter, p vetting.Page) ([]*vetting.Order, error) {
	if !v.site(&f.Site) {
		return nil, nil
	}
	return v.store.Orders(ctx, f, p)
}

// Order finds an order.
func (v View) Order(ctx context.Context, name string) (*vetting.Order, error) {
	o, err := v.store.Order(ctx, name)
	return confine(o, err, func(o *vetting.Order) bool { return v.sees(o.Site) }, unknownName("order", name))
}

// CreateOrder adds an order.
func (v View) CreateOrder(ctx context.Context, act access.Act, o *vetting.Order) (*vetting.Order, error) {
	if !v.sees(o.Site) {
		return nil, unknownName("site", o.Site)
	}
	return v.store.CreateOrder(ctx, act, o)
}

// ChangeOrder changes an order.
func (v View) ChangeOrder(ctx context.Context, act access.Act, name string, c vetting.OrderChange) (*vetting.Order, error) {
	if _, err := v.Order(ctx, name); err != nil {
		return nil, err
	}
	return v.store.ChangeOrder(ctx, act, name, c)
}

// ProposeOpening asks others to agree that an order opens.
func (v View) ProposeOpening(ctx context.Context, act access.Act, order, note string) (*approval.Proposal, error) {
	if _, err := v.Order(ctx, order); err != nil {
		return nil, err
	}
	return v.store.ProposeOpening(ctx, act, order, note)
}

// Raises lists the raises of an order.
func (v View) Raises(ctx context.Context, order string, p vetting.Page) ([]*vetting.Raise, error) {
	if _, err := v.Order(ctx, order); err != nil {
		return nil, err
	}
	return v.store.Raises(ctx, order, p)
}

// ProposeRaise asks for a larger quantity of an order.
func (v View) ProposeRaise(ctx context.Context, act access.Act, order string, to int64, note string) (*vetting.Raise, error) {
	if _, err := v.Order(ctx, order); err != nil {
		return nil, err
	}
	return v.store.ProposeRaise(ctx, act, order, to, note)
}

// ApproveRaise approves a raise of an order.
func (v View) ApproveRaise(ctx context.Context, act access.Act, order string, id, to int64, yes approval.Approval) (*vetting.Raise, error) {
	if _, err := v.Order(ctx, order); err != nil {
		return nil, err
	}
	return v.store.ApproveRaise(ctx, act, order, id, to, yes)
}

// WithdrawRaise takes a raise of an order back.
func (v View) WithdrawRaise(ctx context.Context, act access.Act, order string, id int64, note string) (*vetting.Raise, error) {
	if _, err := v.Order(ctx, order); err != nil {
		return nil, err
	}
	return v.store.WithdrawRaise(ctx, act, order, id, note)
}

// Manifests lists manifests.
func (v View) Manifests(ctx context.Context, f vetting.ManifestFilter, p vetting.Page) ([]*vetting.Manifest, error) {
	if !v.site(&f.Site) {
		return nil, nil
	}
	return v.store.Manifests(ctx, f, p)
}

// Manifest finds a manifest. One that is still being received is unknown.
func (v View) Manifest(ctx context.Context, id int64) (*vetting.Manifest, error) {
	m, err := v.store.Manifest(ctx, id)
	if err == nil && m.State == vetting.ManifestReceiving {
		return nil, unknownID("manifest", id)
	}
	return confine(m, err, func(m *vetting.Manifest) bool { return v.sees(m.Site) }, unknownID("manifest", id))
}

// ProposeManifest asks others to approve a manifest.
func (v View) ProposeManifest(ctx context.Context, act access.Act, id int64, note string) (*vetting.Manifest, error) {
	if _, err := v.Manifest(ctx, id); err != nil {
		return nil, err
	}
	return v.store.ProposeManifest(ctx, act, id, note)
}

// Registrations lists registrations. Those of devices in no record belong to
// the site whose rig made them, and to none if it was no rig.
func (v View) Registrations(ctx context.Context, f vetting.RegistrationFilter, p vetting.Page) ([]*vetting.Registration, error) {
	if !v.site(&f.Site) {
		return nil, nil
	}
	list, err := v.store.Registrations(ctx, f, p)
	return masked(v, list, maskRegistration), err
}

// Registration finds a registration.
func (v View) Registration(ctx context.Context, id int64) (*vetting.Registration, error) {
	r, err := v.store.Registration(ctx, id)
	r, err = confine(r, err, func(r *vetting.Registration) bool { return v.sees(r.Site) }, unknownID("registration", id))
	return mask(v, r, maskRegistration), err
}

// DecideRegistration decides a held registration.
func (v View) DecideRegistration(ctx context.Context, act access.Act, id int64, d vetting.Decision) (*vetting.Registration, error) {
	if _, err := v.Registration(ctx, id); err != nil {
		return nil, err
	}
	return v.store.DecideRegistration(ctx, act, id, d)
}

// Devices lists devices.
func (v View) Devices(ctx context.Context, f vetting.DeviceFilter, p vetting.Page) ([]*vetting.Device, error) {
	if !v.holder(&f.Site, &f.Owner) || f.Order != "" && v.op.Role.OfOwner() {
		return nil, nil
	}
	list, err := v.store.Devices(ctx, f, p)
	return each(list, v.maskDevice), err
}

// Device finds a device.
func (v View) Device(ctx context.Context, id int64) (*vetting.Device, error) {
	d, err := v.store.Device(ctx, id)
	d, err = confine(d, err, v.seesDevice, unknownID("device", id))
	return v.device(d), err
}

// DeviceHistory gives what is kept about a device. A site's operator does not
// see the disputed records of other sites that claim the same identity; an
// owner's sees nothing of its manufacture.
func (v View) DeviceHistory(ctx context.Context, id int64) (*vetting.History, error) {
	h, err := v.store.DeviceHistory(ctx, id)
	h, err = confine(h, err, func(h *vetting.History) bool { return v.seesDevice(&h.Device) }, unknownID("device", id))
	if err != nil {
		return nil, err
	}
	own := *h
	v.maskDevice(&own.Device)
	if v.op.Role.OfSite() {
		own.Disputes = slices.DeleteFunc(slices.Clone(h.Disputes), func(d *vetting.Dispute) bool {
			return d.Record.SiteID != v.op.SiteID
		})
	}
	if !v.op.May(access.ReadParticulars) {
		maskHistory(&own)
	}
	if v.op.Role.OfOwner() {
		ownersHistory(&own)
	}
	return &own, nil
}

// SetDeviceState moves a device to another state.
func (v View) SetDeviceState(ctx context.Context, act access.Act, id int64, s vetting.DeviceState, note string) (*vetting.Device, error) {
	if _, err := v.Device(ctx, id); err != nil {
		return nil, err
	}
	return v.store.SetDeviceState(ctx, act, id, s, note)
}

// ScrapRecord scraps what was never powered on.
func (v View) ScrapRecord(ctx context.Context, act access.Act, id int64, note string) (*vetting.Device, error) {
	if _, err := v.Device(ctx, id); err != nil {
		return nil, err
	}
	d, err := v.store.ScrapRecord(ctx, act, id, note)
	return v.device(d), err
}

// AddTestResult keeps what a rig found about a device.
func (v View) AddTestResult(ctx context.Context, act access.Act, deviceID int64, r *vetting.TestResult) (*vetting.TestResult, error) {
	if _, err := v.Device(ctx, deviceID); err != nil {
		return nil, err
	}
	return v.store.AddTestResult(ctx, act, deviceID, r)
}

// ReplaceDevice lets another device of the site take the place of one that
// failed.
func (v View) ReplaceDevice(ctx context.Context, act access.Act, id, by int64, note string) (*vetting.Device, error) {
	for _, id := range []int64{id, by} {
		if _, err := v.Device(ctx, id); err != nil {
			return nil, err
		}
	}
	d, err := v.store.ReplaceDevice(ctx, act, id, by, note)
	return v.device(d), err
}

// ReworkDevice scraps a device and gives its unit back to the order.
func (v View) ReworkDevice(ctx context.Context, act access.Act, id int64, note string) (*vetting.Device, error) {
	if _, err := v.Device(ctx, id); err != nil {
		return nil, err
	}
	return v.store.ReworkDevice(ctx, act, id, note)
}

// RevokeDevice revokes a device's certificates.
func (v View) RevokeDevice(ctx context.Context, act access.Act, id int64, reason vetting.RevocationReason, note string) (*vetting.Device, error) {
	if _, err := v.Device(ctx, id); err != nil {
		return nil, err
	}
	return v.store.RevokeDevice(ctx, act, id, reason, note)
}

// RevokeCertificate revokes one certificate.
func (v View) RevokeCertificate(ctx context.Context, act access.Act, serial string, reason vetting.RevocationReason, note string) (*vetting.Certificate, error) {
	if _, err := v.Certificate(ctx, serial); err != nil {
		return nil, err
	}
	return v.store.RevokeCertificate(ctx, act, serial, reason, note)
}

// ReadmitDevice lets a device start anew.
func (v View) ReadmitDevice(ctx context.Context, act access.Act, id int64, note string) (*vetting.Device, error) {
	if _, err := v.Device(ctx, id); err != nil {
		return nil, err
	}
	return v.store.ReadmitDevice(ctx, act, id, note)
}

// Certificate finds a device's certificate by its serial number. Of one that
// was issued before the device was its owner's, the owner's operators do not
// see what stands in it.
func (v View) Certificate(ctx context.Context, serial string) (*vetting.Certificate, error) {
	c, err := v.store.Certificate(ctx, serial)
	if err == nil && !v.op.Role.OfManufacturer() {
		var d *vetting.Device
		if d, err = v.Device(ctx, c.DeviceID); err == nil && v.op.Role.OfOwner() {
			c = ownersCertificate(c, d)
		}
	}
	if vetting.ProblemOf(err) == vetting.NotFound {
		return nil, unknownName("certificate", serial)
	}
	if err != nil {
		return nil, err
	}
	return c, nil
}

// Operators lists operators; a site's and an owner's know of none.
func (v View) Operators(ctx context.Context, p vetting.Page) ([]*access.Operator, error) {
	if !v.op.Role.OfManufacturer() {
		return nil, nil
	}
	return v.store.Operators(ctx, p)
}

// NamedOperator finds an operator.
func (v View) NamedOperator(ctx context.Context, name string) (*access.Operator, error) {
	o, err := v.store.Operator(ctx, name)
	return confine(o, err, func(o *access.Operator) bool { return v.sees(o.Site) }, unknownName("operator", name))
}

// CreateOperator adds an operator.
func (v View) CreateOperator(ctx context.Context, act access.Act, o *access.Operator) (*access.Operator, error) {
	return ofManufacturer(v, unknownName("operator", o.Name), func() (*access.Operator, error) { return v.store.CreateOperator(ctx, act, o) })
}

// RenewOperator keeps that an operator has another certificate: this one, or
// for the manufacturer's any.
func (v View) RenewOperator(ctx context.Context, act access.Act, o *access.Operator) (*access.Operator, error) {
	own := o.Name == v.op.Name && o.Site == v.op.Site && o.Owner == v.op.Owner
	if !own && !v.op.Role.OfManufacturer() {
		return nil, unknownName("operator", o.Name)
	}
	return v.store.RenewOperator(ctx, act, o)
}

// OperatorCounts tells how many operators have their certificates of which
// CA; only the manufacturer's operators learn it.
func (v View) OperatorCounts(ctx context.Context) (map[string]int64, error) {
	if !v.op.Role.OfManufacturer() {
		return nil, nil
	}
	return v.store.OperatorCounts(ctx)
}

// RevokeOperator takes an operator's access away for good.
func (v View) RevokeOperator(ctx context.Context, act access.Act, name string) (*access.Operator, error) {
	unknown := unknownName("operator", name)
	o, err := ofManufacturer(v, unknown, func() (*access.Operator, error) { return v.store.RevokeOperator(ctx, act, name) })
	if vetting.ProblemOf(err) == vetting.NotFound {
		return nil, unknown
	}
	return o, err
}
