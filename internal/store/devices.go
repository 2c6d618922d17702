package store

import (
	"context"
	"fmt"

	"github.com/touchmark/touchmark/vetting"
)

func (s *Store) devices(ctx context.Context, where string, args ...any) ([]*vetting.Device, error) {
	units, err := s.units(ctx, where, args...)
	if err != nil {
		return nil, err
	}
	list := make([]*vetting.Device, len(units))
	for i, u := range units {
		var f vetting.Facts
		if err := s.fill(ctx, &f, u); err != nil {
			return nil, err
		}
		list[i] = f.Device
	}
	return list, nil
}

// Devices lists devices by ID.
func (s *Store) Devices(ctx context.Context, f vetting.DeviceFilter, p vetting.Page) ([]*vetting.Device, error) {
	id, err := f.Identity.Normalize()
	if err != nil {
		return nil, vetting.Errorf(vetting.Invalid, "%v", err)
	}
	where, args := `rec.id > $1`, []any{p.After}
	and := func(condition string, value string) {
		if value != "" {
			args = append(args, value)
			where += fmt.Sprintf(" AND "+condition, len(args))
		}
	}
	and(`rec.site_id = (SELECT id FROM sites WHERE name = $%d)`, f.Site)
	and(`rec.order_id = (SELECT id FROM orders WHERE name = $%d)`, f.Order)
	and(`rec.product_id = (SELECT id FROM products WHERE name = $%d)`, f.Product)
	and(`COALESCE(d.state, 'manufactured') = $%d`, string(f.State))
	and(heldBy(f.Owner), f.Owner)
	and(`rec.serial = $%d`, id.Serial)
	and(`rec.mac = $%d`, id.MAC)
	and(`rec.uid = $%d`, id.UID)
	args = append(args, limit(p))
	return s.devices(ctx, where+fmt.Sprintf(` ORDER BY rec.id LIMIT $%d`, len(args)), args...)
}

// heldBy is the condition that a device is an owner's, whose name is the
// argument.
func heldBy(owner string) string {
	switch owner {
	case vetting.Manufacturer:
		return `COALESCE(d.owner_id, 0) = 0 AND $%d = '` + vetting.Manufacturer + `'`
	case vetting.Elsewhere:
		return fmt.Sprintf(`d.owner_id = %d AND `, elsewhere) + `$%d = '` + vetting.Elsewhere + `'`
	}
	return `d.owner_id = (SELECT id FROM owners WHERE name = $%d)`
}

// Device returns a device by ID, or a NotFound error.
func (s *Store) Device(ctx context.Context, id int64) (*vetting.Device, error) {
	list, err := s.devices(ctx, `rec.id = $1`, id)
	return theOne(list, err, "device", id)
}

// DeviceHistory returns everything that is kept about a device.
func (s *Store) DeviceHistory(ctx context.Context, id int64) (*vetting.History, error) {
	units, err := s.units(ctx, `rec.id = $1`, id)
	if err != nil || len(units) == 0 {
		return nil, orNotFound(err, "device", id)
	}
	var f vetting.Facts
	if err := s.fill(ctx, &f, units[0]); err != nil {
		return nil, err
	}
	h := &vetting.History{Device: *f.Device, Record: *f.Record}
	if h.Certificates, err = s.certificates(ctx, `c.device_id = $1 ORDER BY c.id DESC LIMIT 1000`, id); err != nil {
		return nil, err
	}
	if h.Registrations, err = s.registrations(ctx, `r.device_id = $1 ORDER BY r.id DESC LIMIT 1000`, id); err != nil {
		return nil, err
	}
	if h.Tests, err = s.testResults(ctx, `tr.device_id = $1 ORDER BY tr.id DESC`, id); err != nil {
		return nil, err
	}
	if h.Challenges, err = s.challenges(ctx, `ch.device_id = $1 AND ch.result <> '' ORDER BY ch.id DESC LIMIT 1000`, id); err != nil {
		return nil, err
	}
	if h.Sightings, err = s.sightings(ctx, id); err != nil {
		return nil, err
	}
	if h.Evidence, err = s.evidence(ctx, `e.device_id = $1 ORDER BY e.id DESC LIMIT 1000`, id); err != nil {
		return nil, err
	}
	h.Disputes, err = s.disputes(ctx, `di.record_id = $1 ORDER BY di.id LIMIT 1000`, id)
	return h, err
}

func (s *Store) certificates(ctx context.Context, where string, args ...any) (list []*vetting.Certificate, err error) {
	err = s.db.query(ctx, certificateQuery+`WHERE `+where, args, func(r row) error {
		var c certificateRow
		if err := r.Scan(c.dest()...); err != nil {
			return err
		}
		list = append(list, c.certificate())
		return nil
	})
	return list, err
}
