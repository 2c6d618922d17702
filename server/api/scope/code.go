package scope

import (
	"context"

	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/vetting"
)

// Codes lists enrolment codes.
func (v View) Codes(ctx context.Context, f vetting.CodeFilter, p vetting.Page) ([]*vetting.EnrolmentCode, error) {
	if !v.site(&f.Site) {
		return nil, nil
	}
	return v.store.Codes(ctx, f, p)
}

// Code finds an enrolment code.
func (v View) Code(ctx context.Context, id int64) (*vetting.EnrolmentCode, error) {
	c, err := v.store.Code(ctx, id)
	return confine(c, err, func(c *vetting.EnrolmentCode) bool { return v.sees(c.Site) }, unknownID("enrolment code", id))
}

// CreateCodes makes enrolment codes for an order or devices.
func (v View) CreateCodes(ctx context.Context, act access.Act, n vetting.NewCodes) ([]*vetting.EnrolmentCode, error) {
	if len(n.Devices) == 0 {
		if _, err := v.Order(ctx, n.Order); err != nil {
			return nil, err
		}
	}
	for _, id := range n.Devices {
		if _, err := v.Device(ctx, id); err != nil {
			return nil, err
		}
	}
	return v.store.CreateCodes(ctx, act, n)
}

// RevokeCode takes an enrolment code out of use.
func (v View) RevokeCode(ctx context.Context, act access.Act, id int64) (*vetting.EnrolmentCode, error) {
	if _, err := v.Code(ctx, id); err != nil {
		return nil, err
	}
	return v.store.RevokeCode(ctx, act, id)
}

// RevokeBatch takes the unused codes of a batch, which are all of one order,
// out of use.
func (v View) RevokeBatch(ctx context.Context, act access.Act, batch int64) (revoked int64, err error) {
	if _, err := v.Code(ctx, batch); err != nil {
		return 0, err
	}
	return v.store.RevokeBatch(ctx, act, batch)
}
