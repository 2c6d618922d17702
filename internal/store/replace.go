package store

import (
	"context"

	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/vetting"
)

// ReplaceDevice is ReworkDevice on the word of a site: another unit of the
// order takes the place of one that failed its test before it was used. The
// order must leave that to its site, and no more than its MaxReplacements; the
// other unit must be new, and takes one place only; anything else is a
// Conflict. The same again changes nothing.
func (s *Store) ReplaceDevice(ctx context.Context, a access.Act, id, by int64, note string) (*vetting.Device, error) {
	have, err := s.Device(ctx, id)
	if err != nil {
		return nil, err
	}
	other, err := s.Device(ctx, by)
	if err != nil {
		return nil, err
	}
	_, err = s.act(ctx, a, func(w *writing) (int64, error) { return id, w.replace(a, have, other, note) })
	if err != nil {
		return nil, err
	}
	return s.Device(ctx, id)
}

func (w *writing) replace(a access.Act, have, other *vetting.Device, note string) error {
	w.loadDevice(other.ID)
	h, err := w.holding(have.ID)
	if err != nil {
		return err
	}
	d, next := h.device, w.devices[other.ID]
	if d.ReplacedBy == other.ID {
		return nil
	}
	if d.Revision != have.Revision || next.Revision != other.Revision {
		return vetting.Errorf(vetting.Conflict, "device %d or %d was changed meanwhile: look at them and ask again", have.ID, other.ID)
	}
	if err := w.ordersOf([]*held{h}); err != nil {
		return err
	}
	if err := replaceable(have, h.order); err != nil {
		return err
	}
	used, err := w.taken(`SELECT 1 FROM certificates c JOIN first_uses u ON u.certificate_id = c.id WHERE c.device_id = $1 LIMIT 1`, have.ID)
	if err != nil {
		return err
	}
	if used {
		return vetting.Errorf(vetting.Conflict, "device %d (%s) was in service before: only an administrator replaces it (touchmark device rework)", have.ID, have.Identity)
	}
	if err := mayReplace(have, other); err != nil {
		return err
	}
	d.ReplacedBy, next.Replaces = other.ID, have.ID
	w.exec(`UPDATE devices SET replaced_by = $2 WHERE id = $1`, d.ID, d.ReplacedBy)
	w.save(next)
	x := newChanges(w)
	h.order.Issued--
	h.order.Replaced++
	x.order(h.order)
	if err := x.move(h, vetting.DeviceScrapped); err != nil {
		return err
	}
	w.leaf("device.replace", operatorOf(a), note, append(x.write(), next.object())...)
	return nil
}

// replaceable says why a site may not replace a device, if it may not.
func replaceable(have *vetting.Device, o *orderRow) error {
	body, err := o.body()
	if err != nil {
		return err
	}
	conflict := func(format string, args ...any) error {
		return vetting.Errorf(vetting.Conflict, "device %d (%s) "+format, append([]any{have.ID, have.Identity}, args...)...)
	}
	most := vetting.MaxReplacements(body.MaxReplacements, o.Quantity)
	switch state := vetting.OrderState(o.State); {
	case have.ReplacedBy != 0:
		return conflict("is replaced by device %d already", have.ReplacedBy)
	case have.State == vetting.DeviceActive:
		return conflict("is in service: only an administrator takes it out")
	case have.State == vetting.DeviceManufactured || have.State == vetting.DeviceRegistered:
		return conflict("has no certificate and took no unit of order %s: set it aside and register the other unit", have.Order)
	case have.State != vetting.DeviceIssued:
		return conflict("is %s: it cannot be replaced", have.State)
	case !have.Failed():
		return conflict("did not fail its latest test: hand in that it failed first")
	case body.Rework != vetting.ReworkBySite:
		return conflict("is of order %s, which leaves replacing to an administrator (touchmark device rework)", have.Order)
	case o.Replaced >= most:
		return conflict("is of order %s, whose site has replaced %d of at most %d units: an administrator replaces it (touchmark device rework), or a planner allows more (touchmark order set-rework %s site --max-replacements NUMBER)", have.Order, o.Replaced, most, have.Order)
	case state == vetting.OrderClosed || state == vetting.OrderCancelled:
		return conflict("is of order %s, which is %s: no other unit could be let in for it", have.Order, state)
	}
	return nil
}

// mayReplace says why a device may not take another's place, if it may not.
func mayReplace(have, other *vetting.Device) error {
	conflict := func(format string, args ...any) error {
		return vetting.Errorf(vetting.Conflict, "device %d (%s) cannot take the place of %s: "+format, append([]any{other.ID, other.Identity, have.Identity}, args...)...)
	}
	switch {
	case other.Order != have.Order:
		return conflict("it is of order %s, not of %s", other.Order, have.Order)
	case other.State != vetting.DeviceManufactured && other.State != vetting.DeviceRegistered || other.Readmitted():
		return conflict("it is %s, and must be new", other.State)
	case other.Failed():
		return conflict("it failed its latest test")
	case other.Replaces != 0:
		return conflict("it took that of device %d", other.Replaces)
	}
	return nil
}
