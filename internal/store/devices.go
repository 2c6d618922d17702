package store

import (
	"context"
	"fmt"

	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/internal/audit"
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
	and(`rec.serial = $%d`, id.Serial)
	and(`rec.mac = $%d`, id.MAC)
	and(`rec.uid = $%d`, id.UID)
	args = append(args, limit(p))
	return s.devices(ctx, where+fmt.Sprintf(` ORDER BY rec.id LIMIT $%d`, len(args)), args...)
}

// Device returns a device by ID, or a NotFound error.
func (s *Store) Device(ctx context.Context, id int64) (*vetting.Device, error) {
	list, err := s.devices(ctx, `rec.id = $1`, id)
	if err != nil || len(list) == 0 {
		return nil, orNotFound(err, "device", id)
	}
	return list[0], nil
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
	if h.Evidence, err = s.evidence(ctx, `e.device_id = $1 ORDER BY e.id DESC LIMIT 1000`, id); err != nil {
		return nil, err
	}
	h.Disputes, err = s.disputes(ctx, `di.record_id = $1 ORDER BY di.id LIMIT 1000`, id)
	return h, err
}

func (s *Store) certificates(ctx context.Context, where string, args ...any) (list []*vetting.Certificate, err error) {
	err = s.db.query(ctx, `SELECT `+certificateColumns+` FROM certificates c WHERE `+where, args, func(r row) error {
		var c certificateRow
		if err := r.Scan(c.dest()...); err != nil {
			return err
		}
		list = append(list, c.certificate())
		return nil
	})
	return list, err
}

// SetDeviceState moves a device as an operator asks; a move that its state
// does not allow is a Conflict. What it means for the current certificate:
// on hold while suspended or quarantined, revoked when retired or scrapped,
// valid again on the way back.
func (s *Store) SetDeviceState(ctx context.Context, a access.Act, id int64, to vetting.DeviceState, note string) (*vetting.Device, error) {
	return s.moveDevice(ctx, a, id, to, note, false)
}

// ReworkDevice scraps a device that took a unit of its order and gives the
// unit back, for the board that replaces it. A device that took none, or is
// scrapped already, is a Conflict.
func (s *Store) ReworkDevice(ctx context.Context, a access.Act, id int64, note string) (*vetting.Device, error) {
	return s.moveDevice(ctx, a, id, vetting.DeviceScrapped, note, true)
}

func (s *Store) moveDevice(ctx context.Context, a access.Act, id int64, to vetting.DeviceState, note string, rework bool) (*vetting.Device, error) {
	have, err := s.Device(ctx, id)
	if err != nil {
		return nil, err
	}
	_, err = s.act(ctx, a, func(w *writing) (int64, error) { return id, w.moveDevice(a, have, to, note, rework) })
	if err != nil {
		return nil, err
	}
	return s.Device(ctx, id)
}

// moveDevice moves a device and its certificate; with rework its unit goes
// back to the order.
func (w *writing) moveDevice(a access.Act, have *vetting.Device, to vetting.DeviceState, note string, rework bool) error {
	id := have.ID
	w.loadDevice(id)
	var cert certificateRow
	w.fetch(`SELECT `+certificateColumns+` FROM certificates c JOIN devices d ON d.certificate_id = c.id WHERE d.id = $1`, []any{id}, func(r row) error {
		return r.Scan(cert.dest()...)
	})
	var o orderRow
	w.fetch(`SELECT `+orderColumns+` FROM orders o JOIN records rec ON rec.order_id = o.id WHERE rec.id = $1`, []any{id}, func(r row) error {
		return r.Scan(o.dest()...)
	})
	if err := w.read(); err != nil {
		return err
	}
	d := w.devices[id]
	from := vetting.Device{State: vetting.DeviceState(d.State), Before: vetting.DeviceState(d.Before)}
	if !from.MayBecome(to) {
		return vetting.Errorf(vetting.Conflict, "device %d (%s) is %s and cannot become %q", id, have.Identity, from.State, to)
	}
	act := "device." + string(to)
	var unit []audit.Object
	if rework {
		if d.Issued == 0 {
			return vetting.Errorf(vetting.Conflict, "device %d (%s) took no unit of order %s, so there is none to give back: scrap it", id, have.Identity, have.Order)
		}
		act = "device.rework"
		o.Issued--
		w.exec(`UPDATE orders SET issued = $2 WHERE id = $1`, o.ID, o.Issued)
		unit = append(unit, o.object())
	}
	w.leaf(act, operatorOf(a), note, append(w.move(d, &cert, to), unit...)...)
	return nil
}

func (w *writing) move(d *deviceRow, cert *certificateRow, to vetting.DeviceState) []audit.Object {
	d.Before = ""
	if to == vetting.DeviceQuarantined {
		d.Before = d.State
	}
	d.State = string(to)
	w.save(d)
	objects := []audit.Object{d.object()}
	if cert.ID == 0 || cert.State == string(vetting.CertificateRevoked) {
		return objects
	}
	switch {
	case to == vetting.DeviceSuspended || to == vetting.DeviceQuarantined:
		return append(objects, w.end(cert, vetting.CertificateOnHold, reasonHold))
	case to == vetting.DeviceRetired || to == vetting.DeviceScrapped:
		return append(objects, w.end(cert, vetting.CertificateRevoked, reasonCessation))
	case cert.State == string(vetting.CertificateOnHold) && to.InService():
		cert.Revoked = 0
		return append(objects, w.end(cert, vetting.CertificateValid, 0))
	}
	return objects
}

// CRLReasons of RFC 5280 §5.3.1.
const (
	reasonCessation = 5 // cessationOfOperation
	reasonHold      = 6 // certificateHold
)
