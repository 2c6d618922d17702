package store

import (
	"context"

	"github.com/touchmark/touchmark/vetting"
)

// Standing finds a certificate by its serial number in hex, with its device
// and product, or fails with NotFound.
func (s *Store) Standing(ctx context.Context, serial string) (vetting.Standing, error) {
	c, err := s.Certificate(ctx, serial)
	if err != nil {
		return vetting.Standing{}, err
	}
	units, err := s.units(ctx, `rec.id = $1`, c.DeviceID)
	if err != nil || len(units) == 0 {
		return vetting.Standing{}, orNotFound(err, "device", c.DeviceID)
	}
	var f vetting.Facts
	if err := s.fill(ctx, &f, units[0]); err != nil {
		return vetting.Standing{}, err
	}
	out := vetting.Standing{Certificate: c, Device: f.Device, Product: f.Product}
	out.Hint, err = s.hint(ctx, c)
	return out, err
}

// hint is when an operator wants a certificate renewed; nil if nobody said so.
func (s *Store) hint(ctx context.Context, c *vetting.Certificate) (*vetting.Window, error) {
	start, end, ok, err := s.RenewalHint(ctx, c.ID)
	if err != nil || !ok {
		return nil, err
	}
	return &vetting.Window{Start: start, End: end}, nil
}
